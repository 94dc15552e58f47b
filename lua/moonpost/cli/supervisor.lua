--- What systemd, or who does as it does, hands to a service and wants to hear of it: sd_listen_fds(3), sd_notify(3) and
--- sd_watchdog_enabled(3), by their protocols, which are variables of the environment and datagrams. Without a supervisor
--- nothing of this does anything.
local core = require "moonpost.core"
local log = require "moonpost.log"

local M = {}

local FIRST = 3 -- SD_LISTEN_FDS_START
local DESCRIPTORS_MOST = 1024
local STATUS_MOST = 1024
local SHARE = 4 -- of the watchdog's time between two questions to the workers

---@class moonpost.cli.Supervisor
---@field descriptors { fd: integer, name: string }[]
---@field trouble? string what it handed over makes no sense
local Supervisor = {}
Supervisor.__index = Supervisor

local function integer(text)
  return text and text:find("^%d+$") and math.tointeger(tonumber(text)) or nil
end

local function descriptors(count, names)
  local list, next_name = {}, (names or ""):gmatch("[^:]*")
  for i = 1, count do
    local name = next_name() or ""
    list[i] = { fd = FIRST + i - 1, name = name == "unknown" and "" or name }
  end
  return list
end

--- Takes what is in the environment out of it, so that programs we start do not take it for theirs. Before there are threads.
---@return moonpost.cli.Supervisor
function M.new()
  local given = {}
  for _, name in ipairs {
    "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "WATCHDOG_USEC", "WATCHDOG_PID",
  } do
    given[name] = core.take_environment(name)
  end
  local pid = core.pid()
  local self = setmetatable({ address = given.NOTIFY_SOCKET, descriptors = {} }, Supervisor)
  if integer(given.LISTEN_PID) == pid then -- else they were meant for who started us
    local count = integer(given.LISTEN_FDS)
    if not count or count > DESCRIPTORS_MOST then
      self.trouble = ("LISTEN_FDS=%s: a number up to %d expected"):format(given.LISTEN_FDS or "", DESCRIPTORS_MOST)
    else
      self.descriptors = descriptors(count, given.LISTEN_FDNAMES)
    end
  end
  local microseconds = integer(given.WATCHDOG_USEC)
  if self.address and microseconds and microseconds > 0 and integer(given.WATCHDOG_PID or tostring(pid)) == pid then
    self.patience = microseconds / 1e6
  end
  return self
end

local function say(self, ...)
  if not self.address then
    return
  end
  local ok, why = core.notify(self.address, table.concat({ ... }, "\n"))
  if not ok and not self.complained then
    self.complained = true
    log.event("warn", "the supervisor cannot be told", { "address", self.address, "why", why })
  end
end

local function status(text)
  text = log.clean(text)
  local last = #text > STATUS_MOST and utf8.offset(text, 0, STATUS_MOST + 1) - 1 or #text -- no half of a character
  return "STATUS=" .. text:sub(1, last)
end

--- All workers listen; also the end of a reload, be it a good one or not.
---@param text string
function Supervisor:ready(text)
  say(self, "READY=1", ("MAINPID=%d"):format(core.pid()), status(text))
end

---@param text string
function Supervisor:reloading(text)
  say(self, "RELOADING=1", ("MONOTONIC_USEC=%d"):format(core.monotonic()), status(text))
end

---@param text string
function Supervisor:stopping(text)
  self:rest()
  say(self, "STOPPING=1", status(text))
end

--- It ends before it was ready.
---@param text string
function Supervisor:failed(text)
  say(self, status(text))
end

-- ---- watchdog ---------------------------------------------------------------------------------------------------------

local function ask(self)
  local silent = {}
  for number in pairs(self.asked) do
    silent[#silent + 1] = number
  end
  table.sort(silent)
  if not silent[1] then
    for number = 1, self.workers do
      self.asked[number] = true
    end
    self.left, self.since = self.workers, self.worker:now()
    self.threads:ping()
  elseif not self.told then
    self.told = true
    log.event("error", "a worker does not answer; the supervisor's watchdog is not answered either", {
      "workers", table.concat(silent, " "), "seconds", self.worker:now() - self.since,
    })
  end
  self.timer = self.worker:timer(self.patience / SHARE, function()
    ask(self)
  end)
end

--- Answers the watchdog from now on, if there is one, as long as every worker's loop turns.
---@param worker moonpost.core.worker of this state
---@param threads moonpost.core.threads
---@param workers integer how many
function Supervisor:guard(worker, threads, workers)
  if self.patience then
    self.worker, self.threads, self.workers, self.asked = worker, threads, workers, {}
    ask(self)
  end
end

--- A ping came back.
---@param number integer of the worker
function Supervisor:alive(number)
  if not self.asked or not self.asked[number] then
    return
  end
  self.asked[number] = nil
  self.left = self.left - 1
  if self.left == 0 and self.timer then
    say(self, "WATCHDOG=1")
    if self.told then
      self.told = nil
      log.event("info", "all workers answer again", { "seconds", self.worker:now() - self.since })
    end
  end
end

--- Does not answer the watchdog any more.
function Supervisor:rest()
  if self.timer then
    self.timer:cancel()
    self.timer = nil
  end
end

return M
