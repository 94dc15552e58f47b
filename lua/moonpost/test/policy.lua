--- A policy under test: its sessions, its clock, and what it did.
local blame = require "moonpost.test.blame"
local core = require "moonpost.core"
local network = require "moonpost.network"
local peer_of = require "moonpost.test.peer"
local recorder = require "moonpost.test.recorder"
local stage = require "moonpost.test.stage"
local suggest = require "moonpost.suggest"
local task = require "moonpost.task"
local units = require "moonpost.units"

local M = {}

---@class moonpost.test.Policy
local Policy = {}
M.methods = Policy
local Policy_mt = { __index = Policy, __name = "moonpost.test.Policy" }

local Event_mt = { __name = "moonpost.test.Event" }

--- One line, fields in the order of their names.
function Event_mt.__tostring(event)
  local keys, out = {}, { event.level, " ", event.text }
  for key in pairs(event.fields) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    out[#out + 1] = (" %s=%s"):format(key, tostring(event.fields[key]))
  end
  return table.concat(out)
end

---@param values table checked options of test.load
function M.new(values)
  local self = setmetatable({
    sent = {}, log = {}, printed = {}, dns = values.dns, server = nil,
    _worker = core.virtual_worker(), _level = values.log, _delayed = values.delays, _default = values.listener,
    _names = values.dns_source, _http = values.http, _modules = values.modules,
    _failures = {}, _delays = {}, _cpu_time = 0, _inside = false, _tables = nil, _real_time = os.time,
  }, Policy_mt)
  network.install(self._worker, values.network)
  if values.now then
    self._worker:set_time(values.now)
  end
  self._props = stage.props(self)
  return self
end

function Policy:_note(level, text, fields)
  table.insert(self.log, setmetatable({ level = level, text = text, fields = fields }, Event_mt))
end

-- Runs a function as a task on the policy's worker, so that what it spawns lives there. It may not wait.
function Policy:_task(fn, ...)
  local ok, result = task.hook(self._worker, 0, function() end, fn, ...)
  if ok == nil then
    local waits = table.concat(task.waits(self._worker), ", ")
    return nil, ("the policy waits for %s while it is loaded, which a test cannot"):format(waits)
  elseif not ok then
    return nil, result
  end
  return result
end

function Policy:_start(server, name)
  local ok, err = server:start {
    worker = self._worker, bindings = false, pretend_tls = true, deliver = recorder.new(self),
  }
  if not ok then
    error(("%s: %s"):format(name, tostring(err)), 0)
  end
  self.server = server
  if not self._delayed then
    for _, config in ipairs(server._configs) do
      config.auth_delay_ms, config.greet_delay_ms = 0, 0
    end
  end
  self._cpu_time = server.options.limits.cpu_time
  self:_listener(self._default)
end

--- Which of the server's listeners is meant: its name, its place in `listen`, or the first.
function Policy:_listener(which)
  local names = {}
  for i, listener in ipairs(self.server.listeners) do
    if which == nil or which == i or which == listener.name then
      return i, listener
    end
    names[i] = listener.name
  end
  blame(("there is no listener %q%s"):format(tostring(which), suggest.hint(which, names)))
end

--- The octets' end of a new connection.
function Policy:_wire(index, address)
  if not self.server._service then
    blame("policy:session: the server has been stopped")
  end
  for _, key in ipairs { "ip", "local_ip" } do
    local ip = address[key]
    if ip ~= nil and core.in_network(tostring(ip), "::/0") == nil then
      blame(("policy:session: %s: %q is no IP address"):format(key, tostring(ip)))
    end
  end
  return stage.act(self, function()
    return self.server._service:wire(self.server._configs[index], address)
  end)
end

--- A session with the server: connected, greeted, and as far on as `how` says.
---@param how? moonpost.test.SessionOptions|string an address alone will do
---@return moonpost.test.Peer
function Policy:session(how)
  return peer_of.connect(self, how)
end

--- The same without waiting for the greeting, for a `connect` hook that takes its time.
---@param how? moonpost.test.SessionOptions|string
---@return moonpost.test.Peer peer
---@return moonpost.test.Pending greeting
function Policy:start_session(how)
  return peer_of.start(self, how)
end

--- Turns the clock: what is due on the way happens, each at its own time.
---@param duration number|string seconds or "5m"
function Policy:advance(duration)
  local seconds, expected = units.duration(duration)
  if not seconds then
    blame(("policy:advance: %s expected"):format(expected))
  end
  stage.act(self, self._worker.advance, self._worker, seconds)
end

--- The policy's time of day.
---@return number unix_seconds
function Policy:now()
  return self._worker:time()
end

--- Lets deliveries of a kind fail from now on; nil lets them succeed again.
---@param kind "maildir"|"file"|"pipe"
---@param how? moonpost.test.Failure
function Policy:fail(kind, how)
  self._failures[kind] = recorder.failure(kind, how)
end

--- Lets deliveries of a kind take time.
---@param kind "maildir"|"file"|"pipe"
---@param duration number|string
function Policy:delay(kind, duration)
  self._delays[kind] = recorder.delay(kind, duration)
end

--- The log events with this text (a plain part of it) and these fields.
---@param text? string
---@param fields? table<string, any>
---@return moonpost.test.Event[]
function Policy:logged(text, fields)
  local found = {}
  for _, event in ipairs(self.log) do
    local same = not text or event.text:find(text, 1, true) ~= nil
    for key, value in pairs(fields or {}) do
      same = same and event.fields[key] == value
    end
    found[#found + 1] = same and event or nil
  end
  return found
end

--- Forgets what was sent, logged and printed so far.
function Policy:forget()
  for _, name in ipairs { "sent", "log", "printed" } do
    self[name] = {}
  end
end

--- Stops the server as a signal would: idle peers are told 421, others get `grace`.
---@param grace? number|string
function Policy:stop(grace)
  local seconds, expected = units.duration(grace or 0)
  if not seconds then
    blame(("policy:stop: %s expected"):format(expected))
  end
  stage.act(self, self.server._stop, self.server, seconds)
end

--- What tasks of the policy wait for.
---@return string[]
function Policy:waits()
  return task.waits(self._worker)
end

return M
