--- The openspf.org suite for RFC 7208: scenarios, each with a zone of its own.
local data = require "spec.support.data"
local dns = require "moonpost.dns"
local spf = require "moonpost.spf"
local suite = require "spec.support.suite"

local known = { A = true, AAAA = true, MX = true, PTR = true, TXT = true, CNAME = true }

local function value_of(kind, value)
  if kind == "MX" then
    return { math.tointeger(value[1]), value[2] == "" and "." or value[2] }
  elseif type(value) == "table" then
    return table.concat(value)
  end
  return (value:gsub("\1", "\0"))
end

-- One name's records. "SPF" is a TXT record unless there are TXT records, "TXT: NONE" among them.
local function entry_of(records)
  local entry, policies, has_txt = {}, {}, false
  local failed
  for _, item in ipairs(records) do
    if item == "TIMEOUT" then
      failed = true
    end
    for kind, value in pairs(type(item) == "table" and item or {}) do
      if kind == "SPF" then
        table.insert(policies, value_of(kind, value))
      else
        has_txt = has_txt or kind == "TXT"
        if known[kind] and value ~= "NONE" then
          entry[kind] = entry[kind] or {}
          table.insert(entry[kind], value_of(kind, value))
        end
      end
    end
  end
  if not has_txt then
    entry.TXT = policies[1] and policies
  end
  entry.CNAME = entry.CNAME and entry.CNAME[1]
  if failed then -- what is there is answered, and nothing else
    entry.fail = {}
    for kind in pairs(known) do
      entry.fail[kind] = not entry[kind] and "timeout" or nil
    end
  end
  return entry
end

local function zone_of(zonedata)
  local zone, odd = {}, {}
  for name, records in pairs(zonedata) do
    local entry = entry_of(records)
    if name:find " " then -- no table takes such a name; SPF asks for it
      odd[name:lower()] = entry
    else
      zone[name] = entry
    end
  end
  local count = 0
  for name, entry in pairs(odd) do
    count = count + 1
    zone[("odd%d.example"):format(count)] = entry
    odd[name] = ("odd%d.example"):format(count)
  end
  local source = dns.zone(zone)
  for name, placed in pairs(odd) do
    source._entries[name] = source._entries[placed]
  end
  return source
end

local function agrees(case, got)
  local results = type(case.result) == "table" and case.result or { case.result }
  for _, result in ipairs(results) do
    if result == got.result then
      return not case.explanation or got.result ~= "fail" or got.explanation == case.explanation
    end
  end
  return false
end

suite.declare {
  name = "spf-rfc7208",
  cases = function(folder)
    local list = {}
    -- libyaml's binding ends texts at a NUL: another control character carries it.
    local text = data.read(folder .. "/rfc7208-tests.yml"):gsub("\\0", "\\x01")
    local scenarios = require "lyaml".load(text, { all = true })
    for _, scenario in ipairs(scenarios) do
      local names = {}
      for name in pairs(scenario.tests) do
        names[#names + 1] = name
      end
      table.sort(names)
      for _, name in ipairs(names) do
        local case = scenario.tests[name]
        list[#list + 1] = {
          name = ("%s: %s"):format(scenario.description, name),
          check = function()
            local got = spf.check { ip = case.host, mailfrom = case.mailfrom, helo = case.helo, dns = zone_of(scenario.zonedata),
              explanation = "DEFAULT" }
            return agrees(case, got), ("%s (%s, %s), %s"):format(got.result, got.problem, got.mechanism, got.explanation)
          end,
        }
      end
    end
    return list
  end,
}
