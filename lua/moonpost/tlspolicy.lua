--- What TLS to a host has to be, from what was asked for and what DANE and MTA-STS say. No look-up and no connection is made here.
---
---     tlspolicy.decide { host = "mx.example.net", dane = dane.find(...), sts = sts:lookup "example.net" }
local M = {}

-- ascending; "dane" and "verified" are two ways of knowing who is there
local levels = { "none", "opportunistic", "required", "verified", "dane" }
local known = {}
for _, level in ipairs(levels) do
  known[level] = true
end
M.levels = levels

---@alias moonpost.TlsLevel "none"|"opportunistic"|"required"|"verified"|"dane"

---@class moonpost.TlsWish what was asked for, and what is known
---@field host string the mail exchanger or relay, by its name
---@field level? moonpost.TlsLevel "verified" when there are credentials, else "opportunistic"
---@field credentials? boolean a password will be sent
---@field names? string[] that its certificate may have; `host`
---@field ca? string file of authorities, instead of the system's
---@field pins? string[] fingerprints, any of which is enough
---@field sni? string
---@field dane? moonpost.Dane what dane.find found; nil: not looked for
---@field sts? moonpost.mtasts.Policy what a finder found; nil: there is none, or not looked for
---@field requiretls? boolean the message asks for REQUIRETLS (RFC 8689): nothing short of a verified host will do
---@field unsigned? boolean the host was found by MX records that are not signed: who it is nobody has said for certain

---@class moonpost.TlsDecision what the connection has to be
---@field level moonpost.TlsLevel|"refused" refused: mail must not go to this host now; the next host is tried, then the delivery is deferred
---@field why string one line: what decided it
---@field names? string[] "verified", and "dane" under a DANE-TA record: any of them must be in the certificate
---@field tlsa? moonpost.dns.TLSA[] "dane"
---@field sni? string
---@field ca? string
---@field pins? string[]
---@field fallback boolean a handshake that fails may be followed by one connection in clear
---@field enhanced? string of the reply that the recipients get when refused
---@field testing? string what MTA-STS would have said in mode "enforce"

local function base_level(wish)
  local level = wish.level or wish.credentials and "verified" or "opportunistic"
  if not known[level] then
    error(("tlspolicy.decide: level: one of %s expected, got %s"):format(table.concat(levels, ", "), tostring(level)), 4)
  end
  return level
end

local function refused(why)
  return { level = "refused", why = why, fallback = false, enhanced = "4.7.5" }
end

-- The authorities and fingerprints are for what is verified by name; TLSA records speak for themselves.
local function verified(wish, why)
  return {
    level = "verified", why = why, names = wish.names or { wish.host }, ca = wish.ca, pins = wish.pins,
    sni = wish.sni or wish.host, fallback = false,
  }
end

local function by_tlsa(found)
  return {
    level = "dane", why = found.why, tlsa = found.records, names = found.names, sni = found.base, fallback = false,
  }
end

local function plain(wish, level, why, sni)
  return {
    level = level, why = why, sni = level ~= "none" and (sni or wish.sni or wish.host) or nil,
    fallback = level == "opportunistic" and not wish.credentials,
  }
end

local function asked(level)
  return ('"%s" was asked for'):format(level)
end

-- Without MTA-STS.
local function without_sts(wish, level)
  local found = wish.dane
  if level == "none" then
    return plain(wish, "none", "no TLS was asked for")
  elseif level == "verified" then
    return verified(wish, wish.level and asked(level) or "credentials are sent")
  elseif found and found.state == "deferred" then
    return refused(found.why)
  elseif found and found.state == "usable" then
    return by_tlsa(found)
  elseif level == "dane" then
    return refused(('"dane" was asked for: %s'):format(found and found.why or "TLSA records were not looked for"))
  elseif found and found.state == "unusable" then
    return plain(wish, "required", found.why, found.base)
  end
  return plain(wish, level, wish.level and asked(level) or "nothing was asked for")
end

-- By DANE and MTA-STS, whatever the message asks for.
local function by_policy(wish)
  local level = base_level(wish)
  local decision = without_sts(wish, level)
  local sts = wish.sts
  -- What DANE refuses stays refused: a policy never overrides it (RFC 8461 2). Mode "none" is no policy (5).
  if level == "none" or not sts or sts.mode == "none" or decision.level == "refused" then
    return decision
  end
  local matches = sts:matches(wish.host)
  local where = ("the MTA-STS policy of %s"):format(sts.domain or "its domain")
  local verdict = matches and ("%s is in %s"):format(wish.host, where) or ("%s is not in %s"):format(wish.host, where)
  if sts.mode == "testing" then
    decision.testing = verdict
    return decision
  elseif not matches then
    return refused(verdict)
  elseif decision.level == "dane" or decision.level == "verified" then
    return decision -- it is known who is there already
  end
  decision = verified(wish, verdict)
  decision.names, decision.pins = { wish.host }, nil -- the policy's own terms (RFC 8461 4.1)
  return decision
end

-- A message with REQUIRETLS goes nowhere but to a host that is verified and is the right one to ask (RFC 8689 4.2.1): its name comes from
-- signed MX records, or is in the MTA-STS policy, or was given.
local function by_requiretls(wish)
  local why = "the message asks for REQUIRETLS"
  local asked_for = base_level(wish)
  local bare = setmetatable({ level = asked_for == "none" and "required" or wish.level }, { __index = wish })
  local decision = by_policy(bare)
  if decision.level == "refused" then
    return decision
  elseif decision.level ~= "dane" and decision.level ~= "verified" then
    local testing = decision.testing
    decision = verified(wish, why)
    decision.testing = testing
  end
  if wish.unsigned and not (wish.sts and wish.sts.mode ~= "none" and wish.sts:matches(wish.host)) then
    return refused(("%s, and neither signed MX records nor an MTA-STS policy say that %s is the host to ask"):format(why, wish.host))
  end
  return decision
end

--- Decides.
---@param wish moonpost.TlsWish
---@return moonpost.TlsDecision
function M.decide(wish)
  if wish.requiretls then
    return by_requiretls(wish)
  end
  return by_policy(wish)
end

--- Which look-ups a level wants: DANE is for hosts found in the DNS that nobody has named otherwise, and not where a certificate's names
--- decide; MTA-STS is for the mail exchangers of a domain.
---@param level? moonpost.TlsLevel
---@param credentials? boolean
---@param by_mx boolean
---@param requiretls? boolean
---@return boolean dane
---@return boolean sts
function M.wants(level, credentials, by_mx, requiretls)
  level = base_level { level = level, credentials = credentials }
  if requiretls and level == "none" then
    level = "required"
  end
  return level ~= "none" and level ~= "verified" and (by_mx or level == "dane"), level ~= "none" and by_mx
end

return M
