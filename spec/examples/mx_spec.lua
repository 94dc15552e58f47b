local test = require "moonpost.test"

describe("examples/mx.lua", function()
  local policy, peer
  before_each(function()
    policy = test.load "examples/mx.lua"
    peer = policy:session { ip = "203.0.113.9", helo = "mail.example.net" }
  end)

  it("takes mail for its mailboxes, and for no other", function()
    peer:mail "a@example.net"
    assert.equal(250, peer:rcpt("Bob@example.org").code)
    assert.equal("5.1.1", peer:rcpt("nobody@example.org").enhanced)
    assert.equal("5.7.1", peer:rcpt("bob@example.com").enhanced)
    assert.equal(250, peer:data("Subject: Hi\n\nHello.").code)
    assert.equal(1, #policy.sent)
    assert.equal("mail/bob", policy.sent[1].path)
  end)

  local function paths()
    local list = {}
    for i, delivery in ipairs(policy.sent) do
      list[i] = delivery.path
    end
    table.sort(list)
    return list
  end

  it("writes to everybody behind an alias, once", function()
    peer:send_message { from = "a@example.net", to = { "team@example.org", "bob@example.org" } }
    assert.same({ "mail/alice", "mail/bob" }, paths())
  end)

  it("is reachable as postmaster", function()
    assert.equal(250, peer:send_message({ from = "a@example.net", to = { "postmaster", "abuse@example.org" } }).code)
    assert.same({ "mail/alice" }, paths())
  end)

  it("sorts by subaddress, into folders that are there for it", function()
    peer:send_message { from = "a@example.net", to = { "bob+lists@example.org", "bob+other@example.org",
      "alice+lists@example.org" } }
    assert.same({ "mail/alice", "mail/bob", "mail/bob/.lists" }, paths())
  end)
end)
