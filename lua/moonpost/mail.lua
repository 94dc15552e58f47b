--- A message on its way out: envelope, parameters, octets; and what became of it, a row for each recipient.
local Error = require "moonpost.error"
local compose = require "moonpost.compose"
local core = require "moonpost.core"
local params_of = require "moonpost.mail_params"
local reply = require "moonpost.reply"
local suggest = require "moonpost.suggest"

local M = {}

local is_mailbox = core.is_mailbox

---@class moonpost.Mail
---@field from string
---@field to (string|{ address: string, ascii?: string, params?: table })[]
---@field params? table of MAIL
---@field body string|function|moonpost.Message

--- Everything that a message may be described by.
M.names = {
  from = true, to = true, cc = true, bcc = true, reply_to = true, subject = true, text = true, headers = true, date = true,
  html = true, attachments = true, inline = true, calendar = true, id = true,
  message = true, params = true, envelope = true, sender = true, size = true,
}
-- Of which a message that stands has no use.
local composed = { "subject", "text", "reply_to", "headers", "date", "html", "attachments", "inline", "calendar", "id" }

-- The plain case, which most are: no name beside it, and nothing that is not ASCII.
local function is_plain(one)
  return type(one) == "string" and is_mailbox(one)
end

local recipient_names = { address = true, params = true, ascii = true }

-- One line when a table has a name that is not among `known`.
local function stranger(table, known)
  for name in pairs(table) do
    if type(name) == "string" and not known[name] then
      return ('unknown name "%s"%s'):format(name, suggest.hint(name, known))
    end
  end
end

local function recipient(one)
  if is_plain(one) then
    return one
  elseif type(one) == "table" then
    local why = stranger(one, recipient_names)
    if why then
      return nil, why
    end
    local address
    address, why = compose.mailbox(one.address)
    why = not address and why or one.params ~= nil and params_of.check_rcpt(one.params)
    if why then
      return nil, why
    end
    return { address = address, ascii = compose.ascii(address), params = one.params }
  end
  local address, why = compose.mailbox(one)
  if not address then
    return nil, why
  end
  local ascii = compose.ascii(address)
  return ascii and { address = address, ascii = ascii } or address
end

local function add(list, name, value)
  if type(value) ~= "table" or value.address then
    value = { value }
  end
  local why = stranger(value, recipient_names)
  if why then
    return ("%s: %s"):format(name, why)
  end
  for _, one in ipairs(value) do
    local to
    to, why = recipient(one)
    if not to then
      return ("%s: %s"):format(name, why)
    end
    list[#list + 1] = to
  end
end

local function is_message(value)
  return type(value) == "table" and getmetatable(value) == "moonpost.Message"
end

local function is_made(value)
  return type(value) == "table" and getmetatable(value) == "moonpost.Made"
end

-- What was built goes piece by piece, so that its files are not in memory.
local function pieces_of(made)
  return function()
    return made:chunks()
  end, nil, made
end

-- The octets: given, or put together from subject, text and what else there is; and the message that was built, which knows its size.
local function body_of(mail)
  local message = mail.message
  if message == nil then
    if not (mail.html or mail.attachments or mail.inline or mail.calendar) then
      return compose.message(mail)
    end
    local made, why = require("moonpost.mime.build").build(mail)
    if not made then
      return nil, tostring(why)
    end
    return pieces_of(made)
  end
  for _, name in ipairs(composed) do
    if mail[name] ~= nil then
      return nil, ("message and %s: one of them"):format(name)
    end
  end
  if type(message) == "string" or type(message) == "function" or is_message(message) then
    return message
  elseif is_made(message) then
    return pieces_of(message)
  end
  return nil, ("message: a string, a received message, one of moonpost.message, or a function that returns an iterator of chunks expected, got a %s")
    :format(type(message))
end

local envelope_names = { from = true, to = true }

local function wrong_envelope(envelope)
  if type(envelope) ~= "table" then
    return ("envelope: { from =, to = } expected, got a %s"):format(type(envelope))
  end
  local why = stranger(envelope, envelope_names)
  return why and "envelope: " .. why
end

-- A message that was built knows whom it is for, unless somebody says otherwise.
local function addressed(mail)
  local made, copy = mail.message, {}
  for name, value in pairs(mail) do
    copy[name] = value
  end
  if copy.from == nil then
    copy.from = made.from
  end
  if not (copy.to or copy.cc or copy.bcc or copy.envelope and copy.envelope.to) then
    copy.to, copy.cc, copy.bcc = made.to, made.cc, made.bcc
  end
  return copy
end

local function not_plain(mail)
  for _, name in ipairs(composed) do
    if mail[name] ~= nil then
      return true
    end
  end
end

--- Checks and completes what a script says. `sender` or `envelope.from` is the reverse-path where it is not `from`.
---@param mail table
---@param known? table<string, any> further names that are somebody else's
---@return moonpost.Mail? prepared
---@return string? why
function M.prepare(mail, known)
  if type(mail) ~= "table" then
    return nil, ("a table expected, got a %s"):format(type(mail))
  end
  for name in pairs(mail) do
    if not M.names[name] and not (known and known[name] ~= nil) then
      if require("moonpost.client_options").known()[name] then
        return nil, ("%s is said where the connection is made, not of a message"):format(name)
      end
      return nil, ("unknown option %q%s"):format(tostring(name), suggest.hint(name, known or M.names))
    end
  end
  if is_made(mail.message) then
    mail = addressed(mail)
  end
  local envelope = mail.envelope
  local why = envelope ~= nil and wrong_envelope(envelope) or nil
  if why then
    return nil, why
  end
  local from, from_ascii = mail.sender or envelope and envelope.from or mail.from, nil
  if from == nil then
    return nil, "from is needed: an address, or \"\" for the null sender"
  elseif from ~= "" and not is_plain(from) then
    from, why = compose.mailbox(from)
    if not from then
      return nil, ("%s: %s"):format(mail.sender and "sender" or envelope and envelope.from and "envelope.from" or "from", why)
    end
    from_ascii = compose.ascii(from)
  end
  local to = {}
  if envelope and envelope.to then
    why = add(to, "envelope.to", envelope.to)
  elseif is_plain(mail.to) and not mail.cc and not mail.bcc then
    to[1], why = mail.to, nil
  else
    why = nil
    for _, name in ipairs { "to", "cc", "bcc" } do
      if mail[name] ~= nil and not why then
        why = add(to, name, mail[name])
      end
    end
  end
  if not why and not to[1] then
    why = "to: at least one recipient is needed"
  end
  local body, made = mail.message, nil
  if not why and (type(body) ~= "string" or not_plain(mail)) then
    body, why, made = body_of(mail)
  end
  if why then
    return nil, why
  end
  local params = mail.params
  if made and made.eight_bit and (params == nil or type(params) == "table" and params.body == nil) then
    local more = { body = "8BITMIME" }
    for name, value in pairs(params or {}) do
      more[name] = value
    end
    params = more
  end
  if params ~= nil then
    why = params_of.check_mail(params)
  end
  if not why and mail.size ~= nil and not (type(mail.size) == "number" and math.tointeger(mail.size) and mail.size >= 0) then
    why = "size: a whole number of octets expected"
  end
  local size = mail.size or made and made:size() or nil
  if not why and (size ~= nil or params and params.holduntil ~= nil) then
    params, why = params_of.complete(params, size)
  end
  if why then
    return nil, why
  end
  return { from = from, from_ascii = from_ascii, to = to, params = params, body = body }
end

--- The address of an entry of `to`.
function M.address(one)
  return type(one) == "table" and one.address or one
end

--- True when one of its recipients, or all of them, were to hear more, or else, than usual of what becomes of it (RFC 3461).
---@param mail moonpost.Mail
---@param one string|table an entry of `to`
---@return boolean
function M.wants_dsn(mail, one)
  local params = type(one) == "table" and one.params
  return mail.params and (mail.params.ret or mail.params.envid) ~= nil or params and (params.notify or params.orcpt) ~= nil or false
end

-- ---- outcomes ------------------------------------------------------------------------------------------------------

---@class moonpost.SendRow
---@field address string
---@field ok boolean
---@field state "delivered"|"refused"|"deferred"|"unknown"
---@field stage "route"|"connect"|"tls"|"auth"|"mail"|"rcpt"|"data"|"body"|"connection" where that was decided
---@field reply moonpost.Reply what the peer said, or what we say in its place
---@field own? boolean the reply is ours
---@field host? string
---@field ip? string
---@field tls? table
---@field dsn_lost? boolean its NOTIFY and ORCPT went no further
---@field times? moonpost.StageTimes

--- A row for somebody whom nothing was sent to.
---@return moonpost.SendRow
function M.row(address, stage, code, enhanced, text)
  return {
    address = address, ok = false, state = code >= 500 and "refused" or "deferred", stage = stage,
    reply = reply.heard(code, enhanced, text), own = true,
  }
end

--- What a script gets: a result when everybody was served, else nil and an error; both hold the rows.
---@param rows moonpost.SendRow[]
---@return table? result
---@return moonpost.Error? err
function M.outcome(rows)
  local failed, temporary, first = 0, false, nil
  for _, row in ipairs(rows) do
    if not row.ok then
      failed = failed + 1
      temporary = temporary or row.state ~= "refused"
      first = first or row
    end
  end
  if failed == 0 then
    return { ok = true, recipients = rows }
  end
  local text = failed == #rows and #rows == 1 and ("%s: %s"):format(first.address, first.reply)
    or ("%d of %d recipients were not served; %s: %s"):format(failed, #rows, first.address, first.reply)
  return nil, Error(temporary and "deferred" or "refused", text, {
    recipients = rows, temporary = temporary, code = nil, reply = first.reply, stage = first.stage,
  })
end

return M
