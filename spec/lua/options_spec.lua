local options = require "moonpost.options"

describe("moonpost.options", function()
  local schema = {
    { name = "name", type = "string", default = "x", doc = "a name" },
    { name = "wait", type = "duration", default = "5m" },
    { name = "size", type = "size", default = "1MB" },
    { name = "twice", type = "size", default = function(values) return values.size * 2 end },
    { name = "rate", type = "rate" },
    { name = "count", type = "integer", default = 3, check = function(n) return n > 9 and "at most 9" or nil end },
    { name = "flag", type = "boolean", default = false },
    { name = "how", type = "choice", values = { "refuse", "accept" }, default = "refuse" },
    { name = "list", type = "strings", default = {} },
    { name = "inner", fields = { { name = "deep", type = "integer", default = 1 } } },
  }

  it("fills in defaults, those that depend on others too", function()
    local values = options.resolve(schema, {}, "p.lua:1")
    assert.same({
      name = "x", wait = 300, size = 1000000, twice = 2000000, count = 3, flag = false, how = "refuse", list = {},
      inner = { deep = 1 },
    }, values)
  end)

  it("takes what is given, in the units of people", function()
    local values = options.resolve(schema, {
      wait = "10s", size = "2KiB", rate = "5/s", flag = true, how = "accept", list = "one", inner = { deep = 2 },
    }, "p.lua:1")
    assert.equal(10, values.wait)
    assert.equal(2048, values.size)
    assert.equal(4096, values.twice)
    assert.same({ count = 5, seconds = 1 }, values.rate)
    assert.same({ "one" }, values.list)
    assert.equal(2, values.inner.deep)
  end)

  it("lists every option with its value and where that came from", function()
    local _, rows = options.resolve(schema, { wait = "90s", inner = { deep = 7 } }, "p.lua:1", "top.")
    local by = {}
    for i, row in ipairs(rows) do
      by[row.option] = row
      row.at = i
    end
    assert.same({ "1m30s", "p.lua:1" }, { by["top.wait"].value, by["top.wait"].source })
    assert.same({ "7", "p.lua:1" }, { by["top.inner.deep"].value, by["top.inner.deep"].source })
    assert.same({ '"x"', "default", "a name" }, { by["top.name"].value, by["top.name"].source, by["top.name"].doc })
    assert.same({ "none", "default" }, { by["top.rate"].value, by["top.rate"].source })
    assert.equal(1, by["top.name"].at)
  end)

  for name, case in pairs {
    ["an unknown name, with the nearest"] = { { nmae = 1 }, 'unknown option "nmae" (did you mean "name"?)' },
    ["an unknown name inside"] = { { inner = { dep = 1 } }, 'unknown option "inner.dep" (did you mean "deep"?)' },
    ["a name that is no string"] = { { [3] = "x" }, 'unknown option "3"' },
    ["a wrong type"] = { { name = 3 }, "name: a string expected, got 3" },
    ["a duration that is none"] = { { wait = "soon" },
      'wait: a duration such as "5m", "1h30m" or a number of seconds expected, got "soon"' },
    ["a table where there is none"] = { { inner = 3 }, "inner: a table expected, got 3" },
    ["a choice that is none"] = { { how = "refues" },
      'how: one of "refuse", "accept" expected, got "refues" (did you mean "refuse"?)' },
    ["a list with other things in it"] = { { list = { "a", 2 } }, "list: a list of strings expected, got a table" },
    ["a list with names"] = { { list = { a = "b" } }, "list: a list of strings expected, got a table" },
    ["a negative count"] = { { count = -1 }, "count: a whole number, 0 or more expected, got -1" },
    ["what a check refuses"] = { { count = 10 }, "count: at most 9" },
    ["true where a number is"] = { { count = true }, "count: a whole number, 0 or more expected, got a boolean" },
  } do
    it("refuses " .. name, function()
      local values, why = options.resolve(schema, case[1], "p.lua:1")
      assert.is_nil(values)
      assert.equal(case[2], why)
      assert.same({ nil, case[2] }, { options.values(schema, case[1]) })
    end)
  end

  it("gives the values alone where nobody is shown them", function()
    local given = { count = 3 }
    assert.same((options.resolve(schema, given, "p.lua:1")), (options.values(schema, given)))
  end)

  it("names places", function()
    local function here()
      local place = options.place(2) -- no tail call: that would take this function off the stack
      return place
    end
    assert.equal("spec/lua/options_spec.lua:" .. debug.getinfo(1, "l").currentline, here())
    assert.matches("options_spec.lua:%d+$", options.place_of(here))
    assert.equal("C", options.place_of(print))
  end)
end)
