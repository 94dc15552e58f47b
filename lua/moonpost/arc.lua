--- ARC (RFC 8617): what those through whose hands a message went found out about it, each of whom sealed the word of the others. docs/arc.md
--- explains it; options and results are typed in lua/moonpost/_meta/arc.lua.
---
---     local chain = moonpost.arc.verify(message)
---     if chain.result == "pass" and chain.sets[1].domain == "lists.example.org" then ... end
---     moonpost.arc.seal(message, { domain = "example.org", selector = "2026", key = "/etc/mail/arc.pem", chain = chain, results = results })
local Error = require "moonpost.error"
local core = require "moonpost.core"
local dkim = require "moonpost.dkim"
local dns = require "moonpost.dns"
local lookups = require "moonpost.dns.lookups"
local options_of = require "moonpost.options"
local task = require "moonpost.task"
local sets_of = require "moonpost.arc.sets"
local write = require "moonpost.arc.write"

local M = {}

local RSA_LEAST = 1024 -- bits (RFC 8301 3.2)
local DRIFT = 300 -- seconds that clocks may differ

local function header_of(source, edited)
  local fields, why = core.dkim_fields(source, edited)
  if not fields then
    return nil, Error("message", "arc: " .. why, { temporary = false })
  end
  return fields
end

-- ---- verifying ------------------------------------------------------------------------------------------------------

-- One question for each key, however often it is named.
local function questions_of(sets, newest)
  local list, known = {}, {}
  for i = 1, newest do
    for _, key in ipairs { "ams", "seal" } do
      local field = sets[i][key]
      local name = core.dns_name(("%s._domainkey.%s"):format(field.tags.s, field.tags.d))
      if name and not known[name] then
        known[name] = { name, "TXT" }
        list[#list + 1] = known[name]
      end
      field.question = name and known[name]
    end
  end
  return list
end

-- The key of a field; or nil, why, and whether it may be there later.
local function key_of(field)
  local question = field.question
  if not question then
    return nil, "its key has no name in the DNS"
  elseif question.kind then
    return nil, dkim._troubles[question.kind] or "nobody could answer the question for the key", true
  elseif #question.answer == 0 then
    return nil, "there is no such key"
  end
  local key, why = dkim._choose(question.answer, field.tags.a)
  if not key then
    return nil, why
  end
  local kind, bits, _, sha256 = key:facts()
  if kind ~= field.tags.a:match "^%w+" then
    return nil, "the key is of another kind than the signature"
  elseif not sha256 then
    return nil, "the key is not for sha256"
  elseif kind == "rsa" and bits < RSA_LEAST then
    return nil, ("the RSA key has only %d bits"):format(bits)
  end
  return key
end

-- RFC 8617 does not say what holds without c=; sealers that leave it out mean "relaxed/relaxed", whatever DKIM means by that.
local function forms_of(tags)
  local header, body = (tags.c or "relaxed/relaxed"):lower():match "^(%a+)/?(%a*)$"
  return header, body == "" and "simple" or body
end

-- Bodies are hashed once for each form that is named, all in one pass.
local function hash_for(sets, newest)
  local forms, of = {}, {}
  for i = 1, newest do
    local _, form = forms_of(sets[i].ams.tags)
    if not of[form] then
      forms[#forms + 1], forms[#forms + 2] = form, false
      of[form] = #forms // 2
    end
  end
  return core.dkim_hash(table.unpack(forms)), of
end

-- Whether the signature over the message holds.
local function judge_message(field, fields, hash, hash_of, now)
  local tags = field.tags
  local header, body = forms_of(tags)
  for name in tags.h:gmatch "[^:%s]+" do
    if name:lower() == "arc-seal" then -- RFC 8617 4.1.2
      return false, "it covers a seal"
    end
  end
  local digest, length = hash:digest(hash_of[body])
  if digest ~= tags.bh:gsub("%s+", "") then
    return false, "the body has been changed"
  elseif tags.l and tonumber(tags.l) ~= length then
    return false, "not all of the body is signed"
  elseif tags.x and now > tonumber(tags.x) + DRIFT then
    return false, "it has expired"
  end
  local key, why, temporary = key_of(field)
  if not key then
    return false, why, temporary
  end
  local over = assert(fields:digest(tags.h, header, field.own))
  return key:verify(over, tags.b), "the signature does not hold"
end

local function judge_seal(sets, i)
  local key, why, temporary = key_of(sets[i].seal)
  if not key then
    return false, why, temporary
  end
  local digest
  digest, why = sets_of.digest(sets, 1, i)
  return digest ~= nil and key:verify(digest, sets[i].seal.tags.b), why or "it does not hold"
end

-- RFC 8617 5.2, from step 4 on: the newest signature has to hold, and every seal. The older signatures tell who changed the message.
local function judge(found, sets, newest, context)
  local hash <close>, hash_of = hash_for(sets, newest)
  local questions, hashed = questions_of(sets, newest), dkim._feed(hash, context.source)
  context.dns:_ask_all(questions)
  local fed, err = hashed()
  if not fed then
    return nil, err
  end
  local function fail(what, i, why, temporary)
    found.result, found.temporary = "fail", temporary or nil
    found.reason = ("%s of instance %d: %s"):format(what, i, why)
    return found
  end
  for i = newest, 1, -1 do
    local ok, why, temporary = judge_message(sets[i].ams, context.fields, hash, hash_of, context.now)
    if not ok and i == newest then
      return fail("the signature", i, why, temporary)
    elseif not ok then
      break
    end
    found.oldest_pass = i
  end
  for i = newest, 1, -1 do
    local ok, why, temporary = judge_seal(sets, i)
    if not ok then
      found.oldest_pass = nil
      return fail("the seal", i, why, temporary)
    end
  end
  if found.oldest_pass == 1 then
    found.oldest_pass = 0 -- nobody has changed it since it was sealed first (RFC 8617 5.2)
  end
  found.result = "pass"
  return found
end

-- What is told of a set.
local function told(set, i)
  local tags = set.seal and set.seal.tags or {}
  return {
    instance = i, domain = tags.d, selector = tags.s, cv = tags.cv, time = tonumber(tags.t),
    signer = set.ams and set.ams.tags and set.ams.tags.d,
    results = set.aar and set.aar.results and core.authres(set.aar.results),
  }
end

local verify_schema = {
  { name = "dns", type = "any", null = true,
    check = function(value)
      return not lookups.is_source(value) and "what dns.resolver or dns.zone returned expected" or nil
    end },
  { name = "time", type = "integer", null = true },
}

--- Judges the chain of a message as it was received (RFC 8617 5.2). All keys are asked for at once, while the body is hashed.
---@async
---@param message moonpost.Message|string
---@param options? moonpost.arc.VerifyOptions
---@return moonpost.arc.Chain? chain
---@return moonpost.Error? err
function M.verify(message, options)
  local values, wrong = options_of.resolve(verify_schema, options or {}, options_of.place(2))
  if not values then
    error("arc.verify: " .. wrong, 2)
  end
  local source = dkim._source_of(message, "arc.verify")
  local made, err = header_of(source, false)
  if not made then
    return nil, err
  end
  local fields <close> = made
  local sets, why, newest = sets_of.read(fields)
  local found = { result = "fail", instance = newest, sets = {} }
  for i = 1, newest do
    found.sets[i] = told(sets[i] or {}, i)
  end
  local last = sets[newest] and sets[newest].seal
  if newest == 0 and not why then
    found.result = "none"
    return found
  elseif last and last.tags.cv == "fail" then
    found.reason, found.ended = ("the seal of instance %d says cv=fail"):format(newest), true
    return found
  end
  found.reason = why or sets_of.disorder(sets, newest)
  if found.reason then
    return found
  end
  return judge(found, sets, newest, {
    source = source, fields = fields, dns = values.dns or dns.default(), now = values.time or task.worker():time(),
  })
end

--- What authres.format writes of a chain (RFC 8617 8.1).
---@param chain moonpost.arc.Chain
---@return moonpost.authres.Result
function M.authres(chain)
  local properties, newest = {}, chain.sets[chain.instance]
  if chain.result == "pass" then
    properties[1] = { "header.oldest-pass", tostring(chain.oldest_pass or chain.instance) }
    properties[2] = { "header.d", newest.domain }
    properties[3] = { "header.s", newest.selector }
  end
  return {
    method = "arc", result = chain.result, comment = chain.instance > 0 and ("i=%d"):format(chain.instance) or nil,
    reason = chain.result == "fail" and chain.reason or nil, properties = properties,
  }
end

-- ---- sealing --------------------------------------------------------------------------------------------------------

local function domain(name)
  return not core.dns_name(name) and ('"%s" is no domain'):format(name:gsub("%c", "?")) or nil
end

local results = { none = true, pass = true, fail = true }

local seal_schema = {
  { name = "domain", type = "string", check = domain },
  { name = "selector", type = "string", check = domain },
  { name = "key", type = "any",
    check = function(value)
      return type(value) ~= "string" and not dkim._is_key(value) and "PEM, the path of a file, or what dkim.key returned expected" or nil
    end },
  { name = "authserv_id", type = "string", null = true },
  { name = "results", type = "any", null = true,
    check = function(value)
      return type(value) ~= "table" and type(value) ~= "string" and "a list for authres.format, or text, expected" or nil
    end },
  { name = "chain", type = "any", null = true,
    check = function(value)
      local result = type(value) == "table" and value.result or value
      return not results[result] and '"none", "pass", "fail" or what arc.verify returned expected' or nil
    end },
  { name = "headers", type = "strings", null = true,
    check = function(list)
      for _, name in ipairs(list) do
        if not name:find "^[\x21-\x39\x3c-\x7e]+$" or name:lower() == "arc-seal" or name:lower() == "authentication-results" then
          return ('"%s" is nothing that a signature of ARC covers'):format(name:gsub("%c", "?")) -- RFC 8617 4.1.2
        end
      end
    end },
  { name = "canonicalization", type = "choice", values = { "relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple" },
    default = "relaxed/relaxed" },
  { name = "time", type = "integer", null = true },
  { name = "dns", type = "any", null = true,
    check = function(value)
      return not lookups.is_source(value) and "what dns.resolver or dns.zone returned expected" or nil
    end },
}

local function seal_options(given)
  if type(given) ~= "table" then
    return nil, ("a table of options expected, got a %s"):format(type(given))
  end
  local values, why = options_of.resolve(seal_schema, given, options_of.place(3))
  if not values then
    return nil, why
  end
  for _, name in ipairs { "domain", "selector", "key" } do
    if values[name] == nil then
      return nil, name .. ": missing"
    end
  end
  values.authserv_id = values.authserv_id or values.domain
  return values
end

-- What became of the chain until now: as it is told, as our own Authentication-Results have it, or as the message that was received shows it.
local function chain_of(values, words, message, newest)
  local chain = values.chain
  if type(chain) == "table" then
    return chain.result
  elseif chain or newest == 0 then
    return newest == 0 and "none" or chain
  end
  if words.arc then
    return words.arc
  end
  local found, err = M.verify(message, { dns = values.dns, time = values.time })
  return found and found.result, err
end

local function add_field(message, name, value)
  if type(message) == "string" then
    return ("%s: %s\r\n%s"):format(name, value, message)
  end
  message:prepend(name, value)
  return message
end

-- The hash of the body as it stands.
local function body_hash(source, form)
  local hash <close> = core.dkim_hash(form, false)
  local ok, err = dkim._feed(hash, source)()
  if not ok then
    return nil, err
  end
  return (hash:digest(1))
end

-- The fields of a new set, in the order in which they are made: each is over those before it.
local function set_of(values, fields, sets, i, cv, words)
  local key, err = dkim._private_key(values.key)
  if not key then
    return nil, err
  end
  local hash
  hash, err = body_hash(values.source, select(2, forms_of { c = values.canonicalization }))
  if not hash then
    return nil, err
  end
  local names = values.headers and table.concat(values.headers, ":") or write.HEADERS
  local headers, why = fields:choose(names, not values.headers)
  if not headers then
    return nil, Error("message", "arc: " .. why, { temporary = false })
  end
  local common = {
    a = key:facts() .. "-sha256", d = values.domain, s = values.selector, i = tostring(i),
    t = tostring(values.time or math.floor(task.worker():time())),
  }
  local aar = ("i=%d; %s"):format(i, words.text)
  local ams = write.field("ARC-Message-Signature", common, { bh = hash, c = values.canonicalization, h = headers })
  local digest = assert(fields:digest(headers, forms_of { c = values.canonicalization }, ams.own))
  write.sign(ams, assert(key:sign(digest)))
  local seal = write.field("ARC-Seal", common, { cv = cv })
  sets[i] = {
    aar = { raw = "ARC-Authentication-Results: " .. aar }, ams = { raw = ams.name .. ": " .. ams.value }, seal = { own = seal.own },
  }
  digest, why = sets_of.digest(sets, cv == "fail" and i or 1, i) -- of a broken chain nothing can be vouched for (RFC 8617 5.1.1)
  if not digest then
    return nil, Error("message", "arc: " .. why, { temporary = false })
  end
  write.sign(seal, assert(key:sign(digest)))
  return { { "ARC-Authentication-Results", aar }, { ams.name, ams.value }, { seal.name, seal.value } }
end

--- Seals a message as it stands: a set is on top of it then. Seal last, when nothing of the message changes any more. A chain that has been found
--- broken already gets no other set (RFC 8617 5.1), nor does one that is full: the message comes back as it was.
---@async
---@param message moonpost.Message|string
---@param options moonpost.arc.SealOptions
---@return moonpost.Message|string? message the same message, or the octets with the fields
---@return moonpost.Error? err
---@return integer? instance of the set; nil when none was added
function M.seal(message, options)
  local values, wrong = seal_options(options)
  if not values then
    error("arc.seal: " .. wrong, 2)
  end
  values.source = dkim._source_of(message, "arc.seal")
  local made, err = header_of(values.source, true)
  if not made then
    return nil, err
  end
  local fields <close> = made
  local sets, broken, newest = sets_of.read(fields)
  local seal = sets[newest] and sets[newest].seal
  if newest >= sets_of.MOST or seal and seal.tags.cv == "fail" then
    return message
  end
  local words = write.results(values, fields)
  local cv
  cv, err = chain_of(values, words, message, newest)
  if not cv then
    return nil, err
  end
  if broken or newest > 0 and (cv == "none" or sets_of.disorder(sets, newest)) then
    cv = "fail"
  end
  local list
  list, err = set_of(values, fields, sets, newest + 1, cv, words)
  if not list then
    return nil, err
  end
  for _, field in ipairs(list) do
    message = add_field(message, field[1], field[2])
  end
  return message, nil, newest + 1
end

return M
