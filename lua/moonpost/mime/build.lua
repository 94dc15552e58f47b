--- Builds messages and parts (RFC 2045, 2046, 2183, 2231, 2387): encodings chosen, files read while the message is sent.
local Error = require "moonpost.error"
local compose = require "moonpost.compose"
local core = require "moonpost.mime_core"
local suggest = require "moonpost.suggest"

local M = {}

local LINE = 57 -- octets of a line of base64: 76 characters (RFC 2045 6.8)
local BLOCK = LINE * 1024
local HARD = 998

local types = {
  txt = "text/plain", html = "text/html", htm = "text/html", csv = "text/csv", md = "text/markdown", ics = "text/calendar", vcf = "text/vcard",
  pdf = "application/pdf", json = "application/json", xml = "application/xml", zip = "application/zip", gz = "application/gzip",
  doc = "application/msword", xls = "application/vnd.ms-excel", ppt = "application/vnd.ms-powerpoint",
  docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
  xlsx = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
  pptx = "application/vnd.openxmlformats-officedocument.presentationml.presentation",
  odt = "application/vnd.oasis.opendocument.text", ods = "application/vnd.oasis.opendocument.spreadsheet",
  png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg", gif = "image/gif", svg = "image/svg+xml", webp = "image/webp",
  mp3 = "audio/mpeg", ogg = "audio/ogg", wav = "audio/wav", mp4 = "video/mp4", eml = "message/rfc822",
}

-- ---- header fields of a part --------------------------------------------------------------------------------------

local function percent(octet)
  return ("%%%02X"):format(octet:byte())
end

--- One parameter, as several where it is long or not ASCII (RFC 2231 3, 4).
local function parameter(name, value)
  if not value:find("[\x80-\xff]") and #value <= 60 then
    if value:find("^[%w!#$&+.^_`{|}~-]+$") then
      return { ("%s=%s"):format(name, value) }
    end
    return { ('%s="%s"'):format(name, (value:gsub('[\\"]', "\\%0"))) }
  end
  local coded = value:gsub("[^%w!#$&+.^_`{|}~-]", percent)
  local pieces, at = {}, 1
  while at <= #coded do
    local stop = math.min(at + 47, #coded)
    local cut = coded:sub(at, stop)
    if stop < #coded then -- no escape in two
      cut = cut:gsub("%%%x?$", "")
    end
    pieces[#pieces + 1] = cut
    at = at + #cut
  end
  if not pieces[2] then
    return { ("%s*=UTF-8''%s"):format(name, pieces[1]) }
  end
  for i, piece in ipairs(pieces) do
    pieces[i] = ("%s*%d*=%s%s"):format(name, i - 1, i == 1 and "UTF-8''" or "", piece)
  end
  return pieces
end

-- A value and its parameters, { { name, value }, ... }.
local function with_parameters(value, parameters)
  local out = { value }
  for _, one in ipairs(parameters) do
    for _, text in ipairs(parameter(one[1], one[2])) do
      out[#out + 1] = text
    end
  end
  return table.concat(out, "; ")
end

--- Fields as lines, folded behind semicolons.
---@param fields { [1]: string, [2]: string }[]
---@return string
function M.header(fields)
  local out = {}
  for _, field in ipairs(fields) do
    local line, why = compose.field(field[1], field[2])
    if not line then
      error(why, 0)
    end
    out[#out + 1] = line
  end
  return table.concat(out)
end

-- ---- bodies -------------------------------------------------------------------------------------------------------

local function base64(octets)
  return (core.encoder("base64"):finish(octets):gsub("\n+$", ""):gsub("\n", "\r\n"))
end

local function base64_size(size)
  local lines = (size + LINE - 1) // LINE
  return (size + 2) // 3 * 4 + math.max(0, lines - 1) * 2
end

-- A body of octets that are here, or of a file: a function that returns an iterator of its lines, and how many octets these have.
local function coded(octets)
  return function()
    local at = 1
    return function()
      if at <= #octets then
        local chunk = base64(octets:sub(at, at + BLOCK - 1))
        at = at + BLOCK
        return at <= #octets and chunk .. "\r\n" or chunk
      end
    end
  end, base64_size(#octets)
end

local function coded_file(path, size)
  return function()
    local file = assert(io.open(path, "rb"))
    local left = size
    return function()
      if left == 0 then
        if file then
          file:close()
          file = nil
        end
        return nil
      end
      local octets = file:read(math.min(BLOCK, left))
      if not octets or #octets < math.min(BLOCK, left) then
        file:close()
        error(("%s: it has become shorter while it was sent"):format(path), 0)
      end
      left = left - #octets
      return left > 0 and base64(octets) .. "\r\n" or base64(octets)
    end
  end, base64_size(size)
end

local function collides(text, boundaries)
  for _, boundary in ipairs(boundaries or {}) do
    if text:find("--" .. boundary, 1, true) then
      return true
    end
  end
end

-- Text as a body: as it is where every peer takes that, else what is shorter of the two encodings.
local function text_body(text, boundaries)
  local high = select(2, text:gsub("[\x80-\xff]", ""))
  if high * 3 > #text or text:find("\0", 1, true) then
    return "base64", coded((text:gsub("\r\n", "\n"):gsub("\n", "\r\n")))
  end
  local body, encoding = compose.body(text)
  if body:sub(-2) == "\r\n" and text:sub(-1) ~= "\n" then
    body = body:sub(1, -3)
  end
  if encoding == "7bit" and collides(body, boundaries) then
    return "base64", coded(body)
  end
  return encoding, body, #body
end

-- A message as a part has no encoding of its own (RFC 2046 5.2.1). nil: it cannot stand there.
local function message_body(octets, boundaries)
  octets = octets:gsub("\r\n", "\n"):gsub("\n", "\r\n")
  if octets:find("\0", 1, true) or collides(octets, boundaries) then
    return nil
  end
  local from = 1
  while from <= #octets do
    local stop = octets:find("\r\n", from, true) or #octets + 1
    if stop - from > HARD then
      return nil
    end
    from = stop + 2
  end
  return octets:find("[\x80-\xff]") and "8bit" or "7bit", octets, #octets
end

-- ---- one part -----------------------------------------------------------------------------------------------------

local part_names = {
  text = true, content = true, path = true, type = true, filename = true, disposition = true, id = true, description = true,
  charset = true, parameters = true,
}

local function clean(name, value)
  if value ~= nil and (type(value) ~= "string" or value:find("%c") or not utf8.len(value)) then
    return ("%s: a line of UTF-8 expected"):format(name)
  end
end

local function check(spec)
  for name in pairs(spec) do
    if not part_names[name] then
      return ('unknown name "%s"%s'):format(tostring(name), suggest.hint(name, part_names))
    end
  end
  local given = (spec.text ~= nil and 1 or 0) + (spec.content ~= nil and 1 or 0) + (spec.path ~= nil and 1 or 0)
  if given ~= 1 then
    return given == 0 and "one of text, content and path is needed" or "only one of text, content and path can be the part"
  elseif spec.text ~= nil and (type(spec.text) ~= "string" or not utf8.len(spec.text)) then
    return "text: a string of UTF-8 expected"
  elseif spec.content ~= nil and type(spec.content) ~= "string" then
    return "content: a string expected"
  elseif spec.path ~= nil and type(spec.path) ~= "string" then
    return "path: a string expected"
  elseif spec.type ~= nil and (type(spec.type) ~= "string" or not spec.type:find("^[%w!#$&^_.+-]+/[%w!#$&^_.+-]+$")) then
    return 'type: "type/subtype" expected'
  elseif spec.id ~= nil and (type(spec.id) ~= "string" or not spec.id:find("^[\x21-\x3b\x3d\x3f-\x7e]+$")) then
    return "id: printable characters without <, > and spaces expected"
  elseif spec.disposition ~= nil and spec.disposition ~= "attachment" and spec.disposition ~= "inline" then
    return 'disposition: "attachment" or "inline" expected'
  end
  local charset = type(spec.charset) == "string" and spec.charset:lower() or "utf-8"
  if spec.text ~= nil and charset ~= "utf-8" then
    return "charset: text is UTF-8; what is in another charset is given as content"
  end
  return clean("filename", spec.filename) or clean("description", spec.description) or clean("charset", spec.charset)
end

--- A part that is ready to be written: its header fields, and its body as a string or a function that returns an iterator of chunks.
---@class moonpost.mime.Ready
---@field fields { [1]: string, [2]: string }[]
---@field body string|fun(): fun(): string?
---@field size integer octets of the body

--- Makes one of `{ text | content | path, type, filename, disposition, id, description, charset }`; a string is text.
---@param spec table|string
---@param boundaries? string[] that must not be found in its lines
---@param kind? string the type when `spec` has none
---@return moonpost.mime.Ready|string|nil ready a string says what is wrong with `spec`
---@return moonpost.Error? err the file cannot be read
function M.part(spec, boundaries, kind)
  if type(spec) == "string" then
    spec = { text = spec }
  elseif type(spec) ~= "table" then
    return ("a string or a table expected, got a %s"):format(type(spec))
  end
  local why = check(spec)
  if why then
    return why
  end
  local filename = spec.filename or spec.path and spec.path:match("([^/]+)$")
  local of_name = filename and filename:match("%.(%w+)$")
  local type = (spec.type or kind or spec.text and "text/plain" or of_name and types[of_name:lower()] or "application/octet-stream"):lower()
  local encoding, body, size
  if spec.path then
    local file, reason = io.open(spec.path, "rb")
    local length = file and file:seek("end")
    local octets = length and type == "message/rfc822" and file:seek("set") and file:read("a")
    if file then
      file:close()
    end
    if not length or length == math.maxinteger then -- what a folder says
      return nil, Error("system", reason or spec.path .. ": no file", { path = spec.path })
    elseif octets then
      encoding, body, size = message_body(octets, boundaries)
    end
    if not body then
      body, size = coded_file(spec.path, length)
    end
  elseif spec.text or type:find("^text/") and utf8.len(spec.content) and not spec.charset then
    encoding, body, size = text_body(spec.text or spec.content, boundaries)
  elseif type == "message/rfc822" then
    encoding, body, size = message_body(spec.content, boundaries)
  end
  if not body then
    body, size = coded(spec.content)
  end
  if type == "message/rfc822" and not encoding then
    type = "application/octet-stream"
  end
  encoding = encoding or "base64"
  local parameters = {}
  if type:find("^text/") and (spec.text or not spec.path or spec.charset) then
    parameters[1] = { "charset", spec.charset or "utf-8" }
  end
  for _, one in ipairs(spec.parameters or {}) do
    parameters[#parameters + 1] = one
  end
  local fields = { { "Content-Type", with_parameters(type, parameters) }, { "Content-Transfer-Encoding", encoding } }
  local disposition = spec.disposition or filename and "attachment"
  if disposition then
    fields[#fields + 1] = { "Content-Disposition", with_parameters(disposition, { filename and { "filename", filename } }) }
  end
  if spec.id then
    fields[#fields + 1] = { "Content-ID", "<" .. spec.id .. ">" }
  end
  if spec.description then
    fields[#fields + 1] = { "Content-Description", compose.encode(spec.description) }
  end
  return { fields = fields, body = body, size = size, eight_bit = encoding == "8bit" }
end

-- ---- multiparts ---------------------------------------------------------------------------------------------------

local function boundary()
  return ("=_%08x%08x%08x"):format(math.random(0) & 0xffffffff, math.random(0) & 0xffffffff, math.random(0) & 0xffffffff)
end

-- Parts as one; "=_" stands in no encoding, and what is not encoded does not guess the rest.
local function multipart(subtype, parts, parameters)
  if #parts == 1 then
    return parts[1]
  end
  local mark = boundary()
  local all = { { "boundary", mark } }
  table.move(parameters or {}, 1, #(parameters or {}), 2, all)
  local size, heads, eight_bit = #mark + 6, {}, false
  for i, part in ipairs(parts) do
    heads[i] = ("%s--%s\r\n%s\r\n"):format(i > 1 and "\r\n" or "", mark, M.header(part.fields))
    size = size + #heads[i] + part.size
    eight_bit = eight_bit or part.eight_bit
  end
  local tail = ("\r\n--%s--\r\n"):format(mark)
  local fields = { { "Content-Type", with_parameters("multipart/" .. subtype, all) } }
  if eight_bit then
    fields[2] = { "Content-Transfer-Encoding", "8bit" }
  end
  return {
    fields = fields, size = size + 2, eight_bit = eight_bit, body = function()
      local i, inside = 0, nil
      return function()
        local chunk = inside and inside()
        if chunk then
          return chunk
        elseif i > #parts then
          return nil
        end
        i = i + 1
        inside = i <= #parts and M.body_chunks(parts[i]) or nil
        return heads[i] or tail
      end
    end,
  }
end

--- The body of what is ready, piece by piece.
---@param ready moonpost.mime.Ready
---@return fun(): string?
function M.body_chunks(ready)
  if type(ready.body) == "function" then
    return ready.body()
  end
  local body = ready.body
  return function()
    local chunk = body
    body = nil
    return chunk ~= "" and chunk or nil
  end
end

--- Header and body, piece by piece.
---@param ready moonpost.mime.Ready
---@return fun(): string?
function M.chunks(ready)
  local head, rest = M.header(ready.fields) .. "\r\n", M.body_chunks(ready)
  return function()
    local chunk = head or rest()
    head = nil
    return chunk
  end
end

-- ---- messages -----------------------------------------------------------------------------------------------------

-- A list of parts; one part alone is a list too.
local function parts_of(name, list, complete)
  if list == nil then
    return {}
  elseif type(list) == "string" or type(list) == "table" and (list.text or list.content or list.path) then
    list = { list }
  elseif type(list) ~= "table" then
    return nil, ("%s: a list expected, got a %s"):format(name, type(list))
  end
  local out = {}
  for i, spec in ipairs(list) do
    spec = type(spec) == "string" and { path = spec } or spec
    local ready, err
    if type(spec) == "table" then
      ready, err = M.part(complete(spec))
    else
      ready = ("a path or a table expected, got a %s"):format(type(spec))
    end
    if not ready then
      return nil, err
    elseif type(ready) == "string" then
      return nil, ("%s: entry %d: %s"):format(name, i, ready)
    end
    out[i] = ready
  end
  return out
end

local function with(spec, name, value)
  local copy = {}
  for key, one in pairs(spec) do
    copy[key] = one
  end
  copy[name] = copy[name] or value
  return copy
end

-- An invitation (RFC 6047 2.4): its method stands in the type too, as those who show it expect.
local function calendar_part(calendar)
  local text = calendar
  if type(calendar) == "table" then
    for name in pairs(calendar) do
      if name ~= "text" and name ~= "method" then
        return nil, ('calendar: unknown name "%s"%s'):format(tostring(name), suggest.hint(name, { text = true, method = true }))
      end
    end
    text = calendar.text
  end
  if type(text) ~= "string" or not utf8.len(text) then
    return nil, "calendar: a string of UTF-8 expected, or a table of text and method"
  end
  local method = type(calendar) == "table" and calendar.method or text:match("\nMETHOD:([%w-]+)") or "REQUEST"
  if type(method) ~= "string" or not method:find("^[%w-]+$") then
    return nil, "calendar: method: a word expected"
  end
  return M.part({ text = text, parameters = { { "method", method:upper() } } }, nil, "text/calendar")
end

local names = { from = true, to = true, cc = true, bcc = true, reply_to = true, subject = true, text = true, html = true,
  attachments = true, inline = true,
  calendar = true, headers = true, date = true, id = true }

local function body_of(of)
  for _, name in ipairs { "text", "html" } do
    if of[name] ~= nil and (type(of[name]) ~= "string" or not utf8.len(of[name])) then
      return nil, name .. ": a string of UTF-8 expected"
    end
  end
  local attachments, err = parts_of("attachments", of.attachments, function(spec)
    return with(spec, "disposition", "attachment")
  end)
  if not attachments then
    return nil, err
  end
  local inline
  inline, err = parts_of("inline", of.inline, function(spec)
    return with(with(spec, "disposition", "inline"), "id", (spec.filename or spec.path or ""):match("([^/]+)$"))
  end)
  if not inline then
    return nil, err
  elseif inline[1] and not of.html then
    return nil, "inline: there is no html that could show it"
  end
  local ways = {}
  if of.text or not of.html and not of.calendar and not attachments[1] then
    ways[1] = M.part({ text = of.text or "" })
  end
  if of.html then
    table.insert(inline, 1, M.part({ text = of.html, type = "text/html" }))
    ways[#ways + 1] = multipart("related", inline, { { "type", "text/html" } })
  end
  if of.calendar then
    local part
    part, err = calendar_part(of.calendar)
    if not part then
      return nil, err
    end
    ways[#ways + 1] = part
  end
  if ways[1] then
    table.insert(attachments, 1, multipart("alternative", ways))
  end
  return multipart("mixed", attachments)
end

---@class moonpost.Made a message that was built
local Made = {}
M.methods = Made
local Made_mt = { __name = "moonpost.Made", __metatable = "moonpost.Made", __index = Made }

--- Its octets piece by piece; files are read meanwhile. May be asked for again.
---@return fun(): string?
function Made:chunks()
  local head, rest = self._head, M.body_chunks(self._ready)
  return function()
    local chunk = head or rest()
    head = nil
    return chunk
  end
end

--- How many octets it has.
---@return integer
function Made:size()
  return #self._head + self._ready.size
end

--- All of it as one string.
---@return string
function Made:octets()
  local list = {}
  for chunk in self:chunks() do
    list[#list + 1] = chunk
  end
  return table.concat(list)
end

Made_mt.__tostring = Made.octets

--- Builds a message; what is wrong with `of` comes back as a sentence, what is wrong with a file as an error.
---@param of table
---@return moonpost.Made? made
---@return string|moonpost.Error|nil why
function M.build(of)
  local ready, err = body_of(of)
  if not ready then
    return nil, err
  end
  local wrong = compose.mistake_in("bcc", of.bcc) -- it stands in no header, where it would be seen
  if wrong then
    return nil, wrong
  end
  local head
  head, err = compose.head(of, ready.fields)
  if not head then
    return nil, err
  end
  return setmetatable({
    _head = head, _ready = ready, eight_bit = ready.eight_bit or false, from = of.from, to = of.to, cc = of.cc, bcc = of.bcc,
  }, Made_mt)
end

--- moonpost.message: a message of `{ from, to, cc, bcc, reply_to, subject, text, html, attachments, inline, calendar, headers, date, id }`.
---@param of table
---@return moonpost.Made? made
---@return moonpost.Error? err a file cannot be read
function M.message(of)
  if type(of) ~= "table" then
    error(("moonpost.message: a table expected, got a %s"):format(type(of)), 2)
  end
  for name in pairs(of) do
    if not names[name] then
      error(("moonpost.message: unknown option %q%s"):format(tostring(name), suggest.hint(name, names)), 2)
    end
  end
  local made, why = M.build(of)
  if type(why) == "string" then
    error("moonpost.message: " .. why, 2)
  end
  return made, why
end

return M
