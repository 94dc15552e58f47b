local shared = require "moonpost.shared"
local task = require "moonpost.task"

describe("moonpost.shared", function()
  before_each(function()
    shared.isolate()
  end)

  it("keeps strings, numbers and booleans, and keeps integers integers", function()
    local t = shared "values"
    for _, value in ipairs { "text", "", "a\0b", 7, 7.5, math.mininteger, true, false, ("x"):rep(100000) } do
      t:set("key", value)
      local got = t:get "key"
      assert.equal(value, got)
      assert.equal(math.type(value), math.type(got))
    end
    assert.is_nil(t:get "other")
  end)

  it("is the same table for who asks with the same name", function()
    shared("one"):set("key", 1)
    assert.equal(1, shared("one"):get "key")
    assert.is_nil(shared("two"):get "key")
  end)

  it("forgets a key that is set to nil, or deleted, or whose time is over", function()
    local t = shared "gone"
    t:set("a", 1)
    t:set("a", nil)
    assert.is_nil(t:get "a")
    t:set("b", 1)
    assert.is_true(t:delete "b")
    assert.is_false(t:delete "b")
    t:set("c", 1, 0.01)
    t:set("d", 1, "1h")
    assert.equal(2, t:count())
    task.run(task.sleep, 0.02)
    assert.is_nil(t:get "c")
    assert.equal(1, t:count())
    t:clear()
    assert.equal(0, t:count())
  end)

  it("adds only what is not there", function()
    local t = shared "marks"
    assert.is_true(t:add("key", "first", "1h"))
    assert.is_false(t:add("key", "second"))
    assert.equal("first", t:get "key")
  end)

  it("counts", function()
    local t = shared "counts"
    assert.equal(1, t:incr "n")
    assert.equal(3, t:incr("n", 2))
    assert.equal("integer", math.type(t:get "n"))
    assert.equal(2.5, t:incr("n", -0.5))
    t:set("text", "x")
    assert.has_error(function()
      t:incr "text"
    end)
  end)

  it("gives what a rate allows at once, and says how long to wait for more", function()
    local t = shared "rates"
    for _ = 1, 10 do
      assert.is_true(t:rate("key", "10/h"))
    end
    local ok, wait = t:rate("key", "10/h")
    assert.is_false(ok)
    assert.is_true(wait > 350 and wait <= 360)
    assert.is_true(t:rate("other", "10/h", 10))
  end)

  it("forgets the oldest at its ceiling", function()
    local t = shared("small", { entries = 2 })
    t:set("a", 1)
    t:set("b", 2)
    t:set("c", 3)
    assert.is_nil(t:get "a")
    assert.equal(3, t:get "c")
    assert.equal(2, t:count())
  end)

  it("outlives the handle", function()
    shared("kept"):set("key", 1)
    collectgarbage()
    collectgarbage()
    assert.equal(1, shared("kept"):get "key")
  end)

  it("raises for the caller's mistakes, at the caller's line", function()
    local t = shared "wrong"
    local mistakes = {
      { "name", function() shared "" end },
      { "unknown option", function() shared("x", { size = 1 }) end },
      { "the key is a string", function() t:get(1) end },
      { "at most 4096", function() t:get(("x"):rep(4097)) end },
      { "got a table", function() t:set("key", {}) end },
      { "time to live", function() t:set("key", 1, "soon") end },
      { "time to live", function() t:set("key", 1, 0) end },
      { "a number expected", function() t:incr("key", "1") end },
      { "a rate", function() t:rate("key", 10) end },
      { "at least 1", function() t:rate("key", "0/h") end },
      { "cost", function() t:rate("key", "10/h", 11) end },
      { "too large", function() t:set("key", ("x"):rep(2 ^ 23)) end },
    }
    for _, row in ipairs(mistakes) do
      local ok, err = pcall(row[2])
      assert.is_false(ok)
      assert.matches(row[1], err, 1, true)
      assert.matches("shared_spec.lua:%d+:", err)
    end
  end)
end)

describe("moonpost.once", function()
  local moonpost = require "moonpost"

  it("runs a function once in a process and returns what it returned", function()
    assert.same({ true, "a", "b" }, { moonpost.once("spec: first", function() return "a", "b" end) })
    assert.same({ false }, { moonpost.once("spec: first", error) })
  end)

  it("lets another try when it raised", function()
    assert.has_error(function()
      moonpost.once("spec: second", function() error("broken", 0) end)
    end, "broken")
    assert.is_true(moonpost.once("spec: second", function() end))
  end)

  it("says in a plain script that this is the only worker", function()
    assert.same({ id = 1, count = 1 }, moonpost.worker)
  end)
end)
