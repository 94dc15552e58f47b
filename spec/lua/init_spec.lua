local moonpost = require "moonpost"
local wired = require "spec.support.wired"

describe("moonpost", function()
  after_each(wired.release_log)

  it("has every part a script may name", function()
    assert.is_function(moonpost.server)
    assert.is_function(moonpost.run)
    assert.is_function(moonpost.spawn)
    assert.is_function(moonpost.sleep)
    assert.is_function(moonpost.timeout)
    assert.is_function(moonpost.log.info)
    assert.equal("moonpost.Reply", getmetatable(moonpost.Reply(550, "No")).__name)
    assert.equal("moonpost.Error", getmetatable(moonpost.Error("x", "y")).__name)
    assert.is_not_nil(moonpost.shared)
    assert.is_string(moonpost.version)
    assert.is_nil(moonpost.nothing)
  end)

  it("raises mistakes in moonpost.server at the script's line", function()
    local line = debug.getinfo(1, "l").currentline + 1
    local ok, err = pcall(function() moonpost.server { domain = "x" } end)
    assert.is_false(ok)
    assert.equal(
      ('spec/lua/init_spec.lua:%d: moonpost.server: unknown option "domain" (did you mean "domains"?)'):format(line),
        err)
  end)

  it("can be driven by a loop of the program's own", function()
    local done
    moonpost.spawn(function()
      moonpost.sleep(0.01)
      done = true
    end)
    assert.equal("integer", math.type(moonpost.poll_fd()))
    local turns = 0
    while not done do
      moonpost.step()
      turns = turns + 1
      local wait = moonpost.timeout()
      assert.is_true(wait == nil or wait <= 0.02)
    end
    assert.is_true(turns > 1)
  end)

  it("logs the error of a task that nobody joins", function()
    local lines = wired.catch_log("error")
    local task = moonpost.spawn(function() error("boom") end)
    while not task:finished() do
      moonpost.step()
    end
    assert.equal(1, #lines)
    assert.matches("task failed", lines[1])
    assert.matches("boom", lines[1])
    assert.matches("stack traceback", lines[1])
  end)
end)
