--- The listening sockets of the process: bound once, kept across reloads, or handed to it by its supervisor.
local core = require "moonpost.core"
local endpoint = require "moonpost.endpoint"
local log = require "moonpost.log"

local M = {}

---@class moonpost.cli.Bound
---@field binding moonpost.core.binding
---@field mode? integer
---@field url string
---@field inherited? boolean kept when the policy does not name it any more: the supervisor keeps it too

---@class moonpost.cli.Endpoints
---@field bound table<string, moonpost.cli.Bound> what is served
local Endpoints = {}
Endpoints.__index = Endpoints

-- What is bound once is found again by this. Two listeners on port 0 are two endpoints.
local function keys_of(listeners)
  local keys, seen = {}, {}
  for i, each in ipairs(listeners) do
    local key = each.path or ("%s %d"):format(each.ip, each.port)
    seen[key] = (seen[key] or 0) + 1
    keys[i] = seen[key] > 1 and ("%s (%d)"):format(key, seen[key]) or key
  end
  return keys
end

local function close(bound)
  if not bound.inherited then
    bound.binding:close()
  end
end

--- Closes what bind() returned as new.
---@param bindings table<string, moonpost.cli.Bound>
function M.close(bindings)
  for _, bound in pairs(bindings) do
    close(bound)
  end
end

local function url_of(listener, binding)
  local at = binding:endpoint()
  at.scheme = listener.scheme
  return endpoint.show(at)
end

-- ---- what was handed to us --------------------------------------------------------------------------------------------

local function is_at(handed, listener)
  if listener.path or handed.path then
    return listener.path == handed.path
  end
  return listener.port == handed.port and core.in_network(listener.ip, handed.ip) == true
end

-- In this order: who has the same address comes first, then 0.0.0.0 for a socket that takes IPv4 beside IPv6, then names.
local ways = {
  is_at,
  function(handed, listener)
    return handed.any_family and listener.ip == "0.0.0.0" and listener.port == handed.port
  end,
  function(handed, listener)
    return handed.name ~= "" and handed.name == listener.name
  end,
}

-- Finds the sockets for listeners that have none: row by number of the listener.
local function match(self, listeners, keys)
  local used, found = {}, {}
  for _, key in ipairs(keys) do
    local bound = self.bound[key]
    if bound and bound.inherited then
      used[bound.binding] = true
    end
  end
  for _, fits in ipairs(ways) do
    for i, listener in ipairs(listeners) do
      for _, handed in ipairs(self.handed) do
        if not self.bound[keys[i]] and not found[i] and not used[handed.binding] and fits(handed, listener) then
          found[i] = handed
          used[handed.binding] = true
        end
      end
    end
  end
  return found, used
end

local function describe(handed)
  local at = handed.path and "unix:" .. handed.path
    or handed.ip:find(":", 1, true) and ("[%s]:%d"):format(handed.ip, handed.port)
    or ("%s:%d"):format(handed.ip, handed.port)
  return ("descriptor %d (%s%s)"):format(handed.fd, handed.name ~= "" and handed.name .. ", " or "", at)
end

--- Takes the sockets that the supervisor opened.
---@param descriptors { fd: integer, name: string }[]
---@return string? why one of them is none to serve
function Endpoints:adopt(descriptors)
  for _, each in ipairs(descriptors) do
    local binding, any_family = core.adopt(each.fd)
    if not binding then
      return ("descriptor %d%s %s"):format(each.fd, each.name ~= "" and " (" .. each.name .. ")" or "", any_family)
    end
    local at = binding:endpoint()
    table.insert(self.handed, {
      fd = each.fd, name = each.name, binding = binding, any_family = any_family, ip = at.ip, port = at.port, path = at.path,
    })
  end
end

--- The first socket that was handed over and fits no listener.
---@param listeners moonpost.cli.Listener[]
---@return string? why
function Endpoints:unclaimed(listeners)
  local _, used = match(self, listeners, keys_of(listeners))
  for _, handed in ipairs(self.handed) do
    if not used[handed.binding] then
      return describe(handed) .. " is no endpoint of the policy, neither by its address nor by its name"
    end
  end
end

-- ---- binding ----------------------------------------------------------------------------------------------------------

local function bind(self, listener, handed)
  if handed then
    return { binding = handed.binding, inherited = true, url = url_of(listener, handed.binding) }
  end
  local at = { ip = listener.ip, port = listener.port, path = listener.path, mode = listener.mode }
  local binding, why, err = core.bind(at, self.workers)
  if not binding then
    return nil, ("cannot listen on %s://%s"):format(listener.scheme, why), err
  end
  return { binding = binding, mode = listener.mode, url = url_of(listener, binding) }
end

--- Binds what is not bound yet.
---@param listeners moonpost.cli.Listener[]
---@return table<string, moonpost.cli.Bound>? all that the listeners need
---@return table<string, moonpost.cli.Bound>|string fresh_or_why what is new of it
---@return string? error name, of base/error.h
function Endpoints:bind(listeners)
  local all, fresh, keys = {}, {}, keys_of(listeners)
  local handed = match(self, listeners, keys)
  for i, key in ipairs(keys) do
    local each = listeners[i]
    local bound, why, err = self.bound[key], nil, nil
    if not bound then
      bound, why, err = bind(self, each, handed[i])
      fresh[key] = bound
    elseif bound.mode ~= each.mode and not bound.inherited then
      bound, why = nil, ("%s: its mode cannot change while it is bound; restart"):format(each.url)
    end
    if not bound then
      M.close(fresh)
      return nil, why, err
    end
    all[key] = bound
  end
  return all, fresh
end

--- The bindings of `all`, in the order of the listeners.
---@return moonpost.core.binding[]
function M.in_order(listeners, all)
  local list = {}
  for i, key in ipairs(keys_of(listeners)) do
    list[i] = all[key].binding
  end
  return list
end

--- `all` is served from now on: what is not among it is closed.
function Endpoints:serve(all)
  for key, bound in pairs(self.bound) do
    if not all[key] then
      log.event("info", "endpoint closed", { "url", bound.url })
      close(bound)
    end
  end
  self.bound = all
end

--- Says where it listens now and did not before.
---@param before table<string, moonpost.cli.Bound>
function Endpoints:announce(listeners, before)
  for i, key in ipairs(keys_of(listeners)) do
    if not before[key] then
      local listener = listeners[i]
      log.event("info", "listening on " .. url_of(listener, self.bound[key].binding), { "name", listener.name })
    end
  end
end

function Endpoints:close()
  M.close(self.bound)
  for _, handed in ipairs(self.handed) do
    handed.binding:close()
  end
  self.bound, self.handed = {}, {}
end

--- None yet.
---@param workers integer
---@return moonpost.cli.Endpoints
function M.new(workers)
  return setmetatable({ workers = workers, bound = {}, handed = {} }, Endpoints)
end

return M
