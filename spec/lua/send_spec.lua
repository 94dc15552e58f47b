-- moonpost.send against servers that follow a script, on a clock that jumps: where a message goes, and what is said to have become of it.
local moonpost = require "moonpost"
local test = require "moonpost.test"

local NET = { ["example.net"] = { MX = { { 10, "one.example.net" }, { 20, "two.example.net" } } } }

-- What became of a message to `to`, by address.
local function outcome(to, options, how)
  local result, err = test.run(function()
    local mail = { from = "me@example.org", to = to, subject = "Hi", text = "hey" }
    for name, value in pairs(how or {}) do
      mail[name] = value
    end
    return moonpost.send(mail)
  end, options)
  local rows = {}
  for _, row in ipairs((result or err).recipients) do
    rows[row.address] = row
  end
  return rows, result, err
end

local function world(servers, names)
  return { dns = names or NET, servers = servers }
end

local function is(row, state, stage, reply)
  assert.same({ state, stage, reply }, { row.state, row.stage, tostring(row.reply) })
end

describe("moonpost.send, by MX", function()
  it("delivers to the host that is preferred", function()
    local one, two = test.server(), test.server()
    local rows, result = outcome("you@example.net", world { ["one.example.net"] = one, ["two.example.net"] = two })
    is(rows["you@example.net"], "delivered", "body", "250 2.0.0 Taken")
    assert.is_true(result.ok)
    assert.equal("one.example.net", rows["you@example.net"].host)
    assert.equal(1, #one.messages)
    assert.equal(0, two.sessions)
    assert.matches("^Date: .-\r\nFrom: me@example.org\r\nTo: you@example.net\r\nSubject: Hi\r\n.-\r\n\r\nhey\r\n$", one.messages[1].octets)
  end)

  it("says QUIT and hangs up", function()
    local one = test.server()
    outcome("you@example.net", world { ["one.example.net"] = one })
    assert.equal("QUIT", one.commands[#one.commands])
  end)

  -- WIRE: 5xx to banner, EHLO, STARTTLS: the next host, then deferred.
  for name, fault in pairs {
    ["a 5xx banner"] = { banner = "554 5.3.2 Not today" }, ["a 421 banner"] = { banner = "421 4.3.2 Not now" },
    ["a 5xx to EHLO and HELO"] = { ehlo = "550 5.7.1 Not you", helo = "550 5.7.1 Not you" },
    ["no answer"] = { connect = "timeout" }, ["a refused connection"] = { connect = "refused" },
    ["an end before the banner"] = { banner = { close = true } }, ["an end at MAIL"] = { mail = { close = true } },
    ["an end at DATA"] = { data = { close = true } }, ["silence at MAIL"] = { mail = { silent = true } },
    ["nonsense"] = { banner = { raw = "hello\r\n" } }, ["mixed codes"] = { mail = { raw = "250-a\r\n550 b\r\n" } },
  } do
    it("goes to the next host after " .. name .. ", and when there is none, defers", function()
      local two = test.server()
      local rows = outcome("you@example.net", world { ["one.example.net"] = fault, ["two.example.net"] = two })
      is(rows["you@example.net"], "delivered", "body", "250 2.0.0 Taken")
      assert.equal("two.example.net", rows["you@example.net"].host)

      rows = outcome("you@example.net", world { ["one.example.net"] = fault, ["two.example.net"] = { connect = "refused" } })
      assert.equal("deferred", rows["you@example.net"].state)
      assert.equal(451, rows["you@example.net"].reply.code)
      assert.is_true(rows["you@example.net"].own)
      assert.matches("two.example.net", rows["you@example.net"].reply.text)
    end)
  end

  it("does not send twice what may have been taken: an end behind the final dot is unknown, and no other host is asked", function()
    for _, fault in ipairs { { close = true }, { silent = true } } do
      local two = test.server()
      local rows, result, err = outcome("you@example.net", world {
        ["one.example.net"] = { body = fault }, ["two.example.net"] = two,
      })
      assert.is_nil(result)
      assert.equal("unknown", rows["you@example.net"].state)
      assert.is_true(err.temporary)
      assert.equal(0, two.sessions)
    end
  end)

  for stage, script in pairs {
    mail = { mail = "%s no" }, rcpt = { rcpt = "%s no" }, data = { data = "%s no" }, body = { body = "%s no" },
  } do
    it("asks no other host when " .. stage .. " was refused", function()
      for code, state in pairs { ["550 5.7.1"] = "refused", ["450 4.2.1"] = "deferred" } do
        local two, server = test.server(), {}
        for verb, text in pairs(script) do
          server[verb] = text:format(code)
        end
        local rows, _, err = outcome("you@example.net", world { ["one.example.net"] = server, ["two.example.net"] = two })
        is(rows["you@example.net"], state, stage, code .. " no")
        assert.equal(0, two.sessions)
        assert.equal(state, err.kind)
        assert.equal(state == "deferred", err.temporary)
      end
    end)
  end

  it("has an outcome for each: some refused with what follows pipelined", function()
    local one = test.server { rcpt = { "250 ok", "550 5.1.1 nobody", "450 4.2.1 busy" } }
    local rows, _, err = outcome({ "a@example.net", "b@example.net", "c@example.net" }, world { ["one.example.net"] = one })
    is(rows["a@example.net"], "delivered", "body", "250 2.0.0 Taken")
    is(rows["b@example.net"], "refused", "rcpt", "550 5.1.1 nobody")
    is(rows["c@example.net"], "deferred", "rcpt", "450 4.2.1 busy")
    assert.equal("deferred", err.kind)
    assert.same({ "a@example.net" }, one.messages[1].recipients)
  end)

  it("answers a 354 with nobody accepted by a lone dot", function()
    local one = test.server { rcpt = "550 5.1.1 nobody" }
    local rows = outcome("you@example.net", world { ["one.example.net"] = one })
    is(rows["you@example.net"], "refused", "rcpt", "550 5.1.1 nobody")
    assert.equal("", one.messages[1] and one.messages[1].octets or "")
  end)

  it("sends the rest at once when there was no room for all", function()
    local one = test.server { rcpt = { "250 ok", "250 ok", "452 4.5.3 too many", "250 ok" } }
    local rows, result = outcome({ "a@example.net", "b@example.net", "c@example.net" }, world { ["one.example.net"] = one })
    assert.is_true(result.ok)
    is(rows["c@example.net"], "delivered", "body", "250 2.0.0 Taken")
    assert.equal(1, one.sessions)
    assert.same({ "a@example.net", "b@example.net" }, one.messages[1].recipients)
    assert.same({ "c@example.net" }, one.messages[2].recipients)
  end)

  it("takes those who are left to the next host when the connection breaks, and asks for the others no more", function()
    local one = test.server { rcpt = { "250 ok", "550 5.1.1 nobody", "250 ok" }, data = { close = true } }
    local two = test.server { extensions = { "DSN" } }
    local rows = outcome({ "a@example.net", "b@example.net", "c@example.net" },
      world { ["one.example.net"] = one, ["two.example.net"] = two }, { params = { ret = "HDRS" } })
    is(rows["a@example.net"], "delivered", "body", "250 2.0.0 Taken")
    is(rows["b@example.net"], "refused", "rcpt", "550 5.1.1 nobody")
    is(rows["c@example.net"], "delivered", "body", "250 2.0.0 Taken")
    assert.same({ "a@example.net", "c@example.net" }, two.messages[1].recipients)
    assert.matches("RET=HDRS", two.commands[2])
  end)

  it("is given up with who waits for it, for every domain", function()
    local slow = function()
      return test.server { data = { { "354 go", after = "60s" } } }
    end
    local one, other = slow(), slow()
    test.run(function()
      local result, err = moonpost.timeout(10, moonpost.send, {
        from = "me@example.org", to = { "a@one.example", "b@other.example" }, text = "x",
      })
      assert.is_nil(result)
      assert.equal("timeout", err.kind)
      moonpost.sleep(600)
    end, world({ ["one.example"] = one, ["other.example"] = other }, {}))
    assert.same({ 1, 1 }, { one.sessions, other.sessions })
    assert.same({ {}, {} }, { one.messages, other.messages })
  end)

  it("has a transaction per domain, at the same time", function()
    local one, other = test.server { banner = { "220 one", after = "10s" } }, test.server { banner = { "220 other", after = "10s" } }
    local before, after
    test.run(function(here)
      before = here:now()
      assert(moonpost.send { from = "me@example.org", to = { "a@example.net", "b@example.com", "c@EXAMPLE.net" }, text = "x" })
      after = here:now()
    end, world({ ["one.example.net"] = one, ["example.com"] = other }))
    assert.same({ "a@example.net", "c@EXAMPLE.net" }, one.messages[1].recipients)
    assert.same({ "b@example.com" }, other.messages[1].recipients)
    assert.is_true(after - before < 15)
  end)

  it("refuses what DNS says for good, and defers what it does not know", function()
    local rows = outcome({ "a@nowhere.example", "b@null.example", "c@broken.example", "d@loop.example" }, world({}, {
      ["null.example"] = { MX = { 0, "." } }, ["broken.example"] = "servfail",
      ["loop.example"] = { MX = { 10, "lo.example" } }, ["lo.example"] = { A = "127.0.0.1" },
    }))
    assert.equal("5.1.2", rows["a@nowhere.example"].reply.enhanced)
    assert.equal("refused", rows["a@nowhere.example"].state)
    assert.equal("5.1.10", rows["b@null.example"].reply.enhanced)
    assert.equal("4.4.3", rows["c@broken.example"].reply.enhanced)
    assert.equal("deferred", rows["c@broken.example"].state)
    assert.equal("5.4.4", rows["d@loop.example"].reply.enhanced)
  end)

  it("speaks to the domain itself where there is no MX", function()
    local one = test.server()
    local rows = outcome("you@example.net", world({ ["example.net"] = one }, {}))
    is(rows["you@example.net"], "delivered", "body", "250 2.0.0 Taken")
  end)

  -- WIRE: U-label domain, peer without SMTPUTF8: A-label; a non-ASCII local part fails with 5.6.7.
  it("sends A-labels to a peer without SMTPUTF8, and no local part that is not ASCII", function()
    local names = { ["xn--bcher-kva.example"] = { MX = { 10, "one.example.net" } } }
    local one = test.server { extensions = { "PIPELINING", "8BITMIME" } }
    local rows = outcome({ "you@bücher.example", "du@bücher.example" }, world({ ["one.example.net"] = one }, names))
    assert.equal("delivered", rows["you@bücher.example"].state)
    assert.same({ "you@xn--bcher-kva.example", "du@xn--bcher-kva.example" }, one.messages[1].recipients)
    rows = outcome("dü@bücher.example", world({ ["one.example.net"] = one }, names))
    assert.equal("refused", rows["dü@bücher.example"].state)
    assert.equal("5.6.7", rows["dü@bücher.example"].reply.enhanced)
    assert.is_true(rows["dü@bücher.example"].own)
  end)

  it("refuses here what the peer cannot carry", function()
    local message = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n--b\r\n\r\nsigned\r\n--b--\r\n"
    for enhanced, case in pairs {
      ["5.6.3"] = { { "PIPELINING" }, message }, ["5.3.4"] = { { "SIZE 10" }, "Subject: more than ten\r\n\r\nx\r\n" },
      ["5.6.7"] = { { "8BITMIME" }, "Subject: Gr\xc3\xbc\xc3\x9fe\r\n\r\nx\r\n" },
    } do
      local one = test.server { extensions = case[1] }
      local result, err = test.run(function()
        return moonpost.send { from = "me@example.org", to = "you@example.net", message = case[2] }
      end, world { ["one.example.net"] = one })
      assert.is_nil(result)
      assert.equal(enhanced, err.recipients[1].reply.enhanced)
      assert.equal("refused", err.kind)
      assert.equal(0, #one.messages)
    end
  end)
end)

describe("a message with 8-bit parts, for a server without 8BITMIME", function()
  local mime = require "moonpost.mime"

  it("is converted, from a string, pieces and a queue", function()
    local octets = "Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
    local function pieces()
      local given
      return function()
        local piece = not given and octets or nil
        given = true
        return piece
      end
    end
    local one = test.server { extensions = { "PIPELINING", "SIZE 1000000" } }
    test.run(function()
      local mail = { from = "me@example.org", to = "you@example.net", params = { body = "8BITMIME" } }
      for _, message in ipairs { octets, pieces } do
        mail.message = message
        assert(moonpost.send(mail))
      end
      local queue = moonpost.queue { spool = "/spool", hostname = "mx.example.org" }
      mail.message = octets
      assert(queue:send(mail))
      moonpost.sleep(5)
    end, world { ["one.example.net"] = one })
    assert.equal(3, #one.messages)
    for _, message in ipairs(one.messages) do
      assert.is_nil(message.octets:find "[\x80-\xff]")
      assert.equal("Gr\u{fc}\u{df}e\r\n", assert(mime.parse(message.octets)).root:text())
      assert.equal("x", assert(mime.parse(message.octets)).root.headers:get "Subject")
    end
  end)
end)

describe("moonpost.send, via a smarthost", function()
  it("sends everybody in one transaction, and looks for no MX", function()
    local relay = test.server()
    local rows = outcome({ "a@example.net", "b@example.com" }, world({ ["relay.example.org"] = relay }, {}), {
      via = "smtp://relay.example.org:2525",
    })
    assert.equal("delivered", rows["b@example.com"].state)
    assert.same({ "a@example.net", "b@example.com" }, relay.messages[1].recipients)
  end)

  it("speaks LMTP over a socket, with an outcome for each", function()
    local store = test.server { lmtp = true, body = { "250 2.0.0 ok", "552 5.2.2 full" } }
    local rows = outcome({ "a@example.net", "b@example.net" }, world { ["unix:/run/lmtp.sock"] = store }, { via = "lmtp://unix:/run/lmtp.sock" })
    is(rows["a@example.net"], "delivered", "body", "250 2.0.0 ok")
    is(rows["b@example.net"], "refused", "body", "552 5.2.2 full")
    assert.matches("^LHLO ", store.commands[1])
  end)

  it("never gives a password away in clear", function()
    local relay = test.server { extensions = { "AUTH PLAIN LOGIN" } }
    local rows = outcome("you@example.net", world { ["relay.example.org"] = relay }, { via = "smtp://me:geheim@relay.example.org" })
    assert.equal("deferred", rows["you@example.net"].state)
    assert.equal("tls", rows["you@example.net"].stage)
    assert.is_nil(table.concat(relay.commands, "\n"):find("AUTH", 1, true))
    assert.is_nil(tostring(rows["you@example.net"].reply):find("geheim", 1, true))
  end)

  it("gives it where that is asked for by name, and starred to a trace", function()
    local relay = test.server { extensions = { "AUTH PLAIN" } }
    local traced = {}
    local rows = outcome("you@example.net", world { ["relay.example.org"] = relay }, {
      via = "smtp://relay.example.org", tls = "none", auth = { user = "me", password = "geheim", in_clear = "PLAIN" },
      trace = function(direction, octets)
        traced[#traced + 1] = direction .. " " .. octets
      end,
    })
    assert.equal("delivered", rows["you@example.net"].state)
    local all = table.concat(traced, "\n")
    assert.matches("AUTH PLAIN", all)
    assert.truthy(all:find("***", 1, true))
    assert.is_nil(all:find("AG1lAGdlaGVpbQ", 1, true))
    assert.equal("AUTH PLAIN AG1lAGdlaGVpbQ==", relay.commands[2])
  end)

  it("is deferred when it refuses the password", function()
    local relay = test.server { extensions = { "AUTH PLAIN" }, auth = "535 5.7.8 no" }
    local rows = outcome("you@example.net", world { ["relay.example.org"] = relay }, {
      via = "smtp://relay.example.org", tls = "none", auth = { user = "me", password = "geheim", in_clear = "PLAIN" },
    })
    assert.same({ "deferred", "auth" }, { rows["you@example.net"].state, rows["you@example.net"].stage })
    assert.equal(0, #relay.messages)
  end)
end)

describe("moonpost.send, the message", function()
  local function sent(message, extensions)
    local one = test.server { extensions = extensions }
    local result, err = test.run(function()
      return moonpost.send { from = "me@example.org", to = "you@example.net", message = message, via = "smtp://one.example.net" }
    end, world({ ["one.example.net"] = one }))
    assert.is_nil(err)
    assert.is_true(result.ok)
    return one.messages[1]
  end

  -- WIRE: body with \n.\r\n, lone CR, no final CRLF: canonical CRLF, dot-stuffed, one message arrives identical.
  it("arrives as one, canonical", function()
    for given, arrives in pairs {
      ["a\r\n.\r\nb\r\n"] = "a\r\n.\r\nb\r\n", ["a\n.\r\nb"] = "a\r\n.\r\nb\r\n", ["a\rb\r\n"] = "a\r\nb\r\n", [".\r\n..\r\n"] = ".\r\n..\r\n",
      [""] = "", ["a"] = "a\r\n", ["\n.\nQUIT\n"] = "\r\n.\r\nQUIT\r\n",
    } do
      for _, extensions in ipairs { { "PIPELINING" }, { "PIPELINING", "CHUNKING" } } do
        assert.equal(arrives, sent(given, extensions).octets)
      end
    end
  end)

  it("comes in chunks from an iterator, which may wait", function()
    local pieces = { "Subject: x\r\n", "\r\n", ("y"):rep(100000), "\r\nend" }
    local arrived = sent(function()
      local i = 0
      return function()
        i = i + 1
        moonpost.sleep(1)
        return pieces[i]
      end
    end)
    assert.equal(table.concat(pieces) .. "\r\n", arrived.octets)
  end)

  -- A piece may be longer than is taken at once: it was dropped, and the message waited for ever.
  it("is not sent in part when a chunk is too long", function()
    local one = test.server()
    local _, err = test.run(function()
      return moonpost.send { from = "me@example.org", to = "you@example.net", via = "smtp://one.example.net", message = function()
        local chunks = { "Subject: x\r\n\r\n", ("x"):rep((16 << 20) + 1) }
        return function()
          return table.remove(chunks, 1)
        end
      end }
    end, world { ["one.example.net"] = one })
    assert.equal("deferred", err.recipients[1].state)
    assert.matches("cannot be read: out of memory", err.recipients[1].reply.text)
    assert.equal(0, #one.messages)
  end)

  -- A chunk of BDAT is refused while the next is still being made: that one was taken for a piece of the message behind it.
  it("has nothing in it of the one before, whose iterator was late", function()
    local one = test.server { extensions = { "PIPELINING", "CHUNKING", "SIZE" } }
    local accept, refused = one.accept, false
    function one:accept() -- its script answers the last chunk alone
      local session = accept(self)
      local take = session.take
      function session.take(it)
        local action = take(it)
        if action and not refused and action.octets and action.octets:find("Go on", 1, true) then
          refused, action.octets = true, "452 4.3.1 No room\r\n"
        end
        return action
      end
      return session
    end
    local function slow(text)
      return function()
        local i = 0
        return function()
          i = i + 1
          if i == 2 then
            moonpost.sleep(10)
          end
          return i < 3 and text or nil
        end
      end
    end
    test.run(function()
      local client = assert(moonpost.connect { url = "smtp://one.example.net" })
      local mail = { from = "me@example.org", to = "you@example.net", params = { size = 200000 }, message = slow(("a"):rep(1000)) }
      local _, err = client:send(mail)
      assert.equal("No room", err.recipients[1].reply.text)
      mail.message = slow(("b"):rep(1000))
      assert.is_true(assert(client:send(mail)).ok)
      client:close()
    end, world { ["one.example.net"] = one })
    assert.equal(("b"):rep(2000), one.messages[1].octets:gsub("%s", ""))
  end)

  it("is not sent in part when its iterator fails", function()
    local one = test.server()
    local _, err = test.run(function()
      return moonpost.send { from = "me@example.org", to = "you@example.net", via = "smtp://one.example.net", message = function()
        local i = 0
        return function()
          i = i + 1
          return i == 1 and "Subject: x\r\n\r\n" or error("disk on fire", 0)
        end
      end }
    end, world { ["one.example.net"] = one })
    assert.equal("deferred", err.recipients[1].state)
    assert.matches("disk on fire", err.recipients[1].reply.text)
    assert.equal(0, #one.messages)
  end)

  it("large goes by BDAT where CHUNKING is offered", function()
    local octets = ("Subject: x\r\n\r\n" .. ("z"):rep(70) .. "\r\n"):rep(3000)
    local arrived = sent(octets, { "PIPELINING", "CHUNKING" })
    assert.is_true(arrived.chunked)
    assert.equal(octets, arrived.octets)
    assert.is_false(sent("not\ncanonical\r\n", { "PIPELINING", "CHUNKING" }).chunked)
  end)

  it("small goes along with its envelope where PIPELINING and CHUNKING are offered: one round trip", function()
    local one = test.server { extensions = { "PIPELINING", "CHUNKING" }, mail = { { "250 ok", after = "1s" } } }
    local seconds = test.run(function(here)
      local client <close> = assert(moonpost.connect "smtp://one.example.net")
      local before = here:now()
      assert(client:send { from = "me@example.org", to = "you@example.net", message = "a\r\n" })
      return here:now() - before
    end, world({ ["one.example.net"] = one }))
    assert.is_true(one.messages[1].chunked)
    assert.is_true(seconds < 1.5)
  end)
end)

describe("moonpost.send, what a script gets wrong", function()
  for text, options in pairs {
    ['unknown option "too" (did you mean "to"?)'] = { from = "a@example.org", too = "b@example.org" },
    ["from is needed"] = { to = "b@example.org" },
    ["to: at least one recipient"] = { from = "a@example.org" },
    ["from: a line break or control character"] = { from = "a@example.org\r\nRCPT TO:<x@example.org>", to = "b@example.org" },
    ["to: a line break or control character"] = { from = "a@example.org", to = "b@example.org\n" },
    ['to: "nobody" is no address'] = { from = "a@example.org", to = "nobody" },
    ["message and subject: one of them"] = { from = "a@example.org", to = "b@example.org", message = "x", subject = "y" },
    ["message: a string"] = { from = "a@example.org", to = "b@example.org", message = 5 },
    ['unknown protocol "smpt" (did you mean "smtp"?)'] = { from = "a@example.org", to = "b@example.org", via = "smpt://x" },
    ["tls: a level"] = { from = "a@example.org", to = "b@example.org", tls = 5 },
    ['did you mean "required"'] = { from = "a@example.org", to = "b@example.org", tls = "require" },
    ["auth: a password or a token"] = { from = "a@example.org", to = "b@example.org", auth = { user = "x" } },
    ['unknown option "auth.pasword"'] = { from = "a@example.org", to = "b@example.org", auth = { pasword = "x" } },
    ['params: unknown name "envId" (did you mean "envid"?)'] = { from = "a@example.org", to = "b@example.org", params = { envId = "x" } },
    ['params.notify: unknown name "success" (did you mean "SUCCESS"?)'] = {
      from = "a@example.org", to = { { address = "b@example.org", params = { notify = { success = true } } } },
    },
    ["timeouts.banner"] = { from = "a@example.org", to = "b@example.org", timeouts = { banner = "soon" } },
  } do
    it("is told at its line: " .. text, function()
      local ok, err = pcall(function()
        local result = moonpost.send(options)
        return result
      end)
      assert.is_false(ok)
      assert.truthy(tostring(err):find(text, 1, true), err)
      assert.matches("send_spec.lua:%d+: moonpost.send: ", err)
      assert.is_nil(tostring(err):find("[\r\n]"))
    end)
  end
end)

describe("moonpost.send, TLS that is believed", function()
  local function send(script, options, scheme)
    local relay = test.server(script)
    local rows = outcome("you@example.net", world({ ["relay.example.org"] = relay }, {}), (function()
      local how = { via = (scheme or "smtp") .. "://relay.example.org" }
      for name, value in pairs(options or {}) do
        how[name] = value
      end
      return how
    end)())
    return rows["you@example.net"], relay
  end

  it("is used where it is offered, and EHLO said again", function()
    local row, relay = send({ tls = true })
    assert.equal("delivered", row.state)
    assert.is_true(row.tls.used)
    assert.equal("TLSv1.3", row.tls.version)
    assert.is_true(relay.messages[1].tls)
    assert.same({ "STARTTLS" }, { relay.commands[2] })
    assert.matches("^EHLO ", relay.commands[3])
  end)

  it("is from the start where the URL says so", function()
    local row, relay = send({}, nil, "smtps")
    assert.equal("delivered", row.state)
    assert.is_true(row.tls.used)
    assert.is_true(relay.messages[1].tls)
  end)

  it("has to be offered where it is required", function()
    local row, relay = send({}, { tls = "required" })
    assert.same({ "deferred", "tls" }, { row.state, row.stage })
    assert.equal(0, #relay.messages)
    row = send({ tls = true, starttls = "454 4.7.0 Not now" }, { tls = "required" })
    assert.same({ "deferred", "tls" }, { row.state, row.stage })
    row = send({ tls = true, starttls = "454 4.7.0 Not now" })
    assert.equal("delivered", row.state)
    assert.is_false(row.tls.used)
    assert.matches("454 4.7.0 Not now", row.tls.why)
  end)

  it("is judged by what it is asked for", function()
    for level, state in pairs { opportunistic = "delivered", required = "delivered", verified = "deferred" } do
      local row, relay = send({ tls = { verified = false, why = "certificate expired" } }, { tls = level })
      assert.equal(state, row.state)
      if state == "deferred" then
        assert.equal("4.7.5", row.reply.enhanced)
        assert.matches("certificate expired", row.reply.text)
        assert.equal(0, #relay.messages)
      end
    end
    assert.equal("delivered", (send({ tls = true }, { tls = "verified" })).state)
  end)

  it("makes way for credentials", function()
    local row, relay = send({ tls = true, extensions = { "AUTH PLAIN" } }, { auth = { user = "me", password = "geheim" } })
    assert.equal("delivered", row.state)
    assert.matches("^AUTH PLAIN ", relay.commands[4])
  end)
end)
