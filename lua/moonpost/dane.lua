--- DANE for SMTP (RFC 7672): which TLSA records a host is to be verified by, where the DNS is signed all the way there.
---
---     local route = route.mx "example.net"
---     local found = dane.find(route, route[1])
---     if found.state == "usable" then ... found.records, found.names ...
local dns = require "moonpost.dns"
local lookups = require "moonpost.dns.lookups"

local M = {}

local RECORDS_MOST = 64 -- who owns the name chooses how many there are
local TA, EE = 2, 3 -- certificate usages
local FULL, SHA256, SHA512 = 0, 1, 2 -- matching types
local length_of = { [SHA256] = 32, [SHA512] = 64 }

---@class moonpost.Dane
---@field state "none"|"usable"|"unusable"|"deferred" none: not secured by DANE. unusable: there are records, and none of them can be used: TLS is a
--- must, nobody is verified (2.2). deferred: whether there are records is unknown, and mail must not go there now (2.1.2)
---@field why string one line
---@field base? string TLSA base domain: what the TLS client says in SNI (8.1)
---@field names? string[] what a certificate under a DANE-TA record is held against (3.2.2); nothing is held against one that DANE-EE names (3.1.1)
---@field records? moonpost.dns.TLSA[] those that are to be used
---@field err? moonpost.Error when deferred

local function is_usable(record)
  -- Usages 0 and 1 stand on authorities that mail servers have not agreed on (3.1.3).
  if record.usage ~= TA and record.usage ~= EE or record.selector > 1 or record.mtype > SHA512 then
    return false
  end
  return #record.data == (length_of[record.mtype] or #record.data) and #record.data > 0
end

--- The records that are to be used: usages 2 and 3 alone, whole ones, and of the digests of one usage and selector the strongest
--- (RFC 7671 9): records of a weaker one may have been left behind.
---@param records moonpost.dns.TLSA[]
---@return moonpost.dns.TLSA[]
function M.usable(records)
  local kept, strongest = {}, {}
  for _, record in ipairs(records) do
    if is_usable(record) and #kept < RECORDS_MOST then
      kept[#kept + 1] = record
      local key = record.usage * 2 + record.selector
      strongest[key] = math.max(strongest[key] or FULL, record.mtype)
    end
  end
  local chosen = {}
  for _, record in ipairs(kept) do
    if record.mtype == FULL or record.mtype == strongest[record.usage * 2 + record.selector] then
      chosen[#chosen + 1] = record
    end
  end
  return chosen
end

local function deferred(err)
  return { state = "deferred", why = "DANE: " .. err.message, err = err }
end

local function none(why)
  return { state = "none", why = "no DANE: " .. why }
end

-- The names under which there may be TLSA records, first come first (2.2.2); or what takes their place.
local function base_domains(source, route, host)
  if not route.secure then
    return nil, none("the mail exchangers are not signed")
  elseif not host.name then
    return nil, none("it is an address")
  elseif host.secure then
    return host.name == host.host and { host.host } or { host.name, host.host }
  elseif host.name == host.host then
    return nil, none("its addresses are not signed")
  end
  -- An alias that is signed, into a zone that is not.
  local alias, err = source:cname(host.host)
  if not alias then
    return nil, deferred(err)
  elseif alias.status ~= "secure" or #alias == 0 then
    return nil, none("its addresses are not signed")
  end
  return { host.host }
end

local function add(list, name)
  for _, known in ipairs(list) do
    if known == name then
      return
    end
  end
  list[#list + 1] = name
end

-- 3.2.2: the base domain; what the mail exchanger was found by; where there are no mail exchangers, the host that was asked for.
local function reference_names(route, host, base)
  local names = { base }
  if route.implicit then
    add(names, host.host)
  else
    add(names, route.domain)
    add(names, route.name or route.domain)
  end
  return names
end

--- What the DNS promises of a host's certificate.
---@async
---@param route moonpost.Route what route.mx or route.host returned
---@param host moonpost.RouteHost one of its hosts
---@param options? { dns?: moonpost.dns.Resolver, port?: integer } port 25
---@return moonpost.Dane
function M.find(route, host, options)
  local source = options and options.dns or dns.default()
  if not lookups.is_source(source) then
    error("dane.find: dns: what dns.resolver or dns.zone returned is expected", 2)
  end
  local bases, instead = base_domains(source, route, host)
  if not bases then
    return instead
  end
  for _, base in ipairs(bases) do
    local at = ("_%d._tcp.%s"):format(options and options.port or 25, base)
    local answer, err = source:tlsa(at)
    if not answer then
      return deferred(err)
    elseif #answer > 0 and answer.status == "secure" then
      local records = M.usable(answer)
      if #records == 0 then
        return { state = "unusable", base = base, why = ("DANE: none of the TLSA records at %s can be used"):format(at) }
      end
      return {
        state = "usable", base = base, records = records, names = reference_names(route, host, base),
        why = ("DANE: TLSA records at %s"):format(at),
      }
    end
  end
  return none("there are no signed TLSA records")
end

return M
