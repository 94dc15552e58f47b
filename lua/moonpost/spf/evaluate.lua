--- check_host() (RFC 7208 4): a record and what it refers to, for one client. Every look-up waits; every number that a stranger could drive up
--- has a ceiling.
local address = require "moonpost.spf.address"
local iprev = require "moonpost.iprev"
local lookups = require "moonpost.dns.lookups"
local macro = require "moonpost.spf.macro"
local record_of = require "moonpost.spf.record"

local M = {}

local LOOKUPS_MOST = 10 -- terms that ask the DNS (RFC 7208 4.6.4)
local NAMES_MOST = 10 -- mail exchangers of one mx
local EXPLANATION_MOST = 1000 -- octets, of a text that strangers wrote and that goes into a reply

---@class moonpost.spf.State
---@field source moonpost.dns.Resolver
---@field ip string
---@field digits string
---@field sender string
---@field localpart string
---@field sender_domain string
---@field helo string
---@field receiver string
---@field now integer
---@field voids_most integer
---@field lookups integer
---@field voids integer

-- A name that the DNS can be asked for: what macros make of strangers' words need not be one (RFC 7208 4.3, 4.8).
local function askable(name)
  if name == "" or #name > 253 or name:find "[^ -~]" or name:find("\\", 1, true) or name:find("..", 1, true) or name:sub(1, 1) == "." then
    return false
  end
  for label in name:gmatch "[^.]+" do
    if #label > 63 then
      return false
    end
  end
  return true
end

-- An answer, empty for what is no name; or nil, "temperror" and why.
local function ask(state, name, kind)
  if not askable(name) then
    return { nxdomain = true }
  end
  name = name:lower()
  local answer, what, why = state.source:_ask(name, kind)
  if not answer then
    return nil, "temperror", tostring(lookups.failure(name, kind, what, why))
  end
  return answer
end

-- The names that lead back to the client, looked for once.
local function confirmed(state)
  if not state.confirmed then
    local list, _, told = iprev._confirmed(state.source, state.ip)
    state.confirmed, state.nameless = list or {}, told.void
  end
  return state.confirmed
end

local function is_below(name, domain)
  return name:sub(-#domain - 1) == "." .. domain
end

-- %{p}: the domain itself, else a name below it, else any (RFC 7208 7.3).
local function client_name(state, domain)
  local best = "unknown"
  domain = domain:lower()
  for _, name in ipairs(confirmed(state)) do
    if name == domain then
      return name
    elseif best == "unknown" or is_below(name, domain) and not is_below(best, domain) then
      best = name
    end
  end
  return best
end

local function values(state, domain)
  return function(letter)
    if letter == "s" then
      return state.sender
    elseif letter == "l" then
      return state.localpart
    elseif letter == "o" then
      return state.sender_domain
    elseif letter == "d" then
      return domain
    elseif letter == "i" then
      return address.dotted(state.ip, state.digits)
    elseif letter == "p" then
      return client_name(state, domain)
    elseif letter == "v" then
      return #state.digits == 8 and "in-addr" or "ip6"
    elseif letter == "h" then
      return state.helo
    elseif letter == "c" then
      return state.ip
    elseif letter == "r" then
      return state.receiver
    end
    return tostring(state.now) -- t
  end
end

-- The name a term is about. nil: a local-part that is not ASCII has no form in the DNS, and such terms do not match (RFC 8616 4).
local function target(state, spec, domain)
  if not spec then
    return domain
  elseif (spec.uses.s or spec.uses.l) and state.localpart:find "[\x80-\xff]" then
    return nil
  end
  return macro.name(spec, values(state, domain))
end

local function count(state)
  state.lookups = state.lookups + 1
  if state.lookups > LOOKUPS_MOST then
    return "permerror", ("more than %d terms ask the DNS"):format(LOOKUPS_MOST)
  end
end

local function any_within(state, answer, term)
  local bits = #state.digits == 8 and term.bits4 or term.bits6
  for _, ip in ipairs(answer) do
    local digits = address.digits(ip)
    if digits and address.same(digits, state.digits, bits) then
      return true
    end
  end
  return false
end

local function family(state)
  return #state.digits == 8 and "A" or "AAAA"
end

-- Each mechanism returns whether it matches and whether what it asked for is not there; or nil, the result and why.
local mechanisms = {}

function mechanisms.all()
  return true
end

local function network(state, term)
  return address.same(term.digits, state.digits, term.bits)
end
mechanisms.ip4, mechanisms.ip6 = network, network

function mechanisms.a(state, term, name)
  local answer, result, problem = ask(state, name, family(state))
  if not answer then
    return nil, result, problem
  end
  return any_within(state, answer, term), #answer == 0
end

function mechanisms.exists(state, _, name)
  local answer, result, problem = ask(state, name, "A")
  if not answer then
    return nil, result, problem
  end
  return #answer > 0, #answer == 0
end

-- All exchangers are asked for at once; a match beside one that could not be asked is a match.
function mechanisms.mx(state, term, name)
  local answer, result, problem = ask(state, name, "MX")
  if not answer then
    return nil, result, problem
  elseif #answer > NAMES_MOST then
    return nil, "permerror", ("%s has more than %d mail exchangers"):format(name, NAMES_MOST)
  end
  local questions = {}
  for _, exchanger in ipairs(answer) do
    if askable(exchanger.host) then
      questions[#questions + 1] = { exchanger.host:lower(), family(state) }
    end
  end
  if questions[1] then
    state.source:_ask_all(questions)
  end
  local void, failed = #answer == 0, nil
  for _, question in ipairs(questions) do
    if not question.answer then
      failed = failed or question
    elseif any_within(state, question.answer, term) then
      return true
    else
      void = void or #question.answer == 0
    end
  end
  if failed then
    return nil, "temperror", tostring(lookups.failure(failed[1], failed[2], failed.kind, failed.why))
  end
  return false, void
end

-- What cannot be asked for does not match (RFC 7208 5.5).
function mechanisms.ptr(state, _, name)
  name = name:lower()
  for _, one in ipairs(confirmed(state)) do
    if one == name or is_below(one, name) then
      return true
    end
  end
  return false, state.nameless
end

local included = { pass = true, fail = false, softfail = false, neutral = false }

function mechanisms.include(state, term, name)
  local result, details = M.check_host(state, name)
  if included[result] ~= nil then
    return included[result]
  elseif result == "none" then
    return nil, "permerror", ("%s: %s has no record"):format(term.text, name)
  end
  return nil, result, details.problem
end

local free = { all = true, ip4 = true, ip6 = true } -- what asks nobody

-- Whether a term matches; or nil, the result and why.
local function try(state, term, domain)
  local name
  if not free[term.name] then
    local result, problem = count(state)
    if result then
      return nil, result, problem
    end
    name = target(state, term.domain, domain)
    if not name then
      return false
    end
  end
  local match, void, problem = mechanisms[term.name](state, term, name)
  if match == nil then
    return nil, void, problem
  elseif void and not match then
    state.voids = state.voids + 1
    if state.voids > state.voids_most then
      return nil, "permerror", ("more than %d terms ask for what is not there"):format(state.voids_most)
    end
  end
  return match
end

-- The one record of a domain (RFC 7208 4.4, 4.5); nil, result and why.
local function select_record(state, domain)
  if not domain:find(".", 2, true) or not askable(domain) then
    return nil, "none", ("%s is no name that could have a record"):format(domain == "" and "an empty name" or domain)
  end
  local answer, result, problem = ask(state, domain, "TXT")
  if not answer then
    return nil, result, problem
  end
  local text
  for _, one in ipairs(answer) do
    if record_of.is_record(one) then
      if text then
        return nil, "permerror", ("%s has more than one record"):format(domain)
      end
      text = one
    end
  end
  if not text then
    return nil, "none", ("%s has no record"):format(domain)
  end
  local record, wrong = record_of.read(text)
  if not record then
    return nil, "permerror", ("record of %s: %s"):format(domain, wrong)
  end
  return record
end

--- Evaluates the record of a domain.
---@async
---@param state moonpost.spf.State
---@param domain string
---@return string result
---@return { mechanism?: string, problem?: string, exp?: moonpost.spf.Macro, domain: string } details
function M.check_host(state, domain)
  local record, result, problem = select_record(state, domain)
  if not record then
    return result, { problem = problem, domain = domain }
  end
  for _, term in ipairs(record) do
    local match, wrong, why = try(state, term, domain)
    if match then
      return term.result, { mechanism = term.text, exp = record.exp, domain = domain }
    elseif match == nil then
      return wrong, { mechanism = term.text, problem = why, domain = domain }
    end
  end
  if not record.redirect then
    return "neutral", { mechanism = "default", domain = domain }
  end
  result, problem = count(state)
  local name = not result and target(state, record.redirect, domain)
  if result or not name then
    return result or "permerror", { problem = problem or "redirect: the name cannot be formed", domain = domain }
  end
  local details
  result, details = M.check_host(state, name)
  if result == "none" then -- RFC 7208 6.1
    result, details.problem = "permerror", ("redirect: %s"):format(details.problem)
  end
  return result, details
end

--- What the domain has to say about a failure (RFC 7208 6.2); nil when it says nothing, or nothing that may be shown.
---@async
---@param state moonpost.spf.State
---@param spec moonpost.spf.Macro
---@param domain string
---@return string?
function M.explain(state, spec, domain)
  local name = target(state, spec, domain)
  local answer = name and ask(state, name, "TXT")
  if not answer or #answer ~= 1 then
    return nil
  end
  local text = macro.read(answer[1], true)
  local expanded = text and macro.text(text, values(state, domain), EXPLANATION_MOST)
  return expanded and not expanded:find "[^ -~]" and expanded ~= "" and expanded or nil
end

--- A text of our own, with macros; what strangers said in them is printable ASCII then.
---@param state moonpost.spf.State
---@param text string
---@param domain string
---@return string
function M.default_explanation(state, text, domain)
  local expanded = macro.text(macro.read(text, true), values(state, domain), EXPLANATION_MOST) or ""
  return (expanded:gsub("[^ -~]", "?"))
end

return M
