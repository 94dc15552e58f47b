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

function Service_mt:__close()
  self.listener:close()
  self.binding:close()
  getmetatable(self.folder).__close(self.folder)
end

return M
