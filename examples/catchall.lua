--- Catch-all: takes any mail to any address and puts it into ./mail, a Maildir. For looking at what a program sends.
---
---     ./dev run                                   from the source tree, or
---     moonpost serve examples/catchall.lua
---
--- It offers STARTTLS with a certificate that it makes itself, and lets every user log in with every password. So it
--- listens where nobody else can reach it; leave it there.
local moonpost = require "moonpost"

local server = moonpost.server {
  listen = "smtp://127.0.0.1:2525",
  domains = "*", -- whatever the address, it is ours
  tls = "development",
  auth_in_clear = true,
  early = "tolerate", -- `nc < file` talks without waiting for replies
  bare = "repair", -- and its lines may end with LF alone
  lax = { "helo", "underscore", "space", "brackets" }, -- `curl -T my_mail.eml` says EHLO my_mail.eml
}

moonpost.log.configure { level = "warn" } -- one line for each message, below, is enough
io.stdout:setvbuf "line"

local hello = [[
Taking any mail to any address on %s, into ./mail. Try it:

  printf 'Subject: Hello\n\nHow are you?\n' |
    curl --url smtp://%s --mail-from me@example.net --mail-rcpt you@example.org -T -
  swaks --server %s --to you@example.org --tls --auth PLAIN --auth-user me --auth-password any

Control-C ends it.]]

function server.on.start()
  moonpost.once("hello", function()
    local at = server.listeners[1].endpoint
    local where = ("%s:%d"):format(at.ip, at.port)
    print(hello:format("smtp://" .. where, where, where))
  end)
end

function server.on.auth()
  return true, { "*" } -- anybody, who may send as anybody
end

function server.on.message(session, message)
  message:deliver { maildir = "mail" }
  local results, to = message:perform(), {}
  for i, result in ipairs(results) do
    to[i] = result.address
  end
  local what = ("%s  %s -> %s  %s  (%d octets%s)  %s"):format(os.date "%H:%M:%S", message.sender.address,
    table.concat(to, ", "), message.headers.subject or "no subject", message.size,
    session.user and ", from " .. session.user or "", results[1].path or results[1].why)
  print(moonpost.log.clean(what))
end

return server
