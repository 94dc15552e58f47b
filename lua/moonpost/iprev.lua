--- moonpost.iprev: whether an address has a name that leads back to it (RFC 8601 3). Waits, in tasks and in a plain script.
---
---     local found = moonpost.iprev.check { ip = session.ip }
---     if found.result == "fail" then ... end
local address = require "moonpost.spf.address"
local core = require "moonpost.core"
local dns = require "moonpost.dns"
local lookups = require "moonpost.dns.lookups"
local options_of = require "moonpost.options"
local task = require "moonpost.task"

local M = {}

local NAMES_MOST = 10 -- whoever owns the address chooses how many there are (RFC 8601 3)

local schema = {
  { name = "ip", type = "string", doc = "of the client" },
  { name = "dns", type = "any", check = function(value)
    return not lookups.is_source(value) and "what dns.resolver or dns.zone returned is expected" or nil
  end },
  { name = "timeout", type = "duration", default = 20 },
}

-- Whether one of the addresses is the one with these digits.
local function leads_back(answer, digits)
  for _, one in ipairs(answer or {}) do
    if address.digits(one) == digits then
      return true
    end
  end
  return false
end

--- Names of an address, as far as they lead back to it; at most ten are looked at.
---@async
---@param source moonpost.dns.Resolver
---@param ip string as spf.address.read gives it
---@return string[]? confirmed
---@return string? kind of the failure: "servfail", "timeout", "bogus"
---@return table told { all = string[], void = boolean?, failed = string? (of a name that could not be looked up), why = string? }
function M._confirmed(source, ip)
  local answer, kind, why = source:_ask(core.dns_reverse(ip), "PTR")
  if not answer then
    return nil, kind, { all = {}, why = why }
  end
  local told, questions = { all = {}, void = #answer == 0 }, {}
  for i = 1, math.min(#answer, NAMES_MOST) do
    local name = lookups.to_ascii(answer[i])
    if name then
      table.insert(told.all, name)
      table.insert(questions, { name, ip:find(":", 1, true) and "AAAA" or "A" })
    end
  end
  if #questions > 0 then
    source:_ask_all(questions)
  end
  local list, digits = {}, address.digits(ip)
  for _, question in ipairs(questions) do
    told.failed = told.failed or question.kind
    if leads_back(question.answer, digits) then
      list[#list + 1] = question[1]
    end
  end
  return list, nil, told
end

--- Looks a client up: its names, and their addresses.
---@async
---@param given moonpost.iprev.Options
---@return moonpost.iprev.Found found
function M.check(given)
  local options, wrong = options_of.values(schema, given or {})
  if not options then
    error("iprev.check: " .. wrong, 2)
  end
  local ip = address.read(options.ip or "")
  if not ip then
    error("iprev.check: ip: an address expected", 2)
  end
  local found = { ip = ip, names = {} }
  local list, kind, told = task.timeout(options.timeout, M._confirmed, options.dns or dns.default(), ip)
  if not list then
    found.result, found.problem = "temperror", type(kind) == "string" and kind or "no answer in time"
    return found
  end
  found.names, found.name = list, list[1]
  if list[1] then
    found.result = "pass"
  elseif told.failed then
    found.result, found.problem = "temperror", told.failed
  elseif told.void then
    found.result, found.problem = "permerror", "the address has no name"
  else
    found.result, found.problem = "fail", "no name leads back to the address"
  end
  return found
end

return M
