-- Reports as somebody else's parser reads them.
local clients = require "spec.peers.clients"
local moonpost = require "moonpost"
local peers = require "spec.support.peers"

local HEAD = "From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject: Lunch\r\nMessage-ID: <1@example.com>\r\n"

local function notice(changes)
  local given = {
    kind = "failed", reporting_mta = "mx.example.org", now = 1795387310,
    message = { sender = "ann@example.com", received = 1795380000, id = "m1", envid = "QQ 1", head = HEAD, body = "Hi.\r\n--\r\n" },
    recipients = {
      {
        address = "bob@example.net", orcpt = "robert@example.org", host = "mx.example.net", attempted = 1795387300,
        reply = { code = 550, enhanced = "5.1.1", text = "No such user" },
      },
    },
  }
  for key, value in pairs(changes or {}) do
    if key == "message" then
      for name, of in pairs(value) do
        given.message[name] = of
      end
    else
      given[key] = value
    end
  end
  return given
end

local function find(list, name)
  for _, pair in ipairs(list) do
    if pair[1]:lower() == name:lower() then
      return pair[2]
    end
  end
end

describe("Python's email package", function()
  if not peers.python3 then
    pending("python3 is not installed")
    return
  end

  local function read(changes)
    local report, fault = moonpost.report.make(notice(changes))
    assert.is_nil(fault)
    local answer = clients.parse(report.message)
    assert.same({}, answer.defects)
    assert.is_true(report.params.smtputf8 or answer.value_defects[1] == nil)
    return answer, report
  end

  it("finds the three parts of a failure, and every field", function()
    local answer = read()
    assert.equal("multipart/report", answer.type)
    assert.equal("delivery-status", answer.params["report-type"])
    assert.equal("ann@example.com", find(answer.headers, "To"))
    assert.equal("Mail Delivery System <MAILER-DAEMON@mx.example.org>", find(answer.headers, "From"))
    assert.equal("auto-replied", find(answer.headers, "Auto-Submitted"))
    assert.equal("<1@example.com>", find(answer.headers, "In-Reply-To"))
    assert.equal("<1@example.com>", find(answer.headers, "References"))
    assert.equal("Sun, 22 Nov 2026 22:41:50 +0000", find(answer.headers, "Date"))
    assert.equal(3, #answer.parts)
    assert.equal("text/plain", answer.parts[1].type)
    assert.matches('Your message "Lunch"', answer.parts[1].text)
    assert.same({
      { { "Reporting-MTA", "dns; mx.example.org" }, { "Original-Envelope-Id", "QQ 1" },
        { "Arrival-Date", "Sun, 22 Nov 2026 20:40:00 +0000" } },
      { { "Original-Recipient", "rfc822; robert@example.org" }, { "Final-Recipient", "rfc822; bob@example.net" }, { "Action", "failed" },
        { "Status", "5.1.1" }, { "Remote-MTA", "dns; mx.example.net" }, { "Diagnostic-Code", "smtp; 550 5.1.1 No such user" },
        { "Last-Attempt-Date", "Sun, 22 Nov 2026 22:41:40 +0000" }, { "Final-Log-ID", "m1" } },
    }, answer.parts[2].blocks)
    assert.equal("message/rfc822", answer.parts[3].type)
    local original = answer.parts[3].parts[1]
    assert.equal("Lunch", find(original.headers, "Subject"))
    assert.equal("Hi.\r\n--\r\n", (original.text:gsub("\r?\n", "\r\n")))
  end)

  it("finds a block for each of many recipients", function()
    local recipients = {}
    for i = 1, 40 do
      recipients[i] = { address = ("user%d@example.net"):format(i), status = "5.2." .. i % 4, own = true, reply = { code = 550, text = "x" } }
    end
    local answer = read { recipients = recipients }
    assert.equal(41, #answer.parts[2].blocks)
    assert.equal("rfc822; user40@example.net", find(answer.parts[2].blocks[41], "Final-Recipient"))
    assert.equal("x-moonpost; 550 x", find(answer.parts[2].blocks[2], "Diagnostic-Code"))
  end)

  it("unfolds what was too long for a line", function()
    local said = ("The quick brown fox jumps over the lazy dog. "):rep(12):sub(1, -2)
    local answer = read { recipients = { { address = "bob@example.net", reply = { code = 550, text = said } } } }
    assert.equal("smtp; 550 " .. said, find(answer.parts[2].blocks[2], "Diagnostic-Code"))
  end)

  it("finds no header, no part and no field of a hostile server's", function()
    local hostile = "no\r\nBcc: eve@example.com\r\n\r\n--x\nAction: delivered\r\rContent-Type: text/html\0\27[2J\u{202e}\xff"
    local answer, report = read {
      message = { envid = hostile, id = hostile, received_from = hostile, head = "Subject: " .. hostile .. "\r\n", body = "" },
      recipients = {
        {
          address = "bob@example.net", orcpt = hostile, host = hostile, status = hostile, reply = { code = 550, enhanced = hostile, text = hostile },
          log_id = hostile,
        },
      },
    }
    assert.equal(3, #answer.parts)
    assert.equal(2, #answer.parts[2].blocks)
    assert.equal("failed", find(answer.parts[2].blocks[2], "Action"))
    assert.is_nil(find(answer.parts[2].blocks[2], "Remote-MTA"))
    assert.is_nil(find(answer.headers, "Bcc"))
    assert.is_nil(report.message:find "[\0\27\x80-\xff]")
    assert.is_nil(report.message:gsub("\r\n", ""):find "[\r\n]")
  end)

  it("reads a report in Unicode (RFC 6533)", function()
    local answer, report = read {
      message = { sender = "\u{e4}nn@example.com", smtputf8 = true, head = HEAD .. "X-Name: \u{c4}nn\r\n", body = "\u{df}\r\n" },
      recipients = {
        {
          address = "b\u{f6}b@b\u{fc}cher.example", orcpt_type = "utf-8", orcpt = "b\\x{F6}b@example.net", host = "mx.example.net",
          reply = { code = 550, enhanced = "5.1.1", text = "Kennt hier keiner: b\u{f6}b" },
        },
      },
    }
    assert.equal("global-delivery-status", answer.params["report-type"])
    assert.equal("8bit", answer.encoding)
    assert.equal("\u{e4}nn@example.com", find(answer.headers, "To"))
    assert.equal("message/global-delivery-status", answer.parts[2].type)
    assert.equal("utf-8; b\u{f6}b@example.net", find(answer.parts[2].blocks[2], "Original-Recipient"))
    assert.equal("utf-8; b\u{f6}b@b\u{fc}cher.example", find(answer.parts[2].blocks[2], "Final-Recipient"))
    assert.equal("smtp; 550 5.1.1 Kennt hier keiner: b\u{f6}b", find(answer.parts[2].blocks[2], "Diagnostic-Code"))
    assert.equal("message/global", answer.parts[3].type)
    assert.same({ smtputf8 = true, body = "8BITMIME" }, report.params)
  end)

  it("decodes a header that was returned in quoted-printable", function()
    local answer = read { message = { ret = "HDRS", head = HEAD .. "X-Name: \u{c4}nn=\r\n" } }
    assert.equal("text/rfc822-headers", answer.parts[3].type)
    assert.equal("quoted-printable", answer.parts[3].encoding)
    assert.equal((HEAD .. "X-Name: \u{c4}nn=\r\n"), (answer.parts[3].text:gsub("\r?\n", "\r\n")))
  end)

  for _, kind in ipairs { "delayed", "delivered", "relayed", "expanded" } do
    it("reads what was " .. kind, function()
      local answer = read { kind = kind, recipients = {
        { address = "bob@example.net", notify = { DELAY = true, SUCCESS = true }, will_retry_until = 1795819310 },
      } }
      assert.equal(kind, find(answer.parts[2].blocks[2], "Action"))
      assert.equal("text/rfc822-headers", answer.parts[3].type)
      local retry = find(answer.parts[2].blocks[2], "Will-Retry-Until")
      assert.equal(kind == "delayed" and "Fri, 27 Nov 2026 22:41:50 +0000" or nil, retry)
    end)
  end
end)
