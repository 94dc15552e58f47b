--- Where mail for a domain goes: the hosts to try, in order, with their addresses (RFC 5321 5.1).
---
---     local hosts, err = route.mx "example.net"
---     for _, one in ipairs(hosts or {}) do print(one.host, one.addresses[1], one.secure) end
local core = require "moonpost.core"
local dns = require "moonpost.dns"
local Error = require "moonpost.error"
local lookups = require "moonpost.dns.lookups"
local options_of = require "moonpost.options"

local M = {}

---@class moonpost.Route: { [integer]: moonpost.RouteHost }
---@field domain string as the DNS knows it, or the address literal
---@field name? string where aliases of the domain led, when mail exchangers were asked for
---@field implicit boolean the domain has no MX records and stands for itself
---@field secure boolean that these are its mail exchangers was signed
---@field skipped { host: string, why: string }[] hosts that are not to be tried

---@class moonpost.RouteHost
---@field host string what its certificate is held against
---@field name string where aliases of the host led: the first name under which TLSA records are looked for (RFC 7672 2.2.2)
---@field addresses string[] ready to dial
---@field preference integer
---@field secure boolean both the MX records and the addresses were signed (RFC 7672 2.2): TLSA records may be looked for

---@class moonpost.RouteOptions
---@field dns? moonpost.dns.Resolver whom to ask
---@field names? string|string[] our own host names: mail exchangers from there on are not tried
---@field addresses? string|string[] our own addresses, for the same
---@field allow_local? boolean loopback and link-local addresses of others may be dialled
---@field hosts? integer mail exchangers to look at, at most; 20
---@field random? fun(n: integer): integer a number from 1 to n, for the order among equals

-- Nobody else is there: ourselves, our own link, or a crowd.
local unroutable = {
  "127.0.0.0/8", "::1/128", "0.0.0.0/8", "::/128", "169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8",
  "255.255.255.255/32",
}

local schema = {
  { name = "dns", type = "any", check = function(value)
    return not lookups.is_source(value) and "what dns.resolver or dns.zone returned is expected" or nil
  end },
  { name = "names", type = "strings", default = {} },
  { name = "addresses", type = "strings", default = {}, check = function(list)
    for _, ip in ipairs(list) do
      if not core.dns_reverse(ip) then
        return ('"%s" is no IP address'):format(ip)
      end
    end
  end },
  { name = "allow_local", type = "boolean", default = false },
  { name = "hosts", type = "integer", default = 20, check = function(value)
    return (value < 1 or value > 1000) and "1 to 1000" or nil
  end },
  { name = "random", type = "any", default = function()
    return math.random
  end },
}

local function failure(domain, code, enhanced, why, cause)
  return nil, Error("route", ("%s: %s"):format(domain, why),
    { code = code, enhanced = enhanced, temporary = code < 500, domain = domain, cause = cause })
end

local function dns_trouble(domain, err)
  if err.kind == "name" then
    return failure(err.name:sub(1, 80):gsub("%c", "?"), 550, "5.1.2", "this is no domain name", err)
  end
  return failure(domain, 451, "4.4.3", err.message, err)
end

-- Two texts of one address are one address.
local function same_ip(a, b)
  return core.dns_reverse(a) == core.dns_reverse(b)
end

local function is_ours(ip, options)
  for _, own in ipairs(options.addresses) do
    if same_ip(ip, own) then
      return true
    end
  end
  return false
end

local function is_local(ip)
  for _, network in ipairs(unroutable) do
    if core.in_network(ip, network) then
      return true
    end
  end
  return false
end

local function our_names(options)
  local set = {}
  for _, name in ipairs(options.names) do
    set[core.dns_name(name) or name] = true
  end
  return set
end

-- A host name that a certificate can be held against; MX records may name anything.
local function is_host_name(name)
  return not name:find("[^%w._-]") and not core.dns_reverse(name)
end

-- By preference, equals in random order; each host once.
local function arrange(answer, random, skipped)
  local list, seen = {}, {}
  for _, record in ipairs(answer) do -- best first
    if not seen[record.host] then
      seen[record.host] = true
      if is_host_name(record.host) and record.host ~= "" then
        list[#list + 1] = { host = record.host, preference = record.preference }
      elseif record.host ~= "" then
        skipped[#skipped + 1] = { host = record.host, why = "this is no host name" }
      end
    end
  end
  local first = 1
  while first <= #list do
    local last = first
    while list[last + 1] and list[last + 1].preference == list[first].preference do
      last = last + 1
    end
    for i = last, first + 1, -1 do
      local j = first - 1 + random(i - first + 1)
      list[i], list[j] = list[j], list[i]
    end
    first = last + 1
  end
  return list
end

-- Cuts the list before everything of the preference of `list[at]`, which is ourselves, or worse.
local function cut(list, at, skipped)
  local preference = list[at].preference
  for i = #list, 1, -1 do
    if list[i].preference >= preference then
      local why = i == at and "this is ourselves" or "no better than ourselves"
      table.insert(skipped, 1, { host = list[i].host, why = why })
      list[i] = nil
    end
  end
end

local function cut_by_name(list, own, skipped)
  for i, one in ipairs(list) do
    if own[one.host] then
      cut(list, i, skipped)
      return true
    end
  end
  return false
end

local function cut_by_address(list, options, skipped)
  for i, one in ipairs(list) do
    for _, ip in ipairs(one.addresses) do
      if is_ours(ip, options) then
        cut(list, i, skipped)
        return true
      end
    end
  end
  return false
end

-- Fills in addresses, of all hosts at once. Returns the error of the first that could not be asked for.
local function resolve(list, source, signed)
  local names, trouble = {}, nil
  for i, one in ipairs(list) do
    names[i] = one.host
  end
  for i, result in ipairs(source:_addresses_of(names)) do
    local one, answer = list[i], result.answer
    one.addresses = {}
    if answer then
      table.move(answer, 1, #answer, 1, one.addresses)
      one.name = answer.name
      one.secure = signed and answer.status == "secure"
      one.why = #answer == 0 and "it has no address" or nil
    else
      one.why = result.err.message
      trouble = trouble or result.err
    end
  end
  return trouble
end

local function usable(list, options, skipped)
  local kept = {}
  for _, one in ipairs(list) do
    local addresses = {}
    for _, ip in ipairs(one.addresses) do
      if options.allow_local or not is_local(ip) then
        addresses[#addresses + 1] = ip
      end
    end
    if #addresses > 0 then
      one.addresses, one.why = addresses, nil
      kept[#kept + 1] = one
    else
      skipped[#skipped + 1] = { host = one.host, why = one.why or "its addresses are loopback or link-local" }
    end
  end
  return kept
end

local function finish(route, domain, looped, trouble)
  if #route > 0 then
    return route
  elseif looped then
    return failure(domain, 554, "5.4.6", "mail for it would come back to ourselves")
  elseif trouble then
    return dns_trouble(domain, trouble)
  end
  local only = route.skipped[1]
  if route.implicit then
    return failure(domain, 550, "5.1.2", "it takes no mail: no MX records, and " .. only.why)
  end
  return failure(domain, 550, "5.4.4", ("none of its mail exchangers can be used (%s: %s)"):format(only.host, only.why))
end

-- Hosts with preferences become a route.
local function complete(list, route, options, source)
  local skipped = route.skipped
  local looped = cut_by_name(list, our_names(options), skipped)
  for i = #list, options.hosts + 1, -1 do
    table.insert(skipped, 1, { host = list[i].host, why = ("only %d are looked at"):format(options.hosts) })
    list[i] = nil
  end
  local trouble = resolve(list, source, route.secure)
  looped = cut_by_address(list, options, skipped) or looped
  local kept = usable(list, options, skipped)
  table.move(kept, 1, #kept, 1, route)
  return finish(route, route.domain, looped, trouble)
end

local function literal(domain)
  local inner = domain:match("^%[(.*)%]$")
  if not inner then
    return nil
  end
  local v6 = inner:lower():match("^ipv6:(.+)$")
  local ip = v6 or inner
  local known = core.dns_reverse(ip) and (v6 ~= nil) == (ip:find(":", 1, true) ~= nil)
  return known and ip or false
end

local function to_literal(domain, ip, options)
  local route = { domain = domain, implicit = true, secure = false, skipped = {} }
  if is_ours(ip, options) then
    return finish(route, domain, true)
  elseif is_local(ip) and not options.allow_local then
    return failure(domain, 550, "5.1.2", "this is a loopback or link-local address")
  end
  route[1] = { host = domain, name = ip, addresses = { ip }, preference = 0, secure = false }
  return route
end

local function check(who, name, options)
  if type(name) ~= "string" then
    error(("%s: a name expected, got %s"):format(who, type(name)), 3)
  end
  local values, why = options_of.resolve(schema, options or {}, "route")
  if not values then
    error(("%s: %s"):format(who, why), 3)
  end
  return values, values.dns or dns.default()
end

-- Null MX (RFC 7505): the root, and nothing beside it.
local function takes_none(answer)
  for _, record in ipairs(answer) do
    if record.host ~= "" then
      return false
    end
  end
  return #answer > 0
end

--- The hosts that take mail for a domain or an address literal ("[192.0.2.1]", "[IPv6:2001:db8::1]"), best first. An error (kind "route") says with
--- `code` and `enhanced` what its recipients are told: 5.1.2 no such domain, 5.1.10 it takes no mail (RFC 7505), 5.4.6 it would come back
--- to us, 5.4.4 its hosts cannot be used, 4.4.3 the DNS did not answer, which is temporary.
---@async
---@param domain string
---@param options? moonpost.RouteOptions
---@return moonpost.Route? route
---@return moonpost.Error? err
function M.mx(domain, options)
  local values, source = check("route.mx", domain, options)
  local ip = literal(domain)
  if ip then
    return to_literal(domain, ip, values)
  end
  local answer, err = source:mx(domain)
  if not answer then
    return dns_trouble(domain, err)
  elseif answer.nxdomain then
    return failure(domain, 550, "5.1.2", "there is no such domain")
  end
  local ascii = core.dns_name(domain)
  local route = {
    domain = ascii, name = answer.name, implicit = #answer == 0, secure = answer.status == "secure", skipped = {},
  }
  if takes_none(answer) then
    return failure(ascii, 556, "5.1.10", "it takes no mail (null MX)")
  end
  local list = route.implicit and { { host = ascii, preference = 0 } } or arrange(answer, values.random, route.skipped)
  return complete(list, route, values, source)
end

--- The same for a host that was named, without asking for mail exchangers, and whatever its addresses are: a smarthost.
---@async
---@param host string a name or an address
---@param options? moonpost.RouteOptions
---@return moonpost.Route? route
---@return moonpost.Error? err
function M.host(host, options)
  local values, source = check("route.host", host, options)
  values.allow_local, values.names, values.addresses = true, {}, {}
  local ascii = core.dns_reverse(host) and host or core.dns_name(host)
  if not ascii then
    return dns_trouble(host, select(2, lookups.to_ascii(host)))
  end
  local route = { domain = ascii, implicit = true, secure = true, skipped = {} }
  local list = { { host = ascii, preference = 0 } }
  local trouble = resolve(list, source, true)
  local kept = usable(list, values, route.skipped)
  route[1] = kept[1]
  if route[1] then
    return route
  elseif trouble then
    return dns_trouble(ascii, trouble)
  end
  return failure(ascii, 550, "5.1.2", "there is no such host")
end

return M
