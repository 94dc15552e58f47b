local test = require "moonpost.test"

describe("examples/proxy.lua", function()
  local policy, peer
  before_each(function()
    policy = test.load "examples/proxy.lua"
    peer = policy:session { ip = "203.0.113.9", helo = "mail.example.net" }
  end)

  it("hands on what it takes, stamped", function()
    local reply = peer:send_message {
      from = "a@example.net", to = "bob@example.org", headers = { "X-Passed-By: somebody" }, body = "Hello.",
    }
    assert.equal(250, reply.code)
    local sent = policy.sent[1]
    assert.same({ "forward", "smtp://127.0.0.1:2526", "bob@example.org" }, { sent.disposition, sent.url, sent.recipient })
    assert.matches("^Received: .-\r\nX%-Passed%-By: proxy.example.org; from 203.0.113.9\r\n", sent.message)
    assert.is_nil(sent.message:find("somebody", 1, true))
  end)

  it("takes one recipient at a time, and nobody of another domain", function()
    peer:mail "a@example.net"
    assert.equal(550, peer:rcpt("bob@example.com").code)
    assert.equal(250, peer:rcpt("bob@example.org").code)
    assert.equal("452 4.5.3", tostring(peer:rcpt "ann@example.org"):sub(1, 9))
    assert.equal(250, peer:data("Subject: Hi\n\nHello.").code)
    assert.same({ "bob@example.org" }, policy.sent[1].recipients)
  end)

  it("says what the server behind says", function()
    policy:fail("forward", { reply = "550 5.1.1 No such user" })
    assert.equal("550 5.1.1 No such user", tostring(peer:send_message { from = "a@example.net", to = "eve@example.org" }))
  end)

  it("says to each recipient over LMTP what the server behind says of it", function()
    policy:fail("forward", { reply = "550 5.1.1 No such user", recipient = "eve@example.org" })
    local lmtp = policy:session { listener = "lmtp", helo = "mail.example.net" }
    lmtp:send_message { from = "a@example.net", to = { "bob@example.org", "eve@example.org" } }
    assert.same({ "bob@example.org" }, policy.sent[1].recipients)
  end)
end)
