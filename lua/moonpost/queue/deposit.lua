--- Deliveries of a queue into Maildirs, files and programs: a route such as { maildir = "/var/mail/%{mailbox}" }, with what message:deliver takes.
local Error = require "moonpost.error"
local log = require "moonpost.log"
local outcome_of = require "moonpost.outcome"
local perform = require "moonpost.perform"
local plan_of = require "moonpost.plan"
local recipient_of = require "moonpost.recipient"
local task = require "moonpost.task"

local M = {}

local LOOP = { 554, "5.4.6", "This message has been delivered to this address before: mail loop" }

-- The message as C has it. Waits while a large one goes to a file.
local function core_of(worker, octets, entry, address)
  return task.park(function(wake)
    local made, why, name = worker:message(octets, entry.sender, address, entry.id, entry.received, entry.params.body == "BINARYMIME", wake)
    if made ~= false then
      wake(made, why, name)
    end
  end, "a message to be put together")
end

-- What templates and the fields on top ask of a message and of a recipient.
local function views(queue, one)
  local entry = one.message
  local session = { user = entry.user, _house = { separator = "+", hostname = queue.hostname } }
  local message = { id = entry.id, time = entry.received, sender = { address = entry.sender }, session = session }
  local localpart = one.address:match("^(.*)@[^@]*$") or one.address
  return message, recipient_of.new(session, 1, one.address, localpart, one.domain, "local", one.params)
end

local function deposit(queue, plan, one, octets)
  local worker = task.worker()
  local text, err = octets()
  if not text then
    error(err, 0)
  end
  local message, recipient = views(queue, one)
  local place, fault, why = perform.place(plan, recipient, message)
  if not place then
    local result = outcome_of.unplaced(recipient, plan.kind, fault, why)
    return result.code, result.enhanced, result.text, result.why
  end
  local core, reason, name = core_of(worker, text, one.message, one.address)
  if not core then
    error(Error("spool", tostring(reason), { error = name }), 0)
  elseif core:delivered_to(one.address) then
    return table.unpack(LOOP)
  end
  local job = { plan = plan, path = place.path, args = place.args, recipients = { recipient } }
  local result = outcome_of.delivered(recipient, plan.kind, task.park(function(wake)
    core[plan.kind](core, worker, perform.order(message, job), wake)
    return function() -- given up: a program is told to end, for it will be tried again
      core:cancel()
    end
  end, "a delivery"))
  return result.code, result.enhanced, result.text, result.why
end

--- The function that delivers so, for moonpost.queue.hop.
---@param queue moonpost.Queue
---@param options table as of message:deliver
---@return function? call(delivery, octets) -> code, enhanced, text
---@return string? show_or_why
function M.call(queue, options)
  local plan, why = plan_of.deliver(options, { hostname = queue.hostname })
  if not plan then
    return nil, why
  elseif plan.hop then
    return nil, 'lmtp: url = "lmtp://..." is the route'
  end
  local target = options[plan.kind]
  local show = plan.kind .. ":" .. (type(target) == "table" and tostring(target[1]) or tostring(target))
  return function(one, octets)
    local code, enhanced, text, fault = deposit(queue, plan, one, octets)
    if fault then
      log.event("error", "delivery failed", {
        "message", one.message.id, "to", one.address, "by", plan.kind, "why", fault, "code", code, "queue", queue.name,
      })
    end
    return code, enhanced, text
  end, show
end

return M
