--- When the clock on the wall is set back, what was due in an hour would be due in an hour and a day: the times of what waits are set back with
--- it. When it is set forward things are due early, which does no harm. How long pauses and sleeps last does not depend on it.
local log = require "moonpost.log"
local task = require "moonpost.task"

local M = {}

local NOTICED = 60 -- seconds that a clock may be put right without anybody noticing
local PAGE = 500

local function is_hold(one)
  local params = one.message.params
  return one.attempts == 0 and (params.holdfor or params.holduntil) ~= nil -- until a time that the sender has named (RFC 4865)
end

local function set_back(engine, seconds)
  local store, after, number, more = engine.store, nil, nil, true
  while more and not engine.stopping do
    local now, late = engine.worker:time(), {}
    local page
    page, more = store:page({ waiting = true }, after, number, PAGE)
    for _, one in ipairs(page) do
      after, number = one.message.id, one.number
      if one.due > now and not one.held and not is_hold(one) then
        late[#late + 1] = one
      end
    end
    more = more and page[1] ~= nil
    local ok, err = store:change(late, "retry", function(one)
      return { due = one.due - seconds }
    end)
    if not ok then
      log.event("error", "queue failed", { "queue", engine.queue.name, "why", tostring(err) })
    end
  end
  engine:poke()
end

--- Looks whether the clock was set back since it was asked last.
---@param engine moonpost.queue.Engine the first of several workers
function M.look(engine)
  local ahead = engine.worker:time() - engine.worker:now()
  local back = engine.ahead and engine.ahead - ahead or 0
  engine.ahead = ahead
  if back > NOTICED then
    log.event("warn", "clock set back", { "queue", engine.queue.name, "seconds", math.floor(back) })
    task.spawn_on(engine.worker, set_back, engine, back)
  end
end

return M
