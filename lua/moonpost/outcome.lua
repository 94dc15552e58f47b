--- What deliveries came to, and the replies that say so. What is wrong with a file, a disk or a program of ours is
--- temporary: the sender keeps the message until somebody has looked. Only what says something about the recipient or
--- the message is final.
local core = require "moonpost.core"

local M = {}

---@class moonpost.Result what became of a message for one recipient
---@field recipient? moonpost.Recipient
---@field address? string
---@field ok boolean somebody has it, or it was discarded on purpose
---@field code integer the reply for this recipient
---@field enhanced string
---@field text string
---@field disposition string "maildir", "file", "pipe", "lmtp", "forward", "discard", "refuse" or "none"
---@field path? string of the file that was made
---@field url? string where it was handed on to
---@field relayed? boolean the reply is that server's
---@field why? string for the log, never for the peer

local function reply(ok, code, enhanced, text)
  return { ok = ok, code = code, enhanced = enhanced, text = text }
end

local DELIVERED = reply(true, 250, "2.0.0", "Delivered")
local QUEUED = reply(true, 250, "2.0.0", "Queued")
local DISCARDED = reply(true, 250, "2.0.0", "Accepted")
local TEMPORARY = reply(false, 451, "4.3.0", "Delivery failed for now, please try again later")
local FULL = reply(false, 452, "4.3.1", "Insufficient storage, please try again later")
local CONFLICT = reply(false, 554, "5.4.7", "The message may be released only when its time is over")
local LOOP = reply(false, 554, "5.4.6", "This message has been delivered to this address before: mail loop")
local ADDRESS = reply(false, 550, "5.1.3", "This address cannot be delivered to")
local NOBODY = reply(false, 451, "4.3.5", "Nobody takes this message now, please try again later")
local UNTRUSTED = reply(false, 451, "4.3.5", "The next server does not take this message from us, please try again later")
local UNREACHED = "The next server cannot take this message now, please try again later"

--- sysexits(3). What is not listed, a crash or a shell's 1 and 127 among it, is a fault of ours and temporary.
local exits = {
  [65] = reply(false, 554, "5.6.0", "The message was not accepted: data format error"),
  [66] = reply(false, 554, "5.3.0", "The message was not accepted"),
  [67] = reply(false, 550, "5.1.1", "No such user here"),
  [68] = reply(false, 550, "5.1.2", "No such host"),
  [69] = reply(false, 554, "5.3.0", "The message was not accepted: service unavailable"),
  [76] = reply(false, 554, "5.5.0", "The message was not accepted: remote error in protocol"),
  [77] = reply(false, 550, "5.7.1", "The message was not accepted: permission denied"),
}

local function result(one, disposition, of, path, why)
  return {
    recipient = one, address = one.address, ok = of.ok, code = of.code, enhanced = of.enhanced, text = of.text,
    disposition = disposition, path = path, why = why,
  }
end

--- Of a delivery that C has carried out.
---@param one moonpost.Recipient
---@param kind "maildir"|"file"|"pipe"|"enqueue"
---@param outcome table of moonpost.core.message, or of a queue
---@return moonpost.Result
function M.delivered(one, kind, outcome)
  if outcome.ok then
    return result(one, kind, kind == "enqueue" and QUEUED or DELIVERED, outcome.path)
  end
  local of = outcome.error == "NOSPACE" and FULL or outcome.error == "CONFLICT" and CONFLICT or TEMPORARY
  if kind == "pipe" and outcome.error == "SYSTEM" and not outcome.signal then
    of = exits[outcome.status] or of
  end
  return result(one, kind, of, nil, outcome.why or outcome.error or "unknown error")
end

local TEXT_MOST = 400

-- What a next hop said, as we may say it to a body. 421 would announce that we hang up, and 3xx, with which a broken server refuses, asks for more.
local function passed_on(heard)
  local code = heard.code
  if code == 421 or code >= 300 and code < 400 then
    code = 451
  end
  local text = heard.text:gsub("%c+", " "):gsub("[\x80-\xff]", "?"):sub(1, TEXT_MOST)
  if not text:find "%S" then
    text = code < 300 and "Accepted" or "Refused by the next server"
  end
  local enhanced = heard.enhanced
  if not enhanced or core.check_reply(code, enhanced, text) then
    enhanced = (code // 100) .. ".0.0"
  end
  return reply(code < 300, code, enhanced, text)
end

--- Of a message that was handed on: the next hop's reply, where it gave one about the message. That it cannot be spoken to, or does not
--- know us, is a fault of ours.
---@param one moonpost.Recipient
---@param plan moonpost.Plan
---@param row moonpost.SendRow
---@return moonpost.Result
function M.forwarded(one, plan, row)
  local heard, url = row.reply, plan.hop.url
  local of, relayed = nil, false
  if row.ok or row.state == "refused" or not row.own and row.stage ~= "refused" then
    of, relayed = passed_on(heard), true
  end
  if not row.ok and (heard.code == 530 or heard.code == 534 or heard.code == 535 or heard.code == 538) then
    of, relayed = UNTRUSTED, false
  elseif not of or not row.ok and row.state ~= "refused" and of.code >= 500 then
    local enhanced = heard.enhanced
    of, relayed = reply(false, 451, enhanced and enhanced:find "^4%." and enhanced or "4.4.0", UNREACHED), false
  end
  local made = result(one, plan.kind, of, nil, not row.ok and ("%s: %s"):format(url, tostring(heard)) or nil)
  made.url, made.relayed = url, relayed or nil
  return made
end

function M.discarded(one, reason)
  return result(one, "discard", DISCARDED, nil, reason)
end

function M.refused(one, plan)
  return result(one, "refuse", { ok = false, code = plan.code, enhanced = plan.enhanced, text = plan.text })
end

function M.looped(one, kind)
  return result(one, kind, LOOP, nil, "Delivered-To names this address already")
end

--- A path that this address may not be part of is the address's fault; a name that is empty is the policy's.
function M.unplaced(one, kind, fault, why)
  return result(one, kind, fault == "refused" and ADDRESS or NOBODY, nil, why)
end

--- Nobody has made a plan.
function M.none(one)
  return result(one, "none", NOBODY)
end

--- One reply for all of a session's recipients (SMTP), or for one recipient and those it was rewritten to (LMTP): the
--- result of them that says it, or nil for a mixture in which some have been served and others not.
---@param results moonpost.Result[]
---@return moonpost.Result? that
function M.combine(results)
  local served, temporary, final
  for _, each in ipairs(results) do
    if each.ok then
      served = served or each
    elseif each.code < 500 then
      temporary = temporary or each
    else
      final = final or each
    end
  end
  if served and (temporary or final) then
    return nil
  end
  -- where nobody was served, trying again is right as soon as it is right for one
  return served or temporary or final
end

return M
