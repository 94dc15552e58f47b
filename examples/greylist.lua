--- Greylisting by the plug-in that comes with moonpost: who has never written from there, as this sender, to this
--- recipient, is asked to come back later. Mail servers do; much that sends spam does not.
---
---     moonpost serve examples/greylist.lua
---     swaks --server 127.0.0.1:2525 --to bob@example.org        450; a minute later 250
local moonpost = require "moonpost"

local server = moonpost.server {
  hostname = "mx.example.org",
  listen = { "smtp://127.0.0.1:2525", "lmtp://127.0.0.1:2424" },
  domains = "example.org",
}

server:use(require "moonpost.plugins.greylist" {
  delay = "1m",
  exempt = { "10.0.0.0/8", "192.168.0.0/16" },
}, { listeners = { "smtp" } }) -- what comes over LMTP has passed somebody already

local mailboxes = { alice = true, bob = true }

function server.on.rcpt(_, recipient)
  if recipient.class == "local" and not mailboxes[recipient.mailbox] then
    return 550, "5.1.1", "No such mailbox"
  end
end

function server.on.message(_, message)
  message:deliver { maildir = "mail/%{mailbox}" }
end

return server
