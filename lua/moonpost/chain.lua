--- The hooks of a server: one slot for each event, and plug-ins that are asked before it. Chains are made once, when
--- the server starts; a chain of one hook is that hook itself.
local options = require "moonpost.options"
local suggest = require "moonpost.suggest"

local M = {}

--- In the order in which they are called. "verdict": what is returned is looked at.
M.order = {
  "start", "connect", "tls", "helo", "credentials", "auth", "token", "mail", "rcpt", "data", "message", "reset",
    "quit", "disconnect",
  "retire",
}
M.names = {
  start = "told", connect = "verdict", tls = "told", helo = "verdict", credentials = "verdict", auth = "verdict",
    token = "verdict",
  mail = "verdict", rcpt = "verdict", data = "verdict", message = "verdict", reset = "told", quit = "told",
    disconnect = "told",
  retire = "told",
}

---@class moonpost.Hook
---@field fn function
---@field place string "policy.lua:12"
---@field name string of the plug-in, or "on"
---@field listeners? table<string, boolean> the only ones it is asked for

---@class moonpost.Chain
---@field kind string
---@field hooks moonpost.Hook[]
---@field fn? function nil when there is no hook

--- The table behind server.on: each name may be set once.
---@param server table with `_slots`, a table, and `_started`
function M.slots(server)
  return setmetatable({}, {
    __name = "moonpost.hooks",
    __index = function(_, name)
      local hook = server._slots[name]
      return hook and hook.fn
    end,
    __newindex = function(_, name, fn)
      if not M.names[name] then
        error(("server.on: there is no hook %q%s"):format(tostring(name), suggest.hint(name, M.names)), 2)
      elseif type(fn) ~= "function" then
        error(("server.on.%s: a function expected, got a %s"):format(name, type(fn)), 2)
      elseif server._slots[name] then
        error(("server.on.%s is set already, at %s; put several hooks into plug-ins: server:use { %s = ... }")
          :format(name, server._slots[name].place, name), 2)
      elseif server._started then
        error(("server.on.%s: the server has started"):format(name), 2)
      end
      server._slots[name] = { fn = fn, place = options.place_of(fn), name = "on" }
    end,
    __pairs = function()
      return function(_, name)
        local hook
        name, hook = next(server._slots, name)
        return name, hook and hook.fn
      end
    end,
  })
end

--- Looks at a plug-in: a table of hooks, with a `name`. Functions whose name begins with "_" and what is no function
--- are its own.
---@return table<string, function>? hooks
---@return string? why
function M.plugin(plugin)
  if type(plugin) ~= "table" then
    return nil, ("a plug-in is a table of hooks, not a %s"):format(type(plugin))
  end
  for key, value in pairs(plugin) do
    if type(value) == "function" and not M.names[key] and not (type(key) == "string" and key:find("^_")) then
      return nil, ("there is no hook %q%s"):format(tostring(key), suggest.hint(key, M.names))
    end
  end
  local hooks = {}
  for name in pairs(M.names) do
    local fn = plugin[name]
    if fn ~= nil and type(fn) ~= "function" then
      return nil, ("%s: a function expected, got a %s"):format(name, type(fn))
    end
    hooks[name] = fn
  end
  if not next(hooks) then
    return nil, "the plug-in has no hooks"
  end
  return hooks
end

-- Asks one after the other until one has an opinion. `session._entry` tells whose it was.
local function in_turn(hooks)
  local count = #hooks
  return function(session, a, b, c)
    for i = 1, count do
      local hook = hooks[i]
      local listeners = hook.listeners
      if not listeners or listeners[session.listener] then
        session._entry = hook
        local x, y, z = hook.fn(session, a, b, c)
        if x ~= nil or y ~= nil then
          return x, y, z
        end
      end
    end
  end
end

--- The chain of one event.
---@param kind string
---@param uses { hooks: table<string, function>, name: string, listeners?: table }[] plug-ins in the order of use
---@param slot? moonpost.Hook
---@return moonpost.Chain
function M.build(kind, uses, slot)
  local hooks = {}
  for _, use in ipairs(uses) do
    local fn = use.hooks[kind]
    if fn then
      hooks[#hooks + 1] = { fn = fn, place = options.place_of(fn), name = use.name, listeners = use.listeners }
    end
  end
  hooks[#hooks + 1] = slot
  local fn
  if hooks[2] or hooks[1] and hooks[1].listeners then
    fn = in_turn(hooks)
  elseif hooks[1] then
    fn = hooks[1].fn
  end
  return { kind = kind, hooks = hooks, fn = fn }
end

--- Which hook of a chain ran last for a session.
---@return moonpost.Hook?
function M.whose(chain, session)
  return chain.hooks[2] and session._entry or chain.hooks[1]
end

--- One line for each hook of a chain, for `moonpost check`: "greylist (plugins/greylist.lua:20) on smtp".
---@return string[]
function M.describe(chain)
  local lines = {}
  for i, hook in ipairs(chain.hooks) do
    local only = {}
    for name in pairs(hook.listeners or {}) do
      only[#only + 1] = name
    end
    table.sort(only)
    lines[i] = ("%s (%s)%s"):format(hook.name, hook.place, only[1] and " on " .. table.concat(only, ", ") or "")
  end
  return lines
end

return M
