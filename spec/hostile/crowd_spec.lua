local peers = require "spec.support.peers"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local served = require "spec.support.served"

describe("connections over the limit", function()
  local HOOKS = [[
    local count = 0
    function server.on.connect() count = count + 1 log.info("connect", { count = count }) end
    function server.on.disconnect() log.info "gone" end
  ]]

  it("of one address are told 421 without a call of Lua, and there is room when one has left", function()
    local house <close> = served.start { options = "limits = { connections_per_address = 3 }", hooks = HOOKS }
    local open = {}
    for i = 1, 3 do
      open[i] = raw.session(house.port.smtp)
    end
    for _ = 1, 5 do
      local peer <close> = raw.connect(house.port.smtp)
      assert.matches("^421 4.7.0 [^\n]*\n$", (peer:rest()))
    end
    local elsewhere <close> = raw.session(house.port.smtp, { from = "127.0.0.2" })
    assert.matches("^220 ", elsewhere.banner)
    open[1]:command("QUIT")
    open[1]:leave()
    house:expect(" gone$")
    local again <close> = raw.session(house.port.smtp)
    assert.matches("^220 ", again.banner)
    assert.equal(5, house:count("connect count="))
    open[2]:leave(true) -- nor does a reset keep a place
    house:expect(" gone$")
    local third <close> = raw.session(house.port.smtp)
    assert.matches("^220 ", third.banner)
    local fourth <close> = raw.connect(house.port.smtp)
    assert.matches("^421 4.7.0 ", (fourth:rest()))
    assert.matches("^221 ", open[3]:command("QUIT"))
    open[3]:leave()
  end)

  it("in all are told 421 without a call of Lua", function()
    local house <close> = served.start { options = "limits = { connections = 4 }", hooks = HOOKS }
    local open = {}
    for i = 1, 4 do
      open[i] = raw.session(house.port.smtp, { from = "127.0.0." .. i + 1 })
    end
    for i = 1, 3 do
      local peer <close> = raw.connect(house.port.smtp, { from = "127.0.1." .. i })
      assert.matches("^421 4.7.0 [^\n]*\n$", (peer:rest()))
    end
    assert.equal(4, house:count("connect count="))
    for _, peer in ipairs(open) do
      assert.matches("^221 ", peer:command("QUIT"))
      peer:leave()
    end
  end)

  it("count the address that a PROXY header names, not the proxy's", function()
    local house <close> = served.start {
      options = 'limits = { connections_per_address = 2 }, proxy = { "127.0.0.1" }', hooks = HOOKS,
    }
    local open = {}
    local function connect(ip)
      local peer = raw.connect(house.port.smtp)
      peer:send(("PROXY TCP4 %s 192.0.2.1 4444 25\r\n"):format(ip))
      open[#open + 1] = peer
      return peer:read()
    end
    for _, ip in ipairs { "203.0.113.1", "203.0.113.1", "203.0.113.2", "203.0.113.2", "203.0.113.3" } do
      assert.matches("^220 ", connect(ip))
    end
    assert.matches("^421 4.7.0 ", connect("203.0.113.1"))
    assert.matches("^421 4.7.0 ", connect("203.0.113.2"))
    assert.equal(5, house:count("connect count="))
    for _, peer in ipairs(open) do
      peer:leave()
    end
  end)
end)

describe("a crowd of idle connections", function()
  -- each side holds one descriptor for each; both raise their own limit as far as they may
  local hard = process.run({ "sh", "-c", "ulimit -Hn" }).out:match("%d+")
  local most = process.scale == 1 and 10000 or 4000
  local count = hard and math.min(most, math.tointeger(tonumber(hard)) - 200) or most

  it(("leaves a real client served, with %d of them"):format(count), function()
    if not peers.python3 then
      pending("python3 is not installed")
      return
    end
    assert.is_true(count >= 1000, "the hard limit of descriptors is too low for this spec")
    local house <close> = served.start {
      options = "limits = { connections = 20000 }",
      -- a log that nobody reads while they all leave would hold the server up
      hooks = "server.on.start = function() log.configure { level = 'warn' } end",
    }
    local before = house:memory()
    local idle <close> = process.start {
      peers.python3, "spec/hostile/clients/idle.py", tostring(house.port.smtp), tostring(count),
    }
    assert.equal(tostring(count), (idle:expect("^idle (%d+)$", 60)))
    local each = (house:memory() - before) * 1024 / count
    for _ = 1, 3 do
      local peer <close> = raw.session(house.port.smtp)
      peer:envelope("a@example.net", "bob@example.org")
      assert.matches("^250 ", peer:command("Subject: x", "", "."))
      assert.matches("^221 ", peer:command("QUIT"))
    end
    assert.equal(3, #house:mail("bob"))
    assert.is_true(each < (process.scale == 1 and 4096 or 65536), ("%g octets each"):format(each))
    idle:finish() -- they all leave at once
    assert.equal(0, (idle:wait(60)))
    local peer <close> = raw.session(house.port.smtp)
    assert.matches("^221 ", peer:command("QUIT"))
  end)
end)

describe("a server that runs out of descriptors", function()
  it("serves those it has, does not spin, and serves others when some have left", function()
    local house <close> = served.start { wrap = { "prlimit", "--nofile=64:64" } }
    local open = {}
    for i = 1, 100 do -- more than there can be; the rest wait in the kernel's queue
      open[i] = raw.connect(house.port.smtp)
    end
    assert.matches("^220 ", open[1]:read())
    local function cpu()
      local file <close> = assert(io.open(("/proc/%d/stat"):format(house.process.pid)))
      local user, system = file:read("a"):match("^.*%) %S+" .. (" %S+"):rep(10) .. " (%d+) (%d+)")
      return tonumber(user) + tonumber(system) -- hundredths of a second
    end
    local begin = cpu()
    -- a second passes for those that are in, while others knock: that nothing spins shows only in time
    local stop = require("socket").gettime() + 1
    local rounds = 0
    repeat
      assert.matches("^250 ", open[1]:command("RSET"))
      assert.matches("^250 ", open[1]:command("HELO client.example.net"))
      rounds = rounds + 1
      require("socket").sleep(0.02)
    until require("socket").gettime() > stop
    assert.is_true(cpu() - begin < 50 * process.scale, ("%d hundredths of a second in %d rounds"):format(cpu() - begin, rounds))
    for i = 2, 60 do
      open[i]:leave()
    end
    assert.matches("^220 ", open[100]:read())
    for i = 61, 100 do
      open[i]:leave()
    end
    open[1]:leave()
  end)

  it("still delivers, or says that it cannot for now", function()
    local house <close> = served.start { wrap = { "prlimit", "--nofile=64:64" } }
    local first <close> = raw.session(house.port.smtp)
    first:envelope("a@example.net", "bob@example.org")
    local open = {}
    for i = 1, 100 do
      open[i] = raw.connect(house.port.smtp)
    end
    local reply = first:command("Subject: x", "", ("x"):rep(70), ".")
    if reply:find("^250 ") then
      assert.equal(1, #house:mail("bob"))
    else
      assert.matches("^45[12] 4", reply)
      assert.same({}, house:mail("bob"))
    end
    for _, peer in ipairs(open) do
      peer:leave()
    end
    first:envelope("a@example.net", "carol@example.org")
    assert.matches("^250 ", first:command("Subject: y", "", "."))
    assert.equal(1, #house:mail("carol"))
  end)
end)
