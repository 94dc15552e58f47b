--- A site: the hosts that take mail for one or many domains, or a smarthost. What may be asked of it at a time, and what waits for it.
---
--- States of a site, written by `enter` alone:
---   open     jobs run as limits and rates allow; few at first, more with every one that went well
---   trying   its pause is over: one job tries whether it can be spoken to again
---   paused   nothing could be said to it: its jobs have been given back, and nothing is asked of it until `again`
---   held     somebody has suspended it
local pool_of = require "moonpost.pool"
local task = require "moonpost.task"

local M = {}

local FIRST = 4 -- jobs at a time, as long as nothing is known of a site
local PAUSES = { 1, 2, 4, 10, 20, 40, 60 } -- times limits.pause, by how often it has failed since it was last spoken to
local JITTER = 0.1

---@class moonpost.queue.Site
---@field key string
---@field name string for people: its best host, or the smarthost's URL
---@field domains table<string, boolean> that have come here
---@field led integer how many they are
---@field limits table checked, of moonpost.SiteLimits
---@field state "open"|"trying"|"paused"|"held"
---@field again number when a pause is over, by the worker's clock
---@field failures integer
---@field why? string what it failed with last
local Site = {}
local Site_mt = { __index = Site, __name = "moonpost.queue.Site" }

local moves = {
  open = { paused = true, held = true }, trying = { open = true, paused = true, held = true },
  paused = { trying = true, open = true, held = true }, held = { open = true },
}

local function enter(self, state)
  if self.state ~= state then
    assert(moves[self.state][state], state)
    self.state = state
  end
end

--- How many jobs wait.
function Site:waiting()
  return self._last - self._first + 1
end

--- How many are under way.
function Site:active()
  return self._active
end

-- A bucket of what a rate allows. 0, or the seconds until there is one more.
local function wait_for(self, name, rate, now)
  if not rate then
    return 0
  end
  local bucket = self._tokens[name]
  local per = rate.count / rate.seconds
  if not bucket or bucket.rate ~= rate then
    bucket = { rate = rate, has = rate.count, at = now }
    self._tokens[name] = bucket
  end
  bucket.has = math.min(rate.count, bucket.has + (now - bucket.at) * per)
  bucket.at = now
  return bucket.has >= 1 and 0 or (1 - bucket.has) / per
end

local function take(self, name, rate)
  if rate then
    self._tokens[name].has = self._tokens[name].has - 1
  end
end

-- A connection more, as often as there may be one.
local function gate(self)
  local rate = self.limits.connection_rate
  local seconds = wait_for(self, "connections", rate, self._engine.worker:now())
  while seconds > 0 do
    task.sleep(seconds)
    seconds = wait_for(self, "connections", rate, self._engine.worker:now())
  end
  take(self, "connections", rate)
end

---@param engine table worker, run(site, job), back(job, until_)
---@param key string
---@param name string
---@param limits table
---@return moonpost.queue.Site
function M.new(engine, key, name, limits)
  local self = setmetatable({
    key = key, name = name, limits = limits, domains = {}, led = 0, state = "open", again = 0, failures = 0, why = nil,
    _engine = engine, _queue = {}, _first = 1, _last = 0, _active = 0, _allowed = FIRST, _tokens = {}, _by_message = {},
    _looping = false,
  }, Site_mt)
  self.pool = pool_of.new { connections = limits.connections, per_connection = limits.per_connection, idle = limits.idle }
  self.pool:gate(function()
    gate(self)
  end)
  return self
end

local function pop(self)
  local job = self._queue[self._first]
  self._queue[self._first] = nil
  self._first = self._first + 1
  if self._by_message[job.message.id] == job then
    self._by_message[job.message.id] = nil
  end
  return job
end

local function run(self)
  local worker = self._engine.worker
  while self._first <= self._last and (self.state == "open" or self.state == "trying") do
    local most = self.state == "trying" and 1 or math.min(self._allowed, self.limits.connections)
    if self._active >= most then
      return
    end
    local now = worker:now()
    local seconds = wait_for(self, "messages", self.limits.rate, now)
    if seconds > 0 then
      if not self._timer then
        self._timer = worker:timer(seconds, function()
          self._timer = nil
          self:run()
        end)
      end
      return
    end
    take(self, "messages", self.limits.rate)
    self._active = self._active + 1
    self._engine:run(self, pop(self))
  end
end

--- Runs what may run now. A job that is over at once says so from within: the loop outside goes on then.
function Site:run()
  if self._looping then
    return
  end
  self._looping = true
  local ok, err = pcall(run, self)
  self._looping = false
  if not ok then
    error(err, 0)
  end
end

--- What is wrong with a site at the moment: nil when jobs may be added, else until when they may not, by the worker's clock.
---@return number?
function Site:closed()
  if self.state == "held" then
    return math.huge
  elseif self.state == "paused" then
    if self._engine.worker:now() < self.again then
      return self.again
    end
    enter(self, "trying")
  end
end

--- Puts a job at the end. One that waits for the same message on the same way takes its recipients in, as far as there is room.
---@param job table message, hop, deliveries
function Site:add(job)
  local same = self._by_message[job.message.id]
  if same and same.hop == job.hop and (job.hop.kind == "to" or same.domain == job.domain)
    and #same.deliveries + #job.deliveries <= self.limits.recipients then
    table.move(job.deliveries, 1, #job.deliveries, #same.deliveries + 1, same.deliveries)
  else
    self._last = self._last + 1
    self._queue[self._last] = job
    self._by_message[job.message.id] = job
  end
  self:run()
end

--- Whether it has as much to do as should wait in memory.
function Site:full()
  return self:waiting() >= self.limits.backlog
end

local function give_back(self, until_)
  while self._first <= self._last do
    self._engine:back(pop(self), until_, self)
  end
end

--- A job is over in which the site was spoken to, whatever it said.
function Site:went_well()
  self._active = self._active - 1
  self.failures, self.why = 0, nil
  if self.state == "trying" or self.state == "paused" then
    enter(self, "open")
    self._allowed = FIRST
  end
  self._allowed = math.min(self._allowed + 1, self.limits.connections)
end

--- A job is over in which nobody there could be spoken to. The pause is the site's, not the message's.
---@param why string
---@return number again when it will be tried, by the worker's clock
function Site:failed(why)
  self._active = self._active - 1
  self.why = why
  local now = self._engine.worker:now()
  if self.state == "open" or self.state == "trying" then
    self.failures = self.failures + 1
    local pause = self.limits.pause * PAUSES[math.min(self.failures, #PAUSES)]
    self.again = now + pause * (1 + JITTER * (2 * math.random() - 1))
    enter(self, "paused")
    give_back(self, self.again)
  end
  return self.again
end

--- A job is over that said nothing about the site: it could not be read, or was given up.
function Site:skipped()
  self._active = self._active - 1
end

function Site:suspend()
  if self.state ~= "held" then
    enter(self, "held")
    give_back(self, math.huge)
  end
end

function Site:resume()
  if self.state == "held" or self.state == "paused" then
    enter(self, "open")
    self.failures, self._allowed = 0, FIRST
    self:run()
  end
end

--- Other limits, from now on.
function Site:limit(limits)
  self.limits = limits
  self.pool:limit(limits)
  self:run()
end

--- True when nothing of it is left that somebody would miss: of one that could not be spoken to, when nobody has come for long.
function Site:idle()
  if self._active > 0 or self._first <= self._last or self.state == "held" then
    return false
  end
  return self.failures == 0 and self.state == "open"
    or self._engine.worker:now() > self.again + self.limits.pause * PAUSES[#PAUSES]
end

--- Ends it: what waits is given back, kept connections are told QUIT.
function Site:close()
  give_back(self)
  if self._timer then
    self._timer:cancel()
    self._timer = nil
  end
  self.pool:close()
end

return M
