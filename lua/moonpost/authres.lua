--- Authentication-Results (RFC 8601): what somebody found out about a message, and whose word it is.
---
---     authres.strip(message, "mx.example.org")       -- nobody else speaks in our name
---     message:prepend("Authentication-Results", authres.format {
---       id = "mx.example.org",
---       results = { { method = "spf", result = "pass", properties = { { "smtp.mailfrom", "example.net" } } } },
---     })
local core = require "moonpost.core"
local suggest = require "moonpost.suggest"

local M = {}

local FIELD = "Authentication-Results"
local LINE = 78

-- ---- whose word ----------------------------------------------------------------------------------------------------

-- A name as it is compared: the same host whatever its case and its form.
local function canonical(id)
  return core.dns_name(id) or id:lower()
end

-- { canonical name = true } of one id or a list of them.
local function ids_of(ids, who)
  local set = {}
  for _, id in ipairs(type(ids) == "string" and { ids } or type(ids) == "table" and ids or {}) do
    if type(id) == "string" and id ~= "" then
      set[canonical(id)] = true
    end
  end
  if not next(set) then
    error(("authres.%s: the names of this host expected"):format(who), 3)
  end
  return set
end

-- The id as the laxest reader might have it: "mx.example.org/1" and "mx.example.org:x" too.
local function is_claimed(parsed, set)
  local id = parsed and parsed.id
  return not id or set[canonical(id)] or set[canonical(id:match("^[%w.-]*"))] or false
end

--- Reads a field's value. What makes no sense in it is passed over, which `damaged` tells.
---@param value string
---@return moonpost.authres.Field? field nil when there is nothing in it
function M.parse(value)
  if type(value) ~= "string" then
    error(("authres.parse: a field's value expected, got a %s"):format(type(value)), 2)
  end
  return core.authres(value)
end

--- Takes away the fields that claim to be ours, which none is that came in (RFC 8601 5); and those that do not say whose they are, for some reader
--- might take them for ours.
---@param message moonpost.Message
---@param ids string|string[] names of this host
---@return integer count how many there were
function M.strip(message, ids)
  local set = ids_of(ids, "strip")
  local envelope, count = message._core, 0
  local at, why = envelope:find(FIELD)
  if why then
    error("authres.strip: " .. why, 2) -- nobody may believe that there are none
  end
  while at do
    local _, value = envelope:field(at)
    if is_claimed(core.authres(value), set) then
      envelope:remove(at)
      count = count + 1
    else
      at = at + 1
    end
    at = envelope:find(FIELD, at)
  end
  return count
end

--- The fields of somebody who is believed, from the top: of hosts of ours that a message came through after the border. Those of a version that is
--- not known say nothing (RFC 8601 2.2).
---@param message moonpost.Message
---@param ids string|string[] names that are believed
---@return moonpost.authres.Field[]
function M.of(message, ids)
  local set, list = ids_of(ids, "of"), {}
  for _, value in ipairs(message.headers:all(FIELD)) do
    local parsed = core.authres(value)
    if parsed and parsed.id and set[canonical(parsed.id)] and (parsed.version or "1") == "1" then
      list[#list + 1] = parsed
    end
  end
  return list
end

-- ---- writing -------------------------------------------------------------------------------------------------------

-- What a peer wrote stays on its line: control characters, and what is no UTF-8, become "?".
local function clean(text)
  if not utf8.len(text) then
    text = text:gsub("[\x80-\xff]", "?")
  end
  return (text:gsub("[%c\x7f]", "?"))
end

-- A value, in quotes when it is no token (RFC 2045 5.1) and no mailbox of a plain kind.
local function value_of(text)
  text = clean(tostring(text))
  local at = text:find("@", 1, true)
  if text ~= "" and at ~= #text and not text:find("[^%w!#$%%&'*+.^_`{|}~@\x80-\xff-]") and not (at and text:find("@", at + 1, true)) then
    return text
  end
  return ('"%s"'):format(text:gsub('[\\"]', "\\%0"))
end

local function comment_of(text)
  return ("(%s)"):format(clean(text):gsub("[\\()]", "\\%0"))
end

local result_names = { method = true, version = true, result = true, reason = true, comment = true, properties = true }

local function check_result(one, i)
  if type(one) ~= "table" or type(one.method) ~= "string" or not one.method:find("^%a[%w-]*$") then
    return ("results[%d]: a table with a method expected"):format(i)
  elseif type(one.result) ~= "string" or not one.result:find("^%a%w*$") then
    return ("results[%d].result: a word expected"):format(i)
  end
  for name in pairs(one) do
    if not result_names[name] then
      return ('results[%d]: unknown name "%s"%s'):format(i, tostring(name):gsub("%c", "?"), suggest.hint(name, result_names))
    end
  end
  for _, name in ipairs { "reason", "comment" } do
    if one[name] ~= nil and type(one[name]) ~= "string" then
      return ("results[%d].%s: a string expected"):format(i, name)
    end
  end
end

-- Pairs in their order; a table by names has none, so it is sorted.
local function properties_of(one)
  local list = {}
  for _, pair in ipairs(one.properties or {}) do
    list[#list + 1] = pair
  end
  if not list[1] then
    for name, value in pairs(one.properties or {}) do
      list[#list + 1] = { name, value }
    end
    table.sort(list, function(a, b) return a[1] < b[1] end)
  end
  return list
end

local function words_of(one, i)
  local why = check_result(one, i)
  if why then
    return nil, why
  end
  local words = { ("%s=%s"):format(one.method, one.result) }
  if one.comment then
    words[#words + 1] = comment_of(one.comment)
  end
  if one.reason then
    words[#words + 1] = "reason=" .. value_of(one.reason)
  end
  for _, pair in ipairs(properties_of(one)) do
    if type(pair[1]) ~= "string" or not pair[1]:find("^%a[%w-]*%.%a[%w_-]*$") or pair[2] == nil then
      return nil, ('results[%d].properties: a name such as "smtp.mailfrom" and a value expected'):format(i)
    end
    words[#words + 1] = ("%s=%s"):format(pair[1], value_of(pair[2]))
  end
  return words
end

--- Writes a field's value, folded: a line for each result, and more where one is long.
---@param given { id: string, results: moonpost.authres.Result[] }
---@return string value for message:prepend
function M.format(given)
  if type(given) ~= "table" or type(given.id) ~= "string" or given.id == "" then
    error("authres.format: id: the name of this host expected", 2)
  elseif type(given.results) ~= "table" then
    error("authres.format: results: a list expected", 2)
  elseif given.results.method then
    error("authres.format: results: this is one result; a list of results expected", 2)
  end
  local lines = {}
  local function put(words, first)
    local line = first
    for i, word in ipairs(words) do
      if i > 1 and #line + 1 + #word > LINE then
        lines[#lines + 1], line = line, "\t" .. word
      else
        line = line .. (i > 1 and " " or "") .. word
      end
    end
    lines[#lines + 1] = line
  end
  local id = value_of(given.id)
  if not given.results[1] then
    return id .. "; none"
  end
  lines[1] = id
  for i, one in ipairs(given.results) do
    local words, why = words_of(one, i)
    if not words then
      error("authres.format: " .. why, 2)
    end
    lines[#lines] = lines[#lines] .. ";"
    put(words, "\t")
  end
  return table.concat(lines, "\r\n")
end

return M
