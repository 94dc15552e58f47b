local moonpost = require "moonpost"
local text = require "moonpost.report.text"

local report = moonpost.report
local HEAD = "From: Ann <ann@example.com>\r\nSubject: Lunch\r\nMessage-ID: <1@example.com>\r\n"

-- `changes.message` and `changes.one` are laid over the message and over its only recipient.
local function notice(changes)
  local given = {
    kind = "failed", reporting_mta = "mx.example.org", now = 1795387310,
    message = { sender = "ann@example.com", received = 1795380000, head = HEAD, body = "Hi.\r\n" },
    recipients = { { address = "bob@example.net", reply = { code = 550, enhanced = "5.1.1", text = "No such user" } } },
  }
  for key, value in pairs(changes or {}) do
    local under = key == "message" and given.message or key == "one" and given.recipients[1]
    if not under then
      given[key] = value
    end
    for name, of in pairs(under and value or {}) do
      under[name] = of
    end
  end
  return given
end

local function make(changes)
  return assert(report.make(notice(changes)))
end

-- The parts' headers and bodies, of a report that is well-formed.
local function parts(made)
  local head, body = made.message:match "^(.-\r\n)\r\n(.*)$"
  local line = head:match 'boundary="([^"]+)"'
  local list = {}
  for piece in ("\r\n" .. body):gsub("\r\n%-%-" .. line:gsub("%p", "%%%0") .. "%-?%-?", "\0"):gmatch "%z\r\n([^%z]+)" do
    local fields, octets = piece:match "^(.-\r\n)\r\n(.*)$"
    if fields then
      list[#list + 1] = { head = fields, body = octets }
    end
  end
  return list, head
end

local function human(changes)
  return (parts(make(changes))[1].body:gsub("\r\n", "\n"))
end

local function machine(changes)
  return (parts(make(changes))[2].body:gsub("\r\n    ", " "))
end

local function returned(changes)
  local part = parts(make(changes))[3]
  return part and part.head:match "Content%-Type: ([^\r]+)", part and part.head:match "Encoding: ([^\r]+)", part and part.body
end

describe("moonpost.report.wanted", function()
  it("is what NOTIFY says; failures and delays, when it says nothing (RFC 3461 4.1)", function()
    for _, case in ipairs {
      { nil, "failed delayed" },
      { {}, "" },
      { { NEVER = true }, "" },
      { { FAILURE = true }, "failed" },
      { { DELAY = true }, "delayed" },
      { { SUCCESS = true }, "delivered relayed expanded" },
      { { SUCCESS = true, FAILURE = true, DELAY = true }, "failed delayed delivered relayed expanded" },
    } do
      local said = {}
      for _, kind in ipairs { "failed", "delayed", "delivered", "relayed", "expanded" } do
        assert.equal(report.wanted({ notify = case[1] }, kind), report.wanted({ params = { notify = case[1] } }, kind))
        said[#said + 1] = report.wanted({ notify = case[1] }, kind) and kind or nil
      end
      assert.equal(case[2], table.concat(said, " "))
    end
  end)

  it("raises for a kind that there is none of, at the caller's line", function()
    local _, why = pcall(function()
      report.wanted({}, "fialed")
    end)
    assert.matches('report_spec.lua:%d+: report.wanted: unknown kind "fialed" %(did you mean "failed"%?%)', why)
  end)
end)

describe("moonpost.report.group", function()
  it("puts together who can share a report, and leaves out who is not to be told about", function()
    local a, b, c, d = { kind = "delayed" }, { kind = "failed" }, { kind = "failed", notify = { NEVER = true } }, { kind = "failed" }
    assert.same({ { kind = "failed", recipients = { b, d } }, { kind = "delayed", recipients = { a } } }, report.group { a, b, c, d })
    assert.same({}, report.group { c })
  end)

  it("makes no report of more than 100", function()
    local list = {}
    for i = 1, 250 do
      list[i] = { kind = "failed", i }
    end
    local groups = report.group(list)
    assert.same({ 100, 100, 50 }, { #groups[1].recipients, #groups[2].recipients, #groups[3].recipients })
    assert.equal(list[101], groups[2].recipients[1])
  end)
end)

describe("moonpost.report.make", function()
  it("goes to the sender, from nobody, and can be sent as it is", function()
    local made = make()
    assert.same({ "", "ann@example.com", {} }, { made.from, made.to, made.params })
    assert.truthy(require("moonpost.mail").prepare(made))
    local _, head = parts(made)
    assert.matches("\r\nAuto%-Submitted: auto%-replied\r\n", head)
    assert.matches("\r\nMIME%-Version: 1.0\r\n", head)
    assert.matches("\r\nIn%-Reply%-To: <1@example.com>\r\n", head)
    assert.matches("\r\nMessage%-ID: <dsn%.%x+@mx.example.org>\r\n", head)
  end)

  it("takes no more of an SMTP server than it asks for", function()
    local test = require "moonpost.test"
    local function sent(extensions, changes)
      return test.run(function()
        return moonpost.send(make(changes))
      end, { servers = { ["example.com"] = { extensions = extensions } } })
    end
    local wide = { message = { sender = "\u{e4}nn@example.com", head = HEAD .. "X-Name: \u{c4}nn\r\n" } }
    assert.is_true(sent({}).ok)
    assert.is_true(sent({ "8BITMIME", "SMTPUTF8" }, wide).ok)
    local _, err = sent({ "8BITMIME" }, wide)
    assert.equal("5.6.7", err.recipients[1].reply.enhanced)
    assert.is_true(sent({ "8BITMIME" }, { eight_bit = true, message = { body = "\xfc\r\n" } }).ok)
    assert.is_true(sent({}, { message = { body = "\xfc\r\n" } }).ok)
  end)

  it("makes none for a null sender, and none that nobody asks for", function()
    assert.same({ nil, "the sender is null" }, { report.make(notice { message = { sender = "" } }) })
    assert.same({ nil, "the sender is no address" }, { report.make(notice { message = { sender = "a\r\nb@example.com" } }) })
    assert.same({ nil, "no recipient's NOTIFY asks for it" }, { report.make(notice { one = { notify = { NEVER = true } } }) })
    assert.same({ nil, "no recipient's NOTIFY asks for it" }, { report.make(notice { kind = "relayed" }) })
  end)

  it("tells somebody else where that is asked for, but not of what was for him", function()
    local made = make { to = "postmaster@example.org", message = { sender = "" }, one = { notify = { NEVER = true } } }
    assert.same({ "", "postmaster@example.org" }, { made.from, made.to })
    assert.matches('A message "Lunch" without a sender of Sun', made.message)
    assert.matches('A message "Lunch" from ann@example.com of', make({ to = "postmaster@example.org" }).message)
    assert.is_nil(made.message:find("If you need help", 1, true))
    assert.same({ nil, "who was to be told could not be reached" }, { report.make(notice { to = "Bob@example.net", message = { sender = "" } }) })
  end)

  it("speaks of those alone that it is wanted for", function()
    local said = machine { recipients = {
      { address = "bob@example.net" }, { address = "eve@example.net", notify = { SUCCESS = true } }, { address = "kim@example.net" },
    } }
    assert.truthy(said:find("bob@example.net", 1, true) and said:find("kim@example.net", 1, true))
    assert.is_nil(said:find("eve", 1, true))
  end)

  it("refers to a Message-ID that is one, and to no other", function()
    for head, found in pairs {
      ["Message-Id:\r\n <a@b>\r\n"] = true, ["Message-ID: a@b\r\n"] = false, ["Message-ID: <a@b> <c@d>\r\n"] = false,
      ["Message-ID: <a b@c>\r\n"] = false, ["Message-ID: <\u{e4}@b>\r\n"] = false, ["X: y\r\n"] = false, [""] = false,
      ["Message-ID: <" .. ("a"):rep(1000) .. "@b>\r\n"] = false,
    } do
      local _, fields = parts(make { message = { head = head } })
      assert.equal(found, fields:find("\r\nReferences: <a@b>\r\n", 1, true) ~= nil, head:sub(1, 40))
    end
  end)

  it("takes a boundary that does not occur in it", function()
    local given = { ("a"):rep(16), ("a"):rep(16), ("b"):rep(16), ("c"):rep(12) }
    local made = report.make(notice {
      message = { body = "--=_" .. ("61"):rep(16) .. "\r\n" },
      random = function() return table.remove(given, 1) end,
    })
    assert.matches('boundary="=_' .. ("62"):rep(16) .. '"', made.message)
    assert.not_equal(make().message:match 'boundary="([^"]+)"', make().message:match 'boundary="([^"]+)"')
  end)

  describe("the status", function()
    for _, case in ipairs {
      { "failed", { status = "5.2.2" }, "5.2.2" },
      { "failed", { reply = { code = 550, text = "x" } }, "5.0.0" },
      { "failed", { expired = true, reply = { code = 451, enhanced = "4.2.1", text = "x" } }, "4.2.1" },
      { "failed", { expired = true, reply = { code = 451, text = "x" } }, "4.4.7" },
      { "failed", { expired = true, status = "5.4.7" }, "5.4.7" },
      { "failed", { status = "2.0.0" }, "5.1.1" },
      { "failed", { status = "5.1.1\r\nX: y" }, "5.1.1" },
      { "failed", { status = "5.1234.1" }, "5.1.1" },
      { "delayed", { status = "5.2.2" }, "4.2.2" },
      { "delayed", { reply = { code = 451, enhanced = "4.7.1", text = "x" } }, "4.7.1" },
      { "delayed", { reply = { code = 451, text = "x" } }, "4.0.0" },
      { "delivered", { reply = { code = 250, enhanced = "2.1.5", text = "x" } }, "2.1.5" },
      { "relayed", { reply = { code = 250, text = "x" } }, "2.0.0" },
      { "expanded", { reply = { code = 250, enhanced = "5.0.0", text = "x" } }, "2.0.0" },
    } do
      it(("of what was %s is %s"):format(case[1], case[3]), function()
        case[2].notify = { SUCCESS = true, FAILURE = true, DELAY = true }
        assert.matches("\r\nStatus: " .. case[3]:gsub("%.", "%%.") .. "\r\n", machine { kind = case[1], one = case[2] })
      end)
    end
  end)

  describe("the machine's part", function()
    it("names a remote host, not a path of ours, and says whose words they are", function()
      assert.matches("\r\nRemote%-MTA: dns; mx.example.net\r\nDiagnostic%-Code: smtp; 550 5.1.1 No", machine { one = { host = "mx.example.net" } })
      assert.matches("\r\nRemote%-MTA: dns; %[2001:db8::1%]\r\n", machine { one = { host = "[2001:db8::1]" } })
      assert.is_nil(machine({ one = { host = "unix:/run/lmtp.sock" } }):find "Remote%-MTA")
      local own = machine { one = { host = "mx.example.net", own = true } }
      assert.matches("\r\nDiagnostic%-Code: x%-moonpost; 550 5.1.1 No", own)
      assert.is_nil(own:find "Remote%-MTA")
    end)

    it("has the deadline of BY (RFC 2852), and until when it is tried again", function()
      assert.matches("\r\nDeliver%-By%-Date: Sun, 22 Nov 2026 21:40:00 %+0000\r\n", machine { message = { deadline = 1795383600 } })
      local late = machine { kind = "delayed", one = { will_retry_until = 1795383600, attempted = 1795383600 } }
      assert.matches("\r\nLast%-Attempt%-Date: Sun, 22 Nov 2026 21:40:00 %+0000\r\n", late)
      assert.matches("\r\nWill%-Retry%-Until: Sun, 22 Nov 2026 21:40:00 %+0000\r\n", late)
      assert.is_nil(machine({ one = { will_retry_until = 1795383600 } }):find "Will%-Retry")
    end)

    it("puts several lines of a reply into one", function()
      assert.matches("smtp; 550 5.1.1 one two\r\n", machine { one = { reply = { code = 550, enhanced = "5.1.1", text = "one\ntwo" } } })
    end)

    it("stays in ASCII where the sender's way may not carry more (RFC 6533 3)", function()
      local said = machine {
        one = {
          address = "b\u{f6}b+x@example.net", orcpt_type = "utf-8", orcpt = "\\x{10FFFF}b=c@example.net",
          reply = { code = 550, text = "b\u{f6}b \xff?" },
        },
      }
      assert.matches("\r\nFinal%-Recipient: utf%-8; b\\x{F6}b\\x{2B}x@example.net\r\n", said)
      assert.matches("\r\nOriginal%-Recipient: utf%-8; \\x{10FFFF}b\\x{3D}c@example.net\r\n", said)
      assert.matches("\r\nDiagnostic%-Code: smtp; 550 b\\x{F6}b %?%?\r\n", said)
      assert.matches("\r\nFinal%-Recipient: rfc822; bob@xn%-%-bcher%-kva.example\r\n", machine { one = { address = "bob@b\u{fc}cher.example" } })
    end)

    it("drops an original recipient of no known form", function()
      for _, kind in ipairs { "", "rfc 822", "a;b", "x\r\ny" } do
        assert.is_nil(machine({ one = { orcpt = "a@b", orcpt_type = kind } }):find "Original")
      end
      assert.matches("\r\nOriginal%-Recipient: x400; /a/b\r\n", machine { one = { orcpt = "/a/b", orcpt_type = "X400" } })
    end)
  end)

  describe("Unicode (RFC 6533)", function()
    local function kind(changes)
      local made = make(changes)
      return made.message:match "report%-type=([%l-]+)", made.params.smtputf8, made.to
    end

    it("is used when the message was sent with SMTPUTF8 and needs it", function()
      local wide = { address = "b\u{f6}b@example.net" }
      assert.same({ "global-delivery-status", true, "ann@example.com" }, { kind { message = { smtputf8 = true }, one = wide } })
      assert.same({ "global-delivery-status", true, "ann@example.com" }, { kind { message = { params = { smtputf8 = true } }, one = wide } })
      assert.equal("delivery-status", (kind { message = { smtputf8 = true } }))
      assert.equal("delivery-status", (kind { one = wide }))
      assert.equal("delivery-status", (kind { message = { smtputf8 = true }, one = wide, smtputf8 = false }))
    end)

    it("is used when the sender could not be written to otherwise, and a domain alone needs no such thing", function()
      local sender = "\u{e4}nn@example.com"
      assert.same({ "global-delivery-status", true, sender }, { kind { message = { sender = sender }, smtputf8 = false } })
      assert.same({ "delivery-status", nil, "ann@xn--bcher-kva.example" }, { kind { message = { sender = "ann@b\u{fc}cher.example" } } })
    end)
  end)

  describe("what is returned", function()
    local WIDE = HEAD .. "X-Name: \u{c4}nn\r\n"
    for name, case in pairs {
      ["is the message of a failure"] = { {}, "message/rfc822", "7bit" },
      ["is the message when RET says FULL"] = { { message = { ret = "FULL" } }, "message/rfc822", "7bit" },
      ["is the header when RET says HDRS"] = { { message = { ret = "HDRS" } }, "text/rfc822-headers", "7bit" },
      ["is the header when the parameters of MAIL say so"] = { { message = { params = { ret = "HDRS" } } }, "text/rfc822-headers", "7bit" },
      ["is the header of what did not fail, whatever RET says"] = { { kind = "delayed", message = { ret = "FULL" } }, "text/rfc822-headers", "7bit" },
      ["is the header of what is too large"] = { { limit = #HEAD + 6 }, "text/rfc822-headers", "7bit" },
      ["is the header of what is said to be too large"] = { { limit = "1KB", message = { size = 1001 } }, "text/rfc822-headers", "7bit" },
      ["is the header where 8-bit octets may not go"] = { { message = { body = "\xfc\r\n" } }, "text/rfc822-headers", "7bit" },
      ["is the message where they may"] = { { message = { body = "\xfc\r\n" }, eight_bit = true }, "message/rfc822", "8bit" },
      ["is the message where it came with BODY=8BITMIME"] =
        { { message = { body = "\xfc\r\n", params = { body = "8BITMIME" } } }, "message/rfc822", "8bit" },
      ["is the header where the body is binary"] = { { message = { body = "a\0b\r\n" }, eight_bit = true }, "text/rfc822-headers", "7bit" },
      ["is the header where a lone CR would not survive"] = { { message = { body = "a\rb\r\n" } }, "text/rfc822-headers", "7bit" },
      ["is the header where a CR stands before its line's"] = { { message = { body = "a\r\r\nb\r\n" } }, "text/rfc822-headers", "7bit" },
      ["is the header where a CR is the last octet"] = { { message = { body = "a\r\nb\r" } }, "text/rfc822-headers", "7bit" },
      ["is the message where a line is as long as may be"] = { { message = { body = ("x"):rep(998) } }, "message/rfc822", "7bit" },
      ["is the header where a lone LF would not survive"] = { { message = { body = "a\nb\r\n" } }, "text/rfc822-headers", "7bit" },
      ["is the header where a line is too long"] = { { message = { body = ("x"):rep(999) } }, "text/rfc822-headers", "7bit" },
      ["is a header in quoted-printable where it is not ASCII"] =
        { { message = { head = WIDE } }, "text/rfc822-headers; charset=utf-8", "quoted-printable" },
      ["has no character set where it has none"] = { { message = { head = HEAD .. "X: \xff\r\n" } }, "text/rfc822-headers", "quoted-printable" },
      ["is a whole message in Unicode"] = { { message = { smtputf8 = true, head = WIDE, body = "\u{df}\r\n" } }, "message/global", "8bit" },
      ["is a header in Unicode"] = { { message = { smtputf8 = true, head = WIDE, ret = "HDRS" } }, "message/global-headers", "8bit" },
      ["is nothing where there is nothing"] = { { message = { head = "\r\n" } } },
    } do
      it(name, function()
        local kind, encoding = returned(case[1])
        assert.equal(case[2], kind)
        assert.equal(case[3], encoding)
        assert.equal(encoding == "8bit" and "8BITMIME" or nil, make(case[1]).params.body)
      end)
    end

    it("is octet for octet what it was", function()
      local _, _, octets = returned { message = { head = HEAD .. "\r\n", body = "..\r\nlast" } }
      assert.equal(HEAD .. "\r\n..\r\nlast", octets)
    end)

    it("comes from a reader too, which is not asked for more than can be returned", function()
      local asked = 0
      local function reader()
        return function()
          asked = asked + 1
          return ("x"):rep(70) .. "\r\n"
        end
      end
      local kind = returned { message = { body = reader }, limit = 1000 }
      assert.equal("text/rfc822-headers", kind)
      assert.is_true(asked < 20)
      local left = { "a", "b\r\n" }
      local _, _, octets = returned { message = { body = function() return function() return table.remove(left, 1) end end } }
      assert.equal(HEAD .. "\r\nab\r\n", octets)
      local first = true
      local function broken()
        first = not first
        return not first and "a\r\n" or nil, "the disk is gone"
      end
      assert.equal("text/rfc822-headers", (returned { message = { body = function() return broken end } }))
      returned { message = { size = 2000, body = function() error "not to be read" end }, limit = 1000 }
    end)

    it("is cut between fields when the header alone is too long", function()
      local _, _, octets = returned { message = { head = HEAD .. "X-Long: a\r\n b\r\n c\r\n" }, limit = #HEAD + 12 }
      assert.equal(HEAD, octets)
    end)
  end)

  describe("people's part", function()
    it("says what happened to whom, what the server said, and what to do", function()
      local said = human { one = { host = "mx.example.net", orcpt = "robert@example.org" } }
      assert.equal([[
Your message "Lunch" of Sun, 22 Nov 2026 20:40:00 +0000 could not be
delivered to this address, and will not be tried again:

  robert@example.org
    The server mx.example.net said:
        550 5.1.1 No such user
    Please look for a typing mistake in the address. If there is none, the
    mailbox is no longer there.

The message itself is attached. If you need help, please send all of this to
postmaster@mx.example.org.
]], (said:gsub("\n+$", "\n")))
    end)

    it("tells for how long it was tried", function()
      local said = human { one = { expired = true, host = "mx.example.net", reply = { code = 451, text = "Later" } },
        message = { received = 1795387310 - 5 * 86400 - 60 } }
      assert.matches("\n    Delivery was tried for 5 days.\n    The server mx.example.net said last:\n        451 Later\n", said)
    end)

    it("tells that a late message needs nothing", function()
      local said = human { kind = "delayed", one = { will_retry_until = 1795819310 } }
      assert.matches("You do not have to do anything", said)
      assert.matches("It will be tried until Fri, 27 Nov 2026 22:41:50 %+0000%.", said)
      assert.matches("The header of the message is attached", said)
    end)

    it("reads a subject in encoded words, and leaves out one that it cannot read", function()
      for value, shown in pairs {
        ["=?utf-8?q?Gr=C3=BC=C3=9Fe?="] = "Gr\u{fc}\u{df}e", ["=?UTF-8?B?R3LDvMOf?=\r\n =?utf-8?b?ZQ==?="] = "Gr\u{fc}\u{df}e",
        ["=?iso-8859-1?Q?Gr=FC=DFe_du?="] = "Gr\u{fc}\u{df}e du", ["=?us-ascii*en?q?hi?= you"] = "hi you", ["=?koi8-r?b?xx?="] = false,
        [""] = false, ["=?utf-8?q?a=0D=0Ab?="] = "a b", ["=?utf-8?b?/w==?="] = "?",
      } do
        local said = text.unxtext(human { message = { head = "Subject: " .. value .. "\r\n" } }):gsub("=\n", ""):gsub("=(%x%x)", function(hex)
          return string.char(tonumber(hex, 16))
        end)
        assert.equal(shown and ('Your message "%s" of'):format(shown) or "Your message of", said:match "^Your message.- of", value)
      end
    end)
  end)

  describe("texts", function()
    it("can be replaced, each with its language", function()
      local texts = {
        failed = {
          subject = "Nicht zugestellt: %{subject:ohne Betreff}", language = "de",
          text = "100 %% sicher: %{count} an %{sender} von %{host}, %{id:-}, %{postmaster}, %{date}:\n\n%{recipients}\n",
        },
      }
      local made, fault = report.make(notice { texts = texts, one = { host = "mx.example.net" } })
      assert.is_nil(fault)
      local list, head = parts(made)
      assert.matches("\r\nSubject: Nicht zugestellt: Lunch\r\n", head)
      assert.matches("\r\nContent%-Language: de\r\n", list[1].head)
      assert.equal("100 % sicher: 1 an ann@example.com von mx.example.org, -, postmaster@mx.example.org, Sun, 22 Nov 2026 20:40:00 +0000:\r\n\r\n"
        .. "    bob@example.net\r\n        mx.example.net: 550 5.1.1 No such user\r\n", list[1].body)
      assert.matches("Subject: Your message is late", make({ kind = "delayed", texts = texts }).message)
      assert.matches("ohne Betreff", make({ texts = texts, message = { head = "X: y\r\n" } }).message)
    end)

    it("can be functions of what happened", function()
      local facts
      local made = make { texts = { failed = function(of)
        facts = of
        return { subject = "\u{dc}ber " .. of.subject, text = "An " .. of.recipients[1].address .. "\n" }
      end } }
      assert.same({
        kind = "failed", sender = "ann@example.com", host = "mx.example.org", postmaster = "postmaster@mx.example.org", subject = "Lunch",
        date = "Sun, 22 Nov 2026 20:40:00 +0000", count = 1, returned = "message", other = false,
        recipients = { { address = "bob@example.net", words = "550 5.1.1 No such user", status = "5.1.1", waited = "2 hours" } },
      }, facts)
      assert.matches("\r\nSubject: =%?UTF%-8%?B%?", made.message)
      assert.matches("\r\n\r\nAn bob@example.net\r\n", made.message)
    end)

    it("can be one function, which leaves to us what it says nothing about", function()
      local function texts(of)
        if of.kind == "failed" then
          return "Returned", "Sorry.\n", "en-GB"
        end
      end
      assert.matches("\r\nSubject: Returned\r\n.*Content%-Language: en%-GB\r\n\r\nSorry%.\r\n", make({ texts = texts }).message)
      assert.matches("Subject: Your message is late", make({ kind = "delayed", texts = texts }).message)
    end)

    it("of a function that fails or returns nonsense cost nobody his bounce", function()
      for pattern, texts in pairs {
        ["texts.failed raised: .*spec.lua:%d+: oh %?no$"] = function() error "oh \27no" end,
        ["texts.failed: subject: a line break or control character"] = function() return "a\r\nBcc: eve@example.com", "x" end,
        ["texts.failed: text: a line break or control character"] = function() return "a", "x\27[2J" end,
        ["texts.failed: text: its text is not UTF%-8"] = function() return "a", "\xff" end,
        ["texts.failed: text: a string expected, got a nil"] = function() return "a" end,
        ["texts.failed: a table .* expected, got a number"] = function() return 7 end,
        ["texts.failed: language: a tag"] = function() return "a", "b", "de\r\nX: y" end,
        ["texts.failed: an empty text"] = function() return "a", " \n" end,
      } do
        local made, fault = report.make(notice { texts = texts })
        assert.matches(pattern, fault)
        assert.matches("Subject: Your message could not be delivered", made.message)
        assert.is_nil(made.message:find("eve", 1, true))
      end
    end)

    it("that could not be used are refused", function()
      for pattern, texts in pairs {
        ["^texts: a table or a function expected, got a number$"] = 7,
        ['^texts: unknown kind "faild" %(did you mean "failed"%?%)$'] = { faild = {} },
        ["^texts.failed: a table { subject =, text = } expected, got a string$"] = { failed = "x" },
        ['^texts.failed: unknown name "subjct" %(did you mean "subject"%?%)$'] = { failed = { subjct = "x" } },
        ["^texts.delayed: subject: a string expected, got a nil$"] = { delayed = { text = "x" } },
        ["^texts.failed: subject: a line break or control character$"] = { failed = { subject = "a\nb", text = "x" } },
        ["^texts.failed: text: a line break or control character$"] = { failed = { subject = "a", text = "x\0" } },
        ["^texts.relayed: text: a line break or control character$"] = { relayed = { subject = "a", text = "\u{85}" } },
        ["^texts.failed: unknown name %%{sendr} %(did you mean \"sender\"%?%)$"] = { failed = { subject = "a", text = "%{sendr}" } },
        ["^texts.failed: a %% that is neither"] = { failed = { subject = "5 % off", text = "x" } },
        ["^texts.failed: subject: 500 octets at most$"] = { failed = { subject = ("a"):rep(501), text = "x" } },
      } do
        local ok, why = report.check(texts)
        assert.is_false(ok)
        assert.matches(pattern, why)
        local raised, at = pcall(function()
          report.make(notice { texts = texts })
        end)
        assert.is_false(raised)
        assert.matches("report_spec.lua:%d+: report.make: texts", at)
      end
      assert.same({ true }, { report.check { failed = { subject = "a", text = "%{recipients}" } } })
      assert.same({ true }, { report.check(print) })
    end)

    it("cannot be made to break out by what peers say", function()
      local texts = { failed = { subject = "%{subject} %{id}", text = "%{recipients}" } }
      local made = make { texts = texts, message = { id = "x\r\nBcc: a@b", head = "Subject: =?utf-8?q?a=0D=0ABcc:_b@c?=\r\n" },
        one = { reply = { code = 550, text = "%{sender} \r\n--x" } } }
      assert.is_nil(made.message:find "\r\nBcc")
      assert.truthy(made.message:find("%{sender} --x", 1, true))
    end)
  end)

  it("holds nothing that cannot travel, whatever octets a peer sends", function()
    local seed = 20261122
    local function random(most)
      seed = (seed * 1103515245 + 12345) % 2147483648
      return seed // 65536 % most
    end
    local pieces = { "\r\n", "\n", "\r", "\0", " ", "\t", "=?", "?=", "--", ".", "\u{20ac}", "\xff", "\xc3", "\u{202e}", "%{x}", ":", "a", "b",
      ("w"):rep(400), "\\x{110000}", "\\x{D800}", ";", '"', "<", ">", "@" }
    local function octets()
      local out = {}
      for i = 1, random(40) do
        out[i] = pieces[random(#pieces) + 1]
      end
      return table.concat(out)
    end
    for round = 1, 400 do
      local wide = round % 2 == 0
      local made = make {
        kind = ({ "failed", "delayed" })[round % 2 + 1],
        message = {
          envid = octets(), id = octets(), received_from = octets(), smtputf8 = wide,
          head = "Subject: " .. octets() .. "\r\nMessage-ID: " .. octets(),
          body = octets(),
        },
        one = {
          address = octets(), orcpt = octets(), orcpt_type = wide and "utf-8" or octets(), host = octets(), log_id = octets(), status = octets(),
          reply = { code = 550, enhanced = octets(), text = octets() },
        },
      }
      for line in made.message:gmatch "([^\n]*)\n" do
        assert.equal("\r", line:sub(-1))
        assert.is_nil(line:sub(1, -2):find "[\r\0]")
        assert.is_true(#line <= 999, line)
      end
      local list, head = parts(made)
      assert.is_true(#list >= 2 and #list <= 3)
      local names = {}
      for name in ("\r\n" .. head):gmatch "\n([^\r\n:]+): " do
        names[#names + 1] = name
      end
      assert.equal("Date From To Subject Message-ID Auto-Submitted MIME-Version Content-Type"
        .. (made.params.body and " Content-Transfer-Encoding" or ""), (table.concat(names, " "):gsub("In%-Reply%-To References ", "")))
      assert.is_nil(list[1].body:find "[\x80-\xff]")
      assert.truthy(made.params.smtputf8 and utf8.len(list[2].body) or not list[2].body:find "[\x80-\xff]")
      assert.equal(1, select(2, list[2].body:gsub("\r\nAction: ", "")))
      assert.equal(2, select(2, ("\r\n" .. list[2].body):gsub("\r\n\r\n", "")) + 1)
    end
  end)

  describe("mistakes", function()
    it("are raised at the caller's line, and named", function()
      for pattern, changes in pairs {
        ['unknown option "limits" %(did you mean "limit"%?%)'] = { limits = 1 },
        ['kind: one of .* expected %(did you mean "failed"%?%)'] = { kind = "faled" },
        ["reporting_mta: the name of this host expected"] = { reporting_mta = "a b" },
        ["from: .* is no address"] = { from = "nobody" },
        ["to: an address expected"] = { to = "postmaster" },
        ["from: a line break"] = { from = "a@b.example\r\n" },
        ["limit: a size such as"] = { limit = "much" },
        ["recipients: a list of at least one"] = { recipients = {} },
        ["recipients%[1%]: a table with the address"] = { recipients = { "bob@example.net" } },
        ["message.head: a string expected, got a table"] = { message = { head = {} } },
        ["message.body: a string, or a function .*, got a number"] = { message = { body = 7 } },
        ["message: a table with the sender"] = { message = { sender = 7 } },
      } do
        local ok, why = pcall(function()
          report.make(notice(changes))
        end)
        assert.is_false(ok)
        assert.matches("report_spec.lua:%d+: report.make: " .. pattern, why)
      end
      local _, why = pcall(function()
        report.make("x")
      end)
      assert.matches("report_spec.lua:%d+: report.make: a table expected, got a string", why)
    end)
  end)
end)
