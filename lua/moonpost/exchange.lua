--- A domain's mail exchangers as targets of connections, with what DANE and MTA-STS promise for each.
local client_options = require "moonpost.client_options"
local dane = require "moonpost.dane"
local task = require "moonpost.task"
local tlspolicy = require "moonpost.tlspolicy"

local M = {}

local HOSTS_MOST = 5 -- of a domain, for one attempt

local finders = setmetatable({}, { __mode = "k" }) -- of MTA-STS policies, by worker, where none was given

local function sts_of(settings)
  local option = settings.mtasts
  if option == false then
    return nil
  elseif option then
    return option
  end
  local worker = task.worker()
  local finder = finders[worker] or require("moonpost.mtasts").new()
  finders[worker] = finder
  return finder
end

--- The hosts of a domain.
---@async
---@param settings table of client_options.settings
---@param domain string
---@return moonpost.Route? route
---@return moonpost.Error? err
function M.route(settings, domain)
  local values = settings.values
  return require("moonpost.route").mx(domain, { dns = values.dns, names = values.names, allow_local = values.allow_local })
end

-- What is known of a host's TLS beforehand.
local function found(settings, route, host, domain, sts, requiretls)
  local source = settings.values.dns
  local level = settings.tls.level
  local wants_dane, wants_sts = tlspolicy.wants(level, settings.auth ~= nil, true, requiretls)
  return {
    addresses = host.addresses, requiretls = requiretls, unsigned = not route.secure and not route.implicit,
    dane = wants_dane and dane.find(route, host, { dns = source, port = settings.values.port or 25 }) or nil,
    sts = wants_sts and sts and sts:lookup(domain) or nil,
  }
end

--- The targets of a route, one after the other, for attempt.run. Asking for one may wait.
---@param settings table
---@param route moonpost.Route
---@param domain string
---@param requiretls? boolean of the message (RFC 8689)
---@return fun(i: integer): table? targets
function M.targets(settings, route, domain, requiretls)
  local sts = sts_of(settings)
  return function(i)
    local host = route[i]
    if not host or i > HOSTS_MOST then
      return nil
    end
    local known = found(settings, route, host, domain, sts, requiretls)
    local target = client_options.target(settings, {
      scheme = "smtp", protocol = "smtp", implicit = false, host = host.host, port = settings.values.port or 25,
    }, known)
    -- Another message, or another domain of the same hosts, may ask for less.
    target.demanding = requiretls or known.sts and known.sts.mode == "enforce" or nil
    return target
  end
end

return M
