--- Reports to senders (RFC 3464), put into the queue that they are about.
local log = require "moonpost.log"
local report = require "moonpost.report"
local task = require "moonpost.task"

local M = {}

local READ_MOST = 131072 -- octets of a message for its report, which returns half as many: hundreds of reports may be made at the same time
local AGAIN = 60 -- seconds until a report is tried again that the spool could not take

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
    if report.wanted(one, one.kind) then
      log.event("warn", "report dropped", {
        "queue", engine.queue.name, "message", message.id, "to", one.address, "about", one.kind, "why", why,
      })
    end
  end
end

-- The deliveries that a report tells of, where it tells of any of a queue.
local function told_of(recipients)
  local ones = {}
  for _, recipient in ipairs(recipients) do
    if recipient.one then
      ones[recipient.one] = true
    end
  end
  return ones
end

local function mail_of(engine, message, octets, group, sender)
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
    return dropped(engine, message, group.recipients, why)
  elseif why then
    log.event("error", "text of a report not used", { "queue", queue.name, "why", why })
  end
  return {
    from = "", to = { made.to }, octets = made.message, params = made.params or {}, report = true, id = engine.worker:message_id(), now = now,
    about = { message.id, group.kind }, ones = told_of(group.recipients),
  }
end

-- Octets that are gone for good; a disk that fails may give them later.
local function is_gone(err)
  return err == nil or err.error == "NOTFOUND" or err.error == "DAMAGED"
end

--- The reports that are wanted, to be kept.
---@async
---@param engine moonpost.queue.Engine
---@param message moonpost.queue.Entry
---@param octets? string when they are at hand
---@param list table[] of recipients, each with its `kind`
---@return table[]? mails of moonpost.Queue:_put
---@return any err the message cannot be read now
function M.make(engine, message, octets, list)
  local mails = {}
  if not list[1] then
    return mails
  end
  local sender = listener(engine, message)
  if not sender then
    dropped(engine, message, list, "the sender is null")
    return mails
  end
  local groups = report.group(list)
  if groups[1] and not octets then
    local err
    octets, err = engine.store:octets(message.id, READ_MOST)
    if not octets and not is_gone(err) then
      return nil, err
    end
  end
  for _, group in ipairs(groups) do
    mails[#mails + 1] = mail_of(engine, message, octets, group, sender)
  end
  return mails
end

local function among(list, ones, wanted)
  local out = {}
  for _, one in ipairs(list) do
    if (ones[one] or false) == wanted then
      out[#out + 1] = one
    end
  end
  return out
end

--- Those of a list that are not in a set.
---@param list moonpost.queue.Delivery[]
---@param kept table<moonpost.queue.Delivery, true>
---@return moonpost.queue.Delivery[]
function M.without(list, kept)
  return among(list, kept, false)
end

--- Keeps reports, each in one commit with the deliveries that it tells of: those that are over, and those that are tried later. Those of which
--- none tells are in the last commit. Reports that were kept before are left alone.
---@async
---@param engine moonpost.queue.Engine
---@param mails table[]
---@param over moonpost.queue.Delivery[]
---@param later moonpost.queue.Delivery[]
---@param kept? table<moonpost.queue.Delivery, true> gets those whose report was kept, also where a later one was not
---@return boolean? ok
---@return any err
function M.keep(engine, mails, over, later, kept)
  kept = kept or {}
  for i, mail in ipairs(mails) do
    if not mail.kept then
      if i == #mails then
        mail.over, mail.later = among(over, kept, false), among(later, kept, false)
      else
        mail.over, mail.later = among(over, mail.ones, true), among(later, mail.ones, true)
      end
      local ok, err = engine.queue:_put(mail)
      if not ok then
        return nil, err
      end
      mail.kept = true
      for one in pairs(mail.ones) do
        kept[one] = true
      end
      log.event("info", "report kept", {
        "queue", engine.queue.name, "message", mail.id, "to", mail.to[1], "about", mail.about[2], "of", mail.about[1],
      })
    end
  end
  if not mails[1] then
    return engine.store:settle(over, later)
  end
  return true
end

--- Reports of deliveries that are over already, which a full disk could not take: tried again until it can.
---@param engine moonpost.queue.Engine
---@param message moonpost.queue.Entry
---@param mails table[]
---@param err any
function M.insist(engine, message, mails, err)
  log.event("error", "report waits", { "queue", engine.queue.name, "message", message.id, "why", tostring(err) })
  task.spawn_on(engine.worker, function()
    local ok
    repeat
      task.sleep(AGAIN)
      if engine.stopping then
        log.event("error", "report lost", { "queue", engine.queue.name, "message", message.id, "why", tostring(err) })
        return
      end
      ok, err = M.keep(engine, mails, {}, {})
    until ok
  end)
end

return M
