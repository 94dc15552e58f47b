--- An MX that enforces DMARC: what nobody vouches for is refused where the author's domain asks for that, and lies in the folder Junk where it asks
--- for quarantine. A mailing list that is trusted is believed when it says that the author was genuine when it had the message.
---
---     moonpost serve examples/dmarc_mx.lua
---     swaks --server 127.0.0.1:2525 --to bob@example.org
---
--- Every message gets an Authentication-Results field, and a line `authenticated` in the log. With enforce = false nothing is refused: for the first
--- weeks, in which one reads the log.
local moonpost = require "moonpost"

local server = moonpost.server {
  hostname = "mx.example.org",
  listen = "smtp://127.0.0.1:2525",
  domains = "example.org",
  tls = "development",
}

local mailboxes = { alice = true, bob = true, postmaster = true }

function server.on.rcpt(_, recipient)
  if recipient.class == "local" and not mailboxes[recipient.mailbox] then
    return 550, "5.1.1", "No such mailbox"
  end
end

server:use(require "moonpost.plugins.auth" {
  enforce = true,
  fail = "closed", -- who cannot be looked up now comes again
  sealers = { "lists.example.net" },
})

function server.on.message(_, message)
  if message.headers["X-Quarantine"] then
    message:deliver { maildir = "mail/%{mailbox}/.Junk" }
  else
    message:deliver { maildir = "mail/%{mailbox}" }
  end
end

return server
