--- Milters: filters that Postfix and Sendmail ask, asked here (protocol version 6). One conversation for each session, a step of it for each of
--- ours; lua/moonpost/plugins/milter.lua takes the steps in hooks.
---
---     local filter = moonpost.milter { address = "unix:/run/opendkim/opendkim.sock" }
---     local talk <close> = assert(filter:open())
---     local verdict, err = talk:step("H", "mail.example.net")
local channel = require "moonpost.channel"
local Error = require "moonpost.error"
local options_of = require "moonpost.options"
local task = require "moonpost.task"
local wire = require "moonpost.milter.wire"

local M = {}

local instead ---@type (fun(letter: string, data: string, macros: table): moonpost.milter.Answer?, moonpost.milter.Change[]?)?

local ANSWERS_MOST = 10000 -- to one step: changes, and signs of progress
local CHANGES_MOST = 4 << 20 -- octets of all changes of a message

M.schema = {
  { name = "address", type = "string", check = function(value)
    local place, why = channel.place(value)
    return not place and why or nil
  end },
  { name = "timeout", type = "duration", default = "30s" },
  { name = "quarantine", type = "any", null = true, check = function(value)
    return type(value) ~= "function" and "a function expected" or nil
  end },
}

---@class moonpost.milter.Filter
local Filter = {}
M.methods = Filter
local Filter_mt = { __index = Filter, __name = "moonpost.milter.Filter" }

---@class moonpost.milter.Talk
local Talk = {}
M.talk_methods = Talk
local Talk_mt = { __index = Talk, __name = "moonpost.milter.Talk" }

--- Lets a function answer in the place of every filter, for tests. It is given each step, and returns an answer, or nil to go on; at the end of a
--- message ("E") also the changes that are wanted.
---@param fn? fun(letter: string, data: string, macros: table): moonpost.milter.Answer?, moonpost.milter.Change[]? nil: the filters
---@return function? former
function M.use(fn)
  if fn ~= nil and type(fn) ~= "function" then
    error("milter.use: a function expected", 2)
  end
  local former = instead
  instead = fn
  return former
end

--- A filter. Nothing is connected before it is asked.
---@param given moonpost.milter.Options
---@return moonpost.milter.Filter
function M.new(given)
  if type(given) ~= "table" then
    error("milter: a table of options expected", 2)
  end
  local values, why = options_of.resolve(M.schema, given, options_of.place(1))
  if not values then
    error("milter: " .. why, 2)
  elseif not values.address then
    error("milter: address: one is needed", 2)
  end
  values.place = channel.place(values.address)
  return setmetatable(values, Filter_mt)
end

local function protocol(self, why)
  return Error("protocol", ("%s: %s"):format(self.filter.place.shown, why), { temporary = true })
end

-- One packet: its letter and data.
local function receive(self)
  local head, err = self.line:read(4)
  if not head then
    return nil, err
  end
  local size = string.unpack(">I4", head)
  if size < 1 or size > wire.PACKET_MOST then
    return nil, protocol(self, ("a packet of %d octets"):format(size))
  end
  local packet
  packet, err = self.line:read(size)
  if not packet then
    return nil, err
  end
  return packet:sub(1, 1), packet:sub(2)
end

local function hang_up(guard)
  local self = guard.talk
  if self.line and not self.chosen then -- it failed, or was given up
    self.line:close()
  end
end

local guarded = { __close = hang_up }

local function negotiate(filter, actions)
  local self = setmetatable({ filter = filter, within = false, busy = false }, Talk_mt)
  local _ <close> = setmetatable({ talk = self }, guarded)
  local ok, err
  self.line, err = channel.connect(filter.place)
  if not self.line then
    return nil, err
  end
  ok, err = self.line:write(wire.offer(actions))
  if not ok then
    return nil, err
  end
  local letter, data = receive(self)
  if not letter then
    return nil, data
  elseif letter ~= "O" then
    return nil, protocol(self, "no negotiation")
  end
  self.chosen, err = wire.chosen(data, actions)
  if not self.chosen then
    return nil, protocol(self, err)
  end
  return self
end

--- Connects and negotiates. `timeout` is for all of that.
---@async
---@return moonpost.milter.Talk? talk
---@return moonpost.Error? err kind "connect", "closed", "timeout" or "protocol"
function Filter:open()
  if instead then
    return setmetatable({ filter = self, within = false, busy = false, instead = instead, chosen = wire.everything }, Talk_mt)
  end
  local actions = wire.actions.add_headers | wire.actions.change_headers
  if self.quarantine then
    actions = actions | wire.actions.quarantine
  end
  return task.timeout(self.timeout, negotiate, self, actions)
end

-- ---- steps ---------------------------------------------------------------------------------------------------------

-- The answer to a step; at the end of a message changes come before it.
local function hear(self, changes)
  local octets = 0
  for _ = 1, ANSWERS_MOST do
    local letter, data = receive(self)
    if not letter then
      return nil, data
    end
    octets = octets + #data
    if octets > CHANGES_MOST then
      return nil, protocol(self, "its changes are too long")
    end
    local answer = wire.answer(letter, data)
    if not answer then
      return nil, protocol(self, ("an answer that makes no sense (%s)"):format(letter:gsub("%c", "?")))
    elseif wire.changes[answer.what] then
      if not changes then
        return nil, protocol(self, "a change before the end of the message")
      end
      changes[#changes + 1] = answer
    elseif answer.what ~= "progress" then
      return answer
    end
  end
  return nil, protocol(self, "too many answers to one step")
end

-- What a function answers in the place of the filter.
local function pretended(self, letter, data, macros, changes)
  local answer, wanted = self.instead(letter, data or "", macros or {})
  if changes then
    table.move(wanted or {}, 1, #(wanted or {}), 1, changes)
  end
  return answer or { what = "continue" }
end

local function step(self, letter, data, macros, changes)
  if self.instead then
    return pretended(self, letter, data, macros, changes)
  elseif self.busy then
    return nil, protocol(self, "the step before this one was given up")
  end
  self.busy = true
  self.within = self.within or letter == "M"
  local packets = wire.packet(letter, data)
  if macros and next(macros) then
    packets = wire.macros(letter, macros) .. packets
  end
  local ok, err = self.line:write(packets)
  local answer
  if ok and self.chosen.silent[letter] then
    answer = { what = "continue" }
  elseif ok then
    answer, err = hear(self, changes)
  end
  if answer then
    self.busy = false
    self.within = self.within and letter ~= "E"
  end
  return answer, err
end

--- Takes a step, unless the filter does not want it: "C" connect, "H" helo, "M" mail, "R" rcpt, "T" data, "L" a header field, "N" the end of the
--- header, "B" a piece of the body.
---@async
---@param letter string
---@param data? string
---@param macros? table<string, string>
---@return moonpost.milter.Answer? answer
---@return moonpost.Error? err
function Talk:step(letter, data, macros)
  if not self.chosen.steps[letter] then
    return { what = "continue" }
  end
  return task.timeout(self.filter.timeout, step, self, letter, data, macros)
end

-- A field as filters get it: folded with LF.
local function field_of(self, name, raw)
  local value = raw:sub(#name + 1):gsub("^[ \t]*:", ""):gsub("\r\n$", ""):gsub("\r\n", "\n")
  return wire.texts(name, self.chosen.leading_space and value or (value:gsub("^ ", "")))
end

local function header(self, message)
  for name, _, raw in message.headers:each() do
    local answer, err = self:step("L", field_of(self, name, raw))
    if not answer or answer.what ~= "continue" then
      return answer, err
    end
  end
  return self:step "N"
end

-- The octets behind the header.
local function body(self, message)
  local behind, before = false, "\r\n" -- a message without a header begins with the empty line
  for chunk in message:chunks(wire.BODY_MOST - 4) do
    if not behind then
      local all = before .. chunk
      local _, at = all:find("\r\n\r\n", 1, true)
      if at then
        behind, chunk = true, all:sub(at + 1)
      else
        before = all:sub(-3)
      end
    end
    for from = 1, behind and #chunk or 0, wire.BODY_MOST do
      local answer, err = self:step("B", chunk:sub(from, from + wire.BODY_MOST - 1))
      if not answer or answer.what ~= "continue" then
        return answer, err
      end
    end
  end
  return { what = "continue" }
end

--- Sends a message: header, body and its end.
---@async
---@param message moonpost.Message
---@param macros? table<string, string>
---@return moonpost.milter.Answer? answer
---@return moonpost.milter.Change[]|moonpost.Error changes that are wanted, in order; or the error
function Talk:message(message, macros)
  if self.chosen.steps.L or self.chosen.steps.N then
    local answer, err = header(self, message)
    if not answer or answer.what ~= "continue" then
      return answer, err or {}
    end
  end
  if self.chosen.steps.B then
    local answer, err = body(self, message)
    if not answer or answer.what ~= "continue" and answer.what ~= "skip" then
      return answer, err or {}
    end
  end
  local changes = {}
  local answer, err = task.timeout(self.filter.timeout, step, self, "E", nil, macros, changes)
  return answer, answer and changes or err
end

--- Ends a transaction that has come to no end of its own; nothing where there is none.
---@async
---@return boolean? ok
---@return moonpost.Error? err
function Talk:abort()
  if not self.within or self.instead then
    return true
  end
  self.within = false
  return self.line:write(wire.packet "A")
end

--- Says goodbye, as far as it waits for nobody.
function Talk:close()
  if not self.line then
    return
  elseif self.line:is_open() then
    self.line.lines:say(wire.packet "Q")
  end
  self.line:close()
end

Talk_mt.__close = Talk.close

-- ---- changes -------------------------------------------------------------------------------------------------------

-- The value as our header takes it: folding is kept, other control characters are not.
local function folded(value)
  return (value:gsub("[^\r\n\t\x20-\x7e\x80-\xff]", "?"):gsub("\r?\n[ \t]+", "\0"):gsub("[\r\n]", "?"):gsub("%z", "\r\n\t"))
end

local function nth(envelope, name, which)
  local at = envelope:find(name)
  while at and which > 1 do
    at = envelope:find(name, at + 1)
    which = which - 1
  end
  return at
end

local apply = {
  add = function(message, change)
    pcall(message._core.insert, message._core, message.headers:count() + 1, change.name, folded(change.value))
  end,
  insert = function(message, change)
    local at = math.min(change.at + 1, message.headers:count() + 1)
    pcall(message._core.insert, message._core, at, change.name, folded(change.value))
  end,
  change = function(message, change)
    local envelope = message._core
    local at = nth(envelope, change.name, math.max(1, change.at))
    if at and change.value == "" then
      envelope:remove(at)
    elseif at then
      pcall(envelope.replace, envelope, at, folded(change.value))
    elseif change.value ~= "" then
      pcall(envelope.insert, envelope, message.headers:count() + 1, change.name, folded(change.value))
    end
  end,
}

--- Makes the changes of a header that a filter wants; what cannot stand in one is left out. Those of the envelope are the caller's.
---@param message moonpost.Message
---@param changes moonpost.milter.Change[]
function M.apply(message, changes)
  for _, change in ipairs(changes) do
    if apply[change.what] then
      apply[change.what](message, change)
    end
  end
end

return M
