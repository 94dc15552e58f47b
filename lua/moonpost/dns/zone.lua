--- Names served from a table: aliases, wildcards and empty names behave as in a zone that a server holds; faults are
--- where the table says so. Nothing waits.
local core = require "moonpost.core"
local lookups = require "moonpost.dns.lookups"

local M = {}

local ALIASES_MOST = 16
local TTL = 3600
local faults = { servfail = true, timeout = true, bogus = true }

local function host(value)
  if value == "." then
    return ""
  end
  return type(value) == "string" and core.dns_name(value) or nil
end

local function octet(value)
  return math.type(value) == "integer" and value >= 0 and value <= 255
end

-- Per type: whether a value is one record, and the record it stands for (nil: malformed).
local types = {
  A = { wanted = 'an IPv4 address', read = function(value)
    return core.in_network(value, "0.0.0.0/0") and value or nil
  end },
  AAAA = { wanted = 'an IPv6 address', read = function(value)
    return core.in_network(value, "0.0.0.0/0") == false and value or nil
  end },
  TXT = { wanted = "a text", read = function(value)
    return value
  end },
  CNAME = { wanted = "a name", read = host },
  PTR = { wanted = "a name", read = host },
  MX = { wanted = '{ 10, "mx.example.net" }', table = true, read = function(value)
    local preference, name = value[1], host(value[2])
    if math.type(preference) == "integer" and preference >= 0 and preference <= 65535 and name then
      return { preference = preference, host = name }
    end
  end },
  TLSA = { wanted = '{ 3, 1, 1, "hexadecimal digits" }', table = true, read = function(value)
    local hex = value[4]
    if not (octet(value[1]) and octet(value[2]) and octet(value[3]) and type(hex) == "string") then
      return nil
    end
    hex = hex:gsub("%s", "")
    if hex == "" or #hex % 2 == 1 or hex:find("%X") then
      return nil
    end
    local data = hex:gsub("%x%x", function(pair)
      return string.char(tonumber(pair, 16))
    end)
    return { usage = value[1], selector = value[2], mtype = value[3], data = data }
  end },
}

local function records(kind, value, where)
  local how = types[kind]
  local single = type(value) == "string" or how.table and type(value) == "table" and type(value[1]) == "number"
  local list = {}
  for i, item in ipairs(single and { value } or type(value) == "table" and value or { false }) do
    list[i] = type(item) == (how.table and "table" or "string") and how.read(item) or nil
    if not list[i] then
      error(("dns.zone: %s: %s: %s expected"):format(where, kind, how.wanted), 0)
    end
  end
  return list
end

local function fault(value, where)
  if not faults[value] then
    error(('dns.zone: %s: "servfail", "timeout" or "bogus" expected, got %s'):format(where, tostring(value)), 0)
  end
  return value
end

local function read_fail(value, where)
  if type(value) ~= "table" then
    return fault(value, where)
  end
  for kind, what in pairs(value) do
    if not types[kind] then
      error(("dns.zone: %s: unknown type %s"):format(where, tostring(kind)), 0)
    end
    fault(what, where)
  end
  return value
end

local function read_entry(given, where, defaults)
  if type(given) == "string" then
    return { fail = fault(given, where) }
  elseif type(given) ~= "table" then
    error(("dns.zone: %s: a table of records by type expected"):format(where), 0)
  end
  local entry = { ttl = defaults.ttl or TTL, secure = defaults.secure or false }
  for key, value in pairs(given) do
    if types[key] then
      entry[key] = records(key, value, where)
    elseif key == "fail" then
      entry.fail = read_fail(value, where)
    elseif key == "ttl" and math.type(value) == "integer" and value >= 0 or key == "secure" and type(value) == "boolean" then
      entry[key] = value
    else
      error(("dns.zone: %s: %s is no type of record that is known (A, AAAA, MX, TXT, PTR, TLSA, CNAME), nor ttl, secure "
        .. "or fail with a fitting value"):format(where, tostring(key)), 0)
    end
  end
  if entry.CNAME and #entry.CNAME ~= 1 then
    error(("dns.zone: %s: one CNAME expected"):format(where), 0)
  end
  return entry
end

local function read_name(name)
  if type(name) ~= "string" then
    error(("dns.zone: a name expected, got %s"):format(tostring(name)), 0)
  end
  local ascii = core.dns_name(core.dns_reverse(name) or name)
  if not ascii then
    error(('dns.zone: "%s" is no domain name'):format(name:gsub("%c", "?")), 0)
  end
  return ascii
end

local function parents(name)
  return function(_, last)
    return last:match("^[^.]+%.(.+)$")
  end, nil, name
end

---@param names table
---@param options? { secure?: boolean, ttl?: integer }
---@return table entries by name; names that exist only because something is below them are `true`
function M.read(names, options)
  local entries = {}
  for name, given in pairs(names) do
    entries[read_name(name)] = read_entry(given, tostring(name), options or {})
  end
  local between = {}
  for name in pairs(entries) do
    for parent in parents(name) do
      between[parent] = true
    end
  end
  for name in pairs(between) do
    entries[name] = entries[name] or true
  end
  return entries
end

--- The entry that answers for a name: its own, or a wildcard's at its closest encloser (RFC 4592).
---@param entries table
---@param name string
---@return table|true|nil
function M.find(entries, name)
  if entries[name] then
    return entries[name]
  end
  for parent in parents(name) do
    if entries["*." .. parent] then
      return entries["*." .. parent]
    elseif entries[parent] then
      return nil
    end
  end
end

local function copy(record)
  if type(record) ~= "table" then
    return record
  end
  local own = {}
  for key, value in pairs(record) do
    own[key] = value
  end
  return own
end

local function answer_of(entry, kind, name, ttl, secure)
  local answer = { ttl = ttl, status = secure and "secure" or "insecure", name = name }
  for i, record in ipairs(entry and entry ~= true and entry[kind] or {}) do
    answer[i] = copy(record)
  end
  if #answer == 0 then
    answer[entry and "nodata" or "nxdomain"] = true
  end
  return answer
end

-- The records of an entry, or the entry whose name an alias stands for, or a fault.
local function step(entry, kind)
  local failed = entry.fail
  if type(failed) == "table" then
    failed = failed[kind]
  end
  return failed, kind ~= "CNAME" and entry.CNAME and entry.CNAME[1]
end

--- The answer to a question.
---@param entries table
---@param name string
---@param kind string
---@param signed boolean whether it is certain that what is not here does not exist
---@return table? answer
---@return string? fault
---@return string? why
function M.answer(entries, name, kind, signed)
  local ttl, secure = math.huge, true
  for _ = 1, ALIASES_MOST do
    local entry = M.find(entries, name)
    if type(entry) ~= "table" then
      return answer_of(entry, kind, name, math.min(ttl, TTL), secure and signed)
    end
    local failed, alias = step(entry, kind)
    if failed then
      return nil, failed
    end
    ttl, secure = math.min(ttl, entry.ttl), secure and entry.secure
    if not alias then
      return answer_of(entry, kind, name, ttl, secure)
    end
    name = alias
  end
  return nil, "servfail", "aliases lead on and on"
end

local Zone = {}
local Zone_mt = { __index = Zone, __name = "moonpost.dns.Resolver" }
for name, method in pairs(lookups.methods) do
  Zone[name] = method
end

function Zone:_ask(name, kind)
  return M.answer(self._entries, name, kind, self._secure)
end

function Zone:_ask_all(questions)
  for _, question in ipairs(questions) do
    question.answer, question.kind, question.why = M.answer(self._entries, question[1], question[2],
      self._secure)
  end
end

--- Raises what is wrong with the table, without a place.
---@param names table
---@param options? { secure?: boolean, ttl?: integer }
function M.new(names, options)
  return setmetatable({ _entries = M.read(names, options), _secure = options and options.secure or false }, Zone_mt)
end

return M
