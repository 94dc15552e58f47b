--- Waits until somebody answers at a port or at a unix socket: for servers that do not say when they are ready.
local uv = require "luv"

local AGAIN = 20 -- milliseconds after a refused connection

--- Turns the loop until a connection is taken.
---@param where integer|string a port of 127.0.0.1, or the path of a unix socket
---@param seconds number
---@param hopeless? fun(): boolean the server has ended
---@return boolean reached
return function(where, seconds, hopeless)
  local reached, late, busy = false, false, false
  local deadline, again = uv.new_timer(), uv.new_timer()
  uv.update_time()
  deadline:start(math.ceil(seconds * 1000), 0, function()
    late = true
  end)
  again:start(0, AGAIN, function()
    if busy or reached then
      return
    end
    busy = true
    local connection = type(where) == "string" and uv.new_pipe(false) or uv.new_tcp()
    local function done(err)
      busy, reached = false, reached or not err
      connection:close()
    end
    if type(where) == "string" then
      connection:connect(where, done)
    else
      connection:connect("127.0.0.1", where, done)
    end
  end)
  while not late and not reached and not (hopeless and hopeless()) do
    uv.run("once")
  end
  deadline:close()
  again:close()
  while busy do -- its answer closes it
    uv.run("once")
  end
  uv.run("nowait")
  return reached
end
