--- A mail server that takes programs out of messages: what could be run is replaced by a note that says what was there; everything else of a message
--- stays octet for octet. Documents that are packed once more are looked into by their names alone.
---
---     moonpost serve examples/strip.lua
---     swaks --server 127.0.0.1:2525 --to bob@example.org --attach-type application/x-msdownload --attach-name prize.exe --attach @/bin/true
local moonpost = require "moonpost"

local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:2525", domains = "example.org" }

local endings, types = {}, {}
for ending in ("bat cmd com cpl exe hta iso jar js jse lnk msi ps1 scr vbe vbs wsf"):gmatch "%w+" do
  endings[ending] = true
end
for type in ("application/x-msdownload application/x-dosexec application/x-ms-installer application/java-archive application/hta"):gmatch "%S+" do
  types[type] = true
end

local function can_run(part)
  local name = part.filename or ""
  return types[part.type] or endings[(name:lower():match "%.(%w+)%s*$")]
end

local NOTE = "An attachment was here and has been taken out because it could be run as a program:\n\n  %s (%s)\n\n"
  .. "If you expected it, please ask postmaster@example.org.\n"

-- Forwarded messages are looked into too: their parts are parts of the tree.
local function strip(message)
  local tree, err = message:mime { depth = 20, parts = 1000 }
  if not tree then
    return nil, err
  end
  local taken = {}
  for part in tree:each() do
    if part.kind == "leaf" and can_run(part) then
      local name = (part.filename or "without a name"):gsub("%c", "?")
      taken[#taken + 1] = name
      assert(part:replace { text = NOTE:format(name, part.type), filename = "removed.txt", disposition = "attachment" })
    end
  end
  local ok, why = tree:apply()
  return ok and taken, why
end

function server.on.message(session, message)
  local taken, err = strip(message)
  if not taken and err.kind == "limit" then
    return 550, "5.6.0", "This message has more parts than it should"
  elseif not taken then
    return 451, "4.3.0", "Cannot look at the message now, please try again later"
  elseif taken[1] then
    message:append("X-Removed", table.concat(taken, ", "))
    moonpost.log.info("attachments removed", { session = session.id, count = #taken, names = table.concat(taken, ", ") })
  end
  message:deliver { maildir = "mail/%{mailbox}" }
end

return server
