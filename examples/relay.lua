--- A mail server for one domain: mail for its people goes into Maildirs, theirs goes out through a queue, which tries for days and tells them what
--- could not be delivered.
---
---     moonpost serve examples/relay.lua
---     swaks --server 127.0.0.1:2525 --to bob@example.org
---     swaks --server 127.0.0.1:2587 --tls --auth-user alice --auth-password wonderland --from alice@example.org --to you@example.net
---     moonpost queue ls --spool spool
---
--- NEXT names a smarthost that takes everything: NEXT=submission://me:secret@smtp.example.net moonpost serve examples/relay.lua
local moonpost = require "moonpost"

local people = {
  alice = { password = "wonderland", senders = { "alice@example.org" } }, -- examples/submission.lua keeps no passwords
  bob = { password = "builder", senders = { "bob@example.org" } },
}

local outbound = moonpost.queue {
  spool = "spool",
  route = os.getenv "NEXT" or "mx",
  site = { connections = 10, ["*.example.com"] = { rate = "100/m" } },
  retry = { "5m", "15m", "1h", "4h", expire = "5d", warn = "4h" },
}

function outbound.on.bounced(record)
  moonpost.log.warn("returned", { to = record.recipient, reply = tostring(record.reply) })
end

local server = moonpost.server {
  hostname = "mail.example.org",
  listen = { "smtp://127.0.0.1:2525", "submission://127.0.0.1:2587" },
  domains = "example.org",
  relay = { authenticated = true },
  queue = outbound,
  tls = "development",
}

function server.on.credentials(_, user)
  return people[user]
end

function server.on.rcpt(_, recipient)
  if recipient.class == "local" and not people[recipient.mailbox] then
    return 550, "5.1.1", "No such mailbox"
  end
end

function server.on.message(_, message)
  message:to("local"):deliver { maildir = "mail/%{mailbox}" }
  message:to("relay"):enqueue()
end

return server
