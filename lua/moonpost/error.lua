--- What a network can do to you, as a value: the second result of a function that returned nil.
---
---     local result, err = moonpost.something()
---     if not result and err.temporary then ... end
local Error = {}
Error.__index = Error
Error.__name = "moonpost.Error"

--- The text; with the reply code when a peer said one, unless it is in there.
function Error:__tostring()
  local said = self.code and self.message:find("%f[%d]" .. self.code .. "%f[%D]")
  return self.code and not said and ("%s (%d)"):format(self.message, self.code) or self.message
end

--- `err .. "text"` and `"text" .. err` read as expected.
function Error.__concat(a, b)
  return tostring(a) .. tostring(b)
end

local M = {}

---@param kind string "timeout", "cancelled", "bind", "tls", "refused", ...: what a program decides by
---@param message string one line for people
---@param fields? table code, temporary and whatever else helps
---@return moonpost.Error
function M.new(kind, message, fields)
  local err = { kind = kind, message = message, temporary = true }
  for key, value in pairs(fields or {}) do
    err[key] = value
  end
  return setmetatable(err, Error)
end

---@param value any
---@return boolean
function M.is(value)
  return getmetatable(value) == Error
end

return setmetatable(M, {
  __call = function(_, ...)
    return M.new(...)
  end,
})
