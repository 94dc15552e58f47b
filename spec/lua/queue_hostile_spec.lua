-- moonpost.queue against messages that are made to harm others, and next hops that do.
local moonpost = require "moonpost"
local mtasts = require "moonpost.mtasts"
local test = require "moonpost.test"

local MX = { MX = { { 10, "mx.example.net" } } }

-- 50 messages that `evil` makes of a table, each of another sender, and behind them one of somebody else to a domain of the same hosts; how long
-- that one has taken, and how often the others were tried.
local function behind(server, evil)
  local took, attempts, state = nil, 0, nil
  test.run(function()
    local queue = moonpost.queue { spool = "/spool", hostname = "out.example.org" }
    queue.on.delivered = function(record)
      took = record.recipient == "good@example.net" and record.age or took
    end
    queue.on.deferred = function(record)
      attempts = math.max(attempts, record.attempts)
    end
    for i = 1, 50 do
      local mail = { from = ("evil%d@example.com"):format(i), to = "evil@example.net", subject = "Hi", text = "Hello." }
      evil(mail)
      assert(queue:send(mail))
    end
    assert(queue:send { from = "a@example.com", to = "good@example.net", subject = "Hi", text = "Hello." })
    moonpost.sleep(300)
    state = queue:stats({ quick = true }).sites[1].state
    queue:stop()
  end, { dns = { ["example.net"] = MX, ["example.com"] = MX, ["evil.example"] = MX }, servers = { ["mx.example.net"] = server }, now = 1790000000 })
  return took, attempts, state
end

local function check(took, attempts, state)
  assert.is_true(took ~= nil and took < 5, ("the other message took %s seconds"):format(took))
  assert.is_true(attempts >= 1) -- each of them has had an attempt of its own, and will expire
  assert.equal("open", state)
end

describe("a message that its site does not take", function()
  local new = mtasts.new

  after_each(function()
    mtasts.new = new
  end)

  for _, verb in ipairs { "mail", "rcpt" } do
    it(("keeps no other from it: a server that ends the connection at %s"):format(verb:upper()), function()
      check(behind(test.server { [verb] = function(argument)
        return argument:find("evil", 1, true) and { close = true } or "250 2.0.0 Ok"
      end }, function() end))
    end)
  end

  it("keeps no other from it: REQUIRETLS to who is not verified", function()
    check(behind(test.server {}, function(mail)
      mail.params = { requiretls = true }
    end))
  end)

  it("keeps no other from it: a domain that names another one's hosts, and has an MTA-STS policy that they do not match", function()
    mtasts.new = function()
      return { lookup = function(_, domain)
        return domain == "evil.example" and { mode = "enforce", domain = domain, matches = function() return false end } or nil
      end }
    end
    check(behind(test.server {}, function(mail)
      mail.to = "x@evil.example"
    end))
  end)

  it("is not blamed for a site that nobody can speak to", function()
    local took, attempts, state = behind({ connect = "refused", address = "198.51.100.9" }, function() end)
    assert.same({ 0, "paused" }, { attempts, state })
    assert.is_nil(took)
  end)
end)

describe("several reports of one message", function()
  -- Runs `fn(queue, id)` with a message for 150 in the queue, all of them held; what the reports that were kept tell of, by recipient.
  local function with(more, fail, fn)
    local told = {}
    local back = test.server {}
    test.run(function()
      local queue = moonpost.queue { spool = "/spool", hostname = "out.example.org" }
      local to = {}
      for i = 1, 150 do
        to[i] = { address = ("u%d@example.net"):format(i), params = more }
      end
      local put, count = queue._put, 0
      function queue:_put(mail)
        if mail.report then
          count = count + 1
          if fail[count] then
            return nil, "the disk is full"
          end
        end
        return put(self, mail)
      end
      fn(queue, { from = "a@example.com", to = to, subject = "Hi", text = "Hello." })
      queue:stop()
    end, {
      dns = { ["example.net"] = MX, ["example.com"] = { MX = { { 10, "mx.example.com" } } } }, now = 1790000000,
      servers = { ["mx.example.net"] = test.server {}, ["mx.example.com"] = back },
    })
    for _, message in ipairs(back.messages) do
      for address in message.octets:gmatch "Final%-Recipient: rfc822; ?(%S+)" do
        told[address] = (told[address] or 0) + 1
      end
    end
    return told
  end

  local function check_once(told)
    for i = 1, 150 do
      assert.equal(1, told[("u%d@example.net"):format(i)], ("reports of the %dth"):format(i))
    end
  end

  it("tell of each delivery once, though the spool takes some of them alone", function()
    check_once(with(nil, { [2] = true, [4] = true }, function(queue, mail)
      queue.route = function(delivery)
        if delivery.domain == "example.net" then
          return 450, "4.2.0", "later"
        end
        return "mx"
      end
      local id = assert(queue:send(mail))
      moonpost.sleep(5)
      assert.is_nil((queue:bounce(id)))
      assert.equal(50, #queue:list(id)) -- those of the report that was kept are over
      for _ = 1, 3 do
        queue:bounce(id)
      end
      assert.same({}, queue:list(id))
      moonpost.sleep(100)
    end))
  end)

  it("are each kept once that have to wait for the spool", function()
    check_once(with({ notify = { SUCCESS = true } }, { [2] = true, [4] = true, [5] = true }, function(queue, mail)
      local function take() end
      queue.route = function(delivery)
        return delivery.domain == "example.net" and take or "mx"
      end
      assert(queue:send(mail))
      moonpost.sleep(1000)
      assert.same({}, queue:list())
    end))
  end)
end)

describe("what is returned of large messages", function()
  it("is all that is read of them", function()
    local back, most = test.server {}, 0
    test.run(function()
      local queue = moonpost.queue { spool = "/spool", hostname = "out.example.org", retry = { "10m", expire = "1h", warn = false } }
      for _ = 1, 3 do
        assert(queue:send { from = "a@example.com", to = "x@example.net", subject = "Large", text = ("Hello again.\r\n"):rep(40000) })
      end
      moonpost.sleep(1)
      local store = queue._engine.store
      local octets = store.octets
      function store:octets(...)
        local got, err = octets(self, ...)
        most = math.max(most, #got)
        return got, err
      end
      queue.route = function(delivery)
        return delivery.domain == "example.com" and "mx" or 450
      end
      moonpost.sleep(2 * 3600)
      queue:stop()
    end, {
      dns = { ["example.net"] = MX, ["example.com"] = { MX = { { 10, "mx.example.com" } } } }, now = 1790000000,
      servers = { ["mx.example.net"] = test.server { rcpt = "450 4.2.0 later" }, ["mx.example.com"] = back },
    })
    assert.equal(3, #back.messages)
    assert.matches("Content%-Type: text/rfc822%-headers", back.messages[1].octets)
    assert.matches("\r\nSubject: Large\r\n", back.messages[1].octets)
    assert.is_nil(back.messages[1].octets:find("Hello again", 1, true))
    assert.is_true(most > 0 and most <= 131072, ("%d octets"):format(most))
  end)
end)

describe("a site that is never idle", function()
  it("does not know for ever which domains have gone to it", function()
    local server = test.server {}
    test.run(function()
      local queue = moonpost.queue {
        spool = "/spool", hostname = "out.example.org", route = "smtp://relay.example.net:25", site = { idle = "1d" },
      }
      local function send(domain)
        assert(queue:send { from = "a@example.com", to = "x@" .. domain, subject = "Hi", text = "Hello." })
        moonpost.sleep(1)
      end
      local function known()
        local count = 0
        for _ in pairs(queue._engine._ways) do
          count = count + 1
        end
        return count
      end
      send "first.example"
      local at = select(2, next(queue._engine.sites))
      for i = 1, 12000 do
        queue._engine:lead(("d%d.example"):format(i), at)
      end
      assert.equal(12001, known())
      moonpost.sleep(61)
      send "second.example"
      moonpost.sleep(61)
      assert.is_true(known() <= 1, ("%d domains are known"):format(known()))
      send "first.example"
      assert.equal("smtp://relay.example.net:25", queue._engine:site_of "first.example")
      assert.equal(at, select(2, next(queue._engine.sites)))
      queue:stop()
    end, { servers = { ["relay.example.net"] = server }, now = 1790000000 })
    assert.equal(3, #server.messages)
  end)
end)
