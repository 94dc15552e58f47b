--- What peers said, as a report may repeat it: no octet of it begins a line, moves a cursor or turns the reading direction round.
local M = {}

local LINE = 76
local WORD_MOST = 900 -- octets of a word that has to stand on a line: 998 less a field's name (RFC 5322 2.1.1)

-- Octets that are no UTF-8 become question marks.
local function valid(text)
  local out, at = {}, 1
  while true do
    local length, bad = utf8.len(text, at)
    if length then
      out[#out + 1] = text:sub(at)
      return table.concat(out)
    end
    out[#out + 1] = text:sub(at, bad - 1) .. "?"
    at = bad + 1
  end
end

--- One line of UTF-8. Line breaks and tabs become spaces; other control characters, and what has no width or turns the direction round, "?".
---@param text string any octets
---@param most? integer octets at most; what is longer ends in "..."
---@return string
function M.clean(text, most)
  text = text:gsub("[\r\n\t]+", " ")
  if text:find("[^\x20-\x7e]") then
    text = valid(text):gsub("[\0-\x1f\x7f]", "?"):gsub("\xc2[\x80-\x9f]", "?"):gsub("\xe2\x80[\x8b\x8e\x8f\xa8-\xae]", "?")
      :gsub("\xe2\x81[\xa0-\xaf]", "?"):gsub("\xef\xbb\xbf", "?")
  end
  if most and #text > most then
    local cut = utf8.offset(text, 0, most + 1) -- where the character begins that would be cut
    text = text:sub(1, cut - 1) .. "..."
  end
  return text
end

--- ASCII of clean text: other characters as \x{20AC}, as in addresses of RFC 6533.
---@param text string clean
---@return string
function M.ascii(text)
  return (text:gsub("[\xc2-\xf4][\x80-\xbf]*", function(character)
    return ("\\x{%02X}"):format(utf8.codepoint(character))
  end))
end

--- utf-8-addr-xtext (RFC 6533 3): an address that holds any character, in ASCII.
---@param address string clean
---@return string
function M.xtext(address)
  return M.ascii((address:gsub("[ +=\\]", function(octet)
    return ("\\x{%02X}"):format(octet:byte())
  end)))
end

--- The address that utf-8-addr-xtext or utf-8-addr-unitext stands for; what names no character stays as it is.
---@param text string
---@return string
function M.unxtext(text)
  return (text:gsub("\\x{(%x%x%x?%x?%x?%x?)}", function(hex)
    local code = tonumber(hex, 16)
    return code <= 0x10ffff and not (code >= 0xd800 and code <= 0xdfff) and utf8.char(code) or nil
  end))
end

--- Words, none of which is too long for a line.
local function words(text)
  local list = {}
  for word in text:gmatch("[^ ]+") do
    while #word > WORD_MOST do
      local cut = utf8.offset(word, 0, WORD_MOST + 1)
      list[#list + 1], word = word:sub(1, cut - 1), word:sub(cut)
    end
    list[#list + 1] = word
  end
  return list
end

--- Text in lines, broken at spaces.
---@param text string clean
---@param first string what the first line begins with
---@param other string what the others begin with
---@return string[]
function M.lines(text, first, other)
  local out, line, empty = {}, first, true
  for _, word in ipairs(words(text)) do
    if not empty and #line + 1 + #word > LINE then
      out[#out + 1], line, empty = line, other, true
    end
    line, empty = (empty and line or line .. " ") .. word, false
  end
  out[#out + 1] = line
  return out
end

--- A field of the machine's part, folded.
---@param name string
---@param value string clean
---@return string line or lines, without the last line break
function M.field(name, value)
  if #name + 2 + #value <= LINE then
    return name .. ": " .. value
  end
  return table.concat(M.lines(value, name .. ": ", "    "), "\r\n")
end

local function unbase64(text)
  local out, bits, held = {}, 0, 0
  for c in text:gmatch "[%w+/]" do
    local b = c:byte()
    local six = b >= 97 and b - 71 or b >= 65 and b - 65 or b >= 48 and b + 4 or b == 43 and 62 or 63
    bits, held = (bits << 6 | six) & 0xffff, held + 6
    if held >= 8 then
      held = held - 8
      out[#out + 1] = string.char(bits >> held & 255)
    end
  end
  return table.concat(out)
end

local function unquote(text)
  return (text:gsub("_", " "):gsub("=(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end))
end

local function latin1(octets)
  return (octets:gsub("[\x80-\xff]", function(octet)
    return utf8.char(octet:byte())
  end))
end

local charsets = {
  ["utf-8"] = function(octets) return octets end,
  ["us-ascii"] = function(octets) return octets end,
  ["iso-8859-1"] = latin1,
}

--- The text of a header's value, its encoded words decoded (RFC 2047) where their character set is one of the usual few.
---@param value string
---@return string? text as it came, not cleaned; nil when it cannot be read
function M.decode(value)
  local unknown = false
  value = value:gsub("%?=%s+=%?", "?==?"):gsub("=%?([^?%s]+)%?([BbQq])%?([^?%s]*)%?=", function(charset, how, text)
    local read = charsets[charset:lower():gsub("%*.*", "")]
    unknown = unknown or not read
    return read and read(how:upper() == "B" and unbase64(text) or unquote(text))
  end)
  return not unknown and value or nil
end

return M
