--- The texts of MTA-STS (RFC 8461): the TXT record and the policy file. Both are read in one pass; what does not follow the grammar is no policy.
local core = require "moonpost.core"

local M = {}

M.TEXT_MOST = 65536
M.AGE_MOST = 31557600 -- a year (3.2)

local modes = { enforce = true, testing = true, none = true }

-- Letters, digits and hyphens in labels of 1 to 63; a name that only looks like an address is none.
local function host_name(text)
  if #text > 253 or not text:find("^[%w.-]+$") or not text:find("%a") then
    return nil
  end
  for label in (text .. "."):gmatch("([^.]*)%.") do
    if label == "" or #label > 63 or label:find("^%-") or label:find("%-$") then
      return nil
    end
  end
  return text:lower()
end

---@class moonpost.mtasts.Policy
---@field mode "enforce"|"testing"|"none"
---@field mx string[] host names, or "*.example.net": one label in the place of the asterisk
---@field max_age integer seconds
---@field domain? string whose policy it is
---@field id? string of the TXT record under which it was found
---@field fetched? number Unix time
local Policy = {}
local Policy_mt = { __index = Policy, __name = "moonpost.mtasts.Policy" }

--- Whether a mail exchanger is one of the policy's (4.1). Its name comes from an MX record, not from a certificate.
---@param host string
---@return boolean
function Policy:matches(host)
  local name = host_name(core.dns_name(host) or "")
  if not name then
    return false
  end
  local parent = name:match("^[^.]+(%..+)$")
  return self._names[name] == true or parent ~= nil and self._parents[parent] == true
end

-- A field's name: a letter or digit, then up to 31 of letters, digits, "_", "-", ".".
local function is_key(key)
  return #key <= 32 and key:find("^%w[%w_.-]*$") ~= nil
end

-- Unknown fields may say anything that is text.
local function is_text(value)
  return value ~= "" and not value:find("[%z\1-\31\127]") and utf8.len(value) ~= nil
end

local readers = {}

function readers.version(into, value)
  into.version = into.version or value
end

function readers.mode(into, value)
  into.mode = into.mode or value
end

function readers.max_age(into, value)
  into.max_age = into.max_age or value
end

function readers.mx(into, value)
  local wild = value:sub(1, 2) == "*."
  local name = host_name(wild and value:sub(3) or value)
  if not name then
    return "an mx that is no host name"
  end
  into.mx[#into.mx + 1] = (wild and "*." or "") .. name
  if wild then
    into._parents["." .. name] = true
  else
    into._names[name] = true
  end
end

local function read_line(into, line)
  local key, value = line:match("^([^:]*):[ \t]*(.*)$")
  if not key or not is_key(key) then
    return "a line that is no field"
  end
  local reader = readers[key]
  if reader then
    return reader(into, value)
  elseif not is_text(value) then
    return "a field whose value is no text"
  end
end

local function complete(into)
  if into.version ~= "STSv1" then
    return nil, "its version is not STSv1"
  elseif not modes[into.mode or ""] then
    return nil, into.mode and "its mode is unknown" or "it has no mode"
  elseif not (into.max_age or ""):find("^%d+$") or #into.max_age > 10 then
    return nil, "it has no max_age, or one that is no number"
  elseif #into.mx == 0 and into.mode ~= "none" then
    return nil, "it has no mx"
  end
  into.version = nil
  into.max_age = math.min(math.tointeger(tonumber(into.max_age)), M.AGE_MOST)
  return setmetatable(into, Policy_mt)
end

--- Reads a policy file (3.2). Of fields that may come once, the first counts; unknown ones are passed over.
---@param text string
---@return moonpost.mtasts.Policy? policy
---@return string? why
function M.parse(text)
  if #text > M.TEXT_MOST then
    return nil, "it is too long"
  end
  local into = { mx = {}, _names = {}, _parents = {} }
  local at = 1
  while at <= #text do
    local stop = text:find("\n", at, true) or #text + 1
    local last = stop - 1
    if text:byte(last) == 13 and last >= at then
      last = last - 1
    end
    while last >= at and (text:byte(last) == 32 or text:byte(last) == 9) do
      last = last - 1
    end
    local why = last >= at and read_line(into, text:sub(at, last))
    if why then
      return nil, why
    end
    at = stop + 1
  end
  return complete(into)
end

local function read_record(text)
  local rest = text:match("^v=STSv1[ \t]*;[ \t]*(.*)$")
  local id
  local at = 1
  while at <= #rest do
    local stop = rest:find(";", at, true) or #rest + 1
    local key, value = rest:sub(at, stop - 1):match("^[ \t]*([^=%s]+)=([\33-\58\60\62-\126]+)[ \t]*$")
    if not key or not is_key(key) then
      return nil, "its TXT record is malformed"
    elseif key == "id" then
      id = id or value
    end
    at = stop + 1
    at = rest:find("[^ \t]", at) or #rest + 1
  end
  if not id or #id > 32 or not id:find("^%w+$") then
    return nil, "its TXT record has no id"
  end
  return id
end

--- The id among the TXT records at _mta-sts (3.1): there has to be one record that begins as it should.
---@param records string[]
---@return string? id
---@return string? why
function M.id(records)
  local found
  for _, text in ipairs(records) do
    if text:find("^v=STSv1[ \t]*;") then
      if found then
        return nil, "there are several MTA-STS records"
      end
      found = text
    end
  end
  if not found then
    return nil, "there is no MTA-STS record"
  end
  return read_record(found)
end

return M
