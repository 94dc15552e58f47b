local script = require "moonpost.test.script"

-- Everything a session says at once, as one string; waits and closes in words.
local function said(session)
  local out = {}
  local action = session:take()
  while action do
    if action.after > 0 then
      out[#out + 1] = ("(%g s)"):format(action.after)
    end
    out[#out + 1] = action.octets
    out[#out + 1] = action.close and "(close)" or nil
    action = session:take()
  end
  return table.concat(out)
end

local function talk(server, octets)
  local session = server:accept()
  session:feed(octets)
  return said(session), session
end

describe("moonpost.test.script", function()
  it("answers well where nothing else is said, and writes down what it heard", function()
    local server = script.new { extensions = { "PIPELINING" } }
    local all = talk(server, "EHLO me\r\nMAIL FROM:<a@x.example> SIZE=5\r\nRCPT TO:<b@y.example>\r\nDATA\r\n..a\r\nb\r\n.\r\nQUIT\r\n")
    assert.equal("220 mx.test ESMTP\r\n250-mx.test\r\n250 PIPELINING\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 Go ahead\r\n250 2.0.0 Taken\r\n"
      .. "221 2.0.0 Bye\r\n(close)", all)
    assert.same({ "EHLO me", "MAIL FROM:<a@x.example> SIZE=5", "RCPT TO:<b@y.example>", "DATA", "QUIT" }, server.commands)
    assert.equal(1, #server.messages)
    local message = server.messages[1]
    assert.same({ "a@x.example", { "b@y.example" }, ".a\r\nb\r\n" }, { message.sender, message.recipients, message.octets })
  end)

  it("takes a list one by one, the last for ever", function()
    local server = script.new { rcpt = { "250 ok", "450 4.2.1 busy", "550 5.1.1 no" } }
    local all = talk(server, "MAIL FROM:<>\r\n" .. ("RCPT TO:<b@y.example>\r\n"):rep(4) .. "DATA\r\n.\r\n")
    local codes = {}
    for code in all:gmatch("(%d%d%d)[^\n]*\n") do
      codes[#codes + 1] = code
    end
    assert.same({ "220", "250", "250", "450", "550", "550", "354", "250" }, codes)
    assert.same({ "b@y.example" }, server.messages[1].recipients)
    assert.equal("", server.messages[1].octets)
  end)

  it("waits, falls silent, says what is no reply, and hangs up", function()
    assert.equal("(5 s)220 hi\r\n", (talk(script.new { banner = { "220 hi", after = "5s" } }, "")))
    assert.equal("(close)", (talk(script.new { banner = { close = true } }, "EHLO me\r\n")))
    assert.equal("220 mx.test ESMTP\r\n", (talk(script.new { mail = { silent = true } }, "MAIL FROM:<>\r\nRCPT TO:<b@y.example>\r\n")))
    assert.equal("220 mx.test ESMTP\r\nhm\n(close)", (talk(script.new { noop = { raw = "hm\n", close = true } }, "NOOP\r\nNOOP\r\n")))
  end)

  it("asks a function, and goes on as usual when that returns nothing", function()
    local server = script.new {
      rcpt = function(argument)
        return argument:find("bad") and "550 5.1.1 bad" or nil
      end,
    }
    local all = talk(server, "RCPT TO:<bad@y.example>\r\nRCPT TO:<good@y.example>\r\n")
    assert.matches("550 5.1.1 bad\r\n250 2.1.5 Ok\r\n$", all)
  end)

  it("says a reply of several lines", function()
    assert.equal("220-one\r\n220-two\r\n220 three\r\n", (talk(script.new { banner = "220 one\ntwo\nthree" }, "")))
  end)

  it("counts the octets of BDAT", function()
    local server = script.new {}
    local all = talk(server, "MAIL FROM:<>\r\nRCPT TO:<b@y.example>\r\nBDAT 5\r\n.\r\nabBDAT 3 LAST\r\ncd\n")
    assert.matches("250 2.0.0 Go on\r\n250 2.0.0 Taken\r\n$", all)
    assert.equal(".\r\nabcd\n", server.messages[1].octets)
    assert.is_true(server.messages[1].chunked)
  end)

  it("has a reply for each recipient over LMTP", function()
    local server = script.new { lmtp = true, body = { "250 ok", "550 5.2.2 full" } }
    local all = talk(server, "LHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<b@y.example>\r\nRCPT TO:<c@y.example>\r\nDATA\r\n.\r\n")
    assert.matches("354 Go ahead\r\n250 ok\r\n550 5.2.2 full\r\n$", all)
  end)

  it("hears nothing between 220 to STARTTLS and the handshake, and announces it once", function()
    local server = script.new { tls = true, extensions = {} }
    local session = server:accept()
    session:feed("EHLO me\r\nSTARTTLS\r\nEHLO me\r\n")
    assert.matches("250%-mx.test\r\n250 STARTTLS\r\n220 2.0.0 Go ahead\r\n$", said(session))
    session:tls_done()
    session:feed("EHLO me\r\n")
    assert.equal("250 mx.test\r\n", said(session))
  end)

  it("does not know a word that is none", function()
    assert.matches("500 5.5.1 What%?\r\n$", (talk(script.new {}, "FOO bar\r\n")))
  end)

  it("tells at the test's line what is wrong with a script", function()
    for text, wrong in pairs {
      ['unknown option "rctp" (did you mean "rcpt"?)'] = { rctp = "250 ok" },
      ['rcpt: "ok" is no reply such as "250 ok"'] = { rcpt = "ok" },
      ["after: "] = { rcpt = { "250 ok", after = "soon" } },
      ['unknown option "afte" (did you mean "after"?)'] = { rcpt = { { "250 ok", afte = "1s" } } },
      ["a reply, raw, silent or close is needed"] = { mail = { after = "1s" } },
      ['"refused" or "timeout" expected'] = { connect = "refuse" },
      ["mail: a reply"] = { mail = 250 },
    } do
      local ok, err = pcall(script.new, wrong)
      assert.is_false(ok)
      assert.truthy(err:find(text, 1, true), err)
      assert.matches("test_script_spec.lua:%d+: test.server: ", err)
    end
  end)
end)
