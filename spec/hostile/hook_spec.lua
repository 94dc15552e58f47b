local raw = require "spec.support.raw"
local served = require "spec.support.served"

-- Each fault is asked for by the local part of the sender, in the hook that the recipient's local part names.
local hooks = [[
  local faults = {
    raises = function() error "a mistake of the policy" end,
    indexes = function() return nil .. "x" end,
    raises_a_table = function() error { what = "ever" } end,
    loops = function() while true do end end,
    loops_in_pcall = function() while true do pcall(function() while true do end end) end end,
    allocates = function() local all = {} while true do all[#all + 1] = ("x"):rep(100000) .. #all end end,
    recurses = function() local function deep() return 1 + deep() end return deep() end,
    never_ends = function() moonpost.sleep(3600) end,
    nonsense = function() return "nonsense" end,
    no = function() return false end,
    nothing_and_why = function() return nil, "could not look it up" end,
    table = function() return {} end,
    code = function() return 99, "5.0.0", "no such code" end,
    other_class = function() return 550, "4.0.0", "the classes differ" end,
    line_break = function() return 550, "5.0.0", "two\r\n250 lines" end,
  }
  local function fault_of(sender)
    return faults[sender.localpart] or function() end
  end
  function server.on.mail(session, sender)
    session.data.fault = fault_of(sender)
  end
  function server.on.rcpt(session, recipient)
    if recipient.localpart == "rcpt" then return session.data.fault() end
  end
  function server.on.data(session)
    if session.data.hook == "data" then return session.data.fault() end
  end
  function server.on.message(session, message)
    message:deliver { maildir = dir .. "/mail/%{mailbox}" }
    if message.recipients[1].localpart == "message" then return session.data.fault() end
  end
  function server.on.disconnect(session, why)
    log.info("gone", { why = why })
  end
]]

-- The session that met the fault goes on, and another one is served.
local function serves_on(house, peer)
  assert.matches("^250 ", peer:command("RSET"))
  for _, each in ipairs { peer, raw.session(house.port.smtp) } do
    each:envelope("fine@example.net", "bob@example.org")
    assert.matches("^250 ", each:command("Subject: fine", "", "."))
    house:take("bob")
    assert.matches("^221 ", each:command("QUIT"))
  end
end

describe("a hook that", function()
  local house

  setup(function()
    house = served.start {
      hooks = hooks,
      options = 'limits = { cpu_time = "100ms", hook_time = "200ms", message_time = "200ms" }',
    }
  end)

  teardown(function()
    house:close()
  end)

  local cases = {
    { "raises", "a mistake of the policy", trace = true },
    { "indexes", "attempt to concatenate a nil value", trace = true },
    { "raises_a_table", "table" },
    { "loops", "interrupted", trace = true },
    { "loops_in_pcall", "interrupted", trace = true },
    { "never_ends", "longer than 0.2 s" },
    { "nonsense", "nonsense" },
    { "no", "false" },
    { "nothing_and_why", "could not look it up" },
    { "table", "table" },
    { "code", "99" },
    { "other_class", "class of the enhanced" },
    { "line_break", "control" },
  }

  for _, case in ipairs(cases) do
    local name, logged = case[1], case[2]
    for _, hook in ipairs { "rcpt", "message" } do
      it(name:gsub("_", " ") .. ", in " .. hook .. ", means 451 and a line in the log, and the server serves on", function()
        local peer <close> = raw.session(house.port.smtp)
        assert.matches("^250 ", peer:command("MAIL FROM:<" .. name .. "@example.net>"))
        local reply = peer:command("RCPT TO:<" .. hook .. "@example.org>")
        if hook == "message" then
          assert.matches("^250 ", reply)
          assert.matches("^354 ", peer:command("DATA"))
          reply = peer:command("Subject: x", "", "body", ".")
        end
        assert.matches("^451 4%.3%.0 [^\n]*$", reply)
        local line = house:expect("^.* error .* hook=" .. hook .. " .*$")
        assert.matches("policy.lua:%d+", line)
        assert.is_truthy(line:find(logged, 1, true), line)
        if case.trace then
          house:expect("^ +| stack traceback:")
        end
        assert.same({}, house:mail("message"))
        serves_on(house, peer)
      end)
    end
  end

end)

describe("a hook that takes more memory than there is", function()
  for fault, logged in pairs { allocates = "not enough memory", recurses = "stack overflow" } do
    it(fault .. " means 451, and the server serves on", function()
      local house <close> = served.start { hooks = hooks, options = 'limits = { cpu_time = "20s", memory = "128MiB" }' }
      local peer <close> = raw.session(house.port.smtp)
      peer:command("MAIL FROM:<" .. fault .. "@example.net>")
      assert.matches("^451 4%.3%.0 ", peer:command("RCPT TO:<rcpt@example.org>"))
      assert.is_truthy(house:expect("^.* error .*hook=rcpt.*$"):find(logged, 1, true))
      serves_on(house, peer)
    end)
  end
end)

describe("a hook whose fault is in", function()
  it("connect means 451 and the end of the session, and the next one is served", function()
    local house <close> = served.start {
      hooks = [[
        local first = true
        function server.on.connect()
          if first then first = false error "a mistake at the door" end
        end
      ]],
    }
    local peer <close> = raw.connect(house.port.smtp)
    assert.matches("^451 ", peer:read())
    assert.equal("", (peer:rest()))
    house:expect("error .*a mistake at the door")
    local other <close> = raw.session(house.port.smtp)
    assert.matches("^221 ", other:command("QUIT"))
  end)

  it("a hook without a verdict is logged, and changes nothing", function()
    local house <close> = served.start {
      hooks = [[
        function server.on.reset() error "a mistake in reset" end
        function server.on.quit() error "a mistake in quit" end
        function server.on.disconnect() error "a mistake in disconnect" end
      ]],
    }
    local peer <close> = raw.session(house.port.smtp)
    assert.matches("^250 ", peer:command("MAIL FROM:<a@example.net>"))
    assert.matches("^250 ", peer:command("RSET"))
    house:expect("a mistake in reset")
    assert.matches("^221 ", peer:command("QUIT"))
    house:expect("a mistake in quit")
    peer:leave()
    house:expect("a mistake in disconnect")
  end)
end)
