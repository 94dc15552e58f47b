--- Tasks: coroutines that wait without blocking. Every wait goes through `park`, whose wake-ups carry tickets, so a stale completion
--- cannot resume somebody else. C never yields; the loop calls wake-ups on a later turn.
---
--- States of a task, written by `start`, `park` and `step` alone:
---   running   its code is on the stack
---   waiting   parked; `ticket` is the one wake-up that counts
---   done      finished, failed or cancelled; its coroutine is back in the pool or gone
local core = require "moonpost.core"
local Error = require "moonpost.error"
local units = require "moonpost.units"

local M = {}

local resume, run, yield, running = core.resume, core.run, coroutine.yield, coroutine.running
local isyieldable, close = coroutine.isyieldable, coroutine.close

local WAIT = {} -- the first value that a task yields

local Task = {}
Task.__index = Task
Task.__name = "moonpost.Task"

local current ---@type moonpost.Task? the task whose code runs now; nil on the main coroutine
local idle, idle_count, IDLE_MOST = {}, 0, 256 -- tasks whose coroutine waits for work
local spare -- one more of them: the task of the last hook that did not wait, which is what most hooks run in
local waits = setmetatable({}, { __mode = "k" }) -- tasks parked on a virtual worker: for who has to turn its clock
local passing = {} -- see below

-- Fields that are looked at for every hook are there from the start: a missing one is looked for in the metatable too.
local function new_task()
  return setmetatable({
    co = core.coroutine(), ticket = 0, state = "running", worker = false, cancelled = false, scopes = false,
  }, Task)
end

local function take()
  local task
  if idle_count == 0 then
    task = new_task()
    task.pooled = true
  else
    task = idle[idle_count]
    idle[idle_count] = nil
    idle_count = idle_count - 1
    task.state = "running"
  end
  return task
end

local function give(task)
  if idle_count < IDLE_MOST then
    idle_count = idle_count + 1
    idle[idle_count] = task
  end
end

local function drop_timer(task)
  if task.timer then
    task.timer:cancel()
    task.timer = nil
  end
end

-- The traceback of a coroutine that died, behind its error; values that mean something (Reply, Cancelled, Error) stay as they are.
local function failure(task, err)
  local co = task.co
  if type(err) == "string" then
    err = debug.traceback(co, err)
  end
  close(co) -- runs what is marked <close>
  return err
end

local function finished(task, ok, ...)
  drop_timer(task)
  task.state = "done"
  waits[task] = nil
  local finish = task.finish
  task.finish, task.cancelled, task.scopes, task.name = nil, false, false, nil
  if ok and task.pooled then
    task.co_free = true
    give(task)
  end
  if finish then
    finish(ok, ...)
  end
end

-- What a coroutine gave back after it had been resumed by the loop.
local function after_step(task, before, over, ...)
  current = before
  if over then
    return finished(task, true, ...)
  elseif over == false then
    return finished(task, false, failure(task, ...))
  end
end

local function step(task, ...)
  local before = current
  current = task
  task.state = "running"
  return after_step(task, before, run(task.co, ...))
end

--- Runs `fn(...)` (up to four arguments, up to three results) as a task for an event of C's. Nothing is allocated when
--- it does not wait.
---@param worker moonpost.core.worker
---@param limit number seconds it may take in all; counted from its first wait
---@param finish fun(ok: boolean, ...)|false called later, once, when it waits; may be put into the task then
---@return boolean? ok true: `...` are its results; false: `...` is the error; nil: it waits, and `...` is the task
function M.hook(worker, limit, finish, fn, a, b, c, d)
  local task = spare or take()
  spare = nil
  local before = current
  current = task
  task.worker = worker
  local over, x, y, z = run(task.co, fn, a, b, c, d)
  current = before
  if over then
    if task.cancelled or task.scopes then
      task.cancelled, task.scopes = false, false
    end
    if spare then -- of a hook inside this one
      give(task)
    else
      spare = task
    end
    return true, x, y, z
  elseif over == false then
    task.state = "done"
    return false, failure(task, x)
  end
  task.finish = finish
  if limit and limit > 0 then
    task.timer = worker:timer(limit, function()
      task.timer = nil
      task:cancel(Error("timeout", ("took longer than %g s"):format(limit)))
    end)
  end
  return nil, task
end

-- Ends the waits of `task` from now on: the one it is in and all later ones raise `err`, so that a pcall cannot swallow it.
local function interrupt(task, err)
  if task.state == "waiting" then
    task.ticket = task.ticket + 1
    local disarm = task.disarm
    task.disarm = nil
    if disarm then
      disarm()
    end
    waits[task] = nil
    step(task, WAIT, err)
  end
end

--- Cancels: the wait it is in, and every later one, raises `reason` (a moonpost.Error of kind "cancelled" by default).
---@param reason? any
function Task:cancel(reason)
  if self.state == "done" or self.cancelled then
    return
  end
  self.cancelled = reason or Error("cancelled", "cancelled")
  if self.state == "waiting" and not self.parked then
    return -- still inside arm(): park raises it
  end
  interrupt(self, self.cancelled)
end

---@return boolean
function Task:finished()
  return self.state == "done"
end

-- The error that a wait must raise at once: the task's own end, or the end of a time limit around it.
local function overdue(task)
  if task.cancelled then
    return task.cancelled
  end
  local scopes = task.scopes
  for i = 1, scopes and #scopes or 0 do
    if scopes[i].over then
      return scopes[i]
    end
  end
end

local main = setmetatable({ ticket = 0, state = "running", is_main = true }, Task)

-- On the main coroutine a wait runs the loop until it is over.
local function park_main(arm)
  local worker = core.worker()
  local err = overdue(main)
  if err then
    error(err, 0)
  end
  local done, n, results = false, 0, nil
  local disarm = arm(function(...)
    if not done then
      done, n, results = true, select("#", ...), { ... }
    end
  end)
  while not done do
    local alive = worker:turn(true)
    err = overdue(main)
    if not done and (err or not alive) then
      done = true
      if disarm then
        disarm()
      end
      error(err or "wait: nothing is left that could end this wait", err and 0 or 3)
    end
  end
  return table.unpack(results, 1, n)
end

local function woken(mark, ...)
  if mark == WAIT then
    error((...), 0)
  end
  return ...
end

--- Waits. `arm(wake)` gives `wake` to whatever will call it, on this or a later turn, with the values that `park` returns; it may return a
--- function that takes the arming back, called when something else ends the wait.
---@async
---@param arm fun(wake: fun(...)): fun()?
---@param name? string what is waited for, for messages
---@return any ...
function M.park(arm, name)
  local co, is_main = running()
  local task = current
  if not task then
    if is_main then
      return park_main(arm)
    end
    error("wait: this coroutine is not a task; use moonpost.spawn or moonpost.run", 3)
  end
  if co ~= task.co and coroutine.resume ~= passing.resume then
    error("wait: called inside a coroutine of the script's own, which cannot pass it on; use moonpost.spawn", 3)
  end
  if not isyieldable() then
    error("wait: cannot wait here (inside a metamethod, a gsub callback or a sort comparator)", 3)
  end
  local err = overdue(task)
  if err then
    error(err, 0)
  end
  local ticket = task.ticket + 1
  task.ticket, task.state, task.parked, task.wait_name = ticket, "waiting", false, name
  local worker = task.worker
  local disarm
  disarm = arm(function(...)
    if task.ticket ~= ticket or task.state ~= "waiting" then
      return -- stale: somebody else ended this wait
    end
    task.ticket = ticket + 1
    task.disarm = nil
    waits[task] = nil
    if task.parked then
      return step(task, true, ...)
    end
    -- Woken before it slept: it goes on with the next turn, when it does.
    local n, values = select("#", ...), { ... }
    worker:defer(function()
      if task.state == "waiting" and task.ticket == ticket + 1 then
        step(task, true, table.unpack(values, 1, n))
      end
    end)
  end)
  err = overdue(task)
  if err then -- cancelled inside arm
    task.ticket, task.state = task.ticket + 1, "running"
    if disarm then
      disarm()
    end
    error(err, 0)
  end
  if task.ticket == ticket then
    task.disarm = disarm
  end
  task.parked = true
  if worker:is_virtual() then
    waits[task] = name or "something"
  end
  return woken(yield(WAIT))
end

local function duration(value, who)
  local seconds, expected = units.duration(value)
  if not seconds then
    error(("%s: %s expected, got %s"):format(who, expected, tostring(value)), 3)
  end
  return seconds
end

--- Waits.
---@async
---@param seconds number|string seconds, or "5m"
function M.sleep(seconds)
  seconds = duration(seconds, "sleep")
  local worker = current and current.worker or core.worker()
  M.park(function(wake)
    local timer = worker:timer(seconds, wake)
    return function()
      timer:cancel()
    end
  end, ("sleep(%g)"):format(seconds))
end

local function end_scope(task, scope, ok, ...)
  scope.timer:cancel()
  for i = #task.scopes, 1, -1 do
    if task.scopes[i] == scope then
      table.remove(task.scopes, i)
    end
  end
  if ok then
    return ...
  end
  if (...) == scope then
    return nil, Error("timeout", ("took longer than %g s"):format(scope.seconds))
  end
  error((...), 0)
end

--- Runs `fn(...)`; when it has waited for more than `seconds` in all, its wait is given up.
---@async
---@param seconds number|string seconds, or "5m"
---@param fn function
---@return any ... its results, or nil and a moonpost.Error of kind "timeout"
function M.timeout(seconds, fn, ...)
  seconds = duration(seconds, "timeout")
  local task = current or main
  local worker = task.worker or core.worker()
  local scope = { seconds = seconds }
  task.scopes = task.scopes or {}
  table.insert(task.scopes, scope)
  scope.timer = worker:timer(seconds, function()
    scope.over = true
    if not task.is_main then
      interrupt(task, scope)
    end
  end)
  return end_scope(task, scope, pcall(fn, ...))
end

local function start(task, worker, fn, ...)
  local n, args = select("#", ...), { ... }
  worker:defer(function()
    if task.cancelled then
      return finished(task, false, task.cancelled)
    end
    step(task, function()
      return fn(table.unpack(args, 1, n))
    end)
  end)
end

local report -- set by the log module: what becomes of an error nobody waits for

--- Names the function that hears of errors in tasks that nobody joins.
---@param fn fun(err: any)
function M.on_error(fn)
  report = fn
end

--- Starts a task on a worker: for who may be called outside of every task, by a timer of that worker.
---@param worker moonpost.core.worker
---@param fn function
---@return moonpost.Task task
function M.spawn_on(worker, fn, ...)
  local task = new_task()
  task.worker = worker
  task.joiners = {}
  task.finish = function(ok, ...)
    task.ok, task.n, task.results = ok, select("#", ...), { ... }
    local joiners = task.joiners
    task.joiners = nil
    if not ok and #joiners == 0 and not (Error.is(...) and (...).kind == "cancelled") then
      if report then
        report((...))
      else
        io.stderr:write("moonpost: error in a task: ", tostring((...)), "\n")
      end
    end
    for _, wake in ipairs(joiners) do
      task.worker:defer(wake)
    end
  end
  start(task, task.worker, fn, ...)
  return task
end

--- Starts a task of its own. It belongs to the generation, not to the hook that called it.
---@param fn function
---@return moonpost.Task task `task:join()` waits for its results, `task:cancel()` ends it
function M.spawn(fn, ...)
  if type(fn) ~= "function" then
    error("spawn: a function is needed", 2)
  end
  return M.spawn_on(current and current.worker or core.worker(), fn, ...)
end

--- Waits until the task is over; returns its results or raises its error.
---@async
---@return any ...
function Task:join()
  if self.state ~= "done" then
    M.park(function(wake)
      table.insert(self.joiners, wake)
    end, "another task")
  end
  if not self.ok then
    error(self.results[1], 0)
  end
  return table.unpack(self.results, 1, self.n)
end

--- Runs `fn(...)` as a task, and the loop with it until it is over. For the main coroutine of a plain script.
---@return any ...
function M.run(fn, ...)
  if current then
    return fn(...)
  end
  return M.spawn(fn, ...):join()
end

--- The worker on which the current task runs.
---@return moonpost.core.worker
function M.worker()
  return current and current.worker or core.worker()
end

---@return moonpost.Task? task nil on the main coroutine
function M.current()
  return current
end

--- What tasks on a virtual worker are waiting for, as text; for messages about a clock that nobody turns.
---@param worker moonpost.core.worker
---@return string[]
function M.waits(worker)
  local list = {}
  for task, name in pairs(waits) do
    if task.worker == worker and task.state == "waiting" then
      list[#list + 1] = name
    end
  end
  table.sort(list)
  return list
end

local function through(co, ok, mark, ...)
  if ok and mark == WAIT then
    return through(co, resume(co, yield(WAIT, ...)))
  end
  return ok, mark, ...
end

local function unwrap(ok, ...)
  if not ok then
    error((...), 0)
  end
  return ...
end

--- coroutine.resume and coroutine.wrap that pass a wait on to the task outside, so that generators may wait.
function passing.resume(co, ...)
  return through(co, resume(co, ...))
end

function passing.wrap(fn)
  local co = coroutine.create(fn)
  return function(...)
    return unwrap(through(co, resume(co, ...)))
  end
end
M.passing = passing

--- For states of our own: these in the place of Lua's, and a require whose modules may wait.
function M.install()
  require("moonpost.loader").install()
  coroutine.resume, coroutine.wrap = passing.resume, passing.wrap
end

return M
