--- Connections that are kept: per destination so many at a time, each for so many messages, idle for so long.
---
---     local pool <close> = moonpost.pool { via = "submission://me:secret@smtp.example.net", connections = 5 }
---     for row in rows() do
---       pool:post({ from = ..., to = row.address, subject = "...", text = "..." }, function(result, err) ... end)
---     end
---     pool:drain()
---
--- A destination's connections are one site: those that are open, a stack of idle ones (the one used last is taken first, so that
--- the others may go), and a queue of tasks that wait for one.
local Error = require "moonpost.error"
local client = require "moonpost.client"
local options_of = require "moonpost.options"
local send_of = require "moonpost.send"
local task = require "moonpost.task"

local M = {}

local SEVERAL = 4 -- tasks for each connection of one destination, where there are several destinations
local SWEEP = 1 -- seconds between looks for connections that have been idle for too long

M.schema = {
  { name = "connections", type = "integer", default = 10, doc = "to one destination at a time" },
  { name = "per_connection", type = "integer", default = 100, doc = "messages; then it is closed. 0 = no limit" },
  { name = "idle", type = "duration", default = "30s", doc = "how long one is kept that nobody uses" },
  { name = "backlog", type = "integer", default = 1000, doc = "messages posted and not yet sent; pool:post waits past it" },
}

---@class moonpost.Pool
local Pool = {}
local Pool_mt = { __index = Pool, __name = "moonpost.Pool" }

--- Two targets with the same key are the same to the peer: host, address, protocol, names, credentials, TLS.
local function site_of(self, target)
  local key = target.key
  local site = self._sites[key]
  if not site then
    site = { key = key, open = 0, idle = {}, waiting = {}, first = 1, last = 0 }
    self._sites[key] = site
  end
  return site
end

local function next_waiter(site)
  while site.first <= site.last do
    local wake = site.waiting[site.first]
    site.waiting[site.first] = nil
    site.first = site.first + 1
    if wake then
      return wake
    end
  end
end

local function wait(site)
  return task.park(function(wake)
    site.last = site.last + 1
    local at = site.last
    site.waiting[at] = wake
    return function()
      site.waiting[at] = false
    end
  end, "a connection of a pool")
end

-- One connection less: who waits may open another.
local function gone(site)
  site.open = site.open - 1
  local wake = next_waiter(site)
  if wake then
    wake(false)
  end
end

local function fit(self, one)
  return one.alive and not one:spent() and not self._closed
    and (self._per_connection == 0 or one.messages < self._per_connection)
end

local function drop(site, one)
  one:leave()
  gone(site)
end

local sweep

local function arm(self)
  if not self._timer and not self._closed then
    self._timer = self._worker:timer(SWEEP, function()
      self._timer = nil
      sweep(self)
    end)
  end
end

function sweep(self)
  local now, left = self._worker:now(), false
  for key, site in pairs(self._sites) do
    while site.idle[1] and (site.idle[1]._since + self._idle <= now or not site.idle[1].alive) do
      drop(site, table.remove(site.idle, 1))
    end
    left = left or site.idle[1] ~= nil
    if site.open == 0 and site.first > site.last then
      self._sites[key] = nil
    end
  end
  if left then
    arm(self)
  end
end

local function open(self, target)
  if self._gate then
    self._gate()
  end
  return client.open(target)
end

--- A connection for one message; the caller gives it back by release(). Waits while the destination has as many as it may have.
---@async
---@param target? string|table a URL; the pool's own when left out. A table is a target of moonpost.client
---@param fresh? boolean not one that was kept: those may have been closed by the peer while they were idle
---@return moonpost.Client? client
---@return moonpost.Error? err
function Pool:lease(target, fresh)
  if type(target) ~= "table" then
    target = send_of.target(self._defaults, target, 2)
  end
  local site = site_of(self, target)
  while true do
    if self._closed then
      return nil, Error("closed", "the pool is closed")
    end
    local kept = not fresh and table.remove(site.idle)
    if kept and fit(self, kept) then
      return kept
    elseif kept then
      drop(site, kept)
    elseif site.open < self._connections then
      site.open = site.open + 1
      local ok, one, err = pcall(open, self, target)
      if ok and one then
        one._site = site
        return one
      end
      gone(site)
      if not ok then
        error(one, 0)
      end
      return nil, err
    elseif fresh and site.idle[1] then
      drop(site, table.remove(site.idle, 1))
    else
      local given = wait(site)
      if given then
        return given
      end
    end
  end
end

--- Gives a connection back. One that is not fit for another message is closed.
---@param one moonpost.Client
function Pool:release(one)
  local site = one._site
  if not fit(self, one) then
    drop(site, one)
    return
  end
  local wake = next_waiter(site)
  if wake then
    wake(one)
    return
  end
  one._since = self._worker:now()
  site.idle[#site.idle + 1] = one
  arm(self)
end

--- Sends one message; waits until every recipient has an outcome.
---@async
---@param mail table as moonpost.send takes it
---@return moonpost.SendResult? result
---@return moonpost.Error? err with a row for each recipient in `recipients`
function Pool:send(mail)
  return send_of.through(self, mail, 2)
end

-- Whoever waits for room in the queue goes on when half of it is empty, rather than for each message.
local function make_room(self)
  local rooms = self._rooms
  self._rooms = {}
  for _, wake in ipairs(rooms) do
    wake()
  end
end

local function serve(self, job)
  local result, err = send_of.prepared(self, job)
  if job.done then
    job.done(result, err)
  end
end

local function post_next(self)
  while self._running < self._most do
    local job = self._queue[self._first]
    if not job then
      return
    end
    self._queue[self._first] = nil
    self._first = self._first + 1
    self._running = self._running + 1
    task.spawn(function()
      while job do
        local ok, why = pcall(serve, self, job)
        if not ok then
          task.spawn(error, why, 0) -- heard of as any task's error; the queue goes on
        end
        job = self._queue[self._first] -- this task goes on with the next
        if job then
          self._queue[self._first] = nil
          self._first = self._first + 1
        end
        if self._rooms[1] and self._last - self._first + 1 <= self._backlog // 2 then
          make_room(self)
        end
      end
      self._running = self._running - 1
      if self._running == 0 then
        local waiting = self._drains
        self._drains = {}
        for _, wake in ipairs(waiting) do
          wake()
        end
      end
    end)
  end
end

--- Puts a message into the pool's queue; waits only while that is full. `done(result, err)` is called when every recipient has an
--- outcome, in a task.
---@async
---@param mail table as moonpost.send takes it
---@param done? fun(result: moonpost.SendResult?, err: moonpost.Error?)
function Pool:post(mail, done)
  if done ~= nil and type(done) ~= "function" then
    error(("pool:post: done: a function expected, got a %s"):format(type(done)), 2)
  end
  local job = send_of.prepare(self._defaults, mail, 2)
  job.done = done
  if job.hop then
    self._most = self._connections * SEVERAL
  end
  while self._last - self._first + 1 >= self._backlog do
    task.park(function(wake)
      table.insert(self._rooms, wake)
    end, "room in a pool's queue")
  end
  self._last = self._last + 1
  self._queue[self._last] = job
  post_next(self)
end

--- Waits until everything that was posted has an outcome.
---@async
function Pool:drain()
  while self._running > 0 do
    task.park(function(wake)
      table.insert(self._drains, wake)
    end, "a pool to be done")
  end
end

--- For queues: `fn` is called before a connection is opened, and may wait.
---@param fn fun()
function Pool:gate(fn)
  self._gate = fn
end

--- For queues: other limits, from now on.
---@param limits { connections: integer, per_connection: integer, idle: number }
function Pool:limit(limits)
  self._connections, self._per_connection, self._idle = limits.connections, limits.per_connection, limits.idle
end

--- Says QUIT on idle connections and keeps no other from now on. What is on its way goes on.
function Pool:close()
  self._closed = true
  if self._timer then
    self._timer:cancel()
    self._timer = nil
  end
  for _, site in pairs(self._sites) do
    while site.idle[1] do
      drop(site, table.remove(site.idle))
    end
    local wake = next_waiter(site)
    while wake do
      wake(false)
      wake = next_waiter(site)
    end
  end
end

Pool_mt.__close = Pool.close
Pool_mt.__gc = Pool.close

--- A pool. Options are those of moonpost.connect (they hold for every message that has none of its own), and how many are kept.
---@param options? table
---@return moonpost.Pool
function M.new(options)
  local own, others = {}, {}
  for name, value in pairs(options or {}) do
    others[name] = value
  end
  for _, field in ipairs(M.schema) do
    own[field.name], others[field.name] = others[field.name], nil
  end
  local values, why = options_of.resolve(M.schema, own, options_of.place(2))
  if not values then
    error("moonpost.pool: " .. why, 2)
  elseif values.connections < 1 then
    error("moonpost.pool: connections: at least 1", 2)
  end
  local defaults = send_of.defaults(others, "moonpost.pool", 2, M.schema)
  return setmetatable({
    _defaults = defaults, _worker = task.worker(), _sites = {},
    _connections = values.connections, _per_connection = values.per_connection, _idle = values.idle,
    _backlog = values.backlog, _most = values.connections * (defaults.to and 1 or SEVERAL), _running = 0,
    _queue = {}, _first = 1, _last = 0, _rooms = {}, _drains = {}, _closed = false, _timer = nil, _gate = nil,
  }, Pool_mt)
end

return M
