--- What is asked of the system about a process, and what is made of several runs.
local uv = require "luv"

local M = {}

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

--- Processor time of a process, user and system, of all its threads. In nanoseconds where the kernel keeps them, else
--- in ticks of the clock.
---@param pid integer
---@return number seconds
function M.cpu(pid)
  local scan = uv.fs_scandir(("/proc/%d/task"):format(pid))
  local total = 0
  while scan do
    local thread = uv.fs_scandir_next(scan)
    if not thread then
      return total / 1e9
    end
    local ok, text = pcall(read, ("/proc/%d/task/%s/schedstat"):format(pid, thread))
    if not ok then
      break
    end
    total = total + tonumber(text:match("^(%d+)"))
  end
  local fields = read(("/proc/%d/stat"):format(pid)):match("^.*%) (.*)$")
  local user, system = fields:match("^" .. ("%S+ "):rep(11) .. "(%d+) (%d+)")
  return (tonumber(user) + tonumber(system)) / 100
end

--- Resident memory of a process.
---@param pid integer
---@return integer octets
function M.resident(pid)
  return tonumber(read(("/proc/%d/status"):format(pid)):match("VmRSS:%s*(%d+)")) * 1024
end

---@param list number[]
function M.median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  local middle = (#sorted + 1) // 2
  return #sorted % 2 == 1 and sorted[middle] or (sorted[middle] + sorted[middle + 1]) / 2
end

--- The median of what two subjects came to in the same round, as a ratio: what slows down the machine for a while
--- slows down both.
---@param over number[]
---@param under number[]
function M.ratio(over, under)
  local ratios = {}
  for i = 1, #over do
    ratios[i] = over[i] / under[i]
  end
  return M.median(ratios)
end

--- Seconds, for spans.
function M.now()
  return uv.hrtime() / 1e9
end

return M
