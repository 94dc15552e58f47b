-- moonpost.queue.disk: what moonpost.queue.memory promises, on disk.
local core = require "moonpost.core"
local disk = require "moonpost.queue.disk"
local memory = require "moonpost.queue.memory"
local moonpost = require "moonpost"
local process = require "spec.support.process"
local tmpdir = require "spec.support.tmpdir"

local NOW = 1790000000

local function entry(id, more)
  local made = { id = id, sender = "a@example.org", size = 5, received = NOW, priority = 0, params = {}, meta = {} }
  for name, value in pairs(more or {}) do
    made[name] = value
  end
  return made
end

local function to(...)
  local list = {}
  for i, address in ipairs { ... } do
    list[i] = { address = address, domain = address:match("@(.*)"), due = NOW, expires = NOW + 1000, alarm = NOW + 500 }
  end
  return list
end

local function addresses(list)
  local out = {}
  for i, one in ipairs(list) do
    out[i] = one.address
  end
  table.sort(out)
  return out
end

local makers = {
  memory = function()
    return memory.new(core.worker())
  end,
  disk = function(folder)
    return assert(disk.open(folder, core.worker()))
  end,
}

for kind, make in pairs(makers) do
  describe("a spool, " .. kind, function()
    local function with(fn)
      local dir <close> = tmpdir.new()
      moonpost.run(function()
        local store = make(dir:join("spool"))
        local ok, err = pcall(fn, store, dir)
        store:close()
        if not ok then
          error(err, 0)
        end
      end)
    end

    it("#thread gives the deliveries of one message to who asks by its name, whatever they wait for", function()
      with(function(store)
        assert(store:put(entry "m1", "hello", to("a@example.net", "b@example.com", "c@example.org")))
        assert(store:put(entry "m2", "hello", to "z@example.net"))
        store:release(store:claim("example.com", NOW, 10), 500)
        assert.same({ "c@example.org" }, addresses(store:claim("example.org", NOW, 10)))
        local list = store:take "m1"
        assert.same({ "a@example.net", "b@example.com" }, addresses(list))
        assert.same({}, store:take "m1")
        assert.same({}, store:take "none")
        for _, one in ipairs(list) do
          one.address, one.domain = "x@example.edu", "example.edu"
        end
        assert.is_true(store:settle({}, list))
        assert.same({ "z@example.net" }, addresses(store:claim("example.net", NOW, 10)))
        assert.same({ "x@example.edu", "x@example.edu" }, addresses(store:claim("example.edu", NOW, 10)))
        assert.equal(3, #store:page({ id = "m1" }, nil, nil, 10))
      end)
    end)

    it("#thread keeps a message once, and gives its octets back", function()
      with(function(store)
        assert.equal(2, #assert(store:put(entry "m1", "a\0b\r\n", to("x@a.example", "y@b.example"))))
        assert.same({}, store:put(entry "m1", "other", to "z@a.example"))
        assert.equal("a\0b\r\n", store:octets("m1"))
        local names = store:due(NOW, 10)
        table.sort(names)
        assert.same({ "a.example", "b.example" }, names)
        assert.same({ "x@a.example" }, addresses(store:claim("a.example", NOW, 10)))
        assert.same({}, store:claim("a.example", NOW, 10))
      end)
    end)

    it("gives the beginning of a message alone to who wants no more", function()
      with(function(store)
        local octets = ("0123456789abcde\n"):rep(20000)
        assert(store:put(entry("m1", { size = #octets }), octets, to "x@a.example"))
        for _, most in ipairs { 1, 100, 65536, 65537, 131072, #octets, #octets + 1 } do
          assert.is_true(store:octets("m1", most) == octets:sub(1, most))
        end
        assert.is_true(store:octets "m1" == octets)
      end)
    end)

    it("forgets it with its last recipient", function()
      with(function(store)
        store:put(entry "m1", "octets", to("x@a.example", "y@b.example"))
        local x, y = store:claim("a.example", NOW, 10), store:claim("b.example", NOW, 10)
        assert(store:settle(x, {}))
        assert.equal("octets", store:octets("m1"))
        assert.same({ "y@b.example" }, addresses((store:page({}, nil, nil, 10))))
        assert(store:settle(y, {}))
        assert(store:settle(y, {}))
        assert.is_nil((store:octets("m1")))
        assert.same({}, store:alarms(NOW + 1000, 10)) -- an alarm that is not needed any more is found to be so when it comes
        assert.is_nil(store:next(NOW + 1000))
      end)
    end)

    it("gives nothing before it is due, and says when it will be", function()
      with(function(store)
        local list = to "x@a.example"
        list[1].due = NOW + 100
        store:put(entry "m1", "octets", list)
        assert.same({}, store:due(NOW, 10))
        assert.equal(100, store:next(NOW))
        assert.same({ "a.example" }, store:due(NOW + 100, 10))
        local one = store:claim("a.example", NOW + 100, 10)[1]
        one.due, one.attempts, one.last = NOW + 300, 1, "450 4.2.0 later"
        assert(store:settle({}, { one }))
        assert.same({}, store:claim("a.example", NOW + 299, 10))
        local again = store:claim("a.example", NOW + 300, 10)[1]
        assert.same({ 1, "450 4.2.0 later" }, { again.attempts, again.last })
      end)
    end)

    it("claims a message for who puts it in, and takes it back", function()
      with(function(store)
        local list = assert(store:put(entry "m1", "octets", to "x@a.example", true))
        assert.is_true(list[1].claimed)
        assert.same({}, store:due(NOW, 10))
        store:release(list, 50)
        assert.same({}, store:claim("a.example", NOW, 10))
        assert.near(50, store:next(NOW), 5)
        list = store:take "m1"
        store:release(list)
        assert.same({ "x@a.example" }, addresses(store:claim("a.example", NOW, 10)))
      end)
    end)

    it("lets a domain sleep, and wakes it", function()
      with(function(store)
        store:put(entry "m1", "octets", to("x@a.example", "y@b.example"))
        store:sleep("a.example", 100)
        assert.same({ "b.example" }, store:due(NOW, 10))
        store:sleep("a.example", 0)
        assert.same({ "a.example" }, store:due(NOW, 1))
      end)
    end)

    it("gives senders turns, and those of a higher priority the first one", function()
      with(function(store)
        for i = 1, 6 do
          store:put(entry("bulk" .. i, { sender = "bulk@example.org" }), "octets", to(("b%d@a.example"):format(i)))
        end
        store:put(entry("single", { sender = "one@example.org" }), "octets", to "s@a.example")
        store:put(entry("urgent", { sender = "bulk@example.org", priority = 4 }), "octets", to "u@a.example")
        assert.same({ "u@a.example" }, addresses(store:claim("a.example", NOW, 1)))
        local first, second = store:claim("a.example", NOW, 3), store:claim("a.example", NOW, 3)
        local both = addresses(first)
        table.move(addresses(second), 1, #second, #both + 1, both)
        assert.matches("s@a.example", table.concat(both, " "), 1, true) -- the single one waits for one turn at most
      end)
    end)

    it("claims those whose alarm is over, whatever they wait for", function()
      with(function(store)
        local list = to "x@a.example"
        list[1].due = NOW + 900
        store:put(entry "m1", "octets", list)
        store:sleep("a.example", 900)
        assert.near(500, store:next(NOW), 1)
        assert.same({}, store:alarms(NOW + 499, 10))
        assert.same({ "x@a.example" }, addresses(store:alarms(NOW + 500, 10)))
        assert.same({}, store:alarms(NOW + 500, 10))
      end)
    end)
  end)
end

describe("a spool on disk", function()
  it("has everything back when it is opened again", function()
    local dir <close> = tmpdir.new()
    moonpost.run(function()
      local store = assert(disk.open(dir:join("spool"), core.worker()))
      local list = to("x@a.example", "y@b.example")
      list[1].params = { notify = { FAILURE = true }, orcpt = "x@old.example" }
      store:put(entry("m1", { tenant = "t", user = "u", params = { envid = "e" }, meta = { score = 3, list = { 1, "b" } } }), "octets", list)
      store:claim("a.example", NOW, 10)
      store:close()
      store = assert(disk.open(dir:join("spool"), core.worker()))
      assert.equal(2, #store:due(NOW, 10))
      local one = store:claim("a.example", NOW, 10)[1]
      assert.same({ notify = { FAILURE = true }, orcpt = "x@old.example" }, one.params)
      assert.same({ "m1", "a@example.org", "t", "u", { envid = "e" }, { score = 3, list = { 1, "b" } }, 6 },
        { one.message.id, one.message.sender, one.message.tenant, one.message.user, one.message.params, one.message.meta, one.message.size })
      store:close()
    end)
  end)

  -- Who was cancelled while a message was put in left it claimed by nobody, until the next start.
  it("leaves no claim to who was cancelled meanwhile", function()
    local dir <close> = tmpdir.new()
    moonpost.run(function()
      local store = assert(disk.open(dir:join("spool"), core.worker()))
      local changed, put = false, nil
      put = moonpost.spawn(function()
        core.worker():defer(function()
          put:cancel()
        end)
        store:put(entry "m1", "octets", to "x@a.example", true)
        changed = "in time"
      end)
      assert.is_false((pcall(put.join, put)) and changed)
      for _ = 1, 1000 do
        if store:due(NOW, 10)[1] then
          break
        end
        moonpost.sleep(0.005)
      end
      assert.same({ "x@a.example" }, addresses(store:claim("a.example", NOW, 10)))
      store:close()
    end)
  end)

  -- A message may wait longer for its turn at a site than a lease lasts.
  it("#thread lengthens what is held, again and again, and nothing that was given back", function()
    local dir <close> = tmpdir.new()
    moonpost.run(function()
      local one, other = assert(disk.open(dir:join("spool"), core.worker(), 0.3)), assert(disk.open(dir:join("spool"), core.worker()))
      local held = assert(one:put(entry "m1", "octets", to "x@a.example", true))
      assert(one:put(entry "m2", "octets", to "y@a.example"))
      one:release(one:claim("a.example", NOW, 10), 0.2)
      local seen = {}
      for _ = 1, 15 do -- 1.5 s: five leases
        moonpost.sleep(0.1)
        for _, each in ipairs(other:claim("a.example", NOW, 10)) do
          seen[#seen + 1] = each.address
        end
      end
      assert.same({ "y@a.example" }, seen)
      one:release(held)
      assert.same({ "x@a.example" }, addresses(other:claim("a.example", NOW, 10)))
      one:close()
      other:close()
    end)
  end)

  it("gives to others what somebody claimed who has closed it", function()
    local dir <close> = tmpdir.new()
    moonpost.run(function()
      local one, other = assert(disk.open(dir:join("spool"), core.worker())), assert(disk.open(dir:join("spool"), core.worker()))
      assert(one:put(entry "m1", "octets", to "x@a.example", true))
      assert(one:put(entry "m2", "octets", to "y@a.example"))
      assert.equal(1, #one:claim("a.example", NOW, 10))
      assert.same({}, other:claim("a.example", NOW, 10))
      one:close()
      assert.same({ "x@a.example", "y@a.example" }, addresses(other:claim("a.example", NOW, 10)))
      other:close()
    end)
  end)

  it("is one process's: another one is told which", function()
    local dir <close> = tmpdir.new()
    local script = dir:write("open.lua", ([[
      package.path, package.cpath = %q, %q
      local core = require "moonpost.core"
      local spool, why = core.spool(core.worker(), %q)
      print(spool and "open" or why)]]):format(package.path, package.cpath, dir:join("spool")))
    local store = assert(disk.open(dir:join("spool"), core.worker()))
    local result = process.run { arg[-1] or "lua5.4", script, timeout = 20 }
    local pid = io.open("/proc/self/stat"):read("n")
    assert.matches(("/spool: in use by process %d on [^ ]+, since "):format(pid), result.out)
    store:close()
    result = process.run { arg[-1] or "lua5.4", script, timeout = 20 }
    assert.equal("open\n", result.out)
  end)

  it("tells what is wrong with its folder", function()
    local dir <close> = tmpdir.new()
    dir:write("file", "")
    local store, err = disk.open(dir:join("file"), core.worker())
    assert.is_nil(store)
    assert.matches("Not a directory", tostring(err))
    store, err = disk.open(dir:join("no/such/place"), core.worker())
    assert.is_nil(store)
    assert.matches("No such file or directory", tostring(err))
  end)
end)
