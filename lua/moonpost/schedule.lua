--- When a message is tried, tried again, given up, and when its sender hears that it is late. Times are seconds since 1970 that the caller
--- brings: there is no clock in here.
---
---     local schedule = moonpost.schedule { "5m", "15m", "1h", "4h", expire = "5d", jitter = 0.1, warn = "4h" }
---     local times = schedule:times(message.time, message.params)     -- due, expires, warnings, deadline
---     local due = schedule:next(attempts, now, times)                -- after that many attempts; nil when it has expired
local options = require "moonpost.options"
local units = require "moonpost.units"

local M = {}

local STEPS_MOST = 100
local steps_default = { 300, 900, 3600, 14400 }

local schema = {
  { name = "expire", type = "duration", default = "5d", doc = "how long delivery is tried",
    check = function(seconds)
      return seconds <= 0 and "more than nothing expected" or nil
    end },
  { name = "jitter", type = "any", default = 0.1, doc = "by which part a wait is made longer or shorter at random",
    check = function(part)
      return (type(part) ~= "number" or not (part >= 0 and part < 1)) and "a number from 0 to less than 1 expected" or nil
    end },
  { name = "warn", type = "any", default = "4h", doc = "after how long a sender hears that a message is late; false = never",
    check = function(value)
      local _, expected = units.duration(value or 0)
      return expected and expected .. " expected, or false" or nil
    end },
}

---@class moonpost.Schedule
local Schedule = {}
local Schedule_mt = { __index = Schedule, __name = "moonpost.Schedule" }

function Schedule_mt:__tostring()
  local out = {}
  for i, step in ipairs(self.steps) do
    out[i] = units.show_duration(step)
  end
  return ("%s, then every %s, for %s"):format(table.concat(out, ", "), out[#out], units.show_duration(self.expire))
end

-- The waits, and what stands beside them.
local function parts(given)
  local steps, named = {}, {}
  for key, value in pairs(given) do
    if math.type(key) ~= "integer" then
      named[key] = value
    elseif not given[1] or key < 1 or key > #given then
      return nil, "the waits are a list without gaps"
    end
  end
  for i, value in ipairs(given) do
    local seconds, expected = units.duration(value)
    if not seconds or seconds <= 0 then
      return nil, ("wait %d: %s expected"):format(i, expected or "more than nothing")
    end
    steps[i] = seconds
  end
  if #steps > STEPS_MOST then
    return nil, ("%d waits at most"):format(STEPS_MOST)
  end
  return steps[1] and steps or steps_default, named
end

--- The schedule that a table describes; for who has options of their own to check.
---@param given table
---@param at string where it was written
---@return moonpost.Schedule? schedule
---@return string? why
function M.read(given, at)
  if type(given) ~= "table" then
    return nil, ('a table such as { "5m", "1h", expire = "5d" } expected, got a %s'):format(type(given))
  end
  local steps, named = parts(given)
  if not steps then
    return nil, named
  end
  local values, why = options.resolve(schema, named, at)
  if not values then
    return nil, why
  end
  local warn = values.warn and units.duration(values.warn)
  return setmetatable({
    steps = steps, expire = values.expire, jitter = values.jitter, warn = warn and warn > 0 and warn or nil,
  }, Schedule_mt)
end

--- Mistakes raise at the caller's line.
---@param given? table waits in order, the last of which repeats; and expire, jitter, warn
---@return moonpost.Schedule
function M.new(given)
  local schedule, why = M.read(given == nil and {} or given, options.place(2))
  if not schedule then
    error("moonpost.schedule: " .. why, 2)
  end
  return schedule
end

local function number(value, name, level)
  if type(value) ~= "number" or value ~= value then
    error(("%s: a number expected, got a %s"):format(name, type(value)), level + 1)
  end
end

---@class moonpost.Times
---@field due number of the first attempt: now, or when FUTURERELEASE releases it
---@field expires number from here on it is given up
---@field warnings number[] when its sender is to hear that it is late, in order
---@field deadline? number of DELIVERBY (RFC 2852), whatever its mode
---@field status? "5.4.7" what it fails with when it expires by that deadline
---@field conflict? string why it can never be delivered as it was asked for: to be refused before it is taken

--- The times of one message.
---@param received number when it arrived
---@param params? table|false of MAIL: by and by_mode (RFC 2852), holdfor or holduntil_time (RFC 4865)
---@return moonpost.Times
function Schedule:times(received, params)
  number(received, "schedule:times: received", 2)
  params = params or {}
  local due = math.max(received, params.holduntil_time or received + (params.holdfor or 0))
  -- A message that is held has not been late: what counts is the time since its release.
  local times = { due = due, expires = due + self.expire, warnings = {} }
  if self.warn and due + self.warn < times.expires then
    times.warnings[1] = due + self.warn
  end
  local by = params.by
  if by then
    local deadline = received + by
    times.deadline = deadline
    if params.by_mode == "R" then
      if deadline <= due then
        times.conflict = "the time of BY is over before the message may be released"
      end
      if deadline < times.expires then
        times.expires, times.status = deadline, "5.4.7"
        if times.warnings[1] and times.warnings[1] >= deadline then
          times.warnings[1] = nil
        end
      end
    elseif by > 0 and deadline < times.expires then -- one that is over already was told by who had the message before
      table.insert(times.warnings, deadline)
      table.sort(times.warnings)
    end
  end
  return times
end

--- When a message without parameters is given up, and when somebody has to look at it first: its warning, or its end.
---@param received number
---@return number expires
---@return number alarm
function Schedule:ends(received)
  local expires, warned = received + self.expire, self.warn and received + self.warn
  return expires, warned and warned < expires and warned or expires
end

--- When the next attempt is due.
---@param attempts integer how many have been made
---@param now number
---@param times moonpost.Times
---@param random? fun(): number from 0 to less than 1; math.random when left out
---@return number? due never later than times.expires, so that the last attempt is made then
---@return "expired"? why there is none
function Schedule:next(attempts, now, times, random)
  if math.type(attempts) ~= "integer" or attempts < 0 then
    error("schedule:next: attempts: a whole number, 0 or more, expected", 2)
  elseif type(times) ~= "table" or not times.expires or not times.due then
    error("schedule:next: times: what schedule:times() returned expected", 2)
  end
  number(now, "schedule:next: now", 2)
  if now >= times.expires then
    return nil, "expired"
  elseif attempts == 0 then
    return math.min(math.max(times.due, now), times.expires)
  end
  local step = self.steps[math.min(attempts, #self.steps)]
  local due = now + step * (1 + self.jitter * (2 * (random or math.random)() - 1))
  -- Whether a deadline was met has to be known when it comes, not an hour later.
  if times.deadline and times.deadline > now and times.deadline < due then
    due = times.deadline
  end
  return math.min(math.max(due, times.due), times.expires)
end

--- How many of its warnings are due: one more than have been sent means that it is time.
---@param times moonpost.Times
---@param now number
---@return integer
function Schedule.warned(_, times, now)
  local count = 0
  for _, at in ipairs(times.warnings) do
    count = count + (at <= now and now < times.expires and 1 or 0)
  end
  return count
end

return M
