local raw = require "spec.support.raw"
local served = require "spec.support.served"

-- What `nc < file` does: everything at once, then the end of sending, and the replies are read.
describe("a file of commands sent in one flight", function()
  local file = table.concat({
    "EHLO client.example.net", "MAIL FROM:<a@example.net>", "RCPT TO:<bob@example.org>", "DATA", "Subject: from a file", "",
    "Hello.", ".", "QUIT", "",
  }, "\r\n")

  local function talk(house, octets)
    local peer <close> = raw.connect(house.port.smtp)
    peer:send(octets)
    peer:finish()
    return (peer:rest())
  end

  local function codes(replies)
    local list = {}
    for code in replies:gmatch("(%d%d%d) [^\n]*\n") do
      list[#list + 1] = code
    end
    return table.concat(list, " ")
  end

  it("gets all its replies where early talkers are tolerated", function()
    local house <close> = served.start {
      options = 'early = "tolerate"',
      hooks = [[
        function server.on.rcpt(session)
          moonpost.sleep "20ms" -- the end of the file has come long before this is over
          log.info("rcpt", { early = session.early_talker, alive = session.alive })
        end
      ]],
    }
    assert.equal("220 250 250 250 354 250 221", codes(talk(house, file)))
    house:expect("rcpt alive=true early=true")
    assert.equal("Subject: from a file\n\nHello.\n", (served.strip(house:take("bob"))))
  end)

  it("gets the replies to what is whole when it ends in the middle, and nothing is delivered", function()
    local house <close> = served.start { options = 'early = "tolerate"' }
    assert.equal("220 250 250 250 354", codes(talk(house, file:match("^.*Hello%."))))
    assert.equal("220 250", codes(talk(house, "EHLO client.example.net\r\nMAIL FROM:<a@exam")))
    assert.same({}, house:mail("bob"))
  end)

  it("is refused by default, and nothing of it is heard", function()
    local house <close> = served.start {
      options = 'limits = { greet_delay = "50ms" }', hooks = [[
        function server.on.mail() log.info "mail" end
      ]],
    }
    assert.matches("^554 5?%.?5?%.?0? ?[^\n]*\n$", talk(house, file))
    assert.equal(0, house:count(" mail$"))
    assert.same({}, house:mail("bob"))
  end)

  it("is refused by default when it comes behind EHLO", function()
    local house <close> = served.start()
    local peer <close> = raw.connect(house.port.smtp)
    peer:read()
    peer:send(file)
    assert.matches("\n554 5.5.1 [^\n]*\n$", "\n" .. peer:rest())
    assert.same({}, house:mail("bob"))
  end)
end)
