local ports = require "spec.support.ports"
local socket = require "socket"

describe("spec.support.ports", function()
  it("gives ports that can be bound, and never one twice", function()
    local seen = {}
    for _ = 1, 20 do
      local port = ports.free()
      assert.is_nil(seen[port])
      seen[port] = true
      local listener <close> = setmetatable({ socket = assert(socket.tcp()) }, {
        __close = function(self) self.socket:close() end,
      })
      assert(listener.socket:bind("127.0.0.1", port))
    end
  end)
end)
