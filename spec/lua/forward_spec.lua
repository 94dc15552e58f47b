-- Messages that are handed on while their sender waits: over wires to a server of ours, which has next hops that follow a script.
local network = require "moonpost.network"
local test = require "moonpost.test"
local wired = require "spec.support.wired"

local URL = "smtp://192.0.2.25"
local SOCKET = "lmtp://unix:/run/lmtp.sock"
local LATER = "451 4.4.1 The next server cannot take this message now, please try again later"
local MIXED = "451 4.3.0 Delivered to some of the recipients, not to others; please try again later"

describe("moonpost.forward", function()
  after_each(wired.release_log)

  local next_hop, house

  -- A house whose message hook is `fn`, and a next hop for it.
  local function serve(fn, script, options, define)
    next_hop = test.server(script)
    local given = { domains = { "example.org" }, relay = { networks = { "203.0.113.0/24" } } }
    for key, value in pairs(options or {}) do
      given[key] = value
    end
    house = wired.new(given, function(server)
      if fn then
        server.on.message = fn
      end
      if define then
        define(server)
      end
    end)
    network.install(house.worker, { ["192.0.2.25"] = next_hop, ["/run/lmtp.sock"] = next_hop })
    return house:session()
  end

  local function forward(to)
    return function(_, message)
      message:forward(to or URL)
    end
  end

  local function command(verb)
    for _, line in ipairs(next_hop.commands) do
      if line:find("^" .. verb) then
        return line
      end
    end
  end

  it("hands the message on and says what the next hop said", function()
    local peer = serve(forward(), { body = "250 2.6.0 queued as ABC" })
    local said, before = peer:send("ann@example.net", "bob@example.org")
    assert.equal("250 2.6.0 queued as ABC", said)
    assert.matches("^354", before[#before])
    local got = next_hop.messages[1]
    assert.same({ "ann@example.net", { "bob@example.org" } }, { got.sender, got.recipients })
    assert.matches("^Received: from client.example .-\r\nSubject: test\r\n\r\nHello.\r\n$", got.octets)
    assert.is_nil(got.octets:find("Return-Path", 1, true))
    assert.is_nil(got.octets:find("Delivered-To", 1, true))
    assert.equal("EHLO mx.example.org", next_hop.commands[1])
    assert.equal(1, #house:logged("message accepted", "forward:smtp://192.0.2.25:25"))
  end)

  it("hands on the message as the hooks leave it", function()
    local peer = serve(function(_, message)
      message:forward(URL)
      message:prepend("X-Seen-By", "moonpost")
    end)
    assert.matches("^250 ", (peer:send("ann@example.net", "bob@example.org", ".Subject: dots\r\n\r\n..\r\n..x")))
    assert.matches("\r\nX%-Seen%-By: moonpost\r\nSubject: dots\r\n\r\n%.\r\n%.x\r\n$", next_hop.messages[1].octets)
  end)

  it("says what the hook said about success, when it said something", function()
    local peer = serve(function(_, message)
      message:forward(URL)
      return 250, "2.0.0", "Taken care of"
    end)
    assert.equal("250 2.0.0 Taken care of", (peer:send("ann@example.net", "bob@example.org")))
  end)

  describe("gives back refusals", function()
    for where, case in pairs {
      ["of the sender"] = { { mail = "553 5.1.8 No such domain" }, "553 5.1.8 No such domain" },
      ["of the recipient"] = { { rcpt = "550 5.1.1 Nobody here" }, "550 5.1.1 Nobody here" },
      ["for a time"] = { { rcpt = "450 4.2.1 Busy" }, "450 4.2.1 Busy" },
      ["of DATA"] = { { data = "554 5.7.1 No data" }, "554 5.7.1 No data" },
      ["of the message"] = { { body = "554 5.7.1 Spam" }, "554 5.7.1 Spam" },
      ["in two lines"] = { { body = "554 5.7.1 Spam\n5.7.1 and worse" }, "^554 5%.7%.1 Spam .*and worse$" },
      ["without an enhanced code"] = { { body = "552 Too large" }, "552 5.0.0 Too large" },
      ["of another class"] = { { body = "552 4.3.4 Odd" }, "552 5.0.0 4.3.4 Odd" },
      ["as 421, which would mean that we hang up"] = { { body = "421 4.3.2 Going down" }, "451 4.3.2 Going down" },
      ["as 354, which would ask for more"] = { { rcpt = "354 Go on" }, "451 4.0.0 Go on" },
      ["as 334, to MAIL"] = { { mail = "334 VXNlcm5hbWU6" }, "451 4.0.0 VXNlcm5hbWU6" },
      ["without a text"] = { { body = "550 " }, "550 5.0.0 Refused by the next server" },
    } do
      it(where, function()
        local peer = serve(forward(), case[1])
        local said = peer:send("ann@example.net", "bob@example.org")
        assert.is_true(said == case[2] or said:find(case[2]) ~= nil, said)
        for _, taken in ipairs(next_hop.messages) do
          assert.is_nil(taken.sender) -- pipelined behind a MAIL that was refused
        end
        assert.matches("^250 ", peer:command("RSET"))
      end)
    end
  end)

  describe("is never final about a next hop that does not do its part:", function()
    for what, script in pairs {
      ["one that is not there"] = { connect = "refused" },
      ["a banner of 554"] = { banner = "554 5.3.2 Go away" },
      ["EHLO and HELO refused"] = { ehlo = "550 5.7.1 No", helo = "550 5.7.1 No" },
      ["a connection that ends before the reply"] = { body = { close = true } },
      ["no SMTP at all"] = { banner = { raw = "HTTP/1.1 400 Bad Request\r\n" } },
      ["530, because it wants to know who we are"] = { mail = "530 5.7.0 Authentication required" },
    } do
      it(what, function()
        local peer = serve(forward(), script)
        local said = peer:send("ann@example.net", "bob@example.org")
        assert.matches("^451 4%.%d%.%d The next server [%a ]+, please try again later$", said)
        assert.is_nil(said:find("192.0.2", 1, true))
        assert.equal(1, #house:logged("delivery failed", '"error"', URL))
      end)
    end

    it("one that does not reply in time", function()
      local peer = serve(forward { url = URL, timeout = "2m" }, { body = { silent = true } })
      assert.equal("", (peer:send("ann@example.net", "bob@example.org")))
      house.worker:advance(119)
      assert.equal("", peer:read())
      house.worker:advance(1)
      assert.equal((LATER:gsub("4%.4%.1", "4.4.2")), peer:read())
    end)

    it("one that needs a login which fails", function()
      local peer = serve(forward { url = URL, tls = "none", auth = { user = "u", password = "p", in_clear = { "PLAIN" } } }, {
        extensions = { "AUTH PLAIN" }, auth = "535 5.7.8 No",
      })
      assert.matches("^451 4%.%d%.%d The next server", (peer:send("ann@example.net", "bob@example.org")))
    end)
  end)

  describe("of several recipients over SMTP", function()
    local to = { "ann@example.org", "bob@example.org", "cid@example.org" }

    it("makes one transaction of those with one next hop", function()
      local peer = serve(forward())
      assert.matches("^250 ", (peer:send("ann@example.net", to)))
      assert.same(to, next_hop.messages[1].recipients)
    end)

    it("gives one reply, which is temporary when they fare differently", function()
      local peer = serve(forward(), { rcpt = { "250 2.1.5 ok", "550 5.1.1 no", "250 2.1.5 ok" } })
      assert.equal(MIXED, (peer:send("ann@example.net", to)))
      assert.same({ "ann@example.org", "cid@example.org" }, next_hop.messages[1].recipients)
      assert.equal(1, #house:logged("next hop refused", "bob@example.org", "550"))
    end)

    it("gives the refusal when all of them are refused", function()
      local peer = serve(forward(), { rcpt = "550 5.1.1 no" })
      assert.equal("550 5.1.1 no", (peer:send("ann@example.net", to)))
    end)

    it("sends each address once, whatever aliases lead there", function()
      local peer = serve(function(_, message)
        for _, one in ipairs(message.recipients) do
          one:rewrite("boss@example.org")
        end
        message:forward(URL)
      end)
      assert.matches("^250 ", (peer:send("ann@example.net", to)))
      assert.same({ "boss@example.org" }, next_hop.messages[1].recipients)
    end)

    it("may go different ways", function()
      local peer = serve(function(_, message)
        message:discard("nobody reads it")
        message:to(message.recipients[2]):forward(URL)
      end)
      assert.matches("^250 ", (peer:send("ann@example.net", to)))
      assert.same({ "bob@example.org" }, next_hop.messages[1].recipients)
    end)
  end)

  it("gives each recipient of an LMTP sender its own reply", function()
    local peer = serve(forward(), { rcpt = { "250 2.1.5 ok", "550 5.1.1 no" }, body = "250 2.6.0 queued as 7" },
      { listen = "lmtp://127.0.0.1:24" })
    local said = peer:send("ann@example.net", { "ann@example.org", "bob@example.org" })
    assert.equal("250 2.6.0 queued as 7\n550 5.1.1 no", said)
  end)

  describe("by recipient:forward", function()
    local function by_rcpt(script, options, fn)
      return serve(fn, script, options, function(server)
        function server.on.rcpt(_, recipient)
          if recipient.mailbox ~= "local" then
            recipient:forward(URL)
          end
        end
      end)
    end

    it("takes one recipient at a time: 452 4.5.3 to the next", function()
      local peer = by_rcpt()
      local said, before = peer:send("ann@example.net", { "bob@example.org", "cid@example.org" })
      assert.matches("^250 ", said)
      assert.matches("^250 2%.1%.5", before[2])
      assert.equal("452 4.5.3 One recipient at a time: this message is handed on while you wait", before[3])
      assert.same({ "bob@example.org" }, next_hop.messages[1].recipients)
      assert.matches("^250 ", (peer:send("ann@example.net", "cid@example.org")))
      assert.same({ "cid@example.org" }, next_hop.messages[2].recipients)
    end)

    it("holds in a transaction that has another kind of recipient already", function()
      local peer = by_rcpt(nil, nil, function(_, message)
        message:to(function(one) return one.mailbox == "local" end):discard("read")
      end)
      local said, before = peer:send("ann@example.net", { "local@example.org", "cid@example.org", "local@example.org" })
      assert.matches("^250 ", said)
      assert.matches("^452 4%.5%.3", before[3])
      assert.matches("^250", before[4])
      assert.same({}, next_hop.messages)
    end)

    it("refuses no one else when the recipient itself was refused", function()
      local peer = serve(nil, nil, nil, function(server)
        function server.on.rcpt(_, recipient)
          recipient:forward(URL)
          if recipient.mailbox == "nobody" then
            return 550, "5.1.1", "No such mailbox"
          end
        end
      end)
      local said, before = peer:send("ann@example.net", { "nobody@example.org", "cid@example.org" })
      assert.matches("^250 ", said)
      assert.matches("^550", before[2])
      assert.same({ "cid@example.org" }, next_hop.messages[1].recipients)
    end)

    it("takes all recipients of an LMTP sender", function()
      local peer = by_rcpt(nil, { listen = "lmtp://127.0.0.1:24" })
      local said, before = peer:send("ann@example.net", { "bob@example.org", "cid@example.org" })
      assert.matches("^250 [^\n]+\n250 [^\n]+$", said)
      assert.matches("^250", before[3])
      assert.equal(1, #next_hop.messages)
    end)

    it("is a plan like others: a later one takes its place", function()
      local peer = by_rcpt(nil, nil, function(_, message)
        message:discard("spam")
      end)
      assert.matches("^250 2.0.0 Accepted as", (peer:send("ann@example.net", "bob@example.org")))
      assert.same({}, next_hop.messages)
    end)

    it("is kept for those that the recipient is rewritten to", function()
      local peer = serve(nil, nil, nil, function(server)
        function server.on.rcpt(_, recipient)
          recipient:rewrite("x@example.com", "y@example.com")
          recipient:forward(URL)
        end
      end)
      assert.matches("^250 ", (peer:send("ann@example.net", "team@example.org")))
      assert.same({ "x@example.com", "y@example.com" }, next_hop.messages[1].recipients)
    end)

    it("is for the rcpt hook alone", function()
      local err
      local peer = serve(function(_, message)
        err = select(2, pcall(message.recipients[1].forward, message.recipients[1], URL))
        message:discard("x")
      end)
      peer:send("ann@example.net", "bob@example.org")
      assert.matches("recipient:forward: only the rcpt hook may say so", tostring(err))
    end)
  end)

  describe("passes on", function()
    local all = { "8BITMIME", "SMTPUTF8", "DSN", "PIPELINING", "SIZE 10000" }

    local function mail(line, rcpt, octets, script)
      local peer = serve(forward(), script or { extensions = all }, { extensions = { "DSN" } })
      peer:command("MAIL FROM:<ann@example.net>" .. line)
      peer:command("RCPT TO:<bob@example.org>" .. rcpt)
      peer:command("DATA")
      return peer:command(octets or "Subject: x\r\n\r\nHello.", ".")
    end

    it("BODY, RET, ENVID, NOTIFY, ORCPT", function()
      assert.matches("^250 ", mail(" BODY=8BITMIME RET=HDRS ENVID=id+2B1", " NOTIFY=SUCCESS,DELAY ORCPT=rfc822;al+2Bias@x.y",
        "Subject: x\r\n\r\n\xc3\xa9"))
      local sender, recipient = command "MAIL", command "RCPT"
      assert.matches(" BODY=8BITMIME", sender)
      assert.matches(" RET=HDRS", sender)
      assert.matches(" ENVID=id%+2B1", sender)
      assert.matches(" NOTIFY=SUCCESS,DELAY", recipient)
      assert.matches(" ORCPT=rfc822;al%+2Bias@x.y", recipient)
    end)

    it("the length of what is sent, not of what was announced", function()
      assert.matches("^250 ", mail(" SIZE=9999", ""))
      assert.equal(#next_hop.messages[1].octets, tonumber(command("MAIL"):match(" SIZE=(%d+)")))
    end)

    it("SMTPUTF8, and addresses that need it", function()
      local peer = serve(forward(), { extensions = all })
      peer:command("MAIL FROM:<d\xc3\xb6rte@example.net> SMTPUTF8 BODY=8BITMIME")
      peer:command("RCPT TO:<j\xc3\xb6rg@example.org>")
      peer:command("DATA")
      assert.matches("^250 ", peer:command("Subject: \xc3\xa9\r\n\r\nHello.", "."))
      assert.matches("^MAIL FROM:<d\xc3\xb6rte@example.net> .*SMTPUTF8", command "MAIL")
      assert.same({ "j\xc3\xb6rg@example.org" }, next_hop.messages[1].recipients)
    end)

    it("the address that was rewritten, for reports", function()
      local peer = serve(function(_, message)
        message.recipients[1]:rewrite("new@example.com")
        message:forward(URL)
      end, { extensions = all })
      assert.matches("^250 ", (peer:send("ann@example.net", "old@example.org")))
      assert.equal("RCPT TO:<new@example.com> ORCPT=rfc822;old@example.org", command "RCPT")
    end)

    it("that a message is 8-bit, whoever forgot to say so", function()
      assert.matches("^250 ", mail("", "", "Subject: x\r\n\r\n\xc3\xa9"))
      assert.matches(" BODY=8BITMIME", command "MAIL")
    end)

    it("REQUIRETLS to nobody whose certificate cannot be verified", function()
      next_hop = test.server()
      house = wired.new({ domains = { "example.org" }, tls = "development", extensions = { "REQUIRETLS" } }, function(server)
        server.on.message = forward()
      end, { pretend_tls = true })
      network.install(house.worker, { ["192.0.2.25"] = next_hop })
      local peer = house:session()
      peer:command("STARTTLS")
      peer.wire:tls { version = "TLSv1.3" }
      assert.matches("REQUIRETLS", peer:command("EHLO client.example"))
      assert.matches("^250", peer:command("MAIL FROM:<ann@example.net> REQUIRETLS"))
      peer:command("RCPT TO:<bob@example.org>")
      peer:command("DATA")
      assert.matches("^451 4%.7%.%d The next server cannot take this message now", peer:command("Subject: x\r\n\r\nHello.", "."))
      assert.same({}, next_hop.messages)
    end)

    it("and refuses what the next hop cannot carry, as it would have", function()
      assert.matches("^55%d 5%.6%.3 ", mail("", "", "Subject: x\r\n\r\n\xc3\xa9", { extensions = { "PIPELINING" } }))
      assert.matches("^552 5%.3%.4 ", mail("", "", nil, { extensions = { "SIZE 20" } }))
      assert.same({}, next_hop.messages)
    end)
  end)

  describe("to an LMTP server", function()
    it("is delivered with a reply for each", function()
      local peer = serve(function(_, message)
        message:deliver { lmtp = SOCKET }
      end, { lmtp = true, body = { "250 2.1.5 <ann> ok", "452 4.2.2 over quota" } }, { listen = "lmtp://127.0.0.1:24" })
      assert.equal("250 2.1.5 <ann> ok\n452 4.2.2 over quota",
        (peer:send("ann@example.net", { "ann@example.org", "bob@example.org" })))
      assert.equal("LHLO mx.example.org", next_hop.commands[1])
      assert.equal(1, #house:logged("message accepted", "lmtp:lmtp://unix:/run/lmtp.sock"))
    end)

    it("takes postmaster, who has no domain", function()
      local peer = serve(forward(SOCKET), { lmtp = true })
      assert.matches("^250 ", (peer:send("ann@example.net", "postmaster")))
      assert.same({ "postmaster" }, next_hop.messages[1].recipients)
    end)

    it("is not delivered a second time to the same address", function()
      local peer = serve(function(_, message)
        message:deliver { lmtp = SOCKET }
      end, { lmtp = true })
      assert.matches("^554 5%.4%.6", (peer:send("a@b.c", "bob@example.org", "Delivered-To: bob@example.org\r\n\r\nHello.")))
    end)
  end)

  describe("keeps connections", function()
    it("for options that say the same", function()
      local peer = serve(function(_, message)
        message:forward { url = URL, tls = { level = "none" } }
      end)
      for _ = 1, 3 do
        assert.matches("^250 ", (peer:send("ann@example.net", "bob@example.org")))
      end
      assert.equal(1, next_hop.sessions)
      assert.equal(3, #next_hop.messages)
    end)

    it("and asks again when the next hop has closed one", function()
      local peer = serve(forward(), { mail = { "250 ok", { close = true }, "250 ok" } })
      assert.matches("^250 ", (peer:send("ann@example.net", "bob@example.org")))
      assert.matches("^250 ", (peer:send("ann@example.net", "bob@example.org")))
      assert.equal(2, next_hop.sessions)
    end)

    it("and says QUIT when the server stops", function()
      local peer = serve(forward())
      peer:send("ann@example.net", "bob@example.org")
      house.server:_stop(0)
      house:settle()
      assert.equal("QUIT", next_hop.commands[#next_hop.commands])
    end)

    it("of so many destinations as there may be", function()
      local count = 0
      local peer = serve(function(_, message)
        count = count + 1
        message:forward { url = URL, helo = ("h%d.example.org"):format(count) }
      end, nil, { limits = { messages = 0 } })
      for _ = 1, 260 do
        assert.matches("^250 ", (peer:send("ann@example.net", "bob@example.org")))
      end
      assert.equal(4, house.server._house.hops.count)
    end)
  end)

  describe("goes on", function()
    it("when the peer leaves after the final dot", function()
      local peer = serve(forward(), { body = { "250 ok", after = "5s" } })
      assert.equal("", (peer:send("ann@example.net", "bob@example.org")))
      peer.wire:lose()
      house.worker:advance(5)
      house:settle()
      assert.equal(1, #next_hop.messages)
      assert.equal(1, #house:logged("message accepted", "bob@example.org"))
    end)

    it("when the hook that performs it has taken too long, and its outcome is the reply", function()
      local peer = serve(function(_, message)
        message:forward(URL)
        message:perform()
      end, { body = { "250 2.0.0 at last", after = "200s" } }, { limits = { message_time = "10s" } })
      assert.equal("", (peer:send("ann@example.net", "bob@example.org")))
      house.worker:advance(10)
      assert.equal("", peer:read())
      house.worker:advance(190)
      assert.equal("250 2.0.0 at last", peer:read())
    end)
  end)

  it("tells a hook that performs it what became of each", function()
    local rows
    local peer = serve(function(_, message)
      message:forward(URL)
      rows = message:perform()
    end, { rcpt = { "250 ok", "550 5.1.1 no" } })
    peer:send("ann@example.net", { "ann@example.org", "bob@example.org" })
    assert.same({ true, "forward", "smtp://192.0.2.25:25" }, { rows[1].ok, rows[1].disposition, rows[1].url })
    assert.same({ false, 550, "5.1.1", "no", true }, {
      rows[2].ok, rows[2].code, rows[2].enhanced, rows[2].text, rows[2].relayed,
    })
  end)

  describe("raises at the hook's line", function()
    for what, case in pairs {
      ["an unknown option"] = { { url = URL, tsl = "none" }, 'message:forward: unknown option "tsl" %(did you mean "tls"%?%)' },
      ["an unknown scheme"] = { "smpt://a.example", 'unknown protocol "smpt"' },
      ["no place"] = { { tls = "none" }, "url, host or path is needed" },
      ["a user without a password"] = { "smtp://user@a.example", "needs a password" },
      ["no string"] = { 25, "a URL such as .- expected, got a number" },
      ["an expansion"] = { "lmtp://unix:/run/%{domain}", "nothing is filled in in a URL" },
      ["a timeout of nothing"] = { { url = URL, timeout = 0 }, "timeout: more than 0" },
      ["no connections"] = { { url = URL, connections = 0 }, "connections: at least 1" },
    } do
      it(what, function()
        local err
        local peer = serve(function(_, message)
          err = select(2, pcall(function() message:forward(case[1]) end))
          message:discard("x")
        end)
        peer:send("ann@example.net", "bob@example.org")
        assert.matches(case[2], tostring(err))
        assert.matches("forward_spec.lua:%d+: ", tostring(err))
      end)
    end

    for what, case in pairs {
      ["deliver to SMTP"] = { { lmtp = URL }, 'lmtp: "lmtp://host:24" or "lmtp://unix:/run/lmtp.sock" expected' },
      ["deliver to two places"] = { { lmtp = SOCKET, maildir = "/x" }, "one of maildir and lmtp, not both" },
      ["deliver to no string"] = { { lmtp = true }, "lmtp: a URL expected" },
    } do
      it(what, function()
        local err
        local peer = serve(function(_, message)
          err = select(2, pcall(function() message:deliver(case[1]) end))
          message:discard("x")
        end)
        peer:send("ann@example.net", "bob@example.org")
        assert.is_truthy(tostring(err):find(case[2], 1, true), tostring(err))
      end)
    end
  end)

  it("never shows credentials", function()
    local peer = serve(forward "smtp://me:hush@192.0.2.25", { connect = "refused" })
    peer:send("ann@example.net", "bob@example.org")
    assert.equal(0, #house:logged("hush"))
  end)
end)
