--- TLS of an outgoing connection: the `tls` option, what is asked of a session because of it, and what is said of one in results.
local Error = require "moonpost.error"
local destination = require "moonpost.destination"
local options_of = require "moonpost.options"
local tlspolicy = require "moonpost.tlspolicy"

local M = {}

local schema = {
  { name = "level", type = "choice", values = tlspolicy.levels, doc = "verified where credentials are sent, else opportunistic" },
  { name = "names", type = "strings", doc = "that its certificate may have; the host's when left out" },
  { name = "ca", type = "string", doc = "file or folder of authorities, instead of the system's" },
  { name = "pins", type = "strings", doc = "SHA-256 fingerprints, in hex, of certificate or key; any is enough" },
  { name = "certificate", type = "string", doc = "of ours, PEM" }, { name = "key", type = "string", doc = "PEM" },
  { name = "sni", type = "string" },
  { name = "min_version", type = "choice", values = { "1.2", "1.3", "1.1", "1.0" }, default = "1.2" },
  { name = "ciphers", type = "string" }, { name = "ciphersuites", type = "string" },
}

local count = 0

local function pins_of(list)
  for i, pin in ipairs(list) do
    local hex = pin:gsub(":", ""):lower()
    if #hex ~= 64 or hex:find("%X") then
      return nil, ("tls.pins: %q is no SHA-256 fingerprint"):format(pin)
    end
    list[i] = hex
  end
  return list
end

--- The checked option.
---@param value nil|string|table
---@param credentials boolean
---@param at string
---@return table? settings
---@return string? why
function M.settings(value, credentials, at)
  if type(value) == "string" then
    value = { level = value }
  elseif value ~= nil and type(value) ~= "table" then
    return nil, ("tls: a level such as \"required\", or a table expected, got a %s"):format(type(value))
  end
  local settings, why = options_of.resolve(schema, value or {}, at, "tls.")
  if not settings then
    return nil, why
  end
  if settings.pins then
    settings.pins, why = pins_of(settings.pins)
    if not settings.pins then
      return nil, why
    end
    settings.level = settings.level or "verified"
  end
  count = count + 1
  settings.id, settings.credentials = count, credentials
  return settings
end

-- Under a DANE-TA record a certificate may be for the domain that the mail is for (RFC 7672 3.2.2): a connection that was proved so is good for no
-- other domain at the same host.
local function also(policy)
  for _, record in ipairs(policy.tlsa or {}) do
    if record.usage == 2 then
      return " " .. table.concat(policy.names, " ")
    end
  end
  return ""
end

--- What a connection to `host` has to be.
---@param settings table
---@param host string
---@param found? { dane?: moonpost.Dane, sts?: table, requiretls?: boolean, unsigned?: boolean } of the host, its domain and the message
---@return table decision
function M.decide(settings, host, found)
  found = found or {}
  local policy = tlspolicy.decide {
    host = host, level = settings.level, credentials = settings.credentials, names = settings.names, ca = settings.ca,
    pins = settings.pins, sni = settings.sni, dane = found.dane, sts = found.sts,
    requiretls = found.requiretls, unsigned = found.unsigned,
  }
  return {
    level = policy.level, policy = policy, settings = settings, found = found, fallback = policy.fallback,
    required = policy.level ~= "none" and policy.level ~= "opportunistic",
    key = ("%d %s %s%s"):format(settings.id, policy.level, policy.sni or "", also(policy)),
  }
end

-- "dane" for a host that was named: nobody has looked for its records yet.
local function look(decision, to, source)
  local route, err = require("moonpost.route").host(to.host, { dns = source })
  if not route then
    return nil, Error("dns", err.message, { temporary = true, enhanced = "4.4.3", cause = err })
  end
  local found = { requiretls = decision.found.requiretls }
  found.dane = require("moonpost.dane").find(route, route[1], { dns = source, port = to.port })
  return M.decide(decision.settings, to.host, found)
end

--- What a connection is made by; an error when it must not be made.
---@async
---@param decision table
---@param to moonpost.Destination
---@param source? moonpost.dns.Resolver
---@return table? decision
---@return moonpost.Error? err
---@return table decision that it was
function M.settle(decision, to, source)
  local settled = decision
  if decision.settings.level == "dane" and not decision.found.dane and to.host and not to.ip then
    local looked, trouble = look(decision, to, source)
    if not looked then
      return nil, trouble, decision
    end
    settled = looked
  elseif decision.level == "verified" and to.path and not (decision.settings.names or decision.settings.pins) then
    return nil, Error("tls", to.path .. ": a socket has no name that a certificate could have: tls.names is needed", { enhanced = "4.7.5" }), decision
  end
  if settled.level == "refused" then
    local err = Error("tls", ("%s: %s"):format(to.host or to.path, settled.policy.why), { enhanced = settled.policy.enhanced, temporary = true })
    return nil, err, settled
  end
  return settled, nil, settled
end

--- What C is asked for: a session for this connection.
function M.session(decision, target)
  assert(decision.level ~= "refused", "no connection is made where the policy refuses one")
  local policy, settings = decision.policy, decision.settings
  local literal, socket = target.to.ip ~= nil, target.to.path ~= nil -- a socket's path is nobody's name
  return {
    level = decision.level, host = not socket and target.host or nil,
    sni = not literal and (not socket and policy.sni or settings.sni or target.to.host) or nil,
    names = (settings.names or not socket) and policy.names or nil, tlsa = policy.tlsa, pins = policy.pins,
    ca = policy.ca or settings.ca, certificate = settings.certificate, key = settings.key,
    min_version = settings.min_version, ciphers = settings.ciphers, ciphersuites = settings.ciphersuites,
    cache = destination.show(target.to),
  }
end

--- True when a connection that failed may be followed by one in clear: its handshake failed, and nothing that is at stake here needs one.
function M.may_go_without(decision, target, err)
  return err.handshake and decision.fallback and not target.auth and not target.to.implicit
end

--- The same without TLS.
function M.without(decision)
  local copy = {}
  for name, value in pairs(decision) do
    copy[name] = value
  end
  copy.level, copy.required = "none", false
  return copy
end

--- What a result says: whether TLS was used, what was promised, and why.
---@return table facts used, version, cipher, verified, how, why, policy
function M.facts(facts, decision)
  facts = facts or {}
  facts.used, facts.policy, facts.level = true, decision.policy.why, decision.level
  facts.testing = decision.policy.testing
  return facts
end

--- The same where TLS was not used.
function M.none(decision, why)
  return { used = false, level = decision.level, policy = decision.policy.why, why = why, testing = decision.policy.testing }
end

return M
