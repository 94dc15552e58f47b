local moonpost = require "moonpost"
local test = require "moonpost.test"

local function zone(domains)
  local names = {}
  for domain, host in pairs(domains) do
    names[domain] = { MX = { { 10, host } } }
  end
  return names
end

-- Runs `fn(queue, world)` in a world with these servers, by host name.
local function world(how, fn)
  local options = { spool = "/spool", hostname = "mx.example.org" }
  for name, value in pairs(how.queue or {}) do
    options[name] = value
  end
  return test.run(function(here)
    local queue = moonpost.queue(options)
    queue._here = here
    return fn(queue, here)
  end, { dns = how.dns, servers = how.servers, now = how.now or 1790000000 })
end

-- Everything that a hook of the queue is told, in order.
local function events(queue)
  local list = {}
  for _, name in ipairs { "delivered", "relayed", "deferred", "bounced", "expired" } do
    queue.on[name] = function(record)
      list[#list + 1] = record
    end
  end
  return list
end

local function mail(to, more)
  local out = { from = "a@example.org", to = to, subject = "Hi", text = "Hello." }
  for name, value in pairs(more or {}) do
    out[name] = value
  end
  return out
end

-- Until `count` events have been told, or the time is over.
local function until_told(list, count, seconds)
  for _ = 1, seconds or 100 do
    if #list >= count then
      return list
    end
    moonpost.sleep(1)
  end
  return list
end

describe("moonpost.queue", function()
  it("delivers a message by MX, and forgets it", function()
    local server = test.server {}
    world({ dns = zone { ["example.net"] = "mx.example.net" }, servers = { ["mx.example.net"] = server } }, function(queue)
      local told = events(queue)
      local id = assert(queue:send(mail "bob@example.net"))
      until_told(told, 1)
      assert.equal("delivered", told[1].event)
      assert.equal(id, told[1].message)
      assert.equal("mx.example.net", told[1].host)
      assert.equal(250, told[1].reply.code)
      assert.equal(1, #server.messages)
      assert.same({}, queue._engine.store:page({}, nil, nil, 10))
      queue:stop()
    end)
  end)

  it("tries again after 4xx, as the schedule says, and gives a bounce when it is over", function()
    local server = test.server { rcpt = "450 4.2.0 later" }
    local back = test.server {}
    world({
      dns = zone { ["example.net"] = "mx.example.net", ["example.org"] = "mx.example.org" },
      servers = { ["mx.example.net"] = server, ["mx.example.org"] = back },
      queue = { retry = { "10m", "1h", expire = "3h", jitter = 0, warn = false }, hostname = "out.example.org" },
    }, function(queue)
      local told = events(queue)
      local began = queue._here._worker:time()
      assert(queue:send(mail "bob@example.net"))
      until_told(told, 6, 5 * 3600)
      local at = {}
      for i, one in ipairs(told) do
        at[i] = ("%s %d"):format(one.event, math.floor((one.time - began) / 60))
      end
      assert.same({ "deferred 0", "deferred 10", "deferred 70", "deferred 130", "expired 180", "delivered 180" }, at)
      assert.equal(1, #back.messages)
      local bounce = back.messages[1]
      assert.same({ "", { "a@example.org" } }, { bounce.sender, bounce.recipients })
      assert.matches("Action: failed\r\nStatus: 4.4.7\r\n", bounce.octets)
      assert.matches("Final%-Recipient: rfc822; bob@example.net", bounce.octets)
      assert.matches("450 4.2.0 later", bounce.octets)
      queue:stop()
    end)
  end)

  it("bounces after 5xx at once, for those alone that were refused", function()
    local server = test.server { rcpt = function(argument)
      return argument:find("nobody", 1, true) and "550 5.1.1 No such user" or "250 2.1.5 Ok"
    end }
    local back = test.server {}
    world({
      dns = zone { ["example.net"] = "mx.example.net", ["example.org"] = "mx.example.org" },
      servers = { ["mx.example.net"] = server, ["mx.example.org"] = back },
    }, function(queue)
      local told = events(queue)
      assert(queue:send(mail { "nobody@example.net", "bob@example.net" }))
      until_told(told, 3)
      local of = {}
      for _, one in ipairs(told) do
        of[one.recipient] = one.event
      end
      assert.same({ ["nobody@example.net"] = "bounced", ["bob@example.net"] = "delivered", ["a@example.org"] = "delivered" }, of)
      assert.same({ "bob@example.net" }, server.messages[1].recipients)
      assert.equal(1, #server.messages)
      assert.matches("nobody@example.net", back.messages[1].octets)
      assert.not_matches("bob@example.net", back.messages[1].octets:match("message/delivery%-status.-\r\n%-%-"))
      queue:stop()
    end)
  end)

  it("never returns what has no sender", function()
    local server = test.server { mail = "550 5.7.1 no" }
    world({ dns = zone { ["example.net"] = "mx.example.net" }, servers = { ["mx.example.net"] = server } }, function(queue)
      local told = events(queue)
      assert(queue:send(mail("bob@example.net", { sender = "" })))
      until_told(told, 1)
      moonpost.sleep(5)
      assert.equal("bounced", told[1].event)
      assert.equal(1, #told)
      assert.equal(0, #queue._engine.store:page({}, nil, nil, 10))
      queue:stop()
    end)
  end)

  it("lets the site pay for a dead host, not the message", function()
    local dead = test.server { connect = "refused" }
    world({ dns = zone { ["example.net"] = "mx.example.net" }, servers = { ["mx.example.net"] = dead } }, function(queue)
      local told = events(queue)
      assert(queue:send(mail "bob@example.net"))
      until_told(told, 3, 300)
      local last = queue._engine.store:page({}, nil, nil, 10)[1]
      assert.equal(0, last.attempts)
      assert.matches("^451 4%.4%.1 ", last.last)
      dead.connect = nil
      until_told(told, 4, 600)
      assert.equal("delivered", told[#told].event)
      queue:stop()
    end)
  end)

  it("serves a live site while a thousand are dead", function()
    local names = { ["live.example"] = { MX = { { 10, "mx.live.example" } } } }
    for i = 1, 1000 do
      names["dead" .. i .. ".example"] = { MX = { { 10, "mx.dead" .. i .. ".example" } } }
      names["mx.dead" .. i .. ".example"] = { A = { "198.51.100.66" } }
    end
    local servers = { ["mx.live.example"] = test.server {}, ["dead.example"] = { connect = "timeout", address = "198.51.100.66" } }
    world({ dns = names, servers = servers }, function(queue)
      local told = {}
      queue.on.delivered = function(record)
        told[#told + 1] = record
      end
      for i = 1, 1000 do
        assert(queue:send(mail("bob@dead" .. i .. ".example")))
      end
      moonpost.sleep(1)
      local began = queue._here._worker:time()
      assert(queue:send(mail "bob@live.example"))
      until_told(told, 1)
      assert.equal("bob@live.example", told[1].recipient)
      assert.is_true(told[1].time - began < 2)
      queue:stop()
    end)
  end)

  it("routes by a function, to URLs, functions and replies", function()
    local lmtp, relay = test.server { lmtp = true }, test.server {}
    local called = {}
    world({
      dns = {}, servers = { ["unix:/run/lists.sock"] = lmtp, ["relay.example.net"] = relay },
      queue = {
        routes = { box = function(delivery, octets)
          called[#called + 1] = { delivery.address, octets() }
        end },
        route = function(delivery)
          if delivery.domain == "lists.example" then
            return "lmtp://unix:/run/lists.sock"
          elseif delivery.domain == "box.example" then
            return "lua:box"
          elseif delivery.domain == "no.example" then
            return 550, "5.1.1", "No such mailbox"
          end
          return { url = "smtp://relay.example.net:2525", tls = "none" }
        end,
      },
    }, function(queue)
      local told = events(queue)
      assert(queue:send(mail({ "l@lists.example", "b@box.example", "x@no.example", "o@else.example", "p@other.example" }, { sender = "" })))
      until_told(told, 5)
      local of = {}
      for _, one in ipairs(told) do
        of[one.recipient] = one.event
      end
      assert.same({
        ["l@lists.example"] = "delivered", ["b@box.example"] = "delivered", ["x@no.example"] = "bounced", ["o@else.example"] = "delivered",
        ["p@other.example"] = "delivered",
      }, of)
      assert.equal("b@box.example", called[1][1])
      assert.matches("Hello%.", called[1][2])
      assert.same({ "o@else.example", "p@other.example" }, relay.messages[1].recipients) -- one transaction for a smarthost
      assert.equal(1, #lmtp.messages)
      queue:stop()
    end)
  end)

  it("has limits for all sites, and others for some", function()
    local queue = moonpost.queue {
      spool = "/spool", site = { connections = 7, ["*.example.net"] = { rate = "10/m" }, ["mx.example.net"] = { connections = 1 } },
    }
    assert.equal(7, queue:_limits_of("mx.example.org").connections)
    assert.is_nil(queue:_limits_of("mx.example.org").rate)
    assert.same({ 7, 10 }, { queue:_limits_of("mx2.example.net").connections, queue:_limits_of("mx2.example.net").rate.count })
    assert.equal(1, queue:_limits_of("mx.example.net").connections)
    assert.equal(1, queue:_limits_of("smtp://mx.example.net:25").connections)
    assert.equal(10, queue:_limits_of("smtps://a.b.Example.net:465").rate.count)
  end)

  it("keeps to a site's rate and number of connections", function()
    local server = test.server { body = { "250 ok", after = "1s" } }
    world({
      dns = {}, servers = { ["relay.example.net"] = server },
      queue = { route = "smtp://relay.example.net", site = { connections = 2, rate = "5/m" } },
    }, function(queue)
      local told, began = events(queue), queue._here._worker:time()
      for i = 1, 12 do
        assert(queue:send(mail(("u%d@example.net"):format(i))))
      end
      until_told(told, 12, 300)
      assert.equal(12, #told)
      local first_minute = 0
      for _, one in ipairs(told) do
        first_minute = first_minute + (one.time - began < 55 and 1 or 0)
      end
      assert.is_true(first_minute >= 8 and first_minute <= 10, first_minute) -- five at once, then one every twelve seconds
      assert.is_true(server.sessions <= 12)
      queue:stop()
    end)
  end)

  it("tells which way a delivery goes", function()
    local server = test.server {}
    world({ dns = zone { ["example.net"] = "mx.example.net" }, servers = { ["mx.example.net"] = server } }, function(queue)
      local ways = {}
      queue.on.routed = function(record)
        ways[#ways + 1] = { record.recipient, record.via, record.site }
      end
      local told = events(queue)
      assert(queue:send(mail "bob@example.net"))
      until_told(told, 1)
      assert.same({ { "bob@example.net", "mx", "mx.example.net" } }, ways)
      queue:stop()
    end)
  end)

  -- A report that could not be kept gave everything back, so who had the mail got it again each minute until there was room.
  it("delivers nothing twice where the spool has no room for a report", function()
    local server = test.server { rcpt = function(argument)
      return argument:find("nobody", 1, true) and "550 5.1.1 No such user" or "250 2.1.5 Ok"
    end }
    world({
      dns = zone { ["example.net"] = "mx.example.net", ["example.org"] = "mx.example.org" },
      servers = { ["mx.example.net"] = server, ["mx.example.org"] = test.server {} },
    }, function(queue)
      local told = events(queue)
      assert(queue:send(mail { "nobody@example.net", "bob@example.net" }))
      local store = queue._engine.store
      local put = store.put
      store.put = function()
        return nil, "the disk is full"
      end
      moonpost.sleep(600)
      assert.equal(1, #server.messages)
      assert.same({ "delivered", 1 }, { told[1].event, #told })
      store.put = put
      until_told(told, 3)
      assert.same({ "bounced", "delivered" }, { told[2].event, told[3].event })
      assert.equal(0, queue._engine.claimed)
      queue:stop()
    end)
  end)

  -- A failed write leaves claims as they were: what could not be rescheduled was never claimed again.
  it("tries again what the spool could not settle", function()
    local server = test.server { rcpt = "450 4.2.0 later" }
    world({ dns = zone { ["example.net"] = "mx.example.net" }, servers = { ["mx.example.net"] = server } }, function(queue)
      local told = events(queue)
      assert(queue:send(mail "bob@example.net"))
      local store = queue._engine.store
      store.settle = function()
        store.settle = nil
        return nil, "an error of the disk"
      end
      until_told(told, 1, 3600)
      assert.equal("deferred", told[1].event)
      queue:stop()
    end)
  end)

  it("makes no more connections to a site than its limits allow in a time, also when they change", function()
    local server = test.server {}
    world({
      dns = zone { ["example.net"] = "mx.example.net" }, servers = { ["mx.example.net"] = server },
      queue = { site = { connections = 5, per_connection = 1, connection_rate = "1/m" } },
    }, function(queue)
      local told, worker = events(queue), require("moonpost.task").worker()
      local began = worker:now()
      for _ = 1, 3 do
        assert(queue:send(mail "bob@example.net"))
      end
      until_told(told, 3, 600)
      assert.is_true(worker:now() - began >= 119, worker:now() - began)
      queue:limit("mx.example.net", { connections = 5, per_connection = 1 })
      began = worker:now()
      for _ = 1, 3 do
        assert(queue:send(mail "bob@example.net"))
      end
      until_told(told, 6, 600)
      assert.is_true(worker:now() - began < 10, worker:now() - began)
      queue:stop()
    end)
  end)

  it("keeps to the recipients of a transaction that a site's pattern says", function()
    local server = test.server {}
    world({
      dns = zone { ["example.net"] = "mx.example.net" }, servers = { ["mx.example.net"] = server },
      queue = { site = { recipients = 50, ["*.example.net"] = { recipients = 3 } } },
    }, function(queue)
      local told, to = events(queue), {}
      for i = 1, 8 do
        to[i] = ("u%d@example.net"):format(i)
      end
      assert(queue:send(mail(to)))
      until_told(told, 8)
      local sizes = {}
      for i, one in ipairs(server.messages) do
        sizes[i] = #one.recipients
      end
      table.sort(sizes)
      assert.same({ 2, 3, 3 }, sizes)
      queue:stop()
    end)
  end)

  -- The next attempt would deliver it once more.
  it("ends what was delivered though the spool takes no report of it, and keeps the report when it can", function()
    local server, back = test.server {}, test.server {}
    world({
      dns = zone { ["example.net"] = "mx.example.net", ["example.org"] = "mx.example.org" },
      servers = { ["mx.example.net"] = server, ["mx.example.org"] = back },
    }, function(queue)
      local told = events(queue)
      assert(queue:send(mail({ { address = "bob@example.net", params = { notify = { SUCCESS = true } } } })))
      local store, refused = queue._engine.store, 0
      local put = store.put
      store.put = function()
        refused = refused + 1
        return nil, "the disk is full"
      end
      until_told(told, 1)
      assert.equal("relayed", told[1].event)
      assert.equal(0, #store:page({}, nil, nil, 10))
      moonpost.sleep(200)
      assert.is_true(refused >= 3, refused)
      assert.equal(0, #back.messages)
      store.put = put
      until_told(told, 2)
      assert.equal(1, #server.messages)
      assert.equal(1, #back.messages)
      assert.matches("Action: relayed", back.messages[1].octets, 1, true)
      queue:stop()
    end)
  end)

  it("tells of all recipients of a message that expire at once in one report", function()
    local server, back = test.server { rcpt = "450 4.2.0 later" }, test.server {}
    world({
      dns = zone { ["example.net"] = "mx.example.net", ["example.com"] = "mx.example.net", ["example.org"] = "mx.example.org" },
      servers = { ["mx.example.net"] = server, ["mx.example.org"] = back },
      queue = { retry = { "10m", "9h", expire = "1h", jitter = 0, warn = false } },
    }, function(queue)
      local told = events(queue)
      assert(queue:send(mail { "bob@example.net", "eve@example.net", "dan@example.com" }))
      for _ = 1, 5000 do
        if #back.messages > 0 then
          break
        end
        moonpost.sleep(1)
      end
      moonpost.sleep(60)
      assert.equal(1, #back.messages)
      local octets = back.messages[1].octets
      for _, address in ipairs { "bob@example.net", "eve@example.net", "dan@example.com" } do
        assert.matches("Final-Recipient: rfc822; " .. address, octets, 1, true)
      end
      assert.is_true(#told >= 4)
      queue:stop()
    end)
  end)

  it("looks at what is late once a minute while the spool takes no report", function()
    local server = test.server { rcpt = "450 4.2.0 later" }
    world({
      dns = zone { ["example.net"] = "mx.example.net", ["example.org"] = "mx.example.org" },
      servers = { ["mx.example.net"] = server, ["mx.example.org"] = test.server {} },
      queue = { retry = { "10m", expire = "15m", jitter = 0, warn = false } },
    }, function(queue)
      local told = events(queue)
      assert(queue:send(mail "bob@example.net"))
      local store, asked = queue._engine.store, 0
      local put = store.put
      store.put = function()
        asked = asked + 1
        assert(asked < 100, "no time passes")
        return nil, "the disk is full"
      end
      moonpost.sleep(1800)
      assert.is_true(asked >= 10 and asked <= 16, asked)
      store.put = put
      until_told(told, 4, 120)
      assert.same({ "expired", "delivered" }, { told[#told - 1].event, told[#told].event })
      queue:stop()
    end)
  end)

  it("gives back what is being routed when it stops", function()
    local server = test.server {}
    world({
      dns = zone { ["example.net"] = "mx.example.net" }, servers = { ["mx.example.net"] = server },
      queue = { route = function()
        moonpost.sleep(5)
        return "mx"
      end },
    }, function(queue)
      assert(queue:send(mail "bob@example.net"))
      moonpost.sleep(1)
      local engine = queue._engine
      queue:stop()
      assert.equal(0, #server.messages)
      assert.equal(0, engine.claimed)
      assert.is_false(engine.store:page({}, nil, nil, 10)[1].claimed)
    end)
  end)

  it("gives back what has no connection yet when it stops, and no pause to whoever goes on", function()
    local server = test.server {}
    world({ dns = zone { ["example.net"] = "mx.example.net" }, servers = { ["mx.example.net"] = server } }, function(queue)
      local told = events(queue)
      assert(queue:send(mail("bob@example.net", { params = { holdfor = 60 } })))
      local store = queue._engine.store
      local octets = store.octets
      function store:octets(id)
        moonpost.sleep(2) -- a slow disk
        return octets(self, id)
      end
      moonpost.sleep(61)
      queue:_retire()
      moonpost.sleep(3)
      assert.same({}, told)
      assert.same({ "example.net" }, (store:due(queue._engine.worker:time(), 10)))
      queue:stop()
    end)
  end)

  it("forgets sites that have nothing to do, while others are busy", function()
    local names = zone { ["example.net"] = "mx.example.net" }
    names["gone.example"], names["mx.gone.example"] = { MX = { { 10, "mx.gone.example" } } }, { A = { "198.51.100.66" } }
    local dead = { connect = "refused", address = "198.51.100.66" }
    local slow = test.server { body = { "250 ok", after = "2h" } }
    world({
      dns = names, servers = { ["mx.example.net"] = test.server {}, ["dead.example"] = dead, ["relay.example.net"] = slow },
      queue = {
        retry = { "10m", expire = "30m", warn = false, jitter = 0 },
        route = function(delivery)
          return delivery.domain == "slow.example" and "smtp://relay.example.net" or "mx"
        end,
      },
    }, function(queue)
      local told = events(queue)
      assert(queue:send(mail { "bob@slow.example" }))
      assert(queue:send(mail({ "bob@example.net", "bob@gone.example" }, { sender = "" })))
      moonpost.sleep(60)
      local engine, count = queue._engine, 0
      moonpost.sleep(7000)
      assert(queue:send(mail("x@slow.example")))
      moonpost.sleep(100)
      assert(queue:send(mail("y@slow.example")))
      moonpost.sleep(1)
      for _ in pairs(engine.sites) do
        count = count + 1
      end
      assert.equal(1, count)
      assert.is_nil(engine._ways["example.net"])
      assert.is_nil(engine._ways["gone.example"])
      assert.is_true(#told > 1)
    end)
  end)

  it("looks at what a suspended site had soon after it is resumed", function()
    local server = test.server {}
    world({ dns = {}, servers = { ["relay.example.net"] = server }, queue = { route = "smtp://relay.example.net" } }, function(queue)
      local told = events(queue)
      assert(queue:send(mail "bob@example.net"))
      until_told(told, 1)
      local _, at = next(queue._engine.sites)
      at:suspend()
      assert(queue:send(mail "carol@example.net"))
      moonpost.sleep(900)
      assert.equal(1, #told)
      assert.equal("held", at.state)
      at:resume()
      until_told(told, 2, 400)
      assert.equal(2, #server.messages)
      queue:stop()
    end)
  end)

  it("names the slips of who describes one", function()
    for wrong, why in pairs {
      ["no such option"] = { { spool = "/s", rout = "mx" }, 'unknown option "rout" %(did you mean "route"%?%)' },
      ["no spool"] = { {}, "spool" },
      ["a route"] = { { spool = "/s", route = "smpt://relay.example.net" }, 'route: .*smpt' },
      ["an option of a route"] = { { spool = "/s", route = { "mx", tsl = "required" } }, 'route: unknown option "tsl" %(did you mean "tls"%?%)' },
      ["a function of a route"] = { { spool = "/s", route = "lua:lost", routes = { last = print } }, 'route: "lua:lost": .* mean "last"' },
      ["a Maildir of a route"] = { { spool = "/s", route = { maildir = "x/%{mailbx}" } }, 'route: .*mailbx' },
      ["no connections"] = { { spool = "/s", site = { connections = 0 } }, "site.connections: at least 1" },
      ["no resolver"] = { { spool = "/s", dns = "192.0.2.1" }, "dns: what dns.resolver or dns.zone returned is expected" },
      ["limits"] = { { spool = "/s", site = { conections = 3 } }, 'unknown option "site.conections" %(did you mean' },
      ["limits of some"] = { { spool = "/s", site = { ["*.example.net"] = { rates = "1/s" } } }, 'did you mean "rate"' },
      ["a pattern"] = { { spool = "/s", site = { ["*example.net"] = {} } }, "a host name, or" },
      ["retry"] = { { spool = "/s", retry = { "soon" } }, "retry: wait 1: a duration" },
      ["routes"] = { { spool = "/s", routes = { box = 3 } }, "routes.box: a function expected" },
      ["postmaster"] = { { spool = "/s", postmaster = "nobody at all" }, "postmaster: an address expected" },
    } do
      local ok, err = pcall(function()
        local queue = moonpost.queue(why[1])
        return queue
      end)
      assert.is_false(ok, wrong)
      assert.matches("^spec/lua/queue_spec.lua:%d+: moonpost.queue: ", err)
      assert.matches(why[2], err)
    end
    local queue = moonpost.queue { spool = "/s" }
    assert.error_matches(function()
      queue.on.deliverd = function() end
    end, '^queue.on.deliverd: there is no such event %(did you mean "delivered"%?%)')
  end)

  local HOUR = 3600

  -- What was told, with the minutes since the beginning.
  local function minutes(told, began)
    local out = {}
    for i, one in ipairs(told) do
      out[i] = ("%s %s %d"):format(one.event, one.recipient:match("^[^@]*"), math.floor((one.time - began) / 60 + 0.5))
    end
    return out
  end

  it("takes what waits for one domain as fast as its site takes it", function()
    local server = test.server {}
    world({ dns = zone { ["example.net"] = "mx.example.net" }, servers = { ["mx.example.net"] = server } }, function(queue)
      local told = events(queue)
      for i = 1, 400 do
        assert(queue:send(mail(("u%d@example.net"):format(i), { params = { holdfor = 60 } })))
      end
      until_told(told, 400)
      assert.equal(400, #told)
      assert.is_true(told[400].time - told[1].time < 1, ("%g seconds"):format(told[400].time - told[1].time))
    end)
  end)

  it("holds a message as long as FUTURERELEASE says (RFC 4865)", function()
    local server = test.server {}
    world({ dns = zone { ["example.net"] = "mx.example.net" }, servers = { ["mx.example.net"] = server } }, function(queue)
      local told, began = events(queue), queue._here._worker:time()
      assert(queue:send(mail("bob@example.net", { params = { holdfor = 2 * HOUR } })))
      until_told(told, 1, 3 * HOUR)
      assert.same({ "delivered bob 120" }, minutes(told, began))
      queue:stop()
    end)
  end)

  it("gives up when DELIVERBY with R is over, and warns when it is over with N (RFC 2852)", function()
    local server, back = test.server { mail = "451 4.3.0 later", extensions = { "PIPELINING", "DELIVERBY" } }, test.server {}
    world({
      dns = zone { ["example.net"] = "mx.example.net", ["example.org"] = "mx.example.org" },
      servers = { ["mx.example.net"] = server, ["mx.example.org"] = back },
      queue = { retry = { "30m", expire = "2h", jitter = 0, warn = false }, hostname = "out.example.org" },
    }, function(queue)
      local told, began = events(queue), queue._here._worker:time()
      assert(queue:send(mail("r@example.net", { params = { by = HOUR, by_mode = "R" } })))
      until_told(told, 4, 3 * HOUR)
      assert.same({ "deferred r 0", "deferred r 30", "expired r 60", "delivered a 60" }, minutes(told, began))
      assert.matches("Status: 5%.4%.7", back.messages[1].octets)
      assert(queue:send(mail("n@example.net", { params = { by = HOUR, by_mode = "N" } })))
      until_told(told, 12, 5 * HOUR)
      assert.matches("Action: delayed", back.messages[2].octets)
      assert.matches("Action: failed", back.messages[3].octets)
      assert.matches("Status: 4%.4%.7", back.messages[3].octets)
      queue:stop()
    end)
  end)

  it("tells a sender once that a message is late, even while its site is dead", function()
    local dead, back = test.server { connect = "refused" }, test.server {}
    world({
      dns = zone { ["example.net"] = "mx.example.net", ["example.org"] = "mx.example.org" },
      servers = { ["mx.example.net"] = dead, ["mx.example.org"] = back },
      queue = { retry = { "1h", expire = "1d", warn = "4h" }, hostname = "out.example.org" },
    }, function(queue)
      assert(queue:send(mail "bob@example.net"))
      moonpost.sleep(10 * HOUR)
      assert.equal(1, #back.messages)
      assert.matches("Action: delayed", back.messages[1].octets)
      assert.matches("Diagnostic%-Code: x%-moonpost; 451 4%.4%.1 mx%.example%.net", back.messages[1].octets) -- why it is late
      assert.matches("Will%-Retry%-Until:", back.messages[1].octets)
      moonpost.sleep(15 * HOUR)
      assert.equal(2, #back.messages)
      assert.matches("Action: failed", back.messages[2].octets)
      assert.matches("Status: 4%.4%.7", back.messages[2].octets)
      assert.matches("mx%.example%.net[^\n]*refused", back.messages[2].octets)
      assert.equal(0, #queue._engine.store:page({}, nil, nil, 10))
      queue:stop()
    end)
  end)

  it("does as NOTIFY, RET and ENVID say (RFC 3461)", function()
    local server, back = test.server { rcpt = "550 5.1.1 No such user" }, test.server {}
    world({
      dns = zone { ["example.net"] = "mx.example.net", ["example.org"] = "mx.example.org" },
      servers = { ["mx.example.net"] = server, ["mx.example.org"] = back }, queue = { hostname = "out.example.org" },
    }, function(queue)
      local told = events(queue)
      assert(queue:send(mail({
        { address = "never@example.net", params = { notify = { NEVER = true } } },
        { address = "some@example.net", params = { notify = { FAILURE = true }, orcpt = "first@example.com", orcpt_type = "rfc822" } },
      }, { params = { ret = "HDRS", envid = "QQ314159" } })))
      until_told(told, 3)
      local bounce = back.messages[1].octets
      assert.equal(1, #back.messages)
      assert.matches("Original%-Envelope%-Id: QQ314159", bounce)
      assert.matches("Original%-Recipient: rfc822; ?first@example.com", bounce)
      assert.not_matches("never@example.net", bounce:match "Content%-Type: message/delivery%-status(.-)\r\n%-%-=_")
      assert.matches("Content%-Type: text/rfc822%-headers", bounce)
      assert.not_matches("Hello%.", bounce)
      queue:stop()
    end)
  end)

  it("gives the report that SUCCESS asks for where the next server will not", function()
    local server, back = test.server {}, test.server {}
    world({
      dns = zone { ["example.net"] = "mx.example.net", ["example.org"] = "mx.example.org" },
      servers = { ["mx.example.net"] = server, ["mx.example.org"] = back }, queue = { hostname = "out.example.org" },
    }, function(queue)
      local told = events(queue)
      assert(queue:send(mail { { address = "bob@example.net", params = { notify = { SUCCESS = true } } } }))
      until_told(told, 2)
      assert.equal("relayed", told[1].event)
      assert.matches("Action: relayed", back.messages[1].octets)
      queue:stop()
    end)
  end)
end)
