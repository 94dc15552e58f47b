--- Stands where deliveries would begin: writes them down, or lets them fail as the test says.
local blame = require "moonpost.test.blame"
local suggest = require "moonpost.suggest"
local units = require "moonpost.units"

local M = {}

local kinds = { maildir = true, file = true, pipe = true }
local errors = { -- names of csrc/base/error.h that a delivery may end with
  NOSPACE = "no space left on device", DENIED = "permission denied", NOTFOUND = "no such file or directory",
  EXISTS = "file exists", SYSTEM = "system error", TIMEOUT = "took too long", NOMEM = "out of memory",
}
local ways = { error = true, why = true, status = true, signal = true, output = true, recipient = true, times = true,
  after = true }

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
    line_end = order.crlf ~= nil and (order.crlf and "crlf" or "lf") or nil, message = octets(message, order),
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
    local delivery = not fails and row(message, kind, recipients, order)
    local outcome = fails and outcome_of(failure) or success(message, kind, order)
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
