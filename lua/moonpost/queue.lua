--- moonpost.queue { ... }: messages that are kept, routed by Lua, tried for days, and delivered or returned.
---
---     local outbound = moonpost.queue {
---       spool = "/var/spool/moonpost",
---       route = function(delivery) return "mx" end,
---       site = { connections = 20, per_connection = 100, rate = "1000/h" },
---       retry = { "5m", "15m", "1h", "4h", expire = "5d" },
---     }
---     message:enqueue(outbound)
---     outbound:send { from = "me@example.org", to = "you@example.net", subject = "Hi", text = "..." }
---
--- It describes: nothing is opened before a server starts, or a script puts a message in.
local Error = require "moonpost.error"
local attempts_of = require "moonpost.queue.attempts"
local core = require "moonpost.core"
local domain = require "moonpost.queue.domain"
local engine_of = require "moonpost.queue.engine"
local hop_of = require "moonpost.queue.hop"
local log = require "moonpost.log"
local lookups = require "moonpost.dns.lookups"
local mail_of = require "moonpost.mail"
local options_of = require "moonpost.options"
local orders = require "moonpost.queue.orders"
local report = require "moonpost.report"
local schedule_of = require "moonpost.schedule"
local settle = require "moonpost.queue.settle"
local suggest = require "moonpost.suggest"
local task = require "moonpost.task"
local units = require "moonpost.units"

local M = {}

local function one_or_more(number)
  return number < 1 and "at least 1" or nil
end

--- Everything that `site` may say of a site.
M.site_schema = {
  { name = "connections", type = "integer", default = 20, doc = "at a time", check = one_or_more },
  { name = "per_connection", type = "integer", default = 100, doc = "messages; then it is closed. 0 = no limit" },
  { name = "recipients", type = "integer", default = 100, doc = "of one transaction", check = one_or_more },
  { name = "rate", type = "rate", null = true, doc = "messages" },
  { name = "connection_rate", type = "rate", null = true, doc = "new connections" },
  { name = "idle", type = "duration", default = "10s", doc = "how long a connection is kept that nobody uses" },
  { name = "pause", type = "duration", default = "30s", doc = "when nobody there can be spoken to; then longer, up to 60 times that" },
  { name = "backlog", type = "integer", default = 200, doc = "transactions that wait in memory; the rest waits in the spool",
    check = one_or_more },
}

M.schema = {
  { name = "spool", type = "string", doc = "folder of the spool" },
  { name = "name", type = "string", null = true, doc = "in logs; the last part of `spool`" },
  { name = "route", type = "any", default = "mx", doc = "where a delivery goes: a function, or what it would return", check = function(value)
    return type(value) ~= "function" and type(value) ~= "string" and type(value) ~= "table"
      and "a function, or what it would return, expected" or nil
  end },
  { name = "routes", type = "table", default = {}, doc = "functions by name, for \"lua:name\"" },
  { name = "site", type = "any", null = true, doc = "limits of a site: a table, or a function of its name", check = function(value)
    return type(value) ~= "function" and type(value) ~= "table" and "a table of limits, or a function, expected" or nil
  end },
  { name = "retry", type = "any", null = true, doc = "when a delivery is tried again" },
  { name = "hostname", type = "string", null = true, doc = "that EHLO and reports say" },
  { name = "from", type = "string", null = true, doc = "of reports" },
  { name = "postmaster", type = "string", null = true, doc = "who hears of mail without a sender that cannot be delivered" },
  { name = "texts", type = "any", null = true, doc = "of reports, in the place of ours" },
  { name = "call_time", type = "duration", default = "5m", doc = "for a function of Lua that takes a delivery" },
  { name = "dns", type = "any", null = true, doc = "whom to ask", check = function(value)
    return not lookups.is_source(value) and "what dns.resolver or dns.zone returned is expected" or nil
  end },
  { name = "attempts", type = "any", null = true, doc = "a file in which each attempt is a line" },
}

local events = { routed = true, delivered = true, relayed = true, deferred = true, bounced = true, expired = true }

---@class moonpost.Queue
local Queue = {}
M.methods = Queue
local Queue_mt = { __name = "moonpost.Queue" }

function Queue_mt.__index(self, key)
  if key == "on" then
    return rawget(self, "_on")
  end
  return Queue[key]
end

-- Hooks: one for each event, as those of a server.
local function slots(queue)
  return setmetatable({}, {
    __index = queue._hooks,
    __newindex = function(_, name, fn)
      if not events[name] then
        error(("queue.on.%s: there is no such event%s"):format(tostring(name), suggest.hint(name, events)), 2)
      elseif type(fn) ~= "function" then
        error(("queue.on.%s: a function expected, got a %s"):format(name, type(fn)), 2)
      elseif queue._hooks[name] then
        error(("queue.on.%s is set already"):format(name), 2)
      end
      queue._hooks[name] = fn
    end,
  })
end

local described = setmetatable({}, { __mode = "k" }) -- by the worker on which they were: a list of queues

--- The queues that have been described on a worker: a server there starts them.
---@param worker moonpost.core.worker
---@return moonpost.Queue[]
function M.described(worker)
  return described[worker] or {}
end

--- What a policy may not say: a spool has one queue, for all workers and generations.
---@param worker moonpost.core.worker
---@return string? why two queues have one spool
function M.clash(worker)
  local by_spool = {}
  for _, queue in ipairs(M.described(worker)) do
    local spool = queue.spool:gsub("//+", "/"):gsub("(.)/$", "%1")
    local other = by_spool[spool]
    if other then
      return ("%s: moonpost.queue: spool: %q is that of the queue at %s already"):format(queue.at, queue.spool, other.at)
    end
    by_spool[spool] = queue
  end
end

-- Limits as a policy writes them: those of every site, and under patterns ("mx.example.net", "*.example.net") those of some.
local function limits(given, at)
  local common, patterns, names = {}, {}, {}
  for key, value in pairs(given) do
    if type(key) == "string" and key:find(".", 1, true) then
      names[#names + 1] = key
    else
      common[key] = value
    end
  end
  local values, why = options_of.resolve(M.site_schema, common, at, "site.")
  if not values then
    return nil, why
  end
  for _, key in ipairs(names) do
    local some = given[key]
    if type(some) ~= "table" then
      return nil, ('site["%s"]: a table of limits expected, got a %s'):format(key, type(some))
    elseif not key:find("^%*?[%w._-]+$") or key:find("^%*[^.]") then
      return nil, ('site["%s"]: a host name, or "*.example.net" expected'):format(key)
    end
    local merged = {}
    for name, value in pairs(common) do
      merged[name] = value
    end
    for name, value in pairs(some) do
      merged[name] = value
    end
    patterns[key:lower()], why = options_of.resolve(M.site_schema, merged, at, ('site["%s"].'):format(key))
    if not patterns[key:lower()] then
      return nil, why
    end
  end
  return values, patterns
end

-- Of the patterns the one that says most of a host: its name, else the longest suffix.
local function among(values, patterns, name)
  local host = (name:match("://%[?([^%]/]+)") or name):gsub(":%d+$", ""):lower()
  local found = patterns[host]
  local rest = host
  while not found and rest do
    rest = rest:match("%.(.+)$")
    found = rest and patterns["*." .. rest]
  end
  return found or values
end

-- Everything that can be wrong with a description.
local function read(given, at)
  local values, why = options_of.resolve(M.schema, given, at)
  if not values then
    return nil, why
  elseif not values.spool or values.spool == "" then
    return nil, 'spool is needed: a folder such as "/var/spool/moonpost"'
  end
  if type(values.site) == "table" then
    local ok, wrong = limits(values.site, at)
    if not ok then
      return nil, wrong
    end
  end
  for name, fn in pairs(values.routes) do
    if type(name) ~= "string" or type(fn) ~= "function" then
      return nil, ("routes.%s: a function expected, got a %s"):format(tostring(name), type(fn))
    end
  end
  if type(values.route) ~= "function" then
    -- One that never changes is read now, and not when the first message waits; what is made of it is forgotten, for nobody knows our name yet.
    local hop, wrong = hop_of.read({
      hostname = values.hostname, dns = values.dns, routes = values.routes, hops = { by_key = {}, count = 0 },
    }, values.route)
    if not hop then
      return nil, "route: " .. wrong
    end
  end
  if values.texts ~= nil then
    local ok, wrong = report.check(values.texts)
    if not ok then
      return nil, wrong
    end
  end
  for _, name in ipairs { "from", "postmaster" } do
    if values[name] and not require("moonpost.compose").mailbox(values[name]) then
      return nil, ("%s: an address expected"):format(name)
    end
  end
  if values.hostname and not core.dns_name(values.hostname) then
    return nil, "hostname: the name of a host expected"
  end
  if values.attempts ~= nil then
    values.attempts, why = attempts_of.read(values.attempts, at)
    if not values.attempts then
      return nil, why
    end
  end
  values.schedule, why = schedule_of.read(values.retry or {}, at)
  if not values.schedule then
    return nil, "retry: " .. why
  end
  return values
end

--- Describes a queue. Mistakes raise at the caller's line.
---@param given moonpost.QueueOptions
---@return moonpost.Queue
function M.new(given)
  if type(given) ~= "table" then
    error(("moonpost.queue: a table of options expected, got a %s"):format(type(given)), 2)
  end
  local at = options_of.place(2)
  local values, why = read(given, at)
  if not values then
    error("moonpost.queue: " .. why, 2)
  end
  local self = setmetatable({
    spool = values.spool, name = values.name or values.spool:match("([^/]*)/*$"), route = values.route, routes = values.routes,
    schedule = values.schedule, hostname = values.hostname, from = values.from, postmaster = values.postmaster, texts = values.texts,
    call_time = values.call_time, dns = values.dns, attempts = values.attempts, hops = { by_key = {}, count = 0 },
    at = at, _site = values.site, _hooks = {}, _engine = nil,
  }, Queue_mt)
  self._on = slots(self)
  self.plan = { kind = "enqueue", queue = self } -- of every message that is to go into it
  local here = task.worker()
  described[here] = described[here] or {}
  table.insert(described[here], self)
  return self
end

--- The limits of a site.
---@param name string
---@return table
function Queue:_limits_of(name)
  local given = orders.of(self, name).limits or self._site
  if type(given) == "function" then
    local ok, answer = pcall(given, { name = name })
    if not ok or answer ~= nil and type(answer) ~= "table" then
      log.event("error", "site failed", { "queue", self.name, "site", name, "why", ok and "a table of limits expected" or tostring(answer) })
      answer = nil
    end
    given = answer
  end
  local values, patterns = limits(given or {}, "site")
  if not values then
    log.event("error", "site failed", { "queue", self.name, "site", name, "why", patterns })
    return (limits({}, "site"))
  end
  return among(values, patterns, name)
end

-- Tells a hook, in a task of its own: one that raises or waits holds up nobody.
function Queue:_tell(event, record)
  local fn = self._hooks[event]
  if not fn then
    return
  end
  local function finish(ok, err)
    if not ok then
      log.event("error", "hook failed", { "hook", "queue." .. event, "at", options_of.place_of(fn), "error", tostring(err) })
    end
  end
  local ok, err = task.hook(self._engine.worker, self.call_time, finish, fn, record)
  if ok == false then
    finish(false, err)
  end
end

-- ---- running -------------------------------------------------------------------------------------------------------

local function open(queue, worker)
  if worker:is_virtual() then
    queue._kept = queue._kept or require("moonpost.queue.memory").new(worker)
    return queue._kept
  end
  return require("moonpost.queue.disk").open(queue.spool, worker)
end

--- Opens the spool and begins to deliver, which a server does by itself. Once is enough. Of several workers each delivers to sites of its own.
---@param worker? moonpost.core.worker
---@param hostname? string where the queue has none of its own
---@return boolean? ok
---@return moonpost.Error? err kind "spool": somebody else has it open, it cannot be read, ...
function Queue:start(worker, hostname, only_look)
  if self._engine then
    return true
  end
  worker = worker or task.worker()
  local store, err = open(self, worker)
  if not store then
    return nil, err
  end
  if not self.hostname then
    self.hostname = hostname or options_of.resolve(require("moonpost.client_options").schema, {}, "?").helo
  end
  if self.attempts and not only_look and not worker:is_virtual() then
    local why
    self._journal, why = attempts_of.open(self, self.attempts, worker)
    if not self._journal then
      store:close()
      return nil, Error("spool", why)
    end
  end
  self._engine = engine_of.new(self, store, worker)
  if only_look then
    self._engine.stopping = true
  else
    self._engine:start()
  end
  return true
end

--- Opens the spool to look and change, and delivers nothing.
---@return boolean? ok
---@return moonpost.Error? err
function Queue:_open()
  local ok, err = self:start(nil, nil, true)
  return ok, err
end

--- Serves commands by a socket in the folder of the spool, on the first of several workers.
function Queue:_serve_commands()
  local engine = self._engine
  if engine and engine.place == 1 and not self._control and not engine.worker:is_virtual() then
    self._control = require("moonpost.queue.control").open(self, engine.worker)
  end
end

local function close_commands(queue)
  if queue._control then
    queue._control:close()
    queue._control = nil
  end
end

--- Claims nothing more: a newer policy delivers from now on. What is put in is kept.
function Queue:_retire()
  close_commands(self)
  if self._engine then
    self._engine:stop(function() end)
  end
end

--- Claims nothing more and waits until what is on its way is over. What is left stays in the spool.
---@async
---@param grace? number|string how long that may take: seconds or "30s"; as long as it takes when left out
function Queue:stop(grace)
  local seconds, expected = units.duration(grace or 0)
  if not seconds then
    error(("queue:stop: %s expected"):format(expected), 2)
  end
  local engine = self._engine
  close_commands(self)
  if engine then
    local timer = grace and engine.worker:timer(seconds, function()
      engine:hurry()
    end)
    task.park(function(wake)
      engine:stop(wake)
    end, "a queue to stop")
    if timer then
      timer:cancel()
    end
    self._engine = nil
    engine.store:close()
    if self._journal then
      self._journal:close()
      self._journal = nil
    end
  end
end

-- ---- putting in ----------------------------------------------------------------------------------------------------

local function delivery(one, times)
  local address = mail_of.address(one)
  return {
    address = address, domain = domain.of(type(one) == "table" and one.ascii or address), params = type(one) == "table" and one.params or nil,
    due = times.due, expires = times.expires, alarm = times.alarm,
  }
end

-- Keeps a message: { id, from, to, octets | source, size, params, now, tenant?, meta?, user?, report?, over?, later? }; `over` and `later`
-- are deliveries of which the spool hears in the same commit.
function Queue:_put(mail)
  local engine = self._engine
  local params = mail.params or {}
  local times = settle.times(self, mail.now, params)
  if times.conflict then
    return nil, Error("conflict", times.conflict, { enhanced = "5.4.7" })
  end
  local list, domains = {}, {}
  for i, one in ipairs(mail.to) do
    list[i] = delivery(one, times)
    domains[i] = list[i].domain
  end
  local entry = {
    id = mail.id, sender = mail.from, size = mail.octets and #mail.octets or mail.size, received = mail.now, tenant = mail.tenant, user = mail.user,
    priority = mail.priority or params.priority or 0, params = params, meta = mail.meta or {}, report = mail.report or nil,
  }
  local kept, err = engine.store:put(entry, mail.octets or mail.source, list, engine:may_take(domains), mail.over, mail.later)
  if not kept then
    return nil, err
  elseif not kept[1] then
    return nil, Error("spool", ("%s: there is a message of this name already"):format(mail.id), { enhanced = "4.3.0" })
  end
  local now = {}
  for _, one in ipairs(kept) do
    now[#now + 1] = one.claimed and one or nil
  end
  if now[1] then
    engine:take(now, mail.octets)
  else
    engine:poke()
  end
  return mail.id
end

local own = { tenant = true, priority = true, meta = true }

--- Keeps a message that a script has composed. It is on disk when this returns.
---@async
---@param options table as of moonpost.send; and tenant, priority, meta
---@return string? id
---@return moonpost.Error? err
function Queue:send(options)
  if type(options) ~= "table" then
    error(("queue:send: a table expected, got a %s"):format(type(options)), 2)
  end
  local prepared, why = mail_of.prepare(options, own)
  if not prepared then
    error("queue:send: " .. why, 2)
  end
  local octets = prepared.body
  if type(octets) == "function" then
    local chunks = {}
    for chunk in octets() do
      chunks[#chunks + 1] = chunk
    end
    octets = table.concat(chunks)
  elseif type(octets) ~= "string" then
    octets = assert(octets:octets())
  end
  local ok, err = self:start()
  if not ok then
    return nil, err
  end
  local worker = self._engine.worker
  return self:_put {
    id = worker:message_id(), from = prepared.from, to = prepared.to, octets = octets, params = prepared.params, now = worker:time(),
    tenant = options.tenant, priority = options.priority, meta = options.meta,
  }
end

require("moonpost.queue.admin").install(Queue, M.site_schema)
require("moonpost.queue.intake").install(Queue)

---@param value any
---@return boolean
function M.is(value)
  return type(value) == "table" and getmetatable(value) == Queue_mt
end

return M
