local wired = require "spec.support.wired"

describe("moonpost.message", function()
  after_each(wired.release_log)

  local OCTETS = table.concat({
    "Subject: first",
    "X-Long: a",
    "\tfolded value",
    "subject: second",
    "To: bob@example.org",
    "",
    "body",
    ".dot",
    "",
  }, "\r\n")

  -- Runs `fn` as the message hook; its error fails the spec.
  local function with(fn, octets, recipients, options)
    local given = { domains = { "example.org" }, relay = { networks = { "203.0.113.0/24" } } }
    for key, value in pairs(options or {}) do
      given[key] = value
    end
    local ok, err
    local house = wired.new(given, function(server)
      server.on.message = function(session, message)
        ok, err = pcall(fn, message, session)
        message:discard("spec")
      end
    end)
    local peer = house:session()
    local reply = peer:send("Ann+x@example.net", recipients or "bob@example.org", (octets or OCTETS):gsub("\r\n$",
      ""):gsub("\r\n%.", "\r\n.."))
    assert.is_not_nil(ok, "the hook did not run: " .. reply)
    assert(ok, err)
    return reply, house
  end

  it("has the envelope", function()
    with(function(m, session)
      assert.equal("Ann+x@example.net", m.sender.address)
      assert.equal("ann", m.sender.mailbox)
      assert.same({}, { m.params or nil })
      assert.equal(2, #m.recipients)
      assert.same({ "bob@example.org", "local", 1 }, { m.recipients[1].address, m.recipients[1].class,
        m.recipients[1].index })
      assert.same({ "x@example.com", "relay", 2 }, { m.recipients[2].address, m.recipients[2].class,
        m.recipients[2].index })
      assert.equal(session, m.session)
      assert.matches("^%w+$", m.id)
      assert.equal(#OCTETS, m.size)
      assert.is_false(m.eight_bit)
      assert.is_false(m.repaired)
      assert.equal(m.time, m.time)
      assert.is_true(m.time > 1e9)
    end, nil, { "bob@example.org", "x@example.com" })
  end)

  it("has the parameters of MAIL and RCPT", function()
    local params, notify
    local house = wired.new({ domains = { "example.org" }, extensions = { "DSN" } }, function(server)
      server.on.message = function(_, m)
        params, notify = m.params, m.recipients[1].params
        m:discard("spec")
      end
    end)
    local peer = house:session()
    peer:command("MAIL FROM:<a@b.c> BODY=8BITMIME ENVID=x")
    peer:command("RCPT TO:<bob@example.org> NOTIFY=NEVER")
    peer:command("DATA")
    peer:command("\r\nx\r\n.")
    assert.same({ body = "8BITMIME", envid = "x" }, params)
    assert.same({ notify = { NEVER = true } }, notify)
  end)

  it("has a table that stays with it", function()
    with(function(m)
      m.meta.score = 5
      assert.equal(5, m.meta.score)
    end)
  end)

  describe("octets", function()
    it("come as a string", function()
      with(function(m)
        assert.equal(OCTETS, m:octets())
        assert.equal(OCTETS, tostring(m))
      end)
    end)

    it("come in chunks, in any size", function()
      local large = OCTETS .. ("0123456789abcdef"):rep(60, "\r\n") .. ("x"):rep(700) .. "\r\n"
      for _, size in ipairs { 1, 7, 1024, 1 << 20 } do
        with(function(m)
          local parts = {}
          for chunk in m:chunks(size) do
            assert.is_true(#chunk <= size)
            parts[#parts + 1] = chunk
          end
          assert.equal(large, table.concat(parts))
        end, large)
      end
    end)

    it("stand as edited", function()
      with(function(m)
        m:prepend("X-Top", "1")
        m:remove("X-Long")
        local parts = {}
        for chunk in m:chunks(5) do
          parts[#parts + 1] = chunk
        end
        assert.equal(m:octets(), table.concat(parts))
        assert.matches("^X%-Top: 1\r\nSubject: first\r\nsubject: second\r\n", m:octets())
        assert.matches("\r\n\r\nbody\r\n%.dot\r\n$", m:octets())
        assert.equal(#OCTETS, m.size)
      end)
    end)
  end)

  describe("headers", function()
    it("are found by name whatever its case", function()
      with(function(m)
        local h = m.headers
        assert.equal("first", h:get("SUBJECT"))
        assert.equal("first", h.subject)
        assert.equal("first", h["Subject"])
        assert.same({ "first", "second" }, h:all("Subject"))
        assert.same({}, h:all("X-None"))
        assert.is_nil(h["X-None"])
        assert.equal(4, h:count())
        assert.equal(4, #h)
      end)
    end)

    it("come in order, folded ones unfolded, with their own octets", function()
      with(function(m)
        local names, raws = {}, {}
        for name, value, raw in m.headers:each() do
          names[#names + 1] = name .. "=" .. value
          raws[#raws + 1] = raw
        end
        assert.equal("Subject=first", names[1])
        assert.matches("^X%-Long=a%s+folded value$", names[2])
        assert.same({ "subject=second", "To=bob@example.org" }, { names[3], names[4] })
        assert.equal(OCTETS:match("^(.-\r\n)\r\n"), table.concat(raws))
        local count = 0
        for _ in pairs(m.headers) do
          count = count + 1
        end
        assert.equal(4, count)
      end)
    end)

    it("are changed by the message's verbs alone", function()
      with(function(m)
        assert.has_error(function() m.headers.subject = "x" end)
      end)
    end)

    it("are put on top, at the end, replaced and removed", function()
      with(function(m)
        m:prepend("X-A", "1")
        m:append("X-Z", "2")
        m:replace("Subject", "only")
        m:replace("X-New", "3")
        assert.equal(1, m:remove("to"))
        assert.equal(0, m:remove("to"))
        local list = {}
        for name, value in m.headers:each() do
          list[#list + 1] = name .. "=" .. value:gsub("%s+", " ")
        end
        assert.same({ "X-A=1", "Subject=only", "X-Long=a folded value", "X-Z=2", "X-New=3" }, list)
      end)
    end)

    it("are put, replaced and removed by position, and the others keep their octets", function()
      with(function(m)
        local raw = {}
        for _, _, octets in m.headers:each() do
          raw[#raw + 1] = octets
        end
        local count = #raw
        m:insert(2, "X-A", "1")
        m:insert(count + 2, "X-A", "2")
        assert.same({ 2, count + 2 }, { m.headers:find "x-a", m.headers:find("x-a", 3) })
        assert.is_nil((m.headers:find("x-a", count + 3)))
        m:replace(count + 2, "3")
        assert.same({ "X-A", "3" }, { (m.headers:at(count + 2)), (select(2, m.headers:at(count + 2))) })
        assert.same({ "1", "3" }, m.headers:all "X-A")
        assert.equal(1, m:remove(2))
        assert.same({ "3" }, m.headers:all "X-A")
        for i = 1, count do
          assert.equal(raw[i], (select(3, m.headers:at(i))))
        end
        assert.is_nil((m.headers:at(0)))
        assert.is_nil((m.headers:at(count + 2)))
      end)
    end)

    it("refuse positions that are none, at the caller's line", function()
      with(function(m)
        for verb, call in pairs {
          insert = function() m:insert(m.headers:count() + 2, "X", "y") end, replace = function() m:replace(0, "y") end,
          remove = function() m:remove(m.headers:count() + 1) end,
        } do
          local ok, err = pcall(call)
          assert.is_false(ok, verb)
          assert.matches("message_spec.lua:%d+: message:" .. verb .. ": position ", err)
        end
        assert.error_matches(function() m:insert("Subject", "X", "y") end, "message:insert: a position expected")
        assert.equal(OCTETS, m:octets())
      end)
    end)

    for name, case in pairs {
      ["a line break in the value"] = { "X-A", "a\r\nBcc: eve@example.org" }, ["a lone LF"] = { "X-A", "a\nb" },
      ["NUL"] = { "X-A", "a\0b" }, ["a colon in the name"] = { "X: A", "b" }, ["an empty name"] = { "", "b" },
      ["a space in the name"] = { "X A", "b" },
    } do
      it("refuse " .. name .. ", at the caller's line", function()
        with(function(m)
          for _, verb in ipairs { "prepend", "append", "replace" } do
            local ok, err = pcall(function() m[verb](m, case[1], case[2]) end)
            assert.is_false(ok, verb)
            assert.matches("message_spec.lua:%d+: message:" .. verb .. ": ", err)
          end
          assert.equal(OCTETS, m:octets())
        end)
      end)
    end
  end)

  describe("to()", function()
    local function plans(m)
      local out = {}
      for i, one in ipairs(m.recipients) do
        out[i] = one._plan and (one._plan.reason or one._plan.code) or "none"
      end
      return out
    end

    local three = { "bob@example.org", "x@example.com", "ann@example.org" }

    it("chooses by class, by function, by recipient", function()
      with(function(m)
        m:to("local"):discard("l")
        m:to("relay"):refuse(550, "no")
        assert.same({ "l", 550, "l" }, plans(m))
        m:to(function(r) return r.mailbox == "ann" end):discard("ann")
        m:to(m.recipients[1]):discard("bob")
        assert.same({ "bob", 550, "ann" }, plans(m))
        m:to(function() return false end):discard("nobody")
        assert.same({ "bob", 550, "ann" }, plans(m))
      end, nil, three)
    end)

    it("is overridden by what comes later, for all or for some", function()
      with(function(m)
        m:discard("all")
        m:to("local"):discard("l")
        assert.same({ "l", "all", "l" }, plans(m))
        m:discard("again")
        assert.same({ "again", "again", "again" }, plans(m))
      end, nil, three)
    end)

    it("refuses what chooses nobody by mistake", function()
      with(function(m)
        for _, bad in ipairs { "lokal", "none", 7, {}, "bob@example.org" } do
          local ok, err = pcall(function() m:to(bad) end)
          assert.is_false(ok)
          assert.matches("message_spec.lua:%d+: message:to: ", err)
        end
        assert.matches('did you mean "local"', select(2, pcall(m.to, m, "lokal")))
      end)
    end)

    it("refuses a recipient of another message", function()
      local kept
      with(function(m) kept = m.recipients[1] end)
      with(function(m) assert.has_error(function() m:to(kept) end) end)
    end)
  end)

  describe("verbs", function()
    it("return nothing, so that `return message:discard(...)` is no verdict", function()
      with(function(m)
        assert.equal(0, select("#", m:discard("x")))
        assert.equal(0, select("#", m:refuse(550, "x")))
        assert.equal(0, select("#", m:deliver { maildir = "/x" }))
        assert.equal(0, select("#", m:to("local"):discard("x")))
      end)
    end)

    it("raise on a caller's mistake, at the caller's line", function()
      with(function(m)
        for _, fn in ipairs {
          function() m:discard() end, function() m:refuse(250, "x") end, function() m:deliver { maidlir = "/x" } end,
          function() m:to("local"):deliver {} end, function() m:to("local"):discard() end,
        } do
          local ok, err = pcall(fn)
          assert.is_false(ok)
          assert.matches("^spec/lua/message_spec.lua:%d+: message:%w+: ", err)
        end
      end)
    end)

    it("are over when the hook is over", function()
      local kept
      with(function(m)
        m:keep()
        kept = m
      end)
      for _, fn in ipairs {
        function() kept:discard("late") end, function() kept:deliver { maildir = "/x" } end,
          function() kept:perform() end,
        function() kept.recipients[1]:rewrite("ann@example.org") end,
      } do
        local ok, err = pcall(fn)
        assert.is_false(ok)
        assert.matches("hook is over", err)
      end
      assert.equal(OCTETS, kept:octets())
    end)

    it("and octets are over then too, unless the message is kept", function()
      local kept
      with(function(m) kept = m end)
      local ok, err = pcall(function() return kept:octets() end)
      assert.is_false(ok)
      assert.matches("message:keep", err)
    end)
  end)

  describe("aliases", function()
    it("are in place of the recipient, plans and all", function()
      with(function(m)
        m:discard("base")
        for _, one in ipairs(m.recipients) do
          if one.mailbox == "bob" then
            one:rewrite("ann@example.org", "cid@example.org")
          end
        end
        local list = {}
        for i, one in ipairs(m.recipients) do
          list[i] = one.address .. " " .. one.original .. " " .. one._plan.reason
        end
        assert.same({ "ann@example.org bob@example.org base", "cid@example.org bob@example.org base" }, list)
      end)
    end)

    it("of the rcpt hook are seen by the message hook, with the script's own marks", function()
      local seen
      local house = wired.new({ domains = { "example.org" } }, function(server)
        server.on.rcpt = function(_, r)
          r.mark = r.localpart
          if r.localpart == "team" then
            r:rewrite("ann@example.org", "cid@example.org")
          end
        end
        server.on.message = function(_, m)
          seen = {}
          for i, one in ipairs(m.recipients) do
            seen[i] = { one.address, one.mark, one.index }
          end
          m:discard("x")
        end
      end)
      house:session():send("a@b.c", { "team@example.org", "nobody@example.net", "bob@example.org" })
      assert.same({ { "ann@example.org", "team", 1 }, { "bob@example.org", "bob", 2 } }, { seen[1], seen[3] })
      assert.same({ "cid@example.org", nil, 1 }, { seen[2][1], seen[2][2], seen[2][3] })
    end)

    it("of one transaction are forgotten in the next", function()
      local seen
      local house = wired.new({ domains = { "example.org" } }, function(server)
        server.on.rcpt = function(_, r) r.mark = r.localpart end
        server.on.message = function(_, m)
          seen = {}
          for i, one in ipairs(m.recipients) do
            seen[i] = one.address .. "=" .. tostring(one.mark)
          end
          m:discard("x")
        end
      end)
      local peer = house:session()
      peer:command("MAIL FROM:<a@b.c>")
      peer:command("RCPT TO:<one@example.org>")
      peer:command("RCPT TO:<two@example.org>")
      peer:command("RSET")
      peer:send("a@b.c", { "three@example.org" })
      assert.same({ "three@example.org=three" }, seen)
      peer:send("a@b.c", { "four@example.org", "five@example.org" })
      assert.same({ "four@example.org=four", "five@example.org=five" }, seen)
    end)
  end)
end)
