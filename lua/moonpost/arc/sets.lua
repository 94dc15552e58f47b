--- The sets of an ARC chain (RFC 8617 4): an ARC-Authentication-Results, an ARC-Message-Signature and an ARC-Seal for each who sealed, read and
--- judged by their shape alone.
local core = require "moonpost.core"
local trim = require "moonpost.trim"

local M = {}

M.MOST = 50 -- sets of a chain (RFC 8617 4.2.1)

local TIME_DIGITS = 12

---@class moonpost.arc.Sealing what was read of an ARC-Message-Signature or an ARC-Seal
---@field raw string the field, without CRLF at its end
---@field instance integer
---@field domain string
---@field selector string
---@field algorithm string
---@field signature string octets
---@field header? string canonical form, of a signature
---@field body? string
---@field names? string h=
---@field hash? string octets of bh=
---@field chain? string cv=, of a seal

local function instance_of(text)
  local digits = text and text:match "^%d%d?%d?$"
  local value = digits and digits:sub(1, 1) ~= "0" and tonumber(digits)
  return value and value <= M.MOST and value or nil
end

local algorithms = { ["rsa-sha256"] = true, ["ed25519-sha256"] = true }
local forms = { simple = true, relaxed = true }

-- What each kind of field has to say: name of the tag, and what reads it into the result. nil: it is wrong.
local function octets(text)
  local value = core.dkim_octets(text)
  return value and value ~= "" and value or nil
end

local function name(text)
  return text ~= "" and core.dns_name(text) and text or nil
end

local common = {
  { "i", "instance", instance_of },
  { "a", "algorithm", function(text) return algorithms[text] and text or nil end },
  { "d", "domain", name },
  { "s", "selector", name },
  { "b", "signature", octets },
}

local function time_is_none(tags, tag)
  return tags[tag] and not (tags[tag]:find "^%d+$" and #tags[tag] <= TIME_DIGITS)
end

local function read_common(value, raw)
  local tags = core.dkim_tags(value)
  if not tags or value:find ";%s*;" then -- two in a row are a mistake here, in spite of what DKIM's readers let pass
    return nil, "it is no list of tags"
  end
  local read = { raw = raw }
  for _, row in ipairs(common) do
    local tag, key, reader = table.unpack(row)
    if not tags[tag] then
      return nil, tag .. "= is missing"
    end
    read[key] = reader(tags[tag])
    if not read[key] then
      return nil, tag .. "= is wrong"
    end
  end
  return read, tags
end

-- h= of a signature: no field of a seal (RFC 8617 4.1.2).
local function names_are_wrong(names)
  for each in (names .. ":"):gmatch "([^:]*):" do
    each = trim(each):lower()
    if each == "arc-seal" then
      return "h= names a seal"
    end
  end
end

--- Reads an ARC-Message-Signature.
---@param value string
---@param raw string
---@return moonpost.arc.Sealing?
---@return string? why
function M.signature(value, raw)
  local read, tags = read_common(value, raw)
  if not read then
    return nil, tags
  end
  for _, tag in ipairs { "bh", "h" } do
    if not tags[tag] then
      return nil, tag .. "= is missing"
    end
  end
  local form = tags.c or "relaxed/relaxed" -- not what DKIM has (RFC 8617 says nothing else), but what sealers who leave it out mean
  local header, body = form:match "^(%a+)/?(%a*)$"
  body = body == "" and not form:find "/" and "simple" or body
  if not forms[header] or not forms[body] then
    return nil, "c= is wrong"
  end
  read.header, read.body, read.names = header, body, tags.h
  read.hash = octets(tags.bh)
  if not read.hash or #read.hash ~= 32 then
    return nil, "bh= is wrong"
  elseif tags.l then
    return nil, "l= leaves some of the body open"
  elseif time_is_none(tags, "t") or time_is_none(tags, "x") then
    return nil, "t= or x= is wrong"
  end
  read.expires = tags.x and tonumber(tags.x)
  local wrong = names_are_wrong(tags.h)
  if wrong then
    return nil, wrong
  end
  return read
end

local chains = { none = true, pass = true, fail = true }

--- Reads an ARC-Seal.
---@param value string
---@param raw string
---@return moonpost.arc.Sealing?
---@return string? why
function M.seal(value, raw)
  local read, tags = read_common(value, raw)
  if not read then
    return nil, tags
  elseif tags.h or tags.bh then
    return nil, "it has tags of a signature" -- RFC 8617 4.1.3
  elseif not chains[tags.cv] then
    return nil, tags.cv and "cv= is wrong" or "cv= is missing"
  elseif time_is_none(tags, "t") then
    return nil, "t= is wrong"
  end
  read.chain = tags.cv
  return read
end

local function results(value, raw)
  local instance = instance_of(value:match "^[iI]%s*=%s*(%d+)%s*;")
  if not instance then
    return nil, "i= is wrong or missing"
  end
  return { raw = raw, instance = instance, text = value:match "^[^;]*;%s*(.*)$" }
end

local kinds = {
  ["arc-authentication-results"] = { key = "results", read = results },
  ["arc-message-signature"] = { key = "signature", read = M.signature },
  ["arc-seal"] = { key = "seal", read = M.seal },
}

---@class moonpost.arc.Set
---@field results { raw: string, instance: integer, text: string }
---@field signature moonpost.arc.Sealing
---@field seal moonpost.arc.Sealing

-- Whether a chain of whole sets claims to be one (RFC 8617 5.2, steps 2 and 3).
local function claim(sets)
  for i, set in ipairs(sets) do
    local chain = set.seal.chain
    if i == #sets and chain == "fail" then
      return "it had failed before it came here"
    elseif chain ~= (i == 1 and "none" or "pass") then
      return ("seal %d: cv=%s cannot be there"):format(i, chain)
    end
  end
end

--- The sets of a message, first to last.
---@param fields { name: string, value: string, raw: string }[] what core.arc_fields returned
---@return moonpost.arc.Set[] sets empty when there is no chain
---@return string? why it is none that can pass
function M.read(fields)
  local sets, most, wrong = {}, 0, nil
  for _, field in ipairs(fields) do
    local kind = kinds[field.name]
    if kind then
      local read, why = kind.read(field.value, field.raw)
      local instance = read and read.instance
      local set = instance and (sets[instance] or {})
      if not read then
        wrong = wrong or ("%s: %s"):format(field.name, why)
        most = math.max(most, 1)
      elseif set[kind.key] then
        wrong = wrong or ("%s: two of i=%d"):format(field.name, instance)
      else
        set[kind.key] = read
        sets[instance], most = set, math.max(most, instance)
      end
    end
  end
  for i = 1, most do
    local set = sets[i] or {}
    for _, kind in pairs(kinds) do
      wrong = wrong or not set[kind.key] and ("set %d is not whole"):format(i) or nil
    end
  end
  if most == 0 then
    return {}
  elseif wrong then
    return {}, wrong
  end
  return sets, claim(sets)
end

return M
