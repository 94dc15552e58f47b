--- Reports to senders (RFC 3464), put into the queue that they are about.
local log = require "moonpost.log"
local report = require "moonpost.report"

local M = {}

-- Who hears of a message: its sender; of one that has none the postmaster, if somebody asked for that, but never of a report to them.
local function listener(engine, message)
  if message.sender ~= "" then
    return message.sender
  end
  return not message.report and engine.queue.postmaster or nil
end

local function split(octets)
  local head, body = octets:match("^(.-\r\n)\r\n(.*)$")
  return head or octets, body
end

local function dropped(engine, message, list, why)
  for _, one in ipairs(list) do
    log.event("warn", "report dropped", {
      "queue", engine.queue.name, "message", message.id, "to", one.address, "about", one.kind, "why", why,
    })
  end
end

local function put(engine, message, octets, group, sender)
  local queue, now = engine.queue, engine.worker:time()
  local head, body = split(octets or "")
  local params = message.params
  local made, why = report.make {
    kind = group.kind, message = {
      sender = sender, head = head, body = body, received = message.received, envid = params.envid, ret = params.ret, params = params,
      id = message.id,
    },
    recipients = group.recipients, reporting_mta = queue.hostname, from = queue.from, now = now, texts = queue.texts,
  }
  if not made then
    dropped(engine, message, group.recipients, why)
    return true
  elseif why then
    log.event("error", "text of a report not used", { "queue", queue.name, "why", why })
  end
  return queue:_put {
    from = "", to = { made.to }, octets = made.message, params = made.params or {}, report = true, id = engine.worker:message_id(), now = now,
  }
end

--- Keeps the reports that are wanted.
---@async
---@param engine moonpost.queue.Engine
---@param message moonpost.queue.Entry
---@param octets? string when they are at hand
---@param list table[] of recipients, each with its `kind`
---@return boolean? ok
---@return any err
function M.send(engine, message, octets, list)
  if not list[1] then
    return true
  end
  local sender = listener(engine, message)
  if not sender then
    dropped(engine, message, list, "the sender is null")
    return true
  end
  local groups = report.group(list)
  if not groups[1] then
    return true
  end
  octets = octets or engine.store:octets(message.id)
  for _, group in ipairs(groups) do
    local ok, err = put(engine, message, octets, group, sender)
    if not ok then
      return nil, err
    end
  end
  return true
end

return M
