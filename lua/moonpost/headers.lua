--- The header fields of a message, in their order, by name whatever its case:
---
---     message.headers.subject            message.headers["Reply-To"]
---     message.headers:all("Received")    for name, value, raw in message.headers:each() do ... end
local M = {}

---@class moonpost.Headers
local Headers = {}
M.methods = Headers

local core_of = setmetatable({}, { __mode = "k" })

--- The value of the first field of that name, unfolded.
---@param name string
---@return string? value nil when there is none, or, with a reason, when the header is too long to look at
---@return string? why
function Headers:get(name)
  local core = core_of[self]
  local at, why = core:find(name)
  if not at then
    return nil, why
  end
  local _, value = core:field(at)
  return value
end

--- The values of all fields of that name, in order.
---@param name string
---@return string[]
function Headers:all(name)
  local core, values = core_of[self], {}
  local at = core:find(name)
  while at do
    local _, value = core:field(at)
    values[#values + 1] = value
    at = core:find(name, at + 1)
  end
  return values
end

--- How many fields there are.
---@return integer
---@return string? why
function Headers:count()
  local count, why = core_of[self]:field_count()
  return count or 0, why
end

--- All fields in order: name as it is written, value unfolded, and the field's own octets.
---@return fun(): string?, string?, string?
function Headers:each()
  local core, at = core_of[self], 0
  return function()
    at = at + 1
    if at <= (core:field_count() or 0) then
      return core:field(at)
    end
  end
end

local Headers_mt = { __name = "moonpost.Headers", __metatable = "moonpost.Headers", __len = Headers.count }

function Headers_mt.__index(self, key)
  return Headers[key] or type(key) == "string" and Headers.get(self, key) or nil
end

function Headers_mt.__newindex()
  error("message.headers is changed by message:prepend, append, replace and remove", 2)
end

function Headers_mt.__pairs(self)
  return Headers.each(self)
end

---@param core moonpost.core.message
---@return moonpost.Headers
function M.new(core)
  local headers = setmetatable({}, Headers_mt)
  core_of[headers] = core
  return headers
end

return M
