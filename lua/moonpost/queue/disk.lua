--- The spool on disk, with the face of moonpost.queue.memory, which says what a spool promises. Tables are kept as the
--- text of Lua values, which hold any octets.
local Error = require "moonpost.error"
local core = require "moonpost.core"
local plain = require "moonpost.plain"
local task = require "moonpost.task"

local M = {}

---@class moonpost.queue.Disk
local Store = {}
local Store_mt = { __index = Store, __name = "moonpost.queue.Disk" }

local function failure(why, name)
  return nil, Error(name == "NOSPACE" and "full" or name == "EXISTS" and "exists" or "io", "spool: " .. tostring(why), { error = name })
end

--- Opens a spool, or shares the one that this process has open.
---@param folder string
---@param worker moonpost.core.worker
---@return moonpost.queue.Disk? store
---@return moonpost.Error? err kind "spool"
function M.open(folder, worker)
  local spool, why, name = core.spool(worker, folder)
  if not spool then
    return nil, Error("spool", ("%s: %s"):format(folder, why), { error = name, temporary = name ~= "INUSE" })
  end
  local self = setmetatable({ _spool = spool, changed = function() end }, Store_mt)
  spool:changed(function()
    self.changed()
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
  return value ~= nil and next(value) ~= nil and plain.encode(value) or ""
end

local function table_of(text)
  return text ~= "" and plain.decode(text) or nil
end

-- Rows of one message share its entry.
local function deliveries(rows)
  local entries = {}
  for i, row in ipairs(rows) do
    local entry = entries[row.id]
    if not entry then
      entry = {
        id = row.id, sender = row.sender, size = row.size, received = row.received, tenant = row.tenant ~= "" and row.tenant or nil,
        user = row.user ~= "" and row.user or nil, priority = row.priority, params = table_of(row.message_params) or {},
        meta = table_of(row.meta) or {}, report = row.report or nil,
      }
      entries[row.id] = entry
    end
    rows[i] = {
      handle = row.handle, number = row.number, address = row.address, domain = row.domain, params = table_of(row.params),
      last = row.last ~= "" and row.last or nil, due = row.due, expires = row.expires, alarm = row.alarm, attempts = row.attempts,
      warned = row.warned, held = row.held or nil, message = entry,
    }
  end
  return rows
end

function Store:put(entry, octets, list, claimed)
  local rows = {}
  for number, one in ipairs(list) do
    one.message, one.number, one.attempts, one.warned = entry, number, 0, 0
    one.claimed = claimed and not one.held and one.due <= entry.received or false
    rows[number] = {
      number = number, address = one.address, domain = one.domain, params = text_of(one.params), due = one.due, expires = one.expires,
      alarm = one.alarm, held = one.held,
    }
  end
  local given_up = false
  local what = {
    id = entry.id, sender = entry.sender, tenant = entry.tenant, user = entry.user, params = text_of(entry.params), meta = text_of(entry.meta),
    received = entry.received, priority = entry.priority, report = entry.report,
  }
  local handles, why, name = task.park(function(wake)
    self._spool:put(what, octets, rows, claimed or false, function(made, ...)
      if given_up and made and claimed then -- it is kept, and nobody else would end these claims
        for i, handle in ipairs(made) do
          self._spool:release(handle, list[i].domain, 0)
        end
      end
      wake(made, ...)
    end)
    return function()
      given_up = true
    end
  end, "the spool")
  if not handles then
    if name == "EXISTS" then
      return {}
    end
    return failure(why, name)
  end
  for i, handle in ipairs(handles) do
    list[i].handle = handle
  end
  return list
end

function Store:octets(id)
  local octets, why, name = ask(self, "read", id)
  if not octets then
    return failure(why, name)
  end
  return octets
end

function Store:due(now, most)
  return self._spool:due(now, most)
end

function Store:next()
  return self._spool:next()
end

function Store:sleep(domain, until_)
  self._spool:sleep(domain, math.min(until_, 1e15))
end

local function found(rows, why, name)
  if not rows then
    error(select(2, failure(why, name)), 0)
  end
  return deliveries(rows)
end

function Store:claim(domain, now, most)
  return found(ask(self, "claim", domain, now, most))
end

function Store:alarms(now, most)
  return found(ask(self, "alarms", now, most))
end

local function told(ok, why, name)
  if not ok then
    return failure(why, name)
  end
  return true
end

function Store:finish(list)
  return told(ask(self, "finish", list))
end

function Store:reschedule(list)
  return told(ask(self, "reschedule", list))
end

function Store:release(list, until_)
  for _, one in ipairs(list) do
    self._spool:release(one.handle, one.domain, until_ and math.min(until_, 1e15) or 0)
  end
end

local PAGE = 500

function Store:list(want, most)
  local list, after = {}, ""
  repeat
    local page = found(ask(self, "list", after, PAGE))
    for _, one in ipairs(page) do
      if #list < most and want(one) then
        list[#list + 1] = one
      end
      after = one.message.id
    end
  until #page < PAGE or #list >= most
  return list
end

function Store:show(id)
  return found(ask(self, "show", id))
end

function Store:take(id)
  local given_up = false
  return found(task.park(function(wake)
    self._spool:take(id, function(rows, ...)
      for _, row in ipairs(given_up and rows or {}) do -- nobody else would end these claims
        self._spool:release(row.handle, row.domain, 0)
      end
      wake(rows, ...)
    end)
    return function()
      given_up = true
    end
  end, "the spool"))
end

function Store:counts()
  return self._spool:counts()
end

function Store:close()
  self._spool:close()
end

return M
