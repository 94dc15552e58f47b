local log = require "moonpost.log"
local moonpost = require "moonpost"
local test = require "moonpost.test"
local tmpdir = require "spec.support.tmpdir"

--- A policy with the given hooks.
local function load(hooks, options, given)
  local all = { hostname = "mx.example.org", listen = { "smtp://127.0.0.1:25" }, domains = { "example.org" } }
  for key, value in pairs(given or {}) do
    all[key] = value
  end
  local policy = test.load(function()
    local server = moonpost.server(all)
    for name, hook in pairs(hooks) do
      server.on[name] = hook
    end
    return server
  end, options)
  return policy
end

local function deliver(_, message)
  message:deliver { maildir = "/var/mail/%{mailbox}" }
end

local function greeted(policy, how)
  local peer = policy:session(how or "203.0.113.9")
  peer:ehlo "mail.example.net"
  return peer
end

describe("moonpost.test: slips of who writes a test", function()
  for name, case in pairs {
    ["an address that is none"] = { function(policy) policy:session "localhost" end,
      'policy:session: ip: "localhost" is no IP address' },
    ["a session after the end"] = { function(policy) policy:stop() policy:session() end,
      "policy:session: the server has been stopped" },
    ["a message to nobody"] = { function(policy) greeted(policy):send_message { from = "a@example.net" } end,
      "peer:send_message: `to` is missing" },
    ["a sender that would be a field"] = { function(policy)
      greeted(policy):send_message { form = "a@example.net", to = "b@example.org" }
    end, 'peer:send_message: "form" (did you mean "from"?)' },
  } do
    it("are named at the line of the test: " .. name, function()
      local ok, err = pcall(case[1], load { message = deliver })
      assert.is_false(ok)
      assert.matches("^%.?/?spec/lua/test_kit_spec.lua:%d+: ", err)
      assert.matches(case[2], err, 1, true)
    end)
  end

  it("let a bounce be one", function()
    assert.equal(250, greeted(load { message = deliver }):send_message({ to = "b@example.org" }).code)
  end)

  it("are told what a hook may return, and what it did", function()
    local returned
    local policy = load { rcpt = function() return table.unpack(returned, 1, 3) end }
    local peer = greeted(policy)
    peer:mail "a@example.net"
    for words, values in pairs {
      ["false: no verdict (nothing, true, or a code and a text are)"] = { false },
      ["nil, no database: no verdict"] = { nil, "no database" },
      ["a reply that cannot be sent: class of the enhanced status code does not fit the reply code: 550 2.1.5"] =
        { 550, "2.1.5", "No" },
    } do
      returned = values
      assert.equal(451, peer:rcpt("b@example.org").code)
      local event = table.remove(policy.log)
      assert.matches("the hook returned " .. words, event.fields.error, 1, true)
    end
  end)
end)

describe("moonpost.test.load", function()
  it("takes a file, a function and a server", function()
    local dir <close> = tmpdir.new()
    local path = dir:write("policy.lua", [[
      local moonpost = require "moonpost"
      return moonpost.server { hostname = "file.example.org", listen = "smtp://127.0.0.1:25" }
    ]])
    assert.equal(220, test.load(path):session().greeting.code)
    local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25" }
    assert.equal("mx.example.org ESMTP moonpost", test.load(server):session().greeting.text)
    assert.equal(220, load({}):session().greeting.code)
    local _, err = pcall(test.load, server)
    assert.truthy(err:find("test.load: this server has been started; give a function that makes a new one", 1, true))
  end)

  it("raises what is wrong with a policy, with file and line", function()
    local dir <close> = tmpdir.new()
    local function message(text)
      local path = dir:write("policy.lua", text)
      local _, err = pcall(test.load, path)
      return (err:gsub("^.*/policy.lua", "policy.lua"))
    end
    assert.equal("policy.lua:2: unexpected symbol near '='", message("\n= 1"))
    assert.truthy(message('require("moonpost").server { liste = 1 }')
      :find('^policy.lua:1: moonpost.server: unknown option "liste"'))
    assert.equal("policy.lua:1: oh", message('error("oh")'))
    assert.truthy(message("return 7"):find("^policy.lua: a policy returns moonpost.server"))
    assert.truthy(message('require("moonpost").sleep(5)'):find("waits for sleep%(5%) while it is loaded"))
    assert.truthy(message('return require("moonpost").server { listen = "submission://127.0.0.1:587" }')
      :find("policy.lua: submission://127.0.0.1:587 demands AUTH", 1, true))
  end)

  it("refuses unknown options at the caller's line", function()
    local _, err = pcall(load, {}, { nwo = 1 })
    assert.truthy(err:find("^spec/lua/test_kit_spec.lua:%d+: "), err)
    assert.truthy(err:find('test.load: unknown option "nwo" (did you mean "now"?)', 1, true))
  end)

  it("loads the modules beside a policy anew each time, and keeps its globals to itself", function()
    local dir <close> = tmpdir.new()
    dir:write("counted.lua", "loads = (loads or 0) + 1 return { count = 0, loads = loads }")
    local path = dir:write("policy.lua", [[
      local counted = require "counted"
      a_global = true
      counted.count = counted.count + 1
      local server = require("moonpost").server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25" }
      function server.on.connect() return 220, counted.count .. require("counted").loads .. tostring(_G.a_global) end
      return server
    ]])
    for _ = 1, 2 do
      local greeting = test.load(path):session().greeting
      assert.equal("mx.example.org 11true", greeting.text)
    end
    assert.is_nil(package.loaded.counted)
    assert.is_nil(rawget(_G, "a_global"))
  end)

  it("puts modules of the test in the place of a policy's", function()
    local dir <close> = tmpdir.new()
    dir:write("accounts.lua", "error 'not in a test'")
    local path = dir:write("policy.lua", [[
      local server = require("moonpost").server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25" }
      function server.on.connect() return 220, require("accounts").motto end
      return server
    ]])
    local policy = test.load(path, { modules = { accounts = { motto = "stub" } } })
    assert.equal("mx.example.org stub", policy:session().greeting.text)
  end)

  it("gives each policy what workers share, and what happens once, of its own", function()
    local function once()
      return load {
        start = function()
          moonpost.once("spec", function()
            moonpost.log.info "first"
          end)
        end,
        connect = function()
          return 220, tostring(moonpost.shared("spec"):incr "n")
        end,
      }
    end
    local one, other = once(), once()
    assert.equal("mx.example.org 1", one:session().greeting.text)
    assert.equal("mx.example.org 2", one:session().greeting.text)
    assert.equal("mx.example.org 1", other:session().greeting.text)
    assert.equal(1, #one:logged "first")
    assert.equal(1, #other:logged "first")
  end)

  it("keeps a policy's log and what it prints, and writes none of it", function()
    local before = log.settings and log.settings()
    local policy = load({
      start = function()
        print("hello", 1)
        log.configure { level = "error" }
      end,
      mail = function()
        moonpost.log.info "not seen"
        moonpost.log.error("seen", { password = "geheim", count = 1 })
      end,
    })
    greeted(policy):mail "a@example.net"
    assert.same({ "hello\t1" }, policy.printed)
    assert.equal(1, #policy.log)
    assert.equal("error seen count=1 password=[redacted]", tostring(policy.log[1]))
    assert.equal(1, #policy:logged("seen", { count = 1 }))
    assert.same({}, policy:logged("seen", { count = 2 }))
    assert.same(before, log.settings and log.settings())
    policy:forget()
    assert.same({}, policy.log)
  end)

  it("logs a hook's fault with its traceback", function()
    local policy = load { mail = function()
      return _G.missing.field
    end }
    assert.equal(451, greeted(policy):mail("a@example.net").code)
    local event = policy:logged("hook failed")[1]
    assert.truthy(event.fields.error:find("test_kit_spec.lua:%d+: attempt to index a nil value"))
    assert.truthy(event.fields.traceback)
  end)

  it("lets a policy's generators wait, as they may where it is served", function()
    local wrap = coroutine.wrap
    local policy = load { mail = function()
      local numbers = coroutine.wrap(function()
        for i = 1, 3 do
          moonpost.sleep(1)
          coroutine.yield(i)
        end
      end)
      return 450, tostring(numbers() + numbers() + numbers())
    end }
    local pending = greeted(policy):start_mail "a@example.net"
    policy:advance(3)
    assert.equal("6", pending:reply().text)
    assert.equal(wrap, coroutine.wrap)
  end)

  it("stops a hook that loops for ever, as life does", function()
    local policy = load({ mail = function()
      while true do end -- luacheck: ignore 542
    end }, nil, { limits = { cpu_time = 0.05 } })
    assert.equal(451, greeted(policy):mail("a@example.net").code)
  end)
end)

describe("moonpost.test: a session", function()
  it("takes replies apart", function()
    local policy = load { rcpt = function()
      return 550, "5.1.1", "No such\nmailbox"
    end, message = deliver }
    local peer = greeted(policy)
    assert.equal("50000000", peer.extensions.SIZE)
    assert.equal("", peer.extensions.PIPELINING)
    peer:mail "a@example.net"
    local reply = peer:rcpt "bob@example.org"
    assert.equal(550, reply.code)
    assert.equal(5, reply.class)
    assert.equal("5.1.1", reply.enhanced)
    assert.equal("No such\nmailbox", reply.text)
    assert.same({ "550-5.1.1 No such", "550 5.1.1 mailbox" }, reply.lines)
    assert.equal("550-5.1.1 No such\n550 5.1.1 mailbox", tostring(reply))
  end)

  it("speaks every verb", function()
    local peer = load({ message = deliver }):session()
    assert.equal(250, peer:helo("mail.example.net").code)
    assert.equal(250, peer:ehlo().code)
    assert.equal(250, peer:noop().code)
    assert.equal(252, peer:vrfy("bob").code)
    assert.equal(502, peer:expn("list").code)
    assert.equal(214, peer:help().code)
    assert.equal(250, peer:mail("", { size = 10, body = "8BITMIME" }).code)
    assert.equal(250, peer:rset().code)
    assert.equal(250, peer:mail("<a@example.net>", "SIZE=10").code)
    assert.equal(250, peer:rcpt("bob@example.org").code)
    assert.equal(250, peer:bdat("Subject: a\r\n\r\n", false).code)
    assert.equal(250, peer:bdat("b", true).code)
    assert.equal(500, peer:raw("XYZZY").code)
    assert.equal(221, peer:quit().code)
    assert.is_true(peer.closed)
    local _, err = pcall(peer.noop, peer)
    assert.truthy(err:find("noop: the server has closed the connection (it said last: 221", 1, true))
  end)

  it("stuffs dots, and ends lines and messages as RFC 5321 wants", function()
    local policy = load { message = deliver }
    local peer = greeted(policy)
    peer:mail "a@example.net"
    peer:rcpt "bob@example.org"
    assert.equal(250, peer:data(".one\n..two\n.\nthree").code)
    assert.equal(".one\n..two\n.\nthree\n", policy.sent[1].message:match("\n(%.one.*)$"))
  end)

  it("composes messages of tables", function()
    local policy = load { message = deliver }
    greeted(policy):send_message {
      from = "a@example.net", to = { "bob@example.org", "eve@example.org" }, subject = "Hi", reply_to = "c@example.net",
      headers = { "X-First: 1", { "X-Second", 2 } }, body = "Hello.\n",
    }
    assert.equal("From: a@example.net\nTo: bob@example.org, eve@example.org\nReply-To: c@example.net\nSubject: Hi"
      .. "\nX-First: 1\nX-Second: 2\n\nHello.\n", policy.sent[1].message:match("From: .*$"))
  end)

  it("ends a transaction that is refused with the refusal, and can begin another", function()
    local policy = load { mail = function(_, sender)
      return sender.address == "evil@example.net" and 550 or nil, sender.address == "evil@example.net" and "No" or nil
    end, rcpt = function(_, recipient)
      if recipient.mailbox == "nobody" then
        return 550, "5.1.1", "No such mailbox"
      end
    end, message = deliver }
    local peer = greeted(policy)
    assert.equal(550, peer:send_message { from = "evil@example.net", to = "bob@example.org" }.code)
    local reply, recipients = peer:send_message { from = "a@example.net", to = "nobody@example.org" }
    assert.equal("5.1.1", reply.enhanced)
    assert.equal(1, #recipients)
    reply, recipients = peer:send_message { from = "a@example.net", to = { "nobody@example.org", "bob@example.org" } }
    assert.equal(250, reply.code)
    assert.same({ 550, 250 }, { recipients[1].code, recipients[2].code })
    assert.equal("From: a@example.net\nTo: nobody@example.org, bob@example.org\n\n",
      policy.sent[1].message:match("From:.*$"))
  end)

  it("pipelines", function()
    local policy = load { message = deliver }
    local peer = greeted(policy)
    local codes = {}
    for i, reply in ipairs(peer:pipeline { "MAIL FROM:<a@example.net>", "RCPT TO:<b@example.org>", "DATA" }) do
      codes[i] = reply.code
    end
    assert.same({ 250, 250, 354 }, codes)
    assert.equal(250, peer:send(".\r\n")[1].code)
    assert.equal(1, #policy.sent)
  end)

  it("sends exactly the octets it is given", function()
    local peer = greeted(load {})
    local replies = peer:send "NOOP\r\nNOOP\r\nNO"
    assert.equal(2, #replies)
    assert.equal(250, peer:send("OP\r\n")[1].code)
    local _, err = pcall(peer.raw, peer, "NOOP\r\nQUIT")
    assert.truthy(err:find("test_kit_spec.lua:%d+: a line break inside a command"))
  end)

  it("knows the peer's address, and may come over a unix socket", function()
    local seen = {}
    local policy = load({ connect = function(session)
      table.insert(seen, { session.ip, session.port, session.local_port, session.unix, session.uid, session.listener })
    end }, nil, { listen = { "smtp://127.0.0.1:2525", "lmtp://unix:/run/mail.sock" } })
    policy:session { ip = "2001:db8::1", port = 1234 }
    policy:session { listener = "lmtp", uid = 1000 }
    assert.same({ "2001:db8::1", 1234, 2525, false, nil, "smtp" }, { table.unpack(seen[1], 1, 6) })
    assert.same({ nil, nil, nil, true, 1000, "lmtp" }, { table.unpack(seen[2], 1, 6) })
    local _, err = pcall(function()
      policy:session { listener = "lmpt" }
    end)
    assert.truthy(err:find('^spec/lua/test_kit_spec.lua:%d+: there is no listener "lmpt" %(did you mean "lmtp"%?%)'))
    _, err = pcall(policy.session, policy, { pi = "192.0.2.1" })
    assert.truthy(err:find('unknown option "pi"', 1, true))
  end)

  it("answers per recipient over LMTP", function()
    local policy = load({ message = function(_, message)
      message:deliver { maildir = "/var/mail/%{mailbox}" }
      message:to(function(recipient)
        return recipient.mailbox == "full"
      end):refuse(452, "4.2.2", "Full")
    end }, nil, { listen = "lmtp://127.0.0.1:24" })
    local peer = policy:session { helo = "client.example" }
    local replies = peer:send_message { from = "a@example.net", to = { "bob@example.org", "full@example.org" } }
    assert.same({ 250, 452 }, { replies[1].code, replies[2].code })
    assert.equal(503, peer:data("")[1].code)
  end)

  it("leaves politely, or from one moment to the next", function()
    local gone, cancelled = {}, 0
    local policy = load { mail = function()
      local ok, err = pcall(moonpost.sleep, 60)
      cancelled = cancelled + (ok and 0 or 1)
      error(err, 0)
    end, disconnect = function(_, why)
      table.insert(gone, why)
    end }
    greeted(policy):disconnect()
    assert.same({ "peer closed the connection" }, gone)
    local peer = greeted(policy)
    peer:start_mail "a@example.net"
    peer:abort()
    assert.equal(1, cancelled)
    assert.equal(2, #gone)
    assert.same({}, policy:logged "hook failed")
  end)
end)

describe("moonpost.test: TLS", function()
  local given = { tls = "development", listen = { "smtp://127.0.0.1:25", "smtps://127.0.0.1:465" } }

  it("is pretended, with the facts that the test says", function()
    local seen
    local policy = load({ tls = function(session)
      seen = session.tls
    end }, nil, given)
    local peer = greeted(policy)
    assert.truthy(peer.extensions.STARTTLS)
    assert.equal(220, peer:starttls({ sni = "mx.example.org", verified = true, names = { "a.example", "b.example" },
      subject = "CN=a", fingerprint = "abc" }).code)
    assert.same({
      version = "TLSv1.3", cipher = "TLS_AES_256_GCM_SHA384", sni = "mx.example.org", verified = true, resumed = false,
      names = { "a.example", "b.example" }, subject = "CN=a", fingerprint = "abc",
    }, seen)
    assert.equal(503, peer:mail("a@example.net").code) -- HELO is forgotten
    assert.equal(250, peer:ehlo().code)
    assert.is_nil(peer.extensions.STARTTLS)
    assert.equal(503, peer:starttls().code)
  end)

  it("is there from the start on an implicit listener, and by `tls` on the others", function()
    local policy = load({ message = deliver }, nil, given)
    local peer = policy:session { listener = "smtps", tls = { version = "TLSv1.2" }, helo = "mail.example.net" }
    peer:send_message { from = "a@example.net", to = "bob@example.org" }
    assert.truthy(policy.sent[1].message:find("with ESMTPS (TLSv1.2 ", 1, true))
    assert.is_nil(policy:session({ tls = true, helo = "mail.example.net" }).extensions.STARTTLS)
  end)

  it("cannot be pretended where the server has not begun it", function()
    local peer = greeted(load({}, nil, given))
    assert.same({ "no TLS handshake is due" }, { select(2, peer._wire:tls {}) and select(2, peer._wire:tls {}) })
  end)

  it("needs no certificate's file", function()
    local policy = load({}, nil, { tls = { certificate = "/nowhere/mx.pem" } })
    assert.truthy(greeted(policy).extensions.STARTTLS)
  end)
end)

describe("moonpost.test: AUTH", function()
  local core = require "moonpost.core"
  local known = { scram = core.password("SCRAM-SHA-256", "geheim"), senders = { "bob@example.org" } }
  local hooks = {
    credentials = function(_, user)
      return user == "bob" and known or nil
    end,
    token = function(_, user, token)
      return user == "bob" and token == "t0k3n"
    end,
  }
  local given = {
    tls = "development", listen = "submission://127.0.0.1:587",
    mechanisms = { "PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS" },
  }

  for mechanism, secret in pairs {
    PLAIN = "geheim", LOGIN = "geheim", XOAUTH2 = "t0k3n", OAUTHBEARER = "t0k3n", ["SCRAM-SHA-256"] = "geheim",
    ["SCRAM-SHA-256-PLUS"] = "geheim",
  } do
    it("speaks " .. mechanism, function()
      local policy = load(hooks, nil, given)
      local peer = policy:session { tls = { exporter = ("x"):rep(32) }, helo = "client.example" }
      assert.equal(535, peer:auth(mechanism, "bob", "wrong").code)
      assert.equal(235, peer:auth(mechanism, "bob", secret).code)
      assert.equal(250, peer:mail("bob@example.org").code)
      assert.equal(250, peer:rset().code)
      assert.equal(553, peer:mail("eve@example.org").code)
    end)
  end

  it("says which mechanisms it does not speak", function()
    local peer = load(hooks, nil, given):session { tls = true, helo = "client.example" }
    local _, err = pcall(peer.auth, peer, "CRAM-MD5", "bob", "geheim")
    assert.truthy(err:find("peer:auth: CRAM%-MD5 is no mechanism that the test's peer speaks"))
  end)

  it("can be done by the session itself", function()
    local policy = load(hooks, nil, given)
    local peer = policy:session { tls = true, auth = { "PLAIN", "bob", "geheim" } }
    assert.equal(250, peer:mail("bob@example.org").code)
    local ok, err = pcall(policy.session, policy, { tls = true, auth = { "PLAIN", "bob", "wrong" } })
    assert.is_false(ok)
    assert.truthy(err:find("policy:session: AUTH: 535", 1, true))
  end)

  it("does not wait before it says no, unless the test wants the delays of life", function()
    local how = { tls = true, helo = "client.example" }
    assert.equal(535, load(hooks, nil, given):session(how):auth("PLAIN", "bob", "wrong").code)
    local policy = load(hooks, { delays = true }, given)
    local pending = policy:session(how):start_auth("PLAIN", "bob", "wrong")
    assert.is_false(pending:done())
    local _, err = pcall(pending.reply, pending)
    assert.truthy(err:find("auth is not answered; the next thing to happen is due in 1 s: policy:advance(1)", 1, true))
    policy:advance(1)
    assert.equal(535, pending:reply().code)
  end)
end)

describe("moonpost.test: the clock", function()
  local function sleepy(seconds)
    return { rcpt = function()
      moonpost.sleep(seconds)
      return 450, "4.2.0", "Not now"
    end }
  end

  it("stands still: a hook that waits for it is named", function()
    local policy = load(sleepy(10))
    local peer = greeted(policy)
    peer:mail "a@example.net"
    local _, err = pcall(function()
      peer:rcpt "bob@example.org"
    end)
    assert.truthy(err:find("^spec/lua/test_kit_spec.lua:%d+: rcpt is not answered: a hook waits for sleep%(10%); "
      .. "policy:advance%(%) turns the clock$"))
    assert.same({ "sleep(10)" }, policy:waits())
  end)

  it("is turned by the test, and commands under way are answered then", function()
    local policy = load(sleepy(10))
    local peer = greeted(policy)
    peer:mail "a@example.net"
    local one, two = peer:start_rcpt "bob@example.org", peer:begin "NOOP"
    policy:advance(9.999)
    assert.is_false(one:done())
    policy:advance("1ms")
    assert.equal(450, one:reply().code)
    assert.equal(250, two:reply().code)
    assert.equal(450, one:reply().code)
    assert.same({}, policy:waits())
  end)

  it("keeps a data command that waits at either end", function()
    local policy = load { data = function()
      moonpost.sleep(1)
    end, message = function(_, message)
      moonpost.sleep(2)
      message:discard "spec"
    end }
    local peer = greeted(policy)
    peer:mail "a@example.net"
    peer:rcpt "bob@example.org"
    local pending = peer:start_data "Subject: a\n\nb"
    policy:advance(1)
    assert.is_false(pending:done())
    policy:advance(2)
    assert.equal(250, pending:reply().code)
    assert.equal("discard", policy.sent[1].disposition)
  end)

  it("holds a greeting that a hook waits before", function()
    local policy = load { connect = function()
      moonpost.sleep(5)
    end }
    local peer, greeting = policy:start_session "203.0.113.9"
    assert.is_nil(peer.greeting)
    policy:advance(5)
    assert.equal(220, greeting:reply().code)
    assert.equal(220, peer.greeting.code)
    local _, err = pcall(policy.session, policy)
    assert.truthy(err:find("the connection is not answered: a hook waits for sleep%(5%)"))
  end)

  it("starts where the test says, for os.time and Received too", function()
    local seen
    local policy = load({ message = function(_, message)
      seen = { os.time(), os.date("!%Y-%m-%d"), message.time, os.time { year = 2000, month = 1, day = 1 } }
      message:deliver { maildir = "/var/mail/%{date}" }
    end }, { now = 1000000000 })
    assert.equal(1000000000, policy:now())
    policy:advance("1d")
    greeted(policy):send_message { from = "a@example.net", to = "bob@example.org" }
    assert.same({ 1000086400, "2001-09-10", 1000086400.0, os.time { year = 2000, month = 1, day = 1 } }, seen)
    assert.equal("/var/mail/2001-09-10", policy.sent[1].path)
    assert.truthy(policy.sent[1].message:find("Mon, 10 Sep 2001 01:46:40 +0000", 1, true))
    assert.is_true(os.time() > 1700000000)
  end)

  it("brings what time brings: a silent peer is told 421", function()
    local policy = load {}
    local peer = greeted(policy)
    policy:advance("5m")
    assert.is_true(peer.closed)
    local _, err = pcall(peer.noop, peer)
    assert.truthy(err:find("it said last: 421 4.4.2", 1, true))
    assert.equal(421, peer.unasked[1].code)
  end)

  it("gives up a hook at its deadline", function()
    local policy = load(sleepy(300))
    local peer = greeted(policy)
    peer:mail "a@example.net"
    local pending = peer:start_rcpt "bob@example.org"
    policy:advance(30)
    assert.equal(451, pending:reply().code)
  end)

  it("notices a policy that never comes to rest", function()
    local policy = load { mail = function()
      while true do
        moonpost.sleep(0)
      end
    end }
    local peer = greeted(policy)
    local _, err = pcall(peer.mail, peer, "a@example.net")
    assert.truthy(err:find("does not come to rest", 1, true))
  end)
end)

describe("moonpost.test: deliveries", function()
  local function one(policy, to)
    return greeted(policy):send_message {
      from = "a@example.net", to = to or "bob@example.org", subject = "Hi", body = "Hello.",
    }
  end

  it("are written down, not done", function()
    local dir <close> = tmpdir.new()
    local policy = load { message = function(_, message)
      message:prepend("X-Seen-By", "moonpost")
      message:deliver { maildir = dir.path .. "/%{mailbox}", mode = "0640" }
    end }
    assert.same({}, policy.sent)
    assert.equal(250, one(policy, { "bob@example.org", "Bob+x@example.org" }).code)
    assert.equal(1, #policy.sent)
    local row = policy.sent[1]
    assert.equal("maildir", row.disposition)
    assert.equal("bob@example.org", row.recipient)
    assert.same({ "bob@example.org", "Bob+x@example.org" }, row.recipients)
    assert.equal("a@example.net", row.sender)
    assert.equal(dir.path .. "/bob", row.path)
    assert.equal(416, row.mode)
    assert.truthy(row.message:find("^Return%-Path: <a@example.net>\nDelivered%-To: bob@example.org\n"
      .. "Delivered%-To: Bob%+x@example.org\nReceived: from .-\nX%-Seen%-By: moonpost\nFrom: "))
    assert.same({}, dir:list())
  end)

  it("to programs and files keep what they would have been told", function()
    local policy = load { message = function(_, message)
      for _, recipient in ipairs(message.recipients) do
        if recipient.mailbox == "pipe" then
          message:to(recipient):deliver { pipe = { "/bin/intake", "%{detail:none}" }, env = { A = "1" }, timeout = "5s" }
        else
          message:to(recipient):deliver { file = "/var/mail/%{mailbox}", mbox = true }
        end
      end
    end }
    one(policy, { "pipe+tag@example.org", "bob@example.org" })
    assert.equal(2, #policy.sent)
    assert.same({ "/bin/intake", "tag" }, policy.sent[1].args)
    assert.same({ "A=1", "RECIPIENT=pipe+tag@example.org" }, policy.sent[1].env)
    assert.equal(5, policy.sent[1].timeout)
    assert.equal("/var/mail/bob", policy.sent[2].path)
    assert.is_true(policy.sent[2].mbox)
  end)

  it("have the line ends that the plan asks for", function()
    local policy = load { message = function(_, message)
      message:deliver { maildir = "/var/mail/%{mailbox}", line_end = message.recipients[1].mailbox } -- "lf", "crlf"
    end }
    one(policy, { "lf@example.org" })
    one(policy, { "crlf@example.org" })
    local lf, crlf = policy.sent[1], policy.sent[2]
    assert.same({ "lf", "crlf" }, { lf.line_end, crlf.line_end })
    assert.is_nil(lf.message:find("\r", 1, true))
    assert.matches("^Return%-Path: <a@example.net>\r\n", crlf.message)
    assert.is_nil(crlf.message:find("[^\r]\n"))
  end)

  it("may be discarded, which is a delivery by name", function()
    local policy = load { message = function(_, message)
      message:discard "spam"
    end }
    assert.equal(250, one(policy).code)
    assert.equal("spam", policy.sent[1].reason)
    policy = load { message = function(_, message)
      message:refuse(554, "5.7.1", "Spam")
    end }
    assert.equal(554, one(policy).code)
    assert.same({}, policy.sent)
  end)

  it("fail as the test says", function()
    local policy = load { message = deliver }
    policy:fail("maildir", { error = "NOSPACE" })
    assert.equal(452, one(policy).code)
    assert.same({}, policy.sent)
    assert.equal(1, #policy:logged("delivery failed", { why = "no space left on device" }))
    policy:fail("maildir", nil)
    assert.equal(250, one(policy).code)
    policy:fail("maildir", { error = "DENIED", times = 1 })
    assert.equal(451, one(policy).code)
    assert.equal(250, one(policy).code)
    policy:fail("maildir", { recipient = "eve@example.org" })
    assert.equal(250, one(policy).code)
    assert.equal(451, one(policy, "eve@example.org").code)
    local _, err = pcall(policy.fail, policy, "maildri", {})
    assert.truthy(err:find('no disposition "maildri" that could fail (did you mean "maildir"?)', 1, true))
    _, err = pcall(policy.fail, policy, "maildir", { error = "NOSPCE" })
    assert.truthy(err:find('there is no error "NOSPCE" (did you mean "NOSPACE"?)', 1, true))
  end)

  it("of programs fail with an exit status", function()
    local policy = load { message = function(_, message)
      message:deliver { pipe = { "/bin/intake" } }
    end }
    policy:fail("pipe", { status = 67, output = "unknown user" })
    assert.equal("5.1.1", one(policy).enhanced)
    assert.equal(1, #policy:logged("program said", { output = "unknown user" }))
  end)

  describe("to other servers", function()
    local function forward(_, message)
      message:forward { url = "smtp://me:hush@inside.example.net", tls = "none" }
    end

    it("are written down, with Received on top and no more", function()
      local policy = load { message = forward }
      assert.equal("2.0.0", one(policy, { "bob@example.org", "ann@example.org" }).enhanced)
      assert.equal(1, #policy.sent)
      local row = policy.sent[1]
      assert.same({ "forward", "smtp://inside.example.net:25", { "bob@example.org", "ann@example.org" } }, {
        row.disposition, row.url, row.recipients,
      })
      assert.matches("^Received: from .-\r\nFrom: a@example.net\r\n", row.message)
      assert.is_nil(row.line_end)
    end)

    it("are refused as the test says, all or one recipient", function()
      local policy = load { message = forward }
      policy:fail("forward", { reply = "554 5.7.1 Spam", times = 1 })
      assert.equal("554 5.7.1 Spam", tostring(one(policy)))
      assert.same({}, policy.sent)
      policy:fail("forward", { reply = "550 No such user", recipient = "eve@example.org" })
      assert.equal("550 5.0.0 No such user", tostring(one(policy, "eve@example.org")))
      assert.equal(451, one(policy, { "eve@example.org", "bob@example.org" }).code)
      assert.same({ "bob@example.org" }, policy.sent[1].recipients)
      assert.equal(250, one(policy).code)
    end)

    it("fail for a time when the server cannot be reached", function()
      local policy = load { message = function(_, message)
        message:deliver { lmtp = "lmtp://unix:/run/lmtp.sock" }
      end }
      policy:fail("lmtp", { error = "TIMEOUT", after = "3s" })
      local peer = greeted(policy)
      peer:mail "a@example.net"
      peer:rcpt "bob@example.org"
      local pending = peer:start_data "a"
      assert.is_false(pending:done())
      policy:advance(3)
      assert.equal("451 4.4.2 The next server cannot take this message now, please try again later",
        tostring(pending:reply()))
    end)

    it("refuse what is no reply, and replies of what gives none", function()
      local policy = load { message = forward }
      local _, err = pcall(policy.fail, policy, "forward", { reply = "250 ok" })
      assert.matches("reply: a text such as", err)
      _, err = pcall(policy.fail, policy, "pipe", { reply = "550 5.1.1 no" })
      assert.matches("only next hops give one, not a pipe", err)
    end)
  end)

  it("take the time that the test says, and are not cancelled meanwhile", function()
    local policy = load { message = deliver }
    policy:delay("maildir", "2s")
    local peer = greeted(policy)
    peer:mail "a@example.net"
    peer:rcpt "bob@example.org"
    local pending = peer:start_data "a"
    assert.is_false(pending:done())
    peer:abort()
    policy:advance(2)
    assert.equal(1, #policy.sent)
  end)

  it("can be waited for in the hook", function()
    local rows
    local policy = load { message = function(_, message)
      message:deliver { maildir = "/var/mail/%{mailbox}" }
      rows = message:perform()
    end }
    one(policy)
    assert.is_true(rows[1].ok)
    assert.truthy(rows[1].path:find("^/var/mail/bob/new/"))
  end)
end)

describe("moonpost.test: the end", function()
  it("is told to retire hooks and idle peers", function()
    local retired
    local policy = load { retire = function()
      retired = true
    end }
    local peer = greeted(policy)
    policy:stop()
    assert.is_true(retired)
    assert.equal(421, peer:replies()[1].code)
    assert.is_true(peer.closed)
  end)
end)

describe("lua/moonpost/_meta/test.lua", function()
  local function described(owner)
    local list = {}
    for line in io.lines "lua/moonpost/_meta/test.lua" do
      local name = line:match("^function " .. owner .. "[.:]([%w_]+)%(")
      list[#list + 1] = name
    end
    table.sort(list)
    return list
  end

  local function public(methods)
    local list = {}
    for name in pairs(methods) do
      list[#list + 1] = not name:find("^_") and name or nil
    end
    table.sort(list)
    return list
  end

  it("has the methods that there are, no more and no fewer", function()
    local peer = require "moonpost.test.peer"
    assert.same(public(test), described "test")
    assert.same(public(require("moonpost.test.policy").methods), described "Policy")
    assert.same(public(peer.methods), described "Peer")
    assert.same(public(peer.pending), described "Pending")
  end)
end)
