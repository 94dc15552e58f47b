--- Values of header fields that have a structure, from their raw octets: nobody's field makes these raise, and what cannot be read is nil.
local core = require "moonpost.mime_core"
local trim = require "moonpost.trim"

local M = {}

--- Unstructured text with its encoded words decoded (RFC 2047), unfolded.
---@param raw string
---@return string? text UTF-8
---@return string? why over 1 MB
function M.text(raw)
  return core.decode(raw)
end

---@class moonpost.Address
---@field name? string UTF-8
---@field address? string of a mailbox
---@field group? string the name of a group; then `members` is there instead of an address
---@field members? moonpost.Address[]

--- Mailboxes and groups (RFC 5322 3.4).
---@param raw string
---@return moonpost.Address[]? list
---@return string? why
function M.addresses(raw)
  return core.addresses(raw)
end

--- A point in time (RFC 5322 3.3, and what is seen instead of it).
---@param raw string
---@return integer? time seconds since 1970
---@return integer? zone minutes east of Greenwich
function M.date(raw)
  return core.date(raw)
end

--- Message ids without their angle brackets (RFC 5322 3.6.4); words, where nothing stands in brackets.
---@param raw string
---@return string[]
function M.ids(raw)
  local list = {}
  for inner in raw:gmatch("<([^<>]*)>") do
    local id = trim(inner)
    list[#list + 1] = id ~= "" and id:gsub("\r?\n[ \t]+", "") or nil
  end
  if not list[1] then
    for word in raw:gmatch("[^%s<>,;]+") do
      list[#list + 1] = word
    end
  end
  return list
end

--- Items between commas (RFC 5322 3.6.5), each decoded.
---@param raw string
---@return string[]? list
---@return string? why
function M.list(raw)
  local text, why = core.decode(raw)
  if not text then
    return nil, why
  end
  local list = {}
  for item in text:gmatch("[^,]+") do
    list[#list + 1] = trim(item)
    if list[#list] == "" then
      list[#list] = nil
    end
  end
  return list
end

--- "type/subtype; name=value" (RFC 2045 5.1, RFC 2183), its parameters put together and decoded (RFC 2231; RFC 2047 too, where that is used instead).
---@param raw string
---@return string? value lower case: "text/plain", "attachment"
---@return table<string, string> parameters by lower-case name, UTF-8
function M.parameters(raw)
  local type, subtype, parameters = core.parameters(raw)
  if not type or type == "" then
    return nil, {}
  end
  return subtype ~= "" and type .. "/" .. subtype or type, parameters
end

return M
