--- Keys of DKIM and ARC: public ones by the records that hold them, private ones by what names them; each is parsed once.
local Error = require "moonpost.error"
local core = require "moonpost.core"

local M = {}

local KEYS_MOST = 512 -- parsed keys of others that are kept
local RECORDS_MOST = 8 -- of one name that are tried
local KEPT_MOST = 2048 -- octets of a record that is kept: a key of 8192 bits has 1400, and what stands beside it may be as long as its owner likes

-- By their record. When the young are many the old ones go.
local young, old, count = {}, {}, 0

function M.public(record)
  if young[record] then
    return young[record]
  end
  local key, why = old[record], nil
  if not key then
    key, why = core.dkim_record(record)
  end
  if not key or #record > KEPT_MOST then
    return key, why
  end
  if count >= KEYS_MOST then
    young, old, count = {}, young, 0
  end
  young[record], count = key, count + 1
  return key
end

-- Private keys by what names them: a reload makes another Lua state, which reads its files anew.
local private = {}

function M.is_key(value)
  return type(value) == "userdata" and (getmetatable(value) or {}).__name == "moonpost.core.dkim_key"
end

local function read_key(given)
  if given:find("-----BEGIN", 1, true) or given:find "^%s*[%w+/]+=%s*$" and #given < 64 then
    local key, why = core.dkim_key(given)
    return key, why and "key: " .. why
  end
  local file, failed = io.open(given, "rb")
  if not file then
    return nil, failed
  end
  local text = file:read(65537) or ""
  file:close()
  local key, why = core.dkim_key(text)
  return key, why and ("%s: %s"):format(given, why)
end

function M.private(given)
  if M.is_key(given) then
    return given
  elseif not private[given] then
    local key, why = read_key(given)
    if not key then
      return nil, Error("key", "dkim: " .. why, { temporary = false })
    end
    private[given] = key
  end
  return private[given]
end

local troubles = {
  timeout = "no answer in time to the question for the key",
  bogus = "the answer to the question for the key is forged",
}

--- What became of the question for a key, when it is no answer.
---@param kind string of the failure
---@return string sentence
function M.trouble(kind)
  return troubles[kind] or "nobody could answer the question for the key"
end

-- The key among the records of a name; the one of the right kind, when there are several.
function M.choose(records, algorithm)
  local chosen, reason
  for i = 1, math.min(#records, RECORDS_MOST) do
    local key, why = M.public(records[i])
    if key and key:facts() == (algorithm or ""):match "^%w+" then
      return key
    end
    chosen, reason = chosen or key, reason or why
  end
  return chosen, reason
end

return M
