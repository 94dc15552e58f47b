local core = require "moonpost.core"
local task = require "moonpost.task"
local Error = require "moonpost.error"

describe("moonpost.task: waiting", function()
  it("takes times as people write them, and says what it takes", function()
    task.sleep "1ms"
    local done, err = task.timeout("5ms", task.sleep, "1m")
    assert.is_nil(done)
    assert.equal("timeout", err.kind)
    assert.error_matches(function() task.sleep "soon" end, "sleep: a duration such as .* got soon")
    assert.error_matches(function() task.timeout(-1, print) end, "timeout: a duration such as ")
  end)

  it("sleeps on the main coroutine by running the loop", function()
    local worker = core.worker()
    local before = worker:now()
    task.sleep(0.02)
    assert.is_true(worker:now() - before >= 0.019)
  end)

  it("runs a function as a task and returns its results, nils included", function()
    local n = select("#", task.run(function(a, b)
      task.sleep(0.001)
      return a, nil, b, nil
    end, 1, 2))
    assert.equal(4, n)
  end)

  it("raises a task's error where it is joined", function()
    local ok, err = pcall(task.run, function()
      task.sleep(0.001)
      error("inside", 0)
    end)
    assert.is_false(ok)
    assert.matches("inside", err)
  end)

  it("lets two tasks wait at once", function()
    local worker = core.worker()
    local before = worker:now()
    task.run(function()
      local a = task.spawn(task.sleep, 0.05)
      local b = task.spawn(task.sleep, 0.05)
      a:join()
      b:join()
    end)
    assert.is_true(worker:now() - before < 0.095)
  end)

  it("ignores the loser of a race between two wake-ups", function()
    local order = {}
    task.run(function()
      local worker = task.worker()
      order[#order + 1] = task.park(function(wake)
        worker:timer(0.001, function()
          wake("first")
        end)
        worker:timer(0.002, function()
          wake("second")
        end)
      end)
      task.sleep(0.005) -- a stale wake-up would end this wait with "second"
      order[#order + 1] = "slept"
    end)
    assert.same({ "first", "slept" }, order)
  end)

  it("survives a wake-up that comes before the wait has begun", function()
    assert.equal(
      "early",
      task.run(function()
        return task.park(function(wake)
          wake("early")
        end)
      end)
    )
  end)

  it("says so when it cannot wait: in a foreign coroutine, a sort comparator, a gsub callback", function()
    task.run(function()
      local ok, err = coroutine.resume(coroutine.create(task.sleep), 0.001)
      assert.is_false(ok)
      assert.matches("cannot pass it on", err)
      ok, err = pcall(table.sort, { 3, 2, 1 }, function(a, b)
        task.sleep(0.001)
        return a < b
      end)
      assert.is_false(ok)
      assert.matches("cannot wait here", err)
      ok, err = pcall(string.gsub, "abc", ".", function()
        task.sleep(0.001)
      end)
      assert.is_false(ok)
      assert.matches("cannot wait here", err)
    end)
  end)

  it("says that nothing can end a wait instead of hanging", function()
    local ok, err = pcall(task.park, function() end)
    assert.is_false(ok)
    assert.matches("nothing is left", err)
  end)
end)

describe("moonpost.task: cancelling", function()
  it("raises from the wait and from every later one, so that a pcall cannot swallow it", function()
    local seen = {}
    task.run(function()
      local victim = task.spawn(function()
        for i = 1, 3 do
          local ok, err = pcall(task.sleep, 10)
          seen[i] = ok == false and err.kind
        end
      end)
      task.sleep(0.002)
      victim:cancel()
      pcall(victim.join, victim)
    end)
    assert.same({ "cancelled", "cancelled", "cancelled" }, seen)
  end)

  it("closes what is marked <close>", function()
    local closed
    task.run(function()
      local victim = task.spawn(function()
        local _ <close> = setmetatable({}, {
          __close = function()
            closed = true
          end,
        })
        task.sleep(10)
      end)
      task.sleep(0.002)
      victim:cancel()
      pcall(victim.join, victim)
    end)
    assert.is_true(closed)
  end)

  it("reaches a task that has not begun", function()
    local ran = false
    task.run(function()
      local victim = task.spawn(function()
        ran = true
      end)
      victim:cancel()
      assert.is_false((pcall(victim.join, victim)))
    end)
    assert.is_false(ran)
  end)
end)

describe("moonpost.task: time limits", function()
  it("returns nil and an error of kind timeout", function()
    local result, err = task.timeout(0.005, task.sleep, 10)
    assert.is_nil(result)
    assert.equal("timeout", err.kind)
    assert.is_true(Error.is(err))
  end)

  it("ends every wait inside, swallowed or not", function()
    local waits = 0
    local _, err = task.run(task.timeout, 0.005, function()
      for _ = 1, 3 do
        pcall(task.sleep, 10)
        waits = waits + 1
      end
      task.sleep(10)
    end)
    assert.equal("timeout", err.kind)
    assert.equal(3, waits)
  end)

  it("leaves what is fast enough alone, and later waits too", function()
    assert.equal(
      "ok",
      task.run(function()
        local result = task.timeout(0.05, function()
          task.sleep(0.001)
          return "ok"
        end)
        task.sleep(0.002)
        return result
      end)
    )
  end)

  it("nests: the inner limit is the inner one's", function()
    local inner, outer = task.run(function()
      return task.timeout(5, function()
        local result, err = task.timeout(0.002, task.sleep, 10)
        return result == nil and err.kind, "outer goes on"
      end)
    end)
    assert.equal("timeout", inner)
    assert.equal("outer goes on", outer)
  end)
end)

describe("moonpost.task: hooks", function()
  local worker = core.virtual_worker()

  it("gives the results of a hook that does not wait at once", function()
    local ok, a, b = task.hook(worker, 1, nil, function(x, y)
      return x + y, "b"
    end, 1, 2)
    assert.same({ true, 3, "b" }, { ok, a, b })
  end)

  it("gives an error with its traceback", function()
    local ok, err = task.hook(worker, 1, nil, function()
      local t = nil
      return t.x
    end)
    assert.is_false(ok)
    assert.matches("attempt to index a nil value", err)
    assert.matches("traceback", err)
  end)

  it("calls finish later for one that waits, on the clock the test turns", function()
    local got
    local ok, waiting = task.hook(worker, 60, function(...)
      got = { ... }
    end, function(text)
      task.sleep(5)
      return 450, text
    end, "later")
    assert.is_nil(ok)
    assert.is_table(waiting)
    assert.same({ "sleep(5)" }, task.waits(worker))
    worker:advance(4)
    assert.is_nil(got)
    worker:advance(1)
    assert.same({ true, 450, "later" }, got)
    assert.same({}, task.waits(worker))
  end)

  it("ends one that waits for longer than its limit", function()
    local got
    task.hook(worker, 3, function(...)
      got = { ... }
    end, function()
      pcall(task.sleep, 100)
      task.sleep(100)
    end)
    worker:advance(3)
    assert.is_false(got[1])
    assert.equal("timeout", got[2].kind)
  end)

  it("does not grow: a coroutine is used again", function()
    local function nothing() end
    task.hook(worker, 1, nil, nothing)
    collectgarbage()
    collectgarbage("stop")
    local before = collectgarbage("count")
    for _ = 1, 1000 do
      task.hook(worker, 1, nil, nothing)
    end
    local after = collectgarbage("count")
    collectgarbage("restart")
    assert.is_true(after - before < 1, "1000 hooks took " .. (after - before) .. " KB")
  end)
end)

describe("moonpost.task: coroutines of a state of our own", function()
  it("pass a wait on, so that a generator may wait", function()
    local resume, wrap = coroutine.resume, coroutine.wrap
    finally(function()
      coroutine.resume, coroutine.wrap = resume, wrap
      package.loaded["moonpost.task"] = task
    end)
    package.loaded["moonpost.task"] = nil
    local own = require "moonpost.task"
    own.install()
    local got = own.run(function()
      local list = {}
      for value in coroutine.wrap(function()
        for i = 1, 3 do
          own.sleep(0.001)
          coroutine.yield(i)
        end
      end) do
        list[#list + 1] = value
      end
      return list
    end)
    assert.same({ 1, 2, 3 }, got)
  end)
end)

describe("moonpost.core: the watchdog", function()
  it("interrupts Lua that runs on without waiting, pcall or not, and lets the next call run", function()
    local worker = core.worker()
    core.watchdog(0.1)
    finally(function()
      core.watchdog(0)
    end)
    local result, next_ran
    worker:timer(0, function()
      result = { task.hook(worker, 5, nil, function()
        while true do
          pcall(function()
            while true do
            end
          end)
        end
      end) }
    end)
    worker:timer(0.01, function()
      next_ran = task.hook(worker, 5, nil, function()
        return "fine"
      end)
    end)
    while not next_ran do
      worker:turn(true)
    end
    assert.is_false(result[1])
    assert.matches("ran too long without waiting", result[2])
    assert.is_true(next_ran)
  end)
end)
