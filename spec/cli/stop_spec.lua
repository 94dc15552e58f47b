local peers = require "spec.support.peers"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local served = require "spec.support.served"
local uv = require "luv"

-- Until nobody new is let in; one that was in the queue is hung up on.
local function refused(port)
  local deadline = os.time() + 10
  while pcall(raw.connect, port) do
    assert(os.time() < deadline, "connections are still taken")
  end
end

describe("moonpost serve: the end", function()
  for _, signal in ipairs { "sigterm", "sigint" } do
    it("tells idle peers 421 and lets a busy one finish, on " .. signal:upper(), function()
      local house <close> = served.start { args = { "--grace=20s" } }
      local idle <close> = raw.session(house.port.smtp)
      local busy <close> = raw.session(house.port.smtp)
      busy:envelope("a@example.net", "ann@example.org")
      busy:send("Subject: late\r\n\r\n")
      house.process:kill(signal)
      local rest, how = idle:rest()
      assert.matches("^421 4%.%d%.%d [^\n]+\n$", rest)
      assert.equal("closed", how)
      refused(house.port.smtp)
      busy:send("Late.\r\n.\r\n")
      assert.matches("^250 ", busy:read())
      assert.matches("^421 ", (busy:rest()))
      assert.equal(0, house.process:wait())
      assert.matches("Late%.", house:take("ann"))
    end)
  end

  it("cuts busy peers when the grace period is over, and accepts nothing of theirs", function()
    local house <close> = served.start { args = { "--grace=100ms" } }
    local busy <close> = raw.session(house.port.smtp)
    busy:envelope("a@example.net", "ann@example.org")
    busy:send("Subject: never\r\n")
    house.process:kill("sigterm")
    busy:rest()
    assert.equal(0, house.process:wait())
    assert.same({}, house:mail("ann"))
  end)

  it("ends at once on the second signal", function()
    local house <close> = served.start { args = { "--grace=1h" } }
    local busy <close> = raw.session(house.port.smtp)
    busy:envelope("a@example.net", "ann@example.org")
    house.process:kill("sigterm")
    house:expect("stopping grace=1h")
    house.process:kill("sigterm")
    house:expect("stopping at once")
    busy:rest()
    assert.equal(0, house.process:wait())
  end)

  it("is a good one when somebody asks for it who did not see that it had come", function()
    for _ = 1, 5 do
      local house <close> = served.start {}
      house.process:kill("sigterm")
      house:expect("stopped")
      while not house.process.code do
        house.process:kill("sigterm")
        uv.run("nowait")
      end
      assert.same({ 0, 0 }, { house.process:wait() })
    end
  end)

  it("runs the retire hook, and takes its grace from the policy when the command line has none", function()
    local dir <close> = require("spec.support.tmpdir").new()
    local path = dir:write("policy.lua", [[
      local moonpost = require "moonpost"
      local server = moonpost.server { listen = { "smtp://127.0.0.1:0" }, grace = "7s" }
      function server.on.retire() moonpost.log.info "retired" end
      return server]])
    local p <close> = process.start { process.moonpost, "serve", path }
    p:expect("listening on")
    p:kill()
    p:expect("stopping grace=7s")
    p:expect("retired")
    assert.equal(0, p:wait())
  end)

  -- Loads once or twice, then never to an end.
  local function endless(times)
    return ([[
      local moonpost = require "moonpost"
      local here = ...
      local count = 0
      for i = 1, %d do
        local file = io.open(here .. i)
        if not file then
          io.open(here .. i, "w"):close()
          return moonpost.server { listen = { "smtp://127.0.0.1:0" } }
        end
        file:close()
      end
      io.stderr:write("endless\n")
      while true do pcall(function() while true do end end) end]]):format(times)
  end

  local function seconds_until(fn)
    local begin = uv.hrtime()
    fn()
    return (uv.hrtime() - begin) / 1e9
  end

  for _, signal in ipairs { "sigterm", "sigint" } do
    for what, times in pairs { ["checked at the start"] = 0, ["loaded in a worker at the start"] = 1 } do
      it(("does not wait for a policy without end that is %s, on %s"):format(what, signal:upper()), function()
        local dir <close> = require("spec.support.tmpdir").new()
        local p <close> = process.start { process.moonpost, "serve", dir:write("policy.lua", endless(times)) }
        p:expect("endless")
        local took = seconds_until(function()
          p:kill(signal)
          assert.equal(0, p:wait())
        end)
        assert.is_true(took < process.scale, took .. " s")
      end)
    end
  end

  for what, times in pairs { checked = 2, ["loaded in a worker"] = 3 } do
    it(("does not wait for a policy without end that is %s on SIGHUP"):format(what), function()
      local dir <close> = require("spec.support.tmpdir").new()
      local p <close> = process.start { process.moonpost, "serve", dir:write("policy.lua", endless(times)) }
      p:expect("listening on")
      p:kill("sighup")
      p:expect("endless")
      local took = seconds_until(function()
        p:kill("sigterm")
        assert.equal(0, p:wait())
      end)
      assert.is_true(took < process.scale, took .. " s")
    end)
  end

  it("does not wait for a worker inside a call that cannot be interrupted longer than it says", function()
    local house = served.start {
      args = { "--grace=0s" },
      options = 'limits = { cpu_time = "100ms" }',
      hooks = [[
        function server.on.rcpt()
          log.info "deaf"
          return (("a"):rep(60)):find(("a-"):rep(30) .. "b")
        end]],
    }
    local peer <close> = raw.session(house.port.smtp)
    peer:command("MAIL FROM:<>")
    peer:lines("RCPT TO:<a@example.org>")
    house:expect("deaf")
    house:expect('a call in Lua does not return[^\n]* worker=1 seconds=[%d.]+ hook=rcpt')
    house.process:kill("sigterm")
    house:expect("a worker does not end", 20)
    assert.equal(1, house.process:wait())
    house:close()
  end)

  it("loses nothing under load: what was accepted has been delivered, and every dot is answered #thread", function()
    local house <close> = served.start { args = { "--workers", "2", "--grace", "20s" }, listen = { "smtp://127.0.0.1:0", "lmtp://unix:DIR/socket" } }
    local load <close> = process.start {
      peers.python3, "spec/support/knock.py", "--to-the-end", "12", tostring(house.port.smtp), house.dir:join("socket"),
    }
    load:expect("^knocking$")
    repeat
      house:expect("message accepted")
    until house:count("message accepted") > 100
    house:stop(30)
    local accepted = load:expect("^%d+ sessions, (%d+) accepted$", 30)
    assert.equal(0, load:wait())
    assert.equal(tonumber(accepted), #house:mail("ann"))
  end)
end)
