-- Administration of a queue from Lua.
local moonpost = require "moonpost"
local test = require "moonpost.test"

local function world(fn)
  return test.run(function(here)
    local queue = moonpost.queue { spool = "/spool", hostname = "out.example.org", retry = { "10m", expire = "1d", jitter = 0, warn = false } }
    fn(queue, here)
    queue:stop()
  end, {
    dns = {
      ["example.net"] = { MX = { { 10, "mx.example.net" } } }, ["example.com"] = { MX = { { 10, "mx.example.com" } } },
      ["example.org"] = { MX = { { 10, "mx.example.org" } } },
    },
    servers = {
      ["mx.example.net"] = test.server { rcpt = "450 4.2.0 later" }, ["mx.example.com"] = test.server {}, ["mx.example.org"] = test.server {},
    },
    now = 1790000000,
  })
end

-- One message, tried once and deferred; and what the queue is told from then on.
local function deferred(queue, to)
  local told = {}
  for _, name in ipairs { "delivered", "deferred", "bounced" } do
    queue.on[name] = function(record)
      told[#told + 1] = name .. " " .. record.recipient
    end
  end
  local id = assert(queue:send { from = "a@example.org", to = to or "bob@example.net", subject = "Hi", text = "Hello." })
  moonpost.sleep(5)
  for i = #told, 1, -1 do
    told[i] = nil
  end
  return id, told
end

describe("administration of a queue", function()
  it("lists by what people look for", function()
    world(function(queue)
      local id = deferred(queue, { "bob@example.net", "eve@example.net" })
      local rows = assert(queue:list())
      assert.equal(2, #rows)
      assert.equal(id, rows[1].id)
      assert.equal("waiting", rows[1].state)
      assert.equal("mx.example.net", rows[1].site)
      assert.equal(1, rows[1].attempts)
      local counts = {}
      for i, which in ipairs {
        { recipient = "BOB@example.net" }, { recipient = "*@example.net" }, { recipient = "@example.com" }, { sender = "a@example.org" },
        { domain = "Example.NET" }, { site = "mx.example.net" }, { reply = "LATER" }, { reply = "never" }, { older = "1h" },
        { younger = "1h" }, { held = true }, { most = 1 },
      } do
        counts[i] = #queue:list(which)
      end
      assert.same({ 1, 2, 0, 2, 2, 2, 2, 0, 0, 2, 0, 1 }, counts)
      assert.equal(2, #queue:show(id))
      assert.same({}, queue:show "none")
      assert.truthy(queue:octets(id):find("Hello.", 1, true))
    end)
  end)

  it("refuses filters that it does not know, at the caller's line", function()
    world(function(queue)
      local ok, why = pcall(function()
        queue:list { recipent = "x" }
      end)
      assert.is_false(ok)
      assert.truthy(tostring(why):find("queue_admin_spec.lua:", 1, true))
      assert.truthy(tostring(why):find('did you mean "recipient"?', 1, true))
      assert.is_false((pcall(queue.hold, queue)))
      assert.is_false((pcall(queue.redirect, queue, {}, "nobody")))
      assert.is_false((pcall(queue.bounce, queue, {}, 450)))
      assert.is_false((pcall(queue.bounce, queue, {}, 550, "5.7.0", "two\r\nlines")))
      assert.is_false((pcall(queue.limit, queue, "mx.example.net", { conections = 1 })))
    end)
  end)

  it("holds, and releases", function()
    world(function(queue)
      local id, told = deferred(queue)
      assert.same({ changed = 1, busy = 0 }, queue:hold(id))
      moonpost.sleep(3600)
      assert.same({}, told)
      assert.equal("held", queue:show(id)[1].state)
      assert.equal(1, queue:release({ held = true }).changed)
      moonpost.sleep(60)
      assert.same({ "deferred bob@example.net" }, told)
    end)
  end)

  it("holds what is on its way when it comes back", function()
    world(function(queue)
      local id = assert(queue:send { from = "a@example.org", to = "bob@example.net", subject = "Hi", text = "Hello." })
      assert.equal("busy", queue:show(id)[1].state)
      assert.same({ changed = 1, busy = 0 }, queue:hold(id))
      moonpost.sleep(3600)
      local row = queue:show(id)[1]
      assert.equal("held", row.state)
      assert.equal(1, row.attempts)
    end)
  end)

  it("tries now, sends elsewhere, removes", function()
    world(function(queue)
      local id, told = deferred(queue)
      assert.equal(1, queue:retry(id).changed)
      moonpost.sleep(5)
      assert.same({ "deferred bob@example.net" }, told)
      assert.equal(1, queue:redirect(id, "bob@example.com").changed)
      moonpost.sleep(5)
      assert.same({ "deferred bob@example.net", "delivered bob@example.com" }, told)
      assert.same({}, queue:list())
      assert.equal(0, queue:remove(id).changed)
    end)
    world(function(queue)
      local id, told = deferred(queue)
      assert.equal(1, queue:remove(id).changed)
      moonpost.sleep(3600)
      assert.same({}, told)
      assert.same({}, queue:list())
    end)
  end)

  it("returns to the sender", function()
    world(function(queue)
      local id, told = deferred(queue)
      assert.equal(1, queue:bounce(id, 550, "5.7.1", "Not wanted").changed)
      moonpost.sleep(60)
      assert.same({ "bounced bob@example.net", "delivered a@example.org" }, told)
      assert.same({}, queue:list())
    end)
  end)

  it("does it to however many there are, part by part, and one report tells of one message", function()
    world(function(queue)
      queue:suspend "mx.example.com"
      local to = {}
      for i = 1, 7 do
        to[i] = ("bob%d@example.com"):format(i)
      end
      for i = 1, 80 do -- 560: the first part ends in the midst of a message
        assert(queue:send { from = ("ann%d@example.net"):format(i), to = to, subject = "Hi", text = "Hello." })
      end
      moonpost.sleep(5)
      assert.same({ changed = 560, busy = 0 }, queue:hold {})
      assert.equal(560, #queue:list { held = true })
      assert.same({ changed = 100, busy = 0 }, queue:release { held = true, most = 100 })
      assert.same({ changed = 560, busy = 0 }, queue:bounce { domain = "example.com" })
      local reports, sender = 0, {}
      for _, row in ipairs(queue:list()) do
        reports = reports + 1
        assert.is_nil(sender[row.recipient])
        sender[row.recipient] = true
      end
      assert.equal(80, reports)
      assert.same({ changed = 80, busy = 0 }, queue:redirect({}, "carl@example.com"))
      assert.equal(80, #queue:list { recipient = "carl@example.com" })
      assert.same({ changed = 80, busy = 0 }, queue:remove {})
      assert.same({}, queue:list())
    end)
  end)

  it("suspends a site, and resumes it", function()
    world(function(queue)
      queue:suspend "mx.example.com"
      local _, told = deferred(queue, "bob@example.com")
      moonpost.sleep(3600)
      assert.same({}, told)
      local stats = queue:stats()
      assert.equal(1, stats.messages)
      assert.equal(1, stats.domains["example.com"])
      assert.equal("held", stats.sites[1].state)
      queue:resume "mx.example.com"
      moonpost.sleep(5)
      assert.same({ "delivered bob@example.com" }, told)
    end)
  end)
end)
