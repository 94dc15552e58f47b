local moonpost = require "moonpost"
local test = require "moonpost.test"
local uv = require "luv"

local KEY = moonpost.dkim.keygen "ed25519"

local function names()
  return {
    ["list._domainkey.lists.example.org"] = { TXT = KEY.record },
    ["example.net"] = { TXT = "v=spf1 ip4:203.0.113.9 -all", MX = { { 10, "mx.example.net" } } },
    ["_dmarc.example.net"] = { TXT = "v=DMARC1; p=reject" },
    ["example.com"] = { TXT = "v=spf1 ip4:203.0.113.9 -all", MX = { { 10, "mx.example.com" } } },
    ["lists.example.org"] = { MX = { { 10, "lists.example.org" } } },
  }
end

describe("examples/list.lua", function()
  local policy, net, com
  before_each(function()
    uv.os_setenv("LIST_KEY", KEY.private)
    uv.os_setenv("LIST_SECRET", "a secret of sixteen")
    net, com = test.server {}, test.server {}
    policy = test.load("examples/list.lua", { dns = names(), servers = { ["mx.example.net"] = net, ["mx.example.com"] = com } })
  end)
  after_each(function()
    policy:stop()
    uv.os_unsetenv "LIST_KEY"
    uv.os_unsetenv "LIST_SECRET"
  end)

  local function send(octets, to, from, ip)
    local peer = policy:session { ip = ip or "203.0.113.9", helo = "mail.example.net" }
    assert.equal(250, peer:mail(from or "ann@example.net").code)
    local reply = peer:rcpt(to or "gardeners@lists.example.org")
    reply = reply.class == 2 and peer:data(octets) or reply
    policy:advance "1s"
    return reply
  end

  -- gsub's text alone.
  local function with(octets, from, to)
    return (octets:gsub(from:gsub("%p", "%%%0"), (to:gsub("%%", "%%%%"))))
  end

  local LETTER = "From: Ann <ann@example.net>\r\nTo: gardeners@lists.example.org\r\nSubject: Peas\r\nMessage-ID: <1@example.net>\r\n\r\nHello.\r\n"
  local OTHER = with(LETTER, "Ann <ann@example.net>", "Bob <bob@example.com>")

  -- What came out, by recipient: sender and octets.
  local function letters()
    local by, count = {}, 0
    for _, server in ipairs { net, com } do
      for _, one in ipairs(server.messages) do
        by[one.recipients[1]], count = one, count + 1
      end
    end
    return by, count
  end

  local function header(octets, name)
    return ("\n" .. octets:gsub("\r\n[ \t]+", " ")):match("\n" .. name:gsub("%-", "%%-") .. ": ([^\r\n]*)")
  end

  it("sends a member's letter to everybody, each from an address of their own", function()
    assert.equal(250, send(LETTER).code)
    local by, count = letters()
    assert.equal(3, count)
    local senders = {}
    for to, one in pairs(by) do
      assert.matches("^SRS0=.*@lists%.example%.org$", one.sender)
      assert.truthy(one.sender:find(to:match "^[^@]*" .. "@", 1, true))
      senders[one.sender] = true
    end
    assert.equal(3, (function() local n = 0 for _ in pairs(senders) do n = n + 1 end return n end)())
  end)

  it("says that it is a list", function()
    send(with(LETTER, "Subject", "List-Unsubscribe: <https://other.example/>\r\nSubject"))
    local octets = letters()["bob@example.com"].octets
    assert.equal("Gardeners <gardeners.lists.example.org>", header(octets, "List-Id"))
    assert.equal("<mailto:gardeners@lists.example.org>", header(octets, "List-Post"))
    assert.equal("<mailto:postmaster@lists.example.org?subject=leave%20gardeners>", header(octets, "List-Unsubscribe"))
    assert.equal("[Gardeners] Peas", header(octets, "Subject"))
  end)

  it("puts its own address into From where DMARC demands it, and there alone", function()
    send(LETTER)
    local octets = letters()["bob@example.com"].octets
    assert.equal('"Ann" via Gardeners <gardeners@lists.example.org>', header(octets, "From"))
    assert.equal("ann@example.net", header(octets, "Reply-To"))
    send(with(OTHER, "<1@", "<2@"), nil, "bob@example.com")
    octets = letters()["cat@example.com"].octets
    assert.equal("Bob <bob@example.com>", header(octets, "From"))
    assert.is_nil(header(octets, "Reply-To"))
  end)

  it("signs and seals what it sends", function()
    send(LETTER)
    local octets, zone = letters()["cat@example.com"].octets, moonpost.dns.zone(names())
    local signature = assert(moonpost.dkim.verify(octets, { dns = zone }))[1]
    assert.same({ "pass", "lists.example.org" }, { signature.result, signature.domain })
    local chain = assert(moonpost.arc.verify(octets, { dns = zone }))
    assert.same({ "pass", 1, "lists.example.org" }, { chain.result, chain.instance, chain.sets[1].domain })
    assert.matches("dmarc=pass %(p=reject dis=none%) header%.from=example%.net", (chain.sets[1].results:gsub("%s+", " ")))
  end)

  it("takes letters of members alone, who are who they say", function()
    assert.equal("5.7.2", send(with(LETTER, "ann@example.net", "eve@example.com"), nil, "eve@example.com").enhanced)
    assert.equal("5.7.26", send(LETTER, nil, nil, "192.0.2.1").enhanced)
    assert.equal(550, send(LETTER, "others@lists.example.org").code)
    assert.equal(0, select(2, letters()))
  end)

  it("takes no letters of machines, its own among them", function()
    assert.equal("5.4.6", send("Auto-Submitted: auto-replied\r\n" .. LETTER).enhanced)
    assert.equal("5.4.6", send("List-Id: x <gardeners.lists.example.org>\r\n" .. LETTER).enhanced)
  end)

  it("sends nothing twice when it is tried again", function()
    send(LETTER)
    assert.equal(250, send(LETTER).code)
    assert.equal(3, select(2, letters()))
  end)

  local function bounce(action)
    return ("From: MAILER-DAEMON@mx.example.com\r\nSubject: Returned\r\nMIME-Version: 1.0\r\n" ..
      "Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n\r\n" ..
      "--x\r\n\r\nSorry.\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.com\r\n\r\n" ..
      "Final-Recipient: rfc822; cat@example.com\r\nAction: %s\r\nStatus: 5.1.1\r\n--x--\r\n"):format(action)
  end

  local function bounces(count, what, from)
    send(OTHER, nil, "bob@example.com")
    local back = letters()["cat@example.com"].sender
    for _ = 1, count do
      assert.equal(250, send(what:find " " and what or bounce(what), back, from or "").code)
    end
    send(with(OTHER, "<1@", "<2@"), nil, "bob@example.com")
    return select(2, letters())
  end

  it("gives a member up who bounces, and nobody else", function()
    assert.equal(5, bounces(5, "failed"))
    assert.equal(5, #policy:logged "bounced")
    policy:advance "15d"
    send(with(OTHER, "<1@", "<3@"), nil, "bob@example.com")
    assert.equal(8, select(2, letters()))
  end)

  it("gives nobody up for four bounces", function()
    assert.equal(6, bounces(4, "failed"))
  end)

  it("counts no delays", function()
    assert.equal(6, bounces(6, "delayed"))
  end)

  it("knows bounces of machines that write no reports", function()
    assert.equal(5, bounces(5, table.concat({
      "From: MAILER-DAEMON@mx.example.com", "Subject: failure notice", "", "Hi. This is the qmail-send program at mx.example.com.",
      "I'm afraid I wasn't able to deliver your message to the following addresses.",
      "This is a permanent error; I've given up. Sorry it didn't work out.", "", "<cat@example.com>:", "192.0.2.1 does not like recipient.",
      "Remote host said: 550 5.1.1 No such user", "", "--- Below this line is a copy of the message.", "", "Return-Path: <x@example.net>", "",
    }, "\r\n")))
  end)

  it("counts nobody's holidays", function()
    assert.equal(6, bounces(6, "From: cat@example.com\r\nAuto-Submitted: auto-replied\r\nSubject: Away\r\n\r\nI am on holiday.\r\n"))
  end)

  it("counts no letters from people", function()
    assert.equal(6, bounces(6, "failed", "eve@example.com"))
  end)

  it("believes no return address that it did not write", function()
    send(OTHER, nil, "bob@example.com")
    local back = letters()["cat@example.com"].sender
    assert.equal(550, send(bounce "failed", (back:gsub("cat@", "ann@")), "").code)
    assert.equal(550, send(bounce "failed", (back:gsub("SRS0=..", "SRS0=AA")), "").code)
  end)
end)
