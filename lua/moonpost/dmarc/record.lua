--- DMARC records (RFC 7489 6.3, RFC 9989 4.7): what a domain asks of who receives mail in its name.
local core = require "moonpost.core"

local M = {}

local OCTETS_MOST = 4096
local ADDRESSES_MOST = 10 -- reports of one kind that a record asks for

local policies = { none = true, quarantine = true, reject = true }
local units = { k = 1 << 10, m = 1 << 20, g = 1 << 30, t = 1 << 40 }

local function is_blank(octet)
  return octet == 32 or octet == 9
end

local function trim(text)
  local from, to = 1, #text
  while from <= to and is_blank(text:byte(from)) do
    from = from + 1
  end
  while to >= from and is_blank(text:byte(to)) do
    to = to - 1
  end
  return text:sub(from, to)
end

-- The parts between separators, trimmed.
local function split(text, separator)
  local list, at = {}, 1
  while true do
    local found = text:find(separator, at, true)
    list[#list + 1] = trim(text:sub(at, found and found - 1))
    if not found then
      return list
    end
    at = found + 1
  end
end

local function tag(text)
  local equals = text:find("=", 1, true)
  if not equals then
    return nil
  end
  return trim(text:sub(1, equals - 1)):lower(), trim(text:sub(equals + 1))
end

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

--- One address of rua or ruf: a URI, perhaps with the size that its owner takes ("!10m").
---@param text string
---@return moonpost.dmarc.Address? address
---@return string? why
function M.address(text)
  local mark = text:find("!", 1, true)
  local uri, limit = text:sub(1, mark and mark - 1), nil
  if mark then
    local digits, unit = text:match("^(%d+)([kmgtKMGT]?)$", mark + 1)
    if not digits or #digits > 9 then
      return nil, "a size that is none"
    end
    limit = tonumber(digits) * (units[unit:lower()] or 1)
  end
  local scheme, rest = uri:match("^(%a[%w+.-]*):(.+)$")
  if not scheme or uri:find("[^\x21-\x7e]") then
    return nil, "no URI"
  end
  local address = { uri = uri, scheme = scheme:lower(), limit = limit }
  if address.scheme == "mailto" then
    local mailbox = unescape(rest:match("^[^?]*"))
    if mailbox:find("%c") or not core.is_mailbox(mailbox) then
      return nil, "no address"
    end
    address.address = mailbox
    address.domain = core.dns_name(mailbox:match("@([^@]*)$"))
    if not address.domain or address.domain:find("[%[%]]") then
      return nil, "no address" -- an address literal has nobody who could agree
    end
  end
  return address
end

local function policy(value)
  value = value:lower()
  return policies[value] and value or nil
end

local function one_of(letters)
  return function(value)
    value = value:lower()
    return #value == 1 and letters:find(value, 1, true) and value or nil
  end
end

local function addresses(value, problem)
  local list = {}
  for _, text in ipairs(split(value, ",")) do
    local address, why = M.address(text)
    if not address then
      problem(why)
    elseif #list == ADDRESSES_MOST then
      problem(("only %d addresses are kept"):format(ADDRESSES_MOST))
      break
    else
      list[#list + 1] = address
    end
  end
  return list
end

local function failures(value)
  local set = {}
  for _, option in ipairs(split(value, ":")) do
    option = option:lower()
    if not option:find("^[01ds]$") then
      return nil
    end
    set[option] = true
  end
  return set
end

local tags = {
  p = policy, sp = policy, np = policy, adkim = one_of "rs", aspf = one_of "rs", psd = one_of "ynu", t = one_of "yn",
  rua = addresses, ruf = addresses, fo = failures, rf = string.lower,
  pct = function(value)
    return value:find("^%d%d?%d?$") and tonumber(value) <= 100 and tonumber(value) or nil
  end,
  ri = function(value)
    return value:find("^%d%d?%d?%d?%d?%d?%d?%d?%d?%d?$") and math.min(tonumber(value), 0xffffffff) or nil
  end,
}

--- Whether a TXT record says that it is one of DMARC: "v=DMARC1" comes first, octet for octet.
---@param text string
---@return boolean
function M.is(text)
  local name, value = tag(text:sub(1, (text:find(";", 1, true) or #text + 1) - 1))
  return name == "v" and value == "DMARC1"
end

--- Reads a record. What stands in it and makes no sense is as if it did not (RFC 7489 6.3), but for the policies: `invalid` tells that there is none
--- that could be followed.
---@param text string
---@return moonpost.dmarc.Record? record
---@return string? why it is none
function M.parse(text)
  if type(text) ~= "string" then
    error(("dmarc.parse: a text expected, got a %s"):format(type(text)), 2)
  elseif #text > OCTETS_MOST then
    return nil, ("over %d octets"):format(OCTETS_MOST)
  elseif not M.is(text) then
    return nil, 'it does not begin with "v=DMARC1"'
  end
  local record = {
    text = text, adkim = "r", aspf = "r", pct = 100, fo = { ["0"] = true }, ri = 86400, psd = "u", t = "n", rua = {}, ruf = {}, problems = {},
  }
  local seen = { v = true }
  local parts = split(text, ";")
  for i = 2, #parts do
    local name, value = tag(parts[i])
    local function problem(why)
      record.problems[#record.problems + 1] = ("%s: %s"):format(name or "tag " .. i, why)
    end
    if not name then
      if parts[i] ~= "" then
        problem "no value"
      end
    elseif seen[name] then
      problem "it stands there twice; the first one counts"
    elseif tags[name] then
      local meant = tags[name](value, problem)
      if meant == nil then
        problem "its value is none that it could have"
        record.invalid = record.invalid or (name == "p" or name == "sp" or name == "np") and name or nil
      else
        record[name] = meant
      end
    end
    seen[name or ""] = true
  end
  if not seen.p then
    record.problems[#record.problems + 1] = "p: it is missing"
  end
  return record
end

--- The record that is followed: a policy that cannot be read is none, where reports are asked for; else there is nothing to follow (RFC 7489 6.6.3,
--- RFC 9989 4.10.1).
---@param record moonpost.dmarc.Record
---@param lenient boolean a record without p is none (RFC 9989)
---@return boolean followed
---@return string? why not
function M.settle(record, lenient)
  local missing = not record.p and not record.invalid
  if not record.invalid and not missing then
    return true
  elseif missing and lenient or record.rua[1] then
    record.p = "none"
    if record.invalid then
      record.sp, record.np = nil, nil
    end
    return true
  end
  return false, ("the record has no valid %s"):format(record.invalid or "p")
end

return M
