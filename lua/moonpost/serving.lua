--- A server that runs: from its description to bindings, a service and its end. Methods of moonpost.Server.
local assemble = require "moonpost.assemble"
local certificates = require "moonpost.certificates"
local core = require "moonpost.core"
local dispatch = require "moonpost.dispatch"
local endpoint = require "moonpost.endpoint"
local Error = require "moonpost.error"
local forward = require "moonpost.forward"
local log = require "moonpost.log"
local session = require "moonpost.session"
local task = require "moonpost.task"
local units = require "moonpost.units"

---@class moonpost.Server
local Server = {}

local function open_service(self, worker, built)
  local values = self.options
  local call, hooks = dispatch.new(built.house, built.chains)
  local house = built.house
  local service, why = worker:service {
    hostname = values.hostname, banner = values.banner, domains = values.domains, relay = values.relay,
      xclient = values.xclient,
    tls = built.tls, limits = built.limits, dispatch = call,
    session = function(conn)
      return session.new(conn, house)
    end,
  }
  if service then
    service:hooks(hooks)
  end
  return service, why
end

-- Everything about a service and its listeners that C has an opinion on, certificates among it.
local function try(self, worker, built)
  local service, why = open_service(self, worker, built)
  if not service then
    return why
  end
  service:hooks {}
  for i, config in ipairs(built.configs) do
    local ok, raised = pcall(service.wire, service, config, { ip = "192.0.2.1" })
    if not ok then
      why = why or ("%s: %s"):format(endpoint.show(self.listeners[i].endpoint), raised)
    end
  end
  service:stop(0)
  worker:advance(0)
  return why
end

--- Why it could not start, as far as that can be known without binding and without calling a hook.
---@param untouched? boolean a development certificate that is needed is not made
---@return string? why
---@return moonpost.Assembled? built what it comes to, when nothing is wrong
function Server:_check(untouched)
  local worker = core.virtual_worker()
  local built, why = assemble.server(self, worker, untouched and "unmade")
  why = built and try(self, worker, built) or why
  return why, not why and built or nil
end

--- Binds the endpoints, for this process: `workers` says how many threads will serve them.
---@param workers? integer
---@return moonpost.core.binding[]? bindings in the order of `listen`
---@return moonpost.Error? err kind "bind": the port is taken, may not be used, ...
function Server:bind(workers)
  local bindings = {}
  for i, listener in ipairs(self.listeners) do
    local at = listener.endpoint
    local binding, why = core.bind({ ip = at.ip, port = at.port, path = at.path, mode = listener.mode }, workers or 1)
    if not binding then
      for _, each in ipairs(bindings) do
        each:close()
      end
      return nil, Error("bind", ("cannot listen on %s: %s"):format(endpoint.show(at), why), { temporary = false })
    end
    bindings[i] = binding
  end
  return bindings
end

--- Serves bindings, in the order of `listen`. For who started without any.
---@param bindings moonpost.core.binding[]
---@return boolean? ok
---@return string? why
function Server:_listen(bindings)
  for i, binding in ipairs(bindings) do
    local listening, why = self._service:listen(binding, self._configs[i])
    if not listening then
      return nil, ("cannot serve %s: %s"):format(endpoint.show(self.listeners[i].endpoint), why)
    end
    local at, bound = self.listeners[i].endpoint, binding:endpoint()
    local address = {
      name = self.listeners[i].name, scheme = at.scheme, protocol = at.protocol, ip = bound.ip, port = bound.port,
        path = bound.path,
    }
    address.url = endpoint.show(address)
    self.addresses[i] = address
  end
  return true
end

-- One line for each endpoint, when all of them are served.
local function tell(addresses)
  for _, address in ipairs(addresses) do
    log.event("info", "listening on " .. address.url, { "name", address.name })
  end
end

---@class moonpost.StartOptions for who runs several workers, or none
---@field worker? moonpost.core.worker
---@field bindings? moonpost.core.binding[]|false made before by server:bind(); false = no sockets
---@field pretend_tls? boolean for moonpost.test: TLS is offered without a certificate, and never spoken
---@field deliver? function for moonpost.test: is told of each delivery instead of C

-- Queues that the policy describes deliver what is left in them from the start. What only writes down what would be done has none.
function Server:_start_queues(worker, deliver)
  if deliver or not package.loaded["moonpost.queue"] then
    return true
  end
  for _, queue in ipairs(require("moonpost.queue").described(worker)) do
    local ok, err = queue:start(worker, self.options.hostname)
    if not ok then
      return nil, err
    end
    queue:_serve_commands()
  end
  return true
end

--- Starts serving and returns at once. Everything is closed again when something fails.
---@param how? moonpost.StartOptions
---@return boolean? ok
---@return moonpost.Error? err
function Server:start(how)
  if self._service then
    error("server:start: it runs already", 2)
  end
  how = how or {}
  local worker = how.worker or task.worker()
  self._started, self._worker = true, worker
  local built, why = assemble.server(self, worker, how.pretend_tls)
  if not built then
    return nil, Error("config", why, { temporary = false })
  end
  local service
  service, why = open_service(self, worker, built)
  if not service then
    return nil, Error("config", why, { temporary = false })
  end
  built.house.deliver = how.deliver
  self._service, self._configs, self._house, self._chains = service, built.configs, built.house, built.chains
  local queues, trouble = self:_start_queues(worker, how.deliver)
  if not queues then
    self:_stop(0)
    return nil, trouble
  end
  local bindings, err = how.bindings, nil
  if bindings == nil and not worker:is_virtual() then
    bindings, err = self:bind()
    self._bindings = bindings
  end
  if not err then
    why = select(2, dispatch.generation(built.chains.start, built.house, self))
    why = why or bindings and select(2, self:_listen(bindings))
    err = why and Error("start", why, { temporary = false })
  end
  if err then
    self:_stop(0)
    return nil, err
  end
  tell(self.addresses)
  if not worker:is_virtual() then
    core.watchdog(self.options.limits.cpu_time)
    core.memory(self.options.limits.memory)
  end
  return true
end

--- Loads the certificates anew, for sessions to come. Those that are open keep theirs.
---@return boolean? ok
---@return moonpost.Error? err the old ones stay
function Server:reload_certificates()
  local config, why = certificates.config(self.options.tls, false, self.options.hostname)
  local ok = true
  if config and self._service then
    ok, why = self._service:reload_tls(config)
  end
  if not ok or not config and why then
    return nil, Error("tls", why, { temporary = false })
  end
  return true
end

--- A connection without a socket to the first listener of that name, for moonpost.test: the peer's end of it.
---@param peer { ip: string, port?: integer, local_ip?: string, local_port?: integer }
---@param name? string the first listener when left out
---@return moonpost.core.wire
function Server:_wire(peer, name)
  for i, listener in ipairs(self.listeners) do
    if name == nil or listener.name == name then
      return self._service:wire(self._configs[i], peer)
    end
  end
  error(("there is no listener %q"):format(name), 2)
end

-- ---- stopping -----------------------------------------------------------------------------------------------------

-- What is on its way is finished, within the grace; what waits, waits in the spool.
local function stop_queues(self, done)
  local queues = package.loaded["moonpost.queue"] and require("moonpost.queue").described(self._worker) or {}
  if not queues[1] then
    return done()
  end
  task.spawn_on(self._worker, function()
    for _, queue in ipairs(queues) do
      queue:stop(math.max(0, self._stop_by - self._worker:now()))
    end
    done()
  end)
end

-- Begins to stop, or hurries what has begun; `done` is called when nothing is left.
function Server:_stop(grace, done, gently)
  if not self._service then
    if done then
      done()
    end
    return
  end
  table.insert(self._waiting, done)
  self._stop_by = self._worker:now() + grace
  if not self._stopping then
    self._stopping = true
    if package.loaded["moonpost.queue"] then
      for _, queue in ipairs(require("moonpost.queue").described(self._worker)) do
        queue:_retire()
      end
    end
    dispatch.generation(self._chains.retire, self._house, self)
  end
  for _, binding in ipairs(self._bindings or {}) do
    binding:close()
  end
  self._bindings = nil
  self._service:stop(grace, function()
    self._service, self._stopping = nil, false
    forward.close(self._house)
    self.addresses = {}
    stop_queues(self, function()
      local waiting = self._waiting
      self._waiting = {}
      for _, wake in ipairs(waiting) do
        wake()
      end
    end)
  end, gently)
end

--- Stops: no new connections, idle peers are told 421, busy ones finish for `grace`. Waits until the last is gone.
---@async
---@param grace? number|string seconds or "30s"; the option `grace` when left out
function Server:stop(grace)
  local seconds, expected = units.duration(grace == nil and self.options.grace or grace)
  if not seconds then
    error(("server:stop: %s expected"):format(expected), 2)
  end
  if self._service then
    task.park(function(wake)
      self:_stop(seconds, wake)
    end, "server:stop")
  end
end

local running = {} -- servers that a signal stops

local function on_signal()
  for server in pairs(running) do
    local grace = server._stopping and 0 or server.options.grace
    log.event("info", grace == 0 and "stopping at once" or "stopping", { "connections",
      server._service:counts().connections })
    server:_stop(grace)
  end
end

--- Starts, serves until SIGTERM or SIGINT, and stops: busy peers finish within `grace`, a second signal stops at
--- once. SIGHUP loads the certificates anew. Raises when it cannot start.
function Server:run()
  local ok, err = self:start()
  if not ok then
    error(tostring(err), 2)
  end
  local worker, over = self._worker, false
  running[self] = true
  worker:signal("TERM", on_signal)
  worker:signal("INT", on_signal)
  worker:signal("HUP", function()
    for server in pairs(running) do
      local loaded, why = server:reload_certificates()
      log.event(loaded and "info" or "error", loaded and "certificates loaded" or "certificates not loaded", { "why",
        tostring(why) })
    end
  end)
  local waiting = {}
  table.insert(self._waiting, function()
    over = true
    running[self] = nil
    if waiting.wake then
      waiting.wake()
    elseif not next(running) then
      worker:stop()
    end
  end)
  if task.current() then
    task.park(function(wake)
      waiting.wake = wake
    end, "server:run")
  else
    while not over do
      worker:run()
    end
  end
  if not next(running) then
    for _, name in ipairs { "TERM", "INT", "HUP" } do
      worker:signal(name, nil)
    end
  end
  return true
end

return Server
