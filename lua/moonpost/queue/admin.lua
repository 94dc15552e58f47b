--- What people do to a queue that runs: look, hold, release, try now, send elsewhere, remove, return. Methods of moonpost.Queue.
---
--- A delivery that is being made is in somebody's hands: it is held, or tried again, when it comes back; what is removed is gone whatever comes
--- back. A bounce says that nobody has the message, so what is on its way is left alone by it, and counted as `busy`.
local Error = require "moonpost.error"
local domain = require "moonpost.queue.domain"
local filter_of = require "moonpost.queue.filter"
local log = require "moonpost.log"
local options_of = require "moonpost.options"
local orders = require "moonpost.queue.orders"
local reply_of = require "moonpost.reply"
local settle = require "moonpost.queue.settle"

local M = {}

local PART = 500 -- deliveries that are changed together

-- A filter; mistakes raise where the method was called.
local function read(what, which)
  local filter, why = filter_of.read(which)
  if not filter then
    error(("queue:%s: %s"):format(what, why), 3)
  end
  return filter
end

-- Calls `fn(engine, ...)` with the queue open. What the spool raises is returned.
local function with(queue, fn, ...)
  local started, err = queue:start()
  if not started then
    return nil, err
  end
  local ok, answer, more = pcall(fn, queue._engine, ...)
  if not ok then
    if Error.is(answer) then
      return nil, answer
    end
    error(answer, 0)
  end
  return answer, more
end

-- Calls `fn(list)` with what is meant, some hundred at a time and those of one message together, until it says what went wrong: however large the
-- queue, nothing of it is kept here.
local function in_parts(engine, filter, fn)
  local list, err = {}, nil
  filter_of.each(engine, filter, function(one)
    if list[PART] and list[#list].message.id ~= one.message.id then
      err = fn(list)
      list = {}
    end
    list[#list + 1] = one
    return err ~= nil
  end)
  return err or list[1] and fn(list) or nil
end

-- Changes what is meant, in whichever hands it is; `after(list)` is called for each part of it that has been changed.
local function change(engine, filter, verb, fields, after)
  local answer = { changed = 0, busy = 0 }
  local err = in_parts(engine, filter, function(list)
    local count, why = engine.store:change(list, verb, fields)
    if not count then
      return why
    end
    answer.changed = answer.changed + count
    return after and after(list)
  end)
  if err then
    return nil, err
  end
  return answer
end

-- What waits for the domains of these is to be tried now.
local function rouse(engine, list)
  local seen = {}
  for _, one in ipairs(list) do
    if not seen[one.domain] then
      seen[one.domain] = true
      engine.store:rouse(one.domain)
    end
  end
end

-- Claims those of one message that are `wanted`, by number, and returns them to its sender.
local function bounce_message(engine, id, wanted, reply, answer)
  local mine, others = {}, {}
  for _, one in ipairs(engine.store:take(id)) do
    local to = wanted[one.number] and mine or others
    to[#to + 1] = one
    wanted[one.number] = nil
  end
  engine.store:release(others)
  for _ in pairs(wanted) do
    answer.busy = answer.busy + 1
  end
  if mine[1] then
    local ok, well = pcall(settle.bounce, engine, mine, reply)
    if not ok then
      engine.store:release(mine)
      error(well, 0)
    elseif not well then
      return Error("spool", "the report could not be kept")
    end
    answer.changed = answer.changed + #mine
  end
end

-- Returns what is meant, message by message.
local function bounce(engine, filter, reply)
  local answer = { changed = 0, busy = 0 }
  local err = in_parts(engine, filter, function(list)
    local first = 1
    while list[first] do
      local id, wanted = list[first].message.id, {}
      while list[first] and list[first].message.id == id do
        wanted[list[first].number] = true
        first = first + 1
      end
      local why = bounce_message(engine, id, wanted, reply, answer)
      if why then
        return why
      end
    end
  end)
  if err then
    return nil, err
  end
  return answer
end

local function check_name(what, name)
  if type(name) ~= "string" or name == "" then
    error(("queue:%s: the name of a site expected, got a %s"):format(what, type(name)), 3)
  end
end

-- Says something of a site to all workers.
local function say(queue, name, fn)
  return with(queue, function(engine)
    orders.say(queue, name, fn)
    engine.store:tell()
    engine:poke()
    return true
  end)
end

local BUSIEST = 100

-- `quick`: what is in memory, without a look at the disk.
local function stats(engine, how)
  local store = engine.store
  local made = { sites = orders.sites(engine), domains = {}, spool = store:stats() }
  for _, each in ipairs(store:busiest(BUSIEST)) do
    made.domains[each.domain] = each.waiting
  end
  made.states = { busy = made.spool.claimed, waiting = made.spool.waiting }
  if not (how and how.quick) then
    made.deliveries, made.messages = store:count({})
    made.states.held = store:count({ held = true })
  end
  return made
end

--- Adds the methods to moonpost.Queue.
---@param Queue table
---@param site_schema table
function M.install(Queue, site_schema)
  --- Deliveries, oldest message first.
  ---@async
  ---@param which? table
  ---@return moonpost.queue.Row[]? rows
  ---@return moonpost.Error? err
  function Queue:list(which)
    local filter = read("list", which or {})
    return with(self, function(engine)
      local rows = {}
      filter_of.each(engine, filter, function(_, row)
        rows[#rows + 1] = row
      end)
      return rows
    end)
  end

  --- Calls `fn(row)` for deliveries, oldest message first, as they are read: of a large queue nothing is kept.
  ---@async
  ---@param which table|string
  ---@param fn fun(row: moonpost.queue.Row) may wait
  ---@return boolean? ok
  ---@return moonpost.Error? err
  function Queue:each(which, fn)
    local filter = read("each", which)
    return with(self, function(engine)
      filter_of.each(engine, filter, function(_, row)
        fn(row)
      end)
      return true
    end)
  end

  --- The deliveries of one message; none when there is no such message.
  ---@async
  function Queue:show(id)
    if type(id) ~= "string" then
      error(("queue:show: the id of a message expected, got a %s"):format(type(id)), 2)
    end
    return self:list { id = id }
  end

  --- The octets of a message; nil and an error when there is no such message.
  ---@async
  function Queue:octets(id)
    if type(id) ~= "string" then
      error(("queue:octets: the id of a message expected, got a %s"):format(type(id)), 2)
    end
    return with(self, function(engine)
      local octets, err = engine.store:octets(id)
      if not octets and (err == nil or err.error == "NOTFOUND") then
        err = Error("spool", ("%s: there is no such message"):format(log.clean(id)), { error = "NOTFOUND" })
      end
      return octets, err
    end)
  end

  --- Keeps deliveries from being tried until they are released; those that are on their way when they come back.
  ---@async
  function Queue:hold(which)
    return (with(self, change, read("hold", which), "hold"))
  end

  --- Ends a hold.
  ---@async
  function Queue:release(which)
    return (with(self, change, read("release", which), "release"))
  end

  --- Makes deliveries due now, and ends the pause of their sites. Those that are held stay so.
  ---@async
  function Queue:retry(which)
    local filter = read("retry", which)
    return with(self, function(engine)
      return change(engine, filter, "retry", { due = engine.worker:time() }, function(list)
        rouse(engine, list)
      end)
    end)
  end

  --- Sends deliveries to another address, from the next attempt on, which is due now.
  ---@async
  function Queue:redirect(which, address)
    local filter = read("redirect", which)
    if type(address) ~= "string" or not require("moonpost.compose").mailbox(address) then
      error("queue:redirect: an address expected", 2)
    end
    local to = domain.of(address)
    return with(self, function(engine)
      return change(engine, filter, "redirect", { address = address, domain = to }, function(list)
        local _, err = engine.store:change(list, "retry", { due = engine.worker:time() })
        return err
      end)
    end)
  end

  --- Forgets deliveries. Nobody is told.
  ---@async
  function Queue:remove(which)
    return (with(self, change, read("remove", which), "removed"))
  end

  --- Returns deliveries to their senders.
  ---@async
  function Queue:bounce(which, code, enhanced, text)
    local filter = read("bounce", which)
    code, enhanced, text = code or 550, enhanced or "5.7.0", text or "Returned by the administrator"
    if math.type(code) ~= "integer" or code < 500 or code > 599 then
      error("queue:bounce: a code of 500 to 599 expected", 2)
    elseif type(enhanced) ~= "string" or not enhanced:find("^5%.%d%d?%d?%.%d%d?%d?$") then
      error('queue:bounce: an enhanced code such as "5.7.0" expected', 2)
    elseif type(text) ~= "string" or text:find("[%c\128-\255]") then
      error("queue:bounce: a text of one line in ASCII expected", 2)
    end
    return with(self, bounce, filter, reply_of.heard(code, enhanced, text))
  end

  --- What is in the queue, and how its sites are.
  ---@async
  ---@param how? { quick?: boolean } quick: without counting what is on disk
  ---@return table? stats
  ---@return moonpost.Error? err
  function Queue:stats(how)
    return with(self, stats, how)
  end

  --- Looks at the whole spool. What is damaged is set aside, and the rest goes on.
  ---@async
  ---@return integer? aside messages that were set aside
  ---@return moonpost.Error? err the database itself is damaged, or cannot be read
  function Queue:check()
    return with(self, function(engine)
      return engine.store:check()
    end)
  end

  --- Asks nothing of a site any more, until it is resumed or the process ends.
  ---@async
  ---@param name string
  ---@return boolean? ok
  ---@return moonpost.Error? err
  function Queue:suspend(name)
    check_name("suspend", name)
    return say(self, name, function(order)
      order.suspended = true
    end)
  end

  --- Ends a suspension, or a pause. What has waited for the site is tried now.
  ---@async
  function Queue:resume(name)
    check_name("resume", name)
    return say(self, name, function(order)
      order.suspended = nil
      order.resumed = self._engine.worker:time()
    end)
  end

  --- Gives a site other limits, from now on; what is not named has its default.
  ---@async
  function Queue:limit(name, limits)
    check_name("limit", name)
    if type(limits) ~= "table" then
      error(("queue:limit: a table of limits expected, got a %s"):format(type(limits)), 2)
    end
    local values, why = options_of.resolve(site_schema, limits, options_of.place(2), "limit.")
    if not values then
      error("queue:limit: " .. why, 2)
    end
    return say(self, name, function(order)
      order.limits = limits
    end)
  end
end

return M
