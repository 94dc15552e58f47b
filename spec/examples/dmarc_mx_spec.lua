local moonpost = require "moonpost"
local test = require "moonpost.test"

local SEAL = moonpost.dkim.keygen "ed25519"

local dns = {
  ["strict.example"] = { TXT = "v=spf1 ip4:203.0.113.9 -all" },
  ["_dmarc.strict.example"] = { TXT = "v=DMARC1; p=reject" },
  ["_dmarc.wary.example"] = { TXT = "v=DMARC1; p=quarantine" },
  ["_dmarc.silent.example"] = { fail = "timeout" },
  ["list._domainkey.lists.example.net"] = { TXT = SEAL.record },
}

describe("examples/dmarc_mx.lua", function()
  local policy
  before_each(function()
    policy = test.load("examples/dmarc_mx.lua", { dns = dns })
  end)

  local function send(from, ip, octets)
    local peer = policy:session { ip = ip or "198.51.100.1", helo = "mail.example.net" }
    peer:mail("bounces@" .. from:match "@(.*)")
    assert.equal(250, peer:rcpt("bob@example.org").code)
    return peer:data(octets or ("From: %s\r\nSubject: Hi\r\n\r\nHello.\r\n"):format(from))
  end

  it("delivers what the author's domain vouches for, and says so", function()
    assert.equal(250, send("ann@strict.example", "203.0.113.9").code)
    assert.equal("mail/bob", policy.sent[1].path)
    assert.truthy(policy.sent[1].message:find("dmarc=pass", 1, true))
    assert.truthy(policy.sent[1].message:find("\nAuthentication-Results: mx.example.org;", 1, true))
  end)

  it("refuses what it does not vouch for, where it asks for that", function()
    assert.matches("^550 5%.7%.26 Refused, as strict%.example asks for", tostring(send "ann@strict.example"))
    assert.same({}, policy.sent)
  end)

  it("puts what is to be quarantined into Junk", function()
    assert.equal(250, send("ann@wary.example").code)
    assert.equal("mail/bob/.Junk", policy.sent[1].path)
    assert.equal(250, send("ann@nothing.example", nil, "From: ann@nothing.example\r\nX-Quarantine: no\r\n\r\nHello.\r\n").code)
    assert.equal("mail/bob", policy.sent[2].path) -- nobody else may say so
  end)

  it("has come again what cannot be looked up", function()
    assert.equal(451, send("ann@silent.example").code)
  end)

  it("believes the list that it trusts", function()
    local sealed = assert(moonpost.arc.seal("From: ann@strict.example\r\nSubject: [list] Hi\r\n\r\nHello.\r\n", {
      domain = "lists.example.net", selector = "list", key = SEAL.private, chain = "none",
      results = "lists.example.net; dmarc=pass header.from=strict.example",
    }))
    assert.equal(250, send("ann@strict.example", nil, sealed).code)
    assert.equal("mail/bob", policy.sent[1].path)
    assert.equal(550, send("ann@strict.example", nil, (sealed:gsub("Hello", "Hullo"))).code)
  end)

  it("knows its mailboxes", function()
    local peer = policy:session { helo = "mail.example.net" }
    peer:mail "a@example.net"
    assert.equal("5.1.1", peer:rcpt("eve@example.org").enhanced)
    assert.equal("5.7.1", peer:rcpt("bob@example.com").enhanced)
  end)
end)
