--- Gives a received message another body, piece by piece: what is large goes to a file, and the task waits for the disk.
local Error = require "moonpost.error"
local task = require "moonpost.task"

---@async
---@param message moonpost.Message
---@param next_chunk fun(): string?
---@return true? done
---@return moonpost.Error? err kind "system"
return function(message, next_chunk)
  if message._sealed or message._running > 0 then
    error("tree:apply: the message's plans have run", 3)
  end
  local rewrite, why, name = message._core:rewrite(task.worker())
  local ok, waiting = rewrite and true, nil
  local function told(...)
    waiting(...)
  end
  local function wait()
    ok, why, name = task.park(function(wake)
      waiting = wake
    end, "a message to be written")
  end
  while ok do
    local chunk = next_chunk()
    if not chunk then
      ok, why, name = rewrite:finish(told)
      if ok == false then
        wait()
      end
      break
    end
    ok, why, name = rewrite:add(chunk, told)
    if ok == false then
      wait()
    end
  end
  if not ok then
    return nil, Error("system", "the message cannot be changed: " .. tostring(why), { name = name })
  end
  return true
end
