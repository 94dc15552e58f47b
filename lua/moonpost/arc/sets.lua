--- The sets of a chain (RFC 8617 4.1) as they are written: three fields each, told apart by i=. What a field has to have is a row of a table.
local core = require "moonpost.core"

local M = {}

M.MOST = 50 -- sets (RFC 8617 4.2.1)

local FIELDS = "ARC-Authentication-Results:ARC-Message-Signature:ARC-Seal"

-- ---- tags -----------------------------------------------------------------------------------------------------------

local function is_domain(value)
  return core.dns_name(value) ~= nil and not value:find "[%[%]]"
end

local function is_time(value)
  return #value <= 12 and value:find "^%d+$" ~= nil
end

local function is_base64(value)
  return value:find "^[%w+/%s]+=?%s*=?%s*$" ~= nil
end

local algorithms = { ["rsa-sha256"] = true, ["ed25519-sha256"] = true }
local forms = { simple = true, relaxed = true }

local function is_canonicalization(value)
  local header, body = value:match "^(%a+)/?(%a*)$"
  return header ~= nil and forms[header:lower()] and (body == "" or forms[body:lower()]) or false
end

-- tag, whether it may be missing, and what its value has to be
local signed = {
  { "a", check = function(value) return algorithms[value] end },
  { "b", check = is_base64 },
  { "d", check = is_domain },
  { "s", check = is_domain },
  { "t", optional = true, check = is_time },
}

local function with(rows)
  return table.move(signed, 1, #signed, #rows + 1, rows)
end

-- By the name of a field: where its value goes in a set, and its tags. ARC-Authentication-Results has but one, in front (RFC 8617 4.1.1).
local kinds = {
  ["arc-authentication-results"] = { key = "aar", name = "ARC-Authentication-Results" },
  ["arc-message-signature"] = {
    key = "ams", name = "ARC-Message-Signature",
    tags = with {
      { "bh", check = is_base64 },
      { "c", optional = true, check = is_canonicalization },
      { "h" }, -- may name nothing at all
      { "l", optional = true, check = is_time },
      { "x", optional = true, check = is_time },
    },
  },
  ["arc-seal"] = {
    key = "seal", name = "ARC-Seal",
    tags = with {
      { "cv", check = function(value) return value == "none" or value == "pass" or value == "fail" end },
      { "h", forbidden = true }, -- RFC 8617 4.1.3
    },
  },
}

-- What is wrong with the tags of a field; nil when nothing is.
local function wrong_tag(kind, tags)
  for _, row in ipairs(kind.tags) do
    local name, value = row[1], tags[row[1]]
    if row.forbidden and value then
      return ("%s= has no place in it"):format(name)
    elseif not value and not row.optional and not row.forbidden then
      return ("%s= is missing"):format(name)
    elseif value and row.check and not row.check(value) then
      return ("%s= is malformed"):format(name)
    end
  end
end

-- ---- fields ---------------------------------------------------------------------------------------------------------

local function instance_of(text)
  local digits = text and text:match "^%s*(%d%d?)%s*$"
  local i = digits and tonumber(digits)
  return i and i >= 1 and i <= M.MOST and i or nil
end

-- A field without its CRLF: { kind, raw, i, ... }; or nil and what is wrong.
local function read(raw)
  local field = { raw = raw:gsub("\r\n$", "") }
  local label, at = field.raw:match "^([^:]-)[ \t]*:()"
  local kind = kinds[label:lower()]
  field.kind = kind
  local value = field.raw:sub(at)
  if not kind.tags then
    local i, rest = value:match "^%s*i%s*=%s*(%d+)%s*;()"
    field.i = instance_of(i)
    field.results = rest and value:sub(rest)
    if not field.i then
      return nil, kind.name .. ": i= is missing or malformed"
    end
    return field
  end
  local tags, first, last = core.dkim_tags(value)
  if not tags or value:find ";%s*;" then
    return nil, kind.name .. ": it is no list of tags"
  end
  field.i, field.tags = instance_of(tags.i), tags
  if not field.i then
    return nil, kind.name .. ": i= is missing or malformed"
  end
  local why = wrong_tag(kind, tags)
  if first then -- as it was when it was signed
    field.own = field.raw:sub(1, at - 2 + first) .. field.raw:sub(at + last)
  end
  return not why and field or nil, why and ("%s of instance %d: %s"):format(kind.name, field.i, why), field
end

--- The sets of a header.
---@param fields moonpost.core.dkim_fields
---@return table[] sets by instance: { aar, ams, seal }, as far as they are there
---@return string? why it is no chain
---@return integer newest the highest instance that is named; 0 without any field of ARC's
function M.read(fields)
  local sets, why, newest = {}, nil, 0
  local list = fields:list(FIELDS)
  if #list > 3 * M.MOST then
    return {}, ("more than %d sets"):format(M.MOST), M.MOST
  end
  for _, raw in ipairs(list) do
    local field, wrong, partial = read(raw)
    why = why or wrong
    field = field or partial
    if field then
      local i, key = field.i, field.kind.key
      newest = math.max(newest, i)
      sets[i] = sets[i] or {}
      if sets[i][key] then
        why = why or ("%s of instance %d is there twice"):format(field.kind.name, i)
      end
      sets[i][key] = field
    end
  end
  if list[1] and newest == 0 then
    newest = 1
  end
  return sets, why, newest
end

--- What is wrong with the order of the sets (RFC 8617 5.2 step 3); nil when nothing is.
---@param sets table[]
---@param newest integer
---@return string?
function M.disorder(sets, newest)
  for i = 1, newest do
    local set = sets[i]
    for _, key in ipairs { "aar", "ams", "seal" } do
      if not set or not set[key] then
        return ("instance %d is not complete"):format(i)
      end
    end
    local cv, right = set.seal.tags.cv, i == 1 and "none" or "pass"
    if cv ~= right then
      return ("the seal of instance %d says cv=%s"):format(i, cv)
    end
  end
end

--- What a seal is over (RFC 8617 5.1.1): the sets from `first` on in their order, the last field being the seal without its signature.
---@param sets table[]
---@param first integer
---@param last integer
---@return string? digest
---@return string? why
function M.digest(sets, first, last)
  local parts = {}
  for i = first, last do
    for _, key in ipairs { "aar", "ams", "seal" } do
      local own = i == last and key == "seal"
      local text, why = core.dkim_canon(own and sets[i].seal.own or sets[i][key].raw, "relaxed", not own)
      if not text then
        return nil, why
      end
      parts[#parts + 1] = text
    end
  end
  return core.dkim_digest(table.concat(parts))
end

return M
