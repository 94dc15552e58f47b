--- Loads a policy in a Lua state of its own, which is gone afterwards, and tells what it comes to. No socket is bound,
--- no hook called.
local core = require "moonpost.core"
local plain = require "moonpost.plain"

local M = {}

local function report(settings)
  local endpoint = require "moonpost.endpoint"
  local log = require "moonpost.log"
  log.event = function() end -- those who serve will say it
  local policy = require "moonpost.policy"
  local server, why = policy.load(settings)
  if not server then
    return { why = why }
  end
  why = server:_check()
  if why then
    return { why = policy.reason(settings.path, why) }
  end
  local listeners = {}
  for i, listener in ipairs(server.listeners) do
    local at = listener.endpoint
    listeners[i] = {
      url = endpoint.show(at), scheme = at.scheme, name = listener.name, tls = listener.tls, auth = listener.auth,
      ip = at.ip, port = at.port, path = at.path, mode = listener.mode,
    }
  end
  return {
    listeners = listeners, options = server:describe(), hooks = server:chains(), grace = server.options.grace,
    log = log.settings(),
  }
end

--- In the fresh state.
function M.run(text)
  local task = require "moonpost.task"
  task.install()
  core.watchdog(require("moonpost.policy").CPU_MOST)
  return plain.encode(task.run(report, plain.decode(text)))
end

---@class moonpost.cli.Listener
---@field url string
---@field scheme string
---@field name string
---@field tls string
---@field auth string
---@field ip? string
---@field port? integer
---@field path? string
---@field mode? integer

---@class moonpost.cli.Report
---@field listeners moonpost.cli.Listener[]
---@field options { option: string, value: string, source: string, doc?: string }[]
---@field hooks { hook: string, chain: string[] }[]
---@field grace number
---@field log { level: string, format: string }

---@param settings moonpost.PolicySettings
---@return moonpost.cli.Report? report
---@return string? why one line
function M.policy(settings)
  local text, raised = core.fresh("moonpost.cli.inspect", "run", plain.encode(settings))
  if not text then
    return nil, ("%s: %s"):format(settings.path, raised:match("^[^\n]*"))
  end
  local result = plain.decode(text)
  if result.why then
    return nil, result.why
  end
  return result
end

return M
