local units = require "moonpost.units"

describe("moonpost.units", function()
  it("reads durations", function()
    for text, seconds in pairs {
      ["5m"] = 300, ["1h30m"] = 5400, ["500ms"] = 0.5, ["30"] = 30, ["1.5s"] = 1.5, ["2d"] = 172800, ["1w"] = 604800,
        ["0"] = 0,
    } do
      assert.equal(seconds, units.duration(text))
    end
    assert.equal(12.5, units.duration(12.5))
  end)

  it("refuses what is no duration, and says what is", function()
    for _, value in ipairs { "", "m", "5 m", "5y", "-5m", "5m!", "1e9", -1, 0 / 0, math.huge, {}, true } do
      local seconds, expected = units.duration(value)
      assert.is_nil(seconds)
      assert.matches("duration", expected)
    end
  end)

  it("reads sizes: KB is 1000, KiB 1024", function()
    for text, octets in pairs {
      ["50MB"] = 50000000, ["64KiB"] = 65536, ["1 GiB"] = 1073741824, ["100"] = 100, ["1.5kb"] = 1500, ["0"] = 0,
        ["7B"] = 7,
    } do
      assert.equal(octets, units.size(text))
    end
    assert.equal("integer", math.type(units.size("1.5KB")))
    assert.equal(10, units.size(10.7))
  end)

  it("refuses what is no size", function()
    for _, value in ipairs { "", "MB", "-1", "5 XB", "50MBs", -1, 0 / 0, 1e30, {}, "99999999999999999999" } do
      local octets, expected = units.size(value)
      assert.is_nil(octets, tostring(value))
      assert.matches("size", expected)
    end
  end)

  it("reads rates", function()
    assert.same({ count = 1000, seconds = 3600 }, units.rate("1000/h"))
    assert.same({ count = 5, seconds = 30 }, units.rate("5/30s"))
    for _, value in ipairs { "1000", "/h", "5/0", "5/x", 5 } do
      assert.is_nil(units.rate(value))
    end
  end)

  it("shows each as it would be written", function()
    for _, text in ipairs { "5m", "1h30m", "500ms", "0", "1.5s", "30d" } do
      assert.equal(text, units.show_duration(units.duration(text)))
    end
    for _, text in ipairs { "50MB", "64KiB", "1GiB", "1234" } do
      assert.equal(text, units.show_size(units.size(text)))
    end
    assert.equal("1000/h", units.show_rate(units.rate("1000/h")))
    assert.equal("5/30s", units.show_rate(units.rate("5/30s")))
  end)
end)
