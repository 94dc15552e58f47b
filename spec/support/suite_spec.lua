local suite = require "spec.support.suite"

local function judge(check, reason)
  local tally = { name = "a", passed = 0, total = 0, argued = {}, failed = {} }
  return suite.judge({ name = "one", check = check }, reason, tally), tally
end

describe("spec.support.suite", function()
  it("passes a case that agrees", function()
    local wrong, tally = judge(function() return true end)
    assert.is_nil(wrong)
    assert.equal("a 1/1\n", suite.summary(tally))
  end)

  it("passes a case that differs for a reason, and counts it as no pass", function()
    local wrong, tally = judge(function() return false, "other" end, "we know better")
    assert.is_nil(wrong)
    assert.equal("a 0/1\n  1: we know better (one)\n", suite.summary(tally))
  end)

  it("fails a case that differs without a reason", function()
    local wrong, tally = judge(function() return false, "other\0" end)
    assert.equal("other\0", wrong)
    assert.equal("a 0/1\n  NOT EXPLAINED: one: other\\x00\n", suite.summary(tally))
  end)

  it("fails a reason that holds no longer", function()
    local wrong, tally = judge(function() return true end, "we know better")
    assert.matches("agrees, though", wrong)
    assert.matches("^a 1/1\n  NOT EXPLAINED", suite.summary(tally))
  end)

  it("fails a case that raises, whatever the reason", function()
    local wrong, tally = judge(function() error "broken" end, "we know better")
    assert.matches("broken", wrong)
    assert.matches("^a 0/1\n  NOT EXPLAINED", suite.summary(tally))
  end)

  it("names a reason once for all its cases", function()
    local tally = { name = "a", passed = 0, total = 0, argued = {}, failed = {} }
    for _, name in ipairs { "one", "two", "three" } do
      suite.judge({ name = name, check = function() return nil end }, name == "two" and "else" or "same", tally)
    end
    assert.equal("a 0/3\n  2: same (one, three)\n  1: else (two)\n", suite.summary(tally))
  end)
end)
