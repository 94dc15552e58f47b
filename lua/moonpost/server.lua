--- moonpost.server { ... }: describes a server. Nothing is bound or opened before it is started.
local certificates = require "moonpost.certificates"
local chain = require "moonpost.chain"
local endpoint = require "moonpost.endpoint"
local listener_of = require "moonpost.listener"
local options = require "moonpost.options"
local schema = require "moonpost.schema"
local serving = require "moonpost.serving"
local suggest = require "moonpost.suggest"

local M = {}

---@class moonpost.Server
local Server = {}
M.methods = Server
for name, method in pairs(serving) do
  Server[name] = method
end
-- `on` is kept behind this, and fields that nobody reads are refused: hooks assigned beside their slots would never be
-- called, and an option assigned late would never count. Fields of our own begin with an underscore.
local Server_mt = {
  __name = "moonpost.Server",
  __index = function(self, key)
    if key == "on" then
      return rawget(self, "_on")
    end
    return Server[key]
  end,
  __newindex = function(self, key, value)
    if type(key) == "string" and key:find("^_") then
      rawset(self, key, value)
    elseif chain.names[key] then
      error(("server.%s: a hook is set as server.on.%s"):format(key, key), 2)
    elseif key == "on" then
      error("server.on: hooks are set one by one, as server.on.rcpt = function(session, recipient) ... end", 2)
    else
      error(("server.%s cannot be set: options are given to moonpost.server { ... }, hooks are set in server.on")
        :format(tostring(key)), 2)
    end
  end,
}

local function check_listeners(given, values, at)
  if type(given) == "string" or type(given) == "table" and given.url then
    given = { given }
  end
  if type(given) ~= "table" or next(given) == nil then
    return nil, 'listen: a list of endpoints is needed, such as { "smtp://0.0.0.0:25" }'
  end
  local listeners, rows, places = {}, {}, {}
  for i, entry in ipairs(given) do
    local listener, why = listener_of.new(entry, values, at)
    if not listener then
      return nil, ("listen[%d]: %s"):format(i, why)
    end
    if values.tls == false and listener.tls == "required" then
      return nil, ("listen[%d]: %s demands TLS, and tls is false; tls = \"optional\" in its entry lets it do without")
        :format(i, endpoint.show(listener.endpoint))
    end
    local key = listener.endpoint.path or ("%s %d"):format(listener.endpoint.ip, listener.endpoint.port)
    if places[key] then
      return nil, ("listen[%d]: %s is where listen[%d] listens already")
        :format(i, endpoint.show(listener.endpoint), places[key])
    elseif listener.endpoint.port ~= 0 then -- of those the system makes a port each
      places[key] = i
    end
    listeners[i] = listener
    local place = ("listen[%d]"):format(i)
    rows[#rows + 1] = { option = place, source = at, value = ('"%s"'):format(endpoint.show(listener.endpoint)) }
    for _, row in ipairs(listener.rows) do
      row.option = place .. "." .. row.option
      rows[#rows + 1] = row
    end
  end
  return listeners, rows
end

-- Puts the rows of `more` where the row of `option` stands.
local function splice(rows, option, more)
  for i, row in ipairs(rows) do
    if row.option == option then
      table.remove(rows, i)
      for k, each in ipairs(more) do
        table.insert(rows, i + k - 1, each)
      end
      return
    end
  end
end

-- Nobody is promised that a message is held longer than the queue tries to deliver one (RFC 4865): FUTURERELEASE is announced with `expire` of its
-- schedule, unless the policy says otherwise.
local function hold_as_queue(given, values, rows)
  if not values.queue or type(given.limits) == "table" and given.limits.hold ~= nil then
    return
  end
  values.limits.hold = math.max(1, math.floor(values.queue.schedule.expire)) -- it is announced in whole seconds
  for _, row in ipairs(rows) do
    if row.option == "limits.hold" then
      row.value, row.source = options.show(values.limits.hold, { type = "duration" }), "default, as the queue's retry.expire"
    end
  end
end

-- Everything about the options that can be wrong. Returns the server's parts, or nil and one line.
local function read(given, at)
  local values, rows = options.resolve(schema.server, given, at)
  if not values then
    return nil, rows
  end
  local why = listener_of.check_ways(values)
  local tls, tls_rows = certificates.check(given.tls, at)
  if type(tls_rows) == "string" then
    why = why or tls_rows
  end
  if why then
    return nil, why
  end
  values.tls = tls
  hold_as_queue(given, values, rows)
  local listeners, listen_rows = check_listeners(given.listen, values, at)
  if not listeners then
    return nil, listen_rows
  end
  for i, domain in ipairs(values.domains) do
    values.domains[i] = domain:lower()
  end
  for _, row in ipairs(rows) do
    if row.option == "extensions" then
      row.value = listener_of.show_extensions(values.extensions, values.queue and "smtp")
    elseif row.option == "queue" and values.queue then
      row.value = ('"%s"'):format(values.queue.name)
    end
  end
  splice(rows, "tls", tls_rows)
  splice(rows, "listen", listen_rows)
  return { values = values, rows = rows, listeners = listeners }
end

--- Describes a server. Mistakes raise at the caller's line.
---@param given moonpost.ServerOptions
---@return moonpost.Server
function M.new(given)
  if type(given) ~= "table" then
    error(("moonpost.server: a table of options expected, got a %s"):format(type(given)), 2)
  end
  local parts, why = read(given, options.place(2))
  if not parts then
    error("moonpost.server: " .. why, 2)
  end
  local self = setmetatable({
    options = parts.values, listeners = parts.listeners, addresses = {}, _rows = parts.rows, _slots = {}, _uses = {},
      _waiting = {},
  }, Server_mt)
  self._on = chain.slots(self)
  return self
end

--- Asks a plug-in's hooks before the slots of server.on, after those of plug-ins that were used before.
---@param plugin table hooks by name, and `name`
---@param how? { listeners?: string[] } only sessions of these listeners
function Server:use(plugin, how)
  local hooks, why = chain.plugin(plugin)
  if not hooks then
    error("server:use: " .. why, 2)
  elseif self._started then
    error("server:use: the server has started", 2)
  end
  local only
  if type(how) == "string" then
    how = nil -- the second result of require: server:use(require "plugin")
  end
  for key, value in pairs(how or {}) do
    if key ~= "listeners" then
      error(("server:use: unknown option %q%s"):format(tostring(key), suggest.hint(key, { "listeners" })), 2)
    end
    local names = {}
    for _, listener in ipairs(self.listeners) do
      names[listener.name] = true
    end
    only = {}
    for _, name in ipairs(type(value) == "table" and value or { value }) do
      if not names[name] then
        error(("server:use: there is no listener %q%s"):format(tostring(name), suggest.hint(name, names)), 2)
      end
      only[name] = true
    end
  end
  local name = type(plugin.name) == "string" and plugin.name or ("plug-in %d"):format(#self._uses + 1)
  table.insert(self._uses, { hooks = hooks, name = name, listeners = only })
end

--- The effective configuration: a row { option, value, source, doc } for each option, in the order of the documents.
--- `source` is "default" or the place in the policy.
---@return { option: string, value: string, source: string, doc?: string }[]
function Server:describe()
  return table.move(self._rows, 1, #self._rows, 1, {})
end

--- The chains: a row { hook, chain } for each hook that somebody has, `chain` a list of lines in the order of asking.
---@return { hook: string, chain: string[] }[]
function Server:chains()
  local rows = {}
  for _, kind in ipairs(chain.order) do
    local of = chain.build(kind, self._uses, self._slots[kind])
    if of.fn then
      rows[#rows + 1] = { hook = kind, chain = chain.describe(of) }
    end
  end
  return rows
end

return M
