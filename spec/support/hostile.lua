--- A mail server on loopback that does as it is told, right or wrong, TLS included (spec/support/hostile.py has the language).
---
---     local server <close> = hostile.start { STARTTLS = { "454 4.7.0 not now\r\n" } }
---     local client <close> = moonpost.connect { url = server.url, tls = "required" }
---     server:finish()  waits for the end of its connections; then
---     server:heard()   every line that it heard, server:count("^%d+ tls") how many lines of what it says match
local json = require "dkjson"
local peers = require "spec.support.peers"
local process = require "spec.support.process"

local M = {}

local Server = {}
local Server_mt = { __index = Server, __name = "spec.hostile" }

-- Octets as JSON can carry them: as the characters of latin-1.
local function carried(value)
  if type(value) == "string" then
    return (value:gsub("[\x80-\xff]", function(octet)
      return utf8.char(octet:byte())
    end))
  elseif type(value) ~= "table" then
    return value
  end
  local copy = setmetatable({}, getmetatable(value))
  for key, one in pairs(value) do
    copy[key] = carried(one)
  end
  return copy
end

---@param script table of one connection, or of the first, with those of further ones in `again`
---@param where? string "127.0.0.1:0"
function M.start(script, where)
  local scripts = { script }
  for i, one in ipairs(script.again or {}) do
    scripts[i + 1] = one
  end
  script.again = nil
  for _, one in ipairs(scripts) do
    setmetatable(one, { __jsontype = "object" })
  end
  local self = setmetatable({}, Server_mt)
  self.process = process.start { peers.python3, "spec/support/hostile.py", where or "127.0.0.1:0", json.encode(carried(scripts)) }
  self.port = math.tointeger(tonumber((self.process:expect("^listening on port (%d+)"))))
  self.url = "smtp://127.0.0.1:" .. self.port
  return self
end

--- How many lines of what it said so far match.
function Server:count(pattern)
  self.process:poll()
  local count = 0
  for _, line in ipairs(self.process.lines) do
    count = count + (line:find(pattern) and 1 or 0)
  end
  return count
end

--- Waits for the end of `connections` connections, by default of one.
function Server:finish(connections)
  for _ = 1, connections or 1 do
    self.process:expect("^%d+ gone")
  end
end

--- What came on all connections, "EHLO me\nMAIL FROM:<...>...".
---@return string
function Server:heard()
  self.process:poll()
  local lines = {}
  for _, line in ipairs(self.process.lines) do
    lines[#lines + 1] = line:match("^%d+ < (.*)")
  end
  return table.concat(lines, "\n")
end

function Server:close()
  self.process:kill()
  self.process:wait()
end

Server_mt.__close = Server.close

return M
