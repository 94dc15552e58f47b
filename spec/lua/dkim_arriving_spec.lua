-- A message on a real server, with a body that goes into a file: its hash is made on the way there.
local core = require "moonpost.core"
local dkim = require "moonpost.dkim"
local dns = require "moonpost.dns"
local moonpost = require "moonpost"
local ports = require "spec.support.ports"
local task = require "moonpost.task"

local LARGE = ("0123456789 abcdefghijklmnopqrstuvwxyz \r\n"):rep(1 << 17) -- 5 MB

setup(function()
  moonpost.log.configure { level = "error" }
end)

teardown(function()
  moonpost.log.configure { level = "warn" }
end)

describe("a large body", function()
  it("is hashed while it arrives, once somebody has asked for that", function()
    local pair = dkim.keygen "ed25519"
    local zone = dns.zone { ["s._domainkey.example.org"] = { TXT = pair.record } }
    local octets = assert(dkim.sign("From: a@example.org\r\n\r\n" .. LARGE,
      { domain = "example.org", selector = "s", key = pair.private, canonicalization = "relaxed/relaxed" }))
    local seen = {}
    local port = ports.free()
    local server = moonpost.server { hostname = "mx.example.org", listen = ("smtp://127.0.0.1:%d"):format(port), domains = "example.org" }
    function server.on.message(_, message)
      local hash <close> = core.dkim_hash("relaxed", false)
      local at_once = hash:feed(message._core, task.worker(), function() end)
      local found = assert(dkim.verify(message, { dns = zone }))
      seen[#seen + 1] = { at_once, found[1].result }
      if #seen == 3 then
        local tree = message:mime()
        assert(tree.root:replace "another body")
        assert(tree:apply())
        seen[4] = assert(dkim.verify(message, { dns = zone }))[1].result -- of what was received
      end
      message:discard "spec"
    end
    assert(server:start())
    local via = ("smtp://127.0.0.1:%d"):format(port)
    for _ = 1, 3 do
      assert(moonpost.send { from = "a@example.org", to = "b@example.org", message = octets, via = via, tls = "none" })
    end
    server:stop()
    assert.same({ { "pass" }, { "pass" }, { "pass" } }, { { seen[1][2] }, { seen[2][2] }, { seen[3][2] } })
    assert.same({ true, true, "pass" }, { seen[2][1], seen[3][1], seen[4] }) -- no octet was read again
  end)
end)
