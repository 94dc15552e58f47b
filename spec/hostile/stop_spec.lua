local process = require "spec.support.process"
local raw = require "spec.support.raw"
local served = require "spec.support.served"

local HOOKS = [[
  function server.on.disconnect(_, why) log.info("gone", { why = why }) end
  function server.on.rcpt(_, recipient)
    if recipient.localpart == "wait" then
      log.info "waiting"
      moonpost.sleep(60)
    end
  end
  function server.on.retire() log.info "retired" end
]]

describe("SIGTERM", function()
  for _, name in ipairs { "sigterm", "sigint" } do
    it("tells idle sessions 421 and ends, by " .. name, function()
      local house <close> = served.start { hooks = HOOKS, args = { "--grace", "30s" } }
      local idle = {}
      for i = 1, 20 do
        idle[i] = raw.session(house.port.smtp)
      end
      local between <close> = raw.session(house.port.smtp)
      between:envelope("a@example.net", "bob@example.org")
      assert.matches("^250 ", between:command("Subject: x", "", "."))
      local greeted <close> = raw.connect(house.port.smtp)
      greeted:read()
      idle[21], idle[22] = between, greeted
      house.process:kill(name)
      for _, peer in ipairs(idle) do
        assert.matches("^421 4?%.?3?%.?2? ?mx.example.org [^\n]*\n$", (peer:rest()))
        peer:leave()
      end
      assert.equal(0, (house.process:wait(5)))
      assert.equal(1, house:count "retired")
    end)
  end

  it("lets a busy session finish its message, and takes no new connections", function()
    local house <close> = served.start { hooks = HOOKS, args = { "--grace", "30s" } }
    local peer <close> = raw.session(house.port.smtp)
    peer:envelope("a@example.net", "bob@example.org")
    peer:send("Subject: half\r\n")
    local idle <close> = raw.session(house.port.smtp)
    house.process:kill()
    assert.matches("^421 ", (idle:rest())) -- now it is known to have heard
    idle:leave()
    assert.is_false((pcall(raw.session, house.port.smtp)))
    peer:send("\r\nother half\r\n.\r\n")
    assert.matches("^250 2.0.0 ", peer:read())
    assert.matches("^421 ", (peer:rest()))
    peer:leave()
    assert.equal(0, (house.process:wait(5)))
    assert.equal("Subject: half\n\nother half\n", (served.strip(house:take("bob"))))
  end)

  it("cuts a busy session when the grace is over, and nothing of its message is left", function()
    local house <close> = served.start { hooks = HOOKS, args = { "--grace", "300ms" } }
    local peer <close> = raw.session(house.port.smtp)
    peer:envelope("a@example.net", "bob@example.org")
    peer:send("Subject: half\r\n")
    local waits <close> = raw.session(house.port.smtp)
    waits:command("MAIL FROM:<a@example.net>")
    waits:lines("RCPT TO:<wait@example.org>")
    house:expect("waiting")
    house.process:kill()
    peer:rest()
    waits:rest()
    assert.equal(0, (house.process:wait(5)))
    assert.equal(2, house:count("gone why="))
    assert.same({}, house.dir:list("mail"))
  end)

  it("twice ends busy sessions at once", function()
    local house <close> = served.start { hooks = HOOKS, args = { "--grace", "1h" } }
    local peer <close> = raw.session(house.port.smtp)
    peer:envelope("a@example.net", "bob@example.org")
    house.process:kill()
    house:expect("stopping grace")
    house.process:kill()
    peer:rest()
    assert.equal(0, (house.process:wait(5)))
  end)

  it("lets a delivery that runs finish before it ends", function()
    local house <close> = served.start {
      args = { "--grace", "20s" },
      hooks = [[
        function server.on.message(_, message)
          message:deliver { pipe = { "/bin/sh", "-c",
            'echo begun >"$0/begun"; until [ -e "$0/go" ]; do sleep 0.01; done; cat >"$0/mail"', dir } }
          log.info "planned"
        end
      ]],
    }
    local peer = raw.session(house.port.smtp)
    peer:envelope("a@example.net", "bob@example.org")
    peer:lines("Subject: piped", "", ".")
    house:expect("planned")
    house.process:kill()
    house:expect("stopping grace")
    house.dir:write("go", "")
    assert.matches("^250 2.0.0 ", peer:read())
    peer:leave()
    assert.equal(0, (house.process:wait(10)))
    assert.matches("Subject: piped", house.dir:read("mail"))
  end)

  -- It kept its worker, and the process was left with status 1 some seconds later while the program ran on.
  it("kills a program that outlives the grace with its children, says so, and ends well", function()
    local house <close> = served.start {
      args = { "--grace", "200ms" },
      hooks = [[
        function server.on.message(_, message)
          message:deliver { pipe = { "/bin/sh", "-c", 'sleep 1000 & echo $! >"$0/child.new"; mv "$0/child.new" "$0/child"; wait', dir } }
        end
      ]],
    }
    local peer <close> = raw.session(house.port.smtp)
    peer:envelope("a@example.net", "bob@example.org")
    peer:lines("Subject: piped", "", ".")
    local deadline = os.time() + 10
    while not io.open(house.dir:join("child")) do
      assert(os.time() < deadline, "the program does not begin")
      house.process:poll()
    end
    house.process:kill()
    house:expect("delivery failed .*/bin/sh was ended, for the server stops")
    peer:rest()
    assert.equal(0, (house.process:wait(4)))
    local child = house.dir:read("child"):match("%d+")
    local status = io.open("/proc/" .. child .. "/stat")
    assert.is_true(not status or status:read("a"):match("%) (%a)") == "Z") -- gone, or nobody's to reap
    if status then
      status:close()
    end
  end)

  it("cancels a message hook that waits longer than the grace, delivers nothing, and ends well", function()
    local house <close> = served.start {
      args = { "--grace", "200ms" },
      hooks = [[
        function server.on.message(_, message)
          message:deliver { maildir = dir .. "/mail/%{mailbox}" }
          log.info "asked"
          moonpost.sleep(1000)
        end
      ]],
    }
    local peer <close> = raw.session(house.port.smtp)
    peer:envelope("a@example.net", "bob@example.org")
    peer:lines("Subject: held", "", ".")
    house:expect("asked")
    house.process:kill()
    house:expect("hook failed hook=message")
    peer:rest()
    assert.equal(0, (house.process:wait(4)))
    assert.same({}, house:mail("bob"))
  end)

  it("frees the port for the next server at once", function()
    local dir
    local port
    do
      local house <close> = served.start()
      port, dir = house.port.smtp, house.dir
      local peer <close> = raw.session(port)
      peer:command("QUIT")
    end
    assert.is_nil(dir.path)
    local again <close> = served.start { listen = { "smtp://127.0.0.1:" .. port } }
    assert.equal(port, again.port.smtp)
    local third = process.run { process.moonpost, "serve", again.dir:join("policy.lua") } -- the port is held now
    assert.equal(1, third.code)
    assert.matches("in use", third.err)
    assert.equal(1, select(2, third.err:gsub("\n", "")), third.err)
  end)
end)
