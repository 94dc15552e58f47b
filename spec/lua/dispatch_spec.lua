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
    log.configure { level = "warn" }
    assert.same({ "message" }, hooks())
    assert.same({ "mail", "message", "rcpt" }, hooks(function(server)
      server.on.rcpt = function() end
      server:use { mail = function() end }
    end))
  end)

  it("asks C for credentials when only the auth hook is there to judge them", function()
    log.configure { level = "warn" }
    assert.same({ "auth", "credentials", "message" }, hooks(function(server) server.on.auth = function() end end))
    assert.same({ "message", "token" }, hooks(function(server) server.on.token = function() end end))
  end)

  it("asks C for the end of a session only for a hook or the log: no Lua runs for idle peers at level warn", function()
    assert.same({ "disconnect", "message", "refused" }, hooks())
    log.configure { level = "warn" }
    assert.same({ "disconnect", "message" }, hooks(function(server) server.on.disconnect = function() end end))
    assert.same({ "message" }, hooks())
  end)

  it("writes one line for each session at its end, with what came of it", function()
    local house = wired.new({ domains = { "example.org" } }, function(server)
      function server.on.message(_, message) message:discard("test") end
    end)
    local peer = house:session()
    peer:send("bob@example.net", { "alice@example.org", "eve@example.com" }, "Subject: x\r\n\r\nHello.")
    peer:command("FOO")
    house.worker:advance(2)
    peer:command("QUIT")
    house:settle()
    local found = house:logged('"text":"session"')
    assert.equal(1, #found)
    assert.matches('"level":"info","text":"session","session":"', found[1], 1, true)
    assert.matches('"peer":"203.0.113.9","listener":"smtp","tls":"none","helo":"client.example","messages":1,"messages_refused":0,'
      .. '"recipients":1,"recipients_refused":1,"bad_commands":1,"octets":25,"seconds":2,"why":"quit"}', found[1], 1, true)
    peer = house:session()
    peer:command("MAIL FROM:<>", "RCPT TO:<alice@example.org>", "DATA")
    peer.wire:eof()
    house:settle()
    assert.equal(1, #house:logged('"text":"session"', '"messages":0,"messages_refused":0', '"why":"peer left in the middle of a message"'))
  end)

  it("tells of a message that was refused by what stands in it, once in its own line and once in the count", function()
    local house = wired.new { domains = { "example.org" } }
    local peer = house:session()
    assert.matches("^550 5.5.2", (peer:send("bob@example.net", "alice@example.org", "a\nb")))
    peer:command("QUIT")
    assert.equal(1, #house:logged('"text":"refused","by":"abort"'))
    assert.equal(1, #house:logged('"text":"session"', '"messages":0,"messages_refused":1'))
  end)

  it("tells of bad commands, once for those that came together, and of nothing that was said in them", function()
    local house = wired.new()
    local peer = house:session()
    peer:command("FOO secret", "MAIL FROM:bob", "RCPT TO:<x>")
    peer:command("MAIL FROM:<> FOO=BAR")
    local found = house:logged('"by":"command"')
    assert.equal(2, #found)
    assert.matches('"code":503,"reply":"Send MAIL first","bad_commands":3', found[1], 1, true)
    assert.matches('"code":555,"reply":"Parameter not recognized or not implemented","bad_commands":4', found[2], 1, true)
    assert.equal(0, #house:logged("secret"))
  end)

  it("does not write a line for each of ten thousand refusals", function()
    local house = wired.new({ limits = { errors = 0, refused_recipients = 0, messages = 0 } }, function(server)
      function server.on.helo() return 550, "5.7.1", "Not you" end
    end)
    local peer = house:connect()
    for _ = 1, 5000 do
      peer:command("NOPE")
      peer:command("EHLO client.example")
    end
    local count = #house:logged('"text":"refused"')
    assert.is_true(count > 40 and count < 50)
    assert.equal(1, #house:logged("refusals and faults of this session are only counted from here on"))
    peer:command("QUIT")
    assert.equal(1, #house:logged('"text":"session"', '"bad_commands":5000', '"why":"quit"'))
  end)

  it("does not write a traceback for each of ten thousand faults", function()
    local house = wired.new({ domains = { "example.org" } }, function(server)
      function server.on.rcpt() error("no database") end
    end)
    local peer = house:session()
    peer:command("MAIL FROM:<bob@example.net>")
    for _ = 1, 1000 do
      peer:command("RCPT TO:<alice@example.org>")
    end
    local count = #house:logged('"text":"hook failed"')
    assert.is_true(count > 40 and count < 50)
    peer:command("QUIT")
    assert.equal(1, #house:logged('"text":"session"', '"recipients_refused":1000'))
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
