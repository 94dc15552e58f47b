--- What a connection is asked to be: the options of moonpost.connect and its kin, checked, and the targets that are made of them.
local core = require "moonpost.core"
local destination = require "moonpost.destination"
local lookups = require "moonpost.dns.lookups"
local options_of = require "moonpost.options"
local schema = require "moonpost.schema"
local suggest = require "moonpost.suggest"
local tls_of = require "moonpost.client_tls"

local M = {}

local FLIGHT = 32768 -- octets of a message that may go in one flight with its envelope

local function hostname()
  local file = io.open("/proc/sys/kernel/hostname", "r")
  local name = file and file:read("l")
  if file then
    file:close()
  end
  return name and core.mailbox("x@" .. name) and name or "localhost"
end

local function is_callable(value)
  return type(value) ~= "function" and "a function expected" or nil
end

local function resolver(value)
  return not lookups.is_source(value) and "what dns.resolver or dns.zone returned is expected" or nil
end

-- What is said with EHLO (RFC 5321 4.1.1.1) is what may stand behind the "@" of an address.
local function is_our_name(name)
  return core.mailbox("x@" .. name) ~= nil
end

local function our_name(name)
  return not is_our_name(name) and ('%q is neither a host name nor an address such as "[192.0.2.1]"'):format(name) or nil
end

local function ips(list)
  for _, ip in ipairs(list) do
    if core.in_network(ip, "0.0.0.0/0") == nil then
      return ('"%s" is no IP address'):format(ip)
    end
  end
end

local function among(known)
  return function(list)
    for _, name in ipairs(list) do
      local fits = false
      for _, one in ipairs(known) do
        fits = fits or one == name:upper()
      end
      if not fits then
        return ('unknown name "%s"%s'):format(name, suggest.hint(name, known))
      end
    end
  end
end

local extensions = {}
for name in pairs(schema.extensions) do
  extensions[#extensions + 1] = name
end
table.sort(extensions)
local CLEAR = { "PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER" } -- that show a secret to whoever listens

M.timeouts = {
  { name = "connect", type = "duration", default = "30s", doc = "for one address" },
  { name = "handshake", type = "duration", default = "30s", doc = "of TLS" },
  { name = "banner", type = "duration", default = "5m" },
  { name = "hello", type = "duration", default = "5m", doc = "EHLO, HELO, LHLO and STARTTLS" },
  { name = "auth", type = "duration", default = "5m", doc = "each step" },
  { name = "mail", type = "duration", default = "5m", doc = "and RSET, NOOP, VRFY" },
  { name = "rcpt", type = "duration", default = "5m" },
  { name = "data", type = "duration", default = "2m", doc = "until 354" },
  { name = "block", type = "duration", default = "3m", doc = "a body that the peer does not read" },
  { name = "final", type = "duration", default = "10m", doc = "the reply to a body" },
  { name = "quit", type = "duration", default = "10s", doc = "the reply to QUIT: nobody's message hangs on it" },
  { name = "operation", type = "duration", default = "1h", doc = "anything as a whole" },
}

M.schema = {
  { name = "url", type = "string" }, { name = "via", type = "string" }, { name = "host", type = "string" },
  { name = "port", type = "integer" }, { name = "path", type = "string" },
  { name = "protocol", type = "choice", values = { "smtp", "smtps", "submission", "submissions", "lmtp", "lmtps" } },
  { name = "helo", type = "string", default = hostname, check = our_name },
  { name = "tls", type = "any" }, { name = "auth", type = "table" },
  { name = "source", type = "strings", default = {}, check = ips },
  { name = "timeouts", type = "table", fields = M.timeouts },
  { name = "trace", type = "any", check = is_callable },
  { name = "dns", type = "any", check = resolver },
  { name = "ignore", type = "strings", default = {}, check = among(extensions) },
  { name = "allow_local", type = "boolean", default = false },
  { name = "names", type = "strings", default = {} },
}

local known -- the names of the schema
function M.known()
  if not known then
    known = {}
    for _, field in ipairs(M.schema) do
      known[field.name] = true
    end
  end
  return known
end

M.auth_fields = {
  { name = "user", type = "string", default = "" }, { name = "password", type = "string" },
  { name = "token", type = "string" }, { name = "authzid", type = "string" },
  { name = "mechanisms", type = "strings", default = {}, check = among(schema.mechanisms) },
  { name = "in_clear", type = "strings", default = {}, check = among(CLEAR) },
}

-- Where the options say it goes: a URL, or its parts. Nil when they do not say.
local function place(values)
  local url = values.url or values.via
  if url and (values.host or values.path or values.port or values.protocol) or values.url and values.via then
    return nil, "one URL, or host, port, path and protocol; not both"
  elseif url then
    return destination.parse(url)
  elseif not (values.host or values.path) then
    return nil, values.protocol and "protocol: host or path is needed with it" or nil -- a port alone is that of mail exchangers
  end
  local scheme = values.protocol or "smtp"
  if values.path then
    return destination.parse(("%s://unix:%s"):format(scheme, values.path))
  end
  local host = values.host:find(":", 1, true) and ("[%s]"):format(values.host) or values.host
  local to, why = destination.parse(("%s://%s"):format(scheme, host))
  if to and values.port then
    if values.port < 1 or values.port > 65535 then
      return nil, "port: 1 to 65535 expected"
    end
    to.port = values.port
  end
  return to, why
end

local function sources(list)
  local of = {}
  for _, ip in ipairs(list) do
    local family = ip:find(":", 1, true) and "source6" or "source4"
    if of[family] then
      return nil, "source: one address of each family at most"
    end
    of[family] = ip
  end
  return of
end

local function machine_options(values, lmtp)
  local of = { hostname = values.helo, lmtp = lmtp, trace = values.trace ~= nil, flight = FLIGHT }
  for _, field in ipairs(M.timeouts) do
    of[field.name] = values.timeouts[field.name]
  end
  if values.ignore[1] then
    of.ignore = {}
    for _, name in ipairs(values.ignore) do
      of.ignore[name:upper()] = true
    end
  end
  return of
end

--- Checks connection options, of which those that a place needs may be missing: `settings` for M.target.
---@param options table
---@param at string where they were written
---@return table? settings
---@return string? why
function M.settings(options, at)
  local values, why = options_of.resolve(M.schema, options, at)
  if not values then
    return nil, why
  end
  local auth
  if values.auth then
    auth, why = options_of.resolve(M.auth_fields, values.auth, at, "auth.")
    if not auth then
      return nil, why
    elseif not (auth.password or auth.token) then
      return nil, "auth: a password or a token is needed"
    end
  end
  local to
  to, why = place(values)
  if why then
    return nil, why
  end
  if to and to.user then
    if auth then
      return nil, "auth: the URL has credentials already"
    elseif not to.password then
      return nil, "a URL with a user needs a password too: \"smtp://user:secret@host\""
    end
    auth = { user = to.user, password = to.password, mechanisms = {}, in_clear = {} }
  end
  local source
  source, why = sources(values.source)
  if not source then
    return nil, why
  end
  local tls
  tls, why = tls_of.settings(values.tls, auth ~= nil, at)
  if not tls then
    return nil, why
  end
  return { values = values, auth = auth, to = to, tls = tls, source = source }
end

local count = 0

--- What is dialled: one host, with everything that is said to it. Connections of targets with one key are alike.
---@param settings table of M.settings
---@param to? moonpost.Destination in the place of the settings' own
---@param more? { addresses?: string[], dane?: table, sts?: table, requiretls?: boolean, unsigned?: boolean } of a route and of the message: what is
--- known already
---@return table target
function M.target(settings, to, more)
  to = to or settings.to
  local values = settings.values
  local target = {
    to = to, host = to.host or to.path, auth = settings.auth, tls = tls_of.decide(settings.tls, to.host or to.path, more),
    addresses = more and more.addresses, source = settings.source, dns = values.dns, trace = values.trace,
    connect = values.timeouts.connect, lmtp = to.protocol == "lmtp",
  }
  target.machine = machine_options(values, target.lmtp)
  if not settings.key then
    count = count + 1
    settings.key = count
  end
  target.key = ("%d %s %s"):format(settings.key, destination.show(to), target.tls.key)
  return target
end

return M
