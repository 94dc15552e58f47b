local loader = require "moonpost.loader"
local task = require "moonpost.task"

describe("moonpost.loader: require", function()
  local count

  -- A module that counts how often it is loaded.
  local function provide(name, load)
    package.preload[name] = function(...)
      count = count + 1
      return load(...)
    end
  end

  before_each(function()
    count = 0
  end)

  after_each(function()
    for _, name in ipairs { "spec.slow", "spec.loop", "spec.broken", "spec.nothing" } do
      package.preload[name], package.loaded[name] = nil, nil
    end
  end)

  it("lets a module wait while it is loaded", function()
    provide("spec.slow", function()
      task.sleep(0.001)
      return { done = true }
    end)
    assert.is_true(task.run(function()
      return loader.require("spec.slow").done
    end))
    assert.equal(package.loaded["spec.slow"], loader.require "spec.slow")
    assert.equal(1, count)
  end)

  it("loads once for two tasks that ask at the same time", function()
    provide("spec.slow", function()
      task.sleep(0.001)
      return {}
    end)
    local one, two = task.spawn(loader.require, "spec.slow"), task.spawn(loader.require, "spec.slow")
    assert.equal((one:join()), (two:join()))
    assert.equal(1, count)
  end)

  it("lets the second one try when the first one fails", function()
    provide("spec.broken", function()
      task.sleep(0.001)
      if count == 1 then
        error "not now"
      end
      return "fine"
    end)
    local one, two = task.spawn(loader.require, "spec.broken"), task.spawn(loader.require, "spec.broken")
    local ok, err = pcall(one.join, one)
    assert.is_false(ok)
    assert.matches("not now", err)
    assert.equal("fine", (two:join()))
  end)

  it("says so when a module requires itself", function()
    provide("spec.loop", function()
      return loader.require "spec.loop"
    end)
    local ok, err = pcall(loader.require, "spec.loop")
    assert.is_false(ok)
    assert.matches("requires itself", err)
  end)

  it("finds what Lua's finds, and says where it looked when there is nothing", function()
    provide("spec.nothing", function() end)
    assert.is_true((loader.require "spec.nothing"))
    local file, where = loader.require "spec.support.doc_examples"
    assert.is_table(file)
    assert.truthy(where == nil or where:find("doc_examples.lua", 1, true))
    local ok, err = pcall(function()
      local value = loader.require "spec.not there"
      return value
    end)
    assert.is_false(ok)
    assert.matches("^%.?/?spec/lua/loader_spec.lua:%d+: module 'spec.not there' not found:\n\tno field package.preload", err)
  end)
end)
