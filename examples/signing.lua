--- A relay that signs: mail of the machines in this network goes out through a queue, signed with the key of the author's domain.
---
---     mkdir keys
---     lua5.4 -e 'print(require("moonpost").dkim.keygen("rsa").private)' > keys/example.org.pem
---     moonpost serve examples/signing.lua
---     swaks --server 127.0.0.1:2525 --from alice@example.org --to you@example.net
---
--- KEYS names the folder of the keys, NEXT a smarthost that takes everything. The record of a key for the DNS, at 2026._domainkey.example.org:
---
---     lua5.4 -e 'print(require("moonpost").dkim.key("keys/example.org.pem"):record())'
local moonpost = require "moonpost"

local server = moonpost.server {
  hostname = "relay.example.org",
  listen = "smtp://127.0.0.1:2525",
  relay = { networks = { "127.0.0.0/8", "10.0.0.0/8" } },
  queue = moonpost.queue { spool = "spool", route = os.getenv "NEXT" or "mx" },
}

-- Every message gets a date and an id before it is signed: nobody can add another one then.
server:use {
  name = "complete",
  message = function(_, message)
    if not message.headers:get "Date" then
      message:append("Date", os.date "!%a, %d %b %Y %H:%M:%S +0000")
    end
    if not message.headers:get "Message-ID" then
      message:append("Message-ID", ("<%s@relay.example.org>"):format(message.id))
    end
  end,
}

server:use(require "moonpost.plugins.dkim" {
  selector = "2026",
  key = (os.getenv "KEYS" or "keys") .. "/%{domain}.pem",
  expires = "14d",
  missing = "refuse",
})

function server.on.message(_, message)
  message:enqueue()
end

return server
