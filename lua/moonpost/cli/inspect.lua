--- Loads a policy in a Lua state of its own, which is gone afterwards, and tells what it comes to. No socket is bound,
--- no hook called.
local core = require "moonpost.core"
local plain = require "moonpost.plain"

local M = {}

local NO_INPUT, TRY_AGAIN = 66, 75 -- of sysexits(3)

-- The rows of options whose value is known only when certificates and hooks are.
local function effective(rows, built)
  local certificates = require "moonpost.certificates"
  local options = require "moonpost.options"
  local out = {}
  for _, row in ipairs(rows) do
    out[#out + 1] = row
    if row.option == "mechanisms" and row.source == "default" then
      row.value, row.source = options.show(built.mechanisms), "default, by the hooks that are set"
    elseif row.option == "tls" and built.development then
      row.value = '"development"'
      if row.source == "default" then
        row.source = built.development .. " demands TLS"
      end
      local certificate = certificates.development_files()
      out[#out + 1] = { option = "tls.certificate", value = options.show(certificate), source = "made when it is missing" }
    end
  end
  return out
end

-- What is read when a policy is loaded, beside the code.
local function note_certificates(server, note)
  local tls = server.options.tls
  if type(tls) ~= "table" then
    return
  end
  for _, cert in ipairs(tls.certs) do
    note(cert.certificate)
    note(cert.key)
  end
  note(tls.client_ca)
end

local function report(settings, note)
  local endpoint = require "moonpost.endpoint"
  local log = require "moonpost.log"
  log.event = function() end -- those who serve will say it
  local policy = require "moonpost.policy"
  local server, why, unread = policy.load(settings)
  if not server then
    return { why = why, status = unread and NO_INPUT }
  end
  note_certificates(server, note)
  local built
  why, built = server:_check(settings.untouched)
  if not built then
    return { why = policy.reason(settings.path, why) }
  end
  local listeners = {}
  for i, listener in ipairs(server.listeners) do
    local at, offer = listener.endpoint, built.offers[i]
    listeners[i] = {
      url = endpoint.show(at), scheme = at.scheme, name = listener.name, ip = at.ip, port = at.port, path = at.path,
      mode = listener.mode, tls = offer.tls, tls_why = offer.tls_why, auth = offer.auth, auth_why = offer.auth_why,
      mechanisms = offer.mechanisms, auth_in_clear = offer.clear,
    }
  end
  return {
    listeners = listeners, options = effective(server:describe(), built), hooks = server:chains(), grace = server.options.grace,
    log = log.settings(), made = require("moonpost.certificates").made,
  }
end

--- In the fresh state.
function M.run(text)
  local task = require "moonpost.task"
  task.install()
  local policy = require "moonpost.policy"
  -- It would end the thread's process without a word. With this it is a fault of the policy's, with its place.
  os.exit = function() -- luacheck: ignore
    error("os.exit: a policy cannot end the process that loads it; error(...) says what is wrong", 2)
  end
  core.watchdog(policy.CPU_MOST, true)
  local settings = plain.decode(text)
  local files = {}
  local function note(path)
    if path and files[path] == nil then
      files[path] = core.file_mark(path) or false
    end
  end
  if settings.watch then
    require("moonpost.loader").watch(note)
    note(settings.path)
  end
  local result = task.run(function()
    local found, why = policy.in_time(settings.path, report, settings, note)
    return found or { why = why }
  end)
  result.files = files
  return plain.encode(result)
end

---@class moonpost.cli.Listener
---@field url string
---@field scheme string
---@field name string
---@field tls string "none", "optional", "required", "implicit"
---@field tls_why? string why none
---@field auth string "none", "optional", "required"
---@field auth_why? string why none
---@field mechanisms string[] what AUTH is offered with
---@field auth_in_clear boolean without TLS too
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
---@field files table<string, string|false> what was read, or would have been, and its core.file_mark before that; of settings that say `watch`
---@field made? true a development certificate was made

-- Descriptors that loading takes at a time. Without them a module that is there is "not found", so they are counted
-- before.
local NEEDED = 24

local function starved()
  local open, why = {}, nil
  for i = 1, NEEDED do
    open[i], why = io.open("/dev/null", "r")
    if not open[i] then
      break
    end
  end
  for _, file in ipairs(open) do
    file:close()
  end
  return why and ("no descriptors are left to load it: %s"):format(why:gsub("^/dev/null: ", ""))
end

--- Loads the policy in a thread of its own; this state's loop goes on.
---@param settings moonpost.PolicySettings
---@param done fun(report?: moonpost.cli.Report, why?: string, files?: table<string, string|false>, status?: integer) called once, on a later
--- turn; `why` is one line, `status` an exit status when there is one that says more than 1
---@return moonpost.core.fresh? job what can be cancelled
function M.start(settings, done)
  local why = starved()
  if why then
    done(nil, ("%s: %s"):format(settings.path, why), nil, TRY_AGAIN)
    return
  end
  return core.fresh("moonpost.cli.inspect", "run", plain.encode(settings), function(text, raised)
    if not text then
      return done(nil, require("moonpost.policy").reason(settings.path, raised))
    end
    local result = plain.decode(text)
    if result.why then
      return done(nil, result.why, result.files, result.status)
    end
    done(result)
  end)
end

--- The same for who has nothing else to do. SIGINT and SIGTERM end the process meanwhile.
---@param settings moonpost.PolicySettings
---@return moonpost.cli.Report? report
---@return string? why one line
function M.policy(settings)
  local worker, result, why = core.worker(), nil, nil
  local over = false
  local function leave(code)
    return function()
      os.exit(code, false)
    end
  end
  worker:signal("INT", leave(130))
  worker:signal("TERM", leave(143))
  M.start(settings, function(...)
    result, why = ...
    over = true
    worker:stop()
  end)
  while not over do
    worker:run()
  end
  worker:signal("INT", nil)
  worker:signal("TERM", nil)
  return result, why
end

return M
