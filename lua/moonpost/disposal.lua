--- The end of a message: after the last hook its plans run, and what they came to is the reply. A 250 has an owner: a
--- recipient whom no plan serves means 451, and nothing is done for anybody.
local core = require "moonpost.core"
local log = require "moonpost.log"
local message_of = require "moonpost.message"
local outcome = require "moonpost.outcome"
local perform = require "moonpost.perform"
local verdict = require "moonpost.verdict"

local M = {}

local PENDING = core.PENDING
local DEFAULT = {} -- the reply of success when no hook has one of its own
local MIXED = { 451, "4.3.0", "Delivered to some of the recipients, not to others; please try again later" }
local NOBODY = { 451, "4.3.5", "Nobody takes this message now, please try again later" }

--- One line for each message: who, to whom, how large, and what became of it.
local function tell(message, what, code, text)
  local level = code < 400 and "info" or "warn"
  if not log.on[level] then
    return
  end
  local session, to, by = message.session, {}, {}
  local seen = {}
  for i, one in ipairs(message_of.recipients(message)) do
    to[i] = one.address
    local result = one._result
    local place = result and (result.path or result.url)
    local way = result and (result.disposition .. (place and ":" .. place or ""))
      or one._plan and one._plan.kind or "none"
    if not seen[way] then
      seen[way] = true
      by[#by + 1] = way
    end
  end
  local list = {
    "message", message.id, "from", message.sender.address, "to", table.concat(to, ","), "size", message.size, "by",
      table.concat(by, ","),
    "code", code, "session", session.id, "peer", session.ip or "local",
  }
  local user = session.user
  if user then
    list[#list + 1], list[#list + 2] = "user", user
  end
  if code >= 400 then
    list[#list + 1], list[#list + 2] = "reply", text
  end
  log.event(level, what, list)
end

-- `that`: the result that speaks for all. What a next hop said is said again, unless the hook has a reply of its own.
local function accepted(message, ok, that)
  if that and that.relayed and not ok[1] then
    ok = { that.code, that.enhanced, that.text }
  end
  local code, enhanced, text = ok[1] or 250, ok[2] or "2.0.0", ok[3] or "Accepted as " .. message._core:id()
  if log.on.info then
    tell(message, "message accepted", code, text)
  end
  return code, enhanced, text
end

local function refused(message, code, enhanced, text)
  tell(message, "message refused", code, text)
  return code, enhanced, text
end

-- LMTP: each recipient of the envelope hears of its own (RFC 2033 4.2); those that it was rewritten to speak with one
-- voice.
local function each_recipient(message, ok)
  local of = {}
  for _, one in ipairs(message_of.recipients(message)) do
    of[one.index] = of[one.index] or {}
    table.insert(of[one.index], one._result)
  end
  local session, best = message.session, nil
  for index, results in ipairs(of) do
    local that = outcome.combine(results)
    if that and that.ok then
      best = best or that
      local relayed = that.relayed and not ok[1]
      session._conn:answer_rcpt(index, ok[1] or that.code, ok[2] or that.enhanced,
        ok[3] or relayed and that.text or "Accepted as " .. message._core:id())
    elseif that then
      session._conn:answer_rcpt(index, that.code, that.enhanced, that.text)
    else
      session._conn:answer_rcpt(index, MIXED[1], MIXED[2], MIXED[3])
    end
  end
  if best then
    return accepted(message, ok, best)
  end
  local first = outcome.combine(of[1]) or { code = MIXED[1], enhanced = MIXED[2], text = MIXED[3] }
  return refused(message, first.code, first.enhanced, first.text)
end

local function conclude(message, ok)
  local results = perform.rows(message_of.recipients(message))
  local that = outcome.combine(results)
  local lmtp = message.session.protocol == "lmtp"
  if that and that.ok and not (lmtp and that.relayed) then
    local house = message.session._house
    if house.queue and not house.deliver then
      require("moonpost.receipts").send(house.queue, message)
    end
    return accepted(message, ok, that)
  elseif lmtp then
    return each_recipient(message, ok)
  elseif that then
    return refused(message, that.code, that.enhanced, that.text)
  end
  return refused(message, MIXED[1], MIXED[2], MIXED[3])
end

-- Answers when the deliveries that are on their way have come to their end.
local function later(of, message, how, ok)
  local session = message.session
  message._after = function()
    verdict.guarded(session, of, message, function()
      session._conn:answer(how(message, ok))
    end)
  end
  return PENDING
end

-- Runs what is left to do, and answers at once or when it is done.
local function run(of, message, ok)
  local list = message_of.recipients(message)
  local forgotten = {}
  for _, one in ipairs(list) do
    if not one._plan and not one._result then
      forgotten[#forgotten + 1] = one.address
    end
  end
  if forgotten[1] then
    log.event("error", "no plan for a recipient: the hooks forgot what is to become of the message", {
      "message", message.id, "to", table.concat(forgotten, ","),
    })
    return refused(message, NOBODY[1], NOBODY[2], NOBODY[3])
  end
  perform.run(message, list)
  if message._running == 0 then
    return conclude(message, ok)
  end
  return later(of, message, conclude, ok)
end

-- A message that a queue keeps for everybody: what becomes of it is the reply.
local function kept(message, ok, failure)
  local conn = message.session._conn
  if not failure then
    return conn:answer(accepted(message, ok))
  end
  for _, one in ipairs(message_of.recipients(message)) do
    perform.settle(one, outcome.delivered(one, "enqueue", failure))
  end
  conn:answer(conclude(message, ok))
end

-- The way of nearly all mail into a queue. False: it is not that simple. What raises here is told by who does it recipient by recipient.
local function keep_whole(of, message, ok, queue)
  local fine, taken = pcall(queue._take_whole, queue, message, function(failure)
    verdict.guarded(message.session, of, message, kept, message, ok, failure)
  end)
  return fine and taken
end

--- What the `message` chain returned.
function M.settle(session, of, message, a, b, c)
  message._sealed = true
  local ok = DEFAULT
  if a ~= nil or b ~= nil then
    local code, enhanced, text, nonsense = verdict.read(a, b, c)
    if nonsense then
      verdict.fault(session, of, message, nonsense)
      return refused(message, table.unpack(verdict.FAULT))
    elseif code and code >= 400 then
      return refused(message, code, enhanced, text)
    elseif code then
      ok = { code, enhanced, text }
    end
  end
  local base = message._base
  if base and not message._roots and not session._house.deliver then
    if base.kind == "discard" then
      return accepted(message, ok)
    elseif base.kind == "refuse" then
      return refused(message, base.code, base.enhanced, base.text)
    elseif base.kind == "enqueue" and session.protocol ~= "lmtp" and keep_whole(of, message, ok, base.queue) then
      return PENDING
    end
  end
  return run(of, message, ok)
end

-- The hook's time was over while its own deliveries ran: those have been finished, and when nothing is left to do for
-- anybody, saying 451 would only have them made again.
local function after_deadline(message)
  for _, one in ipairs(message_of.recipients(message)) do
    if not one._result then
      return refused(message, table.unpack(verdict.FAULT))
    end
  end
  return conclude(message, DEFAULT)
end

--- What the `message` chain raised. Plans are dropped.
function M.raised(session, of, message, err)
  message._sealed = true
  local code, enhanced, text = verdict.raised(session, of, message, err)
  if code and code < 400 then
    return M.settle(session, of, message, code, enhanced, text)
  elseif message._running > 0 then
    return later(of, message, after_deadline)
  end
  return refused(message, code, enhanced, text)
end

return M
