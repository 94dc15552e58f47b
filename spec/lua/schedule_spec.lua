local moonpost = require "moonpost"
local schedule = require "moonpost.schedule"

local MIDDLE = function() return 0.5 end

describe("moonpost.schedule", function()
  local plain = moonpost.schedule { "5m", "15m", "1h", expire = "1d", jitter = 0, warn = "4h" }

  it("waits as it is told, and repeats the last wait", function()
    local times = plain:times(1000)
    assert.equal(1000, plain:next(0, 1000, times))
    for attempts, wait in ipairs { 300, 900, 3600, 3600, 3600 } do
      assert.equal(5000 + wait, plain:next(attempts, 5000, times))
    end
  end)

  it("has the defaults of its page", function()
    local usual = moonpost.schedule()
    assert.equal("5m, 15m, 1h, 4h, then every 4h, for 5d", tostring(usual))
    assert.same({ 0.1, 4 * 3600 }, { usual.jitter, usual.warn })
  end)

  it("takes a wait alone", function()
    assert.equal("10m, then every 10m, for 5d", tostring(moonpost.schedule { "10m" }))
    assert.equal("5m, 15m, 1h, 4h, then every 4h, for 2h", tostring(moonpost.schedule { expire = "2h" }))
  end)

  it("stays within its jitter, and reaches both of its ends", function()
    local loose = moonpost.schedule { 100, jitter = 0.2 }
    local times = loose:times(0)
    assert.equal(1080, loose:next(1, 1000, times, function() return 0 end))
    assert.equal(1100, loose:next(1, 1000, times, MIDDLE))
    for i = 0, 999 do
      local due = loose:next(1, 1000, times, function() return i / 1000 end)
      assert.is_true(due >= 1080 and due < 1120)
    end
    local due = loose:next(1, 1000, times) -- of its own random
    assert.is_true(due >= 1080 and due <= 1120)
  end)

  it("makes its last attempt when the message expires, and none after that", function()
    local times = plain:times(0)
    assert.equal(86400, times.expires)
    assert.equal(86400, plain:next(9, 86400 - 60, times))
    for _, now in ipairs { 86400, 86401, 1e9 } do
      local due, why = plain:next(9, now, times)
      assert.is_nil(due)
      assert.equal("expired", why)
    end
    assert.same({ nil, "expired" }, { plain:next(0, 86400, times) })
  end)

  it("is never past the expiry, whatever the jitter and the number of attempts", function()
    local loose = moonpost.schedule { "1m", "7m", "3h", expire = "2d", jitter = 0.9 }
    local seed = 7
    local function random()
      seed = (seed * 1103515245 + 12345) % 2147483648
      return seed / 2147483648
    end
    for _ = 1, 50 do
      local times, now, attempts = loose:times(1000), 1000, 0
      while true do
        local due = loose:next(attempts, now, times, random)
        if not due then
          break
        end
        assert.is_true(due <= times.expires and (attempts == 0 or due > now))
        now, attempts = due, attempts + 1
      end
      assert.equal(times.expires, now)
      assert.is_true(attempts > 10)
    end
  end)

  describe("warnings", function()
    it("are due once", function()
      local times = plain:times(1000)
      assert.same({ 1000 + 4 * 3600 }, times.warnings)
      assert.equal(0, plain:warned(times, 1000))
      assert.equal(1, plain:warned(times, 1000 + 4 * 3600))
      assert.equal(0, plain:warned(times, times.expires), "then it is a failure that is told")
    end)

    it("can be left out, and are, where the message expires before", function()
      assert.same({}, moonpost.schedule({ warn = false }):times(0).warnings)
      assert.same({}, moonpost.schedule({ warn = 0 }):times(0).warnings)
      assert.same({}, moonpost.schedule({ warn = "4h", expire = "4h" }):times(0).warnings)
    end)
  end)

  describe("FUTURERELEASE", function()
    it("holds the first attempt, and what counts is the time since then (RFC 4865)", function()
      for _, params in ipairs { { holdfor = 3600 }, { holduntil = "1970-01-01T01:16:40Z", holduntil_time = 4600 } } do
        local times = plain:times(1000, params)
        assert.same({ 4600, 4600 + 86400, { 4600 + 4 * 3600 } }, { times.due, times.expires, times.warnings })
        assert.equal(4600, plain:next(0, 1000, times))
        assert.equal(5000, plain:next(0, 5000, times))
        assert.equal(4600, plain:next(1, 1000, times), "an attempt by hand does not release it")
      end
    end)

    it("is over when its time is", function()
      assert.equal(1000, plain:times(1000, { holduntil_time = 500 }).due)
    end)
  end)

  describe("DELIVERBY (RFC 2852)", function()
    it("R: the message is given up at its deadline", function()
      local times = plain:times(1000, { by = 120, by_mode = "R" })
      assert.same({ 1120, 1120, "5.4.7", {} }, { times.expires, times.deadline, times.status, times.warnings })
      assert.equal(1120, plain:next(1, 1001, times))
      assert.is_nil(plain:next(2, 1120, times))
    end)

    it("R: not later than it would be without", function()
      local times = plain:times(0, { by = 10 * 86400, by_mode = "R" })
      assert.equal(86400, times.expires)
      assert.is_nil(times.status)
      assert.same({ 4 * 3600 }, times.warnings)
    end)

    it("N: the sender hears of it at the deadline, and delivery goes on", function()
      local times = plain:times(1000, { by = 120, by_mode = "N" })
      assert.same({ 1120, 1000 + 4 * 3600 }, times.warnings)
      assert.equal(1000 + 86400, times.expires)
      assert.equal(1120, plain:next(1, 1001, times), "an attempt falls on the deadline")
      assert.equal(1, plain:warned(times, 1120))
      assert.equal(1120 + 900, plain:next(2, 1120, times))
      assert.equal(2, plain:warned(times, 1000 + 4 * 3600))
    end)

    it("N: a deadline that was over on arrival has been told by others", function()
      for _, by in ipairs { 0, -60 } do
        local times = plain:times(1000, { by = by, by_mode = "N" })
        assert.same({ 1000 + 4 * 3600 }, times.warnings)
        assert.equal(1300, plain:next(1, 1000, times))
      end
    end)

    it("says when it cannot be kept, because the message is held for longer", function()
      assert.matches("BY is over before", plain:times(0, { by = 60, by_mode = "R", holdfor = 3600 }).conflict)
      assert.is_nil(plain:times(0, { by = 3601, by_mode = "R", holdfor = 3600 }).conflict)
      assert.is_nil(plain:times(0, { by = 60, by_mode = "N", holdfor = 3600 }).conflict)
    end)
  end)

  describe("mistakes", function()
    local function refused(pattern, ...)
      local ok, why = pcall(moonpost.schedule, ...)
      assert.is_false(ok)
      assert.matches(pattern, why)
    end

    it("are raised at the caller's line", function()
      local _, why = pcall(function()
        moonpost.schedule { "5m", expires = "5d" }
      end)
      assert.matches('schedule_spec.lua:%d+: moonpost.schedule: unknown option "expires" %(did you mean "expire"%?%)', why)
      local _, other = pcall(function()
        plain:next(-1, 0, plain:times(0))
      end)
      assert.matches("schedule_spec.lua:%d+: schedule:next: attempts", other)
      local _, third = pcall(function()
        plain:times()
      end)
      assert.matches("schedule_spec.lua:%d+: schedule:times: received", third)
    end)

    it("are named", function()
      refused("a table such as", "5m")
      refused('wait 2: a duration such as "5m"', { "5m", "soon" })
      refused("wait 1: more than nothing", { 0 })
      refused("list without gaps", { [2] = "5m" })
      refused("list without gaps", { "5m", [3] = "1h" })
      refused("expire: more than nothing", { expire = 0 })
      refused("expire: a duration such as", { expire = {} })
      refused("jitter: a number from 0", { jitter = 1 })
      refused("jitter: a number from 0", { jitter = "much" })
      refused("jitter: a number from 0", { jitter = 0 / 0 })
      refused("warn: a duration such as .* or false", { warn = true })
      local many = {}
      for i = 1, 101 do
        many[i] = i
      end
      refused("100 waits at most", many)
    end)

    it("are told to who reads a schedule among other options", function()
      local made, why = schedule.read({ jitters = 1 }, "policy.lua:7")
      assert.is_nil(made)
      assert.matches('did you mean "jitter"', why)
    end)
  end)
end)
