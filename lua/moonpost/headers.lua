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

--- Where a field of that name stands: the first one at or behind a position.
---@param name string
---@param from? integer 1 when left out
---@return integer? position from 1, as `each` counts; nil when there is none, or, with a reason, when the header is too long to look at
---@return string? why
function Headers:find(name, from)
  return core_of[self]:find(name, from)
end

--- The field at a position.
---@param position integer
---@return string? name as it is written; nil past the last one
---@return string? value unfolded
---@return string? raw its octets
function Headers:at(position)
  local core = core_of[self]
  if position < 1 or position > (core:field_count() or 0) then
    return nil
  end
  return core:field(position)
end

-- ---- values ---------------------------------------------------------------------------------------------------------

-- What stands behind the colon of the first field of that name, folding included. The functions that read it come with moonpost.mime, when one
-- is asked for.
local function raw_value(self, name)
  local core = core_of[self]
  local at, why = core:find(name)
  if not at then
    return nil, why
  end
  local _, _, raw = core:field(at)
  return raw:match(":(.*)$")
end

local function valued(self, name, kind)
  local raw, why = raw_value(self, name)
  if not raw then
    return nil, why
  end
  return require("moonpost.mime.value")[kind](raw)
end

--- The octets of the first field of that name behind its colon, folding included.
---@param name string
---@return string? raw
---@return string? why
function Headers:raw(name)
  return raw_value(self, name)
end

--- The value of the first field of that name as UTF-8, its encoded words decoded (RFC 2047).
---@param name string
---@return string? text
---@return string? why
function Headers:text(name)
  return valued(self, name, "text")
end

--- The mailboxes and groups in the first field of that name (RFC 5322 3.4).
---@param name string
---@return moonpost.Address[]? list
---@return string? why
function Headers:addresses(name)
  return valued(self, name, "addresses")
end

--- The time in the first field of that name, "Date" when none is given (RFC 5322 3.3).
---@param name? string
---@return integer? time seconds since 1970; nil when there is none, or one that cannot be read
---@return integer|string|nil zone minutes east of Greenwich
function Headers:time(name)
  return valued(self, name or "Date", "date")
end

--- The message ids in the first field of that name, without their brackets (RFC 5322 3.6.4).
---@param name string
---@return string[]? ids
---@return string? why
function Headers:ids(name)
  return valued(self, name, "ids")
end

--- What stands between the commas of the first field of that name, decoded: Keywords (RFC 5322 3.6.5).
---@param name string
---@return string[]? items
---@return string? why
function Headers:list(name)
  return valued(self, name, "list")
end

--- The value of the first field of that name and its parameters (RFC 2045 5.1, RFC 2231): "text/plain", { charset = "utf-8" }.
---@param name string
---@return string? value lower case; nil when there is none
---@return table<string, string>|string|nil parameters by lower-case name
function Headers:parameters(name)
  return valued(self, name, "parameters")
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
  error("message.headers is changed by message:prepend, append, insert, replace and remove", 2)
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
