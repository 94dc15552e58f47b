--- moonpost.dns: names. The functions wait without blocking, inside tasks and in a plain script; what they return is typed in
--- lua/moonpost/_meta/dns.lua and explained in docs/dns.md.
---
---     local mx = assert(moonpost.dns.mx "example.net")
---     for _, one in ipairs(mx) do print(one.preference, one.host) end
local lookups = require "moonpost.dns.lookups"
local options_of = require "moonpost.options"
local resolver = require "moonpost.dns.resolver"
local zone = require "moonpost.dns.zone"

local M = {}

local chosen, system

function M.default()
  if chosen then
    return chosen
  end
  local why
  if not system then
    system, why = resolver.new({}, "default")
  end
  return system or error("dns: " .. why, 0)
end

function M.use(which)
  if which ~= nil and not lookups.is_source(which) then
    error("dns.use: what dns.resolver or dns.zone returned is expected", 2)
  end
  local former = chosen
  chosen = which
  return former
end

function M.resolver(options)
  if options ~= nil and type(options) ~= "table" then
    error("dns.resolver: a table of options expected", 2)
  end
  local ok, made, why = pcall(resolver.new, options or {}, options_of.place(1))
  if not ok or not made then
    error(ok and "dns.resolver: " .. why or made, 2)
  end
  return made
end

function M.zone(names, options)
  if type(names) ~= "table" then
    error("dns.zone: a table of names expected", 2)
  end
  local values, why = options_of.resolve({
    { name = "secure", type = "boolean", default = false }, { name = "ttl", type = "integer", default = 3600 },
  }, options or {}, options_of.place(1))
  if not values then
    error("dns.zone: " .. why, 2)
  end
  local ok, made = pcall(zone.new, names, values)
  return ok and made or error(made, 2)
end

function M.to_ascii(name)
  if type(name) ~= "string" then
    error(("dns.to_ascii: a name expected, got %s"):format(type(name)), 2)
  end
  return lookups.to_ascii(name)
end

function M.to_unicode(name)
  if type(name) ~= "string" then
    error(("dns.to_unicode: a name expected, got %s"):format(type(name)), 2)
  end
  return lookups.to_unicode(name)
end

for name in pairs(lookups.methods) do
  if not name:find("^_") then
    M[name] = function(what)
      if type(what) ~= "string" then
        error(("dns.%s: a name expected, got %s"):format(name, type(what)), 2)
      end
      local default = M.default()
      return default[name](default, what)
    end
  end
end

return M
