--- What a message is made of (RFC 2045, 2046): the tree of its parts, found in one pass that keeps offsets and no bodies, and changes that leave
--- every
--- octet of the other parts as it is.
local Error = require "moonpost.error"
local core = require "moonpost.mime_core"
local part = require "moonpost.mime.part"
local suggest = require "moonpost.suggest"
local value = require "moonpost.mime.value"

local M = {}

local CHUNK = 65536

--- Against messages made to cost their reader more than they cost their sender. `depth` of nesting, the message itself is 1; `parts` in all;
--- `header`: octets of
--- all header fields; `content`: octets of what is handed out as one string.
M.defaults = { depth = 100, parts = 10000, header = 4 << 20, content = 64 << 20 }

local said = {
  depth = "parts of the message are nested deeper than %d",
  parts = "the message has more than %d parts",
  header = "the header fields of the message's parts are over %d octets",
}

-- ---- where octets come from ---------------------------------------------------------------------------------------

-- Each has read(at, most) -> octets, fewer than `most` perhaps; "" at the end. Offsets count from 0.

local Octets = {}
Octets.__index = Octets

function Octets:read(at, most)
  return self.octets:sub(at + 1, at + most)
end

local Received = {}
Received.__index = Received

--- Offsets are those of the scan; edits of the header since then have moved the body.
function Received:read(at, most)
  local octets, why = self.core:read(at + self.core:header_size() - self.head, most)
  if not octets then
    error("the message cannot be read: " .. tostring(why), 0)
  end
  return octets
end

local function is_message(from)
  return type(from) == "table" and getmetatable(from) == "moonpost.Message"
end

local function source_of(from)
  if is_message(from) then
    return setmetatable({ core = from._core, head = from._core:header_size() }, Received), from
  elseif type(from) == "string" then
    return setmetatable({ octets = from }, Octets)
  elseif type(from) == "table" and getmetatable(from) == "moonpost.Made" then
    return setmetatable({ octets = from:octets() }, Octets)
  end
  error(("mime.parse: a message or octets expected, got a %s"):format(type(from)), 3)
end

-- ---- the tree -----------------------------------------------------------------------------------------------------

---@class moonpost.mime.Tree
local Tree = {}
M.methods = Tree
local Tree_mt = { __name = "moonpost.mime.Tree", __metatable = "moonpost.mime.Tree", __index = Tree }

local function check_limits(options)
  local limits = {}
  for name in pairs(options or {}) do
    if not M.defaults[name] then
      error(('mime.parse: unknown limit "%s"%s'):format(tostring(name), suggest.hint(name, M.defaults)), 3)
    end
  end
  for name, default in pairs(M.defaults) do
    local limit = options and options[name] or default
    if math.type(limit) ~= "integer" or limit < 1 or limit > 0x7fffffff then
      error(("mime.parse: %s: a whole number from 1 on expected"):format(name), 3)
    end
    limits[name] = limit
  end
  return limits
end

local function scan(source, limits)
  local scanner = core.scan(limits.depth, limits.parts, limits.header)
  local at = 0
  local chunk = source:read(at, CHUNK)
  local ok, limit = scanner:feed(chunk)
  while ok and chunk ~= "" do
    at = at + #chunk
    chunk = source:read(at, CHUNK)
    ok, limit = scanner:feed(chunk)
  end
  if ok then
    ok, limit = scanner:finish()
  end
  if ok then
    return scanner, at
  end
  scanner:close()
  return nil, Error("limit", said[limit]:format(limits[limit]), { limit = limit, temporary = false })
end

--- Reads a message: a received one, as its header stands now, or octets.
---@param from moonpost.Message|moonpost.Made|string
---@param limits? { depth?: integer, parts?: integer, header?: integer, content?: integer }
---@return moonpost.mime.Tree? tree
---@return moonpost.Error? err kind "limit", its `limit` one of "depth", "parts", "header"
function M.parse(from, limits)
  limits = check_limits(limits)
  local source, message = source_of(from)
  local scanner, size = scan(source, limits)
  if not scanner then
    return nil, size
  end
  local tree = setmetatable({
    limits = limits, size = size, _scan = scanner, _source = source, _message = message, _parts = {}, _edits = {},
  }, Tree_mt)
  tree.root = tree:part(1)
  return tree
end

--- How many parts there are, the message itself among them.
---@return integer
function Tree:count()
  return self._scan:count()
end

--- The part of that number, in the order of the message; 1 is the message itself.
---@param index integer
---@return moonpost.mime.Part
function Tree:part(index)
  local found = self._parts[index]
  if not found then
    found = part.new(self, index)
    self._parts[index] = found
  end
  return found
end

--- All parts in the order of the message: for part in tree:each() do ... end.
---@return fun(): moonpost.mime.Part?
function Tree:each()
  local index, count = 0, self:count()
  return function()
    index = index + 1
    return index <= count and self:part(index) or nil
  end
end

-- ---- bodies and attachments ---------------------------------------------------------------------------------------

local media = { image = true, audio = true, video = true }

local function is_media(one)
  return media[one.type:match("^[^/]*")] or false
end

-- RFC 8621 4.1.4: whether a part is shown where it stands, the `i`th of a multipart of that subtype.
local function shown(one, i, subtype)
  local text = one.type == "text/plain" or one.type == "text/html"
  return one.kind == "leaf" and one.disposition ~= "attachment" and (text or is_media(one))
    and (i == 1 or subtype ~= "related" and (is_media(one) or not one.filename))
end

local function sort(list, subtype, alternative, out)
  local html, text = out.html and #out.html, out.text and #out.text
  for i, one in ipairs(list) do
    if one.kind == "multipart" then
      local inner = one.type:match("/(.*)$")
      local into = { html = out.html, text = out.text, attachments = out.attachments }
      sort(one.children, inner, alternative or inner == "alternative", into)
    elseif not shown(one, i, subtype) then
      table.insert(out.attachments, one)
    elseif subtype == "alternative" then
      local to = one.type == "text/plain" and out.text or one.type == "text/html" and out.html
      if one.type ~= "text/plain" and one.type ~= "text/html" then
        to = out.attachments
      end
      if to then
        table.insert(to, one)
      end
    else
      if alternative and one.type == "text/plain" then
        out.html = nil
      elseif alternative and one.type == "text/html" then
        out.text = nil
      end
      for _, to in ipairs { out.text or {}, out.html or {} } do
        table.insert(to, one)
      end
      if is_media(one) then -- whoever looks for attachments looks for these too
        table.insert(out.attachments, one)
      end
    end
  end
  if subtype == "alternative" and out.text and out.html and text and html then
    if #out.text == text and #out.html ~= html then -- HTML alone was there: it is what there is of text too
      table.move(out.html, html + 1, #out.html, text + 1, out.text)
    elseif #out.html == html and #out.text ~= text then
      table.move(out.text, text + 1, #out.text, html + 1, out.html)
    end
  end
end

local function sorted(self)
  if not self._sorted then
    self._sorted = { text = {}, html = {}, attachments = {} }
    sort({ self.root }, "mixed", false, self._sorted)
  end
  return self._sorted
end

--- What a mail reader shows: the parts of the body, in order, where "text" or "html" is preferred (RFC 8621 4.1.4). Among them are images that
--- stand between
--- texts, and text of the other kind where there is none of this.
---@param prefer "text"|"html"
---@return moonpost.mime.Part[]
function Tree:body(prefer)
  if prefer ~= "text" and prefer ~= "html" then
    error('tree:body: "text" or "html" expected', 2)
  end
  return table.move(sorted(self)[prefer], 1, #sorted(self)[prefer], 1, {})
end

--- Everything that is not the body: attachments, images that the HTML shows, messages inside.
---@return moonpost.mime.Part[]
function Tree:attachments()
  return table.move(sorted(self).attachments, 1, #sorted(self).attachments, 1, {})
end

--- The images that are to be shown inside of the text: those without the disposition "attachment".
---@return moonpost.mime.Part[]
function Tree:inline_images()
  local list = {}
  for one in self:each() do
    if one.kind == "leaf" and one.disposition ~= "attachment" and one.type:find("^image/") then
      list[#list + 1] = one
    end
  end
  return list
end

local function best(self, prefer, type)
  local texts, left = {}, self.limits.content
  for _, one in ipairs(sorted(self)[prefer]) do
    if one.type == type then
      local text, err = one:text(math.max(1, left))
      if not text then
        return nil, err
      end
      texts[#texts + 1] = text
      left = left - #text
    end
  end
  if not texts[1] then
    return nil, Error("mime", ("the message has no %s body"):format(type), { temporary = false })
  end
  return table.concat(texts, "\n")
end

--- The best text/plain body as UTF-8; several that are shown one behind the other are joined by a line end.
---@return string? text
---@return moonpost.Error? err kind "mime": there is none; "limit"
function Tree:text()
  return best(self, "text", "text/plain")
end

--- The best text/html body as UTF-8.
---@return string? html
---@return moonpost.Error? err kind "mime": there is none; "limit"
function Tree:html()
  return best(self, "html", "text/html")
end

-- ---- changes ------------------------------------------------------------------------------------------------------

-- An edit: the octets from `from` to `to` become `body`, a string or a function that returns an iterator of chunks. Those of a part that is
-- replaced as
-- a whole are dropped; what is gone cannot be changed any more.
local function edit(self, verb, from, to, body)
  local kept = {}
  for _, other in ipairs(self._edits) do
    if other.from <= from and to <= other.to and not (other.from == from and other.to == to) then
      error(("part:%s: what it stood in has been replaced or removed"):format(verb), 4)
    elseif not (from <= other.from and other.to <= to) then
      kept[#kept + 1] = other
    end
  end
  kept[#kept + 1] = { from = from, to = to, body = body }
  table.sort(kept, function(a, b)
    return a.from < b.from
  end)
  self._edits = kept
  self.changed = true
end

local EMPTY = "Content-Type: text/plain; charset=us-ascii\r\n\r\n"

local function check_root(one, verb)
  if one._parent and one.parent.kind == "message" then
    error(("part:%s: the root of a message inside; take the part that holds it"):format(verb), 4)
  end
end

function Tree:_remove(one)
  check_root(one, "remove")
  if not one._parent then
    self._root_header = { { "Content-Type", "text/plain; charset=us-ascii" } }
    return edit(self, "remove", one._body, one._end, "")
  end
  for _, sibling in ipairs(one.parent.children) do
    if sibling ~= one and not rawget(sibling, "_removed") then
      rawset(one, "_removed", true)
      return edit(self, "remove", one._begin, one._finish, "")
    end
  end
  edit(self, "remove", one._header, one._end, EMPTY)
end

function Tree:_replace(one, by)
  check_root(one, "replace")
  if rawget(one, "_removed") then
    error("part:replace: it has been removed", 3)
  end
  local build = require "moonpost.mime.build"
  local boundaries, at = {}, one.parent
  while at do
    boundaries[#boundaries + 1] = at.parameters.boundary
    at = at.parent
  end
  local made, err = build.part(by, boundaries)
  if type(made) == "string" then
    error("part:replace: " .. made, 3)
  elseif not made then
    return nil, err
  end
  if one._parent then
    edit(self, "replace", one._header, one._end, function()
      return build.chunks(made)
    end)
  else
    self._root_header = made.fields
    edit(self, "replace", one._body, one._end, function()
      return build.body_chunks(made)
    end)
  end
  return one
end

-- The top header, octets: its Content- fields give way to those of the new body.
local function root_header(self)
  local octets = self._scan:header(1)
  if not self._root_header then
    return octets
  end
  local fields = require("moonpost.mime.fields").new(octets)
  local out = {}
  for at = 1, fields:field_count() do
    local name, _, raw = fields:field(at)
    name = name:lower()
    if not name:find("^content%-") and name ~= "mime-version" then
      out[#out + 1] = raw:find("\n$") and raw or raw .. "\r\n"
    end
  end
  out[#out + 1] = "MIME-Version: 1.0\r\n"
  out[#out + 1] = require("moonpost.mime.build").header(self._root_header)
  return table.concat(out)
end

-- The octets from `at` on, edits in place.
local function changed(self, at, most)
  local edits, i, inside = self._edits, 1, nil
  return function()
    while true do
      if inside then
        local chunk = inside()
        if chunk then
          return chunk
        end
        inside = nil
      end
      local next_edit = edits[i]
      local stop = next_edit and next_edit.from or self.size
      if at < stop then
        local chunk = self._source:read(at, math.min(most or CHUNK, stop - at))
        if chunk == "" then
          error("the message ends before its parts do", 2)
        end
        at = at + #chunk
        return chunk
      elseif not next_edit then
        return nil
      end
      i, at = i + 1, next_edit.to
      local body = next_edit.body
      if type(body) == "function" then
        inside = body()
      elseif body ~= "" then
        return body
      end
    end
  end
end

--- The message as it is with the changes, piece by piece.
---@param most? integer octets of a piece
---@return fun(): string?
function Tree:chunks(most)
  local rest = changed(self, self._root_header and self.root._body or 0, most)
  local head = self._root_header and root_header(self) .. "\r\n"
  return function()
    if head then
      local octets = head
      head = nil
      return octets
    end
    return rest()
  end
end

--- The same as one string.
---@return string
function Tree:octets()
  local list = {}
  for chunk in self:chunks() do
    list[#list + 1] = chunk
  end
  return table.concat(list)
end

local of_body = {
  "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Content-ID", "Content-Description", "MIME-Version",
}

--- Writes the changes into the received message that the tree was made of: what is delivered, forwarded or kept from now on. The tree is over
--- then; make another
--- one to look at what has become of it. Fields of the header that were edited stay so.
---@async
---@return true? done
---@return moonpost.Error? err kind "system": no memory or disk space
function Tree:apply()
  local message = self._message
  if not message then
    error("tree:apply: not of a received message; tree:chunks() gives what it has become", 2)
  elseif self._applied then
    error("tree:apply: its changes are in the message already; message:mime() reads it again", 2)
  elseif not self.changed then
    return true
  end
  local ok, err = require("moonpost.mime.apply")(message, changed(self, self.root._body))
  if not ok then
    return nil, err
  end
  self._applied, message._tree = true, false
  if self._root_header then
    for _, name in ipairs(of_body) do
      message:remove(name)
    end
    message:append("MIME-Version", "1.0")
    for _, field in ipairs(self._root_header) do
      message:append(field[1], field[2])
    end
  end
  return true
end

-- ---- values of header fields --------------------------------------------------------------------------------------

M.decode = value.text
M.addresses = value.addresses
M.date = value.date
M.ids = value.ids
M.list = value.list
M.parameters = value.parameters

return M
