--- A spool that keeps nothing: for tests, whose policies have no disk. What it promises is what every spool promises.
---
--- - `put` of an id that is there already changes nothing. When it returns true, the message is kept.
--- - A delivery, one recipient of a message, is claimed by one at a time. A claim ends by settle or release, or with the
---   process.
--- - What becomes of one recipient changes nothing about another. With the last one the message goes.
--- - Within a lane of a domain what was due first is claimed first. Lanes are of a priority and of a tenant, else of a sender: those of
---   a higher priority come first, equal ones take turns. Nothing is promised between domains.
--- - Times are seconds since 1970 by the clock on the wall. For how long a domain sleeps, or what is released waits, is by a clock that does not
---   jump, and forgotten with the process: a dead host is nothing to be kept.
--- - Everything but due, next and sleep may wait.
local M = {}

---@class moonpost.queue.Entry one message
---@field id string
---@field sender string
---@field size integer
---@field received number
---@field tenant? string
---@field priority integer
---@field params table of MAIL, as they go on
---@field meta table

---@class moonpost.queue.Delivery one recipient of it
---@field message moonpost.queue.Entry
---@field number integer from 1
---@field address string
---@field domain string A-labels, lower case
---@field params? table of RCPT
---@field attempts integer
---@field due number
---@field expires number
---@field alarm number when somebody has to look at it whatever else: a warning or its end
---@field warned integer how many warnings have gone out
---@field last? string what was said last
---@field held? boolean

local LANES = 64 -- of a priority
local URGENT = 9 -- the highest

---@class moonpost.queue.Memory
local Store = {}
local Store_mt = { __index = Store, __name = "moonpost.queue.Memory" }

---@param worker moonpost.core.worker
---@return moonpost.queue.Memory
function M.new(worker)
  return setmetatable({ _worker = worker, _messages = {}, _domains = {}, changed = function() end }, Store_mt)
end

local function lane_of(entry)
  local text, sum = entry.tenant or entry.sender, 0
  for i = 1, #text do
    sum = (sum * 31 + text:byte(i)) % 1000003
  end
  return (URGENT - entry.priority) * LANES + sum % LANES
end

local function domain_of(self, name)
  local domain = self._domains[name]
  if not domain then
    domain = { list = {}, lane = -1, sleeps = 0 }
    self._domains[name] = domain
  end
  return domain
end

local function add(self, one)
  local list = domain_of(self, one.domain).list
  one.home = one.domain
  list[#list + 1] = one
end

local function take_out(self, one)
  local domain = self._domains[one.home]
  for i, each in ipairs(domain.list) do
    if each == one then
      table.remove(domain.list, i)
      break
    end
  end
  if not domain.list[1] then
    self._domains[one.home] = nil
  end
end

--- Keeps a message. `claimed`: the caller goes on with it at once.
---@async
---@param entry moonpost.queue.Entry
---@param octets string|moonpost.core.message a received message is kept with our Received field
---@param deliveries moonpost.queue.Delivery[] address, domain, params, due, expires, alarm
---@param claimed? boolean
---@param over? moonpost.queue.Delivery[] these are over in the same moment...
---@param later? moonpost.queue.Delivery[] ...and these are kept as they are now
---@return moonpost.queue.Delivery[]? deliveries complete
---@return moonpost.Error? err kind "full" or "io"
function Store:put(entry, octets, deliveries, claimed, over, later)
  self:settle(over or {}, later or {})
  if self._messages[entry.id] then
    return {}
  end
  if type(octets) ~= "string" then
    octets = octets:octets(true)
  end
  local kept = { entry = entry, octets = octets, left = #deliveries, lane = lane_of(entry), deliveries = deliveries }
  self._messages[entry.id] = kept
  for number, one in ipairs(deliveries) do
    one.message, one.number, one.attempts, one.warned = entry, number, 0, 0
    one.claimed = claimed and not one.held and one.due <= entry.received or false
    add(self, one)
  end
  if not claimed then
    self.changed()
  end
  return deliveries
end

---@param id string
---@param most? integer octets from its beginning; all when left out
---@return string? octets
function Store:octets(id, most)
  local kept = self._messages[id]
  return kept and (most and kept.octets:sub(1, most) or kept.octets)
end

--- What gives the octets in pieces.
---@return fun(): string?
function Store:chunks(id)
  local octets = self:octets(id)
  return function()
    local piece = octets
    octets = nil
    return piece
  end
end

local function is_due(one, now, clock)
  return not one.claimed and not one.held and one.due <= now and (one.until_ or 0) <= clock
end

--- Domains for which something is due.
---@param now number
---@param most integer
---@return string[]
---@return table<string, true> roused those that somebody wants to be tried now
function Store:due(now, most)
  local names, clock = {}, self._worker:now()
  for name, domain in pairs(self._domains) do
    if domain.sleeps <= clock then
      for _, one in ipairs(domain.list) do
        if is_due(one, now, clock) then
          names[#names + 1] = name
          break
        end
      end
    end
  end
  table.sort(names)
  for i = #names, most + 1, -1 do
    names[i] = nil
  end
  local roused = {}
  for _, name in ipairs(names) do
    roused[name], self._domains[name].roused = self._domains[name].roused, nil
  end
  return names, roused
end

--- Seconds until something is due, or wants to be looked at; nil when nothing waits.
---@param now number
---@return number?
function Store:next(now)
  local first
  local clock = self._worker:now()
  for _, domain in pairs(self._domains) do
    for _, one in ipairs(domain.list) do
      if not one.claimed then
        local at = one.alarm - now
        if not one.held then
          at = math.min(at, math.max(one.due - now, (one.until_ or 0) - clock, domain.sleeps - clock))
        end
        first = math.min(first or at, at)
      end
    end
  end
  return first
end

--- Which of those who share the domains this is, and how many there are.
---@return integer owner from 1
---@return integer owners
function Store.owner()
  return 1, 1
end

--- The domain is named to another worker.
---@param domain string
---@param owner integer
function Store.give(_, domain, owner)
  assert(owner == 1, domain)
end

--- Claims deliveries of a domain, of one lane.
---@async
---@return moonpost.queue.Delivery[]
function Store:claim(name, now, most)
  local domain, lanes, found, clock = self._domains[name], {}, false, self._worker:now()
  for _, one in ipairs(domain and domain.list or {}) do
    if is_due(one, now, clock) then
      local lane = self._messages[one.message.id].lane
      lanes[lane] = lanes[lane] or {}
      table.insert(lanes[lane], one)
      found = true
    end
  end
  if not found then
    return {}
  end
  -- Of the highest priority that has any, the lane behind the one that had its turn last.
  local first, behind
  for lane in pairs(lanes) do
    if not first or lane // LANES < first // LANES or lane // LANES == first // LANES and lane < first then
      first = lane
    end
  end
  for lane in pairs(lanes) do
    if lane // LANES == first // LANES and lane > domain.lane and (not behind or lane < behind) then
      behind = lane
    end
  end
  domain.lane = behind or first
  local list = lanes[domain.lane]
  table.sort(list, function(a, b)
    if a.due ~= b.due then
      return a.due < b.due
    end
    return a.message.id == b.message.id and a.number < b.number or a.message.id < b.message.id
  end)
  for i = #list, 1, -1 do
    if i > most then
      list[i] = nil
    else
      list[i].claimed, list[i].until_ = true, nil
    end
  end
  return list
end

--- Claims deliveries whose alarm is over, whatever they wait for.
---@async
---@return moonpost.queue.Delivery[]
function Store:alarms(now, most)
  local list = {}
  for _, domain in pairs(self._domains) do
    for _, one in ipairs(domain.list) do
      if not one.claimed and one.alarm <= now and #list < most then
        one.claimed = true
        list[#list + 1] = one
      end
    end
  end
  return list
end

--- Nothing of a domain is due for so many seconds; 0 wakes it.
function Store:sleep(name, seconds)
  local domain = self._domains[name]
  if domain then
    domain.sleeps = seconds > 0 and self._worker:now() + seconds or 0
  end
end

local function finish(self, one)
  local kept = self._messages[one.message.id]
  if kept and not one.over then
    one.over = true
    take_out(self, one)
    kept.left = kept.left - 1
    if kept.left == 0 then
      self._messages[one.message.id] = nil
    end
  end
end

--- Keeps what became of deliveries, in one commit, and ends their claims. `over`: delivered, bounced, expired or removed, as their field
--- `ended` says. `later`: their fields attempts, due, alarm, warned, last, held, address and domain are kept as they are now.
---@async
---@param over moonpost.queue.Delivery[]
---@param later moonpost.queue.Delivery[]
---@return boolean? ok
---@return moonpost.Error? err
function Store:settle(over, later)
  for _, one in ipairs(over) do
    finish(self, one)
  end
  for _, one in ipairs(later) do
    one.claimed, one.until_ = false, nil
    if one.home ~= one.domain and not one.over then
      take_out(self, one)
      add(self, one)
    end
  end
  if later[1] then
    self.changed()
  end
  return true
end

--- Ends claims and keeps nothing: for so many seconds these are not due.
---@param list moonpost.queue.Delivery[]
---@param seconds? number
function Store:release(list, seconds)
  local until_ = seconds and seconds > 0 and self._worker:now() + seconds or nil
  for _, one in ipairs(list) do
    one.claimed, one.until_ = false, until_
  end
  self.changed()
end

--- Changes deliveries in whichever hands they are; what is claimed is so when it comes back.
---@async
---@param list moonpost.queue.Delivery[]
---@param verb "hold"|"release"|"retry"|"redirect"|"removed"
---@param fields? { due?: number, address?: string, domain?: string }|function of a delivery
---@return integer? count of those that were there
---@return moonpost.Error? err
function Store:change(list, verb, fields)
  local count = 0
  for _, one in ipairs(list) do
    if not one.over then
      count = count + 1
      if verb == "removed" then
        finish(self, one)
      elseif verb == "hold" or verb == "release" then
        one.held = verb == "hold" or nil
      elseif verb == "retry" then
        one.due = (type(fields) == "function" and fields(one) or fields).due
      else
        one.address, one.domain = fields.address, fields.domain
        take_out(self, one)
        add(self, one)
      end
    end
  end
  self.changed()
  return count
end

--- What waits for a domain is to be tried now.
---@param name string
function Store:rouse(name)
  local domain = self._domains[name]
  if domain then
    domain.sleeps, domain.roused = 0, true
    for _, one in ipairs(domain.list) do
      one.until_ = nil
    end
    self.changed()
  end
end

--- Everybody who uses the spool looks again.
function Store:tell()
  self.changed()
end

--- One page of the deliveries in the order of messages, and whether there may be more. The filter (csrc/spool/spool.h) may be ignored but for the
--- id: who asks looks again.
---@async
---@param filter table
---@param after? string go on behind this message...
---@param number? integer ...and this delivery of it
---@param most integer
---@return moonpost.queue.Delivery[]
---@return boolean more
function Store:page(filter, after, number, most)
  local ids, list = {}, {}
  for id in pairs(self._messages) do
    if (not after or id >= after) and (not filter.id or id == filter.id) then
      ids[#ids + 1] = id
    end
  end
  table.sort(ids)
  for _, id in ipairs(ids) do
    for _, one in ipairs(self._messages[id].deliveries) do
      if not one.over and #list < most and (id ~= after or number and one.number > number) then
        list[#list + 1] = one
      end
    end
  end
  return list, #list == most
end

--- Figures of the spool.
---@return table
function Store:stats()
  local made = { domains = 0, waiting = 0, claimed = 0 }
  for _, domain in pairs(self._domains) do
    made.domains = made.domains + 1
    for _, one in ipairs(domain.list) do
      made.waiting = made.waiting + (one.held and 0 or 1)
      made.claimed = made.claimed + (one.claimed and 1 or 0)
    end
  end
  return made
end

--- Domains for which most deliveries wait.
---@param most integer
---@return { domain: string, waiting: integer, claimed: integer }[]
function Store:busiest(most)
  local list = {}
  for name, domain in pairs(self._domains) do
    list[#list + 1] = { domain = name, waiting = #domain.list, claimed = 0 }
  end
  table.sort(list, function(a, b)
    return a.waiting > b.waiting
  end)
  return table.move(list, 1, math.min(most, #list), 1, {})
end

--- How many deliveries there are, and of how many messages.
---@async
---@param filter table held
---@return integer deliveries
---@return integer messages
function Store:count(filter)
  local deliveries, messages, last = 0, 0, nil
  for _, one in ipairs(self:page({}, nil, nil, math.huge)) do
    if not filter.held or one.held then
      deliveries = deliveries + 1
      messages = messages + (last ~= one.message and 1 or 0)
      last = one.message
    end
  end
  return deliveries, messages
end

--- Claims the deliveries of one message that nobody has, whatever they wait for.
---@async
---@param id string
---@return moonpost.queue.Delivery[]
function Store:take(id)
  local list = {}
  for _, one in ipairs(self:page({ id = id }, nil, nil, math.huge)) do
    if not one.claimed then
      one.claimed = true
      list[#list + 1] = one
    end
  end
  return list
end

--- Looks at everything.
---@return integer aside messages that were found damaged
function Store.check()
  return 0
end

function Store.close() end

return M
