--- A message for a server that does not announce 8BITMIME (RFC 6152 3): what is 8-bit in it becomes quoted-printable or base64, everything else
--- stays octet for octet. Signatures over the body do not survive that; refusing the message would not save them either.
local core = require "moonpost.mime_core"
local fields = require "moonpost.mime.fields"
local mime = require "moonpost.mime"

local MANY = 0.2 -- a larger share of octets that quoted-printable writes as three is base64

local EIGHT = "[\x80-\xff]"
local IDENTITY = { ["7bit"] = true, ["8bit"] = true, binary = true, [""] = true }

local function encoded(octets, encoding)
  local encoder = core.encoder(encoding)
  local out = encoder:step(octets) .. encoder:finish()
  return (out:gsub("\r?\n", "\r\n"))
end

-- The encoding of a part's octets, and what they become.
local function encode(octets, type)
  local _, odd = octets:gsub("[\x80-\xff=%z\1-\8\11\12\14-\31]", "")
  local bare = octets:gsub("\r\n", ""):find "[\r\n]"
  if type:find "^text/" and not bare and odd <= #octets * MANY then
    local text = encoded((octets:gsub("\r\n", "\n")), "quoted-printable")
    return "quoted-printable", octets:find "\n$" and text or (text:gsub("=?\r\n$", "")) -- a line end of its own is a line more
  end
  return "base64", (encoded(octets, "base64"):gsub("\r\n$", ""))
end

-- A part's header with another encoding. Of a message's own, what makes it one of MIME is added.
local function header_with(octets, encoding, top)
  local list, out, has = fields.new(octets), {}, {}
  for at = 1, list:field_count() do
    local name, _, raw = list:field(at)
    name = name:lower()
    has[name] = true
    if name ~= "content-transfer-encoding" then
      out[#out + 1] = raw
    end
  end
  if top and not has["mime-version"] then
    out[#out + 1] = "MIME-Version: 1.0\r\n"
    if not has["content-type"] then
      out[#out + 1] = "Content-Type: text/plain; charset=unknown-8bit\r\n" -- RFC 1428 3
    end
  end
  out[#out + 1] = ("Content-Transfer-Encoding: %s\r\n\r\n"):format(encoding)
  return table.concat(out)
end

-- What is to be put in the place of which octets: { from, to, text }, in their order; or nil and why not.
local function edits_of(tree, octets)
  local edits = {}
  for part in tree:each() do
    local header, body = octets:sub(part._header + 1, part._body), octets:sub(part._body + 1, part._end)
    local encoding = (part.encoding or ""):lower()
    local top = part == tree.root or part.parent.kind == "message"
    if header:find(EIGHT) then
      return nil, "its header is not ASCII"
    elseif part.type == "multipart/signed" or part.type == "multipart/encrypted" then
      if body:find(EIGHT) then
        return nil, "a signature covers what would be changed"
      end
    elseif part.kind ~= "leaf" then
      if encoding == "8bit" or encoding == "binary" then
        edits[#edits + 1] = { part._header, part._body, header_with(header, "7bit", top) }
      end
    elseif body:find(EIGHT) then
      if not IDENTITY[encoding] then
        return nil, "its encoding is broken"
      end
      local name, text = encode(body, part.type)
      local last = part._end == #octets and name == "base64" and "\r\n" or ""
      edits[#edits + 1] = { part._header, part._end, header_with(header, name, top) .. text .. last }
    elseif encoding == "8bit" then
      edits[#edits + 1] = { part._header, part._body, header_with(header, "7bit", top) }
    end
  end
  return edits
end

--- Converts a message.
---@param octets string with CRLF at the ends of its lines
---@return string? octets nil when it cannot be converted
---@return string? why
return function(octets)
  local tree, err = mime.parse(octets)
  if not tree then
    return nil, err.message
  end
  local edits, why = edits_of(tree, octets)
  if not edits then
    return nil, why
  end
  local out, at = {}, 0
  for _, one in ipairs(edits) do
    out[#out + 1] = octets:sub(at + 1, one[1])
    out[#out + 1] = one[3]
    at = one[2]
  end
  out[#out + 1] = octets:sub(at + 1)
  local made = table.concat(out)
  if made:find(EIGHT) then
    return nil, "octets outside of its parts are 8-bit" -- around the parts of a multipart
  end
  return made
end
