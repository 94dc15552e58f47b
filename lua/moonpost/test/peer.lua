--- The peer's end of a session under test. Each command says its line and returns the reply; a reply that does not come
--- without time passing raises, and names what it waits for.
local blame = require "moonpost.test.blame"
local compose = require "moonpost.test.compose"
local reply_of = require "moonpost.test.reply"
local sasl = require "moonpost.test.sasl"
local stage = require "moonpost.test.stage"
local suggest = require "moonpost.suggest"

local M = {}

---@class moonpost.test.Peer
local Peer = {}
M.methods = Peer
local Peer_mt = { __name = "moonpost.test.Peer" }

function Peer_mt.__index(self, key)
  if key == "closed" then
    return self._wire:closed()
  end
  return Peer[key]
end

---@class moonpost.test.Pending
local Pending = {}
M.pending = Pending
local Pending_mt = { __index = Pending, __name = "moonpost.test.Pending" }

-- ---- octets -------------------------------------------------------------------------------------------------------

local function say(self, octets)
  stage.act(self.policy, self._wire.send, self._wire, octets)
end

-- Hands what has been written to those who wait for it, in order. A command of several steps goes on by itself.
local function collect(self)
  repeat
    local came = self._wire:receive()
    if came ~= "" then
      self._rest = reply_of.read(self._rest .. came, self._unread)
    end
    local waiting = self._queue[1]
    while waiting and self._unread[1] do
      local reply = table.remove(self._unread, 1)
      self._last = reply
      if not waiting._step or not waiting._step(reply, waiting) then
        waiting.result = waiting.result or reply
        table.remove(self._queue, 1)
        waiting = self._queue[1]
      else
        break -- it has said something more: look again
      end
    end
  until came == "" and not (self._queue[1] and self._unread[1])
end

local function why_none(self, name)
  local waits = self.policy:waits()
  if self.closed then
    return ("%s: the server has closed the connection%s"):format(name,
      self._last and (" (it said last: %s)"):format(tostring(self._last)) or "")
  elseif waits[1] then
    return ("%s is not answered: a hook waits for %s; policy:advance() turns the clock"):format(name,
      table.concat(waits, ", "))
  end
  local timer = self.policy._worker:next_timer()
  return ("%s is not answered%s"):format(name,
    timer and ("; the next thing to happen is due in %g s: policy:advance(%g)"):format(timer, timer) or "")
end

local function enqueue(self, name, step)
  local pending = setmetatable({ _peer = self, name = name, _step = step }, Pending_mt)
  table.insert(self._queue, pending)
  return pending
end

-- Nobody waits for what is here now: a 421 that time has brought.
local function set_aside(self, name)
  collect(self)
  table.move(self._unread, 1, #self._unread, #self.unasked + 1, self.unasked)
  self._last = self._unread[#self._unread] or self._last
  self._unread = {}
  if self.closed then
    blame(why_none(self, name))
  end
end

-- A command under way. `step(reply, pending)` returns true when the reply it was given is not the last; it may set
-- pending.result.
local function begin(self, name, octets, step)
  set_aside(self, name)
  local pending = enqueue(self, name, step)
  say(self, octets)
  collect(self)
  return pending
end

--- Whether the answer is there.
---@return boolean
function Pending:done()
  collect(self._peer)
  return self.result ~= nil
end

--- The answer; raises when it is not there, naming what it waits for.
---@return moonpost.test.Reply reply over LMTP, of data and the last bdat: a list of replies
function Pending:reply()
  if not self:done() then
    blame(why_none(self._peer, self.name))
  end
  return self.result
end

-- ---- commands -----------------------------------------------------------------------------------------------------

local makers = {} -- what each command sends; start_NAME and NAME are made of them

local function greet(verb)
  return function(self, name)
    name = name or "client.example"
    return begin(self, verb:lower(), compose.line(verb .. " " .. name), function(reply)
      self.extensions = {}
      self._accepted = 0
      for i = 2, reply.class == 2 and #reply.lines or 0 do
        local keyword, rest = reply.lines[i]:sub(5):match("^(%S+) ?(.*)$")
        self.extensions[keyword:upper()] = rest
      end
    end)
  end
end
makers.ehlo, makers.lhlo, makers.helo = greet "EHLO", greet "LHLO", greet "HELO"

local function path(address)
  return "<" .. (address:match("^<(.*)>$") or address) .. ">"
end

local function address_of(name, address)
  if type(address) ~= "string" then
    blame(("peer:%s: an address expected, got a %s"):format(name, type(address)))
  end
  return path(address)
end

-- How many recipients a transaction has: so many replies the end of a message has over LMTP.
local counts = {
  MAIL = function(self, reply)
    self._accepted = reply.class == 2 and 0 or self._accepted
  end,
  RCPT = function(self, reply)
    self._accepted = self._accepted + (reply.class == 2 and 1 or 0)
  end,
  RSET = function(self)
    self._accepted = 0
  end,
}

local function counter(self, line)
  local count = counts[line:match("^%a*"):upper()]
  return count and function(reply)
    count(self, reply)
  end
end

local function command(self, name, line)
  return begin(self, name, compose.line(line), counter(self, line))
end

function makers.mail(self, address, params)
  return command(self, "mail", "MAIL FROM:" .. address_of("mail", address) .. compose.params(params))
end

function makers.rcpt(self, address, params)
  return command(self, "rcpt", "RCPT TO:" .. address_of("rcpt", address) .. compose.params(params))
end

-- The end of a message: one reply, or over LMTP one for each recipient (RFC 2033 4.2).
local function collector(self)
  local lmtp, list = self.protocol == "lmtp", {}
  local count = lmtp and self._accepted or 1
  return function(reply, pending)
    list[#list + 1] = reply
    self._accepted = 0
    pending.result = lmtp and list or reply
    return #list < count and reply.code ~= 421 and reply.code ~= 503
  end
end

function makers.data(self, message)
  local octets = compose.body(compose.message(message or ""))
  local more
  return begin(self, "data", "DATA\r\n", function(reply, pending)
    if not more then
      more = collector(self)
      if reply.code == 354 then
        say(self, octets)
        return true
      end
      pending.result = self.protocol == "lmtp" and { reply } or reply
      return false
    end
    return more(reply, pending)
  end)
end

function makers.bdat(self, octets, last)
  local line = ("BDAT %d%s\r\n"):format(#octets, last and " LAST" or "")
  return begin(self, "bdat", line .. octets, last and collector(self) or nil)
end

for _, verb in ipairs { "RSET", "NOOP", "VRFY", "EXPN", "HELP", "QUIT" } do
  makers[verb:lower()] = function(self, argument)
    return command(self, verb:lower(), argument and verb .. " " .. argument or verb)
  end
end

--- Proves who it is. What comes behind the mechanism is its own: user and password, or user and token.
function makers.auth(self, mechanism, user, secret, authzid)
  local client, why = sasl.client(mechanism, user, secret, authzid, self)
  if not client then
    blame("peer:auth: " .. why)
  end
  local first = client()
  local line = ("AUTH %s%s"):format(mechanism, first and " " .. (first == "" and "=" or first) or "")
  return begin(self, "auth", compose.line(line), function(reply)
    if reply.code ~= 334 then
      return false
    end
    say(self, compose.line(client(reply.lines[1]:sub(5))))
    return true
  end)
end

function makers.starttls(self, facts)
  return begin(self, "starttls", "STARTTLS\r\n", function(reply)
    if reply.class == 2 then
      self:_handshake(facts)
    end
  end)
end

--- A line that is no method of its own.
function makers.raw(self, line)
  return command(self, line:match("^%S*"):lower(), line)
end

for name, make in pairs(makers) do
  Peer["start_" .. name] = make
  Peer[name] = function(self, ...)
    return make(self, ...):reply()
  end
end

--- As raw, without waiting for the reply.
Peer.begin = makers.raw

--- Says several lines in one flight.
---@param lines string[]
---@return moonpost.test.Reply[]
function Peer:pipeline(lines)
  local octets, pendings, replies = {}, {}, {}
  set_aside(self, "pipeline")
  for i, line in ipairs(lines) do
    octets[i] = compose.line(line)
    pendings[i] = enqueue(self, line:match("^%S*"):lower(), counter(self, line))
  end
  say(self, table.concat(octets))
  for i, pending in ipairs(pendings) do
    replies[i] = pending:reply()
  end
  return replies
end

--- Says exactly these octets, whatever they are.
---@param octets string
---@return moonpost.test.Reply[] replies that came
function Peer:send(octets)
  if self.closed then
    blame(why_none(self, "send"))
  end
  say(self, octets)
  return self:replies()
end

--- What the server has said and no command has taken.
---@return moonpost.test.Reply[]
function Peer:replies()
  collect(self)
  local list = self._unread
  self._unread = {}
  self._last = list[#list] or self._last
  return list
end

local own = { from = true, to = true, data = true, mail_params = true, rcpt_params = true }

--- A whole transaction: envelope, recipients, message. The fields From and To are those of the envelope unless said.
---@param message moonpost.test.MessageOptions
---@return moonpost.test.Reply reply the last one: of the message, or the refusal that ended it
---@return moonpost.test.Reply[] recipients
function Peer:send_message(message)
  local to = type(message.to) == "table" and message.to or { message.to }
  if #to == 0 then
    blame("peer:send_message: `to` is missing")
  end
  for key in pairs(message) do -- other names are fields; but a bounce by a slip of the pen is no test of anything
    if message.from == nil and suggest.nearest(key, { "from" }) then
      blame(("peer:send_message: %q (did you mean \"from\"?)"):format(key))
    end
  end
  local reply, recipients, taken = self:mail(message.from or "", message.mail_params), {}, false
  if reply.class ~= 2 then
    return reply, recipients
  end
  for i, address in ipairs(to) do
    recipients[i] = self:rcpt(address, message.rcpt_params)
    taken = taken or recipients[i].class == 2
  end
  if not taken then
    self:rset()
    return recipients[#recipients], recipients
  end
  local octets = message.data
  if not octets then
    local fields = {}
    for key, value in pairs(message) do
      fields[key] = not own[key] and value or nil
    end
    octets = compose.message(fields, { From = message.from or "<>", To = table.concat(to, ", ") })
  end
  return self:data(octets), recipients
end

--- Closes the connection, as a peer does that has said all it had to say.
function Peer:disconnect()
  stage.act(self.policy, self._wire.eof, self._wire)
end

--- Is gone from one moment to the next: a hook that waits is cancelled.
function Peer:abort()
  stage.act(self.policy, self._wire.lose, self._wire)
end

-- ---- connecting ---------------------------------------------------------------------------------------------------

--- The handshake itself: nobody computes anything, the facts are simply believed.
function Peer:_handshake(facts)
  local given = type(facts) == "table" and facts or {}
  stage.act(self.policy, function()
    local ok, why = self._wire:tls(given)
    if not ok then
      blame("starttls: " .. why)
    end
  end)
  self.tls = given
  self.extensions = {}
  self._rest, self._accepted = "", 0
end

local known = {
  ip = true, port = true, local_ip = true, local_port = true, unix = true, uid = true, pid = true, listener = true,
  helo = true, tls = true, auth = true,
}

local function read(how)
  if type(how) == "string" then
    how = { ip = how }
  end
  for key in pairs(how or {}) do
    if not known[key] then
      blame(("policy:session: unknown option %q%s"):format(tostring(key), suggest.hint(key, known)))
    end
  end
  return how or {}
end

local function open(policy, how)
  local index, listener = policy:_listener(how.listener or policy._default)
  local endpoint = listener.endpoint
  local unix = how.unix
  if unix == nil then
    unix = endpoint.path ~= nil and how.ip == nil
  end
  local self = setmetatable({
    policy = policy, protocol = endpoint.protocol, extensions = {}, unasked = {}, tls = nil, greeting = nil,
    _queue = {}, _unread = {}, _rest = "", _accepted = 0,
  }, Peer_mt)
  self._wire = policy:_wire(index, {
    ip = how.ip, port = how.port, local_ip = how.local_ip, local_port = how.local_port or endpoint.port, unix = unix,
    uid = how.uid, pid = how.pid,
  })
  if endpoint.implicit and not self.closed then
    self:_handshake(how.tls)
  end
  return self, endpoint.implicit
end

--- Connects without waiting for the greeting.
function M.start(policy, how)
  local self = open(policy, read(how))
  local greeting = setmetatable({ _peer = self, name = "the connection" }, Pending_mt)
  greeting._step = function(reply)
    self.greeting = reply
  end
  table.insert(self._queue, greeting)
  collect(self)
  return self, greeting
end

local function hello(self, name)
  local verb = self.protocol == "lmtp" and "lhlo" or "ehlo"
  return self[verb](self, type(name) == "string" and name or nil)
end

local function expect(reply, what)
  if reply.class ~= 2 then
    blame(("policy:session: %s: %s"):format(what, tostring(reply)))
  end
end

--- Connects, and says what `how` asks for.
function M.connect(policy, how)
  how = read(how)
  local self, greeting = M.start(policy, how)
  greeting:reply()
  if how.tls and not self.tls then
    expect(hello(self, how.helo), "hello")
    expect(self:starttls(how.tls), "STARTTLS")
  end
  if how.helo or how.auth then
    expect(hello(self, how.helo), "hello")
  end
  if how.auth then
    expect(self:auth(table.unpack(how.auth)), "AUTH")
  end
  return self
end

return M
