--- Macro strings of SPF (RFC 7208 7): read once, expanded as often as needed. Who wrote them is nobody we trust: reading is linear, and what they
--- expand to has a ceiling.
local M = {}

local LETTERS, EXPLAINING = "[slodiphvSLODIPHV]", "[slodiphvcrtSLODIPHVCRT]"
local NAME_MOST = 253 -- octets of a name that can be asked for

-- What stands between "%{" and "}".
local function read_expand(body, explaining)
  local letter, digits, reverse, delimiters = body:match("^(%a)(%d*)([rR]?)([.%-+,/_=]*)$")
  if not letter or not letter:find(explaining and EXPLAINING or LETTERS) then
    return nil
  elseif digits ~= "" and (#digits > 3 or tonumber(digits) == 0) then
    return nil
  end
  return {
    letter = letter:lower(), escape = letter:find "%u" ~= nil, keep = tonumber(digits), reverse = reverse ~= "",
    delimiters = delimiters ~= "" and delimiters or ".",
  }
end

local single = { ["%"] = "%", ["_"] = " ", ["-"] = "%20" }

-- One macro at `at`: what it stands for, and where it ends.
local function read_macro(text, at, explaining)
  local second = text:sub(at + 1, at + 1)
  if single[second] then
    return { literal = single[second] }, at + 1
  elseif second == "{" then
    local last = text:find("}", at + 2, true)
    local piece = last and read_expand(text:sub(at + 2, math.min(last - 1, at + 64)), explaining)
    if piece then
      return piece, last
    end
  end
  return nil, ('"%s" is no macro'):format(text:sub(at, at + 11))
end

---@class moonpost.spf.Macro a list of literal texts (string) and expansions (table)
---@field tail string the literal text at its end; "" when it ends in an expansion
---@field uses table<string, true> letters

--- Reads a macro string.
---@param text string
---@param explaining? boolean of an explanation: spaces, and the letters c, r and t
---@return moonpost.spf.Macro? macro
---@return string? problem
function M.read(text, explaining)
  if text:find(explaining and "[^ -~]" or "[^!-~]") then
    return nil, "an octet that is not allowed"
  end
  local macro, at = { uses = {}, tail = "" }, 1
  while at <= #text do
    local percent = text:find("%", at, true)
    local literal = text:sub(at, (percent or #text + 1) - 1)
    if literal ~= "" then
      macro[#macro + 1] = literal
    end
    if not percent then
      macro.tail = literal
      break
    end
    local piece, last = read_macro(text, percent, explaining)
    if not piece then
      return nil, last
    end
    macro[#macro + 1] = piece
    macro.uses[piece.letter or "%"] = true
    at = last + 1
  end
  return macro
end

-- A domain-spec ends in an expansion, or in a dot and a label that is no number (RFC 7208 7.1).
local function ends_well(macro)
  local tail = macro.tail
  if tail == "" then
    return macro[1] ~= nil
  end
  local label = tail:match("%.([%w-]+)%.?$")
  return label and not label:find "^%-" and not label:find "%-$" and label:find "[%a-]" ~= nil
end

--- Reads a domain-spec (RFC 7208 7.1).
---@param text string
---@return moonpost.spf.Macro? macro
---@return string? problem
function M.read_domain(text)
  if text == "" then
    return nil, "a domain is missing"
  end
  local macro, problem = M.read(text)
  if macro and not ends_well(macro) then
    return nil, ('"%s" does not end like a domain'):format(text:sub(-40))
  end
  return macro, problem
end

local function escape(value)
  return (value:gsub("[^%w%-._~]", function(octet)
    return ("%%%02X"):format(octet:byte())
  end))
end

-- Splits, turns, keeps the last parts and joins them with dots (RFC 7208 7.3).
local function transform(piece, value)
  if piece.keep or piece.reverse or piece.delimiters ~= "." then
    local parts = {}
    local set = "[" .. piece.delimiters:gsub("%p", "%%%0") .. "]"
    local at = 1
    repeat
      local stop = value:find(set, at)
      local part = value:sub(at, (stop or #value + 1) - 1)
      parts[#parts + 1] = part
      at = stop and stop + 1
    until not at
    if piece.reverse then
      for i = 1, #parts // 2 do
        parts[i], parts[#parts + 1 - i] = parts[#parts + 1 - i], parts[i]
      end
    end
    value = table.concat(parts, ".", math.max(1, #parts + 1 - (piece.keep or #parts)))
  end
  return piece.escape and escape(value) or value
end

--- What it stands for, or its end when that is longer than `most`.
---@param macro moonpost.spf.Macro
---@param value_of fun(letter: string): string
---@param most integer octets
---@return string
local function expand(macro, value_of, most)
  local parts, length = {}, 0
  for i = #macro, 1, -1 do -- from the end: a name that is too long loses its front
    local piece = macro[i]
    local text = type(piece) == "string" and piece or piece.literal or transform(piece, value_of(piece.letter))
    table.insert(parts, text)
    length = length + #text
    if length > most then
      break
    end
  end
  for i = 1, #parts // 2 do
    parts[i], parts[#parts + 1 - i] = parts[#parts + 1 - i], parts[i]
  end
  return table.concat(parts)
end

--- The name that a domain-spec stands for, without the dot at its end; labels at the front are dropped until it has no more than 253 octets.
---@param macro moonpost.spf.Macro
---@param value_of fun(letter: string): string
---@return string
function M.name(macro, value_of)
  local name = expand(macro, value_of, NAME_MOST + 1):gsub("%.$", "")
  if #name <= NAME_MOST then
    return name
  end
  local dot = name:find(".", #name - NAME_MOST, true)
  return dot and name:sub(dot + 1) or name:sub(-NAME_MOST)
end

--- The text that an explanation stands for; nil when it would have more than `most` octets.
---@param macro moonpost.spf.Macro
---@param value_of fun(letter: string): string
---@param most integer
---@return string?
function M.text(macro, value_of, most)
  local text = expand(macro, value_of, most)
  return #text <= most and text or nil
end

return M
