--- Where mail goes, as a URL: "smtp://relay.example.net", "submission://user:secret@smtp.example.net", "smtps://[2001:db8::1]:465",
--- "lmtp://unix:/run/lists.sock". User and password are percent-encoded where they hold "@", ":", "/" or "%".
local core = require "moonpost.core"
local suggest = require "moonpost.suggest"

local M = {}

---@class moonpost.Destination
---@field scheme string
---@field protocol "smtp"|"lmtp"
---@field implicit boolean TLS from the first octet
---@field host? string a name or an address
---@field ip? string where `host` is an address
---@field port? integer
---@field path? string of a unix socket
---@field user? string
---@field password? string

M.schemes = {
  smtp = { protocol = "smtp", port = 25 },
  smtps = { protocol = "smtp", port = 465, implicit = true },
  submission = { protocol = "smtp", port = 587 },
  submissions = { protocol = "smtp", port = 465, implicit = true },
  lmtp = { protocol = "lmtp", port = 24 },
  lmtps = { protocol = "lmtp", port = 24, implicit = true },
}

local PATH_MOST = 107

--- What may be shown of a URL: no credentials, no control characters.
---@param url string
---@return string
local function shown(url)
  return (url:gsub("^(%a+://).*@", "%1***@"):gsub("%c", "?"))
end
M.redact = shown

local function decode(text)
  if text:find("%%%X") or text:find("%%%x%X") or text:find("%%%x?$") then
    return nil, "a percent sign is written %25"
  end
  text = text:gsub("%%(%x%x)", function(hex)
    return string.char(tonumber(hex, 16))
  end)
  return not text:find("%c") and text or nil, "a control character in user or password"
end

--- Splits "user:secret@" off.
local function credentials(rest, into)
  local at = rest:find("@[^@]*$")
  if not at then
    return rest
  end
  local user, password = rest:sub(1, at - 1):match("^([^:]*):(.*)$")
  local why
  into.user, why = decode(user or rest:sub(1, at - 1))
  if into.user and password then
    into.password, why = decode(password)
  end
  if why and (not into.user or password and not into.password) then
    return nil, why
  elseif into.user == "" then
    return nil, "an empty user"
  end
  return rest:sub(at + 1)
end

local function is_ip(text)
  return core.in_network(text, "0.0.0.0/0") ~= nil
end

local function place(rest, default, into)
  local host, port = rest:match("^%[([%x:.]+)%]:?(%d*)$")
  if host then
    if not is_ip(host) then
      return ('"%s" is no IP address'):format(host)
    end
  else
    host, port = rest:match("^([^:%[%]]+):?(%d*)$")
  end
  if not host then
    return "host, or host:port expected after ://"
  elseif is_ip(host) then
    into.ip = host
  elseif host:find("[^%w._\x80-\xff-]") or host:find("^[.-]") or host:find("..", 1, true) or #host > 253 then
    return ('"%s" is no host name'):format(host:gsub("%c", "?"))
  end
  into.host = host
  into.port = port == "" and default or math.tointeger(tonumber(port))
  if into.port < 1 or into.port > 65535 then
    return "ports are 1 to 65535"
  end
end

--- Parses a URL; a host alone ("relay.example.net", "relay.example.net:587") is smtp://.
---@param url string
---@return moonpost.Destination? destination
---@return string? why one line, without the password
function M.parse(url)
  if type(url) ~= "string" then
    return nil, ("a URL such as \"smtp://relay.example.net:587\" expected, got a %s"):format(type(url))
  end
  local scheme, rest = url:match("^(%a+)://(.*)$")
  if not scheme then
    scheme, rest = "smtp", url
  end
  local kind = M.schemes[scheme:lower()]
  if not kind then
    return nil, ('"%s": unknown protocol "%s"%s'):format(shown(url), scheme, suggest.hint(scheme, M.schemes))
  end
  local into = { scheme = scheme:lower(), protocol = kind.protocol, implicit = kind.implicit or false }
  local why
  rest, why = credentials(rest:gsub("/$", "", 1), into)
  if rest and rest:find("^unix:") then
    into.path = rest:sub(6)
    if into.path == "" or into.path:find("%c") or #into.path > PATH_MOST then
      why = ("a socket path has 1 to %d octets and no control characters"):format(PATH_MOST)
    end
  elseif rest then
    why = place(rest, kind.port, into)
  end
  if why then
    return nil, ('"%s": %s'):format(shown(url), why)
  end
  return into
end

--- The URL of a destination, without its credentials: for logs, and as a key.
---@param to moonpost.Destination
---@return string
function M.show(to)
  if to.path then
    return ("%s://unix:%s"):format(to.scheme, to.path)
  elseif to.host:find(":", 1, true) then
    return ("%s://[%s]:%d"):format(to.scheme, to.host, to.port)
  end
  return ("%s://%s:%d"):format(to.scheme, to.host, to.port)
end

return M
