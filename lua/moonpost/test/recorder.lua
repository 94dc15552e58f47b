--- Stands where deliveries would begin: writes them down, or lets them fail as the test says.
local blame = require "moonpost.test.blame"
local mail_of = require "moonpost.mail"
local reply_of = require "moonpost.reply"
local suggest = require "moonpost.suggest"
local units = require "moonpost.units"

local M = {}

local kinds = { maildir = true, file = true, pipe = true, lmtp = true, forward = true, enqueue = true }
local handed_on = { lmtp = true, forward = true }
local errors = { -- names of csrc/base/error.h that a delivery may end with
  NOSPACE = "no space left on device", DENIED = "permission denied", NOTFOUND = "no such file or directory",
  EXISTS = "file exists", SYSTEM = "system error", TIMEOUT = "took too long", NOMEM = "out of memory",
}
local ways = { error = true, why = true, status = true, signal = true, output = true, recipient = true, times = true,
  after = true, reply = true }

local function addresses(recipients)
  local list = {}
  for i, one in ipairs(recipients) do
    list[i] = one.address
  end
  return list
end

-- The octets that C would have written.
local function octets(message, order)
  local text = (order.extra or "") .. message._core:received() .. assert(message:octets())
  local params = message.params
  if order.crlf or params and params.body == "BINARYMIME" then
    return text
  end
  return (text:gsub("\r\n", "\n"))
end

-- What a test reads: the options of the delivery by the names that policies use.
local function row(message, kind, recipients, order)
  local list = addresses(recipients)
  return {
    disposition = kind, recipient = list[1], recipients = list, sender = message.sender.address, id = message.id,
    user = message.session.user, path = order.folder or order.path, args = order.args, env = order.env, cwd = order.cwd,
    timeout = order.timeout, mbox = order.mbox or nil, create = order.create, mode = order.mode, reason = order.reason,
    queue = order.queue,
    line_end = not order.url and not order.queue and order.crlf ~= nil and (order.crlf and "crlf" or "lf") or nil, url = order.url,
    params = order.params, message = octets(message, order),
  }
end

local function applies(failure, recipients)
  if not failure then
    return false
  elseif not failure.recipient then
    return true
  end
  for _, one in ipairs(recipients) do
    if one.address == failure.recipient then
      return true
    end
  end
  return false
end

local function success(message, kind, order)
  local path = kind == "maildir" and ("%s/new/%s"):format(order.folder, message.id) or kind == "file" and order.path
  return { ok = true, path = path or nil, output = kind == "pipe" and "" or nil, status = kind == "pipe" and 0 or nil }
end

local function outcome_of(failure)
  return {
    ok = false, error = failure.error, why = failure.why or errors[failure.error], status = failure.status,
    signal = failure.signal, output = failure.output,
  }
end

local function is_for(failure, one)
  return failure and (not failure.recipient or failure.recipient == one.address)
end

-- What a next hop would have said of a recipient.
local function said(failure, one)
  if not is_for(failure, one) then
    return { address = one.address, ok = true, state = "delivered", stage = "body", reply = reply_of.heard(250, "2.0.0", "Accepted") }
  elseif failure.reply then
    local reply = failure.reply
    return {
      address = one.address, ok = false, state = reply.code >= 500 and "refused" or "deferred",
      stage = failure.recipient and "rcpt" or "body", reply = reply,
    }
  end
  local why = failure.why or errors[failure.error]
  return mail_of.row(one.address, "connection", 451, failure.error == "TIMEOUT" and "4.4.2" or "4.4.1", why)
end

-- A message that is handed on: each recipient has a reply, and only those who were taken are written down.
local function hand_on(message, kind, recipients, order, failure)
  local rows, taken = {}, {}
  for i, one in ipairs(recipients) do
    rows[i] = said(failure, one)
    taken[#taken + 1] = rows[i].ok and one or nil
  end
  return { rows = rows }, taken[1] and row(message, kind, taken, order) or nil
end

--- What moonpost.perform calls in the place of C.
---@param policy table
---@return function deliver
function M.new(policy)
  return function(message, kind, recipients, order, done)
    if kind == "discard" then
      table.insert(policy.sent, row(message, kind, recipients, order))
      return
    end
    local failure = policy._failures[kind]
    local fails = applies(failure, recipients)
    local delivery, outcome
    if handed_on[kind] then
      outcome, delivery = hand_on(message, kind, recipients, order, fails and failure)
    else
      delivery = not fails and row(message, kind, recipients, order)
      outcome = fails and outcome_of(failure) or success(message, kind, order)
    end
    local delay = fails and failure.after or policy._delays[kind] or 0
    if fails and failure.times then
      failure.times = failure.times - 1
      policy._failures[kind] = failure.times > 0 and failure or nil
    end
    policy._worker:timer(delay, function()
      if delivery then
        table.insert(policy.sent, delivery)
      end
      done(outcome)
    end)
  end
end

-- "550 5.1.1 No such user"
local function reply_from(kind, text)
  local code, enhanced, words = tostring(text):match("^([45]%d%d) ([45]%.%d+%.%d+) (.+)$")
  if not code then
    code, words = tostring(text):match("^([45]%d%d) (.+)$")
  end
  if not handed_on[kind] then
    blame(("policy:fail: reply: only next hops give one, not a %s"):format(kind))
  elseif not code then
    blame(('policy:fail: reply: a text such as "550 5.1.1 No such user" expected, got %q'):format(tostring(text)))
  end
  return reply_of.heard(math.tointeger(tonumber(code)), enhanced, words)
end

--- Checks what a test says about failures. Raises at its line.
---@return table? failure
function M.failure(kind, how)
  if not kinds[kind] then
    blame(("policy:fail: there is no disposition %q that could fail%s")
      :format(tostring(kind), suggest.hint(kind, kinds)))
  elseif how == nil then
    return nil
  elseif type(how) ~= "table" then
    blame(("policy:fail: a table such as { error = \"NOSPACE\" } expected, got a %s"):format(type(how)))
  end
  local failure = {}
  for key, value in pairs(how) do
    if not ways[key] then
      blame(("policy:fail: unknown option %q%s"):format(tostring(key), suggest.hint(key, ways)))
    end
    failure[key] = value
  end
  if failure.reply ~= nil then
    failure.reply = reply_from(kind, failure.reply)
  end
  failure.error = failure.error or "SYSTEM"
  if not errors[failure.error] then
    blame(("policy:fail: there is no error %q%s"):format(tostring(failure.error), suggest.hint(failure.error, errors)))
  end
  if failure.after ~= nil then
    local seconds, expected = units.duration(failure.after)
    if not seconds then
      blame(("policy:fail: after: %s expected"):format(expected))
    end
    failure.after = seconds
  end
  return failure
end

--- Checks how long deliveries of a kind shall take.
---@return number seconds
function M.delay(kind, duration)
  local seconds, expected = units.duration(duration)
  if not kinds[kind] then
    blame(("policy:delay: there is no disposition %q that takes time%s")
      :format(tostring(kind), suggest.hint(kind, kinds)))
  elseif not seconds then
    blame(("policy:delay: %s expected"):format(expected))
  end
  return seconds
end

return M
