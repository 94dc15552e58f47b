--- A server that fails as it is told: the recipient's name is the script. For trying what your program does when mail
--- does not go through. Nothing is kept.
---
---     moonpost serve examples/tempfail.lua
---     swaks --server 127.0.0.1:2525 --to 450-4.2.2-Mailbox_full@example.org
---
---     450-4.2.2-Mailbox_full@   this reply to RCPT; "_" is a space. 550@ and 550-5.1.1@ do too
---     data-552-5.2.2-Too_big@   this reply at the end of the message
---     defer@  reject@           450 4.2.0 and 550 5.1.1
---     close@                    421, and the connection is closed
---     slow-5s@                  five seconds of thought, then 250; slow-5s-450@: then 450
---     anything else@            250
local moonpost = require "moonpost"

local server = moonpost.server {
  hostname = "fail.example.org",
  listen = { "smtp://127.0.0.1:2525", "lmtp://127.0.0.1:2424" },
  domains = "*",
  limits = { hook_time = "10m" }, -- slow-300s shall be possible
}

local names = { defer = "450-4.2.0-Deferred", reject = "550-5.1.1-Rejected", close = "421-4.3.2-Closing" }

-- "450-4.2.2-Mailbox_full" as a verdict; nothing when it is none.
local function reply_of(script)
  local code, rest = script:match("^([45]%d%d)(.*)$")
  if not code or rest ~= "" and rest:sub(1, 1) ~= "-" then
    return
  end
  local enhanced, text = rest:match("^%-(" .. code:sub(1, 1) .. "%.%d+%.%d+)(.*)$")
  text = (text or rest):gsub("^%-", ""):gsub("_", " ")
  return math.tointeger(tonumber(code)), enhanced or code:sub(1, 1) .. ".0.0", text ~= "" and text or "As you wish"
end

local function play(script)
  local seconds, rest = script:match("^slow%-(%d+)s?(.*)$")
  if seconds then
    moonpost.sleep(tonumber(seconds))
    script = rest:gsub("^%-", "")
  end
  return reply_of(names[script:lower()] or script)
end

function server.on.rcpt(_, recipient)
  return play(recipient.localpart)
end

function server.on.message(_, message)
  message:discard("only a test")
  for _, recipient in ipairs(message.recipients) do
    local code, enhanced, text = reply_of(recipient.localpart:match("^data%-(.*)$") or "")
    if code then
      message:to(recipient):refuse(code, enhanced, text)
    end
  end
end

return server
