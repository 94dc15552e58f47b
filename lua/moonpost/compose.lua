--- A message of text, for scripts that have something to say: header fields in order (RFC 5322), UTF-8 made fit for every
--- peer (RFC 2047, quoted-printable).
local core = require "moonpost.core"
local trim = require "moonpost.trim"

local M = {}

local LINE = 78 -- octets that a header line has where it can be folded (RFC 5322 2.1.1)
local HARD = 998
local DATE_END = 253402300800 -- seconds; a Date field has four digits for the year
local WORD = 42 -- octets of text in an encoded word: 56 in base64, 68 with what stands around them (RFC 2047 2: at most 75), and "Subject: "

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(octets)
  return (octets:gsub("..?.?", function(three)
    local a, b, c = three:byte(1, 3)
    local bits = a << 16 | (b or 0) << 8 | (c or 0)
    local out = {}
    for i = 1, 4 do
      local at = bits >> (24 - 6 * i) & 63
      out[i] = i <= #three + 1 and alphabet:sub(at + 1, at + 1) or "="
    end
    return table.concat(out)
  end))
end

--- Octets in base64, in one line.
---@param octets string
---@return string
M.base64 = base64

--- Encoded words, each of whole characters.
local function encode_words(text)
  local words, piece = {}, ""
  for character in text:gmatch("[\0-\x7f\xc2-\xf4][\x80-\xbf]*") do
    if #piece + #character > WORD then
      words[#words + 1], piece = piece, ""
    end
    piece = piece .. character
  end
  words[#words + 1] = piece
  for i, word in ipairs(words) do
    words[i] = ("=?UTF-8?B?%s?="):format(base64(word))
  end
  return table.concat(words, " ")
end

--- Text as a header may hold it: as it is, or in encoded words when it is not ASCII or looks like one.
---@param text string UTF-8
---@return string
function M.encode(text)
  if text:find("[\x80-\xff]") or text:find("=?", 1, true) then
    return encode_words(text)
  end
  return text
end

--- Folds at spaces, where there are some.
local function fold(name, value)
  local out, line = {}, name .. ":"
  for word in value:gmatch("[^ ]+") do
    if #line + 1 + #word > LINE and line ~= name .. ":" then
      out[#out + 1], line = line, ""
    end
    line = line .. " " .. word
  end
  out[#out + 1] = line
  return table.concat(out, "\r\n")
end

--- One header field as lines with CRLF. Runs of spaces may become one where it is folded.
---@param name string
---@param value string one line, UTF-8
---@return string? lines
---@return string? why
function M.field(name, value)
  if type(name) ~= "string" or not name:find("^[\x21-\x39\x3b-\x7e]+$") then
    return nil, ('"%s" is no name of a header field'):format(tostring(name):gsub("%c", "?"))
  elseif type(value) ~= "string" and type(value) ~= "number" then
    return nil, ("%s: a string expected, got a %s"):format(name, type(value))
  end
  value = tostring(value)
  if value:find("[%c]") then
    return nil, ("%s: a line break or control character in its value"):format(name)
  elseif not utf8.len(value) then
    return nil, ("%s: its value is not UTF-8"):format(name)
  end
  local whole = ("%s: %s"):format(name, value)
  if #whole > LINE then
    whole = fold(name, value)
    for line in whole:gmatch("[^\r\n]+") do
      if #line > HARD then
        return nil, ("%s: a word over %d octets, which no line can hold"):format(name, HARD)
      end
    end
  end
  return whole .. "\r\n"
end

--- The address with its domain in A-labels, where that makes it ASCII; nil where it is ASCII already, or cannot be.
---@param address string
---@return string?
function M.ascii(address)
  if not address:find("[\x80-\xff]") then
    return nil
  end
  local localpart, domain = address:match("^(.*)@([^@]*)$")
  if not localpart or localpart:find("[\x80-\xff]") then
    return nil
  end
  local name = core.dns_name(domain)
  return name and localpart .. "@" .. name
end

--- "Ann Lee <ann@example.org>" or "ann@example.org": the address, and how a header writes it.
---@param text any
---@return string? address
---@return string shown_or_why
function M.mailbox(text)
  if type(text) ~= "string" then
    return nil, ("an address expected, got a %s"):format(type(text))
  elseif text:find("%c") then
    return nil, "a line break or control character in an address"
  end
  local name, address = text:match("^%s*(.-)%s*<([^<>]*)>%s*$")
  address = address or trim(text)
  if not core.mailbox(address, true) then
    local hint = text:find("[,;]") and "; several are a list of strings"
      or text ~= "" and not text:find("@", 1, true) and "; its domain is missing" or ""
    return nil, ('"%s" is no address%s'):format(text, hint)
  end
  local shown = M.ascii(address) or address -- so that a peer without SMTPUTF8 can carry the header
  if not name or name == "" then
    return address, shown
  end
  name = name:match('^"(.*)"$') and name:sub(2, -2):gsub("\\(.)", "%1") or name
  if name:find("[\x80-\xff]") or name:find("=?", 1, true) then
    return address, ("%s <%s>"):format(encode_words(name), shown)
  elseif name:find("[^%w !#$%%&'*+/=?^_`{|}~-]") then
    return address, ('"%s" <%s>'):format(name:gsub('[\\"]', "\\%0"), shown)
  end
  return address, ("%s <%s>"):format(name, shown)
end

local function quoted(octet)
  return ("=%02X"):format(octet:byte())
end

-- One line of quoted-printable, in pieces of 76 octets (RFC 2045 6.7).
local function quote_line(line, out)
  line = line:gsub("[^\t\x20-\x3c\x3e-\x7e]", quoted):gsub("[\t ]$", quoted)
  local from = 1 -- nothing is cut off: of a line of many megabytes that would take hours
  while #line - from >= 76 do
    local cut = from + 74
    if line:byte(cut) == 61 then -- "=" of an escape that would be cut
      cut = cut - 1
    elseif line:byte(cut - 1) == 61 then
      cut = cut - 2
    end
    out[#out + 1] = line:sub(from, cut) .. "=\r\n"
    from = cut + 1
  end
  out[#out + 1] = line:sub(from) .. "\r\n"
end

--- Text as a body and the encoding it needs: every line ends with CRLF.
---@param text string UTF-8
---@return string body
---@return "7bit"|"quoted-printable" encoding
function M.body(text)
  text = text:gsub("\r\n", "\n"):gsub("\r", "\n")
  if text ~= "" and text:sub(-1) ~= "\n" then
    text = text .. "\n"
  end
  local plain = not text:find("[\0\x80-\xff]")
  for line in text:gmatch("[^\n]+") do
    plain = plain and #line <= HARD
  end
  if plain then
    return (text:gsub("\n", "\r\n")), "7bit"
  end
  local out = {}
  for line in text:gmatch("([^\n]*)\n") do
    quote_line(line, out)
  end
  return table.concat(out), "quoted-printable"
end

local days = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
local months = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" }

--- A time as a Date field has it, whatever the locale (RFC 5322 3.3).
---@param time? number seconds since 1970
---@return string
function M.date(time)
  local t = os.date("!*t", time and time // 1 | 0)
  return ("%s, %d %s %04d %02d:%02d:%02d +0000"):format(days[t.wday], t.day, months[t.month], t.year, t.hour, t.min,
    t.sec)
end

local count = 0

local function message_id(domain)
  count = count + 1
  return ("<%x.%x.%x@%s>"):format((core.time() * 1000000) // 1 | 0, math.random(0) & 0xffffffffffff, count, domain)
end

local function list(value)
  if type(value) == "table" and not value.address then
    return value
  end
  return { value }
end

-- "reply_to" is "Reply-To".
local address_fields = { { "to", "To" }, { "cc", "Cc" }, { "reply_to", "Reply-To" } }

local function addresses(out, name, value)
  local shown = {}
  for i, one in ipairs(list(value)) do
    local address, text = M.mailbox(type(one) == "table" and one.address or one)
    if not address then
      return ("%s: %s"):format(name:lower():gsub("-", "_"), text)
    end
    shown[i] = text
  end
  if shown[1] then
    local line, why = M.field(name, table.concat(shown, ", "))
    out[#out + 1] = line
    return why
  end
end

--- What is wrong with addresses that no header shows, if anything is.
---@param name string for the sentence
---@param value any as `to` is given
---@return string? why
function M.mistake_in(name, value)
  return value ~= nil and addresses({}, name, value) or nil
end

--- Fields as lines: what a script adds of its own. `has` gets their names.
---@param out string[]
---@param headers table
---@param has table<string, true>
---@return string? why
function M.more_fields(out, headers, has)
  if type(headers) ~= "table" then
    return ('headers: a list such as { "Name: value" } expected, got a %s'):format(type(headers))
  end
  for name in pairs(headers) do
    if type(name) == "string" then -- a table has no order, and a header does
      return ('headers: a list such as { "Name: value" } expected, got one with the name "%s"'):format((name:gsub("%c", "?")))
    end
  end
  for _, field in ipairs(headers) do
    local name, value
    if type(field) == "table" then
      name, value = field[1], field[2]
    elseif type(field) == "string" then
      name, value = field:match("^([^:]*):%s*(.*)$")
    end
    if name == nil then
      return ('headers: "Name: value" expected, got "%s"'):format(tostring(field):gsub("%c", "?"))
    end
    local line, why = M.field(name, type(value) == "string" and utf8.len(value) and M.encode(value) or value)
    if not line then
      return "headers: " .. why
    end
    out[#out + 1] = line
    has[name:lower()] = true
  end
end

--- The header of a message of `{ from =, to =, cc =, reply_to =, subject =, date =, id =, headers = { { "Name", "value" }, "Name: value" } }`,
--- with the empty
--- line behind it. Date, Message-ID and the MIME fields are added unless `headers` has them.
---@param of table
---@param mime { [1]: string, [2]: string }[] what the body needs
---@return string? lines
---@return string? why
function M.head(of, mime)
  local own, has = {}, {}
  local why = M.more_fields(own, of.headers or {}, has)
  if why then
    return nil, why
  end
  local date = of.date == nil and core.time() or of.date
  if not math.type(date) or date < 0 or date >= DATE_END then
    return nil, ("date: seconds since 1970 expected, got %s"):format(math.type(date) and tostring(date) or "a " .. type(date))
  end
  local id = of.id
  if id ~= nil and (type(id) ~= "string" or not id:find("^<?[\x21-\x3b\x3d\x3f-\x7e]+@[\x21-\x3b\x3d\x3f-\x7e]+>?$")) then
    return nil, 'id: "left@right" expected'
  end
  local out = {}
  local function add(name, value)
    if value ~= nil and not why and not has[name:lower()] then
      local line
      line, why = M.field(name, value)
      out[#out + 1] = line
    end
  end
  local from_address, from = M.mailbox(of.from)
  if not from_address and of.from ~= "" and of.from ~= nil then
    return nil, "from: " .. from
  end
  add("Date", M.date(date))
  add("From", from_address and from or nil)
  for _, field in ipairs(address_fields) do
    if of[field[1]] ~= nil and not why and not has[field[2]:lower()] then
      why = addresses(out, field[2], of[field[1]])
    end
  end
  if of.subject ~= nil and type(of.subject) ~= "string" then
    return nil, ("subject: a string expected, got a %s"):format(type(of.subject))
  end
  add("Subject", of.subject and (utf8.len(of.subject) and M.encode(of.subject) or of.subject))
  add("Message-ID", id and "<" .. id:gsub("[<>]", "") .. ">" or message_id(from_address and from_address:match("@([%w.-]+)$") or "localhost"))
  add("MIME-Version", "1.0")
  for _, field in ipairs(mime) do
    add(field[1], field[2])
  end
  if why then
    return nil, why
  end
  return table.concat(out) .. table.concat(own) .. "\r\n"
end

--- A message of text, `{ text =, ... }` with what M.head takes.
---@param of table
---@return string? octets CRLF at every line's end
---@return string? why
function M.message(of)
  if of.text ~= nil and (type(of.text) ~= "string" or not utf8.len(of.text)) then
    return nil, "text: a string of UTF-8 expected"
  end
  local body, encoding = M.body(of.text or "")
  local head, why = M.head(of, { { "Content-Type", "text/plain; charset=utf-8" }, { "Content-Transfer-Encoding", encoding } })
  if not head then
    return nil, why
  end
  return head .. body
end

return M
