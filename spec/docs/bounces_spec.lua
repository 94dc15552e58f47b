-- docs/bounces.md: its policy against peers. That its scripts run is spec/docs/examples_spec.lua's to see.
local documents = require "spec.support.doc_examples"
local moonpost = require "moonpost"
local test = require "moonpost.test"

local page = "docs/bounces.md"

local function policy_block()
  for _, block in ipairs(documents.lua(page)) do
    if block.text:find "\nreturn server%s*$" then
      return block
    end
  end
end

describe(page, function()
  local block = policy_block()
  local domain, secret = block.text:match 'moonpost.srs { domain = "([^"]+)", secrets = "([^"]+)" }'
  local policy, peer

  before_each(function()
    policy = test.load(assert(documents.compile(block)))
    peer = policy:session { ip = "203.0.113.9", helo = "mail.example.net" }
  end)

  after_each(function()
    policy:stop()
  end)

  it("lets a bounce through to whom it is for", function()
    local address = moonpost.srs({ domain = domain, secrets = secret }):forward("ann@example.net", policy:now())
    assert.equal(250, peer:mail("").code)
    assert.equal(250, peer:rcpt(address).code)
    policy:advance("22d") -- the test's clock is that of the addresses
    peer = policy:session { ip = "203.0.113.9", helo = "mail.example.net" }
    assert.equal(250, peer:mail("").code)
    assert.equal(550, peer:rcpt(address).code)
  end)

  it("lets nothing else through: no forged address, and no message with a sender", function()
    local address = moonpost.srs({ domain = domain, secrets = secret }):forward("ann@example.net", policy:now())
    local forged = moonpost.srs({ domain = domain, secrets = ("x"):rep(16) }):forward("ann@example.net", policy:now())
    assert.equal(250, peer:mail("").code)
    assert.equal(550, peer:rcpt(forged).code)
    assert.equal(550, peer:rcpt("bob@" .. domain).code)
    assert.equal(250, peer:rset().code)
    assert.equal(250, peer:mail("eve@example.com").code)
    assert.equal(550, peer:rcpt(address).code)
  end)
end)
