--- Endpoints as URLs: "smtp://0.0.0.0:25", "submissions://", "lmtp://unix:/run/x.sock", "smtp://[::1]:2525".
local core = require "moonpost.core"
local suggest = require "moonpost.suggest"

local M = {}

---@class moonpost.Endpoint
---@field scheme string
---@field protocol "smtp"|"submission"|"lmtp"
---@field implicit boolean TLS from the first octet
---@field ip? string
---@field port? integer
---@field path? string of a unix socket

M.schemes = {
  smtp = { protocol = "smtp", port = 25 },
  smtps = { protocol = "smtp", port = 465, implicit = true },
  submission = { protocol = "submission", port = 587 },
  submissions = { protocol = "submission", port = 465, implicit = true },
  lmtp = { protocol = "lmtp", port = 24 },
}

local function is_ip(text)
  return core.in_network(text, "0.0.0.0/0") ~= nil
end

--- Splits "host:port", "[v6]:port", "host", ":port" and nothing.
local function split(rest)
  local host, port = rest:match("^%[([%x:.]+)%]:?(%d*)$")
  if not host then
    host, port = rest:match("^([^:]*):?(%d*)$")
  end
  return host, port
end

--- Parses an endpoint to listen on. No host means every IPv4 address; "localhost" is 127.0.0.1. Other names are
--- refused: which of a name's addresses would be bound is nobody's guess.
---@param url string
---@return moonpost.Endpoint? endpoint
---@return string? why
function M.parse(url)
  local scheme, rest = url:match("^(%a+)://(.*)$")
  if not scheme then
    return nil, ('"%s" is no endpoint such as "smtp://0.0.0.0:25" or "lmtp://unix:/run/mail.sock"'):format(url)
  end
  local kind = M.schemes[scheme:lower()]
  if not kind then
    return nil, ('"%s": unknown protocol "%s"%s'):format(url, scheme, suggest.hint(scheme, M.schemes))
  end
  local endpoint = { scheme = scheme:lower(), protocol = kind.protocol, implicit = kind.implicit or false }
  local path = rest:match("^unix:(.+)$")
  if path then
    if path:find("%c") or #path > 107 then
      return nil, ('"%s": a socket path has at most 107 octets and no control characters'):format(url)
    end
    endpoint.path = path
    return endpoint
  end
  local host, port = split((rest:gsub("/$", "")))
  if not host then
    return nil, ('"%s": address, or address:port expected after ://'):format(url)
  end
  if host == "" or host == "*" then
    host = "0.0.0.0"
  elseif host == "localhost" then
    host = "127.0.0.1"
  elseif not is_ip(host) then
    local why = host:find("%a") and ": to listen takes an address of this machine, 0.0.0.0 or [::] for all, not a name" or ""
    return nil, ('"%s": "%s" is no IP address%s'):format(url, host, why)
  end
  port = port == "" and kind.port or math.tointeger(tonumber(port))
  if port > 65535 then
    return nil, ('"%s": ports end at 65535'):format(url)
  end
  endpoint.ip, endpoint.port = host, port
  return endpoint
end

--- The URL of an endpoint, with its port.
---@param endpoint moonpost.Endpoint
---@return string
function M.show(endpoint)
  if endpoint.path then
    return ("%s://unix:%s"):format(endpoint.scheme, endpoint.path)
  elseif endpoint.ip:find(":", 1, true) then
    return ("%s://[%s]:%d"):format(endpoint.scheme, endpoint.ip, endpoint.port)
  end
  return ("%s://%s:%d"):format(endpoint.scheme, endpoint.ip, endpoint.port)
end

return M
