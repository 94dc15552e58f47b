--- moonpost.spf: who may send mail for a domain (RFC 7208). Waits, in tasks and in a plain script.
---
---     local spf = moonpost.spf.check { ip = session.ip, mailfrom = sender.address, helo = session.helo }
---     if spf.result == "fail" then return 550, "5.7.23", spf.explanation end
local address = require "moonpost.spf.address"
local dns = require "moonpost.dns"
local evaluate = require "moonpost.spf.evaluate"
local lookups = require "moonpost.dns.lookups"
local macro = require "moonpost.spf.macro"
local options_of = require "moonpost.options"
local task = require "moonpost.task"

local M = {}

local schema = {
  { name = "ip", type = "string", doc = "of the client" },
  { name = "mailfrom", type = "string", default = "", doc = "the reverse-path; empty: HELO's identity is checked" },
  { name = "helo", type = "string", default = "" },
  { name = "identity", type = "choice", values = { "mailfrom", "helo" } },
  { name = "receiver", type = "string", default = "unknown", doc = "our name, for macros in explanations" },
  { name = "explanation", type = "string", default = "%{d} does not let %{c} send mail for it", check = function(value)
    return select(2, macro.read(value, true))
  end },
  { name = "voids", type = "integer", default = 2, doc = "terms that may ask for what is not there" },
  { name = "timeout", type = "duration", default = 20 },
  { name = "dns", type = "any", check = function(value)
    return not lookups.is_source(value) and "what dns.resolver or dns.zone returned is expected" or nil
  end },
}

-- The identity that is checked: its kind, its domain as it was written, and its local-part (RFC 7208 2.3, 2.4, 4.3).
local function identity_of(options)
  local kind = options.identity or (options.mailfrom == "" and "helo" or "mailfrom")
  if kind == "helo" then
    return kind, options.helo, "postmaster"
  end
  local localpart, domain = options.mailfrom:match "^(.*)@([^@]*)$"
  return kind, domain or "", localpart ~= "" and localpart or "postmaster"
end

-- A name with several labels, and no address in the clothes of one.
local function domain_of(text)
  local ascii = lookups.to_ascii(text)
  if ascii and ascii:find(".", 1, true) and not ascii:find "[%[%]]" and not address.digits(ascii) then
    return ascii
  end
end

local function evaluated(state, domain, default)
  local result, details = evaluate.check_host(state, domain)
  if result == "fail" then
    details.explanation = details.exp and evaluate.explain(state, details.exp, details.domain)
    details.explained = details.explanation ~= nil
    details.explanation = details.explanation or evaluate.default_explanation(state, default, details.domain)
  end
  return result, details
end

--- Checks one identity of a client.
---@async
---@param given moonpost.spf.Options
---@return moonpost.spf.Result result
function M.check(given)
  local options, wrong = options_of.values(schema, given or {})
  if not options then
    error("spf.check: " .. wrong, 2)
  end
  local ip, digits = address.read(options.ip or "")
  if not ip then
    error("spf.check: ip: an address expected", 2)
  end
  local kind, written, localpart = identity_of(options)
  local domain = domain_of(written)
  local state = {
    source = options.dns or dns.default(), ip = ip, digits = digits, localpart = localpart, helo = options.helo,
    sender_domain = domain or written, sender = localpart .. "@" .. (domain or written), receiver = options.receiver,
    now = math.floor(task.worker():time()), voids_most = options.voids, lookups = 0, voids = 0,
  }
  local result, details
  if domain then
    result, details = task.timeout(options.timeout, evaluated, state, domain, options.explanation)
  else
    result, details = "none", { problem = written == "" and "there is no domain" or "the domain is no name with a record" }
  end
  if not result then -- RFC 7208 4.6.4
    result, details = "temperror", { problem = "the look-ups took too long" }
  end
  return {
    result = result, identity = kind, domain = domain or written, mechanism = details.mechanism, explanation = details.explanation,
    explained = details.explained, problem = details.problem, lookups = state.lookups, voids = state.voids,
    ip = ip, helo = options.helo, sender = state.sender,
  }
end

local sentences = {
  pass = "%s: %s may send mail for %s",
  fail = "%s: %s may not send mail for %s",
  softfail = "%s: %s should not send mail for %s",
  neutral = "%s: nothing is said about %s and %s",
  none = "%s: %s: there is no record of %s",
  temperror = "%s: %s: the record of %s could not be looked up",
  permerror = "%s: %s: the record of %s is not valid",
}

-- Peers' words in a header field: nothing but printable ASCII, and no longer than it has to be.
local function clean(text)
  return (text:sub(1, 255):gsub("[^ -~]", "?"))
end

local function quoted(text)
  text = clean(text)
  if text ~= "" and not text:find "[^%w!#$%%&'*+/=?^_`{|}~.-]" and not text:find "^%." and not text:find "%.$" and not text:find("..", 1, true) then
    return text
  end
  return '"' .. text:gsub('["\\]', "\\%0") .. '"'
end

--- The value of a Received-SPF field (RFC 7208 9.1).
---@param checked moonpost.spf.Result
---@param receiver string our name
---@return string
function M.received(checked, receiver)
  local told = sentences[checked.result]:format(clean(receiver), checked.ip, clean(checked.domain)):gsub("[()\\]", "\\%0")
  local parts = { ("client-ip=%s"):format(quoted(checked.ip)), ("envelope-from=%s"):format(quoted(checked.sender)) }
  for _, pair in ipairs {
    { "helo", checked.helo }, { "identity", checked.identity }, { "receiver", receiver }, { "mechanism", checked.mechanism or "" },
    { "problem", checked.problem or "" },
  } do
    if pair[2] ~= "" then
      parts[#parts + 1] = ("%s=%s"):format(pair[1], quoted(pair[2]))
    end
  end
  return ("%s (%s) %s"):format(checked.result, told, table.concat(parts, "; "))
end

return M
