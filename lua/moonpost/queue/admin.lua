--- What people do to a queue that runs: look, hold, release, try now, send elsewhere, remove, return. Methods of moonpost.Queue.
---
--- Whatever changes a delivery claims it first, so that nothing is changed under the hands of who carries it. What is claimed at the moment is
--- counted as `busy` and left alone, but for hold: that is done when the delivery comes back, if it does.
local Error = require "moonpost.error"
local core = require "moonpost.core"
local name_of = require("moonpost.queue.engine").name_of
local options_of = require "moonpost.options"
local reply_of = require "moonpost.reply"
local settle = require "moonpost.queue.settle"
local suggest = require "moonpost.suggest"
local units = require "moonpost.units"

local M = {}

local MOST = 100000 -- deliveries of one answer

-- ---- what is meant -------------------------------------------------------------------------------------------------

-- "a@b", "*@b" or "@b" as a function of an address.
local function pattern(text)
  local domain = text:match("^%*?@([^@]+)$")
  if domain then
    domain = "@" .. (core.dns_name(domain) or domain):lower()
    return function(address)
      return address:lower():sub(-#domain) == domain
    end
  end
  local wanted = text:lower()
  return function(address)
    return address:lower() == wanted
  end
end

local function same(text)
  return function(value)
    return value == text
  end
end

local function domain(text)
  return same(core.dns_name(text) or text:lower())
end

local function part(text)
  text = text:lower()
  return function(value)
    return value ~= nil and value:lower():find(text, 1, true) ~= nil
  end
end

-- By name: what it takes, and what of a row it is held against.
local fields = {
  id = { "string", same, "id" }, sender = { "string", pattern, "sender" }, recipient = { "string", pattern, "recipient" },
  domain = { "string", domain, "domain" }, site = { "string", same, "site" }, tenant = { "string", same, "tenant" },
  reply = { "string", part, "reply" }, held = { "boolean", same, "held" },
  older = { "duration", function(seconds) return function(age) return age >= seconds end end, "age" },
  younger = { "duration", function(seconds) return function(age) return age < seconds end end, "age" },
}

local known = { most = true }
for name in pairs(fields) do
  known[name] = true
end

local function read(what, which)
  if type(which) == "string" then
    which = { id = which }
  elseif type(which) ~= "table" then
    return nil, ("%s: the id of a message or a filter expected, got a %s"):format(what, type(which))
  end
  local filter = { tests = {}, most = MOST, id = which.id }
  for name, value in pairs(which) do
    local field = fields[name]
    if not known[name] then
      return nil, ("%s: unknown filter %q%s"):format(what, tostring(name), suggest.hint(name, known))
    elseif not field then
      if math.type(value) ~= "integer" or value < 1 or value > MOST then
        return nil, ("%s: most: 1 to %d expected"):format(what, MOST)
      end
      filter.most = value
    else
      if field[1] == "duration" then
        local seconds, expected = units.duration(value)
        if not seconds then
          return nil, ("%s: %s: %s expected"):format(what, name, expected)
        end
        value = seconds
      elseif type(value) ~= field[1] then
        return nil, ("%s: %s: a %s expected, got a %s"):format(what, name, field[1], type(value))
      end
      table.insert(filter.tests, { field[3], field[2](value) })
    end
  end
  return filter
end

-- A filter; mistakes raise where the method was called.
local function filter_of(what, which)
  local filter, why = read("queue:" .. what, which)
  if not filter then
    error(why, 3)
  end
  return filter
end

local function row_of(engine, one)
  local message = one.message
  local busy = engine.busy[name_of(one)] or false
  return {
    id = message.id, number = one.number, sender = message.sender, recipient = one.address, domain = one.domain, tenant = message.tenant,
    site = engine:site_of(one.domain), size = message.size, received = message.received, age = engine.worker:time() - message.received,
    due = one.due, expires = one.expires, attempts = one.attempts, reply = one.last, held = one.held or false,
    state = busy and "busy" or one.held and "held" or one.due <= engine.worker:time() and "due" or "waiting",
  }
end

local function meant(filter, row)
  for _, test in ipairs(filter.tests) do
    if not test[2](row[test[1]]) then
      return false
    end
  end
  return true
end

local function find(engine, filter)
  local function want(one)
    return meant(filter, row_of(engine, one))
  end
  if not filter.id then
    return engine.store:list(want, filter.most)
  end
  local list = {}
  for _, one in ipairs(engine.store:show(filter.id)) do
    if want(one) and #list < filter.most then
      list[#list + 1] = one
    end
  end
  return list
end

-- ---- what is done --------------------------------------------------------------------------------------------------

-- Claims what is meant, calls `act(list)` with those of one message, and counts. Those that cannot be had are told to `missed`.
local function change(engine, filter, act, missed)
  local answer, wanted, order = { changed = 0, busy = 0 }, {}, {}
  for _, one in ipairs(find(engine, filter)) do
    local id = one.message.id
    if not wanted[id] then
      wanted[id] = {}
      order[#order + 1] = id
    end
    wanted[id][one.number] = one
  end
  for _, id in ipairs(order) do
    local mine, others = {}, {}
    for _, one in ipairs(engine.store:take(id)) do
      local to = wanted[id][one.number] and mine or others
      to[#to + 1] = one
      wanted[id][one.number] = nil
    end
    if others[1] then
      engine.store:release(others)
    end
    for _, one in pairs(wanted[id]) do
      if engine.busy[name_of(one)] then
        answer.busy = answer.busy + 1
        if missed then
          missed(one)
        end
      end
    end
    if mine[1] then
      local well, ok, err = pcall(act, mine)
      if not (well and ok) then -- what is over already is not touched by a release
        engine.store:release(mine)
        engine:poke()
        if not well then
          error(ok, 0)
        end
        return nil, err
      end
      answer.changed = answer.changed + #mine
    end
  end
  engine:poke()
  return answer
end

local function set(engine, fn)
  return function(list)
    for _, one in ipairs(list) do
      fn(one)
    end
    return engine.store:settle({}, list)
  end
end

local function hold(engine, filter)
  local function held(one)
    one.held = true
  end
  return change(engine, filter, set(engine, held), function(one)
    engine.wishes[name_of(one)] = function()
      local id, number = one.message.id, one.number
      hold(engine, { id = id, most = 1, tests = { { "id", same(id) }, { "number", same(number) } } })
    end
  end)
end

local function begun(queue)
  local ok, err = queue:start()
  if not ok then
    return nil, err
  end
  return queue._engine
end

-- A method that needs the spool.
local function with(queue, fn, ...)
  local engine, err = begun(queue)
  if not engine then
    return nil, err
  end
  local ok, answer, more = pcall(fn, engine, ...)
  if not ok then
    if Error.is(answer) then
      return nil, answer
    end
    error(answer, 0)
  end
  return answer, more
end

local function wake(engine, name)
  engine.store:sleep(name, 0)
  for _, at in pairs(engine.sites) do
    if at.domains[name] and at.state == "paused" then
      at:resume()
    end
  end
end

local function sites_named(engine, name)
  local list = {}
  for _, at in pairs(engine.sites) do
    if at.name == name then
      list[#list + 1] = at
    end
  end
  return list
end

local function check_name(what, name)
  if type(name) ~= "string" or name == "" then
    error(("queue:%s: the name of a site expected, got a %s"):format(what, type(name)), 3)
  end
end

local function stats(engine)
  local made = { messages = 0, deliveries = 0, states = { busy = 0, held = 0, due = 0, waiting = 0 }, sites = {}, domains = {} }
  local seen
  engine.store:list(function(one) -- looked at one by one: nothing of a large queue is kept
    local row = row_of(engine, one)
    made.deliveries = made.deliveries + 1
    if seen ~= row.id then
      seen, made.messages = row.id, made.messages + 1
    end
    made.states[row.state] = made.states[row.state] + 1
    made.domains[row.domain] = (made.domains[row.domain] or 0) + 1
    return false
  end, 1)
  for _, at in pairs(engine.sites) do
    table.insert(made.sites, {
      name = at.name, state = at.state, active = at:active(), waiting = at:waiting(), failures = at.failures, why = at.why,
      again = at.state == "paused" and engine.worker:time() + at.again - engine.worker:now() or nil,
    })
  end
  table.sort(made.sites, function(a, b)
    return a.name < b.name
  end)
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
    local filter = filter_of("list", which or {})
    return with(self, function(engine)
      local rows = {}
      for i, one in ipairs(find(engine, filter)) do
        rows[i] = row_of(engine, one)
      end
      return rows
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

  --- The octets of a message; nil when there is no such message.
  ---@async
  function Queue:octets(id)
    if type(id) ~= "string" then
      error(("queue:octets: the id of a message expected, got a %s"):format(type(id)), 2)
    end
    return with(self, function(engine)
      return engine.store:octets(id)
    end)
  end

  --- Keeps deliveries from being tried until they are released. Those that are busy are held when they come back.
  ---@async
  function Queue:hold(which)
    return with(self, hold, filter_of("hold", which))
  end

  ---@async
  function Queue:release(which)
    local filter = filter_of("release", which)
    return with(self, function(engine)
      for _, one in ipairs(find(engine, filter)) do
        engine.wishes[name_of(one)] = nil
      end
      return change(engine, filter, set(engine, function(one)
        one.held = nil
      end))
    end)
  end

  --- Makes deliveries due now, and ends the pause of their sites. Those that are held stay so.
  ---@async
  function Queue:retry(which)
    local filter = filter_of("retry", which)
    return with(self, function(engine)
      local domains = {}
      local answer, err = change(engine, filter, set(engine, function(one)
        one.due = engine.worker:time()
        domains[one.domain] = true
      end))
      for name in pairs(domains) do
        wake(engine, name)
      end
      engine:poke()
      return answer, err
    end)
  end

  --- Sends deliveries to another address, from now on.
  ---@async
  function Queue:redirect(which, address)
    local filter = filter_of("redirect", which)
    if type(address) ~= "string" or not require("moonpost.compose").mailbox(address) then
      error("queue:redirect: an address expected", 2)
    end
    local to = address:match("@([^@]*)$") or ""
    to = core.dns_name(to) or to:lower()
    return with(self, function(engine)
      return change(engine, filter, set(engine, function(one)
        one.address, one.domain, one.due = address, to, engine.worker:time()
      end))
    end)
  end

  --- Forgets deliveries. Nobody is told.
  ---@async
  function Queue:remove(which)
    local filter = filter_of("remove", which)
    return with(self, function(engine)
      return change(engine, filter, function(list)
        return engine.store:settle(list, {})
      end)
    end)
  end

  --- Returns deliveries to their senders.
  ---@async
  function Queue:bounce(which, code, enhanced, text)
    local filter = filter_of("bounce", which)
    code, enhanced, text = code or 550, enhanced or "5.7.0", text or "Returned by the administrator"
    if math.type(code) ~= "integer" or code < 500 or code > 599 then
      error("queue:bounce: a code of 500 to 599 expected", 2)
    elseif type(enhanced) ~= "string" or not enhanced:find("^5%.%d%d?%d?%.%d%d?%d?$") then
      error('queue:bounce: an enhanced code such as "5.7.0" expected', 2)
    elseif type(text) ~= "string" or text:find("[%c\128-\255]") then
      error("queue:bounce: a text of one line in ASCII expected", 2)
    end
    local reply = reply_of.heard(code, enhanced, text)
    return with(self, function(engine)
      return change(engine, filter, function(list)
        for _, one in ipairs(list) do
          if not settle.bounce(engine, one, reply) then
            return nil, Error("spool", "the report could not be kept")
          end
        end
        return true
      end)
    end)
  end

  --- What is in the queue, and how its sites are.
  ---@async
  ---@return table? stats
  ---@return moonpost.Error? err
  function Queue:stats()
    return with(self, stats)
  end

  --- Asks nothing of a site any more, until it is resumed or the process ends.
  ---@async
  ---@param name string
  ---@return boolean? ok
  ---@return moonpost.Error? err
  function Queue:suspend(name)
    check_name("suspend", name)
    return with(self, function(engine)
      self._suspended[name] = true
      for _, at in ipairs(sites_named(engine, name)) do
        at:suspend()
      end
      return true
    end)
  end

  --- Ends a suspension, or a pause. What has waited for the site is looked at again.
  ---@async
  function Queue:resume(name)
    check_name("resume", name)
    return with(self, function(engine)
      self._suspended[name] = nil
      for _, at in ipairs(sites_named(engine, name)) do
        at:resume()
        for each in pairs(at.domains) do
          -- Claimed and let go again, they forget until when they were to wait.
          change(engine, { tests = { { "domain", same(each) } }, most = MOST }, function(list)
            engine.store:release(list)
            return true
          end)
          engine.store:sleep(each, 0)
        end
      end
      engine:poke()
      return true
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
    return with(self, function(engine)
      self._changed[name] = limits
      for _, at in ipairs(sites_named(engine, name)) do
        at:limit(self:_limits_of(name))
      end
      return true
    end)
  end
end

return M
