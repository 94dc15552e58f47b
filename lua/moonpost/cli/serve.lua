--- moonpost serve: this state reads the command line, binds and gives orders; threads serve (csrc/bind/thread.c).
local check = require "moonpost.cli.check"
local core = require "moonpost.core"
local endpoints = require "moonpost.cli.endpoints"
local inspect = require "moonpost.cli.inspect"
local log = require "moonpost.log"
local plain = require "moonpost.plain"
local supervisor = require "moonpost.cli.supervisor"
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

With --watch the policy is loaded anew too when its file changes, a module that it required, or a certificate.

What systemd hands over is understood without options: sockets (LISTEN_FDS), readiness (NOTIFY_SOCKET), watchdog
(WATCHDOG_USEC).

Exit status: 0 stopped as asked; 1 the policy is wrong, or what it needs could not be had; 2 the command line is wrong;
66 the policy's file cannot be read; 71 threads cannot be started; 75 no descriptors are left to load it; 77 a port or
another user may not be had; 78 the sockets handed over are not those of the policy.]]

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

-- Exit statuses; 66 and 75 come from inspections. What sysexits(3) has no better word for is 1.
local FAILED, MISUSE, OS_ERROR, DENIED, CONFIG = 1, 2, 71, 77, 78

---@class moonpost.cli.Serve
local Serve = {}
Serve.__index = Serve

-- ---- generations ----------------------------------------------------------------------------------------------------

-- Loads the policy in every thread, has it served, retires the one before. done(why) is called once; on a failure the
-- one before serves on.
function Serve:load(report, done)
  local all, fresh = self.endpoints:bind(report.listeners)
  if not all then
    return done(fresh)
  end
  local id
  local function failed(why, grace)
    if not self.stopping then -- else all of them are retired
      self.threads:retire(id, grace)
    end
    endpoints.close(fresh)
    done(why)
  end
  id = self.threads:load(plain.encode(self.settings), endpoints.in_order(report.listeners, all), function(why)
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
  local old = self.id
  self.id, self.grace = id, report.grace
  self.endpoints:serve(all)
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

local function serving(self)
  return ("Serving %s with %d worker%s"):format(self.settings.path, self.workers, self.workers == 1 and "" or "s")
end

local function finish_reload(self, why, files)
  self.loading = false
  if self.stopping then
    return
  end
  watch(self, why, files)
  if why then
    log.event("error", "policy not loaded; the one before serves on", { "why", why })
    self.supervisor:ready("The policy was not loaded, the one before serves on: " .. why)
  else
    log.event("info", "policy loaded", { "policy", self.settings.path })
    self.supervisor:ready(serving(self))
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
  self.supervisor:reloading("Loading " .. self.settings.path)
  if self.watched then
    self.watched:hold()
  end
  self:inspect(function(report, why, files)
    if not report then
      return finish_reload(self, why, files)
    end
    local before = self.endpoints.bound
    self:load(report, function(trouble)
      if not trouble then
        self.starved = false
        self.endpoints:announce(report.listeners, before)
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
  if what == "alive" then
    self.supervisor:alive(thread)
  elseif what == "tells" then
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
    os.exit(FAILED, false)
  end)
end

function Serve:stop()
  local grace = self.stopping and 0 or self.grace
  self.supervisor:stopping(("Stopping; sessions may finish for %s"):format(units.show_duration(grace)))
  log.event("info", self.stopping and "stopping at once" or "stopping", { "grace", units.show_duration(grace) })
  self.stopping = true
  if self.watched then
    self.watched:close()
  end
  self.endpoints:close()
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

local function complain(why, status)
  io.stderr:write("moonpost: ", why, "\n")
  return status or FAILED
end

-- Sockets: those of the supervisor, and those that are missing. Returns nil, or why and the exit status.
function Serve:bind(listeners)
  local why = self.supervisor.trouble or self.endpoints:adopt(self.supervisor.descriptors)
  why = why or self.endpoints:unclaimed(listeners)
  if why then
    return why, CONFIG
  end
  local all, trouble, err = self.endpoints:bind(listeners)
  if not all then
    return ("%s: %s"):format(self.settings.path, trouble), err == "DENIED" and DENIED or FAILED
  end
  self.endpoints:serve(all)
end

-- Everything that can be wrong before a thread exists. Returns nil, or why and the exit status.
function Serve:prepare(report, args)
  self.grace = report.grace
  log.configure(report.log)
  local trouble, status = self:bind(report.listeners)
  if trouble then
    return trouble, status
  end
  if args.user then
    local ok, why, err = core.drop_privileges(args.user, args.group)
    if not ok then
      return "--user: " .. why, err == "DENIED" and DENIED or FAILED
    end
  end
  local made, threads = pcall(core.threads, self.workers)
  if not made then
    return tostring(threads), OS_ERROR
  end
  self.threads = threads
end

-- From what the policy comes to until it is served.
function Serve:begin(report, args)
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
      self.endpoints:announce(report.listeners, {})
      self.supervisor:ready(serving(self))
      self.supervisor:guard(self.worker, self.threads, self.workers)
      watch(self, nil, report.files)
    end
  end)
end

function M.run(args)
  if args.group and not args.user then
    io.stderr:write("moonpost: serve: --group needs --user\n")
    return MISUSE
  end
  local self = setmetatable({
    settings = {
      path = args.POLICY, listen = args.listen, grace = args.grace, watch = args.watch,
      log = { level = args["log-level"], format = args["log-format"] },
    },
    workers = args.workers or 1, supervisor = supervisor.new(), endpoints = endpoints.new(args.workers or 1),
    worker = core.worker(), grace = 0, loading = true, told = {},
  }, Serve)
  self.watched = args.watch and watched.new(self.worker, function(files)
    log.event("info", "files have changed", { "files", table.concat(files, " ") })
    self:reload()
  end)
  log.configure(self.settings.log)
  self:signals()
  self:inspect(function(report, why, _, status)
    self.failure, self.status = why, status
    if report then
      self.failure, self.status = self:prepare(report, args)
    end
    if self.failure then
      self.worker:stop()
    else
      self:begin(report, args)
    end
  end)
  self.worker:run()
  self.endpoints:close()
  if self.failure then
    self.supervisor:failed(self.failure)
    return complain(self.failure, self.status)
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
