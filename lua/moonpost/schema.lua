--- Every option of moonpost.server with its default, in one place: checks, `moonpost check` and the documents are
--- made from it. `c` names the number for C (smtp/server.h, conn/service.h); `at` says whether a listener or the
--- whole service has it.
local core = require "moonpost.core"
local units = require "moonpost.units"

local M = {}

local function network(list)
  for _, item in ipairs(list) do
    local v4, v6 = core.in_network("0.0.0.0", item), core.in_network("::", item)
    if v4 == nil and v6 == nil then
      return ('"%s" is no network such as "10.0.0.0/8" or "2001:db8::/32"'):format(item)
    end
  end
end

local function domain(list)
  for _, item in ipairs(list) do
    if item ~= "*" and not item:find("^%.?[%w\x80-\xff][%w\x80-\xff_.:%-]*$") then
      return ('"%s" is no domain: "example.org", ".example.org" for what is below, or "*" for all'):format(item)
    end
  end
end

local function hostname()
  local file = io.open("/proc/sys/kernel/hostname", "r")
  local name = file and file:read("l")
  if file then
    file:close()
  end
  return name and name:find("^[%w.-]+$") and name or "localhost"
end

--- Numbers between what makes sense and what C keeps them in. `show` writes them as a policy does.
local function between(least, most, show)
  show = show or function(number)
    return ("%d"):format(number)
  end
  return function(value)
    if value < least then
      return ("at least %s"):format(show(least))
    elseif value > most then
      return ("at most %s"):format(show(most))
    end
  end
end

local COUNT = 2147483647
local TEN_YEARS = 315360000
local SHORTEST = 0.001

local function count(name, default, c, at, doc, reply, least, most)
  return { name = name, type = "integer", default = default, c = c, at = at, doc = doc, reply = reply,
    check = between(least or 0, most or COUNT) }
end

local function size(name, default, c, at, doc, reply, least, most)
  return { name = name, type = "size", default = default, c = c, at = at, doc = doc, reply = reply,
    check = least and between(least, most or 2 ^ 62, units.show_size) }
end

local function time(name, default, c, at, doc, reply, least, most)
  return { name = name, type = "duration", default = default, c = c, at = at, doc = doc, reply = reply,
    check = between(least or 0, most or TEN_YEARS, units.show_duration) }
end

--- Every limit has a number. 0 means "no limit" where the text says so.
M.limits = {
  size("size", "50MB", "size", "listener", "octets of a message; 0 = no limit", "552 5.3.4"),
  {
    name = "overrun", type = "size", c = "overrun", at = "listener", reply = "421 4.3.4",
    doc = "octets read past `size` to find the end of an oversized message; as much again by default",
    default = function(values)
      return values.size
    end,
  },
  count("recipients", 100, "recipients", "listener", "recipients of a message", "452 4.5.3", 1, 100000),
  count("messages", 1000, "messages", "listener", "messages in a session; 0 = no limit", "421 4.7.0"),
  count("errors", 20, "errors", "listener", "bad commands in a session", "421 4.7.0"),
  count("refused_recipients", 20, "refused_recipients", "listener",
    "recipients refused with 5xx in a session; ten times as many of relay networks and authenticated users; 0 = no limit",
    "421 4.7.0"),
  count("auth_failures", 3, "auth_failures", "listener", "failed AUTH in a session", "421 4.7.0"),
  count("idle_commands", 100, "idle_commands", "listener",
    "NOOP, RSET, HELP, VRFY and EXPN in a row; past it each counts as an error", "421 4.7.0"),
  size("envelope", "1MB", "envelope_memory", "listener", "memory of one envelope", "452 4.5.3", 16384, COUNT),
  size("line", 998, "line_limit", "listener",
    "octets of a message's line before `long_lines` decides; over 64 KiB is always refused", "550 5.6.0", 78,
    65536),
  size("header", "1MB", "header_most", "service",
    "octets of a message's header, which stays in memory", "552 5.3.4"),
  count("fields", 5000, "fields", "service", "fields of a message's header; 0 = no limit", "552 5.3.4"),
  count("hops", 100, "hops", "service", "Received fields: more is a loop", "554 5.4.6"),
  time("command_time", "5m", "command_ms", "listener", "silence before a command", "421 4.4.2", SHORTEST),
  time("line_time", "1m", "line_ms", "listener", "from a command's first octet to its end", "421 4.4.2",
    SHORTEST),
  time("data_time", "3m", "data_ms", "listener", "silence inside a message", "421 4.4.2", SHORTEST),
  count("data_rate", 100, "data_rate", "listener",
    "octets a second at least, on average from a message's 30th second on; 0 = off", "421 4.4.2"),
  time("session_time", "1h", "session_ms", "listener", "a whole session, looked at between messages; 0 = no limit",
    "421 4.4.2"),
  time("handshake_time", "30s", "handshake_ms", "service", "a TLS handshake, and a PROXY header", "closed"),
  time("auth_delay", "1s", "auth_delay_ms", "listener", "before a failed AUTH is answered", "535 5.7.8"),
  time("greet_delay", 0, "greet_delay_ms", "listener", "before the banner: who talks meanwhile is an early talker",
    "554"),
  time("hold", "30d", "hold_max", "listener", "the longest FUTURERELEASE; with a queue its retry.expire", "501 5.5.4", 1),
  time("by", 0, "by_min", "listener", "the shortest DELIVERBY; 0 = not said", "501 5.5.4"),
  count("scram_iterations", 4096, "sasl_iterations", "listener", "SCRAM iterations where a clear password is kept",
    "none", 1, 1000000),
  count("connections", 10000, "connections", "service", "connections at a time; 0 = no limit", "421 4.7.0"),
  count("connections_per_address", 100, "connections_per_address", "service",
    "of them from one address (IPv6: one /64); 0 = no limit", "421 4.7.0"),
  size("write", "1MB", "write_most", "service", "octets queued for a peer that does not read", "closed"),
  size("buffers", "256MiB", "buffers_most", "service",
    "of all sessions' unread input, envelopes and unsent replies, of one thread", "421 4.3.2",
    1048576),
  size("body_memory", "256KiB", "body_threshold", "service", "of a message before it goes into a file", "none"),
  size("bodies", "256MiB", "bodies_most", "service",
    "of all messages in memory, of one thread; from the half on they go into files at once", "452 4.3.1", 1048576),
  time("hook_time", "30s", nil, "lua", "a hook, waiting included", "451 4.3.0"),
  time("message_time", "5m", nil, "lua", "the `message` hook, waiting included; dispositions are not cut short",
    "451 4.3.0"),
  time("cpu_time", "1s", nil, "lua", "Lua that runs without waiting; 0 = no limit", "451 4.3.0"),
  size("memory", "512MiB", nil, "lua", "of the Lua state; 0 = no limit", "451 4.3.0"),
}

--- How sessions are spoken to. A listener may have its own value of each.
M.session = {
  {
    name = "mechanisms", type = "strings", absent = "by the hooks that are set",
      doc = "SASL mechanisms; PLAIN and LOGIN where passwords can be checked, XOAUTH2 and "
      .. "OAUTHBEARER where there is a token hook. SCRAM has to be named: it needs clear passwords or SCRAM strings",
  },
  { name = "auth_in_clear", type = "boolean", default = false, doc = "AUTH without TLS" },
  { name = "extensions", type = "table", doc = 'by name: { "DSN", CHUNKING = false }; see the documents for what is on by default' },
  {
    name = "lax", type = "strings", default = {},
    doc = "well-known laxities to accept: space, brackets, dots, underscore, helo, no_helo, length",
  },
  { name = "early", type = "choice", values = { "refuse", "tolerate" }, default = "refuse",
    doc = "who talks before it is time" },
  {
    name = "bare", type = "choice", values = { "trusted", "repair", "refuse" }, default = "trusted",
    doc = "bare CR and LF in a message: repaired for relay networks and authenticated users, for all, for none",
  },
  {
    name = "long_lines", type = "choice", values = { "accept", "refuse" }, default = "accept",
    doc = "lines of a message over limits.line",
  },
  { name = "proxy", type = "strings", default = {}, doc = "networks whose connections start with a PROXY header",
    check = network },
  { name = "tolerate_injection", type = "boolean", default = false,
    doc = "plaintext behind STARTTLS is thrown away; else it ends the session" },
  {
    name = "priority_profile", type = "string", absent = "none is named",
    doc = "the profile that MT-PRIORITY is announced with: MIXER, STANAG4406, NSEP",
    check = function(name)
      return (#name > 64 or not name:find("^[\x21-\x7e]+$")) and "a word of printable ASCII, 64 octets at most" or nil
    end,
  },
}

--- Names that the options above may hold.
M.laxities = { "space", "brackets", "dots", "underscore", "helo", "no_helo", "length" }
M.mechanisms = {
  "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "XOAUTH2",
    "OAUTHBEARER",
}
--- What is announced only where mail goes on by a queue, for it promises what nobody else can keep; FUTURERELEASE for submission alone.
M.queued = { DSN = true, DELIVERBY = true, ["MT-PRIORITY"] = true, REQUIRETLS = true, FUTURERELEASE = "submission" }

--- true = announced unless turned off
M.extensions = {
  PIPELINING = true, SIZE = true, ["8BITMIME"] = true, SMTPUTF8 = true, CHUNKING = true, ENHANCEDSTATUSCODES = true,
    LIMITS = true,
  STARTTLS = true, AUTH = true, BINARYMIME = false, DSN = false, DELIVERBY = false, FUTURERELEASE = false,
    ["MT-PRIORITY"] = false,
  REQUIRETLS = false,
}

M.tls = {
  { name = "certificate", type = "string", doc = "PEM file, leaf first" },
  { name = "key", type = "string", absent = "in the certificate's file", doc = "PEM file; in the certificate's file when left out" },
  { name = "sni", type = "table", default = {}, doc = 'more certificates: ["name"] = { certificate =, key = }' },
  { name = "min_version", type = "choice", values = { "1.2", "1.3", "1.1", "1.0" }, default = "1.2",
    doc = "oldest TLS version" },
  { name = "ciphers", type = "string", absent = "forward secret, AEAD first", doc = "of TLS 1.2, in OpenSSL's form" },
  { name = "ciphersuites", type = "string", absent = "OpenSSL's", doc = "of TLS 1.3, in OpenSSL's form" },
  { name = "client", type = "choice", values = { "off", "ask", "require" }, default = "off",
    doc = "certificates of clients" },
  { name = "client_ca", type = "string", doc = "file or folder of their authorities" },
  { name = "tickets", type = "boolean", default = true, doc = "session tickets" },
}

M.server = {
  { name = "hostname", type = "string", default = hostname, doc = "our name, in banner, Received and replies",
    check = function(name)
      return not name:find("^[%w\x80-\xff][%w\x80-\xff.-]*$") and ('"%s" is no host name'):format(name) or nil
    end },
  { name = "banner", type = "string", absent = '"ESMTP moonpost", over LMTP "LMTP moonpost"',
    doc = "text behind the host name in the banner",
    check = function(text)
      return text:find("%c") and "control characters may not stand in a banner" or nil
    end },
  { name = "listen", type = "any",
    doc = 'endpoints: "smtp://0.0.0.0:25", or tables { "smtp://...", name =, tls =, auth =, ... }' },
  { name = "queue", type = "any", absent = "none", doc = "by which mail goes on: what only a queue can promise is announced then",
    check = function(value)
      return not require("moonpost.queue").is(value) and "what moonpost.queue { ... } made expected" or nil
    end },
  { name = "domains", type = "strings", default = {}, doc = "whose recipients are ours: class local", check = domain },
  { name = "relay", fields = {
    { name = "networks", type = "strings", default = {}, doc = "peers that may send to anybody", check = network },
    { name = "authenticated", type = "boolean", default = false, doc = "authenticated users may send to anybody" },
  } },
  { name = "tls", type = "any",
    doc = '{ certificate =, key =, ... }, "development" for a certificate of our own, or false' },
  { name = "xclient", type = "strings", default = {}, doc = "networks whose XCLIENT is believed", check = network },
  { name = "detail_separator", type = "string", default = "+",
    doc = 'between mailbox and detail; "" = there are no details' },
  { name = "grace", type = "duration", default = "30s",
    doc = "for busy sessions when the server stops, and for all that are open when the policy is loaded anew" },
  { name = "limits", fields = M.limits },
}
table.move(M.session, 1, #M.session, #M.server + 1, M.server)

return M
