--- DMARC (RFC 7489; RFC 9989 with `method = "walk"`): whether SPF or DKIM vouch for the domain in From, and what its owner asks for where neither
--- does. What they found comes from the caller:
---
---     local verdict = moonpost.dmarc.check {
---       from_domain = "example.net",
---       spf = { result = "pass", domain = "bounces.example.net" },
---       dkim = { { result = "pass", domain = "example.net", selector = "s1" } },
---     }
---     if verdict.disposition == "reject" then return 550, "5.7.1", "Refused by the DMARC policy of " .. verdict.domain end
local aggregate = require "moonpost.dmarc.aggregate"
local author = require "moonpost.dmarc.author"
local core = require "moonpost.core"
local destinations = require "moonpost.dmarc.destinations"
local dns = require "moonpost.dns"
local find = require "moonpost.dmarc.find"
local lookups = require "moonpost.dns.lookups"
local psl = require "moonpost.psl"
local records = require "moonpost.dmarc.record"
local suggest = require "moonpost.suggest"

local M = {}

M.parse = records.parse
M.row = aggregate.row
M.aggregate = aggregate.reports
M.mail = aggregate.mail

local known = { from_domain = true, spf = true, dkim = true, dns = true, psl = true, method = true, random = true }
local known_of_destinations = { kind = true, dns = true, psl = true }
local IDENTIFIERS_MOST = 10 -- domains that are not the one in From, whose organization is looked for

local weaker = { reject = "quarantine", quarantine = "none", none = "none" }

-- ---- what is asked for ---------------------------------------------------------------------------------------------

local function is_result(value)
  return type(value) == "table" and type(value.result) == "string" and (value.domain == nil or type(value.domain) == "string")
end

local function mistake(given)
  if type(given) ~= "table" then
    return ("a table expected, got a %s"):format(type(given))
  end
  for name in pairs(given) do
    if not known[name] then
      return ('unknown option "%s"%s'):format(tostring(name):gsub("%c", "?"), suggest.hint(name, known))
    end
  end
  if type(given.from_domain) ~= "string" then
    return ("from_domain: a name expected, got a %s"):format(type(given.from_domain))
  elseif given.spf ~= nil and not is_result(given.spf) then
    return "spf: a table with result and domain expected"
  elseif given.dkim ~= nil and (type(given.dkim) ~= "table" or given.dkim.result) then
    return "dkim: a list of tables with result and domain expected"
  elseif given.dns ~= nil and not lookups.is_source(given.dns) then
    return "dns: what dns.resolver or dns.zone returned is expected"
  elseif given.psl ~= nil and not psl.is_list(given.psl) then
    return "psl: what psl.load returned is expected"
  elseif given.method ~= nil and given.method ~= "psl" and given.method ~= "walk" then
    return 'method: "psl" or "walk" expected'
  elseif given.random ~= nil and type(given.random) ~= "function" then
    return "random: a function expected"
  end
  for i, one in ipairs(given.dkim or {}) do
    if not is_result(one) then
      return ("dkim[%d]: a table with result and domain expected"):format(i)
    end
  end
end

-- ---- organizational domains ----------------------------------------------------------------------------------------

-- What is known of the DNS for this message: whose domain is whose.
local function survey(given, domain, identifiers, asked)
  local walk = given.method == "walk"
  local list, source = given.psl or psl.default(), given.dns or dns.default()
  local names, organization = {}, {}
  if walk then
    for _, name in ipairs { domain, table.unpack(identifiers) } do
      table.move(find.path(name), 1, #find.path(name), #names + 1, names)
    end
  else
    organization[domain] = find.organization(domain, list)
    names = { domain, organization[domain] }
  end
  local of = find.ask(source, names, asked)
  local psd
  if walk then
    organization[domain], psd = find.walk(domain, of)
  end
  for _, name in ipairs(identifiers) do
    if walk then
      organization[name] = find.walk(name, of)
    else
      organization[name] = find.organization(name, list)
    end
  end
  return { of = of, organization = organization, psd = psd, source = source, walk = walk }
end

-- ---- the record ----------------------------------------------------------------------------------------------------

-- Where the record is that applies; or nil, a result, and why.
local function discover(known_of, domain)
  local tried = {}
  for _, name in ipairs { domain, known_of.organization[domain] or domain, known_of.psd } do
    local found = known_of.of[name]
    if found and not tried[name] then
      tried[name] = true
      if found.failed then
        return nil, "temperror", ("_dmarc.%s: %s"):format(name, found.failed)
      elseif found.several and not known_of.walk then -- the search ends there (RFC 7489 6.6.3)
        return nil, "permerror", ("_dmarc.%s has several records"):format(name)
      elseif found.record then
        return name, found.record
      end
    end
  end
  if not known_of.organization[domain] then
    return nil, "temperror", "a question of the walk up the tree has no answer"
  end
  return nil, "none", "no record"
end

-- Whether a name is nobody's (RFC 9989 3.2.13, RFC 9091 2.7). What cannot be known exists.
local function is_nonexistent(known_of, domain)
  local questions = { { domain, "A" }, { domain, "AAAA" }, { domain, "MX" } }
  known_of.source:_ask_all(questions)
  for _, question in ipairs(questions) do
    local answer = question.answer
    if not answer or answer[1] or known_of.walk and not answer.nxdomain then
      return false
    end
  end
  return true
end

local function policy_of(verdict, record, known_of)
  if verdict.domain == verdict.record_domain then
    return record.p
  elseif record.np and is_nonexistent(known_of, verdict.domain) then
    verdict.nonexistent = true
    return record.np
  end
  return record.sp or record.p
end

-- ---- alignment -----------------------------------------------------------------------------------------------------

local function is_aligned(domain, from, mode, organization)
  if not domain then
    return false
  end
  local name = core.dns_name(domain)
  if not name or name == from then
    return name == from
  end
  local mine, other = organization[from], organization[name]
  return mode == "r" and mine ~= nil and mine == other
end

-- Copies of what SPF and DKIM found, each with `aligned`; whether one of them vouches, and whether one might have.
local function align(verdict, given, record, organization)
  local pass, perhaps = false, false
  local function look(one, mode)
    local copy = { result = one.result, domain = one.domain, selector = one.selector, scope = one.scope or one.identity }
    copy.aligned = is_aligned(one.domain, verdict.domain, mode, organization)
    pass = pass or copy.aligned and copy.result == "pass"
    perhaps = perhaps or copy.aligned and copy.result == "temperror"
    return copy
  end
  verdict.spf = given.spf and look(given.spf, record.aspf)
  verdict.dkim = {}
  for i, one in ipairs(given.dkim or {}) do
    verdict.dkim[i] = look(one, record.adkim)
  end
  return pass, perhaps
end

-- The domains whose organization matters: those that might vouch, and are below the same top. A message can have many signatures, and each
-- would be asked for.
local function identifiers(given, domain)
  local list, seen = {}, { [domain] = true }
  local top = domain:match("[^.]+$")
  local function add(one)
    local useful = (one.result == "pass" or one.result == "temperror") and one.domain and #list < IDENTIFIERS_MOST
    local name = useful and core.dns_name(one.domain)
    if name and not seen[name] and name:match("[^.]+$") == top then
      seen[name] = true
      list[#list + 1] = name
    end
  end
  add(given.spf or {})
  for _, one in ipairs(given.dkim or {}) do
    add(one)
  end
  return list
end

-- ---- the verdict ---------------------------------------------------------------------------------------------------

-- What is to be done with a message that failed. A part of them only, or none, where its owner is trying things out.
local function dispose(verdict, record, given, walk)
  verdict.disposition = verdict.policy
  if walk then
    if record.t == "y" and verdict.policy ~= "none" then
      verdict.disposition, verdict.sampled_out = "none", true
    end
  elseif record.pct < 100 and (given.random or math.random)() * 100 >= record.pct then
    verdict.sampled_out = verdict.policy ~= "none" or nil
    verdict.disposition = weaker[verdict.policy] -- RFC 7489 6.6.4
  end
end

--- Asks for the records of a domain before anybody knows what SPF and DKIM find.
---@async
---@param given { from_domain: string, dns: moonpost.dns.Resolver, psl?: moonpost.psl.List, method?: "psl"|"walk" }
---@return table asked for `check`
function M._ahead(given)
  local domain = core.dns_name(given.from_domain)
  if not domain then
    return {}
  elseif given.method == "walk" then
    return find.ask(given.dns, find.path(domain))
  end
  return find.ask(given.dns, { domain, find.organization(domain, given.psl or psl.default()) })
end

--- Judges a message. Asks for one or two records, or for those of the names above (`method = "walk"`), all at once.
---@async
---@param given moonpost.dmarc.Options
---@param asked? table what `_ahead` returned
---@return moonpost.dmarc.Verdict
function M.check(given, asked)
  local why = mistake(given)
  if why then
    error("dmarc.check: " .. why, 2)
  end
  local domain = core.dns_name(given.from_domain)
  local verdict = { domain = domain or given.from_domain, policy = "none", disposition = "none", method = given.method or "psl" }
  local function settle(result, reason)
    verdict.result, verdict.reason = result, reason
    return verdict
  end
  if not domain or domain:find("[%[%]]") then
    align(verdict, given, { aspf = "s", adkim = "s" }, {})
    return settle("permerror", "From has no domain")
  end
  local known_of = survey(given, domain, identifiers(given, domain), asked)
  verdict.organization = known_of.organization[domain]
  local where, record, reason = discover(known_of, domain)
  local followed = where ~= nil
  if followed then
    followed, reason = records.settle(record, known_of.walk)
  end
  local pass, perhaps = align(verdict, given, followed and record or { aspf = "r", adkim = "r" }, known_of.organization)
  if not where then
    return settle(record, reason)
  elseif not followed then
    return settle("permerror", reason)
  end
  verdict.record, verdict.record_domain = record, where
  verdict.policy = policy_of(verdict, record, known_of)
  if pass then
    return settle "pass"
  elseif perhaps or not verdict.organization then -- nobody can tell that it failed (RFC 7489 6.6.2)
    return settle("temperror", perhaps and "SPF or DKIM could not be checked" or "a question of the walk up the tree has no answer")
  end
  dispose(verdict, record, given, known_of.walk)
  return settle("fail", "neither SPF nor DKIM vouch for the domain")
end

--- The domain in From, which must be one: for `check`. A message that has none or several is one that RFC 5322 does not know, or that nobody can
--- judge; it is best refused.
---@param message moonpost.Message|string[] or the values of its From fields
---@return string? domain A-labels
---@return string? why
function M.author(message)
  local values = message
  if type(message) == "table" and message.headers then
    values = message.headers:all "From"
  end
  if type(values) ~= "table" then
    error(("dmarc.author: a message expected, got a %s"):format(type(message)), 2)
  end
  return author.domain(values)
end

--- The addresses that reports may go to: those of the domain itself, and those elsewhere that agreed to it (RFC 7489 7.1).
---@async
---@param of moonpost.dmarc.Verdict|moonpost.dmarc.Row|moonpost.dmarc.AggregateReport what has a record_domain, and the addresses
---@param given? { kind?: "rua"|"ruf", dns?: moonpost.dns.Resolver, psl?: moonpost.psl.List }
---@return moonpost.dmarc.Address[] agreed
---@return moonpost.dmarc.Refusal[] others those that did not, or could not be asked
function M.destinations(of, given)
  given = given or {}
  if type(given) ~= "table" then
    error(("dmarc.destinations: a table of options expected, got a %s"):format(type(given)), 2)
  end
  for name in pairs(given) do
    if not known_of_destinations[name] then
      local hint = suggest.hint(name, known_of_destinations)
      error(('dmarc.destinations: unknown option "%s"%s'):format(tostring(name):gsub("%c", "?"), hint), 2)
    end
  end
  local kind = given.kind or "rua"
  if kind ~= "rua" and kind ~= "ruf" then
    error('dmarc.destinations: kind: "rua" or "ruf" expected', 2)
  elseif type(of) ~= "table" then
    error(("dmarc.destinations: a verdict, a row or a report expected, got a %s"):format(type(of)), 2)
  elseif of[1] then
    error("dmarc.destinations: a verdict, a row or a report expected, one at a time", 2)
  elseif given.dns ~= nil and not lookups.is_source(given.dns) then
    error("dmarc.destinations: dns: what dns.resolver or dns.zone returned is expected", 2)
  elseif given.psl ~= nil and not psl.is_list(given.psl) then
    error("dmarc.destinations: psl: what psl.load returned is expected", 2)
  end
  local addresses = {}
  for _, one in ipairs(of[kind] or of.record and of.record[kind] or {}) do
    addresses[#addresses + 1] = type(one) == "string" and records.address(one) or type(one) == "table" and one or nil
  end
  if not of.record_domain then
    return {}, {}
  end
  return destinations.of(of.record_domain, addresses, kind, given.dns or dns.default(), given.psl or psl.default())
end

--- What authres.format writes of a verdict.
---@param verdict moonpost.dmarc.Verdict
---@return moonpost.authres.Result
function M.authres(verdict)
  local comment
  if verdict.record then
    comment = ("p=%s dis=%s"):format(verdict.policy, verdict.disposition)
  end
  return {
    method = "dmarc", result = verdict.result, comment = comment, reason = verdict.result ~= "fail" and verdict.reason or nil,
    properties = { { "header.from", verdict.domain } },
  }
end

return M
