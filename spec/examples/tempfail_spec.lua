local test = require "moonpost.test"

describe("examples/tempfail.lua", function()
  local policy, peer
  before_each(function()
    policy = test.load "examples/tempfail.lua"
    peer = policy:session { helo = "client.example" }
    peer:mail "a@example.net"
  end)

  for script, reply in pairs {
    ["450-4.2.2-Mailbox_full"] = "450 4.2.2 Mailbox full",
    ["550"] = "550 5.0.0 As you wish",
    ["550-5.1.1"] = "550 5.1.1 As you wish",
    ["452-Out_of_paper"] = "452 4.0.0 Out of paper",
    ["550-4.1.1-x"] = "550 5.0.0 4.1.1-x", -- a code of another class is but text
    defer = "450 4.2.0 Deferred",
    Reject = "550 5.1.1 Rejected",
    ["4500"] = "250 2.1.5 Recipient OK",
    ["650"] = "250 2.1.5 Recipient OK",
    bob = "250 2.1.5 Recipient OK",
  } do
    it(("answers %s@ with %s"):format(script, reply), function()
      assert.equal(reply, tostring(peer:rcpt(script .. "@example.org")))
    end)
  end

  it("closes", function()
    assert.equal(421, peer:rcpt("close@example.org").code)
    assert.is_true(peer.closed)
  end)

  it("thinks for as long as it is told", function()
    for script, code in pairs { ["slow-5s"] = 250, ["slow-5s-450"] = 450, ["slow-5s-reject"] = 550, ["slow-5"] = 250 } do
      local pending = peer:start_rcpt(script .. "@example.org")
      policy:advance(4.9)
      assert.is_false(pending:done())
      policy:advance(0.1)
      assert.equal(code, pending:reply().code, script)
    end
    local pending = peer:start_rcpt "slow-299s@example.org"
    policy:advance(299)
    assert.equal(250, pending:reply().code)
  end)

  it("fails at the end of the message, over LMTP for each recipient", function()
    peer:rcpt "data-552-5.2.2-Too_big@example.org"
    assert.equal("552 5.2.2 Too big", tostring(peer:data "x"))
    local front = policy:session { listener = "lmtp", helo = "front.example" }
    local replies = front:send_message { from = "a@example.net",
      to = { "data-452@example.org", "bob@example.org", "data-552@example.org" } }
    assert.same({ 452, 250, 552 }, { replies[1].code, replies[2].code, replies[3].code })
  end)

  it("keeps nothing", function()
    peer:rcpt "bob@example.org"
    assert.equal(250, peer:data("x").code)
    assert.equal("discard", policy.sent[1].disposition)
  end)
end)
