--- moonpost serve: this state reads the command line, binds and gives orders; threads serve (csrc/bind/thread.c).
local check = require "moonpost.cli.check"
local core = require "moonpost.core"
local inspect = require "moonpost.cli.inspect"
local log = require "moonpost.log"
local plain = require "moonpost.plain"
local units = require "moonpost.units"
local watched = require "moonpost.cli.watched"

local M = {}

M.usage = "serve [OPTION...] POLICY.lua"
M.help = [[
Serves mail as the policy says. The policy is checked first; ports are bound only when nothing is wrong with it, and
privileges are given up before its code runs for good. One line "listening on URL" per endpoint says when it is ready.

Each worker is a thread that loads the policy for itself; what they have in common is in moonpost.shared.

SIGHUP loads the policy and its certificates anew: sessions that are open finish with the old ones, within the grace
period, and when something is wrong with the new ones the old ones stay. SIGTERM and SIGINT stop: idle peers are told
421, busy ones may finish within the grace period; the second signal ends them at once.

With --watch the policy is loaded anew too when its file changes, a module that it required, or a certificate.]]

local function one_of(names)
  return function(text)
    for _, name in ipairs(names) do
      if text == name then
        return text
      end
    end
    return nil, table.concat(names, ", ", 1, #names - 1) .. " or " .. names[#names]
  end
end

M.options = {
  {
    name = "workers", value = "N", doc = "threads that serve (1)",
    parse = function(text)
      local count = math.tointeger(tonumber(text))
      return count and count >= 1 and count <= 256 and count or nil, "a number from 1 to 256"
    end,
  },
  check.listen_option,
  { name = "watch", doc = "load the policy anew when its files change" },
  { name = "user", value = "USER", doc = "become this user once the ports are bound" },
  { name = "group", value = "GROUP", doc = "and this group, instead of the user's own" },
  {
    name = "grace", value = "TIME",
    doc = "for busy sessions when the server stops, and for all that are open when the\npolicy is loaded anew; instead of the policy's",
    parse = units.duration,
  },
  {
    name = "log-level", value = "LEVEL", doc = "error, warn, info (the default) or debug",
    parse = one_of { "error", "warn", "info", "debug" },
  },
  {
    name = "log-format", value = "FORMAT", doc = "text (the default) or json: one object per line",
    parse = one_of { "text", "json" },
  },
}
M.operands = { "POLICY" }

local STARVED_PAUSE = 10 -- seconds between two loadings for want of memory
local HASTE = 0.5 -- seconds to end before anything was served
local DEAF = 5 -- seconds past the grace period for a worker to end

---@class moonpost.cli.Serve
local Serve = {}
Serve.__index = Serve

-- ---- endpoints ----------------------------------------------------------------------------------------------------

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

local function close_all(bindings)
  for _, bound in pairs(bindings) do
    bound.binding:close()
  end
end

local function url_of(listener, binding)
  local at = binding:endpoint()
  at.scheme = listener.scheme
  return require("moonpost.endpoint").show(at)
end

-- Binds what is not bound yet. Returns all that the listeners need, and what is new of it; or nil and why.
function Serve:bind(listeners)
  local all, fresh = {}, {}
  for i, key in ipairs(keys_of(listeners)) do
    local each = listeners[i]
    local bound = self.bound[key]
    if bound and bound.mode ~= each.mode then
      close_all(fresh)
      return nil, ("%s: its mode cannot change while it is bound; restart"):format(each.url)
    elseif not bound then
      local at = { ip = each.ip, port = each.port, path = each.path, mode = each.mode }
      local binding, why = core.bind(at, self.workers)
      if not binding then
        close_all(fresh)
        return nil, ("cannot listen on %s://%s"):format(each.scheme, why)
      end
      bound = { binding = binding, mode = each.mode, url = url_of(each, binding) }
      fresh[key] = bound
    end
    all[key] = bound
  end
  return all, fresh
end

local function in_order(listeners, bound)
  local list = {}
  for i, key in ipairs(keys_of(listeners)) do
    list[i] = bound[key].binding
  end
  return list
end

-- Says where it listens now and did not before.
local function announce(listeners, bound, before)
  for i, key in ipairs(keys_of(listeners)) do
    if not before[key] then
      local listener = listeners[i]
      log.event("info", "listening on " .. url_of(listener, bound[key].binding), { "name", listener.name })
    end
  end
end

-- ---- generations ----------------------------------------------------------------------------------------------------

-- Loads the policy in every thread, has it served, retires the one before. done(why) is called once; on a failure the
-- one before serves on.
function Serve:load(report, done)
  local all, fresh = self:bind(report.listeners)
  if not all then
    return done(fresh)
  end
  local id
  local function failed(why, grace)
    if not self.stopping then -- else all of them are retired
      self.threads:retire(id, grace)
    end
    close_all(fresh)
    done(why)
  end
  id = self.threads:load(plain.encode(self.settings), in_order(report.listeners, all), function(why)
    if why or self.stopping then
      return failed(why, 0)
    end
    self.threads:serve(id, function(trouble)
      if trouble or self.stopping then
        return failed(trouble, report.grace)
      end
      self:switch(id, report, all, done)
    end)
  end)
end

-- `id` is served; done() is called when it alone is.
function Serve:switch(id, report, all, done)
  local old, before = self.id, self.bound
  self.id, self.bound, self.grace = id, all, report.grace
  for key, bound in pairs(before) do
    if not all[key] then
      log.event("info", "endpoint closed", { "url", bound.url })
      bound.binding:close()
    end
  end
  log.configure(report.log)
  if old then
    self.threads:retire(old, report.grace, done)
  else
    done()
  end
end

-- What the next change is told from. `files` nil: nothing could be read for want of descriptors, which is no fault of the files.
local function watch(self, why, files)
  if not self.watched then
    return
  end
  self.watched:learn(files, not why)
  for _, of_worker in pairs(self.told) do
    for path, mark in pairs(of_worker) do
      self.watched:add(path, mark)
    end
  end
  self.told = {}
  if not files then
    self:later(STARVED_PAUSE)
  end
end

local function finish_reload(self, why, files)
  self.loading = false
  if self.stopping then
    return
  end
  watch(self, why, files)
  if why then
    log.event("error", "policy not loaded; the one before serves on", { "why", why })
  else
    log.event("info", "policy loaded", { "policy", self.settings.path })
  end
  if self.again then
    self.again = false
    self:reload()
  elseif why and self.starved then
    self:later(STARVED_PAUSE)
  end
end

--- Loads policy and certificates anew.
function Serve:reload()
  if self.stopping then
    return
  elseif self.loading then
    self.again = true
    return
  end
  self.loading = true
  if self.watched then
    self.watched:hold()
  end
  self:inspect(function(report, why, files)
    if not report then
      return finish_reload(self, why, files)
    end
    local before = self.bound
    self:load(report, function(trouble)
      if not trouble then
        self.starved = false
        announce(report.listeners, self.bound, before)
      end
      finish_reload(self, trouble, report.files)
    end)
  end)
end

--- What the policy comes to; done(report, why, files) is not called any more once the server stops.
function Serve:inspect(done)
  self.inspection = inspect.start(self.settings, function(report, ...)
    self.inspection = nil
    self.settings.made = report and report.made or nil
    if not self.stopping then
      done(report, ...)
    end
  end)
end

function Serve:later(seconds)
  if not self.timer then
    self.timer = self.worker:timer(seconds, function()
      self.timer = nil
      self:reload()
    end)
  end
end

-- A worker has read a file: while it was loaded, or in a hook that required something for the first time.
function Serve:note_file(id, text)
  local mark, path = text:match("^(%S+) (.*)$")
  if id == self.id and not self.loading then
    self.watched:add(path, mark ~= "-" and mark)
  else
    self.told[id] = self.told[id] or {}
    self.told[id][path] = mark ~= "-" and mark
  end
end

function Serve:event(what, thread, id, seconds, hook)
  if what == "tells" then
    self:note_file(id, hook)
  elseif what == "stalled" then
    log.event("error", "a call in Lua does not return; it is inside C code that cannot be interrupted", {
      "worker", thread, "seconds", seconds, hook and "hook", hook,
    })
  elseif what == "starved" and id == self.id then
    log.event("warn", "a worker is over its memory limit; the policy is loaded anew", { "worker", thread })
    self.starved = true
    self:later(math.max(0, (self.fed or 0) + STARVED_PAUSE - self.worker:now()))
    self.fed = self.worker:now()
  end
end

-- ---- start and end --------------------------------------------------------------------------------------------------

-- A worker may be inside a call that nothing can interrupt: it must not keep the process.
function Serve:end_by(seconds)
  if self.deadline then
    self.deadline:cancel()
  end
  self.deadline = self.worker:timer(seconds, function()
    log.event("error", "a worker does not end; leaving without it", {})
    os.exit(1, false)
  end)
end

function Serve:stop()
  local grace = self.stopping and 0 or self.grace
  log.event("info", self.stopping and "stopping at once" or "stopping", { "grace", units.show_duration(grace) })
  self.stopping = true
  if self.watched then
    self.watched:close()
  end
  close_all(self.bound)
  self.bound = {}
  if self.inspection then
    self.inspection:cancel()
  end
  if not self.threads then
    return self.worker:stop()
  end
  self:end_by(self.id and grace + DEAF or HASTE) -- what nobody has met yet is nobody's loss
  self.threads:stop(grace, function()
    self.deadline:cancel()
    self.worker:stop()
  end)
end

function Serve:signals()
  local function stop()
    self:stop()
  end
  self.worker:signal("TERM", stop)
  self.worker:signal("INT", stop)
  self.worker:signal("HUP", function()
    self:reload()
  end)
end

local function complain(why)
  io.stderr:write("moonpost: ", why, "\n")
  return 1
end

-- Everything that can be wrong before a thread exists. Returns nil, or why.
function Serve:prepare(report, args)
  self.grace = report.grace
  log.configure(report.log)
  local all, trouble = self:bind(report.listeners)
  if not all then
    return ("%s: %s"):format(self.settings.path, trouble)
  end
  self.bound = all
  if args.user then
    local ok, why = core.drop_privileges(args.user, args.group)
    if not ok then
      return "--user: " .. why
    end
  end
end

-- From what the policy comes to until it is served.
function Serve:begin(report, args)
  self.threads = core.threads(self.workers)
  self.threads:events(function(...)
    self:event(...)
  end)
  self:load(report, function(trouble)
    self.loading = false
    if trouble and not self.stopping then
      self.failure = trouble
      self.threads:stop(0, function()
        self.worker:stop()
      end)
      self.stopping = true
    elseif not trouble then
      log.event("info", "serving", { "policy", args.POLICY, "workers", self.workers, "version", core.VERSION })
      announce(report.listeners, self.bound, {})
      watch(self, nil, report.files)
    end
  end)
end

function M.run(args)
  if args.group and not args.user then
    io.stderr:write("moonpost: serve: --group needs --user\n")
    return 2
  end
  local self = setmetatable({
    settings = {
      path = args.POLICY, listen = args.listen, grace = args.grace, watch = args.watch,
      log = { level = args["log-level"], format = args["log-format"] },
    },
    workers = args.workers or 1, bound = {}, worker = core.worker(), grace = 0, loading = true, told = {},
  }, Serve)
  self.watched = args.watch and watched.new(self.worker, function(files)
    log.event("info", "files have changed", { "files", table.concat(files, " ") })
    self:reload()
  end)
  log.configure(self.settings.log)
  self:signals()
  self:inspect(function(report, why)
    self.failure = why or self:prepare(report, args)
    if self.failure then
      self.worker:stop()
    else
      self:begin(report, args)
    end
  end)
  self.worker:run()
  close_all(self.bound)
  if self.failure then
    return complain(self.failure)
  end
  self.worker:signal("TERM", false) -- who is impatient with an end that is over does not make it a bad one
  self.worker:signal("INT", false)
  log.event("info", "stopped", {})
  if self.inspection then -- its thread may be inside a call that nothing can interrupt
    os.exit(0, false)
  end
  return 0
end

return M
