local test = require "moonpost.test"

describe("examples/catchall.lua", function()
  local policy
  before_each(function()
    policy = test.load("examples/catchall.lua", { now = 1000000000 })
  end)

  it("takes any mail to any address into ./mail", function()
    local peer = policy:session { helo = "client.example" }
    local reply = peer:send_message { from = "me@example.net", to = { "you@example.org", "a+b@elsewhere.example" } }
    assert.equal(250, reply.code)
    assert.equal(250, peer:send_message({ from = "", to = "postmaster" }).code)
    assert.equal(2, #policy.sent)
    assert.equal("maildir", policy.sent[1].disposition)
    assert.equal("mail", policy.sent[1].path)
    assert.same({ "you@example.org", "a+b@elsewhere.example" }, policy.sent[1].recipients)
  end)

  -- curl says the file's name in EHLO when the URL has no path, and many a file has an underscore.
  it("takes what well-known clients say in EHLO", function()
    assert.equal(250, policy:session():ehlo("my_mail.eml").code)
  end)

  it("prints the commands that try it, and one line for each message", function()
    assert.equal(1, #policy.printed)
    for _, part in ipairs { "smtp://127.0.0.1:2525", "curl ", "swaks --server 127.0.0.1:2525" } do
      assert.truthy(policy.printed[1]:find(part, 1, true), part)
    end
    local peer = policy:session { helo = "client.example" }
    peer:send_message { from = "me@example.net", to = { "a@example.org", "b@example.org" }, subject = "\27[2JHi",
      body = "x" }
    assert.equal(2, #policy.printed)
    assert.matches("^%d%d:%d%d:%d%d  me@example%.net %-> a@example%.org, b@example%.org  \\x1b%[2JHi  "
      .. "%(%d+ octets%)  mail/new/%w+$", policy.printed[2])
  end)

  it("lets every user in with every password, with TLS and without, to send as anybody", function()
    for _, tls in ipairs { false, true } do
      for _, mechanism in ipairs { "PLAIN", "LOGIN" } do
        local peer = policy:session { tls = tls, helo = "client.example" }
        assert.equal(235, peer:auth(mechanism, "someone@example.com", "anything").code)
        assert.equal(250, peer:send_message({ from = "eve@example.net", to = "bob@example.org" }).code)
      end
    end
    assert.truthy(policy.printed[2]:find("octets, from someone@example.com)", 1, true))
  end)

  it("tolerates who talks early and ends lines with LF", function()
    local peer = policy:session()
    local replies = peer:send("HELO a\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
      .. "Subject: Hi\n\nHello.\n\r\n.\r\nQUIT\r\n")
    assert.equal(221, replies[#replies].code)
    assert.truthy(policy.sent[1].message:find("Subject: Hi\n\nHello.\n", 1, true))
  end)

  it("says so when it cannot write", function()
    policy:fail("maildir", { error = "NOSPACE" })
    local peer = policy:session { helo = "client.example" }
    assert.equal(452, peer:send_message({ from = "me@example.net", to = "you@example.org" }).code)
    assert.truthy(policy.printed[2]:find("no space left on device", 1, true))
  end)
end)
