local test = require "moonpost.test"

describe("examples/tickets.lua", function()
  local policy, peer
  before_each(function()
    policy = test.load "examples/tickets.lua"
    peer = policy:session { ip = "203.0.113.9", helo = "mail.example.net" }
  end)

  local function send(message)
    message.from, message.to = "customer@example.net", "support@example.org"
    return peer:send_message(message)
  end

  it("opens a ticket for a new subject, and says its number there", function()
    assert.equal(250, send({ subject = "The printer is on fire", body = "Help!" }).code)
    local delivery = policy.sent[1]
    assert.equal("pipe", delivery.disposition)
    assert.equal("/bin/sh", delivery.args[1])
    assert.matches("^/.*/intake%.sh$", delivery.args[2])
    assert.equal("T" .. delivery.id, delivery.args[3])
    assert.truthy(delivery.message:find("\nSubject: [#T" .. delivery.id .. "] The printer is on fire\n", 1, true))
    assert.equal(30, delivery.timeout)
    assert.matches("^TICKETS=/.*/tickets$", delivery.env[1])
  end)

  it("finds the ticket that an answer belongs to", function()
    send { subject = "Re: [#T4711] The printer is on fire" }
    assert.equal("T4711", policy.sent[1].args[3])
    assert.truthy(policy.sent[1].message:find("\nSubject: Re: [#T4711] The printer is on fire\n", 1, true))
  end)

  it("takes nothing for a number that could be anything else", function()
    send { subject = "[#T../../etc] Hi" }
    assert.equal("T" .. policy.sent[1].id, policy.sent[1].args[3])
    send { subject = "[#T" .. ("1"):rep(100) .. "] Hi" }
    assert.equal("T" .. policy.sent[2].id, policy.sent[2].args[3])
    send {}
    assert.truthy(policy.sent[3].message:find("] (no subject)\n", 1, true))
  end)

  it("discards what machines send by themselves", function()
    assert.equal(250, send({ auto_submitted = "auto-replied" }).code)
    assert.equal("discard", policy.sent[1].disposition)
    send { auto_submitted = "No" }
    assert.equal("pipe", policy.sent[2].disposition)
  end)

  it("lets the program say how it went", function()
    for status, code in pairs { [75] = 451, [65] = 554, [67] = 550 } do
      policy:fail("pipe", { status = status })
      assert.equal(code, send({ subject = "x" }).code)
    end
    assert.same({}, policy.sent)
  end)

  it("is support@ alone", function()
    peer:mail "customer@example.net"
    assert.equal(550, peer:rcpt("sales@example.org").code)
    assert.equal(250, peer:rcpt("Support+x@example.org").code)
  end)
end)

describe("examples/intake.sh", function()
  local process = require "spec.support.process"
  local tmpdir = require "spec.support.tmpdir"

  it("keeps each mail in its ticket's folder", function()
    local dir <close> = tmpdir.new()
    local result = process.run { "sh", "-c", 'printf "Subject: Hi\\n\\nx\\n" | TICKETS="$1" sh examples/intake.sh T1',
      "sh", dir.path }
    assert.equal(0, result.code)
    local names = dir:list "T1"
    assert.equal(1, #names)
    assert.equal("Subject: Hi\n\nx\n", dir:read("T1/" .. names[1]))
    assert.equal(64, process.run({ "sh", "examples/intake.sh" }).code)
  end)
end)
