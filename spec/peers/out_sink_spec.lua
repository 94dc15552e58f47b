-- Postfix's smtp-sink with its faults: what became of each recipient is known, whatever the server does.
local moonpost = require "moonpost"
local peers = require "spec.support.peers"
local smtp_sink = require "spec.support.sinks.smtp_sink"

local FROM, TO = "alice@example.net", "bob@example.org"
local MESSAGE = "Subject: out\r\n\r\nHello.\r\n"

describe("moonpost.send to smtp-sink", function()
  if not peers.smtp_sink then
    pending("smtp-sink is not there")
    return
  end

  local function send(sink, more)
    local options = { via = sink.url, tls = "none", from = FROM, to = TO, message = MESSAGE }
    for name, value in pairs(more or {}) do
      options[name] = value
    end
    return moonpost.send(options)
  end

  -- One recipient's row, of a message that was not delivered.
  local function row(...)
    local sink <close> = smtp_sink { ... }
    local result, err = send(sink)
    assert.is_nil(result)
    assert.equal(1, #err.recipients)
    return err.recipients[1]
  end

  local stages = { MAIL = "mail", RCPT = "rcpt", DATA = "data", ["."] = "body" }

  for _, command in ipairs { "MAIL", "RCPT", "DATA", "." } do
    it("knows a hard refusal of " .. command .. " to be final", function()
      local is = row("-f", command)
      assert.same({ "refused", stages[command], 500, "5.3.0" }, { is.state, is.stage, is.reply.code, is.reply.enhanced })
    end)

    it("knows a soft refusal of " .. command .. " to be for now", function()
      local is = row("-r", command)
      assert.same({ "deferred", stages[command], 450, "4.3.0" }, { is.state, is.stage, is.reply.code, is.reply.enhanced })
    end)
  end

  it("defers when the banner is a hard refusal: it says nothing of a recipient", function()
    assert.equal("deferred", row("-f", "CONNECT").state)
  end)

  it("says HELO when EHLO is refused", function()
    local sink <close> = smtp_sink { "-f", "EHLO" }
    assert(send(sink))
    assert.matches("X%-Client%-Proto: SMTP\n", sink:take().fields)
  end)

  it("defers when EHLO and HELO are refused for good", function()
    assert.equal("deferred", row("-f", "EHLO,HELO").state)
  end)

  for _, command in ipairs { "CONNECT", "EHLO", "MAIL", "RCPT", "DATA" } do
    it("defers when the server goes away at " .. command, function()
      assert.equal("deferred", row("-q", command).state)
    end)

    it("defers when the server says 421 to " .. command, function()
      local is = row("-Q", command)
      assert.same({ "deferred", 421 }, { is.state, is.reply.code })
    end)
  end

  it("does not know when the server goes away behind the end of the message, and it is to be sent again", function()
    local is = row("-q", ".")
    assert.same({ "unknown", false }, { is.state, is.ok })
  end)

  it("defers when the server says 421 to the message", function()
    local is = row("-Q", ".")
    assert.same({ "deferred", "body", 421 }, { is.state, is.stage, is.reply.code })
  end)

  it("hears a refusal in the middle of a body that is not read", function()
    local sink <close> = smtp_sink { "-A", "0" }
    local result, err = send(sink, { message = ("x"):rep(70, " ") .. ("\r\n" .. ("y"):rep(70)):rep(100000) .. "\r\n" })
    assert.is_nil(result)
    assert.is_false(err.recipients[1].ok)
  end)

  it("delivers to a server without ESMTP, without PIPELINING, without enhanced codes", function()
    for _, option in ipairs { "-e", "-p", "-E", "-8", "-P" } do
      local sink <close> = smtp_sink { option }
      local result = assert(send(sink))
      assert.is_true(result.recipients[1].ok)
      assert.equal(MESSAGE, sink:take().octets)
    end
  end)

  it("converts 8 bits for a server without 8BITMIME", function()
    local sink <close> = smtp_sink { "-8" }
    assert(send(sink, { message = "Subject: 8\r\n\r\n\xc3\xa9\r\n" }))
    assert.equal("Subject: 8\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
      .. "Content-Transfer-Encoding: base64\r\n\r\nw6kNCg==\r\n", sink:take().octets)
  end)

  it("refuses itself 8 bits that cannot be converted to a server without 8BITMIME", function()
    local sink <close> = smtp_sink { "-8" }
    local result, err = send(sink, { message = "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xc3\xa9\r\n--b--\r\n" })
    assert.is_nil(result)
    assert.same({ "refused", "5.6.3", true }, {
      err.recipients[1].state, err.recipients[1].reply.enhanced, err.recipients[1].own,
    })
    assert.same({}, sink:messages())
  end)

  it("waits for a server that takes a second for DATA", function()
    local sink <close> = smtp_sink { "-w", "1" }
    assert(send(sink))
  end)

  it("gives up a server that takes longer than the deadline", function()
    local sink <close> = smtp_sink { "-p", "-W", "RCPT:60" }
    local result, err = send(sink, { timeouts = { rcpt = "100ms" } })
    assert.is_nil(result)
    assert.same({ "deferred", "4.4.2" }, { err.recipients[1].state, err.recipients[1].reply.enhanced })
  end)

  it("does not know of a message whose reply takes longer than the deadline", function()
    local sink <close> = smtp_sink { "-W", ".:60" }
    local result, err = send(sink, { timeouts = { final = "100ms" } })
    assert.is_nil(result)
    assert.equal("unknown", err.recipients[1].state)
  end)

  it("gives DSN's parameters to a server that knows them", function()
    local to = { { address = TO, params = { notify = { SUCCESS = true, FAILURE = true }, orcpt = TO } } }
    local sink <close> = smtp_sink {}
    assert(send(sink, { to = to, params = { ret = "hdrs", envid = "Q+1" } }))
    local message = sink:take()
    assert.matches("RET=HDRS", message.options)
    assert.matches("ENVID=Q+2B1", message.options, 1, true)
    assert.matches("NOTIFY=SUCCESS,FAILURE", message.parameters[1])
    assert.matches("ORCPT=rfc822;bob@example.org", message.parameters[1])
  end)

  it("tells that a server without DSN was not told them", function()
    local to = { { address = TO, params = { notify = { SUCCESS = true } } } }
    local sink <close> = smtp_sink { "-N" }
    local result = assert(send(sink, { to = to }))
    assert.is_true(result.recipients[1].dsn_lost)
    assert.equal("", sink:take().parameters[1])
  end)
end)
