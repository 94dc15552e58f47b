local raw = require "spec.support.raw"
local served = require "spec.support.served"

-- A guard says that a hook has been left, and by what: its own end or a cancellation.
local hooks = [[
  local function guard(hook)
    log.info("begun", { hook = hook })
    return setmetatable({}, { __close = function(_, err)
      log.info("left", { hook = hook, by = err and tostring(err) or "its end" })
    end })
  end
  local function wait_in(hook)
    server.on[hook] = function(session, subject)
      local localpart = subject and subject.localpart
      if not localpart or localpart == "wait" then
        local left <close> = guard(hook)
        pcall(moonpost.sleep, 60) -- a pcall cannot swallow it
        moonpost.sleep(60)
      end
    end
  end
  function server.on.disconnect(session, why)
    log.info("gone", { why = why })
  end
]]

describe("a peer that leaves before the final dot", function()
  for hook, commands in pairs {
    mail = { "MAIL FROM:<wait@example.net>" },
    rcpt = { "MAIL FROM:<a@example.net>", "RCPT TO:<wait@example.org>" },
    data = { "MAIL FROM:<a@example.net>", "RCPT TO:<bob@example.org>", "DATA" },
  } do
    it("cancels the " .. hook .. " hook that waits", function()
      local house <close> = served.start { hooks = hooks .. ("wait_in %q\n"):format(hook) }
      local peer = raw.session(house.port.smtp)
      for i = 1, #commands - 1 do
        assert.matches("^250 ", peer:command(commands[i]))
      end
      peer:lines(commands[#commands])
      house:expect("begun hook=" .. hook)
      peer:leave(true)
      house:expect("left by=.*[Cc]ancelled.* hook=" .. hook)
      house:expect "gone why="
      assert.equal(1, house:count "left ")
      assert.same({}, house:mail("bob"))
    end)
  end

  it("is not cancelled by the end of its sending alone", function()
    local house <close> = served.start {
      hooks = hooks .. [[
        local go = false
        function server.on.rcpt(_, recipient)
          if recipient.localpart == "wait" then
            local left <close> = guard "rcpt"
            while not go do moonpost.sleep "1ms" end
          else
            go = true
          end
        end
      ]],
      options = 'early = "tolerate"',
    }
    local peer <close> = raw.session(house.port.smtp)
    peer:lines("MAIL FROM:<a@example.net>", "RCPT TO:<wait@example.org>", "QUIT")
    peer:finish()
    house:expect("begun hook=rcpt")
    local other <close> = raw.session(house.port.smtp)
    other:command("MAIL FROM:<a@example.net>")
    other:command("RCPT TO:<go@example.org>")
    house:expect("left by=\"its end\" hook=rcpt")
    assert.matches("^250 [^\n]*\n250 [^\n]*\n221 [^\n]*\n$", (peer:rest()))
  end)

  it("leaves nothing of the message that it was sending", function()
    local house <close> = served.start { hooks = hooks }
    for _, abort in ipairs { false, true } do
      local peer = raw.session(house.port.smtp)
      peer:envelope("a@example.net", "bob@example.org")
      peer:send("Subject: half\r\n\r\n" .. ("x\r\n"):rep(200000))
      peer:leave(abort)
      house:expect "gone why="
    end
    assert.same({}, house.dir:list("mail"))
    assert.equal(0, house:count("message accepted"))
  end)
end)

describe("a peer that leaves after the final dot", function()
  for _, abort in ipairs { false, true } do
    local how = abort and ", by a reset" or ", politely"

    it("has its message delivered once: the hook goes on to its end" .. how, function()
      local house <close> = served.start {
        hooks = hooks .. [[
          local go = false
          function server.on.mail(_, sender)
            go = go or sender.localpart == "go"
          end
          function server.on.message(session, message)
            local left <close> = guard "message"
            while not go do moonpost.sleep "1ms" end
            log.info("peer", { alive = session.alive })
            message:deliver { maildir = dir .. "/mail/%{mailbox}" }
          end
        ]],
      }
      local peer = raw.session(house.port.smtp)
      peer:envelope("a@example.net", "bob@example.org")
      peer:lines("Subject: whole", "", "Hello.", ".")
      house:expect("begun hook=message")
      peer:leave(abort)
      local other <close> = raw.session(house.port.smtp)
      other:command("MAIL FROM:<go@example.net>")
      house:expect('left by="its end" hook=message')
      house:expect("message accepted")
      house:expect("gone why=")
      assert.equal("Subject: whole\n\nHello.\n", (served.strip(house:take("bob"))))
      assert.equal(1, house:count("message accepted"))
    end)

    it("has its message given to a program to the end" .. how, function()
      local house <close> = served.start {
        hooks = hooks .. [[
          function server.on.message(_, message)
            -- says that it has begun by its first file, and goes on when there is a second
            message:deliver { pipe = { "/bin/sh", "-c",
              'cat >"$0/first"; until [ -e "$0/go" ]; do sleep 0.01; done; cat "$0/first" >>"$0/second"', dir } }
            log.info("planned")
          end
        ]],
      }
      local peer = raw.session(house.port.smtp)
      peer:envelope("a@example.net", "bob@example.org")
      peer:lines("Subject: piped", "", "Hello.", ".")
      house:expect("planned")
      peer:leave(abort)
      house.dir:write("go", "")
      house:expect("message accepted .*by=pipe")
      house:expect("gone why=")
      local _, count = house.dir:read("second"):gsub("Subject: piped", "")
      assert.equal(1, count)
      assert.equal(1, house:count("message accepted"))
    end)
  end

  it("is not cancelled either when its own deliveries run in the hook", function()
    local house <close> = served.start {
      hooks = hooks .. [[
        function server.on.message(session, message)
          message:deliver { pipe = { "/bin/sh", "-c", 'cat >>"$0/$1"; until [ -e "$0/go" ]; do sleep 0.01; done', dir,
            "%{mailbox}" } }
          moonpost.spawn(function()
            while session.alive do moonpost.sleep "1ms" end
            log.info("noticed")
          end)
          local rows = message:perform()
          log.info("performed", { rows = #rows, ok = rows[1].ok and rows[2].ok, alive = session.alive })
        end
      ]],
    }
    local peer = raw.session(house.port.smtp)
    peer:envelope("a@example.net", "bob@example.org", "carol@example.org")
    peer:lines("Subject: performed", "", "Hello.", ".")
    peer:leave(true)
    house:expect("noticed")
    house.dir:write("go", "")
    house:expect("performed alive=false ok=true rows=2")
    house:expect("message accepted")
    house:expect("gone why=")
    assert.equal(1, select(2, house.dir:read("bob"):gsub("Subject", "")))
    assert.equal(1, select(2, house.dir:read("carol"):gsub("Subject", "")))
  end)
end)
