--- Carries out the plans of a message's recipients: each once, deliveries at the same time, identical ones together.
local forward = require "moonpost.forward"
local log = require "moonpost.log"
local outcome = require "moonpost.outcome"
local expand = require "moonpost.expand"
local task = require "moonpost.task"

local M = {}

--- The addresses that a delivery is for, each once: two aliases may have come to the same mailbox.
local function addresses(job)
  local list, seen = {}, {}
  for _, one in ipairs(job.recipients) do
    if not seen[one.address] then
      seen[one.address] = true
      list[#list + 1] = one.address
    end
  end
  return list
end

--- The fields that final delivery puts on top (RFC 5321 4.4; Delivered-To is what loops are known by).
local function trace(message, job)
  local out = { ("Return-Path: <%s>\r\n"):format(message.sender.address) }
  for _, address in ipairs(addresses(job)) do
    out[#out + 1] = ("Delivered-To: %s\r\n"):format(address)
  end
  return table.concat(out)
end

--- What C is told of a delivery.
local orders = {}

function orders.maildir(message, job)
  local plan = job.plan
  return {
    folder = job.path, create = plan.create, mode = plan.mode, host = message.session._house.hostname,
    crlf = plan.line_end == "crlf", extra = trace(message, job),
  }
end

function orders.file(message, job)
  local plan = job.plan
  return {
    path = job.path, mbox = plan.mbox or false, create = plan.create, mode = plan.mode, sender = message.sender.address,
    crlf = plan.line_end == "crlf", extra = trace(message, job),
  }
end

function orders.pipe(message, job)
  local plan = job.plan
  local env = table.move(plan.env or {}, 1, plan.env and #plan.env or 0, 1, {})
  local list = addresses(job)
  if not list[2] then
    env[#env + 1] = "RECIPIENT=" .. list[1]
  end
  return {
    args = job.args, env = env, cwd = plan.cwd, timeout = plan.timeout, crlf = plan.line_end == "crlf",
    extra = trace(message, job),
  }
end

-- Of what is handed on only who stands in for the network is told.
function orders.forward(message, job)
  local mail = forward.mail(message, job.recipients)
  return { url = job.plan.hop.url, params = mail.params, to = mail.to, crlf = true }
end
orders.lmtp = orders.forward

-- Who stands in for the disk is told what goes on, and where it is kept.
function orders.enqueue(message, job)
  local mail = forward.mail(message, job.recipients)
  return { queue = job.plan.queue.name, params = mail.params, to = mail.to, crlf = true }
end

--- The last step: C's, or that of who stands in for it (moonpost.test writes down instead).
local function start(message, job, done)
  local house, kind = message.session._house, job.plan.kind
  if job.plan.hop and not house.deliver then
    forward.send(message, job.plan, job.recipients, done)
    return
  elseif job.plan.queue and not house.deliver then
    job.plan.queue:_take(message, job.recipients, done)
    return
  end
  local order = orders[kind](message, job)
  if house.deliver then
    house.deliver(message, kind, job.recipients, order, done)
  else
    message._core[kind](message._core, house.worker, order, done)
  end
end

--- What C is told of a delivery on disk or to a program.
---@param message table sender, session
---@param job table plan, path or args, recipients
---@return table
function M.order(message, job)
  return orders[job.plan.kind](message, job)
end

--- The place of a plan for one recipient: a path, or arguments; and a key that identical deliveries share.
local function place(plan, one, message)
  if plan.hop then
    return { key = plan.key }
  elseif plan.queue then
    return { key = ("enqueue\0%p"):format(plan.queue) }
  elseif plan.kind ~= "pipe" then
    local path, fault, why = expand.fill(plan.path, one, message)
    return path and {
      path = path, key = ("%s\0%s\0%s\0%s"):format(plan.kind, plan.mbox and "mbox" or "", plan.line_end, path),
    }, fault, why
  end
  local args = {}
  for i, parts in ipairs(plan.args) do
    local text, fault, why = expand.fill(parts, one, message)
    if not text then
      return nil, fault, why
    end
    args[i] = text
  end
  return { args = args, key = ("pipe\0%s\0"):format(plan.line_end) .. table.concat(args, "\0") }
end

M.place = place

--- What became of a recipient, and to the log where it is bad.
local function settle(one, result)
  one._result = result
  if not result.ok and result.disposition ~= "refuse" then
    log.event(result.relayed and "info" or "error", result.relayed and "next hop refused" or "delivery failed", {
      "message", one._message.id, "to", one.address, "by", result.disposition, "why", result.why or result.text,
        "code", result.code, "session", one._message.session.id,
    })
  end
end

M.settle = settle

--- Puts one recipient's delivery among the jobs, or settles it without one.
local function sort(message, one, jobs, order)
  local plan = one._plan
  if plan.kind == "discard" then
    local house = message.session._house
    if house.deliver then
      house.deliver(message, "discard", { one }, plan)
    end
    settle(one, outcome.discarded(one, plan.reason))
  elseif plan.kind == "refuse" then
    settle(one, outcome.refused(one, plan))
  elseif plan.kind ~= "forward" and plan.kind ~= "enqueue" and message._core:delivered_to(one.address) then
    settle(one, outcome.looped(one, plan.kind))
  else
    local job, fault, why = place(plan, one, message)
    if not job then
      settle(one, outcome.unplaced(one, plan.kind, fault, why))
      return
    end
    local same = jobs[job.key]
    if same then
      table.insert(same.recipients, one)
      return
    end
    job.plan, job.recipients = plan, { one }
    jobs[job.key] = job
    order[#order + 1] = job
  end
end

local function report(message, job, result)
  local text = result.output and result.output:match("[^\r\n]+")
  if text then
    log.event(result.ok and "debug" or "warn", "program said", { "message", message.id, "program", job.args[1],
      "output", text })
  end
end

--- Carries out the plans of those of `list` that have one and have not been served.
---@param message moonpost.Message
---@param list moonpost.Recipient[]
---@param done? fun() called later, when `false` is returned
---@return boolean finished
function M.run(message, list, done)
  local jobs, order = {}, {}
  for _, one in ipairs(list) do
    if one._plan and not one._result then
      sort(message, one, jobs, order)
    end
  end
  -- `open` starts at one for this loop itself, so that deliveries that fail at once do not end the whole early
  local open, waiting = 1, false
  local function finished()
    open = open - 1
    if open > 0 then
      return
    end
    message._running = message._running - 1
    if waiting and done then
      done()
    end
    local after = message._running == 0 and message._after
    if after then
      message._after = nil
      after()
    end
  end
  message._running = message._running + 1
  for _, job in ipairs(order) do
    open = open + 1
    for _, one in ipairs(job.recipients) do
      one._result = outcome.none(one) -- on its way: not to be begun again
    end
    local function delivered(result)
      -- a log line that cannot be written (memory has run out) must not leave the peer without an answer
      pcall(function()
        for i, one in ipairs(job.recipients) do
          settle(one, result.rows and outcome.forwarded(one, job.plan, result.rows[i])
            or outcome.delivered(one, job.plan.kind, result))
        end
        report(message, job, result)
      end)
      finished()
    end
    local ok, err = pcall(start, message, job, delivered)
    if not ok then
      delivered { ok = false, error = "SYSTEM", why = tostring(err), signal = 0 }
    end
  end
  waiting = open > 1
  finished()
  return not waiting
end

local function rows(list)
  local out = {}
  for i, one in ipairs(list) do
    out[i] = one._result or outcome.none(one)
  end
  return out
end

--- The same from within a hook. When the hook's time is over meanwhile, the deliveries go on: nothing is cut in the
--- middle.
---@async
function M.now(message, list)
  local finished, wake
  finished = M.run(message, list, function()
    if wake then
      wake()
    end
  end)
  if not finished then
    task.park(function(up)
      wake = up
    end, "deliveries")
  end
  return rows(list)
end
M.rows = rows

return M
