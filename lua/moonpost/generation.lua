--- What runs in a serving thread: one policy, from its loading to the end of its last session. Called by C
--- (csrc/bind/generation.c).
local core = require "moonpost.core"
local loader = require "moonpost.loader"
local plain = require "moonpost.plain"
local policy = require "moonpost.policy"
local task = require "moonpost.task"

local M = {}

local FILES_MOST = 4096 -- that are told of

local spec, server

-- Once each: a hook may ask for a module that is not there with every message.
local function tell_files()
  local told, count = {}, 0
  loader.watch(function(path)
    if told[path] or count >= FILES_MOST then
      return
    end
    told[path], count = true, count + 1
    core.tell(("%s %s"):format(core.file_mark(path) or "-", path))
  end)
end

local function load(settings)
  if settings.watch then
    tell_files()
  end
  local loaded, why = policy.load(settings)
  if not loaded then
    return nil, why
  end
  local ok, err = loaded:start { worker = core.worker(), bindings = false }
  if not ok then
    return nil, policy.reason(settings.path, err)
  end
  server = loaded
  return true
end

--- Loads the policy beside the one that serves; nobody meets it yet.
---@param given { text: string, bindings: moonpost.core.binding[], loaded: fun(why?: string), retired: fun() }
function M.load(given)
  spec = given
  task.install()
  core.watchdog(policy.CPU_MOST, true)
  task.spawn(function()
    local settings = plain.decode(spec.text)
    local ok, result, why = pcall(policy.in_time, settings.path, load, settings)
    if not ok then
      why = tostring(result)
    end
    spec.loaded(why)
  end)
end

--- New connections meet this policy.
---@return string? why
function M.serve()
  local ok, why = server:_listen(spec.bindings)
  return not ok and why or nil
end

--- No new connections; spec.retired() when the last session is over.
---@param grace number seconds
---@param gently? boolean another generation serves on: open sessions, idle ones too, may finish on this one until the
--- grace is over
function M.retire(grace, gently)
  server:_stop(grace, spec.retired, gently)
  for _, binding in ipairs(spec.bindings) do
    binding:close()
  end
  spec.bindings = {}
end

return M
