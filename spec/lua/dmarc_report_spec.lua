--- Aggregate reports: rows, XML as others read it, the mail that carries it, and who may be told.
local gzip = require "moonpost.gzip_core"
local json = require "moonpost.json"
local moonpost = require "moonpost"
local peers = require "spec.support.peers"
local tmpdir = require "spec.support.tmpdir"

local dmarc, dns = moonpost.dmarc, moonpost.dns

local ZONE = {
  ["_dmarc.example.net"] = {
    TXT = "v=DMARC1; p=reject; sp=quarantine; pct=50; fo=1:d; rua=mailto:reports@example.net,mailto:all@service.example!1k",
  },
  ["_dmarc.example.com"] = { TXT = "v=DMARC1; p=none; rua=mailto:reports@example.com" },
  ["_dmarc.quiet.example"] = { TXT = "v=DMARC1; p=reject" },
  ["_dmarc.late.example"] = { TXT = "v=DMARC1; p=reject; rua=mailto:reports@late.example" },
}

local function verdict(given)
  local options = { from_domain = "example.net", dns = dns.zone(ZONE), random = function() return 0 end }
  for key, value in pairs(given or {}) do
    options[key] = value
  end
  return dmarc.check(options)
end

local function row(given, facts)
  local about = { source_ip = "192.0.2.1", envelope_from = "ann@Bounces.example.net", time = 1000 }
  for key, value in pairs(facts or {}) do
    about[key] = value
  end
  return dmarc.row(verdict(given), about)
end

local function aggregate(rows, more)
  local given = {
    rows = rows, from = 86400, to = 172799, submitter = "MX.example.org", organization = "Example & Sons", email = "postmaster@example.org",
  }
  for key, value in pairs(more or {}) do
    given[key] = value
  end
  return dmarc.aggregate(given)
end

describe("moonpost.dmarc: rows", function()
  it("hold what a report is written from, and nothing but plain values", function()
    local one = row({
      spf = { result = "pass", domain = "bounces.example.net", identity = "mailfrom" },
      dkim = { { result = "fail", domain = "example.net", selector = "s1", reason = "x" }, { result = "neutral" } },
    }, { envelope_to = "bob@example.org" })
    local same = {
      time = 1000, source_ip = "192.0.2.1", disposition = "none", dkim = "fail", spf = "pass", header_from = "example.net",
      envelope_from = "bounces.example.net", envelope_to = "example.org", record_domain = "example.net", method = "psl",
      signatures = { { domain = "example.net", selector = "s1", result = "fail" } },
      sender = { domain = "bounces.example.net", scope = "mailfrom", result = "pass" },
      rua = { "mailto:reports@example.net", "mailto:all@service.example!1024" },
      published = { p = "reject", sp = "quarantine", adkim = "r", aspf = "r", pct = 50, fo = "1:d", t = "n" },
    }
    assert.same(same, one)
    assert.same(same, json.decode(json.encode(one)))
  end)

  it("are not made where nobody asks for them, or nobody knows", function()
    assert.is_nil(row { from_domain = "quiet.example" })
    assert.is_nil(row { from_domain = "other.example" })
    assert.is_nil(row { from_domain = "late.example", spf = { result = "temperror", domain = "late.example" } })
    assert.is_not_nil(row { from_domain = "late.example" })
  end)

  it("say why something else was done than was asked for", function()
    assert.same({ "reject" }, { row().disposition, row().override })
    local sampled = row { random = function() return 0.9 end }
    assert.same({ "quarantine", "sampled_out" }, { sampled.disposition, sampled.override })
    local own = row(nil, { disposition = "none" })
    assert.same({ "none", "local_policy" }, { own.disposition, own.override })
    own = row(nil, { disposition = "none", override = "mailing_list", comment = "arc=pass" })
    assert.same({ "none", "mailing_list", "arc=pass" }, { own.disposition, own.override, own.comment })
  end)

  for what, case in pairs {
    ["no verdict"] = { {}, { source_ip = "192.0.2.1" }, "what dmarc%.check returned is expected" },
    ["no address"] = { { result = "pass" }, {}, "source_ip: an address expected" },
    ["a host for an address"] = { { result = "pass" }, { source_ip = "mx.example" }, "source_ip: an address expected" },
    ["an odd disposition"] = { { result = "pass" }, { source_ip = "::1", disposition = "bounce" }, "disposition: " },
    ["an odd reason"] = { { result = "pass" }, { source_ip = "::1", override = "mood" }, 'override: "mood" is none' },
    ["a list of facts"] = { { result = "pass" }, "192.0.2.1", "a table with source_ip expected" },
    ["a slip"] = { { result = "pass" }, { source_ip = "::1", envelop_from = "a@example.com" }, 'unknown option "envelop_from" %(did you mean' },
    ["no time"] = { { result = "pass" }, { source_ip = "::1", time = "now" }, "time: seconds since 1970" },
    ["a reason that is nearly one"] = { { result = "pass" }, { source_ip = "::1", override = "mailing-list" }, '.*did you mean "mailing_list"' },
    ["a number for a sender"] = { { result = "pass" }, { source_ip = "::1", envelope_from = 1 }, "envelope_from: a string expected" },
  } do
    it("raise with " .. what, function()
      assert.error_matches(function() dmarc.row(case[1], case[2]) end, "^dmarc%.row: " .. case[3])
    end)
  end
end)

describe("moonpost.dmarc: reports", function()
  it("are one for each domain, with equal rows counted", function()
    local rows = { row(), row { from_domain = "www.example.net" }, row(), row { from_domain = "example.com" }, row() }
    rows[6] = row(nil, { source_ip = "2001:db8::1" })
    local reports = aggregate(rows)
    assert.same({ "example.com", "example.net" }, { reports[1].record_domain, reports[2].record_domain })
    assert.same({ 1, 1, 5, 3 }, { reports[1].messages, reports[1].rows, reports[2].messages, reports[2].rows })
    assert.matches("<count>3</count>", reports[2].xml, 1, true)
    assert.matches("^mx%.example%.org!example%.net!86400!172799!%x+%.xml$", reports[2].name)
    assert.not_equal(reports[1].id, aggregate(rows)[1].id)
    assert.same({}, aggregate {})
  end)

  it("take what dmarc.row made, and nothing that looks like it", function()
    local function refused(text, rows, more)
      local given = { rows = rows, from = 0, to = 1, submitter = "mx.example.org", organization = "Example", email = "a@example.org" }
      for name, value in pairs(more or {}) do
        given[name] = value
      end
      assert.error_matches(function() dmarc.aggregate(given) end, "^dmarc%.aggregate: " .. text)
    end
    refused("rows: this is one row; a list", row())
    refused("rows: entry 2: what dmarc%.row returned", { row(), {} })
    refused("rows: entry 1: what dmarc%.row returned", { 7 })
    refused('unknown option "organisation" %(did you mean "organization"', {}, { organisation = "Example" })
  end)

  it("go out one at a time, by options that there are", function()
    local reports = aggregate { row() }
    local mail = { from = "a@example.org", to = "b@example.net" }
    assert.error_matches(function() dmarc.mail(reports, mail) end, "^dmarc%.mail: .*one at a time")
    assert.error_matches(function() dmarc.mail(reports[1], { form = "a@example.org" }) end, '^dmarc%.mail: unknown option "form"')
    assert.error_matches(function() dmarc.destinations(reports) end, "^dmarc%.destinations: .*one at a time")
    assert.error_matches(function() dmarc.destinations(reports[1], { dn = 1 }) end, '^dmarc%.destinations: unknown option "dn"')
    assert.error_matches(function() dmarc.destinations(reports[1], { dns = 1 }) end, "^dmarc%.destinations: dns: what")
    assert.error_matches(function() dmarc.destinations(reports[1], "ruf") end, "^dmarc%.destinations: a table of options")
  end)

  it("take rows one by one", function()
    local left = 1000
    local reports = aggregate(function()
      left = left - 1
      return left >= 0 and row() or nil
    end)
    assert.same({ 1000, 1 }, { reports[1].messages, reports[1].rows })
  end)

  it("tell the policy that was published last", function()
    local old, new = row(nil, { time = 2000 }), row(nil, { time = 1000 })
    old.published.p, new.published.p = "none", "quarantine"
    assert.matches("<p>none</p>", aggregate({ old, new })[1].xml, 1, true)
  end)

  it("keep apart what a peer would make look alike", function()
    local a = row({ spf = { result = "fail", domain = 'x"|"y' } })
    local b = row({ spf = { result = "fail", domain = "x" } })
    b.sender.selector = 'y"'
    assert.equal(2, aggregate({ a, b })[1].rows)
  end)

  -- What python's expat makes of it: "path=text" for each leaf.
  local READ = [[
import sys, xml.etree.ElementTree as e
def walk(n, path):
    path = path + '/' + n.tag
    if len(n) == 0: print(path[1:] + '=' + (n.text or ''))
    for c in n: walk(c, path)
walk(e.parse(sys.argv[1]).getroot(), '')
]]
  local function read(xml)
    local folder <close> = tmpdir.new()
    folder:write("read.py", READ)
    folder:write("report.xml", xml)
    local pipe = assert(io.popen(("python3 %s %s"):format(folder:join "read.py", folder:join "report.xml")))
    local text = pipe:read "a"
    assert(pipe:close())
    return text
  end
  local with_python = peers.python3 and it or pending

  with_python("are XML as RFC 7489 has it", function()
    local report = aggregate({ row({
      from_domain = "www.example.net", random = function() return 0.9 end,
      spf = { result = "softfail", domain = "evil<&>\"'\r\n\0\xff\u{fffe}.example", scope = "mfrom" },
      dkim = { { result = "pass", domain = "list.example", selector = "s1" }, { result = "odd", domain = "b.example" } },
    }, { comment = "]]> it was so", envelope_to = "bob@example.org" }) }, { contact = "https://example.org/dmarc" })[1]
    assert.equal(table.concat({
      "feedback/version=1.0",
      "feedback/report_metadata/org_name=Example & Sons",
      "feedback/report_metadata/email=postmaster@example.org",
      "feedback/report_metadata/extra_contact_info=https://example.org/dmarc",
      "feedback/report_metadata/report_id=" .. report.id,
      "feedback/report_metadata/date_range/begin=86400",
      "feedback/report_metadata/date_range/end=172799",
      "feedback/policy_published/domain=example.net",
      "feedback/policy_published/adkim=r",
      "feedback/policy_published/aspf=r",
      "feedback/policy_published/p=reject",
      "feedback/policy_published/sp=quarantine",
      "feedback/policy_published/pct=50",
      "feedback/policy_published/fo=1:d",
      "feedback/record/row/source_ip=192.0.2.1",
      "feedback/record/row/count=1",
      "feedback/record/row/policy_evaluated/disposition=none",
      "feedback/record/row/policy_evaluated/dkim=fail",
      "feedback/record/row/policy_evaluated/spf=fail",
      "feedback/record/row/policy_evaluated/reason/type=sampled_out",
      "feedback/record/row/policy_evaluated/reason/comment=]]> it was so",
      "feedback/record/identifiers/envelope_to=example.org",
      "feedback/record/identifiers/envelope_from=bounces.example.net",
      "feedback/record/identifiers/header_from=www.example.net",
      "feedback/record/auth_results/dkim/domain=list.example",
      "feedback/record/auth_results/dkim/selector=s1",
      "feedback/record/auth_results/dkim/result=pass",
      "feedback/record/auth_results/dkim/domain=b.example",
      "feedback/record/auth_results/dkim/result=neutral",
      "feedback/record/auth_results/spf/domain=evil<&>\"'???????.example",
      "feedback/record/auth_results/spf/scope=mfrom",
      "feedback/record/auth_results/spf/result=softfail", "",
    }, "\n"), read(report.xml))
  end)

  with_python("are XML as RFC 9990 has it where the tree was walked", function()
    local report = aggregate({ row { method = "walk", dkim = { { result = "pass", domain = "example.net", selector = "s" } } } })[1]
    local text = read(report.xml)
    for _, leaf in ipairs {
      "{urn:ietf:params:xml:ns:dmarc-2.0}policy_published/{urn:ietf:params:xml:ns:dmarc-2.0}discovery_method=treewalk",
      "testing=n", "disposition=pass",
    } do
      assert.matches(leaf, text, 1, true)
    end
    assert.is_nil(text:find("pct", 1, true))
    assert.is_nil(text:find("spf/", 1, true))
  end)

  for what, case in pairs {
    ["no rows"] = { { rows = 7 }, "rows: " }, ["times the wrong way round"] = { { from = 2, to = 1 }, "from, to: " },
    ["no submitter"] = { { submitter = "a b" }, "submitter: " }, ["no address"] = { { email = "x" }, "email: an address expected" },
    ["two lines of a name"] = { { organization = "a\nb" }, "organization: a line of text" }, ["an odd contact"] = { { contact = 7 }, "contact: " },
  } do
    it("raise with " .. what, function()
      assert.error_matches(function() aggregate({}, case[1]) end, "^dmarc%.aggregate: " .. case[2])
    end)
  end

  describe("as mail", function()
    local report = aggregate({ row() })[1]

    it("are packed, and named as RFC 7489 has it", function()
      local mail = assert(dmarc.mail(report, { from = "DMARC <postmaster@example.org>", to = "reports@example.net", now = 0 }))
      assert.same({ "postmaster@example.org", "reports@example.net" }, { mail.from, mail.to })
      local text = mail.message
      assert.matches("Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nFrom: DMARC <postmaster@example.org>\r\n", text, 1, true)
      assert.matches(("Subject: Report Domain: example.net Submitter: mx.example.org Report-ID:\r\n <%s>\r\n"):format(report.id), text, 1, true)
      assert.matches(('\r\n filename="%s.gz"\r\n'):format(report.name), text, 1, true)
      for line in text:gmatch("([^\n]*)\n") do
        assert.is_true(#line <= 79 + #report.name and line:sub(-1) == "\r")
      end
      local packed = text:match("%.gz\"\r\n\r\n([%w+/=\r\n]+)\r\n%-%-")
      local folder <close> = tmpdir.new()
      folder:write("packed", packed)
      local pipe = io.popen(("base64 -di %s | gzip -d"):format(folder:join "packed"))
      assert.equal(report.xml, pipe:read "a")
      pipe:close()
    end)

    it("are not sent to who wants no such size", function()
      local mail, why = dmarc.mail(report, { from = "a@example.org", to = { address = "b@example.net", limit = 10 } })
      assert.is_nil(mail)
      assert.matches("^the report has %d+ octets, and b@example%.net takes 10$", why)
      assert.is_not_nil(dmarc.mail(report, { from = "a@example.org", to = { address = "b@example.net", limit = 100000 } }))
    end)

    it("raise without addresses", function()
      assert.error_matches(function() dmarc.mail({}, {}) end, "a report of dmarc%.aggregate expected")
      assert.error_matches(function() dmarc.mail(report, { to = "a@b.example" }) end, "^dmarc%.mail: from: ")
      assert.error_matches(function() dmarc.mail(report, { from = "a@b.example", to = "x" }) end, "^dmarc%.mail: to: ")
    end)
  end)
end)

describe("moonpost.dmarc.destinations", function()
  local function of(rua, zone)
    local records = { ["_dmarc.example.net"] = { TXT = "v=DMARC1; p=none; rua=" .. rua } }
    for name, entry in pairs(zone or {}) do
      records[name] = entry
    end
    local source = dns.zone(records)
    local agreed, others = dmarc.destinations(dmarc.check { from_domain = "mail.example.net", dns = source }, { dns = source })
    local shown = {}
    for i, address in ipairs(agreed) do
      shown[i] = address.limit and ("%s!%d"):format(address.address, address.limit) or address.address
    end
    return shown, others
  end

  it("has those of the organization itself", function()
    assert.same({ "a@example.net", "b@reports.example.net" }, (of "mailto:a@example.net,mailto:b@reports.example.net"))
  end)

  it("asks those elsewhere, and leaves out who does not agree", function()
    local shown, others = of("mailto:a@yes.example!1k,mailto:a@no.example,mailto:a@odd.example,mailto:a@late.example,https://example.net/x", {
      ["example.net._report._dmarc.yes.example"] = { TXT = { "hello", "v=DMARC1" } },
      ["example.net._report._dmarc.odd.example"] = { TXT = "v=DMARC2" },
      ["example.net._report._dmarc.late.example"] = "timeout",
    })
    assert.same({ "a@yes.example!1024" }, shown)
    assert.same({
      { uri = "https://example.net/x", why = "only mail is sent" },
      { uri = "mailto:a@no.example", why = "no.example does not agree to it" },
      { uri = "mailto:a@odd.example", why = "odd.example does not agree to it" },
      { uri = "mailto:a@late.example", why = "example.net._report._dmarc.late.example: timeout", temporary = true },
    }, others)
  end)

  it("believes a wildcard", function()
    assert.same({ "a@all.example" }, (of("mailto:a@all.example", { ["*._report._dmarc.all.example"] = { TXT = "v=DMARC1;" } })))
  end)

  it("follows an address that they name instead, on their own host alone", function()
    local zone = { ["example.net._report._dmarc.yes.example"] = { TXT = "v=DMARC1; rua=mailto:other@yes.example" } }
    assert.same({ "other@yes.example!5" }, (of("mailto:a@yes.example!5", zone)))
    zone = { ["example.net._report._dmarc.yes.example"] = { TXT = "v=DMARC1; rua=mailto:victim@bank.example" } }
    local shown, others = of("mailto:a@yes.example", zone)
    assert.same({}, shown)
    assert.matches("names an address elsewhere", others[1].why, 1, true)
  end)

  it("takes a row, read from a file", function()
    local one = json.decode(json.encode(row()))
    local agreed, others = dmarc.destinations(one, { dns = dns.zone { ["example.net._report._dmarc.service.example"] = { TXT = "v=DMARC1" } } })
    assert.same({ "reports@example.net", "all@service.example" }, { agreed[1].address, agreed[2].address })
    assert.equal(1024, agreed[2].limit)
    assert.same({}, others)
  end)

  it("has nobody where there is no record, and raises where it is misused", function()
    assert.same({ {}, {} }, { dmarc.destinations(verdict { from_domain = "other.example" }) })
    assert.error_matches(function() dmarc.destinations(nil) end, "^dmarc%.destinations: a verdict, a row or a report expected, got a nil")
    assert.error_matches(function() dmarc.destinations({}, { kind = "rue" }) end, '^dmarc%.destinations: kind: "rua" or "ruf" expected')
  end)
end)

describe("moonpost.gzip_core", function()
  it("packs what it unpacks", function()
    for _, octets in ipairs { "", "a", ("abc"):rep(100000), ("x"):rep(16384) } do
      assert.equal(octets, gzip.unpack(gzip.pack(octets), 1 << 20))
    end
    assert.equal("onetwo", gzip.unpack(gzip.pack "one" .. gzip.pack "two", 100))
  end)

  it("stops at a size", function()
    local packed = gzip.pack(("\0"):rep(50000000))
    assert.is_true(#packed < 100000)
    assert.same({ nil, "too large" }, { gzip.unpack(packed, 1000000) })
    assert.equal(1000, #gzip.unpack(gzip.pack(("a"):rep(1000)), 1000))
    assert.same({ nil, "too large" }, { gzip.unpack(gzip.pack(("a"):rep(1001)), 1000) })
  end)

  it("knows what is damaged", function()
    local packed = gzip.pack "hello, hello, hello"
    for _, octets in ipairs { "", "junk", packed:sub(1, -2), packed .. "junk", packed:sub(1, 15) .. "\xff\xff" .. packed:sub(18) } do
      assert.same({ nil, "damaged" }, { gzip.unpack(octets, 1000) })
    end
  end)
end)
