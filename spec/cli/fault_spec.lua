local raw = require "spec.support.raw"
local served = require "spec.support.served"

local hooks = [[
local faults = {}

function faults.raise() error "broken" end
function faults.nonsense() return {} end
function faults.code() return 999, "no such code" end
function faults.loop() while true do end end
function faults.stubborn() while true do pcall(function() while true do end end) end end
function faults.spawned()
  moonpost.spawn(function() while true do end end)
  return 450, "4.7.1", "spawned"
end
function faults.grow() local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end end
function faults.double() local s = "x" while true do s = s .. s end end
function faults.recurse() local function f() return 1 + f() end f() end
function faults.slow() moonpost.sleep(1000) end
function faults.hidden() error(setmetatable({}, { __tostring = function() error "worse" end })) end

function server.on.rcpt(_, recipient)
  local fault = faults[recipient.mailbox]
  if fault then return fault() end
end
]]

local limits = [[ limits = { memory = "24MiB", cpu_time = "200ms", hook_time = "400ms" } ]]

local function start()
  return served.start { options = limits, hooks = hooks }
end

describe("moonpost serve: a hook that", function()
  -- { what, mailbox, reply }
  local cases = {
    { "raises", "raise" },
    { "returns nonsense", "nonsense" },
    { "returns a code that is none", "code" },
    { "loops for ever", "loop" },
    { "loops for ever and catches what is raised", "stubborn" },
    { "allocates without end", "grow" },
    { "doubles a string without end", "double" },
    { "calls itself without end", "recurse" },
    { "waits for too long", "slow" },
    { "raises what cannot be shown", "hidden" },
  }
  for _, case in ipairs(cases) do
    it(case[1] .. " is answered 451 and logged with its place; the session and the server go on", function()
      local house <close> = start()
      local peer <close> = raw.session(house.port.smtp)
      peer:command("MAIL FROM:<a@example.net>")
      for _ = 1, 3 do
        assert.matches("^451 4%.3%.0 ", peer:command("RCPT TO:<" .. case[2] .. "@example.org>"))
        house:expect("hook failed hook=rcpt .*policy.lua:%d+")
      end
      assert.matches("^250 ", peer:command("RCPT TO:<ann@example.org>"))
      peer:command("DATA")
      assert.matches("^250 ", peer:command("Subject: on", "", "It goes on.", "."))
      assert.matches("It goes on%.", house:take("ann"))
      local another <close> = raw.session(house.port.smtp)
      assert.matches("^250-", another.ehlo)
    end)
  end

  it("loops is told with the line of the loop and the limit's name", function()
    local house <close> = start()
    local peer <close> = raw.session(house.port.smtp)
    peer:command("MAIL FROM:<a@example.net>")
    peer:command("RCPT TO:<loop@example.org>")
    house:expect('error="[^"]*policy.lua:%d+: interrupted: [^"]*limits.cpu_time')
  end)

  it("spawns a task that loops for ever loses it, and nobody else notices", function()
    local house <close> = start()
    local peer <close> = raw.session(house.port.smtp)
    peer:command("MAIL FROM:<a@example.net>")
    assert.equal("450 4.7.1 spawned", peer:command("RCPT TO:<spawned@example.org>"))
    assert.matches("^250 ", peer:command("RCPT TO:<ann@example.org>"))
    house:expect("interrupted")
    local another <close> = raw.session(house.port.smtp)
    assert.matches("^250-", another.ehlo)
  end)
end)

describe("moonpost serve: a state that stays over its memory limit", function()
  it("is retired, and the policy loaded anew", function()
    local house <close> = served.start {
      options = [[ limits = { memory = "24MiB" } ]],
      hooks = [[
        local kept = {}
        function server.on.rcpt(session, recipient)
          while recipient.mailbox == "keep" do kept[#kept + 1] = ("x"):rep(1000) .. #kept end
          return 450, "4.7.1", "kept " .. #kept
        end]],
    }
    local peer <close> = raw.session(house.port.smtp)
    peer:command("MAIL FROM:<a@example.net>")
    assert.matches("^451 4%.3%.0 ", peer:command("RCPT TO:<keep@example.org>"))
    house:expect("over its memory limit")
    house:expect("policy loaded")
    local fresh <close> = raw.session(house.port.smtp)
    fresh:command("MAIL FROM:<a@example.net>")
    assert.equal("450 4.7.1 kept 0", fresh:command("RCPT TO:<ann@example.org>"))
    peer:rest()
  end)
end)

describe("moonpost serve: a wait where there is no task", function()
  it("is an error, not a loop without end", function()
    local house <close> = served.start {
      hooks = [[
        local worker = require("moonpost.core").worker()
        function server.on.rcpt()
          worker:defer(function()
            log.info(tostring(select(2, pcall(moonpost.sleep, 1))))
          end)
          return 450, "4.7.1", "later"
        end]],
    }
    local peer <close> = raw.session(house.port.smtp)
    peer:command("MAIL FROM:<a@example.net>")
    assert.equal("450 4.7.1 later", peer:command("RCPT TO:<ann@example.org>"))
    house:expect("cannot wait; use moonpost.spawn")
    assert.equal("450 4.7.1 later", peer:command("RCPT TO:<ann@example.org>"))
  end)
end)
