local assemble = require "moonpost.assemble"
local core = require "moonpost.core"
local dispatch = require "moonpost.dispatch"
local log = require "moonpost.log"
local moonpost = require "moonpost"
local wired = require "spec.support.wired"

describe("moonpost.dispatch", function()
  after_each(wired.release_log)

  local function hooks(define)
    local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25" }
    if define then
      define(server)
    end
    local built = assert(assemble.server(server, core.virtual_worker()))
    local _, names = dispatch.new(built.house, built.chains)
    return names
  end

  it("asks C for the events that somebody has a hook for, and for the end of a message", function()
    assert.same({ "message", "refused" }, hooks())
    assert.same({ "mail", "message", "rcpt", "refused" }, hooks(function(server)
      server.on.rcpt = function() end
      server:use { mail = function() end }
    end))
  end)

  it("asks C for credentials when only the auth hook is there to judge them", function()
    assert.same({ "auth", "credentials", "message", "refused" }, hooks(function(server) server.on.auth = function() end end))
    assert.same({ "message", "refused", "token" }, hooks(function(server) server.on.token = function() end end))
  end)

  it("asks C for the end of a session only for a hook or a debug log: no Lua runs for idle peers", function()
    assert.same({ "disconnect", "message", "refused" }, hooks(function(server) server.on.disconnect = function() end end))
    log.configure { level = "debug", output = function() end }
    assert.same({ "disconnect", "message", "refused" }, hooks())
  end)

  it("writes one line for each session at debug", function()
    local house = wired.new()
    house:session():command("QUIT")
    house:settle()
    assert.equal(1, #house:logged("session over", '"peer":"203.0.113.9"', '"helo":"client.example"', "why"))
  end)

  it("says once a minute that connections are refused by a limit, and by which", function()
    local house = wired.new { limits = { connections = 2, connections_per_address = 1 } }
    local first = house:connect { ip = "203.0.113.1", port = 1 }
    house:connect { ip = "203.0.113.1", port = 2 }
    house:connect { ip = "203.0.113.1", port = 3 }
    local found = house:logged("limits.connections_per_address is reached", '"level":"warn"', '"listener":"smtp"')
    assert.equal(1, #found)
    assert.matches('"peer":"203.0.113.1"', found[1], 1, true)
    house:connect { ip = "203.0.113.2", port = 1 }
    house:connect { ip = "203.0.113.3", port = 1 }
    assert.equal(1, #house:logged("limits.connections is reached", '"level":"warn"'))
    house.worker:advance(60)
    house:connect { ip = "203.0.113.1", port = 4 }
    assert.equal(2, #house:logged "limits.connections is reached")
    first:command("QUIT")
  end)

  describe("generation hooks", function()
    it("are told the server", function()
      local seen = {}
      local house = wired.new(nil, function(server)
        server:use { start = function(s) seen[#seen + 1] = s end }
        server.on.start = function(s) seen[#seen + 1] = s end
        server.on.retire = function(s) seen[#seen + 1] = s end
      end)
      assert.same({ house.server, house.server }, { seen[1], seen[2] })
      house.server:_stop(0)
      house:settle()
      assert.equal(house.server, seen[3])
      assert.is_nil(seen[4])
    end)

    it("that raise at the start fail it", function()
      wired.catch_log()
      local server = moonpost.server { listen = "smtp://127.0.0.1:25" }
      server.on.start = function() error("no database") end
      local ok, err = server:start { worker = core.virtual_worker() }
      assert.is_nil(ok)
      assert.equal("start", err.kind)
      assert.matches("dispatch_spec.lua:%d+: the start hook failed: .*no database", tostring(err))
    end)
  end)

  -- The hot path: each of these would be a table or a closure for every event of every message.
  it("makes nothing for an event but the object that the hook is shown", function()
    local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25" }
    server.on.connect = function() end
    server.on.helo = function() end
    local built = assert(assemble.server(server, core.virtual_worker()))
    local call = dispatch.new(built.house, built.chains)
    local session = require("moonpost.session").new({ fact = function() end }, built.house)
    local function round()
      for _ = 1, 100 do
        call("connect", session)
        call("helo", session, "a.example", true)
      end
    end
    round()
    collectgarbage()
    collectgarbage("stop")
    local before = collectgarbage("count")
    round()
    local made = collectgarbage("count") - before
    collectgarbage("restart")
    assert.is_true(made < 1, ("%.1f KB for 200 events"):format(made))
  end)
end)
