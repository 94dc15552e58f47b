--- Dispositions as values: what is to become of a message for a recipient. Made and checked here, done in
--- moonpost.perform.
local expand = require "moonpost.expand"
local forward = require "moonpost.forward"
local reply = require "moonpost.reply"
local suggest = require "moonpost.suggest"
local units = require "moonpost.units"

local M = {}

---@class moonpost.Plan
---@field kind "discard"|"refuse"|"maildir"|"file"|"pipe"|"lmtp"|"forward"|"enqueue"

--- Thrown away on purpose, by name.
---@return moonpost.Plan? plan
---@return string? why
function M.discard(reason)
  if type(reason) ~= "string" or reason == "" then
    return nil, "a reason is needed: message:discard(\"spam\")"
  end
  return { kind = "discard", reason = reason }
end

---@return moonpost.Plan? plan
---@return string? why
function M.refuse(code, enhanced, text)
  local number, checked, words = reply.normal(code, enhanced, text)
  if not number then
    return nil, checked
  elseif number < 400 then
    return nil, ("%d refuses nothing: a 4xx or 5xx code is needed"):format(number)
  end
  return { kind = "refuse", code = number, enhanced = checked, text = words }
end

local PIPE_TIMEOUT = 60

local function flag(name)
  return function(plan, value)
    if type(value) ~= "boolean" then
      return name .. ": true or false expected"
    end
    plan[name] = value
  end
end

local function mode(plan, value)
  local octal = type(value) == "string" and value:find("^0?[0-7][0-7][0-7]$") and tonumber(value, 8)
  if not octal then
    return 'mode: permissions such as "0640" expected'
  end
  plan.mode = octal
end

local function line_end(plan, value)
  if value ~= "lf" and value ~= "crlf" then
    return 'line_end: "lf" or "crlf" expected'
  end
  plan.line_end = value
end

--- What may stand beside each target; each function puts its value into the plan or returns what is wrong.
local targets = {
  maildir = { create = flag "create", mode = mode, line_end = line_end },
  file = { create = flag "create", mode = mode, mbox = flag "mbox", line_end = line_end },
  pipe = {
    line_end = line_end,
    timeout = function(plan, value)
      local seconds, expected = units.duration(value)
      if not seconds or seconds == 0 then
        return "timeout: " .. (expected or "more than 0") .. " expected"
      end
      plan.timeout = seconds
    end,
    cwd = function(plan, value)
      if type(value) ~= "string" or value:sub(1, 1) ~= "/" then
        return "cwd: an absolute path expected"
      end
      plan.cwd = value
    end,
    env = function(plan, value)
      if type(value) ~= "table" then
        return "env: a table of names and values expected"
      end
      local env = {}
      for name, text in pairs(value) do
        if type(name) ~= "string" or not name:find("^[%a_][%w_]*$") or type(text) ~= "string" or text:find("\0", 1,
          true) then
          return ("env: %s: a name and a string expected"):format(tostring(name))
        end
        env[#env + 1] = name .. "=" .. text
      end
      table.sort(env)
      plan.env = env
    end,
  },
}
local all_names = { maildir = true, file = true, pipe = true, lmtp = true }
for _, others in pairs(targets) do
  for name in pairs(others) do
    all_names[name] = true
  end
end

local function template(kind, text)
  if type(text) ~= "string" or text == "" then
    return nil, kind .. ": a string expected"
  elseif text:find("\0", 1, true) then
    return nil, kind .. ": NUL may not stand in it"
  end
  local parts, why = expand.parse(text)
  return parts, why and ("%s: %s"):format(kind, why)
end

local function arguments(list)
  if type(list) ~= "table" or #list == 0 then
    return nil, 'pipe: a list of program and arguments expected, such as { "/usr/bin/intake", "%{mailbox}" }'
  end
  local args = {}
  for i, text in ipairs(list) do
    local parts, why = template(("pipe[%d]"):format(i), text)
    if not parts then
      return nil, why
    end
    args[i] = parts
  end
  return args
end

-- An LMTP server, whose options are those of a connection.
local function lmtp(options, house)
  local given = {}
  for name, value in pairs(options) do
    if targets[name] then
      return nil, ("one of %s and lmtp, not both"):format(name)
    elseif name ~= "lmtp" then
      given[name] = value
    end
  end
  if type(options.lmtp) ~= "string" then
    return nil, 'lmtp: a URL expected, such as "lmtp://unix:/run/lmtp.sock"'
  end
  given.url = options.lmtp
  return forward.plan(house, "lmtp", given)
end

--- forward(url), forward { url =, tls =, ... }
---@param options any
---@param house table
---@return moonpost.Plan? plan
---@return string? why
function M.forward(options, house)
  return forward.plan(house, "forward", options)
end

--- enqueue(queue): kept on disk, and delivered or returned from there.
---@param queue any what moonpost.queue made; nil: the server's
---@param house table
---@return moonpost.Plan? plan
---@return string? why
function M.enqueue(queue, house)
  queue = queue == nil and house.queue or queue
  if queue == nil then
    return nil, "a queue expected: there is none among the server's options"
  elseif not require("moonpost.queue").is(queue) then
    return nil, ("a queue that moonpost.queue { ... } made expected, got a %s"):format(type(queue))
  end
  return queue.plan
end

--- deliver { maildir = | file = | pipe = | lmtp =, ... }
---@param options any
---@param house table
---@return moonpost.Plan? plan
---@return string? why
function M.deliver(options, house)
  if type(options) ~= "table" then
    return nil, "a table expected: { maildir = \"/var/mail/%{mailbox}\" }"
  elseif options.lmtp ~= nil then
    return lmtp(options, house)
  end
  local kind
  for name in pairs(targets) do
    if options[name] ~= nil then
      if kind then
        return nil, ("one of %s and %s, not both"):format(kind, name)
      end
      kind = name
    end
  end
  for name in pairs(options) do
    if not all_names[name] then
      return nil, ("unknown option %q%s"):format(tostring(name), suggest.hint(name, all_names))
    end
  end
  if not kind then
    return nil, "maildir, file, pipe or lmtp is needed"
  end
  local plan, why = { kind = kind, create = true, line_end = "lf" }
  if kind == "pipe" then
    plan.timeout = PIPE_TIMEOUT
    plan.args, why = arguments(options.pipe)
  else
    plan.path, why = template(kind, options[kind])
  end
  if why then
    return nil, why
  end
  for name, value in pairs(options) do
    local take = targets[kind][name]
    local wrong
    if take then
      wrong = take(plan, value)
    elseif name ~= kind then
      wrong = ("%s: no option of %s"):format(name, kind)
    end
    if wrong then
      return nil, wrong
    end
  end
  if plan.mbox and plan.line_end == "crlf" then
    return nil, "line_end: lines of an mbox end in LF"
  end
  return plan
end

return M
