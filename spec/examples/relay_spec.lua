local moonpost = require "moonpost"
local process = require "spec.support.process"
local served = require "spec.support.served"
local test = require "moonpost.test"
local tmpdir = require "spec.support.tmpdir"

describe("examples/relay.lua", function()
  it("keeps mail for its people, and puts theirs into the queue", function()
    local policy = test.load "examples/relay.lua"
    local out = policy:session { listener = "submission", tls = {}, helo = "laptop.example.org" }
    assert.equal(235, out:auth("PLAIN", "alice", "wonderland").code)
    assert.equal(250, out:send_message({ from = "alice@example.org", to = { "you@example.net", "bob@example.org" } }).code)
    local by = {}
    for _, one in ipairs(policy.sent) do
      by[one.recipient] = one.disposition
      assert.equal(one.disposition == "enqueue" and "spool" or nil, one.queue)
    end
    assert.same({ ["you@example.net"] = "enqueue", ["bob@example.org"] = "maildir" }, by)
  end)

  it("relays for nobody else, and knows its mailboxes", function()
    local peer = test.load("examples/relay.lua"):session { ip = "203.0.113.9", helo = "mail.example.net" }
    peer:mail "a@example.net"
    assert.equal(550, peer:rcpt("you@example.net").code)
    assert.equal("550 5.1.1", tostring(peer:rcpt "eve@example.org"):sub(1, 9))
    assert.equal(250, peer:rcpt("bob@example.org").code)
  end)

  it("delivers to a smarthost, from a real spool", function()
    local behind <close> = served.start {
      options = 'relay = { networks = { "127.0.0.1" } }',
      hooks = 'function server.on.message(_, message) log.info("got", { to = message.recipients[1].address }) message:discard "test" end',
    }
    local dir <close> = tmpdir.new()
    local here = process.run({ "pwd" }).out:gsub("\n", "")
    local ports = require "spec.support.ports"
    local p <close> = process.start {
      "sh", "-c", 'cd "$0" && exec "$@"', dir.path, process.moonpost, "serve", "--listen", "smtp://127.0.0.1:" .. ports.free(),
      "--listen", "submission://127.0.0.1:0", here .. "/examples/relay.lua", env = { NEXT = "smtp://" .. behind.at.smtp },
    }
    local port = p:expect("listening on submission://127.0.0.1:(%d+)")
    assert(moonpost.run(moonpost.send, {
      from = "alice@example.org", to = "you@example.net", subject = "Hi", text = "Hello.", via = "submission://127.0.0.1:" .. port,
      auth = { user = "alice", password = "wonderland" }, tls = "required",
    }))
    behind:expect("got to=you@example.net", 10)
    p:expect("info  delivered", 10)
    p:kill()
    assert.equal(0, p:wait())
  end)
end)
