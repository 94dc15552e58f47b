--- How long the stages of a connection took: milliseconds of the loop's clock, which asks the system for nothing.
local M = {}

---@class moonpost.Stopwatch
---@field times table<string, integer>? by stage; nil once somebody has them
local Watch = {}
local Watch_mt = { __index = Watch }

local function ms_between(from, till)
  return math.floor((till - from) * 1000 + 0.5)
end

---@param worker moonpost.core.worker
---@return moonpost.Stopwatch
function M.new(worker)
  return setmetatable({ times = {}, _worker = worker, _since = worker:now() }, Watch_mt)
end

--- A stage is over, whatever it came to. One that comes again, as EHLO behind STARTTLS does, counts with the first.
---@param stage string
function Watch:mark(stage)
  local now = self._worker:now()
  self.times[stage] = (self.times[stage] or 0) + ms_between(self._since, now)
  self._since = now
end

--- A transaction begins.
function Watch:start()
  self._since = self._worker:now()
end

--- What a transaction took that is over now. The first one has what the connection took before it too.
---@return table<string, integer> times
function Watch:stop()
  local times = self.times or {}
  self.times, times.message = nil, ms_between(self._since, self._worker:now())
  return times
end

return M
