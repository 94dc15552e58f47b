local dialogue = require "moonpost.cli.dialogue"

local function recorded()
  local lines = {}
  local trace, finish = dialogue.new(function(line)
    lines[#lines + 1] = line
  end)
  return trace, finish, lines
end

describe("moonpost.cli.dialogue", function()
  it("puts pieces together to lines, whatever their size", function()
    for _, slice in ipairs { 1, 2, 3, 100 } do
      local trace, finish, lines = recorded()
      local client = { host = "mx.example.net", ip = "192.0.2.1" }
      local said = "250-one\r\n250 two\r\nrest"
      for at = 1, #said, slice do
        trace("received", said:sub(at, at + slice - 1), 0, client)
      end
      trace("sent", "AUTH PLAIN ", 0, client)
      trace("sent", "***", 0, client)
      trace("sent", "\r\n", 0, client)
      finish()
      assert.same({ "* mx.example.net [192.0.2.1] is connected", "< 250-one", "< 250 two", "> AUTH PLAIN ***", "< rest" }, lines)
    end
  end)

  it("counts a body and shows none of it", function()
    local trace, finish, lines = recorded()
    local client = { host = "192.0.2.1", ip = "192.0.2.1" }
    trace("sent", "DATA\r\n", 0, client)
    trace("sent", "", 4000, client)
    trace("sent", "", 96, client)
    trace("received", "250 ok\r\n", 0, client)
    trace("sent", "", 5, client)
    finish()
    assert.same({ "* 192.0.2.1 is connected", "> DATA", "> [4096 octets of the message]", "< 250 ok", "> [5 octets of the message]" },
      lines)
  end)

  it("tells connections apart that speak at the same time", function()
    local trace, _, lines = recorded()
    local one, two = { host = "one.example.net" }, { host = "two.example.net" }
    trace("received", "220 o", 0, one)
    trace("received", "220 two\r\n", 0, two)
    trace("received", "ne\r\n", 0, one)
    assert.same({ "* one.example.net is connected", "* two.example.net is connected", "< 220 two", "* one.example.net goes on", "< 220 one" },
      lines)
  end)

  it("says when TLS came, and why it did not", function()
    local trace, _, lines = recorded()
    local client = { host = "mx" }
    trace("received", "220 go\n", 0, client)
    client.tls = { used = true, version = "TLSv1.3", verified = true }
    trace("sent", "EHLO a\r\n", 0, client)
    client.tls = { used = false, why = "STARTTLS is not offered" }
    trace("sent", "NOOP\r\n", 0, client)
    assert.same({ "* mx is connected", "< 220 go", "* TLSv1.3, verified", "> EHLO a", "* in clear (STARTTLS is not offered)", "> NOOP" },
      lines)
  end)

  it("holds back no more than a line may be, and escapes what a terminal would obey", function()
    local trace, _, lines = recorded()
    trace("received", ("x"):rep(5000), 0, { host = "mx" })
    assert.equal(2, #lines)
    assert.equal(5002, #lines[2])
    assert.equal("a\\x1b[0m\\x7f\\xc2\\x9b ü", dialogue.clean "a\27[0m\127\xc2\x9b ü")
    assert.equal("\\xff\\xc3\\xbc", dialogue.clean "\xffü")
  end)
end)
