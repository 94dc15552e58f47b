local moonpost = require "moonpost"
local reports = require "moonpost.reports"
local unpack = require "moonpost.reports.unpack"

local function crlf(text)
  return (text:gsub("\r?\n", "\r\n"))
end

local function dsn(groups, more)
  return crlf([[
From: MAILER-DAEMON@mx.example.net
Subject: Undelivered
Content-Type: multipart/report; report-type=delivery-status; boundary=x

--x
Content-Type: text/plain

It failed.
--x
Content-Type: message/delivery-status

]] .. groups .. "\n" .. (more or "") .. "--x--\n")
end

describe("moonpost.reports", function()
  it("reads what moonpost writes", function()
    local made = assert(moonpost.report.make {
      kind = "failed", reporting_mta = "mx.example.org", now = 1795380600,
      message = {
        sender = "ann@example.com", received = 1795380000, id = "s1-7", envid = "QQ1", head = "From: Ann <ann@example.com>\r\nSubject: Lunch\r\n",
        body = "At noon?\r\n",
      },
      recipients = {
        { address = "bob@example.net", host = "mx.example.net", reply = moonpost.Reply(550, "5.1.1", "No such user") },
        { address = "carol@example.net", reply = moonpost.Reply(552, "5.2.2", "Mailbox full") },
      },
    })
    local report = assert(reports.read(made.message))
    assert.same({ "dsn", "mx.example.org", 1795380000 }, { report.kind, report.reporting_mta, report.arrival })
    local one = report.recipients[1]
    assert.same({ "bob@example.net", "failed", "5.1.1", 550, "mx.example.net" }, { one.address, one.action, one.status, one.code, one.remote })
    assert.equal("550 5.1.1 No such user", one.diagnostic)
    assert.equal("5.2.2", report.recipients[2].status)
    assert.equal("Lunch", report.message.headers:get "Subject")
    assert.is_nil(report.guessed)
  end)

  it("reads notifications as they are seen", function()
    local report = assert(reports.read(dsn([[
Reporting-MTA: mx.example.net
Original-Envelope-Id: abc

Final-Recipient: RFC822; <Bob@example.net> (Bob)
Original-Recipient: rfc822;list@example.net
Action: Delayed (for now)
Status: 4.4.7 (nothing)
Diagnostic-Code: x-unix; 255
Will-Retry-Until: Thu, 01 Jan 2026 00:00:00 +0000

Original-Recipient: rfc822; carol@example.net
Action: sung
Status: none
]], "--x\nContent-Type: text/rfc822-headers\n\nSubject: back\n\n")))
    assert.same({
      { address = "Bob@example.net", original = "list@example.net", action = "delayed", status = "4.4.7", diagnostic = "255",
        diagnostic_type = "x-unix", retry_until = 1767225600 },
      { address = "carol@example.net", original = "carol@example.net" },
    }, report.recipients)
    assert.equal("abc", report.envelope_id)
    assert.matches("^Subject: back", report.headers)
  end)

  for name, text in pairs {
    qmail = [[
From: MAILER-DAEMON@mx.example.net
Return-Path: <>
Subject: failure notice

Hi. This is the qmail-send program at mx.example.net.
I'm afraid I wasn't able to deliver your message to the following addresses.

<bob@example.net>:
192.0.2.1 does not like recipient.
Remote host said: 550 5.1.1 unknown user
Giving up on 192.0.2.1.

--- Below this line is a copy of the message.

From: carol@example.org
<carol@example.org>: rejected
]],
    exim = [[
From: Mail Delivery System <Mailer-Daemon@mx.example.net>
X-Failed-Recipients: bob@example.net
Auto-Submitted: auto-replied
Subject: Mail delivery failed: returning message to sender

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  bob@example.net
    host mx.example.net [192.0.2.1]
    SMTP error from remote mail server after RCPT TO:<bob@example.net>:
    550 5.1.1 unknown user

------ This is a copy of the message, including all the headers. ------

From: carol@example.org
]],
  } do
    it("guesses what " .. name .. " tells people", function()
      local report = assert(reports.read(crlf(text)))
      assert.is_true(report.guessed)
      assert.equal(1, #report.recipients)
      local one = report.recipients[1]
      assert.same({ "bob@example.net", "failed", "5.1.1", 550 }, { one.address, one.action, one.status, one.code })
    end)
  end

  it("takes no answer of a person for a bounce", function()
    for _, text in ipairs {
      "From: bob@example.net\nSubject: Re: delivery failed\n\nbob@example.org: I could not be there\n",
      "From: MAILER-DAEMON@example.net\nSubject: Welcome\n\ncarol@example.org: unknown\n",
      "Subject: x\n\nhello\n", "",
    } do
      local report, err = reports.read(crlf(text))
      assert.is_nil(report)
      assert.equal("report", err.kind)
    end
  end)

  local feedback = '<?xml version="1.0"?><feedback><report_metadata><org_name>Example</org_name><report_id>7</report_id></report_metadata>'
    .. "<policy_published><domain>example.com</domain><p>reject</p><adkim>s</adkim><pct>50</pct></policy_published>"
    .. "<record><row><source_ip>192.0.2.1</source_ip><count>3</count></row></record></feedback>"

  it("reads aggregate reports in every wrapping", function()
    local gzip = require "moonpost.gzip_core"
    local packed = gzip.pack(feedback)
    local bare = packed:sub(11, -9) -- deflated octets, between the file's header and its end
    local head = "PK\3\4" .. ("<I2I2I2I2I2I4I4I4I2I2"):pack(20, 8, 8, 0, 0, 0, 0, 0, 5, 0) .. "a.xml"
    local stored = "PK\3\4" .. ("<I2I2I2I2I2I4I4I4I2I2"):pack(20, 0, 0, 0, 0, 0, #feedback, #feedback, 5, 0) .. "a.xml" .. feedback
    local mailed = assert(moonpost.message {
      from = "a@example.com", to = "b@example.net", text = "see there",
      attachments = { { content = packed, type = "application/gzip", filename = "a.xml.gz" } },
    }:octets())
    for name, octets in pairs { plain = feedback, gzip = packed, zip = head .. bare .. "PK\1\2", stored = stored, mail = mailed } do
      local report = assert(reports.read(octets), name)
      assert.same({ "dmarc", "Example", "7", "reject", "strict", 50, 3 }, {
        report.kind, report.organization, report.id, report.policy.p, report.policy.adkim, report.policy.percent, report.rows[1].count,
      }, name)
    end
  end)

  it("says what is wrong with a file", function()
    local gzip = require "moonpost.gzip_core"
    for octets, want in pairs {
      ["<feedback>"] = "no element found", ["<other/>"] = "something else", ["{]"] = "", ["{}"] = "something else",
      [gzip.pack(feedback):sub(1, 60)] = "damaged", ["PK\3\4"] = "damaged",
      ["PK\3\4" .. ("<I2I2I2I2I2I4I4I4I2I2"):pack(20, 1, 8, 0, 0, 0, 9, 9, 0, 0)] = "encrypted",
      ["PK\3\4" .. ("<I2I2I2I2I2I4I4I4I2I2"):pack(20, 0, 12, 0, 0, 0, 9, 9, 0, 0)] = "not known",
      ['<!DOCTYPE a [<!ENTITY x "y">]><feedback>&x;</feedback>'] = "declares entities",
      [gzip.pack(("x"):rep(unpack.MOST + 1))] = "larger than 32 MB", [gzip.pack(("x"):rep(unpack.MOST))] = "no report",
      [("<a>"):rep(33)] = "too deep", ["<a>" .. ("<b/>"):rep(500000)] = "too many",
    } do
      local report, err = reports.read(octets)
      assert.is_nil(report)
      assert.equal("report", err.kind)
      assert.matches(want, err.message or tostring(err))
    end
  end)

  it("wants a message or octets", function()
    for _, from in ipairs { 7, {}, true } do
      assert.error_matches(function() reports.read(from) end, "^reports%.read: a message or octets expected, got a ")
    end
  end)

  it("takes a time that grows with a report and no faster", function()
    local function pieces(piece, size)
      return piece:rep((size or 900000) // #piece)
    end
    for name, octets in pairs {
      spaces = dsn("Final-Recipient: rfc822; a" .. pieces " " .. "b"), brackets = dsn("Final-Recipient: rfc822; " .. pieces "("),
      folds = dsn("Status: x\n" .. pieces " \n y\n"), diagnostics = dsn("Action: x\nStatus: y\n" .. pieces "Diagnostic-Code: said: 5\n"),
      line = crlf("From: MAILER-DAEMON@x\nSubject: failure notice\n\n" .. pieces("a.", 250000) .. " unknown\n"),
      lines = crlf("From: MAILER-DAEMON@x\nSubject: failure notice\n\n" .. pieces("a@b.c: unknown\n", 250000)),
      failed = "X-Failed-Recipients: " .. pieces "a." .. "\r\n\r\nx\r\n",
      xml = "<feedback>" .. ("<error>x" .. (" "):rep(1000000) .. "y</error>") .. "</feedback>",
      metadata = "<feedback><report_metadata><org_name>x" .. (" "):rep(1000000) .. "y</org_name></report_metadata></feedback>",
    } do
      local started = os.clock()
      reports.read(octets)
      assert.is_true(os.clock() - started < 5, name)
    end
  end)

  it("reads feedback, and what it is about", function()
    local report = assert(reports.read(crlf [[
From: abuse@example.com
Content-Type: multipart/report; report-type=feedback-report; boundary=x

--x
Content-Type: message/feedback-report

Feedback-Type: Abuse
User-Agent: x/1
Version: 1
Source-IP: 192.0.2.1 (mail.example.net)
Original-Mail-From: <a@example.net>
Original-Rcpt-To: <b@example.com>
Original-Rcpt-To: c@example.com
Arrival-Date: Thu, 01 Jan 2026 00:00:00 +0000
Unheard-Of: x
--x
Content-Type: message/rfc822

Subject: Spam

--x--
]]))
    assert.same({ "arf", "abuse", "192.0.2.1", "a@example.net", { "b@example.com", "c@example.com" }, 1767225600, 1 }, {
      report.kind, report.type, report.source_ip, report.mail_from, report.recipients, report.arrival, report.incidents,
    })
    assert.equal("Spam", report.message.headers:get "Subject")
  end)

  it("reads times of all zones in reports about TLS", function()
    local report = assert(reports.read [[{ "date-range": { "start-datetime": "2026-01-01T00:00:00Z", "end-datetime": "2026-01-01T01:30:00.5+01:00" },
      "policies": [ { "policy": { "policy-type": "sts", "mx-host": "mx.example.org" }, "summary": {} }, 7 ] }]])
    assert.same({ "tls", 1767225600, 1767227400 }, { report.kind, report.from, report.to })
    assert.same({ "mx.example.org" }, report.policies[1].mx)
  end)
end)
