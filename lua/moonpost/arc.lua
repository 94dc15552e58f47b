--- ARC (RFC 8617): who handled a message on its way says what it was worth when it came, and seals that. Judges chains, and seals. docs/arc.md
--- explains it; what is found is typed in lua/moonpost/_meta/dkim.lua.
---
---     local chain = assert(moonpost.arc.verify(message))
---     print(chain.result, chain.reason)
---     assert(moonpost.arc.seal(message, { domain = "example.org", selector = "2026", key = "/etc/mail/dkim.pem", results = header }))
local Error = require "moonpost.error"
local body = require "moonpost.dkim.body"
local compose = require "moonpost.compose"
local core = require "moonpost.core"
local dns = require "moonpost.dns"
local keys = require "moonpost.dkim.keys"
local lookups = require "moonpost.dns.lookups"
local options_of = require "moonpost.options"
local sets_of = require "moonpost.arc.sets"
local task = require "moonpost.task"

local M = {}

local DRIFT = 300 -- seconds that clocks may differ
local RSA_LEAST = 1024 -- bits
local WIDTH = 72 -- of a line of names
local LINE_MOST = 900 -- of base64

-- ---- judging --------------------------------------------------------------------------------------------------------

-- A question for the key of each signature; those that name the same key share it.
local function questions_of(sets)
  local list, known, of = {}, {}, {}
  for _, set in ipairs(sets) do
    for _, sealing in ipairs { set.signature, set.seal } do
      local ascii = core.dns_name(sealing.selector .. "._domainkey." .. sealing.domain)
      if ascii and not known[ascii] then
        known[ascii] = { ascii, "TXT" }
        list[#list + 1] = known[ascii]
      end
      of[sealing] = ascii and known[ascii]
    end
  end
  return list, of
end

-- The key of a signature, or nil, why not, and whether it may be there later.
local function key_of(question, algorithm)
  if not question then
    return nil, "its key has no name in the DNS"
  elseif question.kind then
    return nil, keys.trouble(question.kind), true
  elseif #question.answer == 0 then
    return nil, "there is no such key"
  end
  local key, why = keys.choose(question.answer, algorithm)
  if not key then
    return nil, why
  end
  local kind, bits, _, sha256 = key:facts()
  if kind ~= algorithm:match "^%w+" then
    return nil, "the key is of another kind than the signature"
  elseif not sha256 then
    return nil, "the key is not for sha256"
  elseif kind == "rsa" and bits < RSA_LEAST then
    return nil, ("the RSA key has only %d bits"):format(bits)
  end
  return key
end

-- Whether a signature holds over a digest: true; or nil, why, and whether that may change.
local function holds(sealing, question, digest)
  local key, why, temporary = key_of(question, sealing.algorithm)
  if not key then
    return nil, why, temporary
  end
  local ok, wrong = key:check(digest, sealing.signature)
  return ok, wrong
end

local function seal_digest(sets, last)
  local fields = {}
  for i = 1, last do
    local set = sets[i]
    for _, one in ipairs { set.results, set.signature, set.seal } do
      fields[#fields + 1] = one.raw
    end
  end
  return core.arc_digest(fields)
end

local function signature_holds(source, signature, digests, question, now)
  if signature.expires and signature.expires + DRIFT < now then
    return nil, "it has expired"
  elseif digests[signature.body] ~= signature.hash then
    return nil, "the body has been changed"
  end
  local digest, why = core.dkim_digest(source, false, signature.names, signature.header, signature.raw)
  if not digest then
    return nil, why
  end
  return holds(signature, question, digest)
end

-- Hashes of the body in the forms that signatures want; asks for the keys meanwhile.
local function gather(source, sets, questions, names, seconds)
  local wanted, place = {}, {}
  for _, set in ipairs(sets) do
    local form = set.signature.body
    if not place[form] then
      wanted[#wanted + 1], wanted[#wanted + 2] = form, false
      place[form] = #wanted // 2
    end
  end
  wanted[#wanted + 1] = true -- of the body as it came
  local hash <close> = core.dkim_hash(table.unpack(wanted))
  local wait = body.feed(hash, source, "arc")
  lookups.ask_within(names, questions, seconds)
  local ok, err = wait()
  if not ok then
    return nil, err
  end
  for form, i in pairs(place) do
    place[form] = hash:digest(i)
  end
  return place
end

-- What is told of each set, before any is judged.
local function shown(sets)
  local list = {}
  for i, set in ipairs(sets) do
    list[i] = { instance = i, domain = set.seal.domain, selector = set.seal.selector, chain = set.seal.chain, results = set.results.text }
  end
  return list
end

local function fail(found, reason, temporary)
  if found.result ~= "fail" then
    found.result, found.reason, found.temporary = "fail", reason, temporary or nil
  end
end

-- RFC 8617 5.2, steps 4 to 6: the last signature, those before it as far as they still hold, then all seals.
local function judge(found, source, sets, digests, of, now)
  local held = true
  for i = #sets, 1, -1 do
    local row, signature, seal = found.sets[i], sets[i].signature, sets[i].seal
    local ok, why, temporary = signature_holds(source, signature, digests, of[signature], now)
    row.signature = ok and "pass" or "fail"
    if not ok and i == #sets then
      fail(found, ("signature %d: %s"):format(i, why), temporary)
    elseif not ok and held then
      found.oldest_pass = i + 1
    end
    held = held and ok
    ok, why, temporary = holds(seal, of[seal], seal_digest(sets, i))
    row.seal = ok and "pass" or "fail"
    if not ok then
      fail(found, ("seal %d: %s"):format(i, why), temporary)
    end
  end
end

local verify_schema = {
  { name = "dns", type = "any", null = true,
    check = function(value)
      return not lookups.is_source(value) and "what dns.resolver or dns.zone returned expected" or nil
    end },
  { name = "time", type = "integer", null = true },
  { name = "timeout", type = "duration", null = true },
}

--- Judges the chain of a message as it was received (RFC 8617 5.2). All keys are asked for at once, while the body is hashed.
---@async
---@param message moonpost.Message|string
---@param options? moonpost.arc.VerifyOptions
---@return moonpost.arc.Found? found
---@return moonpost.Error? err
function M.verify(message, options)
  local values, wrong = options_of.values(verify_schema, options or {})
  if not values then
    error("arc.verify: " .. wrong, 2)
  end
  local source = body.source(message, "arc.verify")
  local fields, why = core.arc_fields(source, false)
  if not fields then
    return nil, Error("message", "arc: " .. why, { temporary = false })
  end
  local sets, broken = sets_of.read(fields)
  local found = { result = "none", instance = #sets, sets = shown(sets) }
  if broken then
    fail(found, broken)
    return found
  elseif #sets == 0 then
    return found
  end
  found.result, found.oldest_pass = "pass", 0
  local questions, of = questions_of(sets)
  local digests, err = gather(source, sets, questions, values.dns or dns.default(), values.timeout)
  if not digests then
    return nil, err
  end
  judge(found, source, sets, digests, of, values.time or task.worker():time())
  if found.result == "fail" then
    found.oldest_pass = nil
  end
  return found
end

-- ---- sealing --------------------------------------------------------------------------------------------------------

local function domain(name)
  return not core.dns_name(name) and ('"%s" is no domain'):format(name:gsub("%c", "?")) or nil
end

local seal_schema = {
  { name = "domain", type = "string", check = domain },
  { name = "selector", type = "string", check = domain },
  { name = "key", type = "any",
    check = function(value)
      return type(value) ~= "string" and not keys.is_key(value) and "PEM, the path of a file, or what dkim.key returned expected" or nil
    end },
  { name = "results", type = "string" },
  { name = "chain", type = "any", null = true,
    check = function(value)
      local result = type(value) == "table" and value.result or value
      return result ~= "none" and result ~= "pass" and result ~= "fail" and '"none", "pass", "fail" or what arc.verify returned expected' or nil
    end },
  { name = "headers", type = "strings", null = true,
    check = function(list)
      for _, name in ipairs(list) do
        if not name:find "^[\x21-\x39\x3c-\x7e]+$" then
          return ('"%s" is no name of a header field'):format(name:gsub("%c", "?"))
        elseif name:lower() == "arc-seal" or name:lower() == "authentication-results" then
          return name .. " is not to be signed (RFC 8617 4.1.2)"
        end
      end
    end },
  { name = "dns", type = "any", null = true, check = verify_schema[1].check },
  { name = "time", type = "integer", null = true },
}

local function sealing_options(given)
  if type(given) ~= "table" then
    error(("arc.seal: a table of options expected, got a %s"):format(type(given)), 3)
  end
  local values, why = options_of.resolve(seal_schema, given, options_of.place(3))
  for _, name in ipairs { "domain", "selector", "key", "results" } do
    if values and values[name] == nil then
      values, why = nil, name .. ": missing"
    end
  end
  if not values then
    error("arc.seal: " .. why, 3)
  end
  return values
end

-- Signs a field, between whose parts the octets of the signature belong.
local function signed(name, before, after, key, digest_of)
  local digest, why = digest_of(("%s: %s%s"):format(name, before, after))
  if not digest then
    return nil, why
  end
  local signature, wrong = key:sign(digest)
  if not signature then
    return nil, wrong
  end
  -- In one piece, if lines may be so long (RFC 5322 2.1.1): white space in it would be signed by the seal, and some relays fold anew.
  local text = compose.base64(signature):gsub(("."):rep(LINE_MOST), "%0\r\n\t")
  return before .. text .. after
end

-- h= with a line end now and then.
local function folded(names)
  local lines, width = { "" }, 2
  for name in names:gmatch "[^:]+:?" do
    if width + #name > WIDTH then
      lines[#lines + 1], width = "", 1
    end
    lines[#lines], width = lines[#lines] .. name, width + #name
  end
  return table.concat(lines, "\r\n\t")
end

-- The three fields of the next set, as values. In front of i= there is a space and no tab: dkimpy finds the signature by it.
local function next_set(source, sets, values, key, chain)
  local instance = #sets + 1
  local kind = key:facts()
  local names, why = core.dkim_choose(source, values.headers and table.concat(values.headers, ":"))
  if not names then
    return nil, why
  end
  local time = values.time or math.floor(task.worker():time())
  local results = ("i=%d; %s"):format(instance, values.results)
  local signature
  signature, why = signed("ARC-Message-Signature",
    ("a=%s-sha256;\r\n\tb="):format(kind),
    (";\r\n\tbh=%s; c=relaxed/relaxed;\r\n\td=%s; h=%s;\r\n i=%d; s=%s; t=%d"):format(
      compose.base64(values.body_digest), values.domain, folded(names), instance, values.selector, time),
    key, function(field)
      return core.dkim_digest(source, true, names, "relaxed", field)
    end)
  if not signature then
    return nil, why
  end
  local fields = {}
  for _, set in ipairs(chain == "fail" and {} or sets) do -- a chain that failed is not vouched for (RFC 8617 5.1.2)
    for _, one in ipairs { set.results, set.signature, set.seal } do
      fields[#fields + 1] = one.raw
    end
  end
  fields[#fields + 1] = "ARC-Authentication-Results: " .. results
  fields[#fields + 1] = "ARC-Message-Signature: " .. signature
  local seal
  seal, why = signed("ARC-Seal",
    ("a=%s-sha256;\r\n\tb="):format(kind),
    (";\r\n\tcv=%s; d=%s; i=%d; s=%s; t=%d"):format(chain, values.domain, instance, values.selector, time),
    key, function(field)
      fields[#fields + 1] = field
      return core.arc_digest(fields)
    end)
  if not seal then
    return nil, why
  end
  return { { "ARC-Authentication-Results", results }, { "ARC-Message-Signature", signature }, { "ARC-Seal", seal } }
end

local function put(message, fields)
  if type(message) ~= "string" then
    for _, field in ipairs(fields) do
      message:prepend(field[1], field[2])
    end
    return message
  end
  local list = {}
  for i, field in ipairs(fields) do
    list[#fields + 1 - i] = ("%s: %s\r\n"):format(field[1], field[2])
  end
  return table.concat(list) .. message
end

-- The chain that the message has now, and what it is worth: what is given, or what is found.
local function chain_of(message, source, values)
  local fields, why = core.arc_fields(source, true)
  if not fields then
    return nil, Error("message", "arc: " .. why, { temporary = false })
  end
  local sets, broken = sets_of.read(fields)
  local given = type(values.chain) == "table" and values.chain.result or values.chain
  if not given then
    local found, err = M.verify(message, { dns = values.dns, time = values.time })
    if not found then
      return nil, err
    end
    given = found.result
  end
  return sets, given, broken
end

--- Seals a message (RFC 8617 5.1): puts a set on top of it that says what it was worth when it came. Seal last, when nothing of the message changes
--- any more; a DKIM signature comes before. A chain that had failed before it came gets no further set: the message stays as it is.
---@async
---@param message moonpost.Message|string lines of a string end with CRLF
---@param options moonpost.arc.SealOptions
---@return moonpost.Message|string? message the same message, or the octets with the fields
---@return moonpost.Error? err
function M.seal(message, options)
  local source = body.source(message, "arc.seal")
  local values = sealing_options(options)
  if type(message) == "string" and message:find "^[^\r\n]*\n" then -- its header would have no end
    return nil, Error("message", "arc: lines have to end with CRLF, and the first ends with LF", { temporary = false })
  end
  local key, err = keys.private(values.key)
  if not key then
    return nil, err
  end
  local sets, chain, broken = chain_of(message, source, values)
  if not sets then
    return nil, chain
  elseif #sets > 0 and sets[#sets].seal.chain == "fail" or #sets >= sets_of.MOST or broken and #sets == 0 then
    return message
  end
  local hash <close> = core.dkim_hash("relaxed", false)
  local ok, wrong = body.feed(hash, source, "arc")()
  if not ok then
    return nil, wrong
  end
  values.body_digest = hash:digest(1)
  local fields, why = next_set(source, sets, values, key, #sets == 0 and "none" or chain == "pass" and "pass" or "fail")
  if not fields then
    return nil, Error("message", "arc: " .. why, { temporary = false })
  end
  return put(message, fields)
end

return M
