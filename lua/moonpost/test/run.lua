--- A piece of code in a world of its own, with a clock that jumps to whatever is waited for next.
local policy_of = require "moonpost.test.policy"
local stage = require "moonpost.test.stage"
local task = require "moonpost.task"

local M = {}

local STEPS_MOST = 1000000

-- Until the task is over: what can happen happens, then the clock goes on to what is due next.
local function to_the_end(world, running)
  for _ = 1, STEPS_MOST do
    if running:finished() then
      return
    end
    local seconds = world._worker:next_timer()
    if not seconds then
      error(("test.run: nothing is left that could end the wait for %s")
        :format(table.concat(task.waits(world._worker), ", ")), 0)
    end
    stage.act(world, world._worker.advance, world._worker, seconds)
  end
  error("test.run: it goes on for ever", 0)
end

--- Runs `fn(world)` as a task.
---@param values table checked options
---@param fn function
---@return any ... what it returned
function M.run(values, fn)
  local world = policy_of.new(values)
  local results
  local running = stage.act(world, function()
    local ok, other
    ok, other = task.hook(world._worker, 0, function(good, ...)
      results = table.pack(good, ...)
    end, function()
      local packed = table.pack(fn(world))
      return packed
    end)
    if ok ~= nil then
      results = table.pack(ok, other)
      return nil
    end
    return other
  end)
  if running then
    to_the_end(world, running)
  end
  if not results[1] then
    error(results[2], 0)
  end
  return table.unpack(results[2], 1, results[2].n)
end

return M
