--- A service that follows a script, on a unix socket and the loop of the spec itself.
---
---     local service <close> = scripted.serve(function(peer) assert(peer:read(5) == "PING\n"); peer:write "PONG\n" end)
---     local client = moonpost.clamav { address = service.address }
local channel = require "moonpost.channel"
local core = require "moonpost.core"
local tmpdir = require "spec.support.tmpdir"

local M = {}

local Service_mt = {}

--- Runs `serve(peer, n)` for each connection, the nth. What it raises is kept in `service.errors`.
---@param serve fun(peer: moonpost.Channel, n: integer)
function M.serve(serve)
  local folder = tmpdir.new()
  local path = folder:join "socket"
  local service = setmetatable({ address = "unix:" .. path, path = path, folder = folder, errors = {}, count = 0 }, Service_mt)
  service.binding = assert(core.bind { path = path })
  service.listener = assert(channel.listen(core.worker(), service.binding, function(peer)
    service.count = service.count + 1
    local ok, err = pcall(serve, peer, service.count)
    if not ok then
      service.errors[#service.errors + 1] = tostring(err)
    end
  end))
  return service
end

-- Both ends of a connection are on this loop: some turns, and they have let go of each other. Other specs look for what is left on it.
local function settle()
  local worker, turns = core.worker(), 0
  while turns < 200 and worker:turn(false) do
    turns = turns + 1
  end
end

function Service_mt:__close()
  self.listener:close()
  self.binding:close()
  settle()
  getmetatable(self.folder).__close(self.folder)
end

return M
