--- A domain as the queue and its spool go by it.
local core = require "moonpost.core"

local M = {}

--- In A-labels and lower case; what is no domain name, a literal among it, in lower case as it is.
---@param name string
---@return string
function M.name(name)
  return core.dns_name(name) or name:lower()
end

--- That of an address; "" where it has none.
---@param address string
---@return string
function M.of(address)
  return M.name(address:match("@([^@]*)$") or "")
end

return M
