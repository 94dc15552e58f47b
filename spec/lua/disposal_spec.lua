local moonpost = require "moonpost"
local tmpdir = require "spec.support.tmpdir"
local wired = require "spec.support.wired"

describe("moonpost.disposal", function()
  local dir

  before_each(function()
    dir = tmpdir.new()
  end)

  after_each(function()
    wired.release_log()
    dir:remove()
  end)

  local NOBODY = "451 4.3.5 Nobody takes this message now, please try again later"
  local MIXED = "451 4.3.0 Delivered to some of the recipients, not to others; please try again later"
  local FAULT = "451 4.3.0 Temporary failure, please try again later"

  -- A house whose message hook is `fn`; the last reply to a message for `recipients`.
  local function send(fn, recipients, options, octets)
    local given = { domains = { "example.org" }, relay = { networks = { "203.0.113.0/24" } } }
    for key, value in pairs(options or {}) do
      given[key] = value
    end
    local house = wired.new(given, function(server)
      if fn then
        server.on.message = fn
      end
    end)
    local peer = house:session()
    return peer:send("ann@example.net", recipients or "bob@example.org", octets), house, peer
  end

  local function mails(name)
    local list = {}
    for _, file in ipairs(dir:list(name .. "/new")) do
      list[#list + 1] = dir:read(name .. "/new/" .. file)
    end
    return list
  end

  describe("a 250 has an owner:", function()
    it("without a message hook nobody takes anything", function()
      assert.equal(NOBODY, (send(nil)))
    end)

    it("a handler that forgets means 451 and a log line that names the address", function()
      local reply, house = send(function() end)
      assert.equal(NOBODY, reply)
      assert.equal(1, #house:logged("no plan for a recipient", "bob@example.org", '"error"'))
    end)

    it("true is no plan, and a 2xx reply is none", function()
      assert.equal(NOBODY, (send(function() return true end)))
      assert.equal(NOBODY, (send(function() return 250, "2.0.0", "Sure" end)))
    end)

    it("one recipient forgotten means that nothing is done for anybody", function()
      local reply, house = send(function(_, m)
        m:to("local"):deliver { maildir = dir:join("%{mailbox}") }
      end, { "bob@example.org", "x@example.com" })
      assert.equal(NOBODY, reply)
      assert.same({}, dir:list())
      assert.equal(1, #house:logged("no plan for a recipient", "x@example.com"))
    end)

    it("discarding by name is enough", function()
      local reply = send(function(_, m) m:discard("spam") end)
      assert.matches("^250 2.0.0 Accepted as %w+$", reply)
    end)

    it("a 2xx reply of the hook is said when the plans have gone well", function()
      assert.equal("250 2.6.0 Into the bin", (send(function(_, m)
        m:discard("spam")
        return 250, "2.6.0", "Into the bin"
      end)))
    end)
  end)

  describe("plans are dropped", function()
    for name, fn in pairs {
      ["by a 5xx verdict"] = function() return 554, "5.7.1", "No" end,
      ["by a 4xx verdict"] = function() return 451, "4.7.1", "Later" end,
      ["by a fault"] = function() return false end,
      ["by an error"] = function() error("boom") end,
      ["by a raised reply"] = function() error(moonpost.Reply(554, "5.7.1", "No")) end,
    } do
      it(name, function()
        local reply = send(function(_, m)
          m:deliver { maildir = dir:join("bob") }
          return fn()
        end)
        assert.matches("^[45]", reply)
        assert.same({}, dir:list())
      end)
    end

    it("by the deadline", function()
      local house = wired.new({ domains = { "example.org" } }, function(server)
        server.on.message = function(_, m)
          m:deliver { maildir = dir:join("bob") }
          moonpost.sleep(1000)
        end
      end)
      local peer = house:session()
      assert.equal("", (peer:send("a@b.c", "bob@example.org")))
      house.worker:advance(300)
      assert.equal(FAULT, peer:read())
      assert.same({}, dir:list())
    end)
  end)

  describe("maildir", function()
    it("holds the message with Return-Path, Delivered-To and Received on top", function()
      local reply = send(function(_, m)
        m:prepend("X-Seen-By", "moonpost")
        m:deliver { maildir = dir:join("%{domain}/%{mailbox}") }
      end, "Bob+news@Example.ORG")
      assert.matches("^250 ", reply)
      local list = mails("example.org/bob")
      assert.equal(1, #list)
      assert.matches("^Return%-Path: <ann@example.net>\r?\nDelivered%-To: Bob%+news@Example.ORG\r?\nReceived: ",
        list[1])
      assert.matches("\nX%-Seen%-By: moonpost\r?\nSubject: test\r?\n\r?\nHello.\r?\n$", list[1])
      assert.same({}, dir:list("example.org/bob/tmp"))
    end)

    it("stands as the message was when the plans ran", function()
      send(function(_, m)
        m:deliver { maildir = dir:join("bob") }
        m:prepend("X-Late", "but in time")
      end)
      assert.matches("X%-Late: but in time", mails("bob")[1])
    end)

    it("is written once for several recipients in one place", function()
      local reply = send(function(_, m) m:deliver { maildir = dir:join("all") } end, { "bob@example.org",
        "ann@example.org" })
      assert.matches("^250 ", reply)
      local list = mails("all")
      assert.equal(1, #list)
      assert.matches("Delivered%-To: bob@example.org\r?\nDelivered%-To: ann@example.org\r?\n", list[1])
    end)

    it("is written once for two aliases of one mailbox, and names it once", function()
      local house = wired.new({ domains = { "example.org" } }, function(server)
        function server.on.rcpt(_, recipient) recipient:rewrite("bob@example.org") end
        function server.on.message(_, m) m:deliver { maildir = dir:join("%{mailbox}") } end
      end)
      local peer = house:session()
      peer:send("ann@example.net", { "info@example.org", "sales@example.org", "bob@example.org" })
      local list = mails("bob")
      assert.equal(1, #list)
      assert.equal(1, select(2, list[1]:gsub("Delivered%-To: bob@example.org\n", "")))
    end)

    it("is written for each recipient in a place of its own", function()
      send(function(_, m) m:deliver { maildir = dir:join("%{mailbox}") } end, { "bob@example.org", "ann@example.org" })
      assert.equal(1, #mails("bob"))
      assert.equal(1, #mails("ann"))
      assert.is_nil(mails("bob")[1]:find("ann@example.org", 1, true))
    end)

    it("serves every address that an alias stands for", function()
      send(function(_, m)
        m.recipients[1]:rewrite("ann@example.org", "cid@example.org")
        m:deliver { maildir = dir:join("%{mailbox}") }
      end, "team@example.org")
      assert.same({ "ann", "cid" }, dir:list())
    end)

    it("that cannot be made is 451, and the reason stays in the log", function()
      dir:write("file", "in the way")
      local reply, house = send(function(_, m) m:deliver { maildir = dir:join("file/bob") } end)
      assert.matches("^451 4.3.0 ", reply)
      assert.is_nil(reply:find(dir.path, 1, true))
      assert.equal(1, #house:logged("delivery failed", "bob@example.org", dir.path, '"session"'))
    end)

    it("is not made when it may not be", function()
      assert.matches("^451 4.3.0 ", (send(function(_, m) m:deliver { maildir = dir:join("bob"), create = false } end)))
      assert.same({}, dir:list())
    end)
  end)

  describe("addresses as parts of paths", function()
    for _, localpart in ipairs { '"../x"', '"a/b"', '"/etc/passwd"', '".hidden"', "-rf" } do
      it("do not lead anywhere else: " .. localpart, function()
        local reply, house = send(function(_, m) m:deliver { maildir = dir:join("deep/%{localpart}") } end, localpart
          .. "@example.org")
        assert.equal("550 5.1.3 This address cannot be delivered to", reply)
        assert.same({}, dir:list())
        assert.equal(1, #house:logged("delivery failed", "%{localpart}"))
      end)
    end

    it("that are empty are the policy's fault: 451 4.3.5", function()
      assert.equal(NOBODY, (send(function(_, m) m:deliver { maildir = dir:join("%{detail}") } end)))
      assert.same({}, dir:list())
    end)
  end)

  describe("file", function()
    it("is a new file with the message in it", function()
      local reply = send(function(_, m) m:deliver { file = dir:join("in/%{id}.eml") } end)
      assert.matches("^250 ", reply)
      assert.equal(1, #dir:list("in"))
      assert.matches("^Return%-Path: ", dir:read("in/" .. dir:list("in")[1]))
    end)

    it("is never written over: 451", function()
      dir:write("taken", "old")
      assert.matches("^451 4.3.0 ", (send(function(_, m) m:deliver { file = dir:join("taken") } end)))
      assert.equal("old", dir:read("taken"))
    end)

    it("grows as an mbox", function()
      for _ = 1, 2 do
        assert.matches("^250 ", (send(function(_, m) m:deliver { file = dir:join("mbox"), mbox = true } end)))
      end
      local count = select(2, ("\n" .. dir:read("mbox")):gsub("\nFrom ann@example.net ", ""))
      assert.equal(2, count)
    end)
  end)

  describe("pipe", function()
    local function script(body)
      return { "/bin/sh", "-c", body, "spec" }
    end

    it("gives the message to a program, once for all when the arguments are the same", function()
      local reply = send(function(_, m)
        m:deliver { pipe = script("cat >>" .. dir:join("out") .. "; echo >>" .. dir:join("count")) }
      end, { "bob@example.org", "ann@example.org" })
      assert.matches("^250 ", reply)
      assert.matches("^Return%-Path: <ann@example.net>.*Hello%.", dir:read("out"))
      assert.equal("\n", dir:read("count"))
    end)

    it("hands over arguments as they are, through no shell", function()
      local args = script("printf %s \"$1\" >" .. dir:join("out"))
      args[5] = "%{localpart}"
      send(function(_, m) m:deliver { pipe = args } end, '"$(touch pwned);`id`"@example.org')
      assert.equal("$(touch pwned);`id`", dir:read("out"))
    end)

    it("tells the program its recipient and what the policy wants it to know", function()
      send(function(_, m)
        m:deliver { pipe = script("echo $RECIPIENT $SENDER $EXTRA >" .. dir:join("out")), env = { EXTRA = "x" } }
      end)
      assert.equal("bob@example.org ann@example.net x\n", dir:read("out"))
    end)

    for status, want in pairs { [67] = "550 5.1.1 ", [77] = "550 5.7.1 ", [75] = "451 4.3.0 ", [1] = "451 4.3.0 " } do
      it(("answers %sto exit status %d, and keeps the program's words in the log"):format(want, status), function()
        local reply, house = send(function(_, m) m:deliver { pipe = script("echo words; exit " .. status) } end)
        assert.matches("^" .. want, reply)
        assert.is_nil(reply:find("words", 1, true))
        assert.equal(1, #house:logged("program said", "words"))
      end)
    end

    it("that does not exist is 451", function()
      assert.matches("^451 4.3.0 ", (send(function(_, m) m:deliver { pipe = { dir:join("nothing") } } end)))
    end)
  end)

  describe("one reply over SMTP", function()
    it("is the refusal when all are refused in one class", function()
      assert.equal("550 5.7.1 No", (send(function(_, m)
        m:to("local"):refuse(550, "5.7.1", "No")
        m:to("relay"):refuse(554, "5.7.0", "Never")
      end, { "bob@example.org", "x@example.com" })))
    end)

    it("is temporary when nobody was served and somebody may be", function()
      assert.equal("452 4.2.2 Full", (send(function(_, m)
        m:to("local"):refuse(550, "5.7.1", "No")
        m:to("relay"):refuse(452, "4.2.2", "Full")
      end, { "bob@example.org", "x@example.com" })))
    end)

    it("is 451 when some were served and others not; those may see it again", function()
      local reply = send(function(_, m)
        m:to("local"):deliver { maildir = dir:join("bob") }
        m:to("relay"):refuse(550, "5.7.1", "No")
      end, { "bob@example.org", "x@example.com" })
      assert.equal(MIXED, reply)
      assert.equal(1, #mails("bob"))
    end)

    it("is the refusal of message:refuse", function()
      local reply, house = send(function(_, m) m:refuse(550, "5.7.1", "Spam") end)
      assert.equal("550 5.7.1 Spam", reply)
      assert.equal(1, #house:logged("message refused", "Spam"))
    end)
  end)

  describe("over LMTP", function()
    local function lmtp(fn, recipients)
      return send(fn, recipients, { listen = { "lmtp://127.0.0.1:24" } })
    end

    it("each recipient has its own reply", function()
      local reply = lmtp(function(_, m)
        m:to(function(r) return r.mailbox == "bob" end):deliver { maildir = dir:join("bob") }
        m:to(function(r) return r.mailbox == "full" end):refuse(452, "4.2.2", "Full")
        m:to(function(r) return r.mailbox == "gone" end):refuse(550, "5.1.1", "Gone")
      end, { "bob@example.org", "full@example.org", "gone@example.org", "bob+x@example.org" })
      local lines = {}
      for line in reply:gmatch("[^\n]+") do
        lines[#lines + 1] = line
      end
      assert.equal(4, #lines)
      assert.matches("^250 2.0.0 Accepted as ", lines[1])
      assert.equal("452 4.2.2 Full", lines[2])
      assert.equal("550 5.1.1 Gone", lines[3])
      assert.matches("^250 2.0.0 Accepted as ", lines[4])
    end)

    it("an alias speaks with one voice, and a mixture of its addresses is temporary", function()
      local reply = lmtp(function(_, m)
        m.recipients[1]:rewrite("ann@example.org", "gone@example.org")
        m:discard("x")
        m:to(function(r) return r.mailbox == "gone" end):refuse(550, "5.1.1", "Gone")
      end, { "team@example.org", "bob@example.org" })
      assert.matches("^" .. MIXED:gsub("%p", "%%%0") .. "\n250 2.0.0 Accepted", reply)
    end)

    it("a verdict and a fault are for all", function()
      assert.equal("554 5.7.1 No\n554 5.7.1 No", (lmtp(function() return 554, "5.7.1", "No" end, { "a@example.org",
        "b@example.org" })))
      assert.equal(FAULT .. "\n" .. FAULT, (lmtp(function() error("x") end, { "a@example.org", "b@example.org" })))
      assert.equal(NOBODY .. "\n" .. NOBODY, (lmtp(function() end, { "a@example.org", "b@example.org" })))
    end)

    it("all served is a 250 for each", function()
      local reply = lmtp(function(_, m) m:discard("x") end, { "a@example.org", "b@example.org" })
      assert.matches("^250 2.0.0 Accepted as %w+\n250 2.0.0 Accepted as %w+$", reply)
    end)
  end)

  describe("loops", function()
    it("are seen by Delivered-To: 554 5.4.6, nothing is written", function()
      local reply = send(function(_, m) m:deliver { maildir = dir:join("bob") } end, nil, nil,
        "Delivered-To: bob@example.org\r\nSubject: x\r\n\r\nx")
      assert.matches("^554 5.4.6 ", reply)
      assert.same({}, dir:list())
    end)

    it("are not seen where the address is another's", function()
      local reply = send(function(_, m) m:deliver { maildir = dir:join("bob") } end, nil, nil,
        "Delivered-To: ann@example.org\r\nSubject: x\r\n\r\nx")
      assert.matches("^250 ", reply)
    end)

    it("are seen by the number of Received fields, before any hook", function()
      local ran = false
      local reply = send(function(_, m)
        ran = true
        m:discard("x")
      end, nil, { limits = { hops = 3 } }, ("Received: from a by b\r\n"):rep(4) .. "Subject: x\r\n\r\nx")
      assert.matches("^554 5.4.6 ", reply)
      assert.is_false(ran)
      assert.matches("^250 ", (send(function(_, m) m:discard("x") end, nil, { limits = { hops = 3 } },
        ("Received: from a by b\r\n"):rep(3) .. "Subject: x\r\n\r\nx")))
    end)
  end)

  -- No session may hang because a script has put nonsense into our objects, or because memory has run out in between.
  describe("an error of the house itself", function()
    for name, wait in pairs { ["at once"] = false, ["after a wait"] = true } do
      it("is 451, " .. name, function()
        local house = wired.new({ domains = { "example.org" } }, function(server)
          server.on.message = function(_, m)
            if wait then
              moonpost.sleep(1)
            end
            m.recipients[1].address = {}
            m:discard("x")
          end
        end)
        local peer = house:session()
        local reply = peer:send("a@b.c", "bob@example.org")
        if wait then
          house.worker:advance(1)
          reply = peer:read()
        end
        assert.matches("^451 4.3.0 ", reply)
        assert.matches("^250 ", peer:command("NOOP"))
      end)
    end

    it("is 451 when it comes behind deliveries", function()
      local reply, _, peer = send(function(_, m)
        m:deliver { maildir = dir:join("bob") }
        m.session.data.x = getmetatable(m)
        rawset(m, "id", setmetatable({}, { __tostring = function() error("no") end }))
      end)
      assert.matches("^451 4.3.0 ", reply)
      assert.matches("^250 ", peer:command("NOOP"))
    end)
  end)

  describe("message:perform()", function()
    it("carries out what has been planned, and returns a row for each recipient", function()
      local rows
      local reply = send(function(_, m)
        m:to("local"):deliver { maildir = dir:join("%{mailbox}") }
        rows = m:perform()
        m:to("relay"):discard("after")
      end, { "bob@example.org", "x@example.com" })
      assert.matches("^250 ", reply)
      assert.equal(2, #rows)
      assert.same({ "bob@example.org", true, 250, "maildir" }, { rows[1].address, rows[1].ok, rows[1].code,
        rows[1].disposition })
      assert.matches("bob/new/", rows[1].path)
      assert.same({ "x@example.com", false, 451, "none" }, { rows[2].address, rows[2].ok, rows[2].code,
        rows[2].disposition })
    end)

    it("tells what went wrong, and the hook may decide", function()
      dir:write("file", "in the way")
      local reply = send(function(_, m)
        m:deliver { maildir = dir:join("file/x") }
        local row = m:perform()[1]
        if not row.ok then
          return 450, "4.2.0", "Could not: " .. row.code
        end
      end)
      assert.equal("450 4.2.0 Could not: 451", reply)
    end)

    it("does nothing twice", function()
      local reply = send(function(_, m)
        m:deliver { maildir = dir:join("bob") }
        m:perform()
        m:perform()
      end)
      assert.matches("^250 ", reply)
      assert.equal(1, #mails("bob"))
    end)

    it("serves nobody a second time by another plan", function()
      local reply, house = send(function(_, m)
        m:deliver { maildir = dir:join("bob") }
        m:perform()
        m:discard("again")
      end)
      assert.equal(FAULT, reply)
      assert.equal(1, #house:logged("bob@example.org has been served already"))
      assert.equal(1, #mails("bob"))
    end)
  end)

  describe("a deadline that comes while a disposition runs", function()
    local function cut(fn)
      local pending = {}
      local house = wired.new({ domains = { "example.org" } }, function(server)
        server.on.message = function(_, m) fn(m) end
      end, {
        deliver = function(_, _, _, _, done)
          pending[#pending + 1] = done
        end,
      })
      local peer = house:session()
      assert.equal("", (peer:send("a@b.c", { "bob@example.org", "ann@example.org" })))
      house.worker:advance(300)
      assert.equal("", peer:read()) -- not cut short
      for _, done in ipairs(pending) do
        done { ok = true }
      end
      return peer:read(), #pending
    end

    it("leaves it alone, and says 250 when everybody has been served by it", function()
      local reply, count = cut(function(m)
        m:deliver { maildir = "/m/%{mailbox}" }
        m:perform()
        m:deliver { maildir = "/never" }
      end)
      assert.matches("^250 ", reply)
      assert.equal(2, count)
    end)

    it("leaves it alone, and says 451 when somebody was still to be served", function()
      local reply, count = cut(function(m)
        m:to(m.recipients[1]):deliver { maildir = "/m/%{mailbox}" }
        m:perform()
        m:to(m.recipients[2]):deliver { maildir = "/never" }
      end)
      assert.equal(FAULT, reply)
      assert.equal(1, count)
    end)
  end)

  describe("a peer that leaves after the final dot", function()
    it("cancels nothing: the hook and its plans go on, once", function()
      local ran
      local house = wired.new({ domains = { "example.org" } }, function(server)
        server.on.message = function(session, m)
          moonpost.sleep(10)
          ran = session.alive
          m:deliver { maildir = dir:join("bob") }
        end
      end)
      local peer = house:session()
      peer:send("a@b.c", "bob@example.org")
      peer.wire:lose()
      house:settle()
      house.worker:advance(10)
      house:settle()
      assert.is_false(ran)
      assert.equal(1, #mails("bob"))
      assert.equal(1, #house:logged("message accepted", "bob@example.org"))
    end)
  end)

  it("writes one line for each message: who, to whom, how large, what became of it", function()
    local _, house = send(function(_, m) m:deliver { maildir = dir:join("bob") } end)
    local lines = house:logged("message accepted")
    assert.equal(1, #lines)
    for _, text in ipairs { '"from":"ann@example.net"', '"to":"bob@example.org"', '"by":"maildir:', '"code":250',
      '"peer":"203.0.113.9"' } do
      assert.is_truthy(lines[1]:find(text, 1, true), text .. " in " .. lines[1])
    end
  end)
end)
