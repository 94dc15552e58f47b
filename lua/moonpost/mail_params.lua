--- The parameters of MAIL and RCPT that a script may give, checked where it gives them: C reads them when the connection is there, and would
--- say what is wrong where nobody looks.
local core = require "moonpost.core"
local suggest = require "moonpost.suggest"

local M = {}

local ENVID_MOST = 100 -- characters (RFC 3461 4.4)
local ORCPT_MOST = 500 -- (4.2)
local SECONDS_MOST = 999999999 -- nine digits (RFC 2852 4, RFC 4865 3)

-- Each answers what was expected, or nil.

local function one_of(...)
  local known, names = {}, {}
  for i, name in ipairs { ... } do
    known[name], names[i] = true, ('"%s"'):format(name)
  end
  local expected = table.concat(names, ", ", 1, #names - 1) .. " or " .. names[#names]
  return function(value)
    return not (type(value) == "string" and known[value:upper()]) and expected or nil
  end
end

local function whole(least, most, what)
  return function(value)
    local number = type(value) == "number" and math.tointeger(value)
    return not (number and number >= least and number <= most) and what or nil
  end
end

local function flag(value)
  return type(value) ~= "boolean" and "true or false" or nil
end

local function anything() end

local function printable(most)
  return function(value)
    local fits = type(value) == "string" and #value >= 1 and #value <= most and not value:find("[^\x20-\x7e]")
    return not fits and ("a string of 1 to %d printable ASCII characters"):format(most) or nil
  end
end

local function address(value)
  return not (value == "<>" or type(value) == "string" and core.mailbox(value)) and 'an address, or "<>"' or nil
end

-- Characters of a text as xtext has it (RFC 3461 4): three for each that is not itself.
local function xtext_size(text)
  return #text + 2 * select(2, text:gsub("[^\x21-\x7e]", "")) + 2 * select(2, text:gsub("[+=]", ""))
end

local function original(value)
  local fits = type(value) == "string" and value ~= "" and not value:find("[^\x20-\x7e]")
  return not fits and "an address in ASCII" or nil
end

local function atom(value)
  return not (type(value) == "string" and #value <= 64 and value:find("^[%w-]+$")) and 'a type such as "rfc822"' or nil
end

local mail = {
  size = whole(0, math.maxinteger, "a whole number of octets"), body = one_of("7BIT", "8BITMIME", "BINARYMIME"), smtputf8 = flag,
  ret = one_of("FULL", "HDRS"), envid = printable(ENVID_MOST), by = whole(-SECONDS_MOST, SECONDS_MOST, "whole seconds"),
  by_mode = one_of("R", "N"), by_trace = flag, holdfor = whole(1, SECONDS_MOST, "whole seconds, 1 or more"), holduntil = anything,
  holduntil_time = whole(0, math.maxinteger, "seconds since 1970"), priority = whole(-9, 9, "-9 to 9"), requiretls = flag, auth = address,
}
local notify = { NEVER = flag, SUCCESS = flag, FAILURE = flag, DELAY = flag }
local rcpt = {
  notify = function(value)
    return type(value) ~= "table" and "a table such as { FAILURE = true, DELAY = true }" or nil
  end, orcpt = original, orcpt_type = atom,
}

local function got(value)
  return type(value) == "string" and #value <= 60 and ("%q"):format(value) or type(value) == "number" and tostring(value)
    or "a " .. type(value)
end

-- One line when a table has a name that is not among `known`, or a value that it does not take.
local function check(values, known, where)
  if type(values) ~= "table" then
    return ("%s: a table expected, got a %s"):format(where, type(values))
  end
  for name, value in pairs(values) do
    if not known[name] then
      local hint = known == notify and math.type(name) and ": { FAILURE = true, DELAY = true }, no list" or suggest.hint(name, known)
      return ('%s: unknown name "%s"%s'):format(where, tostring(name), hint)
    end
    local expected = known[name](value)
    if expected then
      return ("%s.%s: %s expected, got %s"):format(where, name, expected, got(value))
    end
  end
end

--- What is wrong with parameters of MAIL; nil: nothing.
---@param params table
---@return string? why one line
function M.check_mail(params)
  local why = check(params, mail, "params")
  if not why and params.by and params.by <= 0 and (params.by_mode or "N"):upper() == "R" then
    return "params.by: seconds to go expected, for what is late already cannot be returned in time"
  end
  return why
end

--- What is wrong with parameters of RCPT; nil: nothing.
---@param params table
---@return string? why one line
function M.check_rcpt(params)
  local why = check(params, rcpt, "params") or params.notify and check(params.notify, notify, "params.notify")
  local wanted = not why and params.notify or {}
  if wanted.NEVER and (wanted.SUCCESS or wanted.FAILURE or wanted.DELAY) then
    return "params.notify: NEVER stands alone"
  elseif not why and params.orcpt and xtext_size(params.orcpt) + #(params.orcpt_type or "rfc822") + 1 > ORCPT_MOST then
    return ("params.orcpt: at most %d characters, its type among them, expected"):format(ORCPT_MOST)
  end
  return why
end

-- Seconds since 1970 of "2026-03-02T10:15:00Z" or "2026-03-02T11:15:00+01:00" (RFC 3339); nil when it is no such thing.
local function seconds(text)
  local pattern = "^(%d%d%d%d)-(%d%d)-(%d%d)[Tt](%d%d):(%d%d):(%d%d)%.?%d*([Zz+-])(.*)$"
  local year, month, day, hour, minute, second, sign, zone = text:match(pattern)
  local zone_hour, zone_minute = (zone or ""):match("^(%d%d):(%d%d)$")
  if not year or (sign:upper() == "Z") ~= (zone == "") or zone ~= "" and not zone_hour then
    return nil
  end
  year, month = math.tointeger(year), math.tointeger(month)
  local years = month > 2 and year or year - 1 -- that begin in March, so that a leap day is a year's last
  local days = 365 * years + years // 4 - years // 100 + years // 400 + (153 * ((month + 9) % 12) + 2) // 5 + day - 1 - 719468
  local offset = zone_hour and (sign == "-" and -1 or 1) * (zone_hour * 3600 + zone_minute * 60) or 0
  return math.tointeger(days * 86400 + hour * 3600 + minute * 60 + second - offset)
end

--- Parameters of MAIL that were checked, with what C wants to be told beside what a script says.
---@param params? table
---@param size? integer octets of the message
---@return table? complete a copy
---@return string? why
function M.complete(params, size)
  local out = {}
  for name, value in pairs(params or {}) do
    out[name] = value
  end
  out.size = out.size or size
  local held = out.holduntil
  if held ~= nil and not out.holduntil_time then
    out.holduntil_time = type(held) == "string" and seconds(held) or nil
    if not out.holduntil_time then
      return nil, 'params.holduntil: a time such as "2026-03-02T10:15:00Z" expected'
    end
  end
  return out
end

return M
