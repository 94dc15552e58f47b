--- Messages and command lines as a test writes them, made into what goes over the wire.
local blame = require "moonpost.test.blame"

local M = {}

--- Every line ends with CRLF, the last one too; lines that begin with a dot get another (RFC 5321 4.5.2).
---@param text string
---@return string octets with the final dot
function M.body(text)
  local octets = text:gsub("\r\n", "\n"):gsub("\n", "\r\n")
  if octets ~= "" and octets:sub(-2) ~= "\r\n" then
    octets = octets .. "\r\n"
  end
  if octets:sub(1, 1) == "." then
    octets = "." .. octets
  end
  return octets:gsub("\r\n%.", "\r\n..") .. ".\r\n"
end

-- "reply_to" and "subject" become "Reply-To" and "Subject".
local function field_name(key)
  return (key:gsub("_", "-"):gsub("%f[%w]%l", string.upper))
end

local function add(out, name, value)
  for _, each in ipairs(type(value) == "table" and value or { value }) do
    out[#out + 1] = ("%s: %s\n"):format(name, tostring(each))
  end
end

local function add_fields(out, fields)
  for _, field in ipairs(fields) do -- in their order: "Name: value" or { "Name", value }
    if type(field) == "table" then
      add(out, field[1], field[2])
    else
      out[#out + 1] = field .. "\n"
    end
  end
  local names = {}
  for key in pairs(fields) do
    names[#names + 1] = type(key) == "string" and key or nil
  end
  table.sort(names)
  for _, name in ipairs(names) do
    add(out, field_name(name), fields[name])
  end
end

-- The names of the fields of a list, in lower case.
local function named(fields, names)
  for key, value in pairs(fields) do
    local name = type(key) == "string" and field_name(key) or type(value) == "table" and value[1]
      or value:match("^[^:]*")
    names[name:lower()] = true
  end
end

--- A message of `{ subject = "Hi", headers = { ... }, body = "..." }`; other names are fields too. A string is the
--- message as it is.
---@param message string|table
---@param defaults? table<string, string> fields that stand in front unless the message has them
---@return string
function M.message(message, defaults)
  if type(message) == "string" then
    return message
  elseif type(message) ~= "table" then
    blame(("a message is a string or a table, not a %s"):format(type(message)))
  end
  local out, fields, names, missing = {}, {}, {}, {}
  for key, value in pairs(message) do
    if key ~= "headers" and key ~= "body" then
      fields[key] = value
    end
  end
  named(fields, names)
  named(message.headers or {}, names)
  for name, value in pairs(defaults or {}) do
    missing[name] = not names[name:lower()] and value or nil
  end
  add_fields(out, missing)
  add_fields(out, fields)
  add_fields(out, message.headers or {})
  out[#out + 1] = "\n"
  out[#out + 1] = message.body or ""
  return table.concat(out)
end

--- `{ size = 100, smtputf8 = true }` is " SIZE=100 SMTPUTF8".
---@param params? string|table
---@return string
function M.params(params)
  if params == nil then
    return ""
  elseif type(params) == "string" then
    return " " .. params
  end
  local names, out = {}, {}
  for name in pairs(params) do
    names[#names + 1] = name
  end
  table.sort(names)
  for i, name in ipairs(names) do
    local value = params[name]
    local keyword = name:upper():gsub("_", "-")
    out[i] = value == true and " " .. keyword or value and (" %s=%s"):format(keyword, tostring(value)) or ""
  end
  return table.concat(out)
end

--- A command's argument must stay on its line: what a test wants to break lines with goes through peer:send.
---@param line string
---@return string
function M.line(line)
  if type(line) ~= "string" then
    blame(("a command is a string, not a %s"):format(type(line)))
  elseif line:find("[\r\n]") then
    blame("a line break inside a command; peer:send(octets) sends whatever it is given")
  end
  return line .. "\r\n"
end

return M
