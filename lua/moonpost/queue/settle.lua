--- What becomes of a delivery after an attempt, or when its time is over: finished, tried later, returned. The spool hears of it in this order: first
--- the report to the sender is kept, then the delivery is over; so a crash in between says it twice rather than never.
local log = require "moonpost.log"
local notices = require "moonpost.queue.notices"
local reply_of = require "moonpost.reply"

local M = {}

local AGAIN = 60 -- seconds until something is tried again that the spool could not take

local EXPIRED = "4.4.7"

-- The times of a delivery: those of the schedule, but for what was kept with it.
local function times_of(queue, one)
  local message = one.message
  local times = queue.schedule:times(message.received, message.params)
  times.expires = one.expires
  return times
end

-- When somebody has to look at it next: the next warning, or its end.
local function alarm_of(times, one)
  return times.warnings[one.warned + 1] or one.expires
end

--- When a new delivery is due, warned about, and given up.
---@param queue moonpost.Queue
---@param received number
---@param params table of MAIL
---@return { due: number, expires: number, alarm: number }
function M.times(queue, received, params)
  local times = queue.schedule:times(received, params)
  return { due = times.due, expires = times.expires, alarm = times.warnings[1] or times.expires }
end

-- One attempt, for hooks and the log.
local function record(engine, job, one, outcome, at, what)
  local row = outcome.row
  return {
    event = what, queue = engine.queue.name, message = one.message.id, sender = one.message.sender, recipient = one.address,
    domain = one.domain, tenant = one.message.tenant, site = at and at.name or nil, via = job and job.hop.show or nil,
    host = row and row.host, ip = row and row.ip, tls = row and row.tls, stage = row and row.stage, reply = outcome.reply,
    own = row and row.own, attempts = one.attempts, due = one.due, expires = one.expires, time = engine.worker:time(),
    age = engine.worker:time() - one.message.received,
  }
end

local write = {
  delivered = function(fields) log.event("info", "delivered", fields) end,
  relayed = function(fields) log.event("info", "relayed", fields) end,
  deferred = function(fields) log.event("info", "deferred", fields) end,
  bounced = function(fields) log.event("warn", "bounced", fields) end,
  expired = function(fields) log.event("warn", "expired", fields) end,
}

local shown = { "message", "recipient", "sender", "site", "host", "ip", "attempts", "reply" }
local names = { recipient = "to", sender = "from" }

local function tell(engine, made)
  if log.on.info then
    local list = {}
    for _, field in ipairs(shown) do
      if made[field] ~= nil then
        list[#list + 1] = names[field] or field
        list[#list + 1] = field == "reply" and tostring(made.reply) or made[field]
      end
    end
    write[made.event](list)
  end
  engine.queue:_tell(made.event, made)
end

--- Tells who wants to know which way a job goes.
---@param engine moonpost.queue.Engine
---@param job moonpost.queue.Job
---@param at moonpost.queue.Site
function M.routed(engine, job, at)
  if engine.queue._hooks.routed then
    for _, one in ipairs(job.deliveries) do
      engine.queue:_tell("routed", record(engine, job, one, {}, at, "routed"))
    end
  end
end

-- What a report says of a recipient.
local function about(one, kind, fields)
  local params = one.params or {}
  fields.kind, fields.address = kind, one.address
  fields.notify, fields.orcpt, fields.orcpt_type = params.notify, params.orcpt, params.orcpt_type
  return fields
end

local function expired(one, times, reply)
  return about(one, "failed", { reply = reply, status = times.status or EXPIRED, expired = true })
end

-- A report of a delivery that went well, if one is wanted: who hands on to a server that knows DSN leaves it to that server (RFC 3461 5.2.2).
local function success(job, one, outcome)
  local row = outcome.row
  local kind = (not row or job.hop.settings and job.hop.settings.to and job.hop.settings.to.protocol == "lmtp") and "delivered"
    or row.dsn_lost and "relayed"
  return kind and about(one, kind, { reply = outcome.reply, host = row and row.host }) or nil
end

-- Keeps what has been decided. Whatever the spool cannot take now is given back, and will be decided again: its claim ends whatever fails. But what
-- has been delivered is over even where a report cannot be kept, for the next attempt would deliver it once more.
local function keep(engine, message, octets, plan)
  local store, failed, err = engine.store, {}, nil
  local function give_back(list)
    for _, one in ipairs(list) do
      failed[one] = true
      plan.back[#plan.back + 1] = one
    end
  end
  local function write_down(method, list)
    local ok, why = true, nil
    if list[1] then
      ok, why = store[method](store, list)
    end
    if not ok then
      err = why
      give_back(list)
    end
  end
  local said, why = notices.send(engine, message, octets, plan.notices)
  if said then
    write_down("reschedule", plan.later)
    table.move(plan.over, 1, #plan.over, #plan.done + 1, plan.done)
  else
    err = why
    give_back(plan.later)
    give_back(plan.over)
  end
  write_down("finish", plan.done)
  if next(failed) then
    log.event("error", "spool failed", { "queue", engine.queue.name, "message", message.id, "why", tostring(err) })
    plan.again = math.max(plan.again or 0, AGAIN)
  end
  if plan.back[1] then
    store:release(plan.back, plan.again)
  end
  for i, made in ipairs(plan.told) do
    if not failed[plan.about[i]] then
      tell(engine, made)
    end
  end
  return not next(failed)
end

local function note(plan, one, made)
  plan.told[#plan.told + 1], plan.about[#plan.about + 1] = made, one
end

local decide = {}

function decide.delivered(engine, job, one, outcome, at, plan)
  plan.done[#plan.done + 1] = one
  plan.notices[#plan.notices + 1] = success(job, one, outcome)
  local kind = outcome.row and outcome.row.dsn_lost and "relayed" or "delivered"
  note(plan, one, record(engine, job, one, outcome, at, kind))
end

function decide.refused(engine, job, one, outcome, at, plan)
  plan.over[#plan.over + 1] = one
  plan.notices[#plan.notices + 1] = about(one, "failed", {
    reply = outcome.reply, host = outcome.row and not outcome.row.own and outcome.row.host or nil,
  })
  note(plan, one, record(engine, job, one, outcome, at, "bounced"))
end

local function give_up(engine, job, one, outcome, at, plan)
  plan.over[#plan.over + 1] = one
  plan.notices[#plan.notices + 1] = expired(one, times_of(engine.queue, one), outcome.reply)
  note(plan, one, record(engine, job, one, outcome, at, "expired"))
end

function decide.deferred(engine, job, one, outcome, at, plan)
  local now = engine.worker:time()
  local times = times_of(engine.queue, one)
  one.attempts, one.last = one.attempts + 1, tostring(outcome.reply)
  local due = engine.queue.schedule:next(one.attempts, now, times)
  if not due then
    return give_up(engine, job, one, outcome, at, plan)
  end
  one.due = due
  one.alarm = alarm_of(times, one)
  plan.later[#plan.later + 1] = one
  note(plan, one, record(engine, job, one, outcome, at, "deferred"))
end

function decide.site(engine, job, one, outcome, at, plan)
  one.last = tostring(outcome.reply)
  if engine.worker:time() >= one.expires then
    return give_up(engine, job, one, outcome, at, plan)
  end
  plan.back[#plan.back + 1] = one
  note(plan, one, record(engine, job, one, outcome, at, "deferred"))
end

local function new_plan()
  return { over = {}, done = {}, later = {}, back = {}, notices = {}, told = {}, about = {} }
end

--- Settles a job.
---@async
---@param engine moonpost.queue.Engine
---@param job moonpost.queue.Job
---@param outcomes moonpost.queue.Outcome[]
---@param at? moonpost.queue.Site
---@param again? number seconds until a site that could not be spoken to is tried again
function M.job(engine, job, outcomes, at, again)
  local plan = new_plan()
  plan.again = again
  for i, one in ipairs(job.deliveries) do
    local outcome = outcomes[i]
    if outcome.fault then
      log.event("error", "route failed", {
        "queue", engine.queue.name, "message", job.message.id, "to", one.address, "by", job.hop.show, "why", outcome.fault,
      })
    end
    decide[outcome.state](engine, job, one, outcome, at, plan)
  end
  keep(engine, job.message, job.octets, plan)
end

--- Returns a delivery to its sender because somebody who runs the queue says so.
---@async
---@param engine moonpost.queue.Engine
---@param one moonpost.queue.Delivery claimed
---@param reply moonpost.Reply
---@return boolean ok
function M.bounce(engine, one, reply)
  local plan = new_plan()
  decide.refused(engine, nil, one, { state = "refused", reply = reply }, nil, plan)
  return keep(engine, one.message, nil, plan)
end

local LATE = reply_of.heard(451, EXPIRED, "The message could not be delivered in time")

--- Deliveries whose alarm is over: given up, or their sender is warned.
---@async
---@param engine moonpost.queue.Engine
---@param list moonpost.queue.Delivery[]
---@param now number
---@return boolean well false: the spool could not take all of it
function M.late(engine, list, now)
  local well = true
  for _, one in ipairs(list) do
    local plan, times = new_plan(), times_of(engine.queue, one)
    local outcome = { state = "site", reply = one.last and reply_of.parse(one.last) or LATE }
    if now >= one.expires then
      give_up(engine, nil, one, outcome, nil, plan)
    else
      local count = engine.queue.schedule:warned(times, now)
      if count > one.warned then
        plan.notices[1] = about(one, "delayed", { reply = outcome.reply, will_retry_until = one.expires })
        one.warned = count
      end
      one.alarm = alarm_of(times, one)
      plan.later[1] = one
    end
    well = keep(engine, one.message, nil, plan) and well
  end
  return well
end

return M
