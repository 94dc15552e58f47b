--- Options by a declared schema: checked, filled with defaults, and listed with where each value came from.
---
--- A schema is a list of fields { name =, type =, default =, doc =, ... }; a field with `fields` is a table of its
--- own. Types: string, boolean, integer, number, duration, size, rate, choice (with `values`), strings, table, any.
--- `check(value)` may return a sentence that says what is wrong. `null = true`: no default and none needed.
--- `absent`: what takes place where there is no value, in words.
local suggest = require "moonpost.suggest"
local units = require "moonpost.units"

local M = {}

local function strings(value)
  if type(value) == "string" then
    value = { value }
  end
  if type(value) ~= "table" then
    return nil, "a list of strings"
  end
  local list = {}
  for i, item in ipairs(value) do
    if type(item) ~= "string" then
      return nil, "a list of strings"
    end
    list[i] = item
  end
  for key in pairs(value) do
    if math.type(key) ~= "integer" or not list[key] then
      return nil, "a list of strings"
    end
  end
  return list
end

local function plain(kind, wanted)
  return function(value)
    if type(value) == kind then
      return value
    end
    return nil, wanted
  end
end

local parsers = {
  string = plain("string", "a string"),
  boolean = plain("boolean", "true or false"),
  table = plain("table", "a table"),
  duration = units.duration,
  size = units.size,
  rate = units.rate,
  strings = strings,
  integer = function(value)
    local number = type(value) == "number" and math.tointeger(value)
    if number and number >= 0 then
      return number
    end
    return nil, "a whole number, 0 or more"
  end,
  any = function(value)
    return value
  end,
}

function parsers.choice(value, field)
  for _, known in ipairs(field.values) do
    if value == known then
      return value
    end
  end
  local names = {}
  for i, known in ipairs(field.values) do
    names[i] = type(known) == "string" and ('"%s"'):format(known) or tostring(known)
  end
  return nil, "one of " .. table.concat(names, ", "), suggest.hint(value, field.values)
end

local function show_list(value)
  local out = {}
  for i, item in ipairs(value) do
    out[i] = M.show(item)
  end
  return "{ " .. table.concat(out, ", ") .. " }"
end

local shows = {
  duration = units.show_duration,
  size = units.show_size,
  rate = units.show_rate,
}

--- A value as it would be written in a policy.
---@return string
function M.show(value, field)
  local how = field and shows[field.type]
  if value == nil then
    return "none"
  elseif how then
    return how(value)
  elseif type(value) == "string" then
    return ('"%s"'):format(value)
  elseif type(value) == "table" then
    return #value > 0 and show_list(value) or next(value) == nil and "{}" or "{ ... }"
  end
  return tostring(value)
end

local function got(value)
  if type(value) == "string" then
    return #value <= 60 and ("%q"):format(value) or "a long string"
  elseif type(value) == "number" then
    return tostring(value)
  end
  return "a " .. type(value)
end

local named = setmetatable({}, { __mode = "k" }) -- fields of schemas by name

local function by_name(schema)
  local fields = named[schema]
  if not fields then
    fields = {}
    for _, field in ipairs(schema) do
      fields[field.name] = field
    end
    named[schema] = fields
  end
  return fields
end

local resolve

--- One value; on success it stands in `values`, with its row or rows.
local function take(field, value, path, at, values, rows)
  if field.fields and (type(value) == "table" or value == nil) then
    local inner, why = resolve(field.fields, value or {}, path .. ".", at, rows)
    values[field.name] = inner
    return inner ~= nil, why
  end
  local source = at
  if value == nil then
    source = "default"
    value = field.default
    if type(value) == "function" then
      value = value(values)
    end
  end
  if value ~= nil then
    local parsed, expected, hint = parsers[field.fields and "table" or field.type](value, field)
    if parsed == nil then
      return false, ("%s: %s expected, got %s%s"):format(path, expected, got(value), hint or "")
    end
    local why = field.check and field.check(parsed)
    if why then
      return false, ("%s: %s"):format(path, why)
    end
    value = parsed
  end
  values[field.name] = value
  if rows then
    local shown = value == nil and field.absent or M.show(value, field)
    rows[#rows + 1] = { option = path, value = shown, source = source, doc = field.doc }
  end
  return true
end

function resolve(schema, given, prefix, at, rows)
  if type(given) ~= "table" then
    return nil, ("a table of options expected, got %s"):format(got(given))
  end
  local fields = by_name(schema)
  for key in pairs(given) do
    if not fields[key] then
      local name = type(key) == "string" and key or tostring(key)
      return nil, ('unknown option "%s%s"%s'):format(prefix, name, suggest.hint(key, fields))
    end
  end
  local values = {}
  for _, field in ipairs(schema) do
    local ok, why = take(field, given[field.name], prefix .. field.name, at, values, rows)
    if not ok then
      return nil, why
    end
  end
  return values
end

--- Checks `given` against `schema`.
---@param schema table[]
---@param given table
---@param at string where `given` was written: "policy.lua:12"
---@param prefix? string in front of the names, in rows and in what went wrong: "tls."
---@return table? values with every default; nil when something is wrong
---@return table[]|string rows_or_why { option, value, source, doc } in the order of the schema, or one line
function M.resolve(schema, given, at, prefix)
  local rows = {}
  local values, why = resolve(schema, given, prefix or "", at, rows)
  if not values then
    return nil, why
  end
  return values, rows
end

--- As `resolve`, for what is called for every message: nobody is shown the values.
---@param schema table[]
---@param given table
---@return table? values with every default; nil when something is wrong
---@return string? why
function M.values(schema, given)
  return resolve(schema, given, "", nil, nil)
end

--- "policy.lua:12" of the function that is `level` levels above the caller.
---@param level integer 1 = the function that calls this one
---@return string
function M.place(level)
  local info = debug.getinfo(level + 1, "Sl")
  if not info or info.currentline < 0 then
    return "?"
  end
  return ("%s:%d"):format(info.short_src, info.currentline)
end

--- "policy.lua:12" of where a function begins.
---@param fn function
---@return string
function M.place_of(fn)
  local info = debug.getinfo(fn, "S")
  return info.what == "C" and "C" or ("%s:%d"):format(info.short_src, info.linedefined)
end

return M
