-- What a trace shows of secrets that a script says by itself.
local hostile = require "spec.support.hostile"
local moonpost = require "moonpost"

describe("a trace of client:raw", function()
  it("stars what follows AUTH and its challenges, and nothing else", function()
    local server <close> = hostile.start {
      AUTH = { { "334 VXNlcm5hbWU6\r\n" }, { "235 2.7.0 welcome\r\n" } },
      ["BWU="] = { "334 UGFzc3dvcmQ6\r\n" }, Z2VIZWLT = { "235 2.7.0 welcome\r\n" },
    }
    local said = {}
    local client <close> = assert(moonpost.connect { url = server.url, helo = "client.example.org", trace = function(way, octets)
      said[#said + 1] = way == "sent" and octets or nil
    end })
    assert.equal(334, client:raw("AUTH LOGIN").code)
    assert.equal(334, client:raw("bWU=").code)
    assert.equal(235, client:raw("Z2VIZWlt").code)
    assert.equal(250, client:raw("NOOP one two").code)
    assert.equal(235, client:raw("auth  plain  AG1lAGdlaGVpbQ== ").code)
    assert.equal(250, client:raw("NOOP three").code)
    assert.equal(table.concat {
      "EHLO client.example.org\r\n", "AUTH LOGIN\r\n", "***\r\n", "***\r\n", "NOOP one two\r\n", "auth  plain ***\r\n", "NOOP three\r\n",
    }, table.concat(said))
    assert.is_not_nil(server:heard():find("auth  plain  AG1lAGdlaGVpbQ==", 1, true))
  end)
end)
