--- One entry of `listen`: a URL, or a table with the ways in which this listener differs from the server's.
local endpoint = require "moonpost.endpoint"
local options = require "moonpost.options"
local schema = require "moonpost.schema"
local suggest = require "moonpost.suggest"

local M = {}

---@class moonpost.Listener
---@field name string
---@field endpoint moonpost.Endpoint
---@field mode? integer of a unix socket
---@field tls "off"|"optional"|"required"
---@field auth "off"|"optional"|"required"
---@field ways table the session options that hold here
---@field rows table[] for describe(): what the entry says itself

local own = {
  { name = "url", type = "string", doc = "the endpoint; may stand first without a name" },
  { name = "name", type = "string", doc = "what hooks see as session.listener; the URL's scheme when left out" },
  { name = "tls", type = "choice", values = { "off", "optional", "required" },
    doc = "submission: required; else offered" },
  { name = "auth", type = "choice", values = { "off", "optional", "required" },
    doc = "submission: required; else offered" },
  { name = "mode", type = "string", doc = 'permissions of a unix socket: "0660"',
    check = function(text)
      return not text:find("^0?[0-7][0-7][0-7]$") and '"0660" or the like expected' or nil
    end },
}

-- here nothing has a default: what is not said is the server's
local fields = { table.unpack(own) }
for _, field in ipairs(schema.session) do
  local copy = {}
  for key, value in pairs(field) do
    copy[key] = value
  end
  copy.default = nil
  fields[#fields + 1] = copy
end

local function known(list, names, what)
  for _, name in ipairs(list) do
    local found = false
    for _, candidate in ipairs(names) do
      found = found or candidate == name
    end
    if not found then
      return ('%s: unknown name "%s"%s'):format(what, name, suggest.hint(name, names))
    end
  end
end

--- The names of what is announced, after the changes { "DSN", CHUNKING = false } to what is so by default: `queued` is the protocol where mail goes
--- on by a queue.
local function extensions(changes, queued)
  local on = {}
  for name, default in pairs(schema.extensions) do
    on[name] = default
  end
  for name, where in pairs(queued and queued ~= "lmtp" and schema.queued or {}) do
    on[name] = where == true or where == queued
  end
  for key, value in pairs(changes or {}) do
    local name, switch = key, value
    if math.type(key) == "integer" then
      name, switch = value, true
    end
    if schema.extensions[name] == nil then
      return nil, ('extensions: unknown name "%s"%s'):format(tostring(name), suggest.hint(name, schema.extensions))
    elseif type(switch) ~= "boolean" then
      return nil, ("extensions.%s: true or false expected"):format(name)
    end
    on[name] = switch
  end
  for name, needed in pairs { SMTPUTF8 = "8BITMIME", BINARYMIME = "CHUNKING" } do -- RFC 6531 3.1, RFC 3030 3
    if on[name] and not on[needed] then
      return nil, ("extensions: %s needs %s"):format(name, needed)
    end
  end
  local list = {}
  for name, switch in pairs(on) do
    if switch then
      list[#list + 1] = name
    end
  end
  table.sort(list)
  return list
end

--- The value of `extensions` in words: what is announced, where its conditions hold.
---@param changes? table the option
---@param queued? string the protocol where mail goes on by a queue
---@return string
function M.show_extensions(changes, queued)
  return table.concat(extensions(changes, queued) or {}, " ")
end

--- Checks the session options of a server or a listener whose values hold names. Returns a reason, or nil.
---@return string? why
function M.check_ways(ways)
  local why = ways.lax and known(ways.lax, schema.laxities, "lax")
  if not why and ways.mechanisms then
    for i, name in ipairs(ways.mechanisms) do
      ways.mechanisms[i] = name:upper()
    end
    why = known(ways.mechanisms, schema.mechanisms, "mechanisms")
  end
  if not why and ways.extensions then
    why = select(2, extensions(ways.extensions))
  end
  return why
end

--- Makes a listener of an entry.
---@param entry any
---@param server table the server's resolved options
---@param at_policy string where the policy says so
---@return moonpost.Listener? listener
---@return string? why
function M.new(entry, server, at_policy)
  if type(entry) == "string" then
    entry = { url = entry }
  elseif type(entry) ~= "table" then
    return nil, ("a URL or a table expected, got a %s"):format(type(entry))
  end
  local given = {}
  for key, value in pairs(entry) do
    given[key == 1 and "url" or key] = value
  end
  local values, rows = options.resolve(fields, given, at_policy)
  if not values then
    return nil, rows
  elseif not values.url then
    return nil, "a listener without a URL"
  end
  local at, why = endpoint.parse(values.url)
  why = why or M.check_ways(values)
  if not at or why then
    return nil, why
  end
  if values.mode and not at.path then
    return nil, "mode: only unix sockets have one"
  elseif values.proxy and values.proxy[1] and at.path then
    return nil, "proxy: who connects to a unix socket has no address"
  elseif at.implicit and values.tls and values.tls ~= "required" then
    return nil, ('tls = "%s": %s:// is TLS from the first octet'):format(values.tls, at.scheme)
  end
  local ways = {}
  for _, field in ipairs(schema.session) do
    local value = values[field.name]
    if value == nil then
      value = server[field.name]
    end
    ways[field.name] = value
  end
  local strict = at.protocol == "submission"
  return {
    name = values.name or at.scheme,
    endpoint = at,
    mode = values.mode and tonumber(values.mode, 8),
    tls = values.tls or ((strict or at.implicit) and "required" or "optional"),
    auth = values.auth or (strict and "required" or "optional"),
    ways = ways,
    queued = server.queue ~= nil and at.protocol or nil,
    rows = M.rows(values, rows, server.queue ~= nil and at.protocol or nil),
  }
end

--- What an entry says itself, of the rows of all that it could say.
function M.rows(values, rows, queued)
  local said = {}
  for _, row in ipairs(rows) do
    if row.source ~= "default" and row.option ~= "url" then
      if row.option == "extensions" then
        row.value = M.show_extensions(values.extensions, queued)
      end
      said[#said + 1] = row
    end
  end
  return said
end

--- The listener as C wants it.
---@param listener moonpost.Listener
---@param limits table<string, number> those of a listener, by C's names
---@param facts { tls: boolean, mechanisms: string[], xclient: boolean } of the server
---@return table config of core.listener_config
function M.config(listener, limits, facts)
  local ways, at = listener.ways, listener.endpoint
  local announced = extensions(ways.extensions, listener.queued)
  if facts.xclient then
    announced[#announced + 1] = "XCLIENT"
  end
  local config = {
    name = listener.name,
    protocol = at.protocol,
    tls = at.implicit and "implicit" or (facts.tls and listener.tls ~= "off" and "starttls" or "none"),
    tls_required = listener.tls == "required",
    auth_required = listener.auth == "required",
    auth_in_clear = ways.auth_in_clear,
    mechanisms = listener.auth == "off" and {} or ways.mechanisms or facts.mechanisms,
    extensions = announced,
    lax = ways.lax,
    early = ways.early,
    bare = ways.bare,
    long_lines = ways.long_lines,
    proxy = ways.proxy,
    tolerate_injection = ways.tolerate_injection,
    priority_profile = ways.priority_profile,
  }
  for name, value in pairs(limits) do
    config[name] = value
  end
  return config
end

local function has(list, name)
  for _, each in ipairs(list) do
    if each == name then
      return true
    end
  end
  return false
end

local function tls_of(listener, config)
  if config.tls == "implicit" then
    return "implicit"
  elseif config.tls == "none" then
    return "none", listener.tls == "off" and "turned off" or "no certificate"
  elseif not has(config.extensions, "STARTTLS") then
    return "none", "STARTTLS is not announced"
  end
  return config.tls_required and "required" or "optional"
end

local function auth_of(listener, config, tls)
  if not config.mechanisms[1] then
    return "none", listener.auth == "off" and "turned off" or "no hook checks"
  elseif not has(config.extensions, "AUTH") then
    return "none", "it is not announced"
  elseif tls == "none" and (not config.auth_in_clear or config.tls_required) then
    return "none", "no TLS, and auth_in_clear is false"
  end
  return config.auth_required and "required" or "optional"
end

---@class moonpost.Offer what a peer meets
---@field tls "none"|"optional"|"required"|"implicit"
---@field tls_why? string why there is none
---@field auth "none"|"optional"|"required"
---@field auth_why? string why there is none
---@field mechanisms string[]
---@field clear boolean AUTH is offered without TLS too

--- What a peer of this listener is offered in the end: what the policy asks for, certificates and hooks together.
---@param listener moonpost.Listener
---@param config table of M.config
---@return moonpost.Offer
function M.offer(listener, config)
  local tls, tls_why = tls_of(listener, config)
  local auth, auth_why = auth_of(listener, config, tls)
  return {
    tls = tls, tls_why = tls_why, auth = auth, auth_why = auth_why,
    mechanisms = auth ~= "none" and config.mechanisms or {},
    clear = auth ~= "none" and config.auth_in_clear and not config.tls_required,
  }
end

return M
