--- How received mail comes into a queue: message:enqueue(). Most of it goes in whole and as it came, for everybody its envelope names; such a message
--- costs one call into C, no task, and no table unless it is delivered at once.
local domain = require "moonpost.queue.domain"
local forward = require "moonpost.forward"
local settle = require "moonpost.queue.settle"
local task = require "moonpost.task"

local M = {}

local IN_HAND = 65536 -- octets of a message that is delivered as it came; a larger one is read from the spool

local failures = { full = "NOSPACE", conflict = "CONFLICT" } -- as core.message calls them

local function failure(err)
  return { ok = false, error = failures[err.kind] or "SYSTEM", why = tostring(err) }
end

-- Whether a hook has changed the envelope: a recipient has another address, parameters or a way of its own, or the sender is another (SRS).
local function is_altered(message)
  if message._seen then
    for _, one in ipairs(message._seen) do
      if one.original or one._plan or one.params then
        return true
      end
    end
  end
  local sender = rawget(message, "sender")
  return sender ~= nil and sender.address ~= message._core:sender()
end

local function domains_of(envelope)
  local domains = {}
  for i = 1, envelope:recipient_count() do
    local _, _, name = envelope:recipient(i)
    domains[i] = domain.name(name)
  end
  return domains
end

local function keep_whole(engine, message, params, done)
  local queue, envelope, now = engine.queue, message._core, engine.worker:time()
  local times
  if params then
    params = forward.params(message)
    times = settle.times(queue, now, params)
    if times.conflict then
      return false
    end
  else
    local expires, alarm = queue.schedule:ends(now)
    times = { due = now, expires = expires, alarm = alarm }
  end
  local domains = domains_of(envelope)
  local claimed = times.due <= now and engine:may_take(domains)
  local octets = claimed and envelope:size() <= IN_HAND and envelope:octets(true) or nil
  message._kept = 1
  engine.store:accept(envelope, octets, {
    received = now, priority = params and params.priority or 0, params = params or claimed and {} or nil,
    meta = rawget(message, "meta") or claimed and {} or nil,
    tenant = rawget(message, "tenant"), user = claimed and message.session.user or nil, id = nil, sender = nil, size = nil,
  }, times, claimed and domains or nil, function(list, err)
    done(not list and failure(err) or nil)
    if list and list[1] then
      engine:take(list, octets)
    end
  end)
  return true
end

--- For message:enqueue() of a message whose plan is this queue and nothing else: keeps it for everybody, where that is all there is to it.
---@param Queue table methods of moonpost.Queue
function M.install(Queue)
  --- Keeps a received message for all its recipients. False: it is not that simple, or the queue does not run yet; then _take does it.
  ---@param message moonpost.Message
  ---@param done fun(failure?: { ok: false, error: string, why: string }) called once, on a later turn: it is on disk, or is not
  ---@return boolean
  function Queue:_take_whole(message, done)
    local engine = self._engine
    if not engine or not engine.store.accept or is_altered(message) then
      return false
    end
    local bare, params = message._core:bare()
    return bare and keep_whole(engine, message, rawget(message, "params") or params, done)
  end

  --- Keeps a received message for some of its recipients. `done(outcome)` is called once.
  ---@param message moonpost.Message
  ---@param recipients moonpost.Recipient[]
  ---@param done fun(outcome: { ok: boolean, error?: string, why?: string })
  function Queue:_take(message, recipients, done)
    local worker = message.session._house.worker
    local function keep()
      local ok, err = self:start(worker, message.session._house.hostname)
      if not ok then
        return failure(err)
      end
      local mail = forward.mail(message, recipients)
      local octets, size = nil, message._core:size()
      if size <= IN_HAND then
        local why
        octets, why = message._core:octets(true)
        if not octets then
          return { ok = false, error = "SYSTEM", why = why }
        end
      end
      message._kept = (message._kept or 0) + 1
      local id
      id, err = self:_put {
        id = message._kept == 1 and message.id or ("%s-%d"):format(message.id, message._kept), from = mail.from, to = mail.to,
        octets = octets, source = message._core, size = size, params = mail.params, now = worker:time(), tenant = message.tenant,
        meta = message.meta, user = message.session.user,
      }
      return id and { ok = true } or failure(err)
    end
    local function finish(ok, outcome)
      done(ok and outcome or { ok = false, error = "SYSTEM", why = tostring(outcome) })
    end
    local ok, outcome = task.hook(worker, 0, finish, keep)
    if ok ~= nil then
      finish(ok, outcome)
    end
  end
end

return M
