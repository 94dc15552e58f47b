--- Public suffixes (publicsuffix.org): where a name stops being a registry's and starts being somebody's.
---
---     local psl = require "moonpost.psl"
---     psl.registrable "mail.example.co.uk"      -- "example.co.uk"
local core = require "moonpost.core"

local M = {}

local chosen, system

--- A list of a file.
---@param path string the .dat of publicsuffix.org, or what psl-make-dafsa makes of it
---@return moonpost.psl.List? list
---@return string? why
function M.load(path)
  if type(path) ~= "string" then
    error(("psl.load: a path expected, got a %s"):format(type(path)), 2)
  end
  local list, why = core.psl(path)
  if not list then
    return nil, ("%s: %s"):format(path, why)
  end
  return list
end

--- The list that is asked where none is named: the one of `use`, else the newer of what the system keeps and what came with libpsl.
---@return moonpost.psl.List
function M.default()
  if chosen then
    return chosen
  end
  system = system or assert(core.psl())
  return system
end

--- Makes a list the one that is asked where none is named.
---@param list? moonpost.psl.List nil: the system's
---@return moonpost.psl.List? former nil when that was the system's
function M.use(list)
  if list ~= nil and not M.is_list(list) then
    error("psl.use: what psl.load returned is expected", 2)
  end
  local former = chosen
  chosen = list
  return former
end

--- Whether a value is what psl.load returns.
---@param value any
---@return boolean
function M.is_list(value)
  return type(value) == "userdata" and (getmetatable(value) or {}).__name == "moonpost.core.psl"
end

--- The registrable domain of a name: its public suffix and one label more. A-labels and U-labels come back as they were given, in lower case.
---@param name string
---@return string? domain nil when there is none: of a public suffix, an address, what is no name
function M.registrable(name)
  if type(name) ~= "string" then
    error(("psl.registrable: a name expected, got a %s"):format(type(name)), 2)
  end
  return M.default():registrable(name)
end

return M
