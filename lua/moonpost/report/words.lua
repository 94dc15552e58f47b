--- The part of a report that people read: in plain words what happened, to whom, what the server said, and what can be done.
local compose = require "moonpost.compose"
local status = require "moonpost.report.status"
local suggest = require "moonpost.suggest"
local text = require "moonpost.report.text"

local M = {}

local SUBJECT_MOST, TEXT_MOST = 500, 65536
local QUOTED_MOST = 120 -- octets of the subject of somebody's message

---@class moonpost.ReportRow
---@field address string as the sender has written it
---@field host? string who said the words
---@field words? string one line: code, enhanced code, text
---@field own? boolean the words are ours
---@field status string
---@field expired? boolean
---@field waited? string since it arrived: "5 days"
---@field retry_until? string

---@class moonpost.ReportFacts
---@field kind string
---@field sender string of the message; "" for none
---@field other boolean somebody is told in the sender's place
---@field host string who tells
---@field postmaster string
---@field subject? string of the message, decoded; nil when there is none that can be read
---@field date? string when the message arrived here
---@field id? string of the message, as in the log
---@field count integer of recipients
---@field recipients moonpost.ReportRow[]
---@field returned "message"|"header"|"nothing" what of the message follows

local function date(time)
  return type(time) == "number" and compose.date(time) or nil
end

-- "2 days", "5 hours": a rough one is what people want.
local function waited(notice)
  local received = notice.message.received
  if type(received) ~= "number" or notice.now < received then
    return nil
  end
  local seconds = notice.now - received
  for _, unit in ipairs { { 86400, "day" }, { 3600, "hour" }, { 60, "minute" } } do
    local count = seconds // unit[1] | 0
    if count >= 1 then
      return ("%d %s%s"):format(count, unit[2], count == 1 and "" or "s")
    end
  end
end

--- What a text may speak of. All of it is clean: one line each, no control characters.
---@param notice table
---@param subject string? of the message
---@param returned "message"|"header"|"nothing"
---@return moonpost.ReportFacts
function M.facts(notice, subject, returned)
  local rows, message = {}, notice.message
  for i, recipient in ipairs(notice.recipients) do
    local given = recipient.orcpt and recipient.orcpt ~= "" and (recipient.orcpt_type or "rfc822"):lower() == "rfc822"
      and recipient.orcpt or recipient.original
    rows[i] = {
      -- what the sender has written, which is what he knows
      address = text.clean(given or recipient.address, 320), host = not recipient.own and status.host(recipient.host) or nil,
      words = status.words(recipient), own = recipient.own or nil, status = status.status(notice.kind, recipient),
      expired = recipient.expired or nil, retry_until = date(recipient.will_retry_until), waited = waited(notice),
    }
  end
  local decoded = subject and text.decode(subject)
  decoded = decoded and text.clean(decoded, QUOTED_MOST)
  return {
    kind = notice.kind, sender = text.clean(message.sender), other = notice.to ~= nil, host = notice.host, postmaster = "postmaster@" .. notice.host,
    subject = decoded and decoded:find "%S" and decoded or nil, date = date(message.received),
    id = message.id and text.clean(tostring(message.id), 200) or nil, count = #rows, recipients = rows, returned = returned,
  }
end

-- ---- replaced texts ------------------------------------------------------------------------------------------------

local function append(out, lines)
  table.move(lines, 1, #lines, #out + 1, out)
end

-- One line of it for each recipient, in no language: "bob@example.net (mx.example.net: 550 5.1.1 No such user)".
local function block(facts)
  local out = {}
  for _, row in ipairs(facts.recipients) do
    out[#out + 1] = "    " .. row.address
    if row.words then
      append(out, text.lines((row.host and row.host .. ": " or "") .. row.words, "        ", "        "))
    end
  end
  return table.concat(out, "\n")
end

--- What stands for itself in a template, %{name} or %{name:what stands there when it is missing}.
local names = {
  sender = function(facts) return facts.sender end,
  host = function(facts) return facts.host end,
  postmaster = function(facts) return facts.postmaster end,
  subject = function(facts) return facts.subject end,
  date = function(facts) return facts.date end,
  id = function(facts) return facts.id end,
  count = function(facts) return tostring(facts.count) end,
  recipients = block,
}

local function expand(template, facts)
  return (template:gsub("%%(%%?)({?)([^}%%]*)(}?)", function(percent, open, inner, close)
    if percent ~= "" then
      return "%" .. open .. inner .. close
    end
    local name, default = inner:match "^([^:]*):?(.*)$"
    return names[name](facts) or default
  end))
end

local function bad_template(template)
  local rest = template:gsub("%%%%", ""):gsub("%%{([%l_]+):?[^{}%%]*}", function(name)
    return names[name] and "" or nil
  end)
  local at = rest:find("%", 1, true)
  if not at then
    return nil
  end
  local name = rest:match("^%%{([^:}]*)", at)
  if name and not names[name] then
    return ("unknown name %%{%s}%s"):format(text.clean(name, 40), suggest.hint(name, names))
  end
  return "a % that is neither %% nor %{name}"
end

local function bad_line(value, what, most)
  if type(value) ~= "string" then
    return ("%s: a string expected, got a %s"):format(what, type(value))
  elseif #value > most then
    return ("%s: %d octets at most"):format(what, most)
  elseif not utf8.len(value) then
    return ("%s: its text is not UTF-8"):format(what)
  elseif value:find "[\0-\x1f\x7f]" or value:find "\xc2[\x80-\x9f]" then
    return ("%s: a line break or control character"):format(what)
  end
end

local fields = { subject = true, text = true, language = true }

-- Why this is no text, or nil.
local function bad_text(given, template)
  if type(given) ~= "table" then
    return ("a table { subject =, text = } expected, got a %s"):format(type(given))
  end
  for name in pairs(given) do
    if not fields[name] then
      return ('unknown name "%s"%s'):format(text.clean(tostring(name), 40), suggest.hint(name, fields))
    end
  end
  local body = type(given.text) == "string" and given.text:gsub("\r\n", "\n"):gsub("[\n\t]", " ") or given.text
  local why = bad_line(given.subject, "subject", SUBJECT_MOST) or bad_line(body, "text", TEXT_MOST)
  if why then
    return why
  elseif not given.text:find "%S" or not given.subject:find "%S" then
    return "an empty text tells nobody anything"
  end
  local language = given.language
  if language ~= nil and (type(language) ~= "string" or #language > 35 or not language:find "^%a[%w-]*$") then
    return 'language: a tag such as "de" expected'
  end
  return template and (bad_template(given.subject) or bad_template(given.text)) or nil
end

--- Why these cannot take the place of our texts, or nil when they can.
---@param texts any
---@param kinds table<string, any>
---@return string?
function M.check(texts, kinds)
  if type(texts) == "function" then
    return nil
  elseif type(texts) ~= "table" then
    return ("texts: a table or a function expected, got a %s"):format(type(texts))
  end
  for kind, given in pairs(texts) do
    if not kinds[kind] then
      return ('texts: unknown kind "%s"%s'):format(text.clean(tostring(kind), 40), suggest.hint(kind, kinds))
    end
    local why = type(given) ~= "function" and bad_text(given, true)
    if why then
      return ("texts.%s: %s"):format(kind, why)
    end
  end
end

-- A function's own text, checked like any other: what is wrong with it must not cost anybody his bounce.
local function called(fn, facts, kind)
  local ok, made, body, language = pcall(fn, facts)
  if not ok then
    return nil, ("texts.%s raised: %s"):format(kind, text.clean(tostring(made), 400))
  elseif made == nil then
    return nil
  elseif type(made) == "string" then
    made = { subject = made, text = body, language = language }
  end
  local why = bad_text(made, false)
  if why then
    return nil, ("texts.%s: %s"):format(kind, why)
  end
  return made
end

-- ---- our own -------------------------------------------------------------------------------------------------------

-- What can be done, by status without its class; the longest that fits is taken.
local advice = {
  ["1"] = "Please check the address.",
  ["1.1"] = "Please look for a typing mistake in the address. If there is none, the mailbox is no longer there.",
  ["1.2"] = "Please look for a typing mistake in what stands behind the @.",
  ["1.10"] = "This domain takes no mail at all.",
  ["2"] = "There is something wrong with this mailbox; please tell its owner by other means.",
  ["2.1"] = "This mailbox takes no mail at the moment; please tell its owner by other means.",
  ["2.2"] = "The mailbox is full. Please try again later, or tell its owner by other means.",
  ["2.3"] = "The message is larger than this mailbox takes. Please send less at once, or a link.",
  ["3"] = "There is something wrong with that server. Please try again later.",
  ["3.4"] = "The message is larger than that server takes. Please send less at once, or a link.",
  ["4"] = "That server could not be reached. Please try again later.",
  ["4.1"] = "Nobody answers there. Please check what stands behind the @, or try again later.",
  ["4.4"] = "No server was found for this address. Please check what stands behind the @.",
  ["4.6"] = "The message went in circles, which only those who run the servers can mend.",
  ["4.7"] = "It took too long. Please try again later, or reach the recipient by other means.",
  ["6"] = "That server does not take messages of this form.",
  ["6.7"] = "That server does not take addresses with such characters.",
  ["7"] = "That server does not take this message from you, by its own rules. Please ask the recipient by other means.",
  ["7.1"] = "You may not write to this address, by the rules of that server. Please ask the recipient by other means.",
  ["7.30"] = "The message asked for a secure way, and there is none to that server.",
}

local function advise(code)
  local rest = code:match "^%d%.(.*)$"
  return advice[rest] or advice[rest:match "^%d+"]
end

local function said(out, row, soft)
  if not row.words then
    return
  elseif row.own or not row.host then
    out[#out + 1] = row.own and "    What went wrong:" or "    The answer was:"
  else
    out[#out + 1] = ("    The server %s %s:"):format(row.host, soft and "said last" or "said")
  end
  append(out, text.lines(row.words, "        ", "        "))
end

local function each(facts, tell)
  local out = {}
  for _, row in ipairs(facts.recipients) do
    out[#out + 1] = "  " .. row.address
    tell(out, row)
    out[#out + 1] = ""
  end
  return table.concat(out, "\n")
end

local function message(facts)
  local name = facts.other and "A message" or "Your message"
  name = facts.subject and ('%s "%s"'):format(name, facts.subject) or name
  if facts.other then
    name = name .. (facts.sender == "" and " without a sender" or " from " .. facts.sender)
  end
  return facts.date and ("%s of %s"):format(name, facts.date) or name
end

local function paragraph(words)
  return table.concat(text.lines(words, "", ""), "\n") .. "\n\n"
end

local function ending(facts)
  local returned = {
    message = "The message itself is attached.", header = "The header of the message is attached.", nothing = "",
  }
  local help = facts.other and "" or (" If you need help, please send all of this to %s."):format(facts.postmaster)
  return paragraph(returned[facts.returned] .. help)
end

local function several(facts, one, many)
  return facts.count == 1 and one or many
end

local ours = {}

function ours.failed(facts)
  return {
    subject = "Your message could not be delivered",
    text = paragraph(("%s could not be delivered to %s, and will not be tried again:"):format(message(facts),
      several(facts, "this address", "these addresses"))) .. each(facts, function(out, row)
      if row.expired then
        out[#out + 1] = row.waited and ("    Delivery was tried for %s."):format(row.waited) or "    Delivery was tried for too long."
      end
      said(out, row, row.expired)
      local what = not row.expired and advise(row.status)
      if what then
        append(out, text.lines(what, "    ", "    "))
      end
    end) .. "\n" .. ending(facts),
  }
end

function ours.delayed(facts)
  return {
    subject = "Your message is late",
    text = paragraph(("%s has not been delivered yet to %s. You do not have to do anything: it will be tried again."):format(
      message(facts), several(facts, "this address", "these addresses"))) .. each(facts, function(out, row)
      said(out, row, true)
      if row.retry_until then
        out[#out + 1] = ("    It will be tried until %s."):format(row.retry_until)
      end
    end) .. "\n" .. ending(facts),
  }
end

local function good(subject, words)
  return function(facts)
    return {
      subject = subject,
      text = paragraph(words:format(message(facts))) .. each(facts, function(out, row)
        said(out, row)
      end) .. "\n" .. ending(facts),
    }
  end
end

ours.delivered = good("Your message was delivered", "%s was delivered, as you asked to be told:")
ours.relayed = good("Your message was passed on", "%s was passed on to a server that does not tell what becomes of it. You will hear no more, "
  .. "unless it comes back:")
ours.expanded = good("Your message was passed on to several people", "%s reached an address that stands for several others, and was passed on "
  .. "to them. What becomes of it there is not told:")

---@class moonpost.ReportText
---@field subject string
---@field text string
---@field language? string

--- The text of a report: who replaces it first, ours else.
---@param facts moonpost.ReportFacts
---@param texts? table|function checked
---@return moonpost.ReportText
---@return string? fault why a replacement was not used
function M.text(facts, texts)
  local kind = facts.kind
  local given = type(texts) == "function" and texts or texts and texts[kind]
  local made, fault
  if type(given) == "function" then
    made, fault = called(given, facts, kind)
  elseif given then
    made = { subject = expand(given.subject, facts), text = expand(given.text, facts), language = given.language }
  end
  if not made then
    made = ours[kind](facts)
    made.language = "en"
  end
  made.subject = text.clean(made.subject, SUBJECT_MOST)
  return made, fault
end

return M
