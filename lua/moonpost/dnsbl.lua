--- moonpost.dnsbl: lists of addresses and domains in the DNS (RFC 5782). All lists are asked at once; who asks the same while a question is under way
--- waits for its answer, and answers are kept for all workers (moonpost.shared), no longer than the DNS allows. Waits, in tasks and in a
--- plain script.
---
---     local lists = moonpost.dnsbl { zones = { "bl.example.net" } }
---     local found = lists:check(session.ip)
---     if found.listed then ... end
local address = require "moonpost.spf.address"
local core = require "moonpost.core"
local dns = require "moonpost.dns"
local links = require "moonpost.links"
local lookups = require "moonpost.dns.lookups"
local options_of = require "moonpost.options"
local shared = require "moonpost.shared"
local task = require "moonpost.task"

local M = {}

local REASON_MOST = 200 -- octets of a text that strangers wrote and that goes into a reply

local function is_network(text)
  return core.in_network("127.0.0.1", text) ~= nil
end

local zone_schema = {
  { name = "zone", type = "string" },
  { name = "codes", type = "strings", check = function(list)
    for _, network in ipairs(list) do
      if not is_network(network) then
        return ('"%s" is no IPv4 address or network'):format(network)
      end
    end
  end },
  { name = "reason", type = "boolean", default = false },
}

local schema = {
  { name = "zones", type = "any", doc = "the lists" },
  { name = "timeout", type = "duration", default = 5 },
  { name = "fail", type = "choice", values = { "open", "closed" }, default = "open" },
  { name = "keep", type = "duration", default = 900, check = function(value)
    return value < 1 and "1s at least" or nil
  end },
  { name = "entries", type = "integer", default = 100000 },
  { name = "name", type = "string", default = "dnsbl", doc = "of the table in moonpost.shared" },
  { name = "dns", type = "any", check = function(value)
    return not lookups.is_source(value) and "what dns.resolver or dns.zone returned is expected" or nil
  end },
}

local function read_zone(given, at, name)
  local values, why = options_of.resolve(zone_schema, type(given) == "table" and given or { zone = given }, at, name .. ".")
  if not values then
    return nil, why
  end
  local ascii = type(values.zone) == "string" and core.dns_name(values.zone)
  if not ascii then
    return nil, ("%s: a domain name expected, got %s"):format(name, values.zone == nil and "none" or ("%q"):format(values.zone))
  end
  values.zone = ascii
  return values
end

local function read_zones(given, at, name)
  local list = {}
  for i, one in ipairs(type(given) == "table" and given or { given }) do
    local zone, why = read_zone(one, at, name)
    if not zone then
      return nil, why
    end
    list[i] = zone
  end
  if not list[1] then
    local one = type(given) == "table" and given.zone and "; one table of zone, codes and reason stands in a list too" or ""
    return nil, ("%s: a list of zones expected%s"):format(name, one)
  end
  return list
end

local Dnsbl = {}
local Dnsbl_mt = { __index = Dnsbl, __name = "moonpost.Dnsbl" }

--- Describes lists. Options that make no sense raise at the caller's line.
---@param given moonpost.DnsblOptions|string[]|string
---@param name? string how the caller's mistakes call the zones: "zones"
---@return moonpost.Dnsbl
function M.new(given, name)
  if type(given) ~= "table" or given[1] then
    given = { zones = given }
  end
  local at = options_of.place(1)
  local options, why = options_of.resolve(schema, given, at)
  local zones
  if options then
    zones, why = read_zones(options.zones, at, name or "zones")
  end
  if not zones then
    error("dnsbl: " .. why, 2)
  end
  return setmetatable({
    zones = zones, _options = options, _flights = {}, _known = shared.open(options.name, { entries = options.entries }),
  }, Dnsbl_mt)
end

-- What counts of an answer: codes, or nil and why the list is none.
local function codes_of(zone, answer)
  local codes = {}
  for _, code in ipairs(answer) do
    if not core.in_network(code, "127.0.0.0/8") then
      return nil, ("answers %s, which no list does (RFC 5782 2.1)"):format(code)
    elseif core.in_network(code, "127.255.255.0/24") then
      return nil, ("does not answer us (%s)"):format(code)
    end
    for _, network in ipairs(zone.codes or { "127.0.0.0/8" }) do
      if core.in_network(code, network) then
        codes[#codes + 1] = code
        break
      end
    end
  end
  table.sort(codes)
  return codes
end

local function clean(text)
  return text and (text:sub(1, REASON_MOST):gsub("[^ -~]", "?")) or nil
end

-- What a list says of a name: "codes\nreason", "" for nothing, or nil and the problem; and for how long.
local function ask(source, zone, front)
  local name = front .. "." .. zone.zone
  if #name > 253 then
    return "", 1
  end
  local answer, kind, why = source:_ask(name, "A")
  if not answer then
    return nil, tostring(lookups.failure(name, "A", kind, why))
  end
  local codes, problem = codes_of(zone, answer)
  if not codes then
    return nil, problem
  end
  local text = table.concat(codes, ",")
  local reason = codes[1] and zone.reason and source:_ask(name, "TXT")
  return reason and reason[1] and text .. "\n" .. clean(reason[1]) or text, answer.ttl
end

-- One list; from what is kept, or with whoever asks already, or by asking. A task that others wait for does not end with who began it.
local function begin(self, zone, front)
  local codes = zone.codes and table.concat(zone.codes, " ") or ""
  local key = table.concat({ zone.zone, codes, zone.reason and "r" or "", front }, "\0")
  local kept = self._known:get(key)
  if kept then
    return { text = kept }
  end
  local flight = self._flights[key]
  if not flight then
    flight = {}
    self._flights[key] = flight
    local source = self._options.dns or dns.default()
    flight.task = task.spawn(function()
      local ok, text, extra = pcall(ask, source, zone, front)
      self._flights[key] = nil -- whatever became of it
      if not ok then
        error(text, 0)
      end
      flight.text, flight.problem = text, not text and extra or nil
      if text then
        self._known:set(key, text, math.max(1, math.min(extra, self._options.keep)))
      end
    end)
  end
  return flight
end

local function join(flights)
  for _, flight in ipairs(flights) do
    if flight.task then
      flight.task:join()
    end
  end
  return true
end

-- What a list said of one name: into `found`, as `host` where several are asked for.
local function record(found, zone, flight, host)
  local text = flight.text
  if not text then
    table.insert(found.failed, { zone = zone.zone, problem = flight.problem or "no answer in time" })
  elseif text ~= "" then
    local hit = { zone = zone.zone, codes = {}, reason = text:match "\n(.*)$", host = host }
    for code in text:match("^[^\n]*"):gmatch "[^,]+" do
      table.insert(hit.codes, code)
    end
    table.insert(found.hits, hit)
  end
end

-- Asks all lists about all fronts, { front, host } each.
local function gather(self, fronts)
  local flights = {}
  for _, one in ipairs(fronts) do
    for _, zone in ipairs(self.zones) do
      flights[#flights + 1] = begin(self, zone, one[1])
    end
  end
  task.timeout(self._options.timeout, join, flights)
  local found = { listed = false, hits = {}, failed = {} }
  for i, flight in ipairs(flights) do
    record(found, self.zones[(i - 1) % #self.zones + 1], flight, fronts[(i - 1) // #self.zones + 1][2])
  end
  found.listed = found.hits[1] ~= nil or self._options.fail == "closed" and found.failed[1] ~= nil
  return found
end

-- The front of the name by which lists are asked about an address (RFC 5782 2.1, 2.4).
local function front_of(ip)
  local text = address.read(ip)
  return text and core.dns_reverse(text):gsub("%.in%-addr%.arpa$", ""):gsub("%.ip6%.arpa$", "") or nil
end

--- Asks all lists about an address at once.
---@async
---@param ip string
---@return moonpost.DnsblFound found
function Dnsbl:check(ip)
  local front = type(ip) == "string" and front_of(ip)
  if not front then
    error("dnsbl:check: an address expected", 2)
  end
  return gather(self, { { front } })
end

--- Asks all lists about a domain at once. What is no domain name is not listed.
---@async
---@param name string
---@return moonpost.DnsblFound found
function Dnsbl:domain(name)
  if type(name) ~= "string" then
    error("dnsbl:domain: a name expected", 2)
  end
  local ascii = core.dns_name(name)
  if not ascii or address.digits(ascii) then
    return { listed = false, hits = {}, failed = {} }
  end
  return gather(self, { { ascii } })
end

--- Asks all lists at once about where the links of a message, or of a text, lead: their domains, and addresses that stand in the place of a name.
--- moonpost.links says which these are.
---@async
---@param of moonpost.Message|string
---@return moonpost.DnsblFound found each hit says its `host`, as the link has it
function Dnsbl:links(of)
  local fronts = {}
  if type(of) ~= "string" and type(of) ~= "table" then
    error(("dnsbl:links: a message or a text expected, got a %s"):format(type(of)), 2)
  end
  for i, one in ipairs(type(of) == "string" and links.find(of) or links.of(of)) do
    fronts[i] = { one.domain or front_of(one.address), one.host }
  end
  return gather(self, fronts)
end

--- Whether each list works (RFC 5782 5): by the entry that every list must have and the one that none may have. Asks, whatever is kept.
---@async
---@param domains? boolean they list domains
---@return { zone: string, ok: boolean, problem?: string }[]
function Dnsbl:probe(domains)
  local source = self._options.dns or dns.default()
  local results = {}
  for i, zone in ipairs(self.zones) do
    local there, wrong = ask(source, zone, domains and "test" or "2.0.0.127")
    local absent, wrong_too = ask(source, zone, domains and "invalid" or "1.0.0.127")
    local problem = not there and wrong or not absent and wrong_too or there == "" and "lacks the entry that every list has"
      or absent ~= "" and "lists everything" or nil
    results[i] = { zone = zone.zone, ok = not problem, problem = problem }
  end
  return results
end

M.methods = Dnsbl

return M
