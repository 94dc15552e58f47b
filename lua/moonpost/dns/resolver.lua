--- Questions to the network: libunbound on the worker's loop (csrc/dns, csrc/conn/names.h).
local core = require "moonpost.core"
local lookups = require "moonpost.dns.lookups"
local options_of = require "moonpost.options"
local task = require "moonpost.task"
local units = require "moonpost.units"
local zone = require "moonpost.dns.zone"

local M = {}

-- "192.0.2.53", "192.0.2.53:5353", "2001:db8::53", "[2001:db8::53]:5353" as libunbound writes them; nil for anything else.
local function server(text)
  if core.dns_reverse(text) then
    return text
  end
  local ip, port = text:match("^%[([%x:.]+)%]:(%d+)$")
  if not ip then
    ip, port = text:match("^([%d.]+):(%d+)$")
  end
  local number = port and tonumber(port)
  if ip and core.dns_reverse(ip) and number >= 1 and number <= 65535 then
    return ("%s@%d"):format(ip, number)
  end
end

local function servers(list)
  for _, item in ipairs(list) do
    if not server(item) then
      return ('"%s" is no address such as "192.0.2.53", "192.0.2.53:5353" or "[2001:db8::53]:53"'):format(item)
    end
  end
end

local function as_list(value)
  return type(value) == "table" and value or { value }
end

local function stubs(value)
  for name, list in pairs(value) do
    if type(name) ~= "string" or name ~= "." and not core.dns_name(name) then
      return ('"%s" is no zone'):format(tostring(name))
    end
    for _, item in ipairs(as_list(list)) do
      if type(item) ~= "string" then
        return "addresses of servers expected, by zone"
      end
    end
    local why = servers(as_list(list))
    if why then
      return why
    end
  end
end

local function readable(path)
  local file, why = io.open(path, "r")
  if not file then
    return why
  end
  file:close()
end

local schema = {
  { name = "forwarders", type = "strings", default = {}, check = servers },
  { name = "recursion", type = "boolean", default = false },
  { name = "stubs", type = "table", default = {}, check = stubs },
  { name = "root_key", type = "string", check = readable },
  { name = "trust_anchors", type = "strings", default = {} },
  { name = "timeout", type = "duration", default = 10, check = function(value)
    return (value < 0.001 or value > 3600) and "between 1ms and 1h" or nil
  end },
  { name = "hosts", type = "any", default = "/etc/hosts", check = function(value)
    return value ~= false and type(value) ~= "string" and "the path of a hosts file, or false" or nil
  end },
  { name = "zone", type = "table", default = {} },
}

--- Addresses by name, of a file such as /etc/hosts (hosts(5)); none when it cannot be read.
---@param path string
---@return table<string, string[]>
function M.read_hosts(path)
  local hosts = {}
  local file = io.open(path, "r")
  if not file then
    return hosts
  end
  for line in file:lines() do
    local ip, names = line:gsub("#.*", ""):match("^%s*(%S+)%s+(.*)$")
    if ip and core.dns_reverse(ip) then
      for name in names:gmatch("%S+") do
        local ascii = core.dns_name(name)
        if ascii then
          hosts[ascii] = hosts[ascii] or {}
          table.insert(hosts[ascii], ip)
        end
      end
    end
  end
  file:close()
  return hosts
end

local Resolver = {}
local Resolver_mt = { __index = Resolver, __name = "moonpost.dns.Resolver" }
for name, method in pairs(lookups.methods) do
  Resolver[name] = method
end

local function content(path)
  local file = io.open(path, "r")
  local text = file and file:read(65536)
  if file then
    file:close()
  end
  return text or ""
end

-- What C wants to know, and the same as a text by which equal resolvers are found: with what stands in files, so that one that is made
-- after a change is another.
local function describe(values)
  local how = { forwarders = {}, anchors = values.trust_anchors, stub_zones = {}, stub_servers = {},
    root_key = values.root_key, recursion = values.recursion }
  for i, item in ipairs(values.forwarders) do
    how.forwarders[i] = server(item)
  end
  local zones = {}
  for name in pairs(values.stubs) do
    zones[#zones + 1] = name
  end
  table.sort(zones)
  for _, name in ipairs(zones) do
    for _, item in ipairs(as_list(values.stubs[name])) do
      table.insert(how.stub_zones, name)
      table.insert(how.stub_servers, server(item))
    end
  end
  local parts = { tostring(how.recursion), how.root_key or "", how.root_key and content(how.root_key) or "" }
  if #how.forwarders == 0 and not how.recursion then
    parts[#parts + 1] = content "/etc/resolv.conf"
  end
  for _, list in ipairs { how.forwarders, how.anchors, how.stub_zones, how.stub_servers } do
    parts[#parts + 1] = table.concat(list, "\1")
  end
  return table.concat(parts, "\0"), how
end

---@param options table
---@param at string where they were written
---@return table? resolver
---@return string? why
function M.new(options, at)
  local values, why = options_of.resolve(schema, options, at)
  if not values then
    return nil, why
  elseif values.recursion and #values.forwarders > 0 then
    return nil, "forwarders and recursion exclude each other"
  end
  local self = setmetatable({ _timeout = values.timeout, _handles = setmetatable({}, { __mode = "k" }) }, Resolver_mt)
  self._key, self._how = describe(values)
  self._zone = next(values.zone) and zone.read(values.zone) or nil
  self._hosts = values.hosts and M.read_hosts(values.hosts) or {}
  -- On a worker with a loop what is wrong with anchors and servers shows now.
  if not task.worker():is_virtual() then
    local ok, wrong = self:_handle(task.worker())
    if not ok then
      return nil, wrong
    end
  end
  return self
end

--- The resolver's end on a worker.
function Resolver:_handle(worker)
  local handle = self._handles[worker]
  if not handle then
    if worker:is_virtual() then
      error("dns: nobody can be asked on a test's worker; give it names: test.load(policy, { dns = { ... } })", 0)
    end
    local why
    handle, why = worker:dns(self._key, self._how)
    if not handle then
      return nil, why
    end
    self._handles[worker] = handle
  end
  return handle
end

local function cancel(query)
  query:cancel()
end

function Resolver:_host(name)
  local list = self._hosts[name]
  if list and not (self._zone and zone.find(self._zone, name)) then
    return { ttl = 0, status = "insecure", name = name, table.unpack(list) }
  end
end

-- The zone's answer, where there is one.
local function from_zone(self, name, kind)
  if self._zone and zone.find(self._zone, name) then
    return true, zone.answer(self._zone, name, kind, false)
  end
end

-- Asks; `done` gets the answer, or nil, kind and why, on a later turn; or the failure is returned at once.
local function start(self, name, kind, done)
  local handle, why = self:_handle(task.worker())
  if not handle then
    return nil, why
  end
  return handle:ask(name, kind, self._timeout, done)
end

local function shown(self, answer, kind, why)
  if kind == "timeout" then
    why = "no answer within " .. units.show_duration(self._timeout)
  end
  return answer, kind, why
end

function Resolver:_ask(name, kind)
  local mine, answer, what, why = from_zone(self, name, kind)
  if mine then
    return answer, what, why
  end
  return shown(self, task.park(function(wake)
    local query, wrong = start(self, name, kind, wake)
    if not query then
      wake(nil, "servfail", wrong)
      return nil
    end
    return function()
      cancel(query)
    end
  end, ("DNS %s %s"):format(name, kind)))
end

local function ask_rest(self, questions)
  task.park(function(wake)
    local queries, left = {}, #questions
    for i, question in ipairs(questions) do
      local function done(answer, kind, why)
        queries[i] = nil
        question.answer, question.kind, question.why = shown(self, answer, kind, why)
        left = left - 1
        if left == 0 then
          wake()
        end
      end
      local wrong
      queries[i], wrong = start(self, question[1], question[2], done)
      if not queries[i] then
        done(nil, "servfail", wrong)
      end
    end
    return function()
      for _, query in pairs(queries) do
        cancel(query)
      end
    end
  end, ("DNS %s %s"):format(questions[1][1], questions[1][2]))
end

function Resolver:_ask_all(questions)
  local rest = {}
  for _, question in ipairs(questions) do
    local mine, answer, what, why = from_zone(self, question[1], question[2])
    question.answer, question.kind, question.why = answer, what, why
    if not mine then
      rest[#rest + 1] = question
    end
  end
  if #rest > 0 then
    ask_rest(self, rest)
  end
end

return M
