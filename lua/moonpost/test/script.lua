--- A server that follows a script: what code that sends is tried against. It answers well unless it is told otherwise, verb by
--- verb, and writes down what it heard. Octets and time come from outside (moonpost.test.network).
---
---     local server = test.server { rcpt = { "250 2.1.5 ok", "450 4.2.1 busy" }, body = { { "250 ok", after = "30s" } } }
local blame = require "moonpost.test.blame"
local suggest = require "moonpost.suggest"
local units = require "moonpost.units"

local M = {}

local EXTENSIONS = { "PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "SIZE 50000000" }

--- What is said where the script says nothing.
local usual = {
  banner = "220 %s ESMTP", helo = "250 %s", starttls = "220 2.0.0 Go ahead", auth = "235 2.7.0 Good", mail = "250 2.1.0 Ok",
  rcpt = "250 2.1.5 Ok", data = "354 Go ahead", body = "250 2.0.0 Taken", rset = "250 2.0.0 Ok", noop = "250 2.0.0 Ok",
  vrfy = "252 2.1.5 Perhaps", quit = "221 2.0.0 Bye", other = "500 5.5.1 What?",
}
local faults = { refused = true, timeout = true } -- of `connect`
local settings = { hostname = true, extensions = true, lmtp = true, connect = true, ehlo = true, tls = true, address = true }
local step_names = { after = true, close = true, raw = true, silent = true }

local all_names = {}
for name in pairs(usual) do
  all_names[name] = true
end
for name in pairs(settings) do
  all_names[name] = true
end

--- "250 ok" or { "250 ok", after = "5s", close = true } as a table of its own.
local function step_of(name, step)
  if type(step) == "string" then
    step = { step }
  elseif type(step) ~= "table" then
    blame(("test.server: %s: a reply such as \"250 ok\" or a table expected, got a %s"):format(name, type(step)))
  end
  for key in pairs(step) do
    if key ~= 1 and not step_names[key] then
      blame(("test.server: %s: unknown option %q%s"):format(name, tostring(key), suggest.hint(key, step_names)))
    end
  end
  if step[1] ~= nil and (type(step[1]) ~= "string" or not step[1]:find("^%d%d%d")) then
    blame(("test.server: %s: %q is no reply such as \"250 ok\""):format(name, tostring(step[1])))
  elseif not (step[1] or step.close or step.raw or step.silent) then
    blame(("test.server: %s: a reply, raw, silent or close is needed"):format(name))
  end
  local seconds, expected = units.duration(step.after or 0)
  if not seconds then
    blame(("test.server: %s: after: %s expected"):format(name, expected))
  end
  return { text = step[1], after = seconds, close = step.close, raw = step.raw, silent = step.silent }
end

local function steps_of(name, value)
  if type(value) == "function" then
    return value
  elseif type(value) == "string" or type(value) == "table" and (value.after or value.close or value.raw or value.silent) then
    return { step_of(name, value) }
  elseif type(value) ~= "table" then
    blame(("test.server: %s: a reply, a list of them or a function expected, got a %s"):format(name, type(value)))
  end
  local list = {}
  for i, step in ipairs(value) do
    list[i] = step_of(name, step)
  end
  return list
end

---@class moonpost.test.Server
local Server = {}
Server.__index = Server
Server.__name = "moonpost.test.Server"

--- A reply's lines for the wire: "250 a\nb" is "250-a", "250 b".
local function wire(text)
  local code, rest = text:match("^(%d%d%d)[ -]?(.*)$")
  local lines = {}
  for line in (rest .. "\n"):gmatch("([^\n]*)\n") do
    lines[#lines + 1] = line
  end
  for i, line in ipairs(lines) do
    lines[i] = ("%s%s%s\r\n"):format(code, i < #lines and "-" or " ", line)
  end
  return table.concat(lines)
end

-- The step for a verb: each of the script's once, the last one for ever.
local function next_step(self, session, verb, argument, default)
  local script = self._script[verb]
  if type(script) == "function" then
    local step = script(argument, session)
    if step ~= nil then
      return step_of(verb, step)
    end
  elseif script and script[1] then
    local at = (self._at[verb] or 0) + 1
    self._at[verb] = at
    return script[at] or script[#script]
  end
  return { text = (default or usual[verb]):format(self.hostname), after = 0 }
end

local function hello(self, session)
  local extensions = table.move(self.extensions, 1, #self.extensions, 1, {})
  if self.tls and not session.tls then
    extensions[#extensions + 1] = "STARTTLS"
  end
  table.insert(extensions, 1, self.hostname)
  return "250 " .. table.concat(extensions, "\n"):gsub("%%", "%%%%")
end

local Session = {}
Session.__index = Session
Session.__name = "moonpost.test.ServerSession"

--- A new connection: what it says first is the first of the actions.
---@return table session
function Server:accept()
  self.sessions = self.sessions + 1
  local session = setmetatable({ server = self, tls = false, recipients = {}, _held = "", _in = "command", _actions = {} }, Session)
  session:_say("banner", "")
  return session
end

--- Puts what the script says to a verb among the actions. Returns the code that was said, nil for none.
function Session:_say(verb, argument, default)
  local step = next_step(self.server, self, verb, argument, default)
  local octets = step.raw or step.text and wire(step.text)
  if step.silent then
    octets, self._in = nil, "silent"
  end
  table.insert(self._actions, { after = step.after, octets = octets, close = step.close })
  if step.close then
    self._in = "closed"
  end
  return octets and tonumber(octets:match("^%d%d%d"))
end

local function forget(self)
  self.sender, self.recipients, self.octets = nil, {}, nil
end

local function take(self)
  table.insert(self.server.messages, {
    sender = self.sender, recipients = self.recipients, octets = table.concat(self.octets or {}), chunked = self._chunked,
    tls = self.tls, user = self.user,
  })
end

-- The end of a message: one reply, or over LMTP one for each recipient.
local function finish(self)
  local taken = false
  for _ = 1, self.server.lmtp and #self.recipients or 1 do
    local code = self:_say("body", "")
    taken = taken or code ~= nil and code < 300
  end
  if taken and self.recipients[1] then
    take(self)
  end
  forget(self)
end

local verbs = {}

function verbs.ehlo(self)
  forget(self)
  return self:_say("ehlo", "", hello(self.server, self))
end
verbs.lhlo = verbs.ehlo

function verbs.helo(self)
  forget(self)
  self:_say("helo", "")
end

function verbs.starttls(self)
  if self:_say("starttls", "") == 220 then
    self._in = "tls"
  end
end

function verbs.auth(self, argument)
  self.user = argument
  if self:_say("auth", argument) == 334 then
    self._in = "auth"
  end
end

function verbs.mail(self, argument)
  forget(self)
  local code = self:_say("mail", argument)
  if code and code < 300 then
    self.sender, self.params = argument:match("<(.-)>"), argument:match("> (.*)$")
  end
end

function verbs.rcpt(self, argument)
  local code = self:_say("rcpt", argument)
  if code and code < 300 then
    table.insert(self.recipients, argument:match("<(.-)>"))
  end
end

function verbs.data(self)
  self._chunked = false
  local code = self:_say("data", "")
  if code == 354 then
    self._in, self.octets = "data", nil
  end
end

function verbs.bdat(self, argument)
  local size, last = argument:match("^(%d+)(.*)$")
  self._chunk, self._last = tonumber(size) or 0, last:upper():find("LAST") ~= nil
  self._chunked, self.octets, self._in = true, self.octets or {}, "chunk"
end

function verbs.rset(self)
  forget(self)
  self:_say("rset", "")
end

function verbs.quit(self)
  self:_say("quit", "")
  self._in = "closed"
  self._actions[#self._actions].close = true
end

for _, name in ipairs { "noop", "vrfy" } do
  verbs[name] = function(self, argument)
    self:_say(name, argument)
  end
end

local function command(self, line)
  table.insert(self.server.commands, line)
  if self._in == "auth" then
    self._in = "command"
    verbs.auth(self, line)
    return
  end
  local verb, argument = line:match("^(%a+) ?(.*)$")
  local run = verb and verbs[verb:lower()]
  if run then
    run(self, argument)
  else
    self:_say("other", line)
  end
end

local readers = {}

function readers.command(self)
  local line, rest = self._held:match("^(.-)\r\n(.*)$")
  if line then
    self._held = rest
    command(self, line)
    return true
  end
end
readers.auth = readers.command

function readers.data(self)
  local body, rest = "", self._held:match("^%.\r\n()")
  if not rest then
    local at = self._held:find("\r\n.\r\n", 1, true)
    if not at then
      return false
    end
    body, rest = self._held:sub(1, at + 1), at + 5
  end
  self.octets = { (body:gsub("^%.", ""):gsub("\r\n%.", "\r\n")) }
  self._held, self._in = self._held:sub(rest), "command"
  finish(self)
  return true
end

function readers.chunk(self)
  if #self._held < self._chunk then
    return false
  end
  table.insert(self.octets, self._held:sub(1, self._chunk))
  self._held, self._in = self._held:sub(self._chunk + 1), "command"
  if self._last then
    finish(self)
  else
    table.insert(self._actions, { after = 0, octets = "250 2.0.0 Go on\r\n" })
  end
  return true
end

--- Octets from the client. What is to be done about them is in the actions, in their order.
---@param octets string
function Session:feed(octets)
  self._held = self._held .. octets
  local more = true
  while more do
    local read = readers[self._in]
    more = read and read(self)
  end
end

--- The handshake is over: what was said before is forgotten.
function Session:tls_done()
  self.tls, self._in, self._held = true, "command", ""
  forget(self)
end

--- What is to be done next: { after = seconds, octets?, close? }; nil when nothing is.
---@return table?
function Session:take()
  return table.remove(self._actions, 1)
end

--- A server that follows `script`.
---@param script? table
---@return moonpost.test.Server
function M.new(script)
  script = script or {}
  if type(script) ~= "table" then
    blame(("test.server: a table expected, got a %s"):format(type(script)))
  end
  local self = setmetatable({
    hostname = script.hostname or "mx.test", extensions = script.extensions or EXTENSIONS, lmtp = script.lmtp or false,
    tls = script.tls, connect = script.connect, address = script.address,
    commands = {}, messages = {}, sessions = 0, _script = {}, _at = {},
  }, Server)
  for name, value in pairs(script) do
    if not all_names[name] then
      blame(("test.server: unknown option %q%s"):format(tostring(name), suggest.hint(name, all_names)))
    elseif usual[name] or name == "ehlo" then
      self._script[name] = steps_of(name, value)
    end
  end
  if self.connect ~= nil and not faults[self.connect] then
    blame(("test.server: connect: \"refused\" or \"timeout\" expected%s"):format(suggest.hint(self.connect, faults)))
  end
  return self
end

---@param value any
---@return boolean
function M.is(value)
  return getmetatable(value) == Server
end

return M
