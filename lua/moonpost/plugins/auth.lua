--- Finds out who sent every message (moonpost.auth): its Authentication-Results go on top of the header, those that were forged away, and what the
--- author's domain asks for by DMARC is done, where that is wanted.
---
---     server:use(require "moonpost.plugins.auth" { enforce = true }, { listeners = { "smtp" } })
---
--- What was found is in `message.meta.auth`, for the hooks behind.
local auth = require "moonpost.auth"
local authres = require "moonpost.authres"
local core = require "moonpost.core"
local log = require "moonpost.log"
local options_of = require "moonpost.options"

local schema = table.move(auth._schema, 1, #auth._schema, 1, {})
for _, field in ipairs {
  { name = "enforce", type = "boolean", default = false, doc = "what a domain asks for by DMARC is done" },
  { name = "quarantine", type = "choice", values = { "tag", "reject", "none" }, default = "tag", doc = "what is done where it asks for that" },
  { name = "tag", type = "string", default = "X-Quarantine", doc = "the field that such a message gets",
    check = function(name)
      return not name:find "^[%w-]+$" and "the name of a header field expected" or nil
    end },
  { name = "fail", type = "choice", values = { "open", "closed" }, default = "open", doc = "closed: what cannot be asked is a reason to try later" },
  { name = "exempt", type = "strings", default = {}, doc = "networks whose mail is not looked at",
    check = function(list)
      for _, network in ipairs(list) do
        if core.in_network("0.0.0.0", network) == nil and core.in_network("::", network) == nil then
          return ('"%s" is no network'):format(network)
        end
      end
    end },
} do
  schema[#schema + 1] = field
end

local own = { enforce = true, quarantine = true, tag = true, fail = true, exempt = true }

---@class moonpost.AuthPluginOptions: moonpost.auth.Options
---@field enforce? boolean what a domain asks for by DMARC is done: false
---@field quarantine? "tag"|"reject"|"none" what is done where it asks for quarantine: "tag"
---@field tag? string the field that such a message gets: "X-Quarantine"
---@field fail? "open"|"closed" closed: 451 where nobody can be asked for what DMARC needs
---@field exempt? string[]|string networks whose mail is not looked at

-- Whoever may send through us is no stranger.
local function is_exempt(session, networks)
  if session.user or session.may_relay then
    return true
  end
  for _, network in ipairs(networks) do
    if session.ip and core.in_network(session.ip, network) then
      return true
    end
  end
  return false
end

-- Peers' words in a reply: short, and ASCII.
local function shown(text)
  return (text:sub(1, 200):gsub("[^ -~]", "?"))
end

local function tell(session, message, found)
  local domains = {}
  for i, one in ipairs(found.dkim) do
    domains[i] = ("%s:%s"):format(one.domain or "?", one.result)
  end
  log.info("authenticated", {
    session = session.id, message = message.id, from = found.from or "", dmarc = found.dmarc.result, disposition = found.disposition,
    spf = found.spf.result, dkim = table.concat(domains, ","), arc = found.arc.result, iprev = found.iprev.result,
    override = found.override and found.override.domain, removed = found.removed > 0 and found.removed or nil,
  })
end

-- Code, enhanced code (RFC 7372) and text; nothing when it passes.
local function verdict_of(options, found)
  if not found.from then
    return 550, "5.7.1", "Nobody can be held to this message: " .. shown(found.dmarc.reason)
  elseif found.dmarc.result == "temperror" and options.fail == "closed" then
    return 451, "4.7.26", "Cannot look up now who sent this, please try again later"
  elseif found.disposition == "reject" or found.disposition == "quarantine" and options.quarantine == "reject" then
    return 550, "5.7.26", ("Refused, as %s asks for (DMARC)"):format(found.from)
  end
end

---@param given? moonpost.AuthPluginOptions
---@return moonpost.Plugin
return function(given)
  local options, why = options_of.resolve(schema, given or {}, options_of.place(2))
  if not options then
    error("auth: " .. why, 2)
  end
  local how = {}
  for name, value in pairs(options) do
    how[name] = not own[name] and value or nil
  end
  local plugin = { name = "auth" }

  function plugin.message(session, message)
    message:remove(options.tag) -- nobody else says that
    if is_exempt(session, options.exempt) then
      authres.strip(message, { options.id or session._house.hostname, table.unpack(options.own) })
      return
    end
    local found = auth._verify(session, message, how)
    message.meta.auth = found
    tell(session, message, found)
    message:prepend("Authentication-Results", found.header)
    if not options.enforce then
      return
    end
    if found.disposition == "quarantine" and options.quarantine == "tag" then
      message:prepend(options.tag, ("yes (DMARC, %s)"):format(found.from))
    end
    return verdict_of(options, found)
  end

  return plugin
end
