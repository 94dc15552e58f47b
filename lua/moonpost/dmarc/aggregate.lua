--- Aggregate reports (RFC 7489 7.2 and appendix C; RFC 9990 where the record was found by a walk): a row for each message, of plain
--- values that can be kept anywhere, and the report that is written from many.
local compose = require "moonpost.compose"
local core = require "moonpost.core"
local suggest = require "moonpost.suggest"
local xml = require "moonpost.dmarc.xml"

local M = {}

local ROWS_MOST = 100000 -- different rows of one report
local SIGNATURES_MOST = 100 -- of one message (RFC 9990 3.1.1.12)

-- ---- rows ----------------------------------------------------------------------------------------------------------

local overrides = {
  forwarded = true, sampled_out = true, trusted_forwarder = true, mailing_list = true, local_policy = true, policy_test_mode = true, other = true,
}

local fact_names = { source_ip = true, envelope_from = true, envelope_to = true, disposition = true, override = true, comment = true, time = true }

local function is_second(value)
  return math.type(value) ~= nil and value >= 0 and value < 1 << 40
end

-- A name that is misspelt would be a fact that is missing, and nobody would see it.
local function stranger(given, known)
  for name in pairs(given) do
    if not known[name] then
      return ('unknown option "%s"%s'):format(tostring(name):gsub("%c", "?"), suggest.hint(name, known))
    end
  end
end

local function mistake(verdict, facts)
  if type(verdict) ~= "table" or type(verdict.result) ~= "string" then
    return "what dmarc.check returned is expected"
  elseif type(facts) ~= "table" then
    return ("a table with source_ip expected, got a %s"):format(type(facts))
  end
  local why = stranger(facts, fact_names)
  if why then
    return why
  elseif type(facts.source_ip) ~= "string" or not core.dns_reverse(facts.source_ip) then
    return "source_ip: an address expected"
  elseif facts.disposition ~= nil and facts.disposition ~= "none" and facts.disposition ~= "quarantine" and facts.disposition ~= "reject" then
    return 'disposition: "none", "quarantine" or "reject" expected'
  elseif facts.override ~= nil and not overrides[facts.override] then
    local shown = tostring(facts.override):gsub("%c", "?")
    return ('override: "%s" is none of the reasons there are%s'):format(shown, suggest.hint(facts.override, overrides))
  elseif facts.time ~= nil and not is_second(facts.time) then
    return "time: seconds since 1970 expected"
  end
  for _, name in ipairs { "envelope_from", "envelope_to", "comment" } do
    if facts[name] ~= nil and type(facts[name]) ~= "string" then
      return ("%s: a string expected"):format(name)
    end
  end
end

-- The domain of an address or of a domain; "" stays.
local function domain_of(value)
  return value and (value:match("@([^@]*)$") or value):lower()
end

local function options_of(set)
  local list = {}
  for name in pairs(set) do
    list[#list + 1] = name
  end
  table.sort(list)
  return table.concat(list, ":")
end

local function uris(addresses)
  local list = {}
  for i, address in ipairs(addresses) do
    list[i] = address.limit and ("%s!%d"):format(address.uri, address.limit) or address.uri
  end
  return list
end

local function passed(results)
  for _, one in ipairs(results) do
    if one.aligned and one.result == "pass" then
      return "pass"
    end
  end
  return "fail"
end

local function signatures(list)
  local out = {}
  for i, one in ipairs(list) do
    if i <= SIGNATURES_MOST and one.domain then
      out[#out + 1] = { domain = one.domain, selector = one.selector, result = one.result }
    end
  end
  return out
end

--- A record of one message, for a report. Plain values: it may be written to a file as JSON and read again.
---@param verdict moonpost.dmarc.Verdict
---@param facts moonpost.dmarc.Facts
---@return moonpost.dmarc.Row? row nil when nobody asks for a report about it
function M.row(verdict, facts)
  local why = mistake(verdict, facts)
  if why then
    error("dmarc.row: " .. why, 2)
  end
  local record = verdict.record
  if not record or not record.rua[1] or verdict.result == "temperror" then
    return nil
  end
  local override, comment, spf = facts.override, facts.comment, verdict.spf
  local disposition = facts.disposition or verdict.disposition
  if not override and disposition == verdict.disposition and verdict.sampled_out then
    override = verdict.method == "walk" and "policy_test_mode" or "sampled_out"
  elseif not override and disposition ~= verdict.disposition then
    override = "local_policy"
  end
  return {
    time = facts.time or core.time(), source_ip = facts.source_ip, disposition = disposition,
    dkim = passed(verdict.dkim), spf = passed { spf }, override = override, comment = comment,
    header_from = verdict.domain, envelope_from = domain_of(facts.envelope_from), envelope_to = domain_of(facts.envelope_to),
    signatures = signatures(verdict.dkim),
    sender = spf and spf.domain and { domain = spf.domain, scope = spf.scope, result = spf.result } or nil,
    record_domain = verdict.record_domain, rua = uris(record.rua), method = verdict.method,
    published = {
      p = record.p, sp = record.sp, np = record.np, adkim = record.adkim, aspf = record.aspf, pct = record.pct,
      fo = options_of(record.fo), t = record.t,
    },
  }
end

-- ---- reports -------------------------------------------------------------------------------------------------------

-- Equal rows have equal keys. No value holds the separator: what might is quoted.
local function key_of(row)
  local parts = { row.source_ip, row.disposition, row.dkim, row.spf, row.override or "", ("%q"):format(row.comment or ""), row.header_from }
  parts[#parts + 1] = ("%q%q"):format(row.envelope_from or false, row.envelope_to or false)
  for _, one in ipairs { row.sender or {}, table.unpack(row.signatures) } do
    parts[#parts + 1] = ("%q%q%q%q"):format(one.domain or "", one.selector or "", one.scope or "", one.result or "")
  end
  return table.concat(parts, "|")
end

local function iterator(rows)
  if type(rows) == "function" then
    return rows
  end
  local at = 0
  return function()
    at = at + 1
    return rows[at]
  end
end

local function plain(value, name)
  if type(value) ~= "string" or value == "" or value:find("%c") or not utf8.len(value) then
    return ("%s: a line of text expected"):format(name)
  end
end

local report_names = { rows = true, from = true, to = true, submitter = true, organization = true, email = true, contact = true }

local function is_row(value)
  return type(value) == "table" and type(value.record_domain) == "string" and type(value.source_ip) == "string"
    and type(value.time) == "number" and type(value.signatures) == "table" and type(value.published) == "table"
end

local function report_mistake(given)
  if type(given) ~= "table" then
    return ("a table expected, got a %s"):format(type(given))
  end
  local why = stranger(given, report_names)
  if why then
    return why
  elseif type(given.rows) == "table" and given.rows.record_domain then
    return "rows: this is one row; a list of rows expected"
  elseif type(given.rows) ~= "table" and type(given.rows) ~= "function" then
    return "rows: a list, or a function that returns the next one, expected"
  elseif not is_second(given.from) or not is_second(given.to) or given.to < given.from then
    return "from, to: seconds since 1970 expected, the earlier one first"
  elseif type(given.submitter) ~= "string" or not core.dns_name(given.submitter) then
    return "submitter: the domain of who reports expected"
  elseif type(given.email) ~= "string" or not core.is_mailbox(given.email) then
    return "email: an address expected"
  end
  return plain(given.organization, "organization") or given.contact ~= nil and plain(given.contact, "contact") or nil
end

local function number(time)
  return ("%d"):format(time // 1 | 0)
end

local function add(report, row)
  report.messages = report.messages + 1
  local key = key_of(row)
  local known = report.known[key]
  if known then
    known.count = known.count + 1
  elseif #report.records < ROWS_MOST then
    known = { row = row, count = 1 }
    report.known[key] = known
    report.records[#report.records + 1] = known
  else
    report.left_out = report.left_out + 1
  end
  if row.time >= report.latest then -- what is published last is what is told
    report.latest, report.published, report.rua, report.method = row.time, row.published, row.rua, row.method
  end
end

--- Writes reports: one for each domain whose record was followed.
---@param given moonpost.dmarc.AggregateOptions
---@return moonpost.dmarc.AggregateReport[] reports by domain
function M.reports(given)
  local why = report_mistake(given)
  if why then
    error("dmarc.aggregate: " .. why, 2)
  end
  local of, list = {}, {}
  local count = 0
  for row in iterator(given.rows) do
    count = count + 1
    if not is_row(row) then
      error(("dmarc.aggregate: rows: entry %d: what dmarc.row returned is expected"):format(count), 2)
    end
    local report = of[row.record_domain]
    if not report then
      report = { record_domain = row.record_domain, known = {}, records = {}, messages = 0, left_out = 0, latest = -1 }
      of[row.record_domain] = report
      list[#list + 1] = report
    end
    add(report, row)
  end
  table.sort(list, function(a, b) return a.record_domain < b.record_domain end)
  local submitter = core.dns_name(given.submitter)
  for i, report in ipairs(list) do
    local random = core.random(8):gsub(".", function(octet) return ("%02x"):format(octet:byte()) end)
    local id = ("%s.%s.%s"):format(number(given.from), random, report.record_domain)
    local name = ("%s!%s!%s!%s!%s.xml"):format(submitter, report.record_domain, number(given.from), number(given.to), random)
    list[i] = {
      record_domain = report.record_domain, id = id, name = name, rua = report.rua, messages = report.messages, rows = #report.records,
      left_out = report.left_out, xml = xml.write(report, given, id), submitter = submitter,
    }
  end
  return list
end

-- ---- mail ----------------------------------------------------------------------------------------------------------

-- Lines of 76 characters (RFC 2045 6.8).
local function lines(text)
  return (text:gsub(("."):rep(76), "%0\r\n"):gsub("[^\n]$", "%0\r\n"))
end

local mail_names = { from = true, to = true, now = true }

--- A message that carries a report to one address (RFC 7489 7.2.1.1), for moonpost.send or a queue.
---@param report moonpost.dmarc.AggregateReport
---@param given { from: string, to: moonpost.dmarc.Address|string, now?: number }
---@return { from: string, to: string, message: string }? mail
---@return string? why the report is larger than its receiver wants it
function M.mail(report, given)
  if type(report) ~= "table" or type(report.xml) ~= "string" then
    local list = type(report) == "table" and report[1]
    error("dmarc.mail: a report of dmarc.aggregate expected" .. (list and ", one at a time" or ""), 2)
  elseif type(given) ~= "table" then
    error("dmarc.mail: a table with from and to expected", 2)
  end
  local why = stranger(given, mail_names)
  if why then
    error("dmarc.mail: " .. why, 2)
  end
  local to = type(given.to) == "table" and given.to or { address = given.to }
  local from, shown = compose.mailbox(given.from)
  if not from then
    error("dmarc.mail: from: " .. shown, 2)
  elseif type(to.address) ~= "string" or not core.is_mailbox(to.address) then
    error("dmarc.mail: to: an address expected", 2)
  end
  local packed = require("moonpost.gzip_core").pack(report.xml)
  if to.limit and #packed > to.limit then
    return nil, ("the report has %d octets, and %s takes %d"):format(#packed, to.address, to.limit)
  end
  local boundary = "=_" .. core.random(16):gsub(".", function(octet) return ("%02x"):format(octet:byte()) end)
  local head = {}
  for _, field in ipairs {
    { "Date", compose.date(given.now or core.time()) },
    { "From", shown },
    { "To", to.address },
    { "Subject", ("Report Domain: %s Submitter: %s Report-ID: <%s>"):format(report.record_domain, report.submitter, report.id) },
    { "Message-ID", ("<dmarc.%s@%s>"):format(boundary:sub(3), report.submitter) },
    { "Auto-Submitted", "auto-generated" },
    { "MIME-Version", "1.0" },
  } do
    head[#head + 1] = assert(compose.field(field[1], field[2]))
  end
  local text = ("This is an aggregate report about mail from %s, by %s.\r\n"):format(report.record_domain, report.submitter)
  return {
    from = from, to = to.address,
    message = table.concat {
      table.concat(head), ('Content-Type: multipart/mixed;\r\n boundary="%s"\r\n\r\n'):format(boundary),
      ("--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n%s\r\n"):format(boundary, text),
      ("--%s\r\nContent-Type: application/gzip\r\nContent-Transfer-Encoding: base64\r\n"):format(boundary),
      ('Content-Disposition: attachment;\r\n filename="%s.gz"\r\n\r\n'):format(report.name),
      lines(compose.base64(packed)), ("--%s--\r\n"):format(boundary),
    },
  }
end

return M
