--- A part of a message: what it says of itself, its content, and what a script makes of it.
local Error = require "moonpost.error"
local core = require "moonpost.mime_core"
local fields = require "moonpost.mime.fields"
local headers = require "moonpost.headers"
local value = require "moonpost.mime.value"

local M = {}

local CHUNK = 65536

---@class moonpost.mime.Part
local Part = {}
M.methods = Part

-- Looked up when somebody asks.
local lazy = {}

local Part_mt = { __name = "moonpost.mime.Part", __metatable = "moonpost.mime.Part" }

function Part_mt.__index(self, key)
  local found = Part[key]
  if found ~= nil then
    return found
  elseif lazy[key] then
    found = lazy[key](self)
    if found ~= nil then
      rawset(self, key, found)
    end
    return found
  end
end

local function of_field(name)
  return function(self)
    local at = self._fields:find(name)
    if at then
      local _, _, raw = self._fields:field(at)
      local found, parameters = value.parameters(raw:match(":(.*)$"))
      return { found, parameters }
    end
    return { nil, {} }
  end
end

function lazy:_fields()
  return fields.new(self._tree._scan:header(self.index))
end

lazy._type = of_field "Content-Type"
lazy._disposition = of_field "Content-Disposition"

function lazy:headers()
  return headers.new(self._fields)
end

function lazy:type()
  local found = self._type[1]
  if found and found:find("/", 1, true) then
    return found
  end -- RFC 2045 5.2: without one, or with one that makes no sense
  return self._digest and "message/rfc822" or "text/plain"
end

function lazy:parameters()
  return self._type[2]
end

function lazy:charset()
  local charset = self.parameters.charset
  return charset and charset:lower()
end

function lazy:disposition()
  return self._disposition[1]
end

function lazy:disposition_parameters()
  return self._disposition[2]
end

--- A file name as a program may use it is the caller's to make: this is what the sender wrote.
function lazy:filename()
  return self._disposition[2].filename or self.parameters.name
end

function lazy:encoding()
  local found = self.headers:get("Content-Transfer-Encoding")
  return found and found:match("^[%w-]+") and found:match("^[%w-]+"):lower() or "7bit"
end

function lazy:id()
  local found = self.headers:get("Content-ID")
  return found and value.ids(found)[1]
end

function lazy:inline()
  return self.disposition == "inline" or self.disposition == nil and self.id ~= nil
end

function lazy:children()
  local list, index = {}, self._child
  while index do
    list[#list + 1] = self._tree:part(index)
    index = self._tree:part(index)._next
  end
  return list
end

function lazy:parent()
  return self._parent and self._tree:part(self._parent)
end

-- ---- content ------------------------------------------------------------------------------------------------------

local function check_most(verb, most)
  if most ~= nil and not (math.type(most) == "integer" and most > 0) then
    error(("part:%s: a number of octets expected"):format(verb), 3)
  end
end

--- The octets as they stand in the message, encoded, piece by piece: for chunk in part:raw() do ... end.
---@param most? integer octets of a piece
---@return fun(): string?
function Part:raw(most)
  check_most("raw", most)
  local source, at, stop = self._tree._source, self._body, self._end
  return function()
    if at < stop then
      local chunk = source:read(at, math.min(most or CHUNK, stop - at))
      if chunk == "" then
        error("the message ends before its part does", 2)
      end
      at = at + #chunk
      return chunk
    end
  end
end

local function decoded(self, charset, most)
  local decoder = core.decoder(self.encoding, charset)
  local next_raw = self:raw(most)
  return function()
    while decoder do
      local raw = next_raw()
      local chunk
      if raw then
        chunk = decoder:step(raw)
      else
        chunk, decoder = decoder:finish(), nil
      end
      if chunk ~= "" then
        return chunk
      end
    end
  end
end

--- The content out of its encoding, piece by piece.
---@param most? integer about how many octets a piece has
---@return fun(): string?
function Part:chunks(most)
  check_most("chunks", most)
  return decoded(self, nil, most)
end

--- The text as UTF-8, piece by piece; a piece may end between two characters that belong together, but not inside of one. Line ends are as they came.
---@param most? integer
---@return fun(): string?
function Part:text_chunks(most)
  check_most("text_chunks", most)
  return decoded(self, self.charset or "us-ascii", most)
end

local function gather(next_chunk, what, limit)
  local list, size = {}, 0
  for chunk in next_chunk do
    size = size + #chunk
    if size > limit then
      return nil, Error("limit", ("the %s of a part is over %d octets"):format(what, limit),
        { limit = "content", temporary = false })
    end
    list[#list + 1] = chunk
  end
  return table.concat(list)
end

local function limit_of(self, verb, limit)
  check_most(verb, limit)
  return limit or self._tree.limits.content
end

--- The content out of its encoding, whole.
---@param limit? integer octets; default the tree's `content`
---@return string? octets
---@return moonpost.Error? err kind "limit"
function Part:content(limit)
  return gather(decoded(self), "content", limit_of(self, "content", limit))
end

--- The text as UTF-8, whole. What its charset does not have is U+FFFD; an unknown charset is read as UTF-8.
---@param limit? integer octets; default the tree's `content`
---@return string? text
---@return moonpost.Error? err kind "limit"
function Part:text(limit)
  return gather(decoded(self, self.charset or "us-ascii"), "text", limit_of(self, "text", limit))
end

--- The message inside: the tree's own part where it stands there plainly, the root of a tree of its own where it is encoded.
---@return moonpost.mime.Part? root nil, and an error, when this is no message or past a limit
---@return moonpost.Error? err
function Part:message()
  if self.kind == "message" then
    return self._tree:part(self._child)
  elseif self.type ~= "message/rfc822" and self.type ~= "message/global" then
    return nil, Error("mime", ("a part of type %s is no message"):format(self.type), { temporary = false })
  end
  local octets, err = self:content()
  if not octets then
    return nil, err
  end
  local limits = self._tree.limits
  local tree
  tree, err = require("moonpost.mime").parse(octets, { depth = math.max(1, limits.depth - self.depth), parts = limits.parts,
    header = limits.header, content = limits.content })
  return tree and tree.root, err
end

-- ---- changes ------------------------------------------------------------------------------------------------------

--- Takes the part out of the message (RFC 2046 5.1: a multipart keeps one part, so the last one becomes empty text).
function Part:remove()
  self._tree:_remove(self)
end

--- Puts another part in its place: `{ text = }`, `{ content = }` or `{ path = }` with `type`, `filename`, `disposition`, `id`.
---@param by moonpost.Attachment|string a string is text
---@return moonpost.mime.Part? self
---@return moonpost.Error? err the file of `path` cannot be read
function Part:replace(by)
  return self._tree:_replace(self, by)
end

---@param tree moonpost.mime.Tree
---@param index integer
function M.new(tree, index)
  local kind, parent, child, following, depth, begin, header_at, body_at, stop, finish, digest = tree._scan:part(index)
  return setmetatable({
    _tree = tree, index = index, kind = kind, depth = depth, size = stop - body_at, _parent = parent, _child = child, _next = following,
    _begin = begin, _header = header_at, _body = body_at, _end = stop, _finish = finish, _digest = digest,
  }, Part_mt)
end

return M
