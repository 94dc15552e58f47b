--- moonpost.shared(name): a table that all workers of a process, and all generations of a policy, read and write.
--- Bounded: at its ceiling the entry that was written longest ago is forgotten, so it is for counters, caches and marks,
--- not for what must not be lost.
---
---     local seen = moonpost.shared "seen"
---     if seen:incr(session.ip, 1, "1h") > 100 then return 450, "4.7.1", "Slow down" end
---     local ok, wait = moonpost.shared("rates"):rate(session.user, "100/h")
local core = require "moonpost.core"
local options = require "moonpost.options"
local suggest = require "moonpost.suggest"
local task = require "moonpost.task"
local units = require "moonpost.units"

---@class moonpost.Shared
local Shared = {}
local Shared_mt = { __index = Shared, __name = "moonpost.Shared" }

local M = {}

local schema = {
  { name = "memory", type = "size", default = "64MiB", doc = "octets; 64 KiB at least" },
  { name = "entries", type = "integer", default = 1000000, doc = "entries" },
}

local tables -- the set of this process, or of a test

--- For tests: from now on this state's tables are its own, and empty; or those of `own`.
---@param own? userdata what an earlier call returned
---@return userdata now
---@return userdata? before nil: those of the process
function M.isolate(own)
  local before = tables
  tables = own or core.tables(true)
  return tables, before
end

--- Takes M.isolate back.
---@param before? userdata
function M.rejoin(before)
  tables = before
end

--- The table of that name; made when it is asked for first, and the ceilings are those said then.
---@param name string
---@param how? { memory?: integer|string, entries?: integer }
---@return moonpost.Shared
function M.open(name, how)
  if type(name) ~= "string" or name == "" or #name > 255 then
    error("moonpost.shared: a name of 1 to 255 octets expected", 2)
  end
  local values, why = options.resolve(schema, how or {}, "?")
  if not values then
    error("moonpost.shared: " .. why, 2)
  end
  tables = tables or core.tables()
  return setmetatable({ name = name, _table = tables:open(name, values.memory, values.entries) }, Shared_mt)
end

local function now()
  return task.worker():now()
end

local function key_of(method, key)
  if type(key) ~= "string" then
    error(("shared:%s: the key is a string, not a %s"):format(method, type(key)), 3)
  elseif #key > 4096 then
    error(("shared:%s: a key has at most 4096 octets"):format(method), 3)
  end
  return key
end

local storable = { string = true, number = true, boolean = true }

local function value_of(method, value)
  if not storable[type(value)] then
    error(("shared:%s: a string, number or boolean expected, got a %s"):format(method, type(value)), 3)
  end
  return value
end

local function seconds_of(method, ttl)
  if ttl == nil then
    return nil
  end
  local seconds, expected = units.duration(ttl)
  if not seconds or seconds <= 0 then
    error(("shared:%s: time to live: %s expected"):format(method, expected or "more than 0 seconds"), 3)
  end
  return seconds
end

local function checked(method, result, why)
  if result == nil then
    error(("shared:%s: %s"):format(method, why), 3)
  end
  return result, why
end

---@param key string
---@return string|number|boolean|nil value
function Shared:get(key)
  return self._table:get(now(), key_of("get", key))
end

--- Writes; nil deletes.
---@param key string
---@param value string|number|boolean|nil
---@param ttl? number|string how long it lives: seconds or "1h"; until it is forgotten when left out
function Shared:set(key, value, ttl)
  key = key_of("set", key)
  if value == nil then
    self._table:delete(now(), key)
  else
    checked("set", self._table:set(now(), key, value_of("set", value), seconds_of("set", ttl)))
  end
end

--- Writes unless there is a value already.
---@return boolean written
function Shared:add(key, value, ttl)
  key = key_of("add", key)
  return (checked("add", self._table:add(now(), key, value_of("add", value), seconds_of("add", ttl))))
end

--- Adds to a number; what is missing counts as 0 and lives for `ttl` from then on, however often it is added to.
---@param key string
---@param by? number 1
---@param ttl? number|string
---@return number sum
function Shared:incr(key, by, ttl)
  if by ~= nil and type(by) ~= "number" then
    error(("shared:incr: a number expected, got a %s"):format(type(by)), 2)
  end
  return (checked("incr", self._table:incr(now(), key_of("incr", key), by or 1, seconds_of("incr", ttl))))
end

---@return boolean deleted there was one
function Shared:delete(key)
  return self._table:delete(now(), key_of("delete", key))
end

--- Takes from the bucket of `key`: it holds what the rate says and refills evenly, so that "10/h" gives ten at once and
--- then one every six minutes.
---@param key string
---@param rate string "10/h"
---@param cost? integer 1
---@return boolean allowed
---@return number wait seconds until it would be; 0 when it is
function Shared:rate(key, rate, cost)
  local parsed, expected = units.rate(rate)
  if not parsed or parsed.count < 1 then
    error(("shared:rate: %s expected"):format(expected or "a count of at least 1"), 2)
  end
  cost = cost == nil and 1 or math.tointeger(cost)
  if not cost or cost < 1 or cost > parsed.count then
    error("shared:rate: the cost is 1 to what the rate allows at once", 2)
  end
  local count = math.tointeger(parsed.count)
  local allowed, wait = checked("rate", self._table:rate(now(), key_of("rate", key), count, parsed.seconds, cost))
  return allowed, wait -- no tail call: what is wrong is told two levels up
end

--- How many entries there are. Looks at every one.
---@return integer
function Shared:count()
  return self._table:count(now())
end

--- Forgets everything.
function Shared:clear()
  self._table:clear()
end

M.methods = Shared

return setmetatable(M, {
  __call = function(_, name, how)
    return M.open(name, how)
  end,
  __index = function(_, name)
    error(("moonpost.shared has no %q%s"):format(tostring(name), suggest.hint(name, { "open", "isolate", "rejoin" })), 2)
  end,
})
