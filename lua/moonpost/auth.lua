--- Who sent a message: SPF, DKIM, ARC, the client's name and DMARC in one call (RFC 7208, 6376, 8617, 8601, 7489). All that can be asked at once
--- is asked at once. docs/authentication.md explains it; options and results are typed in lua/moonpost/_meta/auth.lua.
---
---     local found = moonpost.auth.verify(session, message)
---     message:prepend("Authentication-Results", found.header)
---     if found.disposition == "reject" then return 550, "5.7.1", "Refused, as " .. found.from .. " asks for (DMARC)" end
local arc = require "moonpost.arc"
local authres = require "moonpost.authres"
local core = require "moonpost.core"
local dkim = require "moonpost.dkim"
local dmarc = require "moonpost.dmarc"
local dns = require "moonpost.dns"
local iprev = require "moonpost.iprev"
local lookups = require "moonpost.dns.lookups"
local options_of = require "moonpost.options"
local psl = require "moonpost.psl"
local spf = require "moonpost.spf"
local task = require "moonpost.task"
local words = require "moonpost.auth.words"

local M = {}

local LATE = "no answer in time"
-- Shares of the time for everything: each check ends by itself first, with what it knows, so that a domain whose server is slow on purpose leaves
-- no other unjudged; then all of them; and a verdict can be made of what has been found.
local INNER, OUTER = 0.8, 0.9

M._schema = {
  { name = "id", type = "string", null = true, doc = "our name in Authentication-Results",
    check = function(name)
      return name == "" and "the name of this host expected" or nil
    end },
  { name = "own", type = "strings", default = {}, doc = "further names of ours, which nobody outside may speak in" },
  { name = "timeout", type = "duration", default = 20, doc = "for everything together" },
  { name = "dns", type = "any", null = true,
    check = function(value)
      return not lookups.is_source(value) and "what dns.resolver or dns.zone returned is expected" or nil
    end },
  { name = "psl", type = "any", null = true,
    check = function(value)
      return not psl.is_list(value) and "what psl.load returned is expected" or nil
    end },
  { name = "method", type = "choice", values = { "psl", "walk" }, default = "psl", doc = "how organizational domains are found" },
  { name = "time", type = "integer", null = true, doc = "seconds since 1970; now" },
  { name = "sealers", type = "strings", default = {}, doc = "domains whose seals are believed",
    check = function(list)
      for _, name in ipairs(list) do
        if not core.dns_name(name) then
          return ('"%s" is no domain'):format(name:gsub("%c", "?"))
        end
      end
    end },
}

-- ---- what is looked at ----------------------------------------------------------------------------------------------

-- Each has its place in what is returned, a function, and what it comes to when there is no answer in time.
local checks = {
  {
    key = "spf",
    run = function(context)
      return context.ip and context.sender ~= "" and spf.check {
        ip = context.ip, mailfrom = context.sender, helo = context.helo, receiver = context.id, dns = context.dns, timeout = context.inner,
      } or nil
    end,
    late = function(context)
      return { result = "temperror", identity = "mailfrom", domain = context.sender:match "[^@]*$", problem = LATE }
    end,
  },
  {
    key = "helo",
    run = function(context)
      return context.ip and context.helo ~= "" and spf.check {
        ip = context.ip, helo = context.helo, identity = "helo", receiver = context.id, dns = context.dns, timeout = context.inner,
      } or nil
    end,
    late = function(context) return { result = "temperror", identity = "helo", domain = context.helo, problem = LATE } end,
  },
  {
    key = "iprev",
    run = function(context)
      return context.ip and iprev.check { ip = context.ip, dns = context.dns, timeout = context.inner } or nil
    end,
    late = function(context) return { result = "temperror", ip = context.ip, names = {}, problem = LATE } end,
  },
  {
    key = "dkim",
    run = function(context)
      local list, err = dkim.verify(context.message, { dns = context.dns, time = context.time, timeout = context.inner })
      context.unjudged = err and err.temporary -- not what a sender can bring about
      return list or { { result = "temperror", reason = tostring(err), headers = {}, testing = false } }
    end,
    late = function() return { { result = "temperror", reason = LATE, headers = {}, testing = false } } end,
  },
  {
    key = "arc",
    run = function(context)
      local chain, err = arc.verify(context.message, { dns = context.dns, time = context.time, timeout = context.inner })
      return chain or { result = "fail", reason = tostring(err), temporary = true, instance = 0, sets = {} }
    end,
    late = function() return { result = "fail", reason = LATE, temporary = true, instance = 0, sets = {} } end,
  },
  {
    key = "records", -- of DMARC
    run = function(context)
      return context.from and dmarc._ahead { from_domain = context.from, dns = context.dns, psl = context.psl, method = context.method } or nil
    end,
  },
}

-- Where there is nothing to look at.
local function nothing(problem)
  return {
    spf = { result = "none", identity = "mailfrom", problem = problem },
    helo = { result = "none", identity = "helo", problem = problem },
    iprev = { result = "none", names = {}, problem = problem },
  }
end

local mt_group = {
  __close = function(group)
    for _, one in ipairs(group) do
      if not one:finished() then
        one:cancel()
      end
    end
  end,
}

-- Fills `found`, everything at once.
local function look(context, found)
  local group <close> = setmetatable({}, mt_group)
  for i, check in ipairs(checks) do
    group[i] = task.spawn(function()
      found[check.key] = check.run(context)
      found.done[check.key] = true
    end)
  end
  for _, one in ipairs(group) do
    one:join()
  end
  return true
end

-- ---- DMARC ----------------------------------------------------------------------------------------------------------

local function no_verdict(context, result, reason)
  return {
    result = result, reason = reason, domain = context.from or "", policy = "none", disposition = "none", dkim = {},
    method = context.method,
  }
end

-- Which of SPF's identities vouches: the reverse-path's, and HELO's where that is empty (RFC 7489 3.1.2).
local function vouching(context, found)
  return context.sender ~= "" and found.spf or found.helo
end

local function judge(context, found)
  found.dmarc = dmarc.check({
    from_domain = context.from, spf = vouching(context, found), dkim = found.dkim, dns = context.dns, psl = context.psl,
    method = context.method,
  }, found.records)
  return true
end

-- A verdict that what is not known might change is none.
local function settle(context, found)
  if not context.from then
    found.dmarc = no_verdict(context, "permerror", context.why)
  elseif not found.dmarc then
    found.dmarc = no_verdict(context, "temperror", LATE)
  elseif (not found.done.dkim or context.unjudged) and found.dmarc.result == "fail" then
    found.dmarc.result, found.dmarc.reason, found.dmarc.disposition = "temperror", LATE, "none"
  end
end

-- ---- sealers --------------------------------------------------------------------------------------------------------

-- Whether a set says that DMARC passed for this author when its sealer had the message.
local function says_pass(set, from)
  local field = authres.parse(set.results)
  for _, one in ipairs(field and field.results or {}) do
    local domain = one.properties and one.properties["header.from"]
    if one.method == "dmarc" and one.result == "pass" and domain and core.dns_name(domain) == from then
      return true
    end
  end
  return false
end

-- RFC 8617 7.2: from the newest set down, as long as who sealed is believed. What lies below somebody who is not may have been taken from
-- another message.
local function believed(context, found)
  local chain = found.arc
  if chain.result ~= "pass" or found.dmarc.result ~= "fail" or not next(context.sealers) then
    return nil
  end
  for i = chain.instance, 1, -1 do
    local domain = core.dns_name(chain.sets[i].domain)
    if not context.sealers[domain] then
      return nil
    elseif says_pass(chain.sets[i], context.from) then
      return { domain = domain, instance = i }
    end
  end
end

-- ---- the call -------------------------------------------------------------------------------------------------------

local function context_of(session, message, options)
  local names = {}
  for _, name in ipairs(options.sealers) do
    names[core.dns_name(name)] = true
  end
  local from, why = dmarc.author(message)
  return {
    message = message, ip = session.ip, helo = session.helo or "", sender = message.sender.address or "", from = from, why = why,
    id = options.id or session._house.hostname, dns = options.dns or dns.default(), psl = options.psl, method = options.method,
    time = options.time, inner = options.timeout * INNER, sealers = names,
  }
end

local function verify(session, message, options)
  local context = context_of(session, message, options)
  local found = { done = {}, from = context.from, ip = context.ip }
  local ids = { context.id, table.unpack(options.own) }
  found.removed = authres.strip(message, ids)
  local worker = task.worker()
  local start = worker:now()
  task.timeout(options.timeout * OUTER, look, context, found)
  local empty = nothing(context.ip and "there is no name" or "the client has no address")
  for _, check in ipairs(checks) do
    if not found.done[check.key] and check.late then
      found[check.key] = (context.ip or not empty[check.key]) and check.late(context) or nil
    end
    found[check.key] = found[check.key] or empty[check.key]
  end
  if found.records then
    task.timeout(math.max(0, start + options.timeout - worker:now()), judge, context, found)
  end
  settle(context, found)
  found.override = believed(context, found)
  found.disposition = found.override and "none" or found.dmarc.disposition
  found.results = words.results(found, context.sender, context.helo)
  found.header = authres.format { id = context.id, results = found.results }
  found.done, found.records = nil, nil
  return found
end

--- Finds out who sent a message as it was received, and takes the Authentication-Results away that claim to be ours.
---@async
---@param session moonpost.Session
---@param message moonpost.Message
---@param options? moonpost.auth.Options
---@return moonpost.auth.Found
function M.verify(session, message, options)
  if type(message) ~= "table" or getmetatable(message) ~= "moonpost.Message" then
    error(("auth.verify: a message expected, got a %s"):format(type(message)), 2)
  elseif type(session) ~= "table" or getmetatable(session) ~= "moonpost.Session" then
    error(("auth.verify: a session expected, got a %s"):format(type(session)), 2)
  end
  local values, why = options_of.values(M._schema, options or {})
  if not values then
    error("auth.verify: " .. why, 2)
  end
  return verify(session, message, values)
end

--- For who checks options once and verifies often: `options` as `_schema` resolved them.
M._verify = verify

return M
