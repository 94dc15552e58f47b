local moonpost = require "moonpost"
local test = require "moonpost.test"
local wired = require "spec.support.wired"

local dmarc, dns = moonpost.dmarc, moonpost.dns

local function txt(records)
  local zone = {}
  for name, text in pairs(records or {}) do
    zone[name] = { TXT = text }
  end
  return zone
end

-- What is found for a From in example.net, where nothing vouches unless `given` says so.
local function check(records, given)
  local options = { from_domain = "example.net", dns = dns.zone(txt(records)) }
  for key, value in pairs(given or {}) do
    options[key] = value
  end
  return dmarc.check(options)
end

local REJECT = { ["_dmarc.example.net"] = "v=DMARC1; p=reject" }

describe("moonpost.dmarc", function()
  after_each(wired.release_log)

  describe("parse", function()
    it("reads every tag", function()
      local record = assert(dmarc.parse("v=DMARC1 ;p = Reject; sp=quarantine;np=none; adkim=s; aspf=S; pct=50; fo=1:d:s; ri=3600; t=y; psd=n; "
        .. "rua=mailto:a%2Bb@example.net!10m , mailto:c@example.org;ruf=mailto:d@example.net; rf=afrf; unknown=1"))
      assert.same({}, record.problems)
      assert.same({ "reject", "quarantine", "none", "s", "s", 50, 3600, "y", "n" }, {
        record.p, record.sp, record.np, record.adkim, record.aspf, record.pct, record.ri, record.t, record.psd,
      })
      assert.same({ ["1"] = true, d = true, s = true }, record.fo)
      assert.same({
        { uri = "mailto:a%2Bb@example.net", scheme = "mailto", address = "a+b@example.net", domain = "example.net", limit = 10485760 },
        { uri = "mailto:c@example.org", scheme = "mailto", address = "c@example.org", domain = "example.org" },
      }, record.rua)
      assert.equal("d@example.net", record.ruf[1].address)
    end)

    it("has the defaults", function()
      local record = assert(dmarc.parse "v=DMARC1; p=none")
      assert.same({ "r", "r", 100, 86400, "n", "u" }, { record.adkim, record.aspf, record.pct, record.ri, record.t, record.psd })
      assert.same({ ["0"] = true }, record.fo)
      assert.same({}, record.rua)
    end)

    for _, text in ipairs {
      "", "v=DMARC2; p=none", "v=dmarc1; p=none", "p=none; v=DMARC1", "v=spf1 -all", "DMARC1", "v=DMARC1x", "; v=DMARC1", " ; ",
      "v=DMARC1; " .. ("x"):rep(5000),
    } do
      it(('knows none in "%s"'):format(text:sub(1, 30)), function()
        local record, why = dmarc.parse(text)
        assert.is_nil(record)
        assert.is_string(why)
      end)
    end

    it("takes what makes no sense for what was left out, and says so", function()
      local record = assert(dmarc.parse
        "v=DMARC1; p=none; adkim=x; pct=101; fo=2; ri=x; psd=q; t=; p=reject; junk; rua=nobody,mailto:x,http://a/b,mailto:a@b!5x,mailto:a@[::1]")
      assert.same({ "none", "r", 100, 86400, "u", "n" }, { record.p, record.adkim, record.pct, record.ri, record.psd, record.t })
      assert.same({ { uri = "http://a/b", scheme = "http" } }, record.rua)
      assert.equal(12, #record.problems)
      assert.is_nil(record.invalid)
    end)

    it("keeps ten addresses", function()
      assert.equal(10, #assert(dmarc.parse("v=DMARC1; p=none; rua=" .. ("mailto:a@b.example,"):rep(50))).rua)
    end)

    it("raises without a text", function()
      assert.error_matches(function() dmarc.parse(nil) end, "^dmarc%.parse: a text expected, got a nil")
    end)
  end)

  describe("check", function()
    it("passes what SPF vouches for", function()
      local verdict = check(REJECT, { spf = { result = "pass", domain = "Bounces.Example.Net" } })
      assert.equal("pass", verdict.result)
      assert.equal("none", verdict.disposition)
      assert.equal("reject", verdict.policy)
      assert.equal("example.net", verdict.organization)
      assert.is_true(verdict.spf.aligned)
    end)

    it("passes what one signature of many vouches for", function()
      local verdict = check(REJECT, {
        spf = { result = "fail", domain = "example.net" },
        dkim = {
          { result = "pass", domain = "list.example" }, { result = "fail", domain = "example.net" }, { result = "pass", domain = "mail.example.net" },
        },
      })
      assert.equal("pass", verdict.result)
      assert.same({ false, true, true }, { verdict.dkim[1].aligned, verdict.dkim[2].aligned, verdict.dkim[3].aligned })
    end)

    for what, case in pairs {
      ["nothing"] = {},
      ["SPF of somebody else"] = { spf = { result = "pass", domain = "example.org" } },
      ["a longer name that ends alike"] = { spf = { result = "pass", domain = "notexample.net" } },
      ["a signature that is broken"] = { dkim = { { result = "fail", domain = "example.net" } } },
      ["SPF that is neutral"] = { spf = { result = "neutral", domain = "example.net" } },
      ["the public suffix itself"] = { spf = { result = "pass", domain = "net" } },
      ["SPF without a domain"] = { spf = { result = "none" } },
      ["SPF of no name"] = { spf = { result = "pass", domain = "a..b" } },
    } do
      it("fails what is vouched for by " .. what, function()
        local verdict = check(REJECT, case)
        assert.same({ "fail", "reject", "reject" }, { verdict.result, verdict.policy, verdict.disposition })
      end)
    end

    it("wants the very domain where alignment is strict", function()
      local strict = { ["_dmarc.example.net"] = "v=DMARC1; p=reject; adkim=s; aspf=s" }
      for _, domain in ipairs { "mail.example.net", "example.net" } do
        local want = domain == "example.net" and "pass" or "fail"
        assert.equal(want, check(strict, { spf = { result = "pass", domain = domain } }).result)
        assert.equal(want, check(strict, { dkim = { { result = "pass", domain = domain } } }).result)
      end
    end)

    it("looks at the organizational domain where the domain has no record, and takes its policy of subdomains", function()
      local verdict = check({ ["_dmarc.example.net"] = "v=DMARC1; p=reject; sp=quarantine" }, { from_domain = "a.b.EXAMPLE.net." })
      assert.same({ "fail", "quarantine", "a.b.example.net", "example.net" },
        { verdict.result, verdict.disposition, verdict.domain, verdict.record_domain })
      assert.equal("reject", check(REJECT, { from_domain = "a.b.example.net" }).disposition)
    end)

    it("does not look between", function()
      assert.equal("none", check({ ["_dmarc.b.example.net"] = "v=DMARC1; p=reject" }, { from_domain = "a.b.example.net" }).result)
    end)

    it("prefers the record of the domain itself", function()
      local verdict = check({ ["_dmarc.example.net"] = "v=DMARC1; p=reject", ["_dmarc.a.example.net"] = "v=DMARC1; p=none; sp=reject" },
        { from_domain = "a.example.net" })
      assert.same({ "none", "a.example.net" }, { verdict.policy, verdict.record_domain })
    end)

    it("takes U-labels", function()
      local verdict = check({ ["_dmarc.xn--bcher-kva.example"] = "v=DMARC1; p=reject" },
        { from_domain = "Bücher.example", spf = { result = "pass", domain = "mail.xn--bcher-kva.example" } })
      assert.same({ "pass", "xn--bcher-kva.example" }, { verdict.result, verdict.domain })
    end)

    it("has the policy for names that do not exist", function()
      local zone = {
        ["_dmarc.example.net"] = { TXT = "v=DMARC1; p=none; sp=quarantine; np=reject" }, ["there.example.net"] = { A = "192.0.2.1" },
        ["mail.example.net"] = { MX = { 10, "mx.example.net" } }, ["late.example.net"] = "servfail",
      }
      for name, policy in pairs {
        ["there.example.net"] = "quarantine", ["mail.example.net"] = "quarantine", ["gone.example.net"] = "reject",
        ["late.example.net"] = "quarantine", ["example.net"] = "none",
      } do
        local verdict = dmarc.check { from_domain = name, dns = dns.zone(zone) }
        assert.equal(policy, verdict.policy, name)
        assert.equal(policy == "reject" or nil, verdict.nonexistent)
      end
    end)

    describe("pct", function()
      local function of(policy, random)
        local verdict = check({ ["_dmarc.example.net"] = "v=DMARC1; p=" .. policy .. "; pct=30" }, { random = function() return random end })
        return { verdict.result, verdict.policy, verdict.disposition, verdict.sampled_out or false }
      end

      it("spares a part the next weaker thing", function()
        assert.same({ "fail", "reject", "reject", false }, of("reject", 0.299))
        assert.same({ "fail", "reject", "quarantine", true }, of("reject", 0.3))
        assert.same({ "fail", "quarantine", "none", true }, of("quarantine", 0.999))
        assert.same({ "fail", "none", "none", false }, of("none", 0.999))
      end)

      it("of 0 spares everybody, and of 100 nobody", function()
        for pct, want in pairs { ["0"] = "quarantine", ["100"] = "reject" } do
          for _ = 1, 50 do
            assert.equal(want, check { ["_dmarc.example.net"] = "v=DMARC1; p=reject; pct=" .. pct }.disposition)
          end
        end
      end)
    end)

    for what, case in pairs {
      ["no record"] = { {}, "none" },
      ["a record of something else"] = { { ["_dmarc.example.net"] = "v=spf1 -all" }, "none" },
      ["several records"] = { { ["_dmarc.example.net"] = { "v=DMARC1; p=reject", "v=DMARC1; p=none" } }, "permerror" },
      ["a record and other texts"] = { { ["_dmarc.example.net"] = { "hello", "v=DMARC1; p=reject" } }, "fail" },
      ["no policy"] = { { ["_dmarc.example.net"] = "v=DMARC1" }, "permerror" },
      ["a policy that there is not"] = { { ["_dmarc.example.net"] = "v=DMARC1; p=bounce" }, "permerror" },
      ["such a policy of subdomains"] = { { ["_dmarc.example.net"] = "v=DMARC1; p=reject; sp=bounce" }, "permerror" },
      ["such a policy, where reports are asked for"] = {
        { ["_dmarc.example.net"] = "v=DMARC1; p=bounce; rua=mailto:a@example.net" }, "fail", "none",
      },
      ["no answer"] = { { ["_dmarc.example.net"] = "servfail" }, "temperror" },
    } do
      it("says what it found: " .. what, function()
        local zone = {}
        for name, text in pairs(case[1]) do
          zone[name] = text == "servfail" and text or { TXT = text }
        end
        local verdict = dmarc.check { from_domain = "example.net", dns = dns.zone(zone), spf = { result = "fail", domain = "example.net" } }
        assert.equal(case[2], verdict.result)
        assert.equal(case[3] or case[2] == "fail" and "reject" or "none", verdict.policy)
        assert.equal(case[2] == "fail" and verdict.policy or "none", verdict.disposition)
        assert.is_string(verdict.reason)
      end)
    end

    it("cannot tell where what would vouch could not be checked", function()
      assert.equal("temperror", check(REJECT, { spf = { result = "temperror", domain = "mail.example.net" } }).result)
      assert.equal("temperror", check(REJECT, { dkim = { { result = "temperror", domain = "example.net" } } }).result)
      assert.equal("fail", check(REJECT, { spf = { result = "temperror", domain = "example.org" } }).result)
      assert.equal("pass", check(REJECT, {
        spf = { result = "temperror", domain = "example.net" }, dkim = { { result = "pass", domain = "example.net" } },
      }).result)
    end)

    it("does not ask for the domain of what is no name", function()
      for _, name in ipairs { "", "a..b", "[192.0.2.1]", "a b", ("a."):rep(130) } do
        local verdict = check({}, { from_domain = name })
        assert.same({ "permerror", "none", "From has no domain" }, { verdict.result, verdict.disposition, verdict.reason })
      end
    end)

    it("asks for the record of a name that is as long as names are", function()
      local name = ("abcdefg."):rep(30) .. "example.net"
      assert.equal("reject", check(REJECT, { from_domain = name }).disposition)
    end)

    for what, case in pairs {
      ["nothing"] = { nil, "a table expected, got a nil" },
      ["no domain"] = { {}, "from_domain: a name expected, got a nil" },
      ["an unknown option"] = { { from_domain = "a", fromdomain = 1 }, 'unknown option "fromdomain".*from_domain' },
      ["SPF as a word"] = { { from_domain = "a", spf = "pass" }, "spf: a table with result and domain expected" },
      ["one signature"] = { { from_domain = "a", dkim = { result = "pass", domain = "a" } }, "dkim: a list of tables with result" },
      ["DKIM as a result"] = { { from_domain = "a", dkim = { { domain = "a" } } }, "dkim%[1%]: a table with result and domain expected" },
      ["another method"] = { { from_domain = "a", method = "guess" }, 'method: "psl" or "walk" expected' },
      ["another list"] = { { from_domain = "a", psl = {} }, "psl: what psl%.load returned is expected" },
      ["another resolver"] = { { from_domain = "a", dns = {} }, "dns: what dns%.resolver or dns%.zone returned is expected" },
      ["odd chance"] = { { from_domain = "a", random = 0.5 }, "random: a function expected" },
    } do
      it("raises with " .. what, function()
        assert.error_matches(function() dmarc.check(case[1]) end, "^dmarc%.check: " .. case[2])
      end)
    end
  end)

  describe("check, by a walk up the tree", function()
    local function walk(records, given)
      local options = { method = "walk" }
      for key, value in pairs(given or {}) do
        options[key] = value
      end
      return check(records, options)
    end

    it("takes the record nearest to the root for the organization's", function()
      local verdict = walk({ ["_dmarc.example.net"] = "v=DMARC1; p=reject; sp=quarantine", ["_dmarc.b.example.net"] = "v=DMARC1; p=none" },
        { from_domain = "a.b.example.net", spf = { result = "pass", domain = "c.example.net" } })
      assert.same({ "pass", "example.net", "quarantine" }, { verdict.result, verdict.organization, verdict.policy })
    end)

    it("stops where a domain says that it is its own organization", function()
      local zone = { ["_dmarc.example.net"] = "v=DMARC1; p=reject", ["_dmarc.b.example.net"] = "v=DMARC1; p=quarantine; psd=n" }
      local verdict = walk(zone, { from_domain = "a.b.example.net", spf = { result = "pass", domain = "c.example.net" } })
      assert.same({ "fail", "b.example.net", "quarantine" }, { verdict.result, verdict.organization, verdict.disposition })
      assert.equal("pass", walk(zone, { from_domain = "a.b.example.net", spf = { result = "pass", domain = "d.c.b.example.net" } }).result)
    end)

    it("takes the name below a public suffix that says so, and the suffix's policy where there is no other", function()
      local zone = { ["_dmarc.gov.example"] = "v=DMARC1; p=reject; sp=quarantine; psd=y" }
      local verdict = walk(zone, { from_domain = "a.b.gov.example", spf = { result = "pass", domain = "c.gov.example" } })
      assert.same({ "fail", "b.gov.example", "gov.example", "quarantine" },
        { verdict.result, verdict.organization, verdict.record_domain, verdict.disposition })
      assert.equal("pass", walk(zone, { from_domain = "a.b.gov.example", spf = { result = "pass", domain = "c.b.gov.example" } }).result)
      verdict = walk(zone, { from_domain = "gov.example", spf = { result = "pass", domain = "c.gov.example" } })
      assert.same({ "fail", "gov.example", "reject" }, { verdict.result, verdict.organization, verdict.disposition })
    end)

    it("is its own organization where there is no record", function()
      local verdict = walk({}, { from_domain = "a.example.net", spf = { result = "pass", domain = "example.net" } })
      assert.same({ "none", "a.example.net" }, { verdict.result, verdict.organization })
    end)

    it("asks for eight names of a long one", function()
      local find = require "moonpost.dmarc.find"
      assert.same({ "a.b.c" , "b.c", "c" }, find.path "a.b.c")
      assert.same({ "a.b.c.d.e.f.g.h.i.j", "d.e.f.g.h.i.j", "e.f.g.h.i.j", "f.g.h.i.j", "g.h.i.j", "h.i.j", "i.j", "j" },
        find.path "a.b.c.d.e.f.g.h.i.j")
      assert.equal(8, #find.path "a.b.c.d.e.f.g.h")
      assert.equal(8, #find.path "a.b.c.d.e.f.g.h.i")
      local verdict = walk({ ["_dmarc.j.example.net"] = "v=DMARC1; p=reject" }, { from_domain = "a.b.c.d.e.f.g.h.i.j.example.net" })
      assert.equal("j.example.net", verdict.organization)
    end)

    it("passes over names that have several records", function()
      local zone = { ["_dmarc.a.example.net"] = { "v=DMARC1; p=none", "v=DMARC1; p=none" }, ["_dmarc.example.net"] = "v=DMARC1; p=reject" }
      assert.equal("reject", walk(zone, { from_domain = "a.example.net" }).disposition)
    end)

    it("takes a record without a policy for one of none (RFC 9989 4.7)", function()
      local verdict = walk { ["_dmarc.example.net"] = "v=DMARC1; psd=n" }
      assert.same({ "fail", "none" }, { verdict.result, verdict.disposition })
    end)

    it("knows a domain that is being tried out, and no percentage", function()
      local verdict = walk { ["_dmarc.example.net"] = "v=DMARC1; p=reject; t=y" }
      assert.same({ "fail", "reject", "none", true }, { verdict.result, verdict.policy, verdict.disposition, verdict.sampled_out })
      assert.equal("reject", walk { ["_dmarc.example.net"] = "v=DMARC1; p=reject; pct=0" }.disposition)
    end)

    it("cannot tell where a question has no answer, unless it does not matter", function()
      local zone = { ["_dmarc.a.example.net"] = { TXT = "v=DMARC1; p=reject" }, ["_dmarc.example.net"] = "timeout" }
      local function of(given)
        given.method, given.dns, given.from_domain = "walk", dns.zone(zone), given.from_domain or "a.example.net"
        return dmarc.check(given).result
      end
      assert.equal("temperror", of { spf = { result = "pass", domain = "example.net" } })
      assert.equal("pass", of { spf = { result = "pass", domain = "a.example.net" } })
      assert.equal("temperror", of { from_domain = "b.example.net" })
    end)

    it("looks for the organizations of ten domains, however many signatures there are", function()
      local asked = 0
      local zone = dns.zone(txt { ["_dmarc.example.net"] = "v=DMARC1; p=reject" })
      local ask_all = zone._ask_all
      rawset(zone, "_ask_all", function(self, questions)
        asked = asked + #questions
        return ask_all(self, questions)
      end)
      local dkim = {}
      for i = 1, 500 do
        dkim[i] = { result = "pass", domain = ("x%d.elsewhere%d.net"):format(i, i) }
      end
      assert.equal("fail", dmarc.check { from_domain = "example.net", method = "walk", dns = zone, dkim = dkim }.result)
      assert.equal(2 + 2 * 10, asked)
    end)
  end)

  describe("author", function()
    for what, case in pairs {
      ["an address"] = { "ann@Example.NET", "example.net" },
      ["a name and an address"] = { '"Ann, of <x@evil.example>" <ann@example.net>', "example.net" },
      ["comments"] = { "(x@evil.example (nested\\)) <) ann (\\( y@evil.example) @ (z) example.net (end", "example.net" },
      ["a name that looks like an address"] = { "x@evil.example <ann@example.net>", "example.net" },
      ["a quoted local part"] = { '"a@evil.example>,"@example.net', "example.net" },
      ["two of one domain"] = { "ann@example.net, Bob <bob@EXAMPLE.net>", "example.net" },
      ["a group"] = { "us: ann@example.net, bob@example.net;", "example.net" },
      ["a route"] = { "<@evil.example,@b.example:ann@example.net>", "example.net" },
      ["U-labels"] = { "ann@bücher.example", "xn--bcher-kva.example" },
      ["several domains"] = { "ann@example.net, eve@evil.example", nil, "several domains" },
      ["two angle addresses"] = { "<ann@example.net> <eve@evil.example>", nil, "several domains" },
      ["no domain"] = { "ann", nil, "an author without a domain" },
      ["nobody"] = { "", nil, "an author without a domain" },
      ["one with and one without"] = { "ann@example.net, eve", nil, "an author without a domain" },
      ["an address literal"] = { "ann@[192.0.2.1]", nil, "an author without a domain" },
      ["a string that is not closed"] = { '"ann@example.net', nil, "an author without a domain" },
    } do
      it("reads " .. what, function()
        local domain, why = dmarc.author { case[1] }
        assert.equal(case[2], domain)
        if case[3] then
          assert.matches(case[3], why, 1, true)
        end
      end)
    end

    it("wants one field", function()
      assert.equal("it has no From field", select(2, dmarc.author {}))
      assert.equal("it has several From fields", select(2, dmarc.author { "a@example.net", "b@example.net" }))
    end)

    it("takes time in proportion to the length, and not any length", function()
      for _, text in ipairs { "(", '"', "\\", "<", "a@b.example,", "((a)", ":", "<a@b>" } do
        local begin = os.clock()
        dmarc.author { text:rep(60000 // #text) }
        assert.is_true(os.clock() - begin < 2, text)
      end
      assert.equal("its From field is too long", select(2, dmarc.author { ("a"):rep(70000) }))
    end)

    it("reads a message", function()
      local domain
      local house = wired.new({ domains = "example.org" }, function(server)
        server.on.message = function(_, message)
          domain = dmarc.author(message)
          message:discard "spec"
        end
      end)
      house:session():send("ann@example.net", "bob@example.org", "From: Ann\r\n <ann@example.net>\r\n\r\nx\r\n")
      assert.equal("example.net", domain)
    end)
  end)

  it("judges in a policy under test, by the names of the test", function()
    local policy = test.load(function()
      local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25", domains = "example.org" }
      function server.on.message(_, message)
        local verdict = dmarc.check { from_domain = assert(dmarc.author(message)), spf = { result = "pass", domain = message.sender.domain } }
        if verdict.disposition == "reject" then
          return 550, "5.7.1", "Refused, as " .. verdict.domain .. " asks for"
        end
        message:discard "spec"
      end
      return server
    end, { dns = { ["_dmarc.example.net"] = { TXT = "v=DMARC1; p=reject" } } })
    local function send(sender)
      local peer = policy:session()
      peer:ehlo "mail.example.net"
      peer:mail(sender)
      peer:rcpt "bob@example.org"
      return peer:data "From: ann@example.net\r\n\r\nx\r\n".code
    end
    assert.equal(250, send "bounces@mail.example.net")
    assert.equal(550, send "eve@evil.example")
    policy:stop()
  end)

  it("is told to others by authres", function()
    local verdict = check(REJECT)
    assert.equal("mx.example.org;\r\n\tdmarc=fail (p=reject dis=reject) header.from=example.net",
      moonpost.authres.format { id = "mx.example.org", results = { dmarc.authres(verdict) } })
    assert.equal("mx.example.org;\r\n\tdmarc=none reason=\"no record\" header.from=example.net",
      moonpost.authres.format { id = "mx.example.org", results = { dmarc.authres(check {}) } })
  end)
end)
