--- The world in which a policy under test acts: the clock, the log, `print`, names, what workers share and what has been done
--- once are the policy's own while its code runs, and the test's again behind it.
local core = require "moonpost.core"
local dns = require "moonpost.dns"
local http = require "moonpost.http"
local log = require "moonpost.log"
local task = require "moonpost.task"

local M = {}

local TURNS_MOST = 20000

-- Everything that can happen without time passing.
local function settle(worker)
  for _ = 1, TURNS_MOST do
    if worker:timeout() ~= 0 then
      return
    end
    worker:turn(false)
  end
  error("the policy does not come to rest: something in it goes on for ever without time passing", 0)
end

--- What is exchanged, for one policy; made once, since it happens with every command of a test.
---@param policy table
---@return table props
function M.props(policy)
  local worker = policy._worker
  local date = os.date
  local function now()
    return worker:time()
  end
  local done = {}
  return {
    log = {
      level = policy._level, format = "text", output = function() end,
      sink = function(level, text, fields)
        policy:_note(level, text, fields)
      end,
    },
    core_time = now,
    dns = policy._names, http = policy._http,
    resume = task.passing.resume, wrap = task.passing.wrap, -- as in a state that serves
    core_once = function(name, undo)
      if undo then
        done[name] = nil
        return true
      elseif done[name] then
        return false
      end
      done[name] = true
      return true
    end,
    time = function(fields)
      return fields and policy._real_time(fields) or math.floor(now())
    end,
    date = function(format, time)
      return date(format or "%c", time or math.floor(now()))
    end,
    print = function(...)
      local words = table.pack(...)
      for i = 1, words.n do
        words[i] = tostring(words[i])
      end
      table.insert(policy.printed, table.concat(words, "\t"))
    end,
  }
end

-- Puts one set of props in the place of another, which it returns.
local function exchange(props)
  local former = {
    log = log.exchange(props.log), core_time = core.time, core_once = core.once, time = os.time, date = os.date,
    print = print, resume = coroutine.resume, wrap = coroutine.wrap, dns = dns.use(props.dns),
    http = http.use(props.http),
  }
  core.time, core.once = props.core_time, props.core_once
  rawset(os, "time", props.time)
  rawset(os, "date", props.date)
  rawset(_G, "print", props.print)
  rawset(coroutine, "resume", props.resume)
  rawset(coroutine, "wrap", props.wrap)
  return former
end

local function shared()
  return require "moonpost.shared"
end

local armed = 0 -- what the watchdog is set to

local function arm(seconds)
  local before = armed
  armed = seconds
  core.watchdog(seconds)
  return before
end

local function leave(policy, former, before, limit, ok, ...)
  arm(limit)
  policy._props.log = exchange(former).log
  shared().rejoin(before)
  policy._inside = false
  if not ok then
    error((...), 0)
  end
  return ...
end

local function whole(policy, fn, ...)
  local results = table.pack(fn(...))
  settle(policy._worker)
  return table.unpack(results, 1, results.n)
end

--- Calls `fn(...)` in the policy's world, and lets everything happen that can without time passing.
---@param policy table
---@param fn function
function M.act(policy, fn, ...)
  if policy._inside then -- a hook of this policy that uses the test's objects
    return fn(...)
  end
  policy._inside = true
  local former = exchange(policy._props)
  local before
  policy._tables, before = shared().isolate(policy._tables)
  return leave(policy, former, before, arm(policy._cpu_time), pcall(whole, policy, fn, ...))
end

return M
