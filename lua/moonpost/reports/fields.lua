--- Groups of fields as reports for programs have them (RFC 3464 2.1.2, RFC 5965 3): fields of a header, and empty lines between the groups.
local trim = require "moonpost.trim"

local M = {}

local GROUPS_MOST = 10000 -- recipients of one report
local VALUE_MOST = 10000 -- octets of a value that is folded; a line more may come

---@class moonpost.reports.Group
---@field names table<string, string[]> values by lower-case name, in their order, unfolded

local function add(group, name, value)
  local key = name:lower()
  group[key] = group[key] or {}
  table.insert(group[key], value)
  return group[key]
end

--- Reads groups; lines that are no fields are passed over.
---@param text string
---@return table<string, string[]>[] groups values by lower-case name, unfolded, without comments removed
function M.groups(text)
  local groups, group, last = {}, nil, nil
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do
    line = line:gsub("\r$", "")
    local name, value = line:match "^([%w-]+)%s*:(.*)$"
    if line:find "^%s*$" then
      group, last = nil, nil
    elseif line:find "^%s" and last then
      if #last[#last] < VALUE_MOST then
        last[#last] = last[#last] .. " " .. trim(line)
      end
    elseif name and #groups < GROUPS_MOST then
      if not group then
        group = {}
        groups[#groups + 1] = group
      end
      last = add(group, name, trim(value):sub(1, VALUE_MOST))
    end
  end
  return groups
end

--- The first value of a name.
---@param group table<string, string[]>
---@param name string
---@return string?
function M.first(group, name)
  return group[name] and group[name][1]
end

--- What stands behind the type of a field like "rfc822; bob@example.org", and the type. Without a type all of it.
---@param value? string
---@return string? text
---@return string? kind lower case
function M.typed(value)
  if not value then
    return nil
  end
  local kind, text = value:match "^([%w-]+)%s*;(.*)$"
  if kind then
    return trim(text), kind:lower()
  end
  return value
end

return M
