--- moonpost.test: a policy's sessions over an in-memory wire, with a clock that the test turns. No socket, no thread,
--- no certificate and no disk: what would have been delivered is written down.
---
---     local test = require "moonpost.test"
---     local policy = test.load "policy.lua"
---     local peer = policy:session { ip = "203.0.113.9" }
---     peer:ehlo "mail.example.net"
---     peer:mail "a@example.net"
---     assert.equal(550, peer:rcpt("nobody@example.org").code)
---     assert.same({}, policy.sent)
---
--- What may be called is typed in lua/moonpost/_meta/test.lua and explained in docs/testing.md.
local hosts = require "moonpost.test.hosts"
local options_of = require "moonpost.options"
local policy_of = require "moonpost.test.policy"
local run = require "moonpost.test.run"
local sandbox = require "moonpost.test.sandbox"
local script = require "moonpost.test.script"
local stage = require "moonpost.test.stage"

local M = {}

local schema = {
  {
    name = "now", type = "any",
    check = function(value)
      return type(value) ~= "number" and "seconds since 1970 expected" or nil
    end,
  },
  { name = "listener", type = "any" },
  { name = "log", type = "choice", values = { "error", "warn", "info", "debug" }, default = "info" },
  { name = "delays", type = "boolean", default = false },
  { name = "dns", type = "table", default = {} },
  {
    name = "http", type = "any", null = true,
    check = function(value)
      return type(value) ~= "function" and "a function expected" or nil
    end,
  },
  { name = "modules", type = "table", default = {} },
  { name = "servers", type = "table", default = {} },
}

local function is_server(value)
  return type(value) == "table" and (getmetatable(value) or {}).__name == "moonpost.Server"
end

local function without_trace(err)
  return type(err) == "string" and err:match("^(.-)\n%s*stack traceback:") or err
end

-- What `source` describes, made inside the policy's world.
local function describe(policy, source, modules)
  if is_server(source) then
    return source, "the server"
  end
  local chunk, name = source, "the function"
  if type(source) == "string" then
    name = source
    chunk = sandbox.load(source, modules)
  end
  local server, err = policy:_task(chunk, source)
  if err then
    error(without_trace(err), 0)
  elseif not is_server(server) then
    error(("%s: a policy returns moonpost.server { ... }; this one returns %s")
      :format(name, server == nil and "nothing" or "a " .. type(server)), 0)
  end
  return server, name
end

-- The options, with the names and the network that they describe. Raises at the test's line.
local function checked(options, who, level)
  local values, why = options_of.resolve(schema, options or {}, options_of.place(level + 1))
  if not values then
    error(("%s: %s"):format(who, why), level + 1)
  end
  hosts.resolver(values.dns, who)
  values.network, values.names = hosts.arrange(values.servers, values.dns)
  values.dns_source = hosts.resolver(values.names, who)
  return values
end

--- Loads a policy into a world of its own. What is wrong with it raises, with its file and line.
---@param source string|moonpost.Server|fun(): moonpost.Server a policy's file, a server, or a function that returns one
---@param options? moonpost.test.Options
---@return moonpost.test.Policy
function M.load(source, options)
  if type(source) ~= "string" and type(source) ~= "function" and not is_server(source) then
    error(("test.load: a file, a function or a server expected, got a %s"):format(type(source)), 2)
  elseif is_server(source) and source._started then
    error("test.load: this server has been started; give a function that makes a new one each time", 2)
  end
  local policy = policy_of.new(checked(options, "test.load", 2))
  stage.act(policy, function()
    local server, name = describe(policy, source, policy._modules)
    policy:_start(server, name)
  end)
  return policy
end

--- A server that follows a script, for the `servers` of test.load and test.run.
---@param how? moonpost.test.Script
---@return moonpost.test.Server
function M.server(how)
  return script.new(how)
end

--- Runs `fn(world)` as a task in a world of its own: names, servers and a clock that jumps to whatever is waited for next. For code that
--- sends, and is no policy.
---@param fn fun(world: moonpost.test.Policy): ...
---@param options? moonpost.test.Options
---@return any ... what it returned
function M.run(fn, options)
  if type(fn) ~= "function" then
    error(("test.run: a function expected, got a %s"):format(type(fn)), 2)
  end
  return run.run(checked(options, "test.run", 2), fn)
end

return M
