-- Options in which one listener differs from the next, as a peer meets them.
local wired = require "spec.support.wired"

describe("a listener's own", function()
  after_each(wired.release_log)

  local function listeners(options, ...)
    local list = {}
    for i, each in ipairs { ... } do
      each[1], each.name = "smtp://127.0.0.1:" .. 2500 + i, "l" .. i
      list[i] = each
    end
    options.listen = list
    return wired.new(options, nil, { pretend_tls = true })
  end

  local HEADER = "PROXY TCP4 198.51.100.7 192.0.2.1 4444 25"

  it("networks of proxies take the place of the server's", function()
    local house = listeners({ proxy = { "203.0.113.0/24" } }, {}, { proxy = {} }, { proxy = "198.51.100.0/24" })
    local peer = house:connect(nil, "l1")
    assert.equal("", peer.banner) -- the header has to come first
    assert.matches("^220 ", peer:command(HEADER))
    assert.matches("^220 ", house:connect(nil, "l2").banner)
    assert.matches("^220 ", house:connect(nil, "l3").banner)
    assert.equal("", house:connect({ ip = "198.51.100.1", port = 1 }, "l3").banner)
    assert.matches("^220 ", house:connect({ ip = "198.51.100.1", port = 1 }, "l1").banner)
  end)

  it("tolerance of injection lets the handshake go on, and nothing of it is a command", function()
    local house = listeners({ tls = "development", domains = { "example.org" } }, {}, { tolerate_injection = true })
    local peer = house:session(nil, "l1")
    assert.matches("^554 5.5.1 ", peer:command("STARTTLS", "MAIL FROM:<eve@example.net>"))
    assert.is_true(peer:closed())
    peer = house:session(nil, "l2")
    assert.matches("^220 [^\n]+$", peer:command("STARTTLS", "MAIL FROM:<eve@example.net>"))
    assert.is_false(peer:closed())
  end)

  it("profile is what MT-PRIORITY is announced with", function()
    local house = listeners({ extensions = { "MT-PRIORITY" }, priority_profile = "MIXER" }, {}, { priority_profile = "NSEP" })
    assert.matches("MT-PRIORITY MIXER\n", house:session(nil, "l1").ehlo .. "\n", 1, true)
    assert.matches("MT-PRIORITY NSEP\n", house:session(nil, "l2").ehlo .. "\n", 1, true)
  end)
end)
