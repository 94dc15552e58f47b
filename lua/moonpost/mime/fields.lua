--- The header of a part: what moonpost.headers asks of a message's header, over octets that are here.
local trim = require "moonpost.trim"

local M = {}

local Fields = {}
Fields.__index = Fields

-- A field is its lines; what can be none begins none (RFC 5322 2.2).
local function read(octets)
  local list, at = {}, 1
  while at <= #octets do
    local stop = octets:find("\n", at, true) or #octets
    local name = octets:match("^([\x21-\x39\x3b-\x7e]+)[ \t]*:", at)
    if octets:find("^[ \t]", at) and list[1] then
      list[#list].stop = stop
    elseif name then
      list[#list + 1] = { name = name, start = at, stop = stop }
    end
    at = stop + 1
  end
  return list
end

function Fields:field_count()
  return #self.list
end

--- Its name as written, its value unfolded, its octets.
function Fields:field(at)
  local field = self.list[at]
  local raw = self.octets:sub(field.start, field.stop)
  local value = trim(raw:match("^[^:]*:(.*)$")):gsub("\r?\n([ \t])", "%1")
  return field.name, value, raw
end

function Fields:find(name, from)
  name = name:lower()
  for at = from or 1, #self.list do
    if self.list[at].name:lower() == name then
      return at
    end
  end
end

---@param octets string
function M.new(octets)
  return setmetatable({ octets = octets, list = read(octets) }, Fields)
end

return M
