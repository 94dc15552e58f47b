-- moonpost.pool against servers that follow a script, on a clock that jumps.
local moonpost = require "moonpost"
local test = require "moonpost.test"

local VIA = "smtp://relay.example.org"

local function run(relay, fn)
  return test.run(fn, { servers = { ["relay.example.org"] = relay } })
end

local function mail(i)
  return { from = "me@example.org", to = ("u%d@example.net"):format(i or 1), text = "x" }
end

describe("moonpost.pool", function()
  it("keeps a connection for the next message", function()
    local relay = test.server()
    run(relay, function()
      local pool <close> = moonpost.pool { via = VIA }
      for i = 1, 5 do
        assert(pool:send(mail(i)))
      end
    end)
    assert.equal(1, relay.sessions)
    assert.equal(5, #relay.messages)
    assert.equal("QUIT", relay.commands[#relay.commands])
  end)

  it("opens as many as it may and no more, and serves who waits in order", function()
    local relay, done = test.server { body = { { "250 ok", after = "10s" } } }, {}
    local asked = {}
    local seconds = run(relay, function(world)
      local pool <close> = moonpost.pool { via = VIA, connections = 3 }
      local before, tasks = world:now(), {}
      for i = 1, 9 do
        tasks[i] = moonpost.spawn(function()
          asked[#asked + 1] = i
          assert(pool:send(mail(i)))
          done[#done + 1] = i
        end)
      end
      for _, one in ipairs(tasks) do
        one:join()
      end
      return world:now() - before
    end)
    assert.equal(3, relay.sessions)
    assert.equal(30, math.floor(seconds + 0.5))
    for at = 1, 9, 3 do -- three at a time end at one moment, in any order
      local ended, began = table.move(done, at, at + 2, 1, {}), table.move(asked, at, at + 2, 1, {})
      table.sort(ended)
      table.sort(began)
      assert.same(began, ended)
    end
  end)

  it("closes one that has carried its messages", function()
    local relay = test.server()
    run(relay, function()
      local pool <close> = moonpost.pool { via = VIA, per_connection = 2 }
      for i = 1, 5 do
        assert(pool:send(mail(i)))
      end
    end)
    assert.equal(3, relay.sessions)
  end)

  it("closes one that nobody has used for long", function()
    local relay = test.server()
    run(relay, function()
      local pool <close> = moonpost.pool { via = VIA, idle = "20s" }
      assert(pool:send(mail()))
      moonpost.sleep(15)
      assert(pool:send(mail()))
      assert.equal(1, relay.sessions)
      moonpost.sleep(25)
      assert.equal("QUIT", relay.commands[#relay.commands])
      assert(pool:send(mail()))
    end)
    assert.equal(2, relay.sessions)
  end)

  it("replaces one that the peer has closed meanwhile, and nobody hears of it", function()
    for _, fault in ipairs { { close = true }, { "421 4.3.2 Bye", close = true } } do
      local relay = test.server { mail = { "250 ok", fault, "250 ok" } }
      run(relay, function()
        local pool <close> = moonpost.pool { via = VIA }
        assert(pool:send(mail(1)))
        assert(pool:send(mail(2)))
      end)
      assert.equal(2, relay.sessions)
      assert.equal(2, #relay.messages)
    end
  end)

  it("does not try again with what a fresh connection did", function()
    local relay = test.server { mail = { close = true } }
    local err = run(relay, function()
      local pool <close> = moonpost.pool { via = VIA }
      return select(2, pool:send(mail()))
    end)
    assert.equal("deferred", err.kind)
    assert.equal(1, relay.sessions)
  end)

  it("gives up a place that could not be opened", function()
    local relay = test.server { banner = { "554 no", "554 no", "220 yes" } }
    run(relay, function()
      local pool <close> = moonpost.pool { via = VIA, connections = 1 }
      assert.is_nil((pool:send(mail())))
      assert.is_nil((pool:send(mail())))
      assert(pool:send(mail()))
    end)
    assert.equal(3, relay.sessions)
  end)

  it("takes what is posted, tells each outcome, and is drained", function()
    local relay = test.server { rcpt = {
      "250 ok", "550 5.1.1 no", "250 ok",
    } }
    local good, bad = 0, 0
    run(relay, function()
      local pool <close> = moonpost.pool { via = VIA, connections = 2 }
      for i = 1, 50 do
        pool:post(mail(i), function(result)
          good, bad = good + (result and 1 or 0), bad + (result and 0 or 1)
        end)
      end
      pool:drain()
      assert.equal(50, good + bad)
    end)
    assert.equal(1, bad)
    assert.equal(49, good)
    assert.equal(49, #relay.messages)
  end)

  it("goes on when what it tells an outcome to raises", function()
    local relay, told = test.server(), 0
    run(relay, function(world)
      local pool <close> = moonpost.pool { via = VIA, connections = 1 }
      for i = 1, 5 do
        pool:post(mail(i), function()
          told = told + 1
          error("no use", 0)
        end)
      end
      pool:drain()
      moonpost.sleep(1)
      assert.equal(5, #world:logged("task failed"))
    end)
    assert.equal(5, told)
    assert.equal(5, #relay.messages)
  end)

  it("lets who posts wait while its queue is full", function()
    local relay = test.server { body = { { "250 ok", after = "1s" } } }
    run(relay, function(world)
      local pool <close> = moonpost.pool { via = VIA, connections = 1, backlog = 3 }
      local before = world:now()
      for i = 1, 20 do
        pool:post(mail(i))
      end
      assert.is_true(world:now() - before >= 10)
      pool:drain()
    end)
    assert.equal(20, #relay.messages)
  end)

  it("keeps destinations apart", function()
    local one, two = test.server(), test.server()
    test.run(function()
      local pool <close> = moonpost.pool { connections = 1 }
      for _ = 1, 3 do
        assert(pool:send { from = "me@example.org", to = { "a@one.example", "b@two.example" }, text = "x" })
      end
    end, { servers = { ["one.example"] = one, ["two.example"] = two } })
    assert.same({ 1, 3, 1, 3 }, { one.sessions, #one.messages, two.sessions, #two.messages })
  end)

  it("gives the place of a task that was cancelled to the next", function()
    local relay = test.server { body = { { silent = true }, "250 ok" } }
    run(relay, function()
      local pool <close> = moonpost.pool { via = VIA, connections = 1 }
      local result, err = moonpost.timeout(5, pool.send, pool, mail(1))
      assert.is_nil(result)
      assert.equal("timeout", err.kind)
      assert(pool:send(mail(2)))
    end)
    assert.equal(2, relay.sessions)
  end)

  it("sends nothing when it is closed", function()
    local relay = test.server()
    run(relay, function()
      local pool = moonpost.pool { via = VIA }
      pool:close()
      pool:close()
      local result, err = pool:send(mail())
      assert.is_nil(result)
      assert.equal("deferred", err.kind)
    end)
    assert.equal(0, relay.sessions)
  end)

  it("says at the script's line what is wrong", function()
    for text, options in pairs {
      ['unknown option "conections" (did you mean "connections"?)'] = { conections = 5 }, ["connections: at least 1"] = { connections = 0 },
      ["messages are given to pool:send"] = { from = "a@example.org" },
    } do
      local ok, err = pcall(function()
        local pool = moonpost.pool(options)
        return pool
      end)
      assert.is_false(ok)
      assert.truthy(tostring(err):find(text, 1, true), err)
      assert.matches("pool_spec.lua:%d+: moonpost.pool: ", err)
    end
  end)
end)
