--- A forwarding proxy: stands in front of a mail server, stamps every message, and says to the sender what that server
--- says. Nothing is kept here: when the server behind is away, senders hear 451 and come again.
---
---     python3 -m aiosmtpd -n -l 127.0.0.1:2526          the server behind, or another moonpost
---     moonpost serve examples/proxy.lua
---     swaks --server 127.0.0.1:2525 --to bob@example.org
---
--- BEHIND names another one: BEHIND=lmtp://unix:/run/dovecot/lmtp moonpost serve examples/proxy.lua
local moonpost = require "moonpost"

local behind = os.getenv "BEHIND" or "smtp://127.0.0.1:2526"

local server = moonpost.server {
  hostname = "proxy.example.org",
  listen = { "smtp://127.0.0.1:2525", "lmtp://127.0.0.1:2424" },
  domains = "example.org",
  extensions = { "DSN" }, -- its parameters go on to the server behind, with all others
}

local hop = { url = behind, connections = 50, timeout = "4m" }

-- One at a time over SMTP: each recipient has the reply that the server behind has for it.
function server.on.rcpt(_, recipient)
  if recipient.class == "local" then
    recipient:forward(hop)
  end
end

-- What others have stamped is not believed.
function server.on.message(session, message)
  message:remove "X-Passed-By"
  message:prepend("X-Passed-By", ("%s; from %s"):format(server.options.hostname, session.ip or "this host"))
end

return server
