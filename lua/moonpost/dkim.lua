--- DKIM (RFC 6376, 8301, 8463): signs messages, and says which signatures of a message hold. docs/dkim.md explains it; the options and what is
--- found are typed in lua/moonpost/_meta/dkim.lua.
---
---     assert(moonpost.dkim.sign(message, { domain = "example.org", selector = "2026", key = "/etc/mail/dkim.pem" }))
---     for _, one in ipairs(assert(moonpost.dkim.verify(message))) do print(one.result, one.domain, one.reason) end
local Error = require "moonpost.error"
local body = require "moonpost.dkim.body"
local core = require "moonpost.core"
local dns = require "moonpost.dns"
local keys = require "moonpost.dkim.keys"
local lookups = require "moonpost.dns.lookups"
local options_of = require "moonpost.options"
local task = require "moonpost.task"

local M = {}

local SHOWN = 8 -- characters of b= that tell signatures apart (RFC 6008)
local SIGNATURES_MOST = 8
local NAME_MOST = 200 -- octets of a field's name: h= is folded between names, and a line has at most 998 (RFC 5322 2.1.1)
local LIFETIME_MOST = 1e10 -- seconds; x= has at most twelve digits

--- Reads a private key; what it returns can be given as `key`.
---@param text string PEM, the seed of an Ed25519 key in base64, or the path of a file with either
---@return moonpost.core.dkim_key? key
---@return moonpost.Error? err of kind "key"
function M.key(text)
  if type(text) ~= "string" then
    error(("dkim.key: a string expected, got a %s"):format(type(text)), 2)
  end
  return keys.private(text)
end

--- Makes a key. An RSA key takes a while, in which nothing else happens: this is for tools.
---@param kind? "ed25519"|"rsa" "rsa" when left out
---@param bits? integer of an RSA key, 1024 to 8192; 2048
---@return { private: string, record: string } pair the key in PEM, and the text of its TXT record
function M.keygen(kind, bits)
  if kind ~= nil and kind ~= "ed25519" and kind ~= "rsa" then
    error(('dkim.keygen: "ed25519" or "rsa" expected, got %s'):format(type(kind) == "string" and ("%q"):format(kind) or "a " .. type(kind)), 2)
  end
  local ok, key, why = pcall(core.dkim_make_key, kind or "rsa", bits)
  if not ok or not key then
    error("dkim.keygen: " .. tostring(ok and why or key):gsub("^.-:%d+: ", ""), 2)
  end
  return { private = key:pem(), record = key:record() }
end

-- ---- signing --------------------------------------------------------------------------------------------------------

local forms = { "relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple", "relaxed", "simple" }

local function names(list)
  for _, name in ipairs(list) do
    if #name > NAME_MOST or not name:find "^[\x21-\x39\x3c-\x7e]+$" then
      return ('"%s" is no name of a header field'):format(name:sub(1, NAME_MOST):gsub("%c", "?"))
    end
  end
end

local function domain(name)
  return not core.dns_name(name) and ('"%s" is no domain'):format(name:gsub("%c", "?")) or nil
end

local schema = {
  { name = "domain", type = "string", check = domain },
  { name = "selector", type = "string", check = domain },
  { name = "key", type = "any",
    check = function(value)
      return type(value) ~= "string" and not keys.is_key(value) and "PEM, the path of a file, or what dkim.key returned expected" or nil
    end },
  { name = "headers", type = "strings", null = true, check = names },
  { name = "oversign", type = "any", null = true,
    check = function(value)
      if type(value) ~= "boolean" and type(value) ~= "table" then
        return "true, false or a list of names expected"
      end
      for _, name in ipairs(type(value) == "table" and value or {}) do
        if type(name) ~= "string" then
          return "a list of strings expected"
        end
      end
      return type(value) == "table" and names(value) or nil
    end },
  { name = "canonicalization", type = "choice", values = forms, default = "relaxed/relaxed" },
  { name = "expires", type = "duration", null = true,
    check = function(seconds)
      return seconds > LIFETIME_MOST and "it is too long" or nil
    end },
  { name = "identity", type = "string", null = true },
  { name = "length", type = "integer", null = true },
  { name = "time", type = "integer", null = true },
}

-- Without From no signature holds. What is left out is as it should be.
local function has_from(list)
  for _, name in ipairs(type(list) == "table" and list or {}) do
    if name:lower() == "from" then
      return true
    end
  end
  return list == nil
end

-- What C wants to know of one signature.
local function terms_of(given, place)
  local values, why = options_of.resolve(schema, given, place)
  for _, name in ipairs { "domain", "selector", "key" } do
    if values and values[name] == nil then
      values, why = nil, name .. ": missing"
    end
  end
  local of = values and values.identity and values.identity:match "@([^@]*)$"
  if values and values.identity then
    local name, owner = of and core.dns_name(of), core.dns_name(values.domain)
    if not name or name ~= owner and name:sub(-#owner - 1) ~= "." .. owner then -- RFC 6376 3.5
      values, why = nil, ("identity: \"user@%s\" or \"@%s\" expected, or a name below that domain"):format(owner, owner)
    end
  end
  if values and not has_from(values.headers) and not has_from(values.oversign) then
    values, why = nil, "headers: From has to be among them (RFC 6376 5.4)"
  end
  if not values then
    return nil, why
  end
  local header, body_form = values.canonicalization:match "^(%a+)/?(%a*)$"
  local over, headers = values.oversign, values.headers and table.concat(values.headers, ":")
  return {
    domain = values.domain, selector = values.selector, identity = values.identity, key = values.key,
    headers = headers, header_form = header, body_form = body_form == "" and "simple" or body_form,
    -- named, they are signed once more even where there is none
    absent = over == true or type(over) == "table",
    oversign = type(over) == "table" and table.concat(over, ":") or over == true and headers or over == false and "" or nil,
    lifetime = values.expires, length = values.length, made = values.time,
  }
end

---@class moonpost.dkim.Signer
local Signer = {}
local Signer_mt = { __index = Signer, __name = "moonpost.dkim.Signer" }

local function prepare(given, who)
  if type(given) ~= "table" then
    error(("dkim.%s: a table of options expected, got a %s"):format(who, type(given)), 3)
  end
  local list, all = given[1] and given or { given }, {}
  if #list > SIGNATURES_MOST then
    error(("dkim.%s: at most %d signatures"):format(who, SIGNATURES_MOST), 3)
  end
  for i, one in ipairs(list) do
    local terms, why = terms_of(one, options_of.place(3))
    if not terms then
      error(("dkim.%s: %s"):format(who, why), 3)
    end
    local key, err = keys.private(terms.key)
    if not key then
      return nil, err
    end
    terms.key, all[i] = key, terms
  end
  return setmetatable({ _terms = all }, Signer_mt)
end

-- The values of the fields, in the order of the terms.
local function values_of(self, source)
  local wanted, place, hash_of = {}, {}, {}
  for i, terms in ipairs(self._terms) do
    local form = terms.body_form .. (terms.length or "")
    if not place[form] then -- the body is hashed once for all that want it so
      wanted[#wanted + 1], wanted[#wanted + 2] = terms.body_form, terms.length or false
      place[form] = #wanted // 2
    end
    hash_of[i] = place[form]
  end
  local hash <close> = core.dkim_hash(table.unpack(wanted))
  local ok, err = body.feed(hash, source, "dkim")()
  if not ok then
    return nil, err
  end
  local values = {}
  for i, terms in ipairs(self._terms) do
    terms.time = terms.made or math.floor(task.worker():time())
    terms.expires = terms.lifetime and math.floor(terms.time + terms.lifetime) or nil
    local value, why = hash:sign(hash_of[i], source, terms, terms.key)
    if not value then
      return nil, Error("message", "dkim: " .. why, { temporary = false })
    end
    values[i] = value
  end
  return values
end

local function sign(self, message, source)
  if type(message) == "string" and message:find "^[^\r\n]*\n" then -- what is read as its header and body would be something else
    return nil, Error("message", "dkim: lines have to end with CRLF, and the first ends with LF", { temporary = false })
  end
  local values, err = values_of(self, source)
  if not values then
    return nil, err
  end
  if type(message) ~= "string" then
    for i = #values, 1, -1 do
      message:prepend("DKIM-Signature", values[i])
    end
    return message
  end
  for i, value in ipairs(values) do
    values[i] = ("DKIM-Signature: %s\r\n"):format(value)
  end
  values[#values + 1] = message
  return table.concat(values)
end

--- Puts the signatures on top of the message.
---@async
---@param message moonpost.Message|string lines of a string end with CRLF
---@return moonpost.Message|string? message the same message, or the octets with the fields
---@return moonpost.Error? err
function Signer:sign(message)
  local source = body.source(message, "dkim.sign")
  return sign(self, message, source)
end

--- Something that signs, prepared once: options are checked and keys read here.
---@param options moonpost.dkim.SignOptions|moonpost.dkim.SignOptions[]
---@return moonpost.dkim.Signer? signer
---@return moonpost.Error? err of kind "key"
function M.signer(options)
  local signer, err = prepare(options, "signer") -- no tail call: mistakes raise at the caller's line
  return signer, err
end

--- Signs a message: the fields are on top of it then. Sign last, when nothing of the message changes any more.
---@async
---@param message moonpost.Message|string
---@param options moonpost.dkim.SignOptions|moonpost.dkim.SignOptions[]|moonpost.dkim.Signer
---@return moonpost.Message|string? message
---@return moonpost.Error? err
function M.sign(message, options)
  local source, signer = body.source(message, "dkim.sign"), options
  if getmetatable(options) ~= Signer_mt then
    local prepared, err = prepare(options, "sign")
    if not prepared then
      return nil, err
    end
    signer = prepared
  end
  return sign(signer, message, source)
end

-- ---- verifying ------------------------------------------------------------------------------------------------------

-- One question for each signature that is open; those that name the same key share it.
local function questions_of(verifier, signatures)
  local list, known, of = {}, {}, {}
  for i = 1, signatures do
    local name = verifier:question(i)
    local ascii = name and core.dns_name(name)
    if ascii then
      if not known[ascii] then
        known[ascii] = { ascii, "TXT" }
        list[#list + 1] = known[ascii]
      end
      of[i] = known[ascii]
    elseif name then
      verifier:refuse(i, false, "its key has no name in the DNS")
    end
  end
  return list, of
end

local function judge(verifier, i, question, found)
  if question.kind then
    return verifier:refuse(i, true, keys.trouble(question.kind))
  elseif #question.answer == 0 then
    return verifier:refuse(i, false, "there is no such key")
  end
  local key, why = keys.choose(question.answer, found.algorithm)
  if not key then
    return verifier:refuse(i, false, why)
  end
  local _, bits, testing = key:facts()
  found.key_bits, found.testing = bits, testing
  verifier:judge(i, key)
end

local function shape(verifier, i, found)
  local now = verifier:signature(i)
  for name, value in pairs(now) do
    found[name] = value
  end
  found.result = now.result
  local list = {}
  for name in (now.headers or ""):gmatch "[^:%s]+" do
    list[#list + 1] = name
  end
  found.headers = list
  found.signature = now.signature and now.signature:gsub("%s+", ""):sub(1, SHOWN) or nil
  return found
end

local verify_schema = {
  { name = "dns", type = "any", null = true,
    check = function(value)
      return not lookups.is_source(value) and "what dns.resolver or dns.zone returned expected" or nil
    end },
  { name = "time", type = "integer", null = true },
  { name = "timeout", type = "duration", null = true },
  { name = "partial", type = "boolean", default = false },
}

--- Judges the signatures of a message as it was received, at most ten, from the top. All keys are asked for at once, while the body is hashed.
---@async
---@param message moonpost.Message|string
---@param options? moonpost.dkim.VerifyOptions
---@return moonpost.dkim.Found[]? list one for each signature; empty without any; `more`: how many were not looked at
---@return moonpost.Error? err
function M.verify(message, options)
  local values, wrong = options_of.values(verify_schema, options or {})
  if not values then
    error("dkim.verify: " .. wrong, 2)
  end
  local source = body.source(message, "dkim.verify")
  local made, why = core.dkim_verifier(source, values.time or task.worker():time(), values.partial)
  if not made then
    return nil, Error("message", "dkim: " .. why, { temporary = false })
  end
  local verifier <close> = made
  local signatures, more, wants_body = verifier:count()
  local list = { more = more > 0 and more or nil }
  for i = 1, signatures do
    list[i] = { testing = false, algorithm = verifier:signature(i).algorithm }
  end
  local questions, of = questions_of(verifier, signatures)
  if wants_body then
    local hashed = body.feed(verifier, source, "dkim")
    lookups.ask_within(values.dns or dns.default(), questions, values.timeout)
    local ok, err = hashed()
    if not ok then
      return nil, err
    end
    for i in pairs(of) do
      judge(verifier, i, of[i], list[i])
    end
  end
  for i = 1, signatures do
    shape(verifier, i, list[i])
  end
  return list
end

return M
