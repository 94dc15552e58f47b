--- Writes JSON, for log lines: what has no JSON form becomes a string, so that encoding never fails. Reads it strictly
--- (RFC 8259), as commands to a running process have it.
local M = {}

local short = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function control(char)
  return short[char] or ("\\u%04x"):format(char:byte())
end

local function octet(char)
  return ("\\x%02x"):format(char:byte())
end

-- As an escape: what a terminal would obey (C1 controls, marks that turn the direction of text) rather than show.
local function mark(char)
  return ("\\u%04x"):format(utf8.codepoint(char))
end

local function string(text)
  if not text:find('[^\x20-\x7e]') and not text:find('["\\]') then
    return '"' .. text .. '"'
  end
  if not utf8.len(text) then -- JSON has no way to write octets that are no text: they stand as \xNN
    text = text:gsub("[\x80-\xff]", octet)
  end
  text = text:gsub('["\\\0-\x1f\x7f]', control):gsub("\xc2[\x80-\x9f]", mark):gsub("\xe2\x80[\x8b-\x8f\xa8-\xae]", mark)
    :gsub("\xe2\x81[\xa0-\xaf]", mark)
  return '"' .. text .. '"'
end

local function is_list(value)
  local count = 0
  for _ in pairs(value) do
    count = count + 1
  end
  return count == #value
end

local encode

local function object(value, depth)
  local keys, back = {}, {}
  for key in pairs(value) do
    local name = tostring(key)
    keys[#keys + 1], back[name] = name, key
  end
  table.sort(keys)
  for i, name in ipairs(keys) do
    keys[i] = string(name) .. ":" .. encode(value[back[name]], depth + 1)
  end
  return "{" .. table.concat(keys, ",") .. "}"
end

local function list(value, depth)
  local out = {}
  for i = 1, #value do
    out[i] = encode(value[i], depth + 1)
  end
  return "[" .. table.concat(out, ",") .. "]"
end

function encode(value, depth)
  local kind = type(value)
  if kind == "string" then
    return string(value)
  elseif kind == "boolean" then
    return tostring(value)
  elseif kind == "nil" then
    return "null"
  elseif math.type(value) == "integer" then
    return ("%d"):format(value)
  elseif kind == "number" then
    return value == value and math.abs(value) < math.huge and ("%.14g"):format(value) or "null"
  elseif kind == "table" and not (getmetatable(value) or {}).__tostring and depth < 8 then
    return is_list(value) and #value > 0 and list(value, depth) or object(value, depth)
  end
  return string(tostring(value))
end

---@param value any
---@return string json keys sorted; an empty table is {}
function M.encode(value)
  return encode(value, 0)
end

-- ---- reading -------------------------------------------------------------------------------------------------------

local DEPTH_MOST = 32

local escapes = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }
local words = { ["true"] = true, ["false"] = false }

local function fail(at, why)
  error({ json = ("octet %d: %s"):format(at, why) }, 0)
end

local function skip(text, at)
  return text:find("[^ \t\r\n]", at) or #text + 1
end

-- The code of \uXXXX at `at`, and where it ends; two of them may be one character.
local function code_point(text, at)
  local high = tonumber(text:match("^%x%x%x%x", at) or fail(at, "four hexadecimal digits expected"), 16)
  if high >= 0xd800 and high <= 0xdbff then
    local low = tonumber(text:match("^\\u(%x%x%x%x)", at + 4) or "", 16)
    if not low or low < 0xdc00 or low > 0xdfff then
      fail(at, "half a character")
    end
    return 0x10000 + (high - 0xd800) * 0x400 + low - 0xdc00, at + 10
  elseif high >= 0xdc00 and high <= 0xdfff then
    fail(at, "half a character")
  end
  return high, at + 4
end

local function read_string(text, at)
  local out = {}
  while true do
    local stop = text:find('["\\%c]', at) or fail(#text + 1, "a string without an end")
    out[#out + 1] = text:sub(at, stop - 1)
    local char = text:sub(stop, stop)
    if char == '"' then
      return table.concat(out), stop + 1
    elseif char ~= "\\" then
      if char ~= "\x7f" then
        fail(stop, "a control character in a string")
      end
      out[#out + 1], at = char, stop + 1
    elseif text:sub(stop + 1, stop + 1) == "u" then
      local code
      code, at = code_point(text, stop + 2)
      out[#out + 1] = utf8.char(code)
    else
      out[#out + 1] = escapes[text:sub(stop + 1, stop + 1)] or fail(stop, "no such escape")
      at = stop + 2
    end
  end
end

local function read_number(text, at)
  local whole = text:match("^%-?0%f[^0-9]", at) or text:match("^%-?[1-9]%d*", at) or text:match("^%-?0$", at)
  if not whole then
    fail(at, "a value expected")
  end
  local stop = at + #whole
  local rest = (text:match("^%.%d+", stop) or "")
  rest = rest .. (text:match("^[eE][+-]?%d+", stop + #rest) or "")
  return rest == "" and math.tointeger(tonumber(whole)) or tonumber(whole .. rest) + 0.0, stop + #rest
end

local read_value

-- Members up to `close`; `member(at)` reads one and returns where it ends.
local function read_members(text, at, close, member)
  at = skip(text, at)
  if text:sub(at, at) == close then
    return at + 1
  end
  while true do
    at = skip(text, member(at))
    local char = text:sub(at, at)
    if char == close then
      return at + 1
    elseif char ~= "," then
      fail(at, ("a comma or %s expected"):format(close))
    end
    at = skip(text, at + 1)
  end
end

local function read_object(text, at, depth)
  local made = {}
  return made, read_members(text, at, "}", function(from)
    if text:sub(from, from) ~= '"' then
      fail(from, "a name expected")
    end
    local name, stop = read_string(text, from + 1)
    stop = skip(text, stop)
    if text:sub(stop, stop) ~= ":" then
      fail(stop, "a colon expected")
    end
    made[name], stop = read_value(text, skip(text, stop + 1), depth)
    return stop
  end)
end

local function read_list(text, at, depth)
  local made, count = {}, 0
  return made, read_members(text, at, "]", function(from)
    local stop
    count = count + 1
    made[count], stop = read_value(text, from, depth)
    return stop
  end)
end

function read_value(text, at, depth)
  local char = text:sub(at, at)
  if depth > DEPTH_MOST then
    fail(at, "too deep")
  elseif char == "{" then
    return read_object(text, at + 1, depth + 1)
  elseif char == "[" then
    return read_list(text, at + 1, depth + 1)
  elseif char == '"' then
    return read_string(text, at + 1)
  end
  local word = text:match("^%l+", at)
  if word == "null" then
    return nil, at + 4
  elseif words[word] ~= nil then
    return words[word], at + #word
  end
  return read_number(text, at)
end

--- Reads one value. null is nil, and so leaves holes in lists; numbers without fraction and exponent are integers.
---@param text string
---@return any value
---@return string? why it cannot be read, with the octet
function M.decode(text)
  if not utf8.len(text) then
    return nil, "not UTF-8"
  end
  local ok, value, stop = pcall(read_value, text, skip(text, 1), 0)
  if ok and skip(text, stop) <= #text then
    return nil, ("octet %d: something behind the value"):format(skip(text, stop))
  elseif ok then
    return value
  elseif type(value) == "table" and value.json then
    return nil, value.json
  end
  error(value, 0)
end

return M
