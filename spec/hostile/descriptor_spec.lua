-- A server that runs out of descriptors: those who cannot be accepted wait, and the log says why.
local raw = require "spec.support.raw"
local served = require "spec.support.served"

describe("moonpost serve without descriptors", function()
  it("says so, once, and goes on when there are some again", function()
    local house <close> = served.start { wrap = { "prlimit", "--nofile=48:48" } }
    local peers = {}
    for i = 1, 60 do
      peers[i] = raw.connect(house.port.smtp)
    end
    local line = house:expect "(.*connections are not accepted: out of descriptors or memory.*)"
    assert.matches("error", line)
    assert.matches("listener=smtp$", line)
    for _, peer in ipairs(peers) do
      peer.sock:close()
    end
    local peer <close> = raw.session(house.port.smtp)
    assert.matches("^250-", peer.ehlo)
    peer:command("MAIL FROM:<a@example.net>")
    peer:command("RCPT TO:<bob@example.org>")
    peer:command("DATA")
    assert.matches("^250 ", peer:command("Subject: on", "", "It goes on.", "."))
    assert.equal(1, house:count "connections are not accepted")
  end)
end)
