--- What becomes of a delivery after an attempt, or when its time is over: finished, tried later, returned. The report to the sender is kept in the
--- commit that ends the delivery; so a crash says it never twice and never not.
local attempts = require "moonpost.queue.attempts"
local log = require "moonpost.log"
local notices = require "moonpost.queue.notices"
local reply_of = require "moonpost.reply"
local task = require "moonpost.task"

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
---@return { due: number, expires: number, alarm: number, conflict?: string } conflict: why it can never be delivered as it was asked for
function M.times(queue, received, params)
  local times = queue.schedule:times(received, params)
  return { due = times.due, expires = times.expires, alarm = times.warnings[1] or times.expires, conflict = times.conflict }
end

-- One attempt, for hooks and the log.
local function record(engine, job, one, outcome, at, what)
  local row = outcome.row
  return {
    event = what, queue = engine.queue.name, message = one.message.id, sender = one.message.sender, recipient = one.address,
    domain = one.domain, tenant = one.message.tenant, site = at and at.name or nil, via = job and job.hop.show or nil,
    host = row and row.host, ip = row and row.ip, tls = row and row.tls, stage = row and row.stage, reply = outcome.reply,
    own = row and row.own, attempts = one.attempts, due = one.due, expires = one.expires, time = engine.worker:time(),
    age = engine.worker:time() - one.message.received, seconds = job and job.began and engine.worker:now() - job.began or nil,
    times = row and row.times,
  }
end

local write = {
  delivered = function(fields) log.event("info", "delivered", fields) end,
  relayed = function(fields) log.event("info", "relayed", fields) end,
  deferred = function(fields) log.event("info", "deferred", fields) end,
  bounced = function(fields) log.event("warn", "bounced", fields) end,
  expired = function(fields) log.event("warn", "expired", fields) end,
}
local levels = { delivered = "info", relayed = "info", deferred = "info", bounced = "warn", expired = "warn" }

local shown = { "message", "recipient", "sender", "site", "host", "ip", "attempts", "reply" }
local names = { recipient = "to", sender = "from" }

-- Whether anybody hears of an event.
local function is_heard(engine, event)
  local queue = engine.queue
  return log.on[levels[event]] or queue._journal or queue._hooks[event]
end

local function tell(engine, made)
  if log.on[levels[made.event]] then
    local list = {}
    for _, field in ipairs(shown) do
      if made[field] ~= nil then
        list[#list + 1] = names[field] or field
        list[#list + 1] = field == "reply" and tostring(made.reply) or made[field]
      end
    end
    write[made.event](list)
  end
  if engine.queue._journal then
    attempts.add(engine.queue._journal, made)
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
  fields.kind, fields.address, fields.one = kind, one.address, one
  fields.notify, fields.orcpt, fields.orcpt_type = params.notify, params.orcpt, params.orcpt_type
  return fields
end

-- Whether the words are ours: of the policy, of an operator, of a look-up that failed. Only where there was a server there may be words of one.
local function is_own(outcome)
  if outcome.own ~= nil then
    return outcome.own
  end
  return not outcome.row or outcome.row.own
end

local function expired(one, times, outcome)
  return about(one, "failed", { reply = outcome.reply, own = is_own(outcome), status = times.status or EXPIRED, expired = true })
end

-- A report of a delivery that went well, if one is wanted: who hands on to a server that knows DSN leaves it to that server (RFC 3461 5.2.2).
local function success(job, one, outcome)
  local row = outcome.row
  local kind = (not row or job.hop.settings and job.hop.settings.to and job.hop.settings.to.protocol == "lmtp") and "delivered"
    or row.dsn_lost and "relayed"
  return kind and about(one, kind, { reply = outcome.reply, host = row and row.host }) or nil
end

-- Reports that say of a delivery that it went well.
local function good_news(list)
  local good = {}
  for _, one in ipairs(list) do
    good[#good + 1] = (one.kind == "delivered" or one.kind == "relayed") and one or nil
  end
  return good
end

-- Deliveries that went well are over even where their report cannot be kept, for the next attempt would deliver once more.
local function keep_good(engine, message, octets, plan, err)
  local mails = notices.make(engine, message, octets, good_news(plan.notices)) or {}
  local ok, why = engine.store:settle(plan.done, {})
  if ok and mails[1] then
    notices.insist(engine, message, mails, err)
  end
  return ok, why
end

-- A plan without the deliveries that are settled already, with their reports.
local function left_of(plan, kept)
  for _, name in ipairs { "over", "done", "later" } do
    plan[name] = notices.without(plan[name], kept)
  end
  local list = {}
  for _, notice in ipairs(plan.notices) do
    list[#list + 1] = not kept[notice.one] and notice or nil
  end
  plan.notices = list
end

-- Writes down what has been decided, each report and what it is about in one commit; `mails` is nil where a report could not be made.
-- Whatever the spool cannot take now is given back, and will be decided again: its claim ends whatever fails.
local function write_down(engine, message, octets, plan, mails, err)
  local store, failed = engine.store, {}
  local function give_back(list)
    for _, one in ipairs(list) do
      failed[one] = true
      plan.back[#plan.back + 1] = one
    end
  end
  local over = table.move(plan.over, 1, #plan.over, #plan.done + 1, { table.unpack(plan.done) })
  local ok, kept = mails ~= nil, {}
  if ok and (mails[1] or over[1] or plan.later[1]) then
    ok, err = notices.keep(engine, mails, over, plan.later, kept)
  end
  if not ok then
    left_of(plan, kept)
    give_back(plan.later)
    give_back(plan.over)
    if plan.done[1] and not keep_good(engine, message, octets, plan, err) then
      give_back(plan.done)
    end
  end
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

local function keep(engine, message, octets, plan)
  return write_down(engine, message, octets, plan, notices.make(engine, message, octets, plan.notices))
end

local function note(engine, job, one, outcome, at, plan, event)
  local made = is_heard(engine, event) and record(engine, job, one, outcome, at, event) or nil
  if made then
    plan.told[#plan.told + 1], plan.about[#plan.about + 1] = made, one
  end
  return made
end

local decide = {}

function decide.delivered(engine, job, one, outcome, at, plan)
  plan.done[#plan.done + 1], one.ended = one, "delivered"
  plan.notices[#plan.notices + 1] = success(job, one, outcome)
  note(engine, job, one, outcome, at, plan, outcome.row and outcome.row.dsn_lost and "relayed" or "delivered")
end

function decide.refused(engine, job, one, outcome, at, plan)
  plan.over[#plan.over + 1], one.ended = one, "bounced"
  plan.notices[#plan.notices + 1] = about(one, "failed", {
    reply = outcome.reply, own = is_own(outcome), host = outcome.row and not outcome.row.own and outcome.row.host or nil,
  })
  note(engine, job, one, outcome, at, plan, "bounced")
end

local function give_up(engine, job, one, outcome, at, plan)
  plan.over[#plan.over + 1], one.ended = one, "expired"
  plan.notices[#plan.notices + 1] = expired(one, times_of(engine.queue, one), outcome)
  note(engine, job, one, outcome, at, plan, "expired")
end

function decide.deferred(engine, job, one, outcome, at, plan)
  local now = engine.worker:time()
  local times = times_of(engine.queue, one)
  one.attempts, one.last = one.attempts + 1, tostring(outcome.reply)
  one.site, one.host = at and at.name, outcome.row and outcome.row.host
  local due = engine.queue.schedule:next(one.attempts, now, times)
  if not due then
    return give_up(engine, job, one, outcome, at, plan)
  end
  one.due = due
  one.alarm = alarm_of(times, one)
  plan.later[#plan.later + 1] = one
  note(engine, job, one, outcome, at, plan, "deferred")
end

function decide.site(engine, job, one, outcome, at, plan)
  one.last = tostring(outcome.reply)
  if engine.worker:time() >= one.expires then
    return give_up(engine, job, one, outcome, at, plan)
  end
  plan.back[#plan.back + 1] = one
  local made = note(engine, job, one, outcome, at, plan, "deferred")
  if made and plan.again then
    made.due = made.time + plan.again -- when the site is asked again: the delivery itself is due all along
  end
end

local function new_plan()
  return { over = {}, done = {}, later = {}, back = {}, notices = {}, told = {}, about = {} }
end

local NONE = {}

-- What nearly every job comes to: it was delivered, and nobody has to hear of it. False: there is more to do.
local function is_over(engine, job, outcomes)
  if is_heard(engine, "delivered") then
    return false
  end
  for i, one in ipairs(job.deliveries) do
    local outcome = outcomes[i]
    if outcome.state ~= "delivered" or success(job, one, outcome) then
      return false
    end
  end
  for _, one in ipairs(job.deliveries) do
    one.ended = "delivered"
  end
  return engine.store:settle(job.deliveries, NONE)
end

--- Settles a job.
---@async
---@param engine moonpost.queue.Engine
---@param job moonpost.queue.Job
---@param outcomes moonpost.queue.Outcome[]
---@param at? moonpost.queue.Site
---@param again? number seconds until a site that could not be spoken to is tried again
function M.job(engine, job, outcomes, at, again)
  if is_over(engine, job, outcomes) then
    return
  end
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

--- Returns deliveries of one message to its sender because somebody who runs the queue says so.
---@async
---@param engine moonpost.queue.Engine
---@param list moonpost.queue.Delivery[] claimed
---@param reply moonpost.Reply
---@return boolean ok
function M.bounce(engine, list, reply)
  local plan = new_plan()
  for _, one in ipairs(list) do
    decide.refused(engine, nil, one, { state = "refused", reply = reply }, nil, plan)
  end
  return keep(engine, list[1].message, nil, plan)
end

local LATE = reply_of.heard(451, EXPIRED, "The message could not be delivered in time")

-- Why a delivery has not gone: what its site failed with, of which its row says nothing, else what was said to it last.
local function cause_of(engine, one)
  local trouble = engine:trouble_of(one.domain)
  local text = trouble or one.last
  return text and reply_of.parse(text) or LATE, trouble ~= nil or text == nil
end

-- A delivery whose alarm is over: given up, or its sender is warned.
local function look_at(engine, one, now, plan)
  local times = times_of(engine.queue, one)
  local outcome = { state = "site" }
  outcome.reply, outcome.own = cause_of(engine, one)
  if now >= one.expires then
    give_up(engine, nil, one, outcome, nil, plan)
    return
  end
  local count = engine.queue.schedule:warned(times, now)
  if count > one.warned then
    plan.notices[#plan.notices + 1] = about(one, "delayed", { reply = outcome.reply, own = outcome.own, will_retry_until = one.expires })
    one.warned = count
  end
  one.alarm = alarm_of(times, one)
  plan.later[#plan.later + 1] = one
end

--- Deliveries whose alarm is over: given up, or their senders are warned. One report tells of all recipients of a message.
---@async
---@param engine moonpost.queue.Engine
---@param list moonpost.queue.Delivery[]
---@param now number
---@return boolean well false: the spool could not take all of it
function M.late(engine, list, now)
  local plans, order = {}, {}
  for _, one in ipairs(list) do
    local message = one.message
    local plan = plans[message.id]
    if not plan then
      plan = new_plan()
      plans[message.id], order[#order + 1] = plan, message
    end
    look_at(engine, one, now, plan)
  end
  -- At the same time; and what nobody is told of is over in one commit.
  local well, tasks, silent, count = true, {}, new_plan(), 0
  for i, message in ipairs(order) do
    tasks[i] = task.spawn_on(engine.worker, function()
      local plan = plans[message.id]
      local mails, err = notices.make(engine, message, nil, plan.notices)
      if mails and not mails[1] then
        for name, part in pairs(plan) do
          table.move(part, 1, #part, #silent[name] + 1, silent[name])
        end
        count = count + 1
        return true
      end
      return write_down(engine, message, nil, plan, mails, err)
    end)
  end
  for _, each in ipairs(tasks) do
    well = each:join() and well
  end
  if count > 0 then
    well = write_down(engine, { id = ("%d of them"):format(count) }, nil, silent, {}) and well
  end
  return well
end

return M
