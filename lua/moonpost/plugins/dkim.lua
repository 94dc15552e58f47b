--- Signs what our users send (moonpost.dkim), with the key of the author's domain.
---
---     server:use(require "moonpost.plugins.dkim" { selector = "2026", key = "/etc/mail/dkim/%{domain}.pem" })
---
--- The signature covers the message as it is when this hook is asked: what a later hook changes of it, a later hook has to sign.
local core = require "moonpost.core"
local dkim = require "moonpost.dkim"
local dmarc = require "moonpost.dmarc"
local log = require "moonpost.log"
local options_of = require "moonpost.options"
local psl = require "moonpost.psl"

local KNOWN_MOST = 10000 -- domains by which a key has been looked for

local function is_domain(name)
  return not core.dns_name(name) and ('"%s" is no domain'):format(name:gsub("%c", "?")) or nil
end

local schema = {
  { name = "selector", type = "string", null = true, check = is_domain, doc = "of the keys that `key` names" },
  { name = "key", type = "string", null = true, doc = "the path of a domain's key, with %{domain} in it; or one key for all of `domains`",
    check = function(path)
      local odd = path:gsub("%%{domain}", ""):match "%%{[^}]*}?"
      return odd and not path:find("-----BEGIN", 1, true) and ("%s: only %%{domain} is known"):format(odd:gsub("%c", "?")) or nil
    end },
  { name = "domains", type = "any", default = {}, doc = "keys by domain: the options of a signature, or several" },
  { name = "fallback", type = "string", null = true, check = is_domain, doc = "who signs for domains that have no key" },
  { name = "missing", type = "choice", values = { "pass", "refuse" }, default = "pass", doc = "what becomes of mail that nobody has a key for" },
  { name = "sessions", type = "choice", values = { "ours", "all" }, default = "ours", doc = "ours: of users and of clients that may relay" },
  { name = "author", type = "choice", values = { "any", "sender" }, default = "any",
    doc = "sender: From has to be the envelope's sender, of whom `senders` says who may be it" },
  { name = "headers", type = "any", null = true }, { name = "oversign", type = "any", null = true },
  { name = "canonicalization", type = "any", null = true }, { name = "expires", type = "any", null = true },
}

local passed_on = { "headers", "oversign", "canonicalization", "expires" }

---@class moonpost.DkimPluginOptions
---@field selector? string of the keys that `key` names
---@field key? string the path of a domain's key, with %{domain} in it; or one key for all of `domains`
---@field domains? table<string, moonpost.dkim.SignOptions|moonpost.dkim.SignOptions[]|true>|string[] keys by domain
---@field fallback? string who signs for domains that have no key
---@field missing? "pass"|"refuse" what becomes of mail that nobody has a key for: "pass"
---@field sessions? "ours"|"all" whose mail is signed: that of users and of clients that may relay
---@field author? "any"|"sender" "sender": From has to be the envelope's sender, of whom `senders` says who may be it; "any"
---@field headers? string[]|string as in moonpost.dkim.SignOptions
---@field oversign? boolean|string[]
---@field canonicalization? string
---@field expires? moonpost.Duration

-- The options of one signature: its own, before those for all.
local function terms_of(options, domain, given)
  local terms = { domain = domain, selector = options.selector, key = options.key and options.key:gsub("%%{domain}", domain) or nil }
  for _, name in ipairs(passed_on) do
    terms[name] = options[name]
  end
  for name, value in pairs(type(given) == "table" and given or {}) do
    terms[name] = value
  end
  return terms
end

local function signer_of(options, domain, given)
  local list = type(given) == "table" and given[1] and given or { given }
  local all = {}
  for i, one in ipairs(list) do
    all[i] = terms_of(options, domain, one)
  end
  return dkim.signer(all)
end

-- Signers of the domains that are named; a key that cannot be read is a mistake of the policy.
local function named(options)
  local signers = {}
  if type(options.domains) ~= "table" then
    return nil, "domains: a table expected"
  end
  for name, given in pairs(options.domains) do
    local domain = core.dns_name(type(name) == "number" and given or name)
    if not domain then
      return nil, ('domains: "%s" is no domain'):format(tostring(name):gsub("%c", "?"))
    end
    local ok, signer, err = pcall(signer_of, options, domain, type(name) ~= "number" and given or true)
    if not ok or not signer then
      return nil, ("domains: %s: %s"):format(domain, tostring(ok and err or signer):gsub("^.-dkim%.signer: ", ""))
    end
    signers[domain] = signer
  end
  return signers
end

local function exists(path)
  local file, _, code = io.open(path, "rb")
  if file then
    file:close()
  end
  return file ~= nil or code ~= 2 and code ~= 36 -- ENOENT; ENAMETOOLONG: the name of a domain may be longer than that of a file
end

-- A mistake in what is for all signatures is the policy's, and not that of the first message.
local function trial(options)
  local terms = terms_of(options, "example.org", nil)
  terms.selector, terms.key = terms.selector or "x", core.dkim_make_key "ed25519"
  local ok, why = pcall(dkim.signer, terms)
  return not ok and why:gsub("^.-dkim%.signer: ", "") or nil
end

local Keys = {}
Keys.__index = Keys

-- The signer of a domain; false when it has none; nil and why when its key cannot be read.
function Keys:of(domain)
  local known = self.known[domain]
  if known ~= nil then
    return known
  end
  local signer, err = false
  local pattern = self.options.key
  -- Names in mail hold what they like; none with a slash in it may name a file.
  if pattern and domain:find "^[%w._-]+$" and pattern:find("%{domain}", 1, true) and exists((pattern:gsub("%%{domain}", domain))) then
    signer, err = signer_of(self.options, domain, true)
    if not signer then
      return nil, err
    end
  end
  if self.count >= KNOWN_MOST then
    self.known, self.count = setmetatable({}, { __index = self.named }), 0
  end
  self.known[domain], self.count = signer, self.count + 1
  return signer
end

-- The domain itself, those above it that belong to the same owner, and who signs for all others.
function Keys:find(domain)
  local owner = psl.registrable(domain)
  local name = domain
  while name do
    local signer, err = self:of(name)
    if signer or err then
      return signer, err
    end
    name = owner and name ~= owner and name:match "^[^.]*%.(.*)$" or nil
  end
  if self.options.fallback then
    return self:of(core.dns_name(self.options.fallback))
  end
  return false
end

-- Whether all whom From names are the envelope's sender.
local function is_sender(message)
  local list = message.headers:addresses "From"
  for _, one in ipairs(list or {}) do
    if (one.address or ""):lower() ~= message.sender.address:lower() then
      return false
    end
  end
  return list ~= nil and list[1] ~= nil and #message.headers:all "From" == 1
end

---@param given moonpost.DkimPluginOptions
---@return moonpost.Plugin
return function(given)
  local options, why = options_of.resolve(schema, given or {}, options_of.place(2))
  local signers
  if options then
    signers, why = named(options)
  end
  if signers and options.key and not options.selector then
    why = "selector: missing"
  elseif signers and not options.key and not next(signers) then
    why = "key or domains are needed"
  end
  if options and not why and options.key and not options.key:find("%{domain}", 1, true) and not next(options.domains) then
    why = "key: without %{domain} in it there have to be domains that it is for"
  end
  if options and not why then
    why = trial(options)
  end
  if why then
    error("dkim: " .. why, 2)
  end
  local keys = setmetatable({ options = options, named = signers, known = setmetatable({}, { __index = signers }), count = 0 }, Keys)
  local plugin = { name = "dkim" }

  function plugin.message(session, message)
    if options.sessions == "ours" and not session.user and not session.may_relay then
      return
    end
    local domain, problem = dmarc.author(message)
    local signer, err
    if domain and options.author == "sender" and not is_sender(message) then
      domain, problem = nil, "From is not the sender"
    end
    if domain then
      signer, err = keys:find(domain)
    end
    local signed
    if signer then
      signed, err = signer:sign(message)
    end
    if signed then
      return
    elseif err then
      log.error("not signed", { session = session.id, domain = domain, why = tostring(err) })
      return 451, "4.3.0", "Cannot be signed now, please try again later"
    elseif options.missing == "refuse" then
      return 550, "5.7.1", domain and ("There is no key to sign for %s"):format(domain) or "Cannot be signed: " .. problem
    end
  end

  return plugin
end
