--- The log: lines for people, or one JSON object per line, to standard error or to a function.
---
---     moonpost.log.info("mailbox made", { mailbox = name })
---     moonpost.log.configure { level = "debug", format = "json" }
---
--- Whatever a peer sent is escaped, so that a line is always one line and a terminal obeys nobody; a field whose name
--- speaks of a password, token or secret is not written.
local core = require "moonpost.core"
local json = require "moonpost.json"
local suggest = require "moonpost.suggest"
local task = require "moonpost.task"

local M = {}

local is_plain = core.is_plain

local rank = { error = 1, warn = 2, info = 3, debug = 4 }
local label = { error = " error ", warn = " warn  ", info = " info  ", debug = " debug " }
local VALUE_MOST = 2048
local TRACE_MOST = 16384

--- Which levels are written, for code that would only format a line nobody reads: `if log.on.info then ... end`.
---@type table<string, boolean>
M.on = {}

local level, format, output
local sink -- of moonpost.test: gets events instead of their being written

local function to_stderr(line)
  io.stderr:write(line .. "\n") -- one write: other workers' lines come before or after it, not inside
end

local secrets = { "password", "passwd", "token", "secret", "credential", "authorization" }

-- What is known of a field's name, found out once: lines about messages have the same fields again and again.
local function remembered(find)
  local known, count = {}, 0
  return function(key)
    local value = known[key]
    if value == nil then
      if count >= 512 then
        known, count = {}, 0
      end
      value = find(key)
      known[key], count = value, count + 1
    end
    return value
  end
end

local is_secret = remembered(function(key)
  local name = key:lower()
  for _, word in ipairs(secrets) do
    if name:find(word, 1, true) then
      return true
    end
  end
  return false
end)

local function cut(text, most)
  if #text > most then
    return text:sub(1, most) .. ("[%d more]"):format(#text - most)
  end
  return text
end

local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

local function escape(char)
  return escapes[char] or char:gsub(".", function(octet)
    return ("\\x%02x"):format(octet:byte())
  end)
end

--- One line, safe on a terminal: control characters (C1 and those that turn the direction of text among them) and
--- octets that are no UTF-8 are written as escapes.
---@param text string
---@return string
function M.clean(text)
  if not text:find("[^\x20-\x7e]") then
    return text
  elseif not utf8.len(text) then
    return (text:gsub("[^\x20-\x7e]", escape))
  end
  return (text:gsub("[\0-\x1f\x7f]", escape):gsub("\xc2[\x80-\x9f]", escape)
    :gsub("\xe2\x80[\x8b-\x8f\xa8-\xae]", escape):gsub("\xe2\x81[\xa0-\xaf]", escape):gsub("\xef\xbb\xbf", escape))
end

-- What stands in front of a field's value, and false where the value is a secret.
local key_text = remembered(function(key)
  return " " .. M.clean(key) .. "="
end)
local open_key_text = remembered(function(key)
  return not is_secret(key) and key_text(key)
end)

local function value_text(value)
  if type(value) == "string" then
    return value
  elseif type(value) == "table" and not (getmetatable(value) or {}).__tostring then
    return json.encode(value)
  elseif math.type(value) == "float" then
    return ("%.6g"):format(value)
  end
  return tostring(value)
end

--- `key=value` as people read it: quoted only where it must be.
local function human_value(value)
  local text = value
  if type(value) ~= "string" then
    if math.type(value) == "integer" then
      return value
    end
    text = value_text(value)
  end
  if #text > VALUE_MOST then
    text = cut(text, VALUE_MOST)
  end
  if is_plain(text) then
    return text
  end
  return '"' .. M.clean((text:gsub('["\\]', escapes))) .. '"'
end

--- Lines of a traceback stand below their event and indented: nothing in them can look like an event of its own.
local function human_trace(trace)
  local lines = {}
  for line in cut(trace, TRACE_MOST):gmatch("[^\n]+") do
    lines[#lines + 1] = "    | " .. M.clean((line:gsub("\t", "  ")))
  end
  return table.concat(lines, "\n")
end

local second, stamp, instant, instant_text

-- Events come in crowds: the second and the millisecond are put into words once.
local function timestamp(now)
  local ms = math.floor(now * 1000)
  if ms ~= instant then
    local whole = ms // 1000
    if whole ~= second then
      second, stamp = whole, os.date("!%Y-%m-%dT%H:%M:%S", whole)
    end
    instant, instant_text = ms, ("%s.%03dZ"):format(stamp, ms % 1000)
  end
  return instant_text
end

local short = remembered(function(text)
  return M.clean(cut(text, VALUE_MOST))
end)

local formats = {}

function formats.text(now, name, text, pairs_list)
  -- a line about a message has ten fields: room for them is made once
  local out = {
    timestamp(now), label[name], short(text), "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "",
  }
  local at, trace = 3, nil
  for i = 1, #pairs_list, 2 do
    local key, value = pairs_list[i], pairs_list[i + 1]
    if key == "traceback" then
      trace = tostring(value)
    else
      local before = open_key_text(key)
      if before then
        out[at + 1], out[at + 2] = before, human_value(value)
      else
        out[at + 1], out[at + 2] = key_text(key), "[redacted]"
      end
      at = at + 2
    end
  end
  local line = table.concat(out, "", 1, at)
  return trace and line .. "\n" .. human_trace(trace) or line
end

function formats.json(now, name, text, pairs_list)
  local out = {
    '{"time":', json.encode(timestamp(now)), ',"level":', json.encode(name), ',"text":', json.encode(cut(text,
      VALUE_MOST)),
  }
  for i = 1, #pairs_list, 2 do
    local key, value = pairs_list[i], pairs_list[i + 1]
    if type(value) == "string" then
      value = cut(value, key == "traceback" and TRACE_MOST or VALUE_MOST)
    end
    out[#out + 1] = ","
    out[#out + 1] = json.encode(key)
    out[#out + 1] = ":"
    out[#out + 1] = is_secret(key) and '"[redacted]"' or json.encode(value)
  end
  out[#out + 1] = "}"
  return table.concat(out)
end

local function redacted(value, depth)
  if type(value) ~= "table" or depth > 4 or (getmetatable(value) or {}).__tostring then
    return value
  end
  local copy = {}
  for key, inner in pairs(value) do
    copy[key] = type(key) == "string" and is_secret(key) and "[redacted]" or redacted(inner, depth + 1)
  end
  return copy
end

--- One event with its fields in order: `{ "id", id, "size", size }`; a field whose value is false or missing is left
--- out by the caller. For the house; scripts use M.info and its kin.
---@param name "error"|"warn"|"info"|"debug"
---@param text string
---@param list any[] key, value, key, value ...
function M.event(name, text, list)
  if not M.on[name] then
    return
  end
  for i = 2, #list, 2 do
    if type(list[i]) == "table" then
      list[i] = redacted(list[i], 1)
    end
  end
  if sink then
    local fields = {}
    for i = 1, #list, 2 do
      fields[list[i]] = is_secret(list[i]) and "[redacted]" or list[i + 1]
    end
    sink(name, text, fields)
    return
  end
  local line = formats[format](core.time(), name, text, list)
  -- a log function that raises must not make a fault out of a hook that only logged
  if output == to_stderr or not pcall(output, line, name) then
    to_stderr(line)
  end
end

local function say(name, text, fields)
  if not M.on[name] then
    return
  end
  if fields ~= nil and type(fields) ~= "table" then
    error(("log.%s: the second argument is a table of fields, not a %s"):format(name, type(fields)), 3)
  end
  local keys, list = {}, {}
  for key in pairs(fields or {}) do
    keys[#keys + 1] = tostring(key)
    list[tostring(key)] = key
  end
  table.sort(keys)
  local ordered = {}
  for _, key in ipairs(keys) do
    ordered[#ordered + 1] = key
    ordered[#ordered + 1] = fields[list[key]]
  end
  M.event(name, tostring(text), ordered)
end

---@param text string
---@param fields? table<string, any>
function M.error(text, fields)
  say("error", text, fields)
end

function M.warn(text, fields)
  say("warn", text, fields)
end

function M.info(text, fields)
  say("info", text, fields)
end

function M.debug(text, fields)
  say("debug", text, fields)
end

local settings = { level = true, format = true, output = true }

--- Changes what is written where; what is not named stays as it is.
---@param options moonpost.LogOptions
function M.configure(options)
  for key in pairs(options) do
    if not settings[key] then
      error(("moonpost.log.configure: unknown option %q%s"):format(tostring(key), suggest.hint(key, settings)), 2)
    end
  end
  local to = options.output
  if options.level ~= nil and options.level ~= "off" and not rank[options.level] then
    error('moonpost.log.configure: level: "error", "warn", "info", "debug" or "off" expected', 2)
  elseif options.format ~= nil and not formats[options.format] then
    error('moonpost.log.configure: format: "text" or "json" expected', 2)
  elseif to ~= nil and to ~= "stderr" and type(to) ~= "function" then
    error('moonpost.log.configure: output: "stderr" or a function expected', 2)
  end
  level = options.level or level
  format = options.format or format
  if to then
    output = to == "stderr" and to_stderr or to
  end
  for name, number in pairs(rank) do
    M.on[name] = number <= (rank[level] or 0)
  end
end

--- What configure() was told last.
---@return { level: string, format: string }
function M.settings()
  return { level = level, format = format }
end

M.configure { level = "info", format = "text", output = "stderr" }

--- For moonpost.test: puts other settings in the place of these, and a function that gets the events.
---@param other { level: string, format: string, output: function, sink?: fun(level: string, text: string, fields: table)}
---@return table former what to exchange back
function M.exchange(other)
  local former = { level = level, format = format, output = output, sink = sink }
  level, format, output, sink = other.level, other.format, other.output, other.sink
  for name, number in pairs(rank) do
    M.on[name] = number <= (rank[level] or 0)
  end
  return former
end

-- Errors in tasks that nobody joins would go unnoticed otherwise.
task.on_error(function(err)
  local text, trace = tostring(err):match("^(.-)\n(stack traceback:.*)$")
  M.event("error", "task failed", { "error", text or tostring(err), trace and "traceback" or nil, trace })
end)

return M
