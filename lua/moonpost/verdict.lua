--- What a hook said, brought into the form that C takes: nothing, or code, enhanced code and text. Faults close:
--- whatever makes no sense is 451, and says to the peer nothing about why.
local chain = require "moonpost.chain"
local Error = require "moonpost.error"
local log = require "moonpost.log"
local reply = require "moonpost.reply"
local session_of = require "moonpost.session"

local M = {}

M.FAULT = { 451, "4.3.0", "Temporary failure, please try again later" }
M.AUTH_FAULT = { 454, "4.7.0", "Temporary authentication failure" }

--- The peer and the event, in front of every log line about a session.
local function fields(session, kind)
  local list = { "hook", kind, "session", session.id, "peer", session.ip or "local", "listener", session.listener
    or "" }
  return list
end

local function add(list, key, value)
  if value ~= nil and value ~= "" then
    list[#list + 1], list[#list + 2] = key, value
  end
end

-- What the hook was asked about: a sender, a recipient or a message; a user is not told here.
local function tell_of(list, about)
  if type(about) == "table" then
    add(list, "about", about.address)
    add(list, "message", not about.address and about.id or nil)
  end
end

-- What a script hands over may have a __tostring of its own, and that may raise.
local function text_of(value)
  local ok, text = pcall(tostring, value)
  return ok and text or "a " .. type(value)
end

--- A hook raised, was interrupted, took too long, or returned nonsense.
---@param session moonpost.Session
---@param of moonpost.Chain
---@param about any the sender, recipient or message that was asked about
---@param err any
function M.fault(session, of, about, err)
  if not log.on.error or not session_of.may_say(session) then
    return
  end
  local list = fields(session, of.kind)
  local hook = chain.whose(of, session)
  add(list, "at", hook and hook.place)
  tell_of(list, about)
  local whole = text_of(err)
  local text, trace = whole:match("^(.-)\n(stack traceback:.*)$")
  text = text or whole
  -- Lua's own words for every refused allocation; nearly always it is the ceiling that refused
  add(list, "error", text == "not enough memory" and "not enough memory (limits.memory)" or text)
  add(list, "traceback", trace)
  log.event("error", "hook failed", list)
end

--- A hook refused: written for who wonders where a mail has gone.
local function refused(session, of, about, code, enhanced, text)
  if not log.on.info or not session_of.may_say(session) then
    return
  end
  local list = fields(session, of.kind)
  tell_of(list, about)
  local hook = chain.whose(of, session)
  add(list, "at", hook and hook.place)
  add(list, "code", code)
  add(list, "enhanced", enhanced)
  add(list, "reply", text)
  log.event("info", code < 400 and "answered" or "refused", list)
end
M.refused = refused

--- Brings what a hook returned into order.
---@param data boolean before 354 a 2xx makes no sense
---@return integer? code nil: no objection
---@return string? enhanced
---@return string? text
---@return string? nonsense what is wrong with it; then the rest is nil
function M.read(a, b, c, data)
  if a == nil and b == nil then
    return nil
  elseif a == true and b == nil then
    return nil
  elseif reply.is(a) and b == nil then
    a, b, c = a.code, a.enhanced, a.text
  end
  if type(a) ~= "number" then
    local what = b == nil and text_of(a) or ("%s, %s"):format(text_of(a), text_of(b))
    return nil, nil, nil, ("the hook returned %s: no verdict (nothing, true, or a code and a text are)"):format(what)
  end
  local code, enhanced, text = reply.normal(a, b, c)
  if not code then
    return nil, nil, nil, "the hook returned a reply that cannot be sent: " .. enhanced
  elseif data and code < 400 then
    return nil, nil, nil, ("the hook returned %d, which makes no sense before DATA"):format(code)
  end
  return code, enhanced, text
end

local fault = M.FAULT

--- Runs what answers a peer that waits, on a later turn: when it raises (memory has run out, a script has put nonsense
--- into an object of ours), the peer hears 451 all the same, and no session hangs.
---@param session moonpost.Session
---@param of moonpost.Chain
---@param fn function
function M.guarded(session, of, about, fn, ...)
  local ok, err = pcall(fn, ...)
  if not ok then
    pcall(M.fault, session, of, about, err)
    session._conn:answer(fault[1], fault[2], fault[3])
  end
end

--- A hook's results as an answer for C.
function M.settle(session, of, about, a, b, c)
  local code, enhanced, text, nonsense = M.read(a, b, c, of.kind == "data")
  if nonsense then
    M.fault(session, of, about, nonsense)
    return fault[1], fault[2], fault[3]
  elseif code then
    refused(session, of, about, code, enhanced, text)
  end
  return code, enhanced, text
end

--- A hook's error as an answer for C: a Reply that was raised means that reply.
function M.raised(session, of, about, err)
  if reply.is(err) then
    return M.settle(session, of, about, err)
  end
  M.fault(session, of, about, err)
  return fault[1], fault[2], fault[3]
end

--- Whether an error only says that the peer left while the hook waited.
function M.is_cancelled(err)
  return Error.is(err) and err.kind == "cancelled"
end

-- ---- recipients: Postmaster is always reachable (RFC 5321 4.5.1) --------------------------------------------------

local function is_postmaster(recipient)
  return recipient.class == "local" and recipient.localpart:lower() == "postmaster"
end

-- A message that is handed on has one reply, the next hop's, which must do for every recipient of a transaction: so there is one (RFC 5321
-- 4.5.3.1.10). Over LMTP each has its own.
local function must_wait(session, recipient)
  local list = session._rcpts
  if not list or not list.planned or recipient.index == 1 or session.protocol == "lmtp" then
    return false
  end
  local first = list[1] and list[1]._plan
  return recipient._plan ~= nil or first ~= nil
end

local ONE_MORE = { 452, "4.5.3", "One recipient at a time: this message is handed on while you wait" }

function M.rcpt(session, of, recipient, a, b, c)
  session._asking = false
  local code, enhanced, text
  if a ~= nil or b ~= nil then
    code, enhanced, text = M.settle(session, of, recipient, a, b, c)
    if code and code >= 400 and is_postmaster(recipient) then
      log.event("debug", "postmaster is reachable all the same", { "address", recipient.address, "code", code })
      code, enhanced, text = nil, nil, nil
    end
  end
  if not (code and code >= 400) and must_wait(session, recipient) then
    return ONE_MORE[1], ONE_MORE[2], ONE_MORE[3]
  end
  return code, enhanced, text
end

function M.rcpt_raised(session, of, recipient, err)
  session._asking = false
  local code, enhanced, text = M.raised(session, of, recipient, err)
  if code and code >= 400 and is_postmaster(recipient) then
    log.event("debug", "postmaster is reachable all the same", { "address", recipient.address, "code", code })
    return nil
  end
  return code, enhanced, text
end

return M
