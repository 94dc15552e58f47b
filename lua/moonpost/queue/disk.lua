--- The spool on disk, with the face of moonpost.queue.memory, which says what a spool promises. Tables are kept as the
--- text of Lua values, which hold any octets.
---
--- What is claimed is leased for a while; as long as somebody here holds some of it, the lease is lengthened.
local Error = require "moonpost.error"
local core = require "moonpost.core"
local log = require "moonpost.log"
local plain = require "moonpost.plain"
local task = require "moonpost.task"

local M = {}

local LEASE = 3600 -- seconds
local AGAIN = 300 -- seconds until a domain is named once more of which nobody has claimed
local CLAIM_MOST = 1000 -- what the spool takes in one request
local READ_MOST = 1048576 -- octets
local PIECE = 131072 -- octets
local READ_FIRST = 65536 -- octets: most messages are whole then

---@class moonpost.queue.Disk
local Store = {}
local Store_mt = { __index = Store, __name = "moonpost.queue.Disk" }

local function failure(why, name)
  return nil, Error(name == "NOSPACE" and "full" or name == "EXISTS" and "exists" or "io", "spool: " .. tostring(why), { error = name })
end

--- Opens a spool, or shares the one that this process has open.
---@param folder string
---@param worker moonpost.core.worker
---@param lease? number seconds for which a claim holds unless it is lengthened
---@return moonpost.queue.Disk? store
---@return moonpost.Error? err kind "spool"
function M.open(folder, worker, lease)
  local spool, why, name = core.spool(worker, folder)
  if not spool then
    return nil, Error("spool", why, { error = name, temporary = name ~= "INUSE" })
  end
  local self = setmetatable({ _spool = spool, _worker = worker, _lease = lease or LEASE, _leases = {}, changed = function() end }, Store_mt)
  spool:changed(function()
    self.changed()
  end)
  spool:logged(function(line)
    log.event("warn", "spool", { "folder", folder, "says", line })
  end)
  return self
end

-- Asks, and waits for the answer. Who is cancelled meanwhile hears nothing of it; it is done all the same.
local function ask(self, method, ...)
  local spool, args, n = self._spool, { ... }, select("#", ...) + 1
  return task.park(function(wake)
    args[n] = wake
    spool[method](spool, table.unpack(args, 1, n))
  end, "the spool")
end

local function text_of(value)
  return value ~= nil and next(value) ~= nil and plain.encode(value) or nil
end

local function table_of(text)
  return text and plain.decode(text) or nil
end

-- ---- leases --------------------------------------------------------------------------------------------------------

-- Lengthens what is held, now and then, as long as anything is.
local function lengthen(self)
  self._timer = self._worker:timer(self._lease / 3, function()
    for lease in pairs(self._leases) do
      self._spool:keep(lease, self._lease)
    end
    lengthen(self)
  end)
end

local function hold(self, list)
  for _, one in ipairs(list) do
    self._leases[one.lease] = (self._leases[one.lease] or 0) + 1
  end
  if list[1] and not self._timer then
    lengthen(self)
  end
end

local function let_go(self, list)
  for _, one in ipairs(list) do
    local lease = one.lease
    if lease then
      one.lease = nil
      local left = (self._leases[lease] or 0) - 1
      self._leases[lease] = left > 0 and left or nil
    end
  end
  if self._timer and not next(self._leases) then
    self._timer:cancel()
    self._timer = nil
  end
end

-- ---- rows ----------------------------------------------------------------------------------------------------------

-- What the spool knows of a delivery stays with it, to tell what has changed.
local function keep_in_mind(one)
  one.kept_address, one.kept_held, one.kept_attempts = one.address, one.held, one.attempts
end

local function deliveries(items)
  local list = {}
  for _, entry in ipairs(items) do
    entry.params, entry.meta = table_of(entry.params) or {}, table_of(entry.meta) or {}
    for i, one in ipairs(entry) do
      one.message, one.params = entry, table_of(one.params)
      keep_in_mind(one)
      list[#list + 1] = one
      entry[i] = nil
    end
  end
  return list
end

local function found(self, items, why, name)
  if not items then
    error(select(2, failure(why, name)), 0)
  end
  local list = deliveries(items)
  hold(self, list)
  return list
end

-- Asks for claims. Nobody else would end those of who is cancelled meanwhile.
local function claim(self, method, ...)
  local spool, args, n = self._spool, { ... }, select("#", ...) + 1
  local given_up = false
  return found(self, task.park(function(wake)
    args[n] = function(items, ...)
      for _, entry in ipairs(given_up and items or {}) do
        for _, one in ipairs(entry) do
          spool:leave(one.lease, entry.id, one.number, 0)
        end
      end
      wake(items, ...)
    end
    spool[method](spool, table.unpack(args, 1, n))
    return function()
      given_up = true
    end
  end, "the spool"))
end

-- ---- what a spool does ---------------------------------------------------------------------------------------------

-- What becomes of deliveries, as the spool takes it.
local function changes_of(self, over, later)
  local changes, now = {}, self._worker:time()
  local function add(one, change)
    change.id, change.number = one.message.id, one.number
    changes[#changes + 1] = change
  end
  for _, one in ipairs(over) do
    add(one, { verb = one.ended or "removed" })
  end
  for _, one in ipairs(later) do
    if one.address ~= one.kept_address then
      add(one, { verb = "redirect", address = one.address, domain = one.domain })
    end
    if (one.held or false) ~= (one.kept_held or false) then
      add(one, { verb = one.held and "hold" or "release" })
    end
    add(one, {
      verb = "reschedule", lease = one.lease, due = one.due, now = one.attempts > one.kept_attempts and now or nil, alarm = one.alarm,
      warned = one.warned, last = one.last, site = one.site, host = one.host,
    })
  end
  return changes
end

-- As many in one commit as the spool takes; those of one delivery stay together.
local function update(self, changes)
  local first = 1
  while first <= #changes do
    local last = math.min(first + CLAIM_MOST - 1, #changes)
    while last < #changes and last > first and changes[last + 1].id == changes[last].id and changes[last + 1].number == changes[last].number do
      last = last - 1
    end
    local some = first == 1 and last == #changes and changes or table.move(changes, first, last, 1, {})
    local ok, why, name = ask(self, "update", some)
    if not ok then
      return failure(why, name)
    end
    first = last + 1
  end
  return true
end

function Store:settle(over, later)
  local ok, err = update(self, changes_of(self, over, later))
  if ok then
    let_go(self, over)
    let_go(self, later)
  end
  return ok, err
end

function Store:put(entry, octets, list, claimed, over, later)
  local rows = {}
  for number, one in ipairs(list) do
    one.message, one.number, one.attempts, one.warned = entry, number, 0, 0
    keep_in_mind(one)
    rows[number] = {
      address = one.address, domain = one.domain, params = text_of(one.params), due = one.due, expires = one.expires, alarm = one.alarm,
      held = one.held,
    }
  end
  local what = {
    id = entry.id, sender = entry.sender, tenant = entry.tenant, user = entry.user, params = text_of(entry.params), meta = text_of(entry.meta),
    received = entry.received, priority = entry.priority, report = entry.report,
  }
  local changes = changes_of(self, over or {}, later or {})
  if changes[CLAIM_MOST + 1] then -- more than a commit takes: the report first
    changes = {}
  end
  local spool, given_up = self._spool, false
  local lease, why, name = task.park(function(wake)
    spool:put(what, octets, rows, claimed and self._lease or 0, changes, function(made, ...)
      if given_up and made and made ~= 0 then -- it is kept, and nobody else would end these claims
        spool:leave(made, entry.id, 0, 0)
      end
      wake(made, ...)
    end)
    return function()
      given_up = true
    end
  end, "the spool")
  if lease == nil then
    return failure(why, name)
  elseif lease == false then
    return {}
  end
  local held = {}
  for _, one in ipairs(list) do
    one.claimed = lease ~= 0 and not one.held and one.due <= entry.received
    if one.claimed then
      one.lease = lease
      held[#held + 1] = one
    end
  end
  hold(self, held)
  if changes[1] then
    let_go(self, over)
    let_go(self, later)
  elseif over and (over[1] or later[1]) then
    local ok, err = self:settle(over, later)
    if not ok then
      return nil, err
    end
  end
  return list
end

-- What a delivery is that has just been kept and claimed. Fields that it gets later are named, so that its table need not grow.
local function fresh(entry, number, address, domain, times)
  return {
    message = entry, number = number, address = address, domain = domain, due = times.due, expires = times.expires, alarm = times.alarm,
    attempts = 0, warned = 0, claimed = true, lease = false, kept_address = address, kept_held = nil, kept_attempts = 0, params = nil,
    claimed_as = nil, placed = nil,
  }
end

local NONE = {}

--- Keeps a received message for everybody its envelope names (core.message:bare). For who is in no task, and is not given up.
---@param envelope moonpost.core.message
---@param octets? string of envelope:octets(true), where somebody has it
---@param entry table received, priority, tenant, user, params, meta; id, sender and size are added when it is claimed
---@param times { due: number, expires: number, alarm: number }
---@param domains? string[] of its recipients, in their order: what is due is claimed; nil: nothing is
---@param done fun(list?: moonpost.queue.Delivery[], err?: moonpost.Error) those that are claimed
function Store:accept(envelope, octets, entry, times, domains, done)
  local list
  if domains then -- the envelope may be gone when the answer comes
    entry.id, entry.sender, entry.size = envelope:id(), envelope:sender(), octets and #octets or envelope:size()
    list = {}
    for i, domain in ipairs(domains) do
      list[i] = fresh(entry, i, envelope:recipient(i), domain, times)
    end
  end
  self._spool:accept(envelope, octets, entry.received, times.due, times.expires, times.alarm, domains and self._lease or 0, entry.priority,
    entry.tenant, text_of(entry.params), text_of(entry.meta), function(lease, why, name)
      if lease == nil then
        return done(failure(why, name))
      elseif lease == false then
        return done(nil, Error("spool", "there is a message of this name already", { enhanced = "4.3.0" }))
      elseif lease == 0 or not list then
        return done(NONE)
      end
      for _, one in ipairs(list) do
        one.lease = lease
      end
      hold(self, list)
      done(list)
    end)
end

function Store:octets(id, most)
  local parts, at, size = {}, 0, math.min(READ_FIRST, most or READ_FIRST)
  while true do
    local octets, head, total = ask(self, "read", id, at, size)
    if not octets then
      return failure(head, total)
    end
    parts[#parts + 1] = octets
    at = at + #octets
    total = most and math.min(most, total) or total
    if at >= total then
      return parts[2] and table.concat(parts) or octets
    end
    size = math.min(READ_MOST, total - at)
  end
end

--- What gives the octets in pieces; raises where they cannot be read.
---@param id string
---@return fun(): string?
function Store:chunks(id)
  local at, total = 0, nil
  return function()
    if total and at >= total then
      return nil
    end
    local octets, why, all = ask(self, "read", id, at, PIECE)
    if not octets or octets == "" and at < all then
      error(select(2, failure(why, all)), 0)
    end
    at, total = at + #octets, all
    return octets ~= "" and octets or nil
  end
end

function Store:due(now, most)
  return self._spool:due(now, AGAIN, most)
end

function Store:next(now)
  return self._spool:next(now)
end

function Store:sleep(domain, seconds)
  self._spool:quiet(domain, seconds)
end

function Store:rouse(domain)
  self._spool:rouse(domain)
end

function Store:tell()
  self._spool:tell()
end

function Store:give(domain, owner)
  self._spool:give(domain, owner)
end

function Store:owner()
  return self._spool:owner()
end

function Store:claim(domain, now, most)
  return claim(self, "claim", domain, now, most, self._lease)
end

function Store:alarms(now, most)
  local _, over = self._spool:next(now)
  return over and claim(self, "alarms", now, most, self._lease) or {}
end

function Store:take(id)
  return claim(self, "take", id, 0, CLAIM_MOST, self._lease)
end

--- Changes deliveries in whichever hands they are.
---@async
---@param list moonpost.queue.Delivery[]
---@param verb "hold"|"release"|"retry"|"redirect"|"removed"
---@param fields? { due?: number, address?: string, domain?: string }|function of a delivery
---@return integer? count of those that were there
---@return moonpost.Error? err
function Store:change(list, verb, fields)
  local count = 0
  for first = 1, #list, CLAIM_MOST do
    local changes = {}
    for i = first, math.min(first + CLAIM_MOST - 1, #list) do
      local change = { verb = verb, id = list[i].message.id, number = list[i].number }
      for name, value in pairs(type(fields) == "function" and fields(list[i]) or fields or {}) do
        change[name] = value
      end
      changes[#changes + 1] = change
    end
    local made, why, name = ask(self, "update", changes)
    if not made then
      return failure(why, name)
    end
    count = count + made
  end
  return count
end

function Store:release(list, seconds)
  for _, one in ipairs(list) do
    if one.lease then
      self._spool:leave(one.lease, one.message.id, one.number, seconds or 0)
    end
  end
  let_go(self, list)
end

--- One page of what a filter of the spool finds: deliveries in the order of messages, and whether there may be more.
---@async
---@param filter table id, sender, recipient, domain, site, tenant, reply, held, waiting, before, after (csrc/spool/spool.h)
---@param after? string go on behind this message...
---@param number? integer ...and this delivery of it
---@param most integer at most 1000
---@return moonpost.queue.Delivery[]
---@return boolean more
function Store:page(filter, after, number, most)
  local items, more, name = ask(self, "list", filter, after or "", number or 0, most)
  if not items then
    error(select(2, failure(more, name)), 0)
  end
  return deliveries(items), more
end

--- Figures of the spool, since it was opened.
---@return table
function Store:stats()
  return self._spool:stats()
end

--- Domains for which most deliveries wait.
---@param most integer up to 100
---@return { domain: string, waiting: integer, claimed: integer }[]
function Store:busiest(most)
  return self._spool:busiest(most)
end

--- How many deliveries a filter finds, and of how many messages.
---@async
---@param filter table
---@return integer deliveries
---@return integer messages
function Store:count(filter)
  local deliveries_, messages, name = ask(self, "list", filter, "", 0, 0)
  if not deliveries_ then
    error(select(2, failure(messages, name)), 0)
  end
  return deliveries_, messages
end

--- Looks at everything: pages, indexes, rows, files. Takes as long as to read it all.
---@async
---@return integer? aside messages that were found damaged, and set aside
---@return moonpost.Error? err
function Store:check()
  local aside, why, name = ask(self, "check")
  if not aside then
    return failure(why, name)
  end
  return aside
end

function Store:close()
  if self._timer then
    self._timer:cancel()
    self._timer = nil
  end
  self._leases = {}
  self._spool:close()
end

return M
