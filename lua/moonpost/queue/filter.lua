--- Which deliveries are meant: a filter as people write it, held against rows, and handed down to the spool as far as that understands it.
local domain_of = require "moonpost.queue.domain"
local suggest = require "moonpost.suggest"
local units = require "moonpost.units"

local M = {}

local MOST = 100000 -- deliveries that may be asked for by number
local PAGE = 500
local PUSHED_MOST = 1024 -- octets of a text that the spool looks for

-- "a@b", "*@b", "@b" or "<>" as a function of an address.
local function pattern(text)
  local name = text:match("^%*?@([^@]+)$")
  if name then
    local ending = "@" .. domain_of.name(name)
    return function(address)
      return address:lower():sub(-#ending) == ending
    end
  end
  local wanted = text == "<>" and "" or text:lower()
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
  return same(domain_of.name(text))
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

-- How the spool looks for it. It may find more than is meant, never less.
local pushed = {
  id = function(text) return text end,
  sender = function(text) return text:gsub("^@", "*@") end,
  recipient = function(text) return text:gsub("^@", "*@") end,
  domain = domain_of.name,
  tenant = function(text) return text end,
  reply = function(text) return text end,
}

local known = { most = true, after = true }
for name in pairs(fields) do
  known[name] = true
end

---@class moonpost.queue.Filter
---@field tests table[]
---@field down table for the spool
---@field most number
---@field after? string
---@field number? integer

-- "ID" or "ID/NUMBER".
local function read_after(filter, value)
  if type(value) ~= "string" then
    return "after: the id of a message, or id/number, expected"
  end
  local id, number = value:match("^([^/]+)/(%d+)$")
  filter.after, filter.number = id or value, tonumber(number)
end

local function read_most(filter, value)
  if math.type(value) ~= "integer" or value < 1 or value > MOST then
    return ("most: 1 to %d expected"):format(MOST)
  end
  filter.most = value
end

local function read_field(filter, name, value)
  local field = fields[name]
  if field[1] == "duration" then
    local seconds, expected = units.duration(value)
    if not seconds then
      return ("%s: %s expected"):format(name, expected)
    end
    value = seconds
  elseif type(value) ~= field[1] then
    return ("%s: a %s expected, got a %s"):format(name, field[1], type(value))
  end
  table.insert(filter.tests, { field[3], field[2](value) })
  if name == "held" then
    filter.down[value and "held" or "waiting"] = true
  elseif pushed[name] and #value <= PUSHED_MOST then
    filter.down[name] = pushed[name](value)
  end
end

--- Reads a filter: the id of a message, or a table.
---@param which any
---@return moonpost.queue.Filter? filter
---@return string? why
function M.read(which)
  if type(which) == "string" then
    which = { id = which }
  elseif type(which) ~= "table" then
    return nil, ("the id of a message or a filter expected, got a %s"):format(type(which))
  end
  local filter = { tests = {}, down = {}, most = math.huge }
  for name, value in pairs(which) do
    local why
    if not known[name] then
      why = ("unknown filter %q%s"):format(tostring(name), suggest.hint(name, known))
    elseif name == "after" then
      why = read_after(filter, value)
    elseif name == "most" then
      why = read_most(filter, value)
    else
      why = read_field(filter, name, value)
    end
    if why then
      return nil, why
    end
  end
  return filter
end

--- A delivery as people see it.
---@param engine moonpost.queue.Engine
---@param one moonpost.queue.Delivery
---@return moonpost.queue.Row
function M.row(engine, one)
  local message, now = one.message, engine.worker:time()
  return {
    id = message.id, number = one.number, sender = message.sender, recipient = one.address, domain = one.domain, tenant = message.tenant,
    site = one.site or engine:site_of(one.domain), host = one.host, size = message.size, received = message.received, age = now - message.received,
    due = one.due, expires = one.expires, attempts = one.attempts, reply = one.last, held = one.held or false, priority = message.priority,
    state = one.claimed and "busy" or one.held and "held" or one.due <= now and "due" or "waiting",
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

--- Calls `fn(delivery, row)` for what is meant, in the order of messages, page by page: nothing of a large queue is kept.
---@async
---@param engine moonpost.queue.Engine
---@param filter moonpost.queue.Filter
---@param fn fun(one: moonpost.queue.Delivery, row: moonpost.queue.Row): boolean? true: no more of them
function M.each(engine, filter, fn)
  local after, number, left, more = filter.after, filter.number, filter.most, true
  while more and left > 0 do
    local page
    page, more = engine.store:page(filter.down, after, number, PAGE)
    for _, one in ipairs(page) do
      local row = M.row(engine, one)
      if left > 0 and meant(filter, row) then
        left = fn(one, row) and 0 or left - 1
      end
      after, number = one.message.id, one.number
    end
    more = more and page[1] ~= nil
  end
end

return M
