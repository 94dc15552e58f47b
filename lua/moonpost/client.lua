--- moonpost.connect: a connection to an SMTP or LMTP server, in straight-line Lua.
---
---     local client <close> = assert(moonpost.connect { host = "smtp.example.org", port = 587, auth = { user = "me", password = "secret" } })
---     local result, err = client:send { from = "me@example.org", to = "you@example.net", subject = "Hi", text = "..." }
local Error = require "moonpost.error"
local mail_of = require "moonpost.mail"
local network = require "moonpost.network"
local options_of = require "moonpost.options"
local reply = require "moonpost.reply"
local settings_of = require "moonpost.client_options"
local stopwatch = require "moonpost.stopwatch"
local task = require "moonpost.task"
local tls_of = require "moonpost.client_tls"

local M = {}

local OVER = "the connection has been closed" -- by ourselves
local CONVERTED_MOST = 64 << 20 -- octets of a message that is converted for a server without 8BITMIME
local AGAIN_MOST = 1000 -- transactions for one message, for peers that take few recipients at a time

-- ---- a connection --------------------------------------------------------------------------------------------------

---@class moonpost.Client
local Client = {}
local Client_mt = { __index = Client, __name = "moonpost.Client" }

local failures = { -- by the name of csrc/base/error.h
  TIMEOUT = { "timeout", "4.4.2" }, EOF = { "connection", "4.4.2" }, SYNTAX = { "protocol", "4.5.0" },
  TOOLONG = { "protocol", "4.5.0" }, TLS = { "tls", "4.7.5" }, CRYPTO = { "tls", "4.7.5" }, CLOSED = { "connection", "4.4.2" },
}

local function where(self)
  return self.ip and self.host ~= self.ip and ("%s [%s]"):format(self.host, self.ip) or self.host
end

-- The error of an operation that no answer came to.
local function broken(self, what, rc)
  local of = failures[rc] or { "connection", "4.4.2" }
  local kind = rc == "CRYPTO" and what == "AUTH" and "auth" or of[1]
  return Error(kind, ("%s: %s: %s"):format(where(self), what, self.why or rc), { enhanced = of[2], error = rc, handshake = kind == "tls" })
end

-- The error of an answer that was not the one that was wanted.
local function refused(self, kind, what, heard)
  return Error(kind, ("%s: %s: %s"):format(where(self), what, heard),
    { code = heard.code, enhanced = heard.enhanced, reply = heard, temporary = heard.code < 500 })
end

local events = {}

function events.done(self, ok, rc, ...)
  if rc then -- why comes with the end of the connection, which follows
    self._last = table.pack(ok, rc, ...)
    return
  end
  local wake = self._wake
  self._wake = nil
  if wake then
    wake(ok, rc, ...)
  end
end

function events.closed(self, rc, why)
  self.alive, self.why = false, self.why or why == "QUIT" and OVER or why
  local wake, last = self._wake, self._last
  self._wake, self._last = nil, nil
  if wake and last then
    wake(table.unpack(last, 1, last.n))
  elseif wake then
    wake(false, rc or "CLOSED")
  end
end

function events.trace(self, sent, octets, body)
  self._trace(sent and "sent" or "received", octets, body, self)
end

-- A piece of a body that an iterator gives, which may wait.
function events.want(self)
  local give = self._next
  task.spawn(function()
    local ok, chunk = pcall(give)
    local core = self._core
    if give ~= self._next then
      return -- the peer refused the message meanwhile, and another one is on its way
    elseif not ok or chunk ~= nil and type(chunk) ~= "string" then
      self._fault = ok and ("a chunk of a message is a string, not a %s"):format(type(chunk)) or chunk
      core:body_failed()
    else
      local taken, why, rc = core:body(chunk or "", chunk == nil)
      if not taken and rc ~= "MISUSE" and rc ~= "CLOSED" then
        self._fault = why
        core:body_failed()
      end
    end
    network.pump(self)
  end)
end

-- Waits for the end of the operation under way. Who is cancelled meanwhile hangs up.
local function wait(self, what)
  return task.park(self._arm, what)
end

local function make(target)
  local self = setmetatable({
    host = target.host, port = target.to.port, alive = true, messages = 0, _target = target, _trace = target.trace, why = false,
    ip = false, _core = false, _wake = nil, _last = nil, user = nil, _watch = stopwatch.new(task.worker()),
  }, Client_mt)
  local function disarm()
    self._wake = nil
    self:close()
  end
  function self._arm(wake)
    self._wake = wake
    if self._wire then
      network.pump(self)
    end
    return disarm
  end
  function self._on(kind, ...)
    return events[kind](self, ...)
  end
  return self
end

-- Begins an operation. `what` names it for people.
local function operate(self, what, method, ...)
  if not self.alive then
    return nil, broken(self, what, "CLOSED")
  end
  local core = self._core
  local ok, why, rc = core[method](core, ...)
  if not ok then
    if rc == "INVALID" then
      error(("%s: %s"):format(what, why), 3)
    end
    local kind = rc == "MISUSE" and "busy" or rc == "TLS" and "tls" or "connection"
    if rc == "CLOSED" then -- of which events.closed is yet to tell
      self.alive, self.why = false, self.why or why
    end
    return nil, Error(kind, ("%s: %s: %s"):format(where(self), what, why), { error = rc })
  end
  return wait(self, what)
end

-- The reply of an operation: reply, or nil and an error when there was none.
local function answer(self, what, ok, rc, code, enhanced, text, own)
  if ok == nil then
    return nil, rc -- operate's own error
  elseif rc then
    return nil, broken(self, what, rc)
  end
  local heard = reply.heard(code, enhanced, text)
  heard.own, heard.ok = own or nil, ok
  return heard
end

-- ---- opening -------------------------------------------------------------------------------------------------------

local function addresses(target)
  local to = target.to
  if to.path then
    return { { path = to.path } }
  elseif to.ip then
    return { { ip = to.ip, port = to.port } }
  end
  local ips = target.addresses
  if not ips then
    local dns, err = target.dns or require("moonpost.dns").default()
    ips, err = dns:addresses(to.host)
    if not ips then
      return nil, Error("dns", err.message, { temporary = err.temporary, enhanced = err.temporary and "4.4.3" or "5.1.2", cause = err })
    elseif not ips[1] then
      return nil, Error("dns", ("%s: no such host, or it has no address"):format(to.host), { enhanced = "5.1.2", temporary = false })
    end
  end
  local list = {}
  for i, ip in ipairs(ips) do
    list[i] = { ip = ip, port = to.port }
  end
  return list
end

-- A connected stream, and the wire behind it when the network is one of a test.
local function dial(target, worker)
  local list, err = addresses(target)
  if not list then
    return nil, err
  end
  local stream, which, wire, rc
  if worker:is_virtual() then
    stream, which, wire = network.dial(worker, target, list)
  else
    stream, which, rc = task.park(function(wake)
      local dialling, why, name = worker:dial({
        to = list, source4 = target.source.source4, source6 = target.source.source6, each = target.connect,
      }, wake)
      if not dialling then
        wake(nil, why, name)
        return nil
      end
      return function()
        dialling:cancel()
      end
    end, "a connection to " .. target.host)
  end
  if not stream then
    local why = which:find(target.host, 1, true) == 1 and which or ("%s: %s"):format(target.host, which) -- an address names itself
    return nil, Error("connect", why, { enhanced = "4.4.1", error = rc or wire })
  end
  return stream, list[which], wire
end

-- What came of a handshake; nil and an error where its terms are not kept, which over a real network ends it.
local function secured(self, tls)
  if not self.alive then
    return nil, broken(self, "TLS", "CLOSED")
  elseif not self._wire then
    return tls_of.facts(self._core:tls(), tls)
  end
  local facts = network.secured(self)
  if (tls.level == "verified" or tls.level == "dane") and not facts.verified then
    return nil, Error("tls", ("%s: TLS: %s"):format(where(self), facts.why), { enhanced = "4.7.5", error = "CRYPTO" })
  end
  return tls_of.facts(facts, tls)
end

-- The session that STARTTLS begins; false where TLS is only believed.
local function session(self, tls, target)
  return not self._wire and tls_of.session(tls, target)
end

-- A port that speaks TLS from the start is silent to who waits for its banner, and one that does not says what is no TLS.
local function mistaken(to, err)
  if not to.implicit and to.port == 465 and err.error == "TIMEOUT" then
    return "; port 465 speaks TLS from the start: smtps:// or submissions://"
  elseif to.implicit and err.message:find("wrong version number", 1, true) then
    return "; there is no TLS from the start: smtp:// and submission:// begin it by STARTTLS"
  end
  return ""
end

local function connect(self, target, tls)
  local worker = task.worker()
  local stream, at, wire = dial(target, worker)
  self._watch:mark "connect"
  if not stream then
    return nil, at
  end
  self.ip, self._wire = at.ip, wire
  target.machine.tls = target.to.implicit and session(self, tls, target) or nil
  target.machine.pretend_tls = target.to.implicit and wire ~= nil
  local core, why, rc = worker:client(stream, target.machine, self._on)
  if not core then
    return nil, Error(rc == "TLS" and "tls" or "connection", ("%s: %s"):format(target.host, why), { error = rc })
  end
  self._core = core
  local heard, err = answer(self, target.to.implicit and "TLS or banner" or "banner", wait(self, "the banner of " .. target.host))
  self._watch:mark "banner"
  if not heard then
    err.message = err.message .. mistaken(target.to, err)
    return nil, err
  elseif not heard.ok then
    return nil, refused(self, "refused", "banner", heard)
  end
  self.banner = heard
  return true
end

-- What the peer announced.
local function heed(self)
  self.capabilities = self._core:caps()
end

local function hello(self)
  local what = self._target.lmtp and "LHLO" or "EHLO"
  local heard, err = answer(self, what, operate(self, what, "hello"))
  if not heard then
    return nil, err
  elseif not heard.ok then
    return nil, refused(self, "refused", what, heard)
  elseif not self.alive then -- it ended in the same breath, and what it can do nobody needs to know
    return nil, broken(self, what, "CLOSED")
  end
  heed(self)
  return true
end

-- True, or false when it goes on in clear, or nil and an error.
local function secure(self, target, tls)
  local err
  if target.to.implicit then
    self.tls, err = secured(self, tls)
    return self.tls and true, err
  elseif tls.level == "none" then
    self.tls = tls_of.none(tls, "not asked for")
    return true
  elseif not self.capabilities.extensions.STARTTLS then
    if tls.required then
      return nil, Error("tls", ("%s: it does not offer STARTTLS, and TLS is required"):format(where(self)), { enhanced = "4.7.5" })
    end
    self.tls = tls_of.none(tls, "STARTTLS is not offered")
    return true
  end
  local heard
  heard, err = answer(self, "STARTTLS", operate(self, "STARTTLS", "starttls", session(self, tls, target)))
  self._watch:mark "tls"
  if not heard then
    return nil, err
  elseif not heard.ok then
    if tls.required then
      return nil, refused(self, "tls", "STARTTLS", heard)
    end
    self.tls = tls_of.none(tls, ("STARTTLS was refused: %s"):format(heard))
    return true
  end
  self.tls, err = secured(self, tls)
  if not self.tls then
    return nil, err
  end
  local ok
  ok, err = hello(self)
  self._watch:mark "ehlo"
  return ok, err
end

-- What may be done about it, where there was nothing to try.
local function explain(self, heard)
  if heard.own and heard.code == 538 then
    heard.text = heard.text .. "; auth.in_clear names those that may do without"
  elseif heard.own and heard.code == 504 then
    local offered = table.concat(self.capabilities.mechanisms, " ")
    local clear = not (self.tls and self.tls.used) and " without TLS" or ""
    heard.text = ("%s: it offers %s%s"):format(heard.text, offered ~= "" and offered or "none", clear)
  end
end

local function authenticate(self, login)
  local heard, err = answer(self, "AUTH", operate(self, "AUTH", "auth", login))
  if not heard then
    return nil, err
  elseif not heard.ok then
    explain(self, heard)
    return nil, refused(self, "auth", "AUTH", heard)
  end
  self.user = login.user
  self.mechanism = select(2, self._core:facts())
  return true
end

local function converse(self, target, tls)
  local ok, err = connect(self, target, tls)
  if ok then
    ok, err = hello(self)
    self._watch:mark "ehlo"
  end
  if ok then
    ok, err = secure(self, target, tls)
  end
  if ok and target.auth then
    local login = target.auth
    login.host, login.port = target.to.host, target.to.port
    ok, err = authenticate(self, login)
    self._watch:mark "auth"
  end
  if not ok then
    self:close()
  end
  return ok, err
end

--- Opens a connection as far as messages can be sent.
---@async
---@param target table
---@return moonpost.Client?
---@return moonpost.Error? err
function M.open(target)
  local tls, err, was = tls_of.settle(target.tls, target.to, target.dns)
  if not tls then
    err.tls = tls_of.none(was, err.message)
    return nil, err
  end
  local self = make(target)
  local ok
  ok, err = converse(self, target, tls)
  if not ok and tls_of.may_go_without(tls, target, err) then
    local why = err.message
    self = make(target)
    ok, err = converse(self, target, tls_of.without(tls))
    if ok then
      self.tls = tls_of.none(tls, why)
    end
  end
  if not ok then
    err.tls, err.times = self.tls or tls_of.none(tls, err.message), self._watch.times
    return nil, err
  end
  return self
end

--- moonpost.connect { host = | url = | path =, ... }
---@async
---@param options table
---@return moonpost.Client?
---@return moonpost.Error? err
function M.connect(options)
  if type(options) == "string" then
    options = { url = options }
  elseif type(options) ~= "table" then
    error(("moonpost.connect: a table of options or a URL expected, got a %s"):format(type(options)), 2)
  end
  local settings, why = settings_of.settings(options, options_of.place(2))
  if settings and not settings.to then
    why = "host, path or url is needed"
  end
  if why then
    error("moonpost.connect: " .. why, 2)
  end
  return M.open(settings_of.target(settings))
end

-- ---- sending -------------------------------------------------------------------------------------------------------

-- The source of a body as C takes it, and the iterator that gives pieces when it is one.
local function source(self, body)
  if type(body) == "string" then
    return body
  elseif type(body) == "function" then
    local iterate = body()
    self._next = function() -- of this transaction alone
      return iterate()
    end
    return nil
  end
  return body._core
end

-- The rows of a transaction that is over.
local function rows_of(self, mail, ok, rc, code, enhanced, text)
  local rows, core, why = {}, self._core, nil
  if rc then
    why = ("%s: %s"):format(where(self), self._fault and "the message cannot be read: " .. tostring(self._fault) or self.why or rc)
  end
  local all = ok and reply.heard(code, enhanced, text)
  for i, one in ipairs(mail.to) do
    local row = { address = mail_of.address(one), ok = true, state = "delivered", stage = "body", reply = all, host = self.host,
      ip = self.ip or nil, tls = self.tls }
    if not ok or self._target.lmtp or mail.params or type(one) == "table" then
      local state, stage, its_code, its_enhanced, its_text, own, dsn_lost = core:result(i)
      row.ok, row.stage, row.own = state == "delivered", stage, own or nil
      row.dsn_lost = dsn_lost and mail_of.wants_dsn(mail, one) or nil
      row.state = (state == "none" or state == "again" or state == "accepted") and "deferred" or state
      if its_code then
        row.reply = reply.heard(its_code, its_enhanced, its_text)
      else
        row.reply, row.own = reply.heard(451, (failures[rc] or failures.EOF)[2], why or "The message was not sent"), true
      end
    end
    rows[i] = row
  end
  return rows
end

-- REQUIRETLS over TLS to nobody in particular (RFC 8689 4.2.1): it stays here.
local function unverified(self, mail)
  local rows = {}
  local why = ("%s: REQUIRETLS was asked for, and the certificate was not verified: %s"):format(where(self), self.tls.why or self.tls.policy)
  for i, one in ipairs(mail.to) do
    rows[i] = mail_of.row(mail_of.address(one), "tls", 451, "4.7.5", why)
    rows[i].host, rows[i].ip, rows[i].tls = self.host, self.ip or nil, self.tls
  end
  return rows
end

-- The octets of a body that is 8-bit, where the server does not take that; nil where it does, or where it is not known or too much.
local function eight_bit(self, mail)
  local params, body = mail.params, mail.body
  if self.capabilities.extensions["8BITMIME"] or type(body) == "table" or params and params.body == "BINARYMIME" then
    return nil
  elseif type(body) == "string" then
    return body:find "[\x80-\xff]" and body or nil
  elseif not (params and params.body == "8BITMIME") then
    return nil
  end
  local pieces, size = {}, 0
  for piece in body() do
    pieces[#pieces + 1], size = piece, size + #piece
    if size > CONVERTED_MOST then
      return nil
    end
  end
  return table.concat(pieces)
end

-- The mail as a server without 8BITMIME takes it (RFC 6152 3): converted; or as it was, which is refused here.
local function fitting(self, mail)
  local octets = eight_bit(self, mail)
  local body = octets and #octets <= CONVERTED_MOST and require("moonpost.mime.seven_bit")((octets:gsub("\r?\n", "\r\n")))
  if not body then
    return mail
  end
  local copy, params = {}, {}
  for name, value in pairs(mail) do
    copy[name] = value
  end
  for name, value in pairs(mail.params or {}) do
    params[name] = value
  end
  params.body, params.size = nil, params.size and #body or nil
  copy.body, copy.params = body, mail.params and params or nil
  return copy
end

local function transact(self, given)
  self._fault, self._next = nil, nil
  local ok, mail = pcall(fitting, self, given)
  mail = ok and mail or given -- what cannot be read is found out again below, and told
  local params, tls = mail.params, self.tls
  if params and params.requiretls and tls and tls.used and not tls.verified then
    return unverified(self, mail)
  end
  local body = mail.body
  local message = type(body) == "table"
  local rc, code, enhanced, text, _, again
  if message then
    ok, rc, code, enhanced, text, _, again = operate(self, "send", "send", mail, body._core, mail.received or false, mail.extra)
  else
    ok, rc, code, enhanced, text, _, again = operate(self, "send", "send", mail, source(self, body))
  end
  local left = AGAIN_MOST
  while ok ~= nil and not rc and again > 0 and left > 0 and self.alive and not self:spent() do
    left = left - 1
    if message then
      ok, rc, code, enhanced, text, _, again = operate(self, "send", "again", body._core, mail.received or false, mail.extra)
    else
      ok, rc, code, enhanced, text, _, again = operate(self, "send", "again", source(self, body))
    end
    if ok and mail.to[2] then
      ok = false -- each transaction had a reply of its own
    end
  end
  if ok and again > 0 then
    ok = false -- it is closed, or takes no further transaction: whoever is left was not served by the one that was
  end
  self.messages = self.messages + 1
  if ok == nil and left < AGAIN_MOST then
    ok, rc = false, "CLOSED" -- between two transactions: what the first one came to stands
  elseif ok == nil then
    local rows = {}
    for i, one in ipairs(mail.to) do
      rows[i] = mail_of.row(mail_of.address(one), "connection", 451, "4.4.2", rc.message)
    end
    return rows
  end
  return rows_of(self, mail, ok, rc, code, enhanced, text)
end

--- One transaction, and further ones for recipients that it had no room for.
---@async
---@param mail moonpost.Mail
---@return moonpost.SendRow[]
function Client:transact(mail)
  local watch = self._watch
  watch:start()
  local rows = transact(self, mail)
  local times = watch:stop()
  for _, row in ipairs(rows) do
    row.times = times
  end
  return rows
end

--- Sends one message to all its recipients. A result only when every one of them was accepted; else nil and an error with a row per
--- recipient in `recipients`.
---@async
---@param options table from, to, message (or subject, text, ...), params
---@return table? result
---@return moonpost.Error? err
function Client:send(options)
  local mail, why = mail_of.prepare(options)
  if not mail then
    error("client:send: " .. why, 2)
  end
  return mail_of.outcome(self:transact(mail))
end

--- True when no further message may be sent here (RFC 9422, or it is closed).
---@return boolean
function Client:spent()
  if not self.alive then
    return true
  end
  local _, _, spent = self._core:facts() -- knows of an end that events.closed is yet to tell
  return spent ~= false
end

-- ---- the end -------------------------------------------------------------------------------------------------------

--- Says QUIT and waits for nothing.
function Client:leave()
  if self._core and self.alive then
    self.alive, self.why = false, OVER
    self._core:leave()
    network.pump(self)
  end
end

--- Drops the connection.
function Client:close()
  if self._core and self.alive then
    self._core:close()
    self.why = self.why or OVER
  end
  self.alive = false
  network.pump(self)
end

--- The end of a conversation that went well. In a task QUIT is answered while others go on; outside of tasks nobody turns the loop later, so it is
--- waited for here (RFC 5321 4.1.1.10), or the peer would keep its end.
---@async
function Client:part()
  if not task.current() and self.alive then
    self:quit()
  end
  self:leave()
end

function Client_mt:__close(err)
  if err then
    self:close()
  else
    self:part()
  end
end

require("moonpost.client_verbs")(Client, {
  operate = operate, answer = answer, hello = hello, heed = heed, secured = secured, session = session, explain = explain,
})

return M
