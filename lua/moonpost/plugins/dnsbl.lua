--- Refuses mail of clients, and of senders' domains, that are on lists in the DNS (moonpost.dnsbl).
---
---     server:use(require "moonpost.plugins.dnsbl" { zones = { "bl.example.net" } }, { listeners = { "smtp" } })
local core = require "moonpost.core"
local dnsbl = require "moonpost.dnsbl"
local log = require "moonpost.log"
local lookups = require "moonpost.dns.lookups"
local options_of = require "moonpost.options"
local task = require "moonpost.task"

local schema = {
  { name = "zones", type = "any", default = {}, doc = "lists of addresses, of which the client's is looked for" },
  { name = "domains", type = "any", default = {}, doc = "lists of domains, of which the sender's and HELO's are looked for" },
  { name = "links", type = "any", default = {}, doc = "lists of domains, of which those are looked for that links lead to" },
  { name = "timeout", type = "duration", default = 5, doc = "for all lists together" },
  { name = "fail", type = "choice", values = { "open", "closed" }, default = "open", doc = "closed: what cannot be asked is a reason to try later" },
  { name = "keep", type = "duration", default = 900, doc = "how long an answer is kept at most" },
  { name = "entries", type = "integer", default = 100000, doc = "answers that are kept at most" },
  { name = "name", type = "string", default = "dnsbl", doc = "of the table in moonpost.shared" },
  { name = "dns", type = "any", null = true, doc = "whom to ask in the place of the default resolver",
    check = function(value)
      return not lookups.is_source(value) and "what dns.resolver or dns.zone returned is expected" or nil
    end },
  {
    name = "exempt", type = "strings", default = {}, doc = "networks that are never looked for",
    check = function(list)
      for _, network in ipairs(list) do
        if core.in_network("0.0.0.0", network) == nil and core.in_network("::", network) == nil then
          return ('"%s" is no network'):format(network)
        end
      end
    end,
  },
}

---@class moonpost.DnsblPluginOptions: moonpost.DnsblOptions
---@field domains? (string|moonpost.DnsblZone)[]|string lists of domains: the sender's and HELO's are looked for
---@field links? (string|moonpost.DnsblZone)[]|string lists of domains: those that the message's links lead to are looked for
---@field exempt? string[]|string networks that are never looked for

local function lists_of(options, name)
  local zones = options[name]
  if type(zones) == "table" and not next(zones) then
    return nil
  end
  return dnsbl.new({ zones = zones, timeout = options.timeout, fail = options.fail, keep = options.keep, entries = options.entries,
    name = options.name, dns = options.dns }, name)
end

-- Whoever may send through us is not looked for, and everybody may write to the postmaster (RFC 5321 4.5.1).
local function is_trusted(session, networks)
  if session.user or session.may_relay or not session.ip then
    return true
  end
  for _, network in ipairs(networks) do
    if core.in_network(session.ip, network) then
      return true
    end
  end
  return false
end

local function is_postmaster(recipient)
  return recipient.address:lower():find "^postmaster%f[@\0]" ~= nil
end

-- Once a minute for each list: every session would say it.
local function warn(warned, failed)
  local now = task.worker():now()
  for _, failure in ipairs(failed) do
    if now >= (warned[failure.zone] or now) then
      warned[failure.zone] = now + 60
      log.warn("a list cannot be asked", { zone = failure.zone, problem = failure.problem })
    end
  end
end

-- A verdict: code, enhanced code, text; or false.
local function judge(found, what, warned)
  warn(warned, found.failed)
  local hit = found.hits[1]
  if hit then
    local reason = hit.reason and ": " .. hit.reason or ""
    return { 550, "5.7.1", ("%s is listed by %s%s"):format(hit.host and what .. " " .. hit.host:sub(1, 100) or what, hit.zone, reason) }
  elseif found.listed then
    return { 451, "4.7.1", ("%s cannot be looked up at the moment"):format(what) }
  end
  return false
end

---@param given? moonpost.DnsblPluginOptions
---@return moonpost.Plugin
return function(given)
  local options, why = options_of.resolve(schema, given or {}, options_of.place(2))
  local ok, addresses, domains, linked
  if options then
    ok, addresses = pcall(lists_of, options, "zones")
    if ok then
      ok, domains = pcall(lists_of, options, "domains")
    end
    if ok then
      ok, linked = pcall(lists_of, options, "links")
    end
    why = not ok and tostring(linked or domains or addresses):gsub("^.-dnsbl: ", "")
      or not (addresses or domains or linked) and "zones, domains or links are needed"
  end
  if why then
    error("dnsbl: " .. why, 2)
  end
  local senders = setmetatable({}, { __mode = "k" }) -- of the transactions that are open: the domain, then the verdict
  local warned = {} -- by zone, until when
  local plugin = { name = "dnsbl" }

  local function verdict_of(session, sender)
    local verdict = addresses and judge(addresses:check(session.ip), ("Client host %s"):format(session.ip), warned)
    for _, name in ipairs { sender.domain or "", session.helo or "" } do
      if not verdict and domains and name:find(".", 1, true) then
        verdict = judge(domains:domain(name), ("Domain %s"):format(name:gsub("[^!-~]", "?"):sub(1, 100)), warned)
      end
    end
    return verdict or false
  end

  function plugin.mail(session, sender)
    senders[session] = { domain = sender.domain }
  end

  function plugin.rcpt(session, recipient)
    if is_trusted(session, options.exempt) or is_postmaster(recipient) then
      return
    end
    local sender = senders[session] or {}
    if sender.verdict == nil then
      sender.verdict = verdict_of(session, sender)
    end
    if sender.verdict then
      return table.unpack(sender.verdict)
    end
  end

  if linked then
    function plugin.message(session, message)
      local verdict = not is_trusted(session, options.exempt) and judge(linked:links(message), "Where a link leads:", warned)
      if verdict then
        return table.unpack(verdict)
      end
    end
  end

  return plugin
end
