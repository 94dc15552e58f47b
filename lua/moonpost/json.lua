--- Writes JSON, for log lines: what has no JSON form becomes a string, so that encoding never fails.
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

return M
