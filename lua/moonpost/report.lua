--- Delivery status notifications (RFC 3464): what the sender of a message is told about what became of it. Everything comes from the caller,
--- nothing is sent:
---
---     local report, why = moonpost.report.make {
---       kind = "failed", message = message, recipients = { { address = "bob@example.net", reply = reply, host = "mx.example.net" } },
---       reporting_mta = "mx.example.org",
---     }
---     if report then moonpost.send(report) end
local compose = require "moonpost.compose"
local core = require "moonpost.core"
local returned = require "moonpost.report.returned"
local status = require "moonpost.report.status"
local suggest = require "moonpost.suggest"
local text = require "moonpost.report.text"
local units = require "moonpost.units"
local words = require "moonpost.report.words"

local M = {}

local GROUP_MOST = 100 -- recipients of one report

-- kind = what of NOTIFY asks for it (RFC 3461 4.1)
local kinds = { failed = "FAILURE", delayed = "DELAY", delivered = "SUCCESS", relayed = "SUCCESS", expanded = "SUCCESS" }
local order = { "failed", "delayed", "delivered", "relayed", "expanded" }

local function check_kind(kind, where, level)
  if not kinds[kind] then
    error(('%s: unknown kind "%s"%s'):format(where, text.clean(tostring(kind), 40), suggest.hint(kind, kinds)), level + 1)
  end
end

local function wanted(recipient, kind)
  local notify = recipient.notify or recipient.params and recipient.params.notify
  if not notify then
    return kind == "failed" or kind == "delayed" -- who says nothing wants these two (RFC 3461 5.2.1, 5.2.6)
  end
  return not notify.NEVER and notify[kinds[kind]] == true
end

--- Whether a recipient's NOTIFY asks for a report of this kind. It says nothing of the sender, who may be nobody.
---@param recipient { notify?: table<string, boolean>, params?: table } as of an envelope
---@param kind "failed"|"delayed"|"delivered"|"relayed"|"expanded"
---@return boolean
function M.wanted(recipient, kind)
  check_kind(kind, "report.wanted", 2)
  return wanted(recipient, kind)
end

--- Puts recipients that can share a report together: those of one kind, 100 at most. Who is not to be told about is left out.
---@param recipients table[] each with its `kind`
---@return { kind: string, recipients: table[] }[] groups failures first
function M.group(recipients)
  local of, groups = {}, {}
  for _, recipient in ipairs(recipients) do
    check_kind(recipient.kind, "report.group", 2)
    if wanted(recipient, recipient.kind) then
      of[recipient.kind] = of[recipient.kind] or {}
      table.insert(of[recipient.kind], recipient)
    end
  end
  for _, kind in ipairs(order) do
    local list = of[kind] or {}
    for from = 1, #list, GROUP_MOST do
      groups[#groups + 1] = { kind = kind, recipients = table.move(list, from, math.min(from + GROUP_MOST - 1, #list), 1, {}) }
    end
  end
  return groups
end

--- Why texts cannot take the place of ours: for who wants to know before the first message fails.
---@param texts any
---@return boolean ok
---@return string? why
function M.check(texts)
  local why = words.check(texts, kinds)
  return not why, why
end

-- ---- what is asked for ---------------------------------------------------------------------------------------------

local known = {
  kind = true, message = true, recipients = true, reporting_mta = true, from = true, to = true, now = true, texts = true, limit = true,
  eight_bit = true, smtputf8 = true, random = true,
}

-- What is wrong with a notice is a mistake of who wrote it.
local function mistake(given)
  if type(given) ~= "table" then
    return ("a table expected, got a %s"):format(type(given))
  end
  for name in pairs(given) do
    if not known[name] then
      return ('unknown option "%s"%s'):format(text.clean(tostring(name), 40), suggest.hint(name, known))
    end
  end
  local message = given.message
  if not kinds[given.kind] then
    return ('kind: one of "%s" expected%s'):format(table.concat(order, '", "'), suggest.hint(given.kind, kinds))
  elseif type(message) ~= "table" or type(message.sender) ~= "string" then
    return "message: a table with the sender, a string, expected"
  elseif message.head ~= nil and type(message.head) ~= "string" then
    return ("message.head: a string expected, got a %s"):format(type(message.head))
  elseif message.body ~= nil and type(message.body) ~= "string" and type(message.body) ~= "function" then
    return ("message.body: a string, or a function that returns an iterator of chunks, expected, got a %s"):format(type(message.body))
  elseif type(given.reporting_mta) ~= "string" or not core.dns_name(given.reporting_mta) then
    return "reporting_mta: the name of this host expected"
  elseif type(given.recipients) ~= "table" or not given.recipients[1] then
    return "recipients: a list of at least one expected"
  end
  for i, recipient in ipairs(given.recipients) do
    if type(recipient) ~= "table" or type(recipient.address) ~= "string" then
      return ("recipients[%d]: a table with the address, a string, expected"):format(i)
    end
  end
  return given.texts ~= nil and words.check(given.texts, kinds) or nil
end

local LIMIT = 65536

-- ---- putting it together -------------------------------------------------------------------------------------------

-- Whether anything in it needs more than ASCII.
local function is_international(notice, message)
  local function beyond(value)
    return type(value) == "string" and value:find "[\x80-\xff]" ~= nil
  end
  if beyond(message.sender) or beyond(message.head) then
    return true
  end
  for _, recipient in ipairs(notice.recipients) do
    if beyond(recipient.address) or beyond(recipient.orcpt) or (recipient.orcpt_type or ""):lower() == "utf-8"
      or beyond(status.words(recipient)) then
      return true
    end
  end
  return false
end

local function hex(octets)
  return (octets:gsub(".", function(octet)
    return ("%02x"):format(octet:byte())
  end))
end

-- Nobody can write it into a message beforehand, and it does not stand in there by chance either.
local function boundary(random, parts)
  while true do
    local line = "=_" .. hex(random(16))
    local free = true
    for _, part in ipairs(parts) do
      free = free and not part:find(line, 1, true)
    end
    if free then
      return line
    end
  end
end

-- The Message-ID of what is reported on, if it is one.
local function message_id(head)
  local value = returned.value(head, "Message-ID")
  return value and #value <= 900 and value:match "^<[!-;=?-~]+@[!-;=?-~]+>$" or nil
end

local function header(notice, made, of)
  local out = {}
  local function add(name, value)
    if value then
      out[#out + 1] = assert(compose.field(name, value))
    end
  end
  add("Date", compose.date(notice.now))
  add("From", of.from)
  add("To", compose.ascii(of.to) or of.to)
  add("Subject", compose.encode(made.subject))
  add("Message-ID", ("<dsn.%s@%s>"):format(hex(notice.random(12)), notice.host))
  local original = message_id(notice.message.head)
  add("In-Reply-To", original)
  add("References", original)
  add("Auto-Submitted", "auto-replied") -- RFC 3834 5
  add("MIME-Version", "1.0")
  out[#out + 1] = ('Content-Type: multipart/report; report-type=%s;\r\n boundary="%s"\r\n'):format(of.type, of.boundary)
  add("Content-Transfer-Encoding", of.encoding)
  return table.concat(out)
end

local function part(fields, octets)
  return table.concat(fields, "\r\n") .. "\r\n\r\n" .. octets
end

-- Its parts, and what they need.
local function build(notice, texts, how)
  local facts_of = returned.part(notice.message, how)
  local facts = words.facts(notice, returned.value(notice.message.head, "Subject"), facts_of.what)
  local made, fault = words.text(facts, texts)
  local body, encoding = compose.body(made.text)
  local first = { "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: " .. encoding }
  if made.language then
    first[#first + 1] = "Content-Language: " .. made.language
  end
  local kind = how.global and "global-delivery-status" or "delivery-status"
  local machine = status.part(notice, how.global)
  local eight = machine:find "[\x80-\xff]" ~= nil
  local second = { "Content-Type: message/" .. kind, "Content-Description: Delivery report" }
  if eight then
    second[#second + 1] = "Content-Transfer-Encoding: 8bit"
  end
  local parts = { part(first, body), part(second, machine) }
  if facts_of.octets then
    parts[3] = part({
      "Content-Type: " .. facts_of.type,
      "Content-Description: " .. (facts_of.what == "message" and "Original message" or "Header of the original message"),
      "Content-Transfer-Encoding: " .. facts_of.encoding,
    }, facts_of.octets)
  end
  return { parts = parts, made = made, fault = fault, type = kind, eight = eight or facts_of.encoding == "8bit" }
end

--- Makes a report for the sender of a message about those of its recipients that it is wanted for. Mistakes raise at the caller's line.
---@param given moonpost.Notice
---@return moonpost.Report? report for moonpost.send, or anybody else
---@return string? why there is none: the sender is null, nobody is to be told about. Or, with a report: what was wrong with a text of the
--- caller's, so that ours was used
function M.make(given)
  local why = mistake(given)
  local limit, expected
  if not why then
    limit, expected = units.size(given.limit or LIMIT)
    why = not limit and ("limit: %s expected"):format(expected) or nil
  end
  local host = not why and core.dns_name(given.reporting_mta)
  local from, shown
  if host then
    from, shown = compose.mailbox(given.from or ("Mail Delivery System <MAILER-DAEMON@%s>"):format(host))
    why = not from and "from: " .. shown or nil
    if not why and given.to ~= nil and (type(given.to) ~= "string" or not core.mailbox(given.to, true)) then
      why = "to: an address expected"
    end
  end
  if why then
    error("report.make: " .. why, 2)
  end
  local message, reader = given.message, given.to or given.message.sender
  if reader == "" then
    return nil, "the sender is null" -- RFC 3464 2: of a report there is no report
  elseif not core.mailbox(reader, true) then
    return nil, "the sender is no address"
  end
  local recipients = {}
  for _, recipient in ipairs(given.recipients) do
    if given.to and recipient.address:lower() == given.to:lower() then
      return nil, "who was to be told could not be reached" -- nor would he be now
    elseif given.to or wanted(recipient, given.kind) then
      recipients[#recipients + 1] = recipient
    end
  end
  if not recipients[1] then
    return nil, "no recipient's NOTIFY asks for it"
  end
  local notice = {
    kind = given.kind, message = message, recipients = recipients, host = host, now = given.now or core.time(),
    random = given.random or core.random, to = given.to,
  }
  local to = compose.ascii(reader) or reader
  -- The way back can carry what the way here has carried, as far as anybody knows.
  local params = message.params or {}
  local international = given.smtputf8
  if international == nil then
    international = message.smtputf8 or params.smtputf8
  end
  local global = to:find "[\x80-\xff]" ~= nil or international and is_international(notice, message) or false
  local eight_bit = given.eight_bit
  if eight_bit == nil then
    eight_bit = (message.body_type or params.body) == "8BITMIME"
  end
  local built = build(notice, given.texts, {
    full = given.kind == "failed" and (message.ret or params.ret) ~= "HDRS", limit = limit, global = global,
    eight_bit = eight_bit or global,
  })
  local line = boundary(notice.random, built.parts)
  local octets = { header(notice, built.made, {
    from = shown, to = to, type = built.type, boundary = line, encoding = built.eight and "8bit" or nil,
  }) }
  for _, each in ipairs(built.parts) do
    octets[#octets + 1] = ("\r\n--%s\r\n%s"):format(line, each)
  end
  octets[#octets + 1] = ("\r\n--%s--\r\n"):format(line)
  return {
    from = "", to = to, message = table.concat(octets),
    params = { smtputf8 = global or nil, body = built.eight and "8BITMIME" or nil },
  }, built.fault
end

return M
