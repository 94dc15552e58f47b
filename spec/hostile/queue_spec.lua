-- A queue against servers that fail at every step, policies that raise, a clock that jumps, and many messages that expire at once.
local core = require "moonpost.core"
local disk = require "moonpost.queue.disk"
local moonpost = require "moonpost"
local task = require "moonpost.task"
local test = require "moonpost.test"
local tmpdir = require "spec.support.tmpdir"

local NOW = 1790000000

-- Runs `fn(queue, told, back)` where example.net's mail goes to `servers` in this order, and reports go to `back`.
local function world(servers, options, fn)
  local names, hosts, mx = {}, {}, {}
  for i, server in ipairs(servers) do
    local host = ("mx%d.example.net"):format(i)
    mx[i], hosts[host] = { i * 10, host }, server
  end
  names["example.net"] = { MX = mx }
  names["example.org"] = { MX = { { 10, "mx.example.org" } } }
  local back = test.server {}
  hosts["mx.example.org"] = back
  return test.run(function()
    local all = { spool = "/spool", hostname = "out.example.org", retry = { "10m", "20m", "1h", expire = "2d", jitter = 0, warn = false } }
    for name, value in pairs(options or {}) do
      all[name] = value
    end
    local queue, told = moonpost.queue(all), {}
    for _, name in ipairs { "delivered", "relayed", "deferred", "bounced", "expired" } do
      queue.on[name] = queue._hooks[name] == nil and function(record)
        told[#told + 1] = name
        told[name] = (told[name] or 0) + (record.sender ~= "" and 1 or 0)
      end or nil
    end
    fn(queue, told, back)
    queue:stop()
  end, { dns = names, servers = hosts, now = NOW })
end

local function send(queue, to)
  return assert(queue:send { from = "a@example.org", to = to or "bob@example.net", subject = "Hi", text = "Hello." })
end

local function over(told, count, hours)
  for _ = 1, hours * 60 do
    if (told.delivered or 0) + (told.relayed or 0) + (told.bounced or 0) + (told.expired or 0) >= count then
      return
    end
    moonpost.sleep(60)
  end
end

local before = { "banner", "ehlo" } -- nothing has been said about the message
local about = { "mail", "rcpt", "data", "body" }
local behind = { "quit" }
local faults = {
  ["421"] = { "421 4.3.2 Closing", close = true }, ["451"] = "451 4.3.0 Later", ["550"] = "550 5.7.1 Never", close = { close = true },
  silence = { silent = true }, rubbish = { raw = "\0\255 what?\r\n" },
}

describe("a queue", function()
  for name, fault in pairs(faults) do
    for _, step in ipairs(before) do
      it(("tries the next host, and later, where %s is met by %s"):format(step, name), function()
        local first, second = test.server { [step] = fault }, test.server {}
        world({ first, second }, nil, function(queue, told)
          send(queue)
          over(told, 1, 12)
          assert.same({ 1, nil }, { told.delivered, told.bounced })
          assert.equal(1, #first.messages + #second.messages)
        end)
        local alone = test.server { [step] = { fault, fault, ({ banner = "220 mx ESMTP", ehlo = "250 mx" })[step] } }
        world({ alone }, nil, function(queue, told, back)
          send(queue)
          over(told, 1, 12)
          assert.same({ 1, nil }, { told.delivered, told.bounced })
          assert.same({ 1, 0 }, { #alone.messages, #back.messages })
        end)
      end)
    end
    for _, step in ipairs(about) do
      local final = name == "550"
      it(("%s where %s is met by %s"):format(final and "returns the message" or "tries again", step, name), function()
        local usual = { mail = "250 2.1.0 Ok", rcpt = "250 2.1.5 Ok", data = "354 Go ahead", body = "250 2.0.0 Taken" }
        local server = test.server { [step] = { fault, usual[step] } }
        world({ server }, nil, function(queue, told, back)
          send(queue)
          over(told, 1, 12)
          moonpost.sleep(60)
          if final then
            assert.same({ 0, 1 }, { told.delivered, told.bounced })
            assert.equal(1, #back.messages)
            assert.matches("5.7.1 Never", back.messages[1].octets, 1, true)
          else
            assert.same({ 1, nil }, { told.delivered, told.bounced })
            assert.equal(0, #back.messages)
            assert.is_true((told.deferred or 0) >= 1)
          end
        end)
      end)
    end
    for _, step in ipairs(behind) do
      it(("has delivered where %s is met by %s"):format(step, name), function()
        local server = test.server { [step] = fault }
        world({ server }, nil, function(queue, told)
          send(queue)
          over(told, 1, 1)
          assert.same({ 1, nil, nil }, { told.delivered, told.bounced, told.deferred })
          assert.equal(1, #server.messages)
        end)
      end)
    end
  end

  for _, how in ipairs { "refused", "timeout" } do
    it(("lets the site pay, not the message, where connections are met by %s"):format(how), function()
      local server = test.server {}
      server.connect = how
      world({ server }, nil, function(queue, told)
        send(queue)
        moonpost.sleep(7200)
        local row = queue:list()[1]
        assert.equal(0, row.attempts)
        assert.equal("paused", queue:stats().sites[1].state)
        server.connect = nil
        over(told, 1, 12)
        assert.same({ 1, nil }, { told.delivered, told.bounced })
      end)
    end)
  end

  it("tells recipients of one transaction apart", function()
    local server = test.server { rcpt = function(path)
      return path:find("u4") and "450 4.2.0 later" or path:find("u5") and "550 5.1.1 nobody" or nil
    end }
    world({ server }, { retry = { "10m", expire = "1h", jitter = 0, warn = false } }, function(queue, told, back)
      send(queue, { "u2@example.net", "u4@example.net", "u5@example.net" })
      over(told, 3, 5)
      assert.same({ 1, 1, 1 }, { told.delivered, told.bounced, told.expired })
      moonpost.sleep(60)
      assert.equal(2, #back.messages)
    end)
  end)
end)

describe("a queue whose policy raises", function()
  local function wrong()
    error "a fault of the policy"
  end

  for _, hook in ipairs { "routed", "delivered", "deferred", "bounced", "expired", "relayed" } do
    it("in on." .. hook .. " goes on", function()
      local server = test.server { rcpt = function(path)
        return path:find("u4") and "450 4.2.0 later" or path:find("u5") and "550 5.1.1 nobody" or nil
      end }
      local back = world({ server }, { retry = { "10m", expire = "1h", jitter = 0, warn = false } }, function(queue, told, back)
        queue._hooks[hook] = wrong
        send(queue, { "u2@example.net", "u4@example.net", "u5@example.net" })
        over(told, 99, 3)
        assert.same({}, queue:list())
        assert.equal(2, #back.messages) -- one of u5, one of u4 when its time is over
        assert.equal(1, #server.messages)
        return back
      end)
      assert.is_nil(back)
    end)
  end

  for name, options in pairs {
    route = { route = wrong }, ["a route that waits"] = { route = function() moonpost.sleep(1); wrong() end }, site = { site = wrong },
    ["lua:"] = { route = "lua:x", routes = { x = wrong } },
  } do
    it("in " .. name .. " keeps the message", function()
      local server = test.server {}
      world({ server }, options, function(queue, told, back)
        local id = send(queue)
        moonpost.sleep(7200)
        assert.is_nil(told.bounced)
        assert.equal(0, #back.messages)
        if name == "site" then
          assert.equal(1, #server.messages)
        else
          assert.equal(1, #queue:show(id))
          queue.route, queue.routes = "mx", {}
          queue:retry(id)
          over(told, 1, 12)
          assert.equal(1, #server.messages)
        end
      end)
    end)
  end

  it("in the text of a report sends ours", function()
    local server = test.server { mail = "550 5.7.1 Never" }
    world({ server }, { texts = { failed = wrong } }, function(queue, told, back)
      send(queue)
      over(told, 1, 2)
      moonpost.sleep(60)
      assert.equal(1, #back.messages)
    end)
  end)
end)

describe("a queue whose clock jumps", function()
  for name, jump in pairs { ["a day on"] = 86400, ["a day back"] = -86400 } do
    it(name .. " while mail waits, delivers it, and nothing expires early", function()
      local server = test.server { mail = { "451 4.3.0 later", "451 4.3.0 later", "250 2.1.0 Ok" } }
      world({ server }, { retry = { "10m", "20m", "1h", expire = "5d", jitter = 0, warn = false } }, function(queue, told, back)
        send(queue)
        moonpost.sleep(60)
        local worker = task.worker()
        worker:set_time(worker:time() + jump)
        over(told, 1, 30)
        assert.same({ 1, nil, nil }, { told.delivered, told.bounced, told.expired })
        assert.equal(0, #back.messages)
      end)
    end)

    it(name .. " while a site is paused, tries it when the pause is over", function()
      local server = test.server {}
      server.connect = "refused"
      world({ server }, { site = { pause = "10m" } }, function(queue, told)
        send(queue)
        moonpost.sleep(60)
        assert.equal("paused", queue:stats().sites[1].state)
        local worker = task.worker()
        worker:set_time(worker:time() + jump)
        server.connect = nil
        over(told, 1, 1)
        assert.equal(1, told.delivered)
      end)
    end)
  end
end)

describe("ten thousand messages that expire at once", function()
  it("#thread are over in few commits, each with its report", function()
    local dir <close> = tmpdir.new()
    local MANY, NULL = 10000, 9500
    moonpost.log.configure { level = "error" } -- it has a line for each
    finally(function()
      moonpost.log.configure { level = "warn" }
    end)
    moonpost.run(function()
      local store = assert(disk.open(dir:join "spool", core.worker()))
      local now, left = os.time(), MANY
      local tasks = {}
      for i = 1, 200 do
        tasks[i] = moonpost.spawn(function()
          while left > 0 do
            left = left - 1
            local n = left
            local entry = {
              id = ("m%05d"):format(n), sender = n < NULL and "" or ("s%d@example.org"):format(n), size = 9, received = now - 1000, priority = 0,
              params = {}, meta = {},
            }
            assert(store:put(entry, "A: b\r\n\r\nc\r\n", {
              {
                address = ("u%d@d%d.example"):format(n, n % 50), domain = ("d%d.example"):format(n % 50), due = now + 9999, expires = now - 1,
                alarm = now - 1,
              },
            }))
          end
        end)
      end
      for _, one in ipairs(tasks) do
        one:join()
      end
      local before_ = store:stats().commits
      local queue = moonpost.queue { spool = dir:join "spool", hostname = "out.example.org", route = "smtp://127.0.0.1:1", site = { pause = "1h" } }
      local expired = 0
      function queue.on.expired() expired = expired + 1 end
      assert(queue:start())
      for _ = 1, 600 do
        if expired == MANY then
          break
        end
        moonpost.sleep(0.05)
      end
      assert.equal(MANY, expired)
      local stats = store:stats()
      assert.equal(MANY, stats.expired)
      assert.is_true(stats.commits - before_ < MANY - NULL + 100, stats.commits - before_) -- one for each report at most, and few for all the rest
      assert.equal(MANY - NULL, (store:count({})))
      queue:stop(1)
      store:close()
    end)
  end)
end)
