--- A submission server: users of ours prove who they are, and send as the addresses that are theirs.
---
---     moonpost serve examples/submission.lua
---     swaks --server 127.0.0.1:2587 --tls --auth PLAIN --auth-user alice --auth-password wonderland \
---       --from alice@example.org --to you@example.net
---
--- The users stand in a file beside this one, a line for each: name, ":", what is kept of the password, and behind
--- white space the addresses that the user may send as. `moonpost passwd alice >> users` makes the first part. What is
--- kept is no password: it can be checked with PLAIN and LOGIN, and with SCRAM, where the password never travels.
--- After a change: kill -HUP.
local moonpost = require "moonpost"

local path = ... -- of this file
local folder = path and path:match("^(.*/)") or ""

local function read_users(file)
  local users = {}
  for line in io.lines(file) do
    local name, secret, senders = line:match("^([^#:%s]+):(%S+)%s*(.-)%s*$")
    if name then
      local list = {}
      for address in senders:gmatch("%S+") do
        list[#list + 1] = address
      end
      local scram = secret:find("^SCRAM%-") and secret or nil
      users[name] = { scram = scram, hash = not scram and secret or nil, senders = list }
    elseif line:find("^%s*[^#%s]") then
      error(("%s: not understood: %s"):format(file, line), 0)
    end
  end
  return users
end

local users = read_users(folder .. "users")

local server = moonpost.server {
  hostname = "mail.example.org",
  listen = "submission://127.0.0.1:2587", -- TLS and AUTH are demanded here without being asked for
  domains = "example.org",
  relay = { authenticated = true },
  tls = "development",
  mechanisms = { "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "PLAIN", "LOGIN" },
}

function server.on.credentials(_, user)
  return users[user]
end

function server.on.message(_, message)
  if not message.headers.date then -- RFC 6409 8.1: a submission server may add what is missing
    message:append("Date", os.date("!%a, %d %b %Y %H:%M:%S +0000"))
  end
  if not message.headers["Message-ID"] then
    message:append("Message-ID", ("<%s@mail.example.org>"):format(message.id))
  end
  message:to("local"):deliver { maildir = "mail/%{mailbox}" }
  message:to("relay"):deliver { maildir = "outgoing" } -- for whatever carries it on
end

return server
