--- A queue that runs, on one worker: deliveries that are due are claimed, routed, put to their sites, and settled.
---
---     spool -> claim (a domain, a lane in turn) -> route (Lua) -> site (limits, rates, pauses) -> carry -> settle -> spool
---
--- Claims are few at a time for each domain, and no more than one when many are out: so neither a large queue nor a thousand dead sites
--- take room that a live one needs.
local carry = require "moonpost.queue.carry"
local clock = require "moonpost.queue.clock"
local log = require "moonpost.log"
local orders = require "moonpost.queue.orders"
local router = require "moonpost.queue.router"
local settle = require "moonpost.queue.settle"
local site_of = require "moonpost.queue.site"
local sweep = require "moonpost.queue.sweep"
local task = require "moonpost.task"

local M = {}

local BATCH = 20 -- deliveries claimed of a domain at once
local OUT_MOST = 100 -- of a domain; more are claimed when half of them are over
local CLAIMED_MOST = 10000 -- past it one of a domain
local DOMAINS = 64 -- looked at in one go
local ROUTING_MOST = 256 -- batches that are being routed: DNS may take its time
local ROUTE_TIME = 120 -- seconds for `route` and the look-up of mail exchangers
local LOOK = 60 -- seconds: nothing waits longer than that for a clock that was set
local PAUSE_MOST = 300 -- seconds that a delivery waits by itself for a site that is paused or suspended
local SOON = 0.01 -- seconds: timers are of milliseconds
local LATER = 60 -- seconds until a delivery is tried again that the policy could not route
local ALARMS = 500 -- looked at in one go

---@class moonpost.queue.Engine
local Engine = {}
local Engine_mt = { __index = Engine, __name = "moonpost.queue.Engine" }

---@param queue moonpost.Queue
---@param store table
---@param worker moonpost.core.worker
---@return moonpost.queue.Engine
function M.new(queue, store, worker)
  local self = setmetatable({
    queue = queue, store = store, worker = worker, sites = {}, claimed = 0, stopping = false,
    _routing = 0, _running = 0, _out = {}, _ways = {}, _wake = false, _poked = false, _waiting = {},
    _looking = false, _late_again = nil, _swept = worker:now(), _tasks = {},
    _sated = {}, _orders = "", _foreign = {}, _foreign_count = 0,
  }, Engine_mt)
  self.place, self.places = store:owner()
  store.changed = function()
    self:poke()
  end
  return self
end

--- There is something to look at.
function Engine:poke()
  self._poked = true
  local wake = self._wake
  if wake then
    self._wake = false
    wake()
  end
end

-- ---- claims --------------------------------------------------------------------------------------------------------

local function count(self, domain, by)
  self.claimed = self.claimed + by
  local out = (self._out[domain] or 0) + by
  self._out[domain] = out > 0 and out or nil
  if by < 0 and out <= OUT_MOST // 2 and self._sated[domain] then
    self._sated[domain] = nil
    self.store:sleep(domain, 0)
    self:poke()
  end
end

-- Whether a domain's mail can be handed on now, as far as is known: its site may be another worker's, or take nothing at the moment.
local function may_go(self, domain)
  if self._foreign[domain] then
    return false
  end
  local at = self.sites[self._ways[domain] or false]
  return not at or not at.asleep and not at:closed()
end

--- Whether deliveries that come may be claimed as they are kept. Where many are claimed, or none can be handed on now, they wait in the spool.
---@param domains string[] theirs
---@return boolean
function Engine:may_take(domains)
  if self.claimed >= CLAIMED_MOST or self.stopping then
    return false
  end
  for _, domain in ipairs(domains) do
    if may_go(self, domain) then
      return true
    end
  end
  return false
end

--- Claims of these deliveries have ended.
---@param list moonpost.queue.Delivery[]
function Engine:gone(list)
  for _, one in ipairs(list) do
    count(self, one.claimed_as or one.domain, -1)
    one.claimed_as, one.placed = nil, nil
  end
end

local function claimed(self, list)
  for _, one in ipairs(list) do
    one.claimed_as = one.domain -- it may be redirected meanwhile
    count(self, one.domain, 1)
  end
end

--- Back to the spool as they came, not due for some seconds.
---@param list moonpost.queue.Delivery[]
---@param seconds? number
function Engine:put_back(list, seconds)
  self.store:release(list, seconds)
  self:gone(list)
end

-- Pauses are by the worker's clock, which does not jump.
local function seconds_until(self, at)
  return at and math.max(0, at - self.worker:now()) or nil
end

-- A domain whose deliveries all go to one site sleeps with it. Where a policy sends them here and there, each of them waits by itself.
local function sleep(self, at, seconds)
  for domain in pairs(at.domains) do
    if self._ways[domain] == at.key then
      self._sated[domain] = nil -- what comes back does not end this sleep
      self.store:sleep(domain, seconds)
    end
  end
  if self.stopping then
    self.store:tell() -- whoever delivers from now on has to wake up when it is over
  end
end

--- The deliveries of a domain go to a site.
---@param domain string
---@param at moonpost.queue.Site
function Engine:lead(domain, at)
  local way = self._ways[domain]
  if way == nil then
    self._ways[domain] = at.key
  elseif way ~= at.key then
    self._ways[domain] = false
  end
  if not at.domains[domain] then
    at.domains[domain], at.led = true, at.led + 1
  end
end

--- Gives a job back that a site cannot take now.
---@param job moonpost.queue.Job
---@param again? number by the worker's clock
---@param at moonpost.queue.Site
function Engine:back(job, again, at)
  local seconds = seconds_until(self, again)
  self:put_back(job.deliveries, seconds and math.min(seconds, PAUSE_MOST))
  if seconds then
    sleep(self, at, seconds == math.huge and PAUSE_MOST or seconds) -- a site that is suspended may be resumed at any time
  end
end

-- ---- routing -------------------------------------------------------------------------------------------------------

--- The site of a key, made when it is missing.
---@param key string
---@param name string
---@return moonpost.queue.Site
function Engine:site(key, name)
  local found = self.sites[key]
  if not found then
    found = site_of.new(self, key, name, self.queue:_limits_of(name))
    self.sites[key] = found
    local order = orders.of(self.queue, name)
    found.resumed = order.resumed
    if order.suspended then
      found:suspend()
    end
  end
  return found
end

-- Whatever went wrong while it was settled, nothing stays claimed. What is over already is not touched by a release.
local function settled(self, job, ok, why)
  if not ok then
    log.event("error", "queue failed", { "queue", self.queue.name, "message", job.message.id, "why", tostring(why) })
    self.store:release(job.deliveries, LATER)
  end
  return ok
end

--- Settles a job without a site, in a task of its own: the time for routing may be over in the middle of it.
---@param job moonpost.queue.Job
---@param outcomes moonpost.queue.Outcome[]
function Engine:settle(job, outcomes)
  self._running = self._running + 1
  task.spawn_on(self.worker, function()
    settled(self, job, pcall(settle.job, self, job, outcomes, nil))
    self._running = self._running - 1
    self:gone(job.deliveries)
    self:_over()
  end)
end

local function routed(self, list, ok, why)
  self._routing = self._routing - 1
  if not ok then
    log.event("error", "route failed", { "queue", self.queue.name, "domain", list[1].domain, "why", tostring(why) })
    local left = {}
    for _, one in ipairs(list) do
      if one.claimed_as and not one.placed then
        left[#left + 1] = one
      end
    end
    self:put_back(left, LATER)
  end
  if self._routing == ROUTING_MOST - 1 then -- the feeder has waited for that
    self:poke()
  end
  self:_over()
end

-- Routes what was claimed; whatever goes wrong, nothing stays claimed. A route that need not wait is found at once.
local function begin(self, list, octets)
  self._routing = self._routing + 1
  local ok, why = task.hook(self.worker, ROUTE_TIME, function(...)
    routed(self, list, ...)
  end, router.route, self, list, octets)
  if ok ~= nil then
    routed(self, list, ok, why)
  end
end

--- A message that has just been kept, and is claimed for us.
---@param list moonpost.queue.Delivery[]
---@param octets? string nil: it is read from the spool
function Engine:take(list, octets)
  claimed(self, list)
  if sweep.is_time(self) then
    self:poke() -- where all that comes is claimed as it is kept, the feeder has nothing else to wake for
  end
  if self.stopping then
    self:put_back(list)
  else
    begin(self, list, octets)
  end
end

-- ---- carrying ------------------------------------------------------------------------------------------------------

local function carry_out(self, at, job)
  if job.call then
    return carry.call(self.store, job, self.queue.call_time)
  end
  return carry.send(self.store, job, at, self.worker:time())
end

-- A site that was full and has room again.
local function wake(self, at)
  if at.asleep and at:waiting() <= at.limits.backlog // 2 then
    at.asleep = false
    for domain in pairs(at.domains) do
      self.store:sleep(domain, 0)
    end
    self:poke()
  end
end

local function nobody_spoke(outcomes)
  for _, one in ipairs(outcomes) do
    if one.state ~= "site" then
      return false
    end
  end
  return true
end

-- What happened to one message alone: the site is neither paused nor asked for more at a time.
local function is_aside(outcomes)
  for _, one in ipairs(outcomes) do
    if not one.aside then
      return false
    end
  end
  return true
end

-- The queue was stopped before there was a connection: that says nothing of the site.
local function cut_off(outcomes)
  for _, one in ipairs(outcomes) do
    if not one.row or one.row.stage ~= "closed" then
      return false
    end
  end
  return true
end

-- What came of a job, to the site and to the spool.
local function over(self, at, job, ok, outcomes)
  if not ok then
    at:skipped()
    if not self.hurried then -- else it was given up, and stays in the spool
      log.event("error", "delivery failed", { "queue", self.queue.name, "message", job.message.id, "why", tostring(outcomes) })
    end
    self:put_back(job.deliveries, LATER)
    return
  elseif cut_off(outcomes) then
    at:skipped()
    return self:put_back(job.deliveries)
  end
  local again
  if nobody_spoke(outcomes) and not job.call then
    again = seconds_until(self, at:failed(tostring(outcomes[1].reply)))
  elseif is_aside(outcomes) then
    at:skipped()
  else
    at:went_well()
  end
  settle.job(self, job, outcomes, at, again)
  self:gone(job.deliveries)
  if again then
    sleep(self, at, again)
  end
end

local function carried(self, at, job)
  local ok, outcomes = pcall(carry_out, self, at, job)
  self._tasks[task.current()] = nil
  if not settled(self, job, pcall(over, self, at, job, ok, outcomes)) then
    self:gone(job.deliveries)
  end
  self._running = self._running - 1
  if not self.stopping then
    at:run()
  end
  wake(self, at)
  self:_over()
end

local function unforeseen(ok, why)
  if not ok then
    log.event("error", "queue failed", { "why", tostring(why) })
  end
end

--- Carries a job out, in a task; called by its site. It begins at once.
---@param at moonpost.queue.Site
---@param job moonpost.queue.Job
function Engine:run(at, job)
  self._running = self._running + 1
  job.began = self.worker:now()
  local ok, running = task.hook(self.worker, 0, unforeseen, carried, self, at, job)
  if ok == nil then -- it waits
    self._tasks[running] = true
  else
    unforeseen(ok, running)
  end
end

-- ---- the feeder ----------------------------------------------------------------------------------------------------

-- Deliveries that are late. Where the spool cannot take what becomes of them, they are looked at again after a while, not at once and for ever.
local function look_at_late(self, now)
  if self._late_again and self.worker:now() < self._late_again then
    return false
  end
  self._late_again = nil
  local late = self.store:alarms(now, ALARMS)
  if not late[1] then
    return false
  end
  claimed(self, late)
  local ok, well = pcall(settle.late, self, late, now)
  if not ok then
    log.event("error", "queue failed", { "queue", self.queue.name, "why", tostring(well) })
    self.store:release(late, LATER)
  end
  if not (ok and well) then
    self._late_again = self.worker:now() + LATER
  end
  self:gone(late)
  return ok and well and late[ALARMS] ~= nil
end

-- What people have said of sites since we looked last.
local function obey(self)
  local all, text = orders.all(self.queue)
  orders.publish(self)
  if text == self._orders then
    return
  end
  self._orders = text
  for _, at in pairs(self.sites) do
    local order = all[at.name] or {}
    at:limit(self.queue:_limits_of(at.name))
    if order.suspended then
      at:suspend()
    elseif at.state == "held" or order.resumed and at.resumed ~= order.resumed then
      at.resumed = order.resumed
      at:resume()
      for domain in pairs(at.domains) do
        self.store:rouse(domain)
      end
    end
  end
end

-- Somebody wants a domain to be tried now: its sites are not paused any more.
local function end_pauses(self, domain)
  for _, at in pairs(self.sites) do
    if at.domains[domain] and at.state == "paused" then
      at:resume()
    end
  end
end

local function look(self)
  local store, now = self.store, self.worker:time()
  sweep.look(self)
  obey(self)
  local more = false
  if self.place == 1 then
    clock.look(self)
    more = look_at_late(self, now)
  end
  -- A domain is not named again for a while: whatever comes of it, it has to be claimed from or put to sleep.
  local due, roused = store:due(now, DOMAINS)
  for _, domain in ipairs(due) do
    if roused[domain] then
      end_pauses(self, domain)
    end
    if self._foreign[domain] then -- it has come back to us
      self._foreign[domain] = nil
      self._foreign_count = self._foreign_count - 1
    end
    local out = self._out[domain] or 0
    self._sated[domain] = nil
    local most = self.claimed < CLAIMED_MOST and BATCH or out == 0 and 1 or 0
    if self.stopping then
      store:sleep(domain, 0)
    elseif most == 0 or out >= OUT_MOST then
      self._sated[domain] = true
      store:sleep(domain, LATER)
    elseif self._routing >= ROUTING_MOST then
      store:sleep(domain, 1)
    else
      local ok, list = pcall(store.claim, store, domain, now, most)
      if not ok then
        store:sleep(domain, LATER)
        log.event("error", "queue failed", { "queue", self.queue.name, "domain", domain, "why", tostring(list) })
      elseif list[1] then
        claimed(self, list)
        if self.stopping then
          self:put_back(list)
        else
          begin(self, list)
          more = true
        end
      end
    end
  end
  return more
end

local function rest(self)
  local next_one = self.store:next(self.worker:time())
  local seconds = math.min(LOOK, next_one and math.max(SOON, next_one) or LOOK)
  if self._routing >= ROUTING_MOST then
    seconds = LOOK
  elseif self._late_again then
    seconds = math.max(1, seconds) -- the alarm that is over is no reason to look
    next_one = next_one or 0
  end
  local timer
  task.park(function(up)
    self._wake = up
    timer = next_one and self.worker:timer(seconds, function()
      if self._wake == up then
        self._wake = false
        up()
      end
    end)
    return function()
      self._wake = false
      if timer then
        timer:cancel()
      end
    end
  end, "something due in a queue")
  if timer then
    timer:cancel() -- somebody else may have woken us, long before
  end
end

--- The name of the site that all deliveries of a domain have gone to, if it is known.
---@param domain string
---@return string?
function Engine:site_of(domain)
  local at = self._ways[domain] and self.sites[self._ways[domain]]
  return at and at.name or nil
end

--- What the site of a domain fails with at present, if it is one of ours and fails.
---@param domain string
---@return string?
function Engine:trouble_of(domain)
  local at = self._ways[domain] and self.sites[self._ways[domain]]
  return at and at.failures > 0 and at.why or nil
end

--- Begins.
function Engine:start()
  task.spawn_on(self.worker, function()
    while not self.stopping do
      self._poked, self._looking = false, true
      local ok, more = pcall(look, self)
      self._looking = false
      if not ok then
        log.event("error", "queue failed", { "queue", self.queue.name, "why", tostring(more) })
      end
      if not self.stopping and not self._poked and not (ok and more) then
        rest(self)
      end
    end
    self:_over()
  end)
end

function Engine:_over()
  if self.stopping and self._running == 0 and self._routing == 0 and not self._looking then
    local waiting = self._waiting
    self._waiting = {}
    for _, up in ipairs(waiting) do
      up()
    end
  end
end

--- What is on its way is given up: its time is over. It stays in the spool.
function Engine:hurry()
  self.hurried = true
  for running in pairs(self._tasks) do
    running:cancel()
  end
end

--- Claims nothing more, gives back what waits, and calls `done` when what is on its way is over.
---@param done fun()
function Engine:stop(done)
  self.stopping = true
  table.insert(self._waiting, done)
  self:poke()
  for _, at in pairs(self.sites) do
    at:close()
  end
  self:_over()
end

return M
