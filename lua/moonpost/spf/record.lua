--- SPF records (RFC 7208 4.6, 12): from text to terms. The whole record is read before anything of it is evaluated, for an error anywhere in it is an
--- error of the record. Linear in its length.
local address_of = require "moonpost.spf.address"
local macro = require "moonpost.spf.macro"

local M = {}

local results = { ["+"] = "pass", ["-"] = "fail", ["~"] = "softfail", ["?"] = "neutral", [""] = "pass" }

---@class moonpost.spf.Term
---@field text string as it was written
---@field name string "all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"
---@field result string of a match: "pass", "fail", "softfail", "neutral"
---@field domain? moonpost.spf.Macro
---@field digits? string of ip4 and ip6: the address
---@field bits? integer of ip4 and ip6
---@field bits4? integer of a and mx
---@field bits6? integer

---@class moonpost.spf.Record
---@field [integer] moonpost.spf.Term
---@field redirect? moonpost.spf.Macro
---@field exp? moonpost.spf.Macro

local function bits_of(digits, most)
  if #digits > 3 or digits:find "^0." then
    return nil
  end
  local bits = tonumber(digits)
  return bits <= most and bits or nil
end

-- "domain/24//64": what is left of it, and the two lengths.
local function read_lengths(term, rest)
  local v6 = rest:match("//(%d+)$")
  rest = v6 and rest:sub(1, -#v6 - 3) or rest
  local v4 = rest:match("/(%d+)$")
  rest = v4 and rest:sub(1, -#v4 - 2) or rest
  term.bits4, term.bits6 = bits_of(v4 or "32", 32), bits_of(v6 or "128", 128)
  if not term.bits4 or not term.bits6 then
    return nil, "a length of a network that is not possible"
  end
  return rest
end

local function read_target(term, rest, optional)
  if rest == "" and optional then
    return true
  elseif rest:sub(1, 1) ~= ":" then
    return nil, rest == "" and "a domain is missing" or ('"%s" is not expected'):format(rest:sub(1, 40))
  end
  local problem
  term.domain, problem = macro.read_domain(rest:sub(2))
  return term.domain, problem
end

local function with_lengths(term, rest)
  local target, problem = read_lengths(term, rest)
  if not target then
    return nil, problem
  end
  return read_target(term, target, true)
end

local function with_target(term, rest)
  return read_target(term, rest, false)
end

local function is_ip4(text)
  return text:find "^%d+%.%d+%.%d+%.%d+$" and not text:find "%f[%d]0%d" and address_of.digits(text) ~= nil
end

local function is_ip6(text)
  return text:find "^[%x:.]*:[%x:.]*$" and address_of.digits(text) ~= nil
end

local function read_network(term, rest, is_address, most)
  local address, digits = rest:match("^:([%x:.]+)/(%d+)$")
  if not address then
    address, digits = rest:match("^:([%x:.]+)$"), tostring(most)
  end
  local bits = address and is_address(address) and bits_of(digits, most)
  if not bits then
    return nil, ('"%s" is no network'):format(rest:sub(2, 60))
  end
  term.digits, term.bits = address_of.digits(address), bits
  if #term.digits * 4 < most then -- ::ffff:192.0.2.1 in an ip6
    term.digits = ("0"):rep(20) .. "ffff" .. term.digits
  end
  return true
end

local mechanisms = {
  all = function(_, rest)
    return rest == "", "nothing may follow"
  end,
  include = with_target,
  exists = with_target,
  a = with_lengths,
  mx = with_lengths,
  ptr = function(term, rest)
    return read_target(term, rest, true)
  end,
  ip4 = function(term, rest)
    return read_network(term, rest, is_ip4, 32)
  end,
  ip6 = function(term, rest)
    return read_network(term, rest, is_ip6, 128)
  end,
}

local function read_modifier(record, name, value)
  if name == "redirect" or name == "exp" then
    if record[name] then
      return nil, "appears twice"
    end
    local problem
    record[name], problem = macro.read_domain(value)
    return record[name], problem
  end
  return macro.read(value) -- of an unknown modifier the syntax counts
end

local function read_term(record, text)
  local name, value = text:match("^(%a[%w._-]*)=(.*)$")
  if name then
    return read_modifier(record, name:lower(), value)
  end
  local qualifier, word, rest = text:match("^([+?~-]?)(%a[%w._-]*)(.*)$")
  word = word and word:lower()
  local read = word and mechanisms[word]
  if not read then
    return nil, "no mechanism has that name"
  end
  local term = { text = text, name = word, result = results[qualifier] }
  local ok, problem = read(term, rest)
  if ok then
    record[#record + 1] = term
  end
  return ok, problem
end

--- Whether a TXT record is one of SPF (RFC 7208 4.5).
---@param text string
---@return boolean
function M.is_record(text)
  local front = text:sub(1, 7):lower()
  return front == "v=spf1" or front == "v=spf1 "
end

--- Reads a record.
---@param text string that is_record is true of
---@return moonpost.spf.Record? record
---@return string? problem which term it is, and what is wrong with it
function M.read(text)
  if text:find "[^ -~]" then
    return nil, "an octet that is not printable ASCII"
  end
  local record = {}
  for term in text:sub(7):gmatch "[^ ]+" do
    local ok, problem = read_term(record, term)
    if not ok then
      return nil, ('"%s": %s'):format(term:sub(1, 60), problem)
    end
  end
  return record
end

return M
