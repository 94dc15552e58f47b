--- What C calls: one function for each kind of event, made when the server starts. A hook that does not wait costs a
--- call, no more: no closure, no table but the object it is shown.
local core = require "moonpost.core"
local credentials = require "moonpost.credentials"
local disposal = require "moonpost.disposal"
local log = require "moonpost.log"
local message_of = require "moonpost.message"
local recipient_of = require "moonpost.recipient"
local session_of = require "moonpost.session"
local task = require "moonpost.task"
local verdict = require "moonpost.verdict"

local M = {}

local PENDING = core.PENDING
local hook = task.hook
local new_message, new_recipient, new_sender = message_of.new, recipient_of.new, recipient_of.sender

local function answer(conn, a, ...)
  if a ~= PENDING then
    conn:answer(a, ...)
  end
end

-- How a hook that waited comes back: one closure for a session, made at its first wait.
local function come_back(session, of, about, ok, a, b, c)
  -- of a message C wants to hear even then: its deliveries may be on their way
  if not ok and of.kind ~= "message" and verdict.is_cancelled(a) and not session._conn:alive() then
    log.event("debug", "hook cancelled: the peer is gone", { "hook", of.kind, "session", session.id })
  elseif ok then
    answer(session._conn, of.settle(session, of, about, a, b, c))
  else
    answer(session._conn, of.raised(session, of, about, a))
  end
end

local function finisher(session)
  local function finish(ok, a, b, c)
    local of, about = session._chain, session._arg
    session._task, session._chain, session._arg = false, false, false
    verdict.guarded(session, of, about, come_back, session, of, about, ok, a, b, c)
  end
  session._finish = finish
  return finish
end

-- Asks a chain. `about` is what the hook is shown first; settle and raised turn what it said into an answer.
local function ask(session, of, about, y, z)
  local ok, a, b, c = hook(of.worker, of.limit, false, of.fn, session, about, y, z)
  if ok then
    if a == nil and b == nil and of.plain then
      return
    end
    return of.settle(session, of, about, a, b, c)
  elseif ok == nil then
    a.finish = session._finish or finisher(session)
    session._task, session._chain, session._arg = a, of, about or false
    return PENDING
  end
  return of.raised(session, of, about, a)
end

-- Tells each hook of a chain, in a task of its own: one that raises or waits holds up nobody.
local function tell(session, of, about)
  for _, each in ipairs(of.hooks) do
    if not each.listeners or each.listeners[session.listener] then
      local function finish(ok, err)
        if not ok then
          verdict.fault(session, { kind = of.kind, hooks = { each } }, about, err)
        end
      end
      local ok, err = hook(of.worker, of.limit, finish, each.fn, session, about)
      if ok == false then
        finish(false, err)
      end
    end
  end
end
M.tell = tell

local makers = {}

function makers.connect(of)
  return function(session)
    return ask(session, of)
  end
end
makers.data = makers.connect

function makers.helo(of)
  return function(session, name, esmtp)
    return ask(session, of, name, esmtp)
  end
end

function makers.mail(of, house)
  return function(session, address, localpart, domain, params)
    return ask(session, of, new_sender(house, address, localpart, domain, params))
  end
end

function makers.rcpt(of)
  return function(session, index, address, localpart, domain, class, params)
    local recipient = new_recipient(session, index, address, localpart, domain, class, params)
    local list = session._rcpts
    if index == 1 or not list then -- the first of a transaction: what an earlier one left is forgotten
      list = {}
      session._rcpts = list
    end
    list[index] = recipient
    session._asking = recipient
    return ask(session, of, recipient)
  end
end

function makers.message(of)
  return function(session, envelope)
    local seen = session._rcpts
    session._rcpts = false
    local message = new_message(session, envelope, seen)
    if not of.fn then
      return of.settle(session, of, message)
    end
    return ask(session, of, message)
  end
end

function makers.credentials(of)
  return function(session, user, mechanism)
    if not of.fn then
      return of.settle(session, of, user)
    end
    return ask(session, of, user, mechanism)
  end
end

function makers.auth(of)
  return function(session, user, password, mechanism)
    return ask(session, of, user, password, mechanism)
  end
end
makers.token = makers.auth

function makers.tls(of)
  return function(session)
    tell(session, of)
  end
end
makers.reset, makers.quit = makers.tls, makers.tls

function makers.disconnect(of)
  return function(session, why)
    if log.on.info then
      session_of.tell(session, why)
    end
    session_of.keep(session)
    tell(session, of, why)
  end
end

-- The peer left while a hook waits. After the final dot C says so only when the server stops and its grace is over.
local function lost(session)
  if session._task then
    session._task:cancel()
  end
end

-- Rules, limits or the machine refused by themselves: told where somebody reads it.
local function refused(session, kind, code, text, about)
  if not log.on.info or not session_of.may_say(session) then
    return
  end
  local list = { "by", kind, "session", session.id, "peer", session.ip or "local", "listener", session.listener }
  if about ~= "" then
    list[#list + 1], list[#list + 2] = "about", about
  end
  if code ~= 0 then -- else nothing was said but 421
    table.move({ "code", code, "reply", text }, 1, 4, #list + 1, list)
  end
  if kind == "command" then -- those that came together are one line
    list[#list + 1], list[#list + 2] = "bad_commands", session._conn:tally().bad
  end
  log.event("info", "refused", list)
end

local crowds = {
  machine = { "error", "connections are not accepted: out of descriptors or memory" },
  connections = { "warn", "connections refused: limits.connections is reached" },
  connections_per_address = { "warn", "connections refused: limits.connections_per_address is reached" },
  buffers = { "warn", "connections refused or closed: limits.buffers is reached" },
}

-- Connections that get no session: C says so once a minute for each reason.
local function crowded(_, why, listener, ip)
  local level, text = table.unpack(crowds[why])
  log.event(level, text, { "listener", listener, ip and "peer", ip })
end

local ends = {
  rcpt = { settle = verdict.rcpt, raised = verdict.rcpt_raised },
  message = { settle = disposal.settle, raised = disposal.raised },
  credentials = { settle = credentials.settle, raised = credentials.raised },
  auth = { settle = credentials.proved, raised = credentials.raised },
  token = { settle = credentials.proved, raised = credentials.raised },
}
local plain_end = { settle = verdict.settle, raised = verdict.raised }

--- Makes the dispatch function and the list of the events that need it.
---@param house table what the sessions of a server share
---@param chains table<string, moonpost.Chain>
---@return fun(kind: string, session: moonpost.Session, ...): any dispatch
---@return string[] hooks for service:hooks
function M.new(house, chains)
  local handlers, hooks = { lost = lost, refused = refused, crowded = crowded }, {}
  for kind, make in pairs(makers) do
    local of = chains[kind]
    local way = ends[kind] or plain_end
    of.settle, of.raised, of.plain = way.settle, way.raised, way == plain_end
    of.worker = house.worker
    of.limit = kind == "message" and house.message_time or house.hook_time
    handlers[kind] = make(of, house)
    if of.fn then
      hooks[#hooks + 1] = kind
    end
  end
  -- a message without a hook is still ours to refuse; and without a credentials hook the auth hook has to be
  -- announced to C
  if not chains.message.fn then
    hooks[#hooks + 1] = "message"
  end
  chains.credentials.fallback = chains.auth.fn ~= nil
  if chains.auth.fn and not chains.credentials.fn then
    hooks[#hooks + 1] = "credentials"
  end
  if log.on.info and not chains.disconnect.fn then
    hooks[#hooks + 1] = "disconnect"
  end
  if log.on.info then
    hooks[#hooks + 1] = "refused"
  end
  table.sort(hooks)
  local function dispatch(kind, session, a, b, c, d, e, f)
    return handlers[kind](session, a, b, c, d, e, f)
  end
  return dispatch, hooks
end

--- Tells the chain of `start` or `retire`.
function M.generation(of, house, server)
  for _, each in ipairs(of.hooks) do
    local function finish(ok, err)
      if not ok then
        log.event("error", "hook failed", { "hook", of.kind, "at", each.place, "error", tostring(err) })
      end
    end
    local ok, err = hook(house.worker, house.hook_time, finish, each.fn, server)
    if ok == false then
      return nil, ("%s: the %s hook failed: %s"):format(each.place, of.kind, tostring(err))
    end
  end
  return true
end

return M
