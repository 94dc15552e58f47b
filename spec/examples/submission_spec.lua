local test = require "moonpost.test"

describe("examples/submission.lua", function()
  local policy
  before_each(function()
    policy = test.load "examples/submission.lua"
  end)

  local function peer(how)
    return policy:session { tls = { exporter = "spec" }, helo = "laptop.example", auth = how }
  end

  it("demands TLS, then AUTH", function()
    local one = policy:session { helo = "laptop.example" }
    assert.equal(530, one:mail("alice@example.org").code)
    assert.is_nil(one.extensions.AUTH)
    assert.equal(530, peer():mail("alice@example.org").code)
  end)

  it("knows its users by SCRAM, PLAIN and LOGIN", function()
    local one = peer()
    assert.equal("PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS", one.extensions.AUTH)
    assert.equal(535, one:auth("SCRAM-SHA-256", "alice", "guess").code)
    assert.equal(535, one:auth("PLAIN", "nobody", "wonderland").code)
    for _, mechanism in ipairs { "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "PLAIN", "LOGIN" } do
      assert.equal(235, peer():auth(mechanism, "alice", "wonderland").code, mechanism)
    end
    assert.equal(235, peer():auth("PLAIN", "bob", "builder").code) -- a crypt(3) hash: no SCRAM
    assert.equal(535, peer():auth("SCRAM-SHA-256", "bob", "builder").code)
  end)

  it("lets a user send as the addresses that are theirs", function()
    local one = peer { "PLAIN", "alice", "wonderland" }
    for address, code in pairs { ["alice@example.org"] = 250, ["sales@example.org"] = 250, ["bob@example.org"] = 553 } do
      assert.equal(code, one:mail(address).code, address)
      one:rset()
    end
  end)

  it("sorts what stays from what goes on, and adds what is missing", function()
    local one = peer { "PLAIN", "bob", "builder" }
    one:send_message { from = "bob@example.org", to = { "alice@example.org", "you@example.net" }, body = "Hi" }
    assert.equal("mail/alice", policy.sent[1].path)
    assert.equal("outgoing", policy.sent[2].path)
    assert.equal("bob", policy.sent[2].user)
    assert.truthy(policy.sent[2].message:find("\nDate: Thu, 01 Jan 2026 00:00:00 +0000\nMessage-ID: <", 1, true))
    one:send_message { from = "bob@example.org", to = "you@example.net", date = "Fri, 2 Jan 2026 00:00:00 +0000",
      message_id = "<1@laptop.example>" }
    assert.truthy(policy.sent[3].message:find("Date: Fri, 2 Jan", 1, true))
    assert.is_nil(policy.sent[3].message:find("mail.example.org>", 1, true))
  end)
end)
