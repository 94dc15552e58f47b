--- A server's description put together: what hooks share, chains, and what C needs for its listeners.
local certificates = require "moonpost.certificates"
local chain = require "moonpost.chain"
local endpoint = require "moonpost.endpoint"
local listener_of = require "moonpost.listener"
local schema = require "moonpost.schema"

local M = {}

local function matcher(domains)
  local exact, suffixes, any = {}, {}, false
  for _, domain in ipairs(domains) do
    if domain == "*" then
      any = true
    elseif domain:sub(1, 1) == "." then
      suffixes[#suffixes + 1] = domain
    else
      exact[domain] = true
    end
  end
  return function(domain)
    local name = (domain or ""):lower()
    if any or name == "" or exact[name] then
      return true
    end
    for _, suffix in ipairs(suffixes) do
      if #name > #suffix and name:sub(-#suffix) == suffix then
        return true
      end
    end
    return false
  end
end

-- The numbers of one place in C by C's names.
local function numbers(limits, at)
  local out = {}
  for _, field in ipairs(schema.limits) do
    if field.at == at and field.c then
      local value = limits[field.name]
      out[field.c] = field.c:find("_ms$") and math.ceil(value * 1000) or math.ceil(value)
    end
  end
  return out
end

---@class moonpost.Assembled
---@field house table what its sessions share
---@field chains table<string, moonpost.Chain>
---@field tls table|"pretend"|nil for C
---@field configs table[] of the listeners, for C
---@field limits table<string, number> of the service, for C
---@field offers moonpost.Offer[] what the listeners come to
---@field mechanisms string[] by the hooks that are set
---@field development? string what asks for a development certificate: the URL of a listener, or "tls"

--- Nothing is bound or opened, but a development certificate is made when one is needed.
---@param self moonpost.Server
---@param worker moonpost.core.worker
---@param pretend? boolean|"unmade" no certificate is read or made: TLS is offered, and never spoken. "unmade": so only
--- where a development certificate would be made
---@return moonpost.Assembled? built
---@return string? why
function M.server(self, worker, pretend)
  local values = self.options
  local limits = values.limits
  local house = {
    worker = worker, hostname = values.hostname, domains = values.domains, separator = values.detail_separator,
    is_local = matcher(values.domains), queue = values.queue, hook_time = limits.hook_time, message_time = limits.message_time,
  }
  local chains = {}
  for _, kind in ipairs(chain.order) do
    chains[kind] = chain.build(kind, self._uses, self._slots[kind])
  end
  local mechanisms = {}
  if chains.credentials.fn or chains.auth.fn then
    table.move({ "PLAIN", "LOGIN" }, 1, 2, 1, mechanisms)
  end
  if chains.token.fn then
    table.move({ "XOAUTH2", "OAUTHBEARER" }, 1, 2, #mechanisms + 1, mechanisms)
  end
  local needed = false
  for _, listener in ipairs(self.listeners) do
    needed = needed or listener.tls == "required" and endpoint.show(listener.endpoint)
    if listener.auth == "required" and not mechanisms[1] then
      local url = endpoint.show(listener.endpoint)
      return nil, ("%s demands AUTH, but there is no credentials, auth or token hook"):format(url)
    end
  end
  local tls, why
  local development = certificates.is_development(values.tls, needed and true)
  if not pretend or pretend == "unmade" and not development then
    tls, why = certificates.config(values.tls, needed and true, values.hostname)
  elseif values.tls or needed then
    tls = "pretend"
  end
  if why then
    return nil, why
  end
  local facts = { tls = tls ~= nil, mechanisms = mechanisms, xclient = values.xclient[1] ~= nil }
  local per_listener = numbers(limits, "listener")
  local configs, offers = {}, {}
  for i, listener in ipairs(self.listeners) do
    configs[i] = listener_of.config(listener, per_listener, facts)
    offers[i] = listener_of.offer(listener, configs[i])
    if listener.auth == "required" and offers[i].auth == "none" then
      return nil, ("%s demands AUTH, and nobody could: %s"):format(endpoint.show(listener.endpoint), offers[i].auth_why)
    end
  end
  return {
    house = house, chains = chains, tls = tls, configs = configs, limits = numbers(limits, "service"), offers = offers,
    mechanisms = mechanisms, development = development and (needed or "tls") or nil,
  }
end

return M
