--- Loopback ports that nobody holds at the moment. Better, where a server can: listen on port 0 and read what it got.
local socket = require "socket"

local M = {}

local given = {}
local part = tonumber(os.getenv("MOONPOST_SPEC_PART")) -- of two runs side by side: every other 16 ports are the one's

--- A free TCP port; never the same one twice in a run, nor one that the run beside it may take.
---@param address? string "127.0.0.1"
---@return integer
function M.free(address)
  for _ = 1, 100 do
    local listener = assert((address and address:find(":") and socket.tcp6 or socket.tcp)())
    assert(listener:bind(address or "127.0.0.1", 0))
    local _, port = listener:getsockname()
    listener:close()
    port = math.tointeger(tonumber(port))
    if not given[port] and (not part or port // 16 % 2 == part) then
      given[port] = true
      return port
    end
  end
  error("no free port found", 2)
end

return M
