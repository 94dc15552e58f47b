-- A server that runs out of descriptors: those who cannot be accepted wait, and the log says why.
local raw = require "spec.support.raw"
local served = require "spec.support.served"

describe("moonpost serve without descriptors", function()
  it("says so, once, and goes on when there are some again", function()
    local house <close> = served.start { wrap = { "prlimit", "--nofile=48:48" } }
    local peers = {}
    for i = 1, 60 do
      peers[i] = raw.connect(house.port.smtp)
    end
    local line = house:expect "(.*connections are not accepted: out of descriptors or memory.*)"
    assert.matches("error", line)
    assert.matches("listener=smtp$", line)
    for _, peer in ipairs(peers) do
      peer.sock:close()
    end
    local peer <close> = raw.session(house.port.smtp)
    assert.matches("^250-", peer.ehlo)
    peer:command("MAIL FROM:<a@example.net>")
    peer:command("RCPT TO:<bob@example.org>")
    peer:command("DATA")
    assert.matches("^250 ", peer:command("Subject: on", "", "It goes on.", "."))
    assert.equal(1, house:count "connections are not accepted")
  end)
end)

-- Modules that cannot be opened are "not found" to Lua.
describe("a reload without descriptors", function()
  it("is refused for that reason, and not for modules that are there", function()
    local house <close> = served.start { wrap = { "prlimit", "--nofile=64:64" } }
    local peers = {}
    for i = 1, 80 do
      peers[i] = raw.connect(house.port.smtp)
    end
    house:expect "connections are not accepted"
    house.process:kill "sighup"
    house:expect 'policy not loaded.* why="[^"]*policy.lua: no descriptors are left to load it: Too many open files"'
    for _, peer in ipairs(peers) do
      peer.sock:close()
    end
    raw.session(house.port.smtp):leave() -- those before it have been seen to leave
    house.process:kill "sighup"
    house:expect "policy loaded"
  end)
end)

-- Sessions that were let in while there were descriptors, and then none is left.
describe("sessions of a server without descriptors", function()
  local function starve(house)
    local waiting = setmetatable({}, { __close = function(list)
      for _, peer in ipairs(list) do
        peer:leave()
      end
    end })
    for i = 1, 100 do
      waiting[i] = raw.connect(house.port.smtp)
    end
    house:expect "connections are not accepted"
    return waiting
  end

  local function start(hooks, args)
    return served.start { wrap = { "prlimit", "--nofile=64:64" }, hooks = hooks, args = args }
  end

  local HEAD = "Subject: x\r\n\r\n"
  local BIG = HEAD .. (("x"):rep(98) .. "\r\n"):rep(5000)

  for name, case in pairs {
    ["that needs a file while it comes"] = { body = BIG },
    ["for a mailbox"] = { body = HEAD },
    ["for a file"] = { body = HEAD, plan = 'file = dir .. "/mail/mbox", mbox = true' },
    ["for a program"] = { body = HEAD, plan = 'pipe = { "/bin/sh", "-c", [[cat >>"$0/piped"]], dir }' },
  } do
    it("have a message " .. name .. " deferred or delivered, and not in part", function()
      local house <close> = start(case.plan and ([[
        function server.on.message(_, message)
          message:deliver { %s }
        end
      ]]):format(case.plan))
      house.dir:mkdir "mail"
      local peer <close> = raw.session(house.port.smtp)
      local function send()
        peer:envelope("a@example.net", "bob@example.org")
        peer:send(case.body .. ".\r\n")
        return peer:read()
      end
      local taken
      do
        local _ <close> = starve(house)
        local reply = send()
        assert.matches("^[24]5[012] [24]%.", reply)
        taken = reply:find "^2" and 1 or 0
        assert.equal(taken, house:count "message accepted")
        if taken == 0 then
          assert.same({}, house:mail "bob")
          assert.same({}, house.dir:list "mail/bob/tmp")
          assert.is_nil(require("luv").fs_stat(house.dir:join "piped"))
        end
        assert.matches("^250 ", peer:command "NOOP")
      end
      -- those who waited have left, but are still to be let in and out
      local other <close> = raw.session(house.port.smtp)
      assert.matches("^250 ", other:command "NOOP")
      assert.matches("^250 ", send())
      assert.equal(taken + 1, house:count "message accepted")
    end)
  end

  it("go on when the policy cannot be loaded anew, and it can be later", function()
    local house <close> = start(nil, { "--grace=20s" })
    local peer <close> = raw.session(house.port.smtp)
    do
      local _ <close> = starve(house)
      house.process:kill "sighup"
      house:expect "policy .*loaded"
      assert.matches("^250 ", peer:command "NOOP")
    end
    local other <close> = raw.session(house.port.smtp)
    assert.matches("^250 ", other:command "NOOP")
    house.process:kill "sighup"
    house:expect "policy loaded"
    peer:envelope("a@example.net", "bob@example.org")
    assert.matches("^250 ", peer:command(HEAD .. "."))
    local last <close> = raw.session(house.port.smtp)
    assert.matches("^250 ", last:command "NOOP")
  end)

  it("are told 421 at the end of the server, which ends well", function()
    local house <close> = start(nil, { "--grace=20s" })
    local peer <close> = raw.session(house.port.smtp)
    local _ <close> = starve(house)
    house.process:kill()
    assert.matches("^421 4.3.2 ", (peer:rest()))
    assert.equal(0, (house.process:wait(10)))
  end)
end)
