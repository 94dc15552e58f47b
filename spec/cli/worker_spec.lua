local raw = require "spec.support.raw"
local served = require "spec.support.served"

local function ask(where)
  local peer <close> = raw.session(where, { verb = type(where) == "string" and "LHLO" or "EHLO" })
  peer:command("MAIL FROM:<a@example.net>")
  return peer:command("RCPT TO:<ann@example.org>")
end

-- Asks until each of `count` workers has answered; the kernel deals connections out as it likes.
local function ask_all(where, count)
  local seen, different, asked = {}, 0, 0
  repeat
    local reply = ask(where)
    local id = reply:match("^450 4%.7%.1 worker (%d)")
    assert(id, reply)
    asked = asked + 1
    if not seen[id] then
      seen[id], different = true, different + 1
    end
    assert(asked < 1000, "a worker serves nobody")
  until different == count
  return asked
end

local hooks = [[
local asked = moonpost.shared "asked"
function server.on.start()
  moonpost.once("spec", function() log.info("once", { by = moonpost.worker.id, of = moonpost.worker.count }) end)
end
function server.on.rcpt()
  return 450, "4.7.1", ("worker %d, %d"):format(moonpost.worker.id, asked:incr "rcpt")
end
]]

describe("moonpost serve --workers #thread", function()
  it("serves a port with each of them, and what is shared is shared", function()
    local house <close> = served.start { args = { "--workers", "2" }, hooks = hooks }
    local asked = ask_all(house.port.smtp, 2)
    assert.equal(asked + 1, tonumber(ask(house.port.smtp):match("(%d+)$")))
    house:stop()
    assert.equal(1, house:count("once by=%d of=2"))
  end)

  it("gives what a rate allows once in all, and lets one of them add", function()
    local house <close> = served.start { args = { "--workers", "3" }, hooks = [[
      local marks = moonpost.shared "marks"
      function server.on.rcpt()
        local allowed, added = marks:rate("everybody", "10/h"), marks:add("first", moonpost.worker.id, "1h")
        return 450, "4.7.1", ("worker %d, %s, %s"):format(moonpost.worker.id, allowed, added)
      end]] }
    local peers, workers, counts = {}, {}, { allowed = 0, added = 0 }
    for i = 1, 60 do
      peers[i] = raw.session(house.port.smtp)
      peers[i]:command("MAIL FROM:<a@example.net>")
    end
    for _, peer in ipairs(peers) do
      peer:lines("RCPT TO:<ann@example.org>")
    end
    for _, peer in ipairs(peers) do
      local id, allowed, added = peer:read():match("worker (%d), (%l+), (%l+)$")
      workers[id] = true
      counts.allowed = counts.allowed + (allowed == "true" and 1 or 0)
      counts.added = counts.added + (added == "true" and 1 or 0)
      peer:leave()
    end
    assert.same({ allowed = 10, added = 1 }, counts)
    assert.is_not_nil(next(workers, (next(workers)))) -- more than one has answered
  end)

  it("serves a unix socket with whoever is free", function()
    local house <close> = served.start {
      args = { "--workers", "2" }, hooks = hooks, listen = { "lmtp://unix:DIR/socket" },
    }
    for i = 1, 20 do
      assert.equal(i, tonumber(ask(house.dir:join("socket")):match("(%d+)$")))
    end
  end)

  it("keeps what is shared, and what was done once, across generations", function()
    local house <close> = served.start { args = { "--workers", "2" }, hooks = hooks }
    local asked = ask_all(house.port.smtp, 2)
    for _ = 1, 3 do
      house.process:kill("sighup")
      house:expect("policy loaded")
      asked = asked + ask_all(house.port.smtp, 2)
    end
    assert.equal(asked + 1, tonumber(ask(house.port.smtp):match("(%d+)$")))
    house:stop()
    assert.equal(1, house:count("once by=%d of=2"))
  end)

  it("delivers from all of them at a time, through reloads, and loses nothing that it accepted", function()
    local house <close> = served.start { args = { "--workers", "3" } }
    local accepted = 0
    for round = 1, 6 do
      local peers = {}
      for i = 1, 8 do
        peers[i] = raw.session(house.port.smtp)
        peers[i]:envelope("a@example.net", "ann@example.org")
      end
      if round % 2 == 0 then
        house.process:kill("sighup")
      end
      for i, peer in ipairs(peers) do
        peer:send(("Subject: %d.%d\r\n\r\n%s\r\n.\r\n"):format(round, i, ("x"):rep(900)))
      end
      for _, peer in ipairs(peers) do
        assert.matches("^250 ", peer:read())
        accepted = accepted + 1
        peer:leave()
      end
      if round % 2 == 0 then
        house:expect("policy loaded")
      end
    end
    house:stop()
    assert.equal(accepted, #house:mail("ann"))
  end)

  it("counts connections of all workers together", function()
    local house <close> = served.start {
      args = { "--workers", "2" }, options = [[ limits = { connections = 5 } ]],
    }
    local peers = {}
    for i = 1, 5 do
      peers[i] = raw.session(house.port.smtp)
    end
    local sixth <close> = raw.connect(house.port.smtp)
    assert.matches("^421 4%.7%.0 ", sixth:read())
    for _, peer in ipairs(peers) do
      peer:leave()
    end
  end)

  it("loads all anew when one of them stays over its memory limit", function()
    local house <close> = served.start {
      args = { "--workers", "2" }, options = [[ limits = { memory = "24MiB" } ]],
      hooks = [[
        local kept = {}
        function server.on.rcpt(_, recipient)
          while recipient.mailbox == "keep" do kept[#kept + 1] = ("x"):rep(1000) .. #kept end
          return 450, "4.7.1", "worker " .. moonpost.worker.id
        end]],
    }
    local peer <close> = raw.session(house.port.smtp)
    peer:command("MAIL FROM:<a@example.net>")
    assert.matches("^451 ", peer:command("RCPT TO:<keep@example.org>"))
    house:expect("over its memory limit")
    house:expect("policy loaded")
    ask_all(house.port.smtp, 2)
  end)
end)

-- Not under the thread sanitizer: it keeps signals until the thread calls into the C library, and this hook never does.
describe("moonpost serve --workers", function()
  it("interrupts the one whose hook loops, while the others serve", function()
    local house <close> = served.start {
      args = { "--workers", "2" }, options = [[ limits = { cpu_time = "1s" } ]],
      hooks = [[
        function server.on.rcpt(_, recipient)
          while recipient.mailbox == "loop" do end
          return 450, "4.7.1", "worker " .. moonpost.worker.id
        end]],
    }
    local peers = {} -- some of them on the other worker
    for i = 1, 20 do
      peers[i] = raw.session(house.port.smtp)
      peers[i]:command("MAIL FROM:<a@example.net>")
    end
    local stuck = peers[1]:command("RCPT TO:<ann@example.org>")
    peers[1]:lines("RCPT TO:<loop@example.org>")
    local served_meanwhile = 0
    for i = 2, 20 do
      peers[i]:lines("RCPT TO:<ann@example.org>")
    end
    for i = 2, 20 do
      local reply = peers[i]:read()
      assert.matches("^450 4%.7%.1 worker %d$", reply)
      if reply ~= stuck then
        served_meanwhile = served_meanwhile + 1
      end
    end
    assert.is_true(served_meanwhile > 0)
    assert.matches("^451 ", peers[1]:read())
    assert.equal(stuck, peers[1]:command("RCPT TO:<ann@example.org>"))
    for _, peer in ipairs(peers) do
      peer:leave()
    end
  end)
end)
