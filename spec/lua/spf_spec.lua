local dns = require "moonpost.dns"
local macro = require "moonpost.spf.macro"
local moonpost = require "moonpost"
local record_of = require "moonpost.spf.record"
local spf = require "moonpost.spf"
local test = require "moonpost.test"

local function zone(names)
  return dns.zone(names)
end

local function check(names, how)
  local given = { ip = "192.0.2.1", mailfrom = "bob@example.net", helo = "mail.example.net", dns = zone(names) }
  for key, value in pairs(how or {}) do
    given[key] = value
  end
  return spf.check(given)
end

local function policy(text, more, how)
  local names = more or {}
  names["example.net"] = names["example.net"] or {}
  names["example.net"].TXT = text
  return check(names, how)
end

describe("moonpost.spf.record", function()
  it("reads terms in order, and modifiers wherever they are", function()
    local record = assert(record_of.read("v=spf1 redirect=_spf.%{d} +a/24//64 ~mx:Mail.example.net -ALL"))
    assert.equal(3, #record)
    assert.same({ "a", "pass", 24, 64 }, { record[1].name, record[1].result, record[1].bits4, record[1].bits6 })
    assert.same({ "mx", "softfail", 32, 128 }, { record[2].name, record[2].result, record[2].bits4, record[2].bits6 })
    assert.same({ "all", "fail" }, { record[3].name, record[3].result })
    assert.truthy(record.redirect)
  end)

  for text, problem in pairs {
    ["moo"] = '"moo": no mechanism has that name',
    ["all:x"] = '"all:x": nothing may follow',
    ["ip4:192.0.2.256"] = '"ip4:192.0.2.256": "192.0.2.256" is no network',
    ["ip4:192.0.02.1"] = '"ip4:192.0.02.1": "192.0.02.1" is no network',
    ["ip6:2001:db8::/129"] = '"ip6:2001:db8::/129": "2001:db8::/129" is no network',
    ["a/33"] = '"a/33": a length of a network that is not possible',
    ["include"] = '"include": a domain is missing',
    ["include:localhost"] = '"include:localhost": "localhost" does not end like a domain',
    ["exists:%{z}.example"] = '"exists:%{z}.example": "%{z}.example" is no macro',
    ["a:%{d0}"] = '"a:%{d0}": "%{d0}" is no macro',
    ["redirect=a.example redirect=b.example"] = '"redirect=b.example": appears twice',
    ["ptr/24"] = '"ptr/24": "/24" is not expected',
  } do
    it("names what is wrong: " .. text, function()
      local record, why = record_of.read("v=spf1 " .. text)
      assert.is_nil(record)
      assert.equal(problem, why)
    end)
  end

  it("takes time in proportion to its length, whatever is in it", function()
    local function seconds(text)
      local best = math.huge
      for _ = 1, 3 do
        local began = os.clock()
        record_of.read("v=spf1 " .. text)
        best = math.min(best, os.clock() - began)
      end
      return best
    end
    for _, unit in ipairs { "a:%{", "a:/1", "a:" .. "//", "ip6::", "%", "a ", "ip4:1.", "x=%{d}" } do
      assert.is_true(seconds(unit:rep(128000 // #unit)) < 1, unit)
    end
  end)
end)

describe("moonpost.spf.macro", function()
  local function expand(text, value)
    return macro.text(assert(macro.read(text, true)), function()
      return value
    end, 1000)
  end

  it("expands as the examples of RFC 7208 7.4 do", function()
    assert.equal("strong-bad", expand("%{l}", "strong-bad"))
    assert.equal("strong.bad", expand("%{l-}", "strong-bad"))
    assert.equal("bad.strong", expand("%{lr-}", "strong-bad"))
    assert.equal("strong", expand("%{l1r-}", "strong-bad"))
    assert.equal("com.example.email", expand("%{dr}", "email.example.com"))
    assert.equal("example.com", expand("%{d2}", "email.example.com"))
    assert.equal("% %20", expand("%%%_%-", ""))
  end)

  it("drops labels at the front of a name that is too long", function()
    local name = macro.name(assert(macro.read_domain("%{l}.%{l}.%{l}.example")), function()
      return ("abcdefg."):rep(12) .. "x"
    end)
    assert.is_true(#name <= 253 and #name > 240)
    assert.matches("^abcdefg%.", name)
    assert.matches("%.x%.example$", name)
  end)

  it("gives no text that is longer than asked for", function()
    assert.is_nil(expand(("%{l}"):rep(4000), ("x"):rep(300)))
  end)
end)

describe("moonpost.spf: a check", function()
  it("says which term decided, and how many asked", function()
    local got = policy("v=spf1 a:mail.example.net ip4:192.0.2.0/24 -all", { ["mail.example.net"] = { A = "192.0.2.77" } })
    assert.same({
      result = "pass", identity = "mailfrom", domain = "example.net", mechanism = "ip4:192.0.2.0/24", lookups = 1, voids = 0,
      ip = "192.0.2.1", helo = "mail.example.net", sender = "bob@example.net",
    }, got)
    assert.equal("default", policy("v=spf1 ip4:192.0.2.7").mechanism)
    assert.equal("neutral", policy("v=spf1 ip4:192.0.2.7").result)
  end)

  it("is of HELO's identity when there is no sender, or when asked for", function()
    local names = { ["mail.example.net"] = { TXT = "v=spf1 a -all", A = "192.0.2.1" }, ["example.net"] = { TXT = "v=spf1 -all" } }
    local got = check(names, { mailfrom = "" })
    assert.same({ "pass", "helo", "mail.example.net", "postmaster@mail.example.net" }, { got.result, got.identity, got.domain, got.sender })
    assert.equal("helo", check(names, { identity = "helo" }).identity)
    assert.equal("fail", check(names).result)
    assert.equal("none", check(names, { identity = "helo", helo = "[192.0.2.1]" }).result)
  end)

  it("takes IPv4 in IPv6's clothes for IPv4", function()
    assert.equal("pass", policy("v=spf1 ip4:192.0.2.1 -all", nil, { ip = "::ffff:192.0.2.1" }).result)
    assert.equal("fail", policy("v=spf1 ip6:::/0 -all", nil, { ip = "::ffff:192.0.2.1" }).result)
    assert.equal("pass", policy("v=spf1 ip6:2001:db8:8000::/33 -all", nil, { ip = "2001:db8:ffff::1" }).result)
    assert.equal("fail", policy("v=spf1 ip6:2001:db8:8000::/33 -all", nil, { ip = "2001:db8:7fff::1" }).result)
  end)

  it("knows domains of people's languages", function()
    local names = { ["bücher.example"] = { TXT = "v=spf1 exists:%{d}.ok.example -all" }, ["xn--bcher-kva.example.ok.example"] = { A = "127.0.0.2" } }
    assert.equal("pass", check(names, { mailfrom = "bob@bücher.example" }).result)
  end)

  it("lets a term with a local-part that is not ASCII match nobody (RFC 8616 4)", function()
    local more = { ["*.example.org"] = { A = "127.0.0.2" } }
    assert.equal("fail", policy("v=spf1 exists:%{l}.example.org -all", more, { mailfrom = "bücher@example.net" }).result)
    assert.equal("pass", policy("v=spf1 exists:%{l}.example.org -all", more, { mailfrom = "buecher@example.net" }).result)
  end)

  it("tells what is not known from what is not there", function()
    local got = policy("v=spf1 a:late.example.net -all", { ["late.example.net"] = "timeout" })
    assert.equal("temperror", got.result)
    assert.equal("late.example.net A: no answer in time", got.problem)
    assert.equal("temperror", check({ ["example.net"] = "servfail" }).result)
    assert.equal("none", check({}).result)
    assert.equal("example.net has no record", check({}).problem)
    assert.equal("permerror", policy("v=spf1 include:other.example -all").result)
    assert.equal("permerror", policy({ "v=spf1 -all", "v=spf1 +all" }).result)
    assert.equal("record of example.net: \"moo\": no mechanism has that name", policy("v=spf1 moo").problem)
  end)

  it("matches by one mail exchanger when another could not be asked", function()
    local more = { ["example.net"] = { MX = { { 1, "a.example.net" }, { 2, "b.example.net" } } }, ["a.example.net"] = "servfail",
      ["b.example.net"] = { A = "192.0.2.1" } }
    assert.equal("pass", policy("v=spf1 mx -all", more).result)
    assert.equal("temperror", policy("v=spf1 mx -all", more, { ip = "192.0.2.2" }).result)
  end)

  it("asks ten times at most, two of them in vain", function()
    local more = {}
    for i = 1, 11 do
      more[("a%d.example.net"):format(i)] = { A = "192.0.2.99" }
    end
    local terms = {}
    for i = 1, 10 do
      terms[i] = ("a:a%d.example.net"):format(i)
    end
    local got = policy("v=spf1 " .. table.concat(terms, " ") .. " -all", more)
    assert.same({ "fail", 10, 0 }, { got.result, got.lookups, got.voids })
    got = policy("v=spf1 " .. table.concat(terms, " ") .. " a:a11.example.net -all", more)
    assert.same({ "permerror", "more than 10 terms ask the DNS" }, { got.result, got.problem })
    assert.equal("fail", policy("v=spf1 a:x.example a:y.example -all").result)
    assert.equal("permerror", policy("v=spf1 a:x.example a:y.example a:z.example -all").result)
    assert.equal("fail", policy("v=spf1 a:x.example a:y.example a:z.example -all", nil, { voids = 3 }).result)
  end)

  it("is over in its own time", function()
    local names = zone {}
    names._ask = function()
      moonpost.sleep(60)
    end
    local got = spf.check { ip = "192.0.2.1", mailfrom = "bob@example.net", dns = names, timeout = "10ms" }
    assert.same({ "temperror", "the look-ups took too long" }, { got.result, got.problem })
  end)

  it("tells the domain's explanation from ours", function()
    local got = policy("v=spf1 -all exp=why.example.net", { ["why.example.net"] = { TXT = "%{i} is not %{d}'s, says %{r}" } },
      { receiver = "mx.example.org" })
    assert.equal("192.0.2.1 is not example.net's, says mx.example.org", got.explanation)
    assert.is_true(got.explained)
    got = policy("v=spf1 -all exp=why.example.net", { ["why.example.net"] = { TXT = "a\r\nb" } })
    assert.equal("example.net does not let 192.0.2.1 send mail for it", got.explanation)
    assert.is_false(got.explained)
    got = policy("v=spf1 -all exp=why.example.net", { ["why.example.net"] = { TXT = ("%{s}"):rep(500) } })
    assert.is_false(got.explained)
    assert.equal("no x??y", policy("v=spf1 -all", nil, { explanation = "no %{h}", helo = "x\r\ny" }).explanation)
    assert.equal("our words", policy("v=spf1 -all", nil, { explanation = "our words" }).explanation)
  end)

  it("refuses options that make no sense, at the caller's line", function()
    for text, given in pairs {
      ["ip: an address expected"] = { mailfrom = "a@b.c" },
      ['unknown option "mail_from" (did you mean "mailfrom"?)'] = { ip = "192.0.2.1", mail_from = "x" },
      ["identity: one of"] = { ip = "192.0.2.1", identity = "from" },
      ["dns: what dns.resolver or dns.zone"] = { ip = "192.0.2.1", dns = "8.8.8.8" },
      ['explanation: "%x" is no macro'] = { ip = "192.0.2.1", explanation = "%x" },
    } do
      local ok, err = pcall(function()
        local got = spf.check(given)
        return got
      end)
      assert.is_false(ok)
      assert.matches("^spec/lua/spf_spec%.lua:%d+: spf%.check: ", err)
      assert.truthy(err:find(text, 1, true), err)
    end
  end)

  it("asks a test's names in a hook", function()
    local loaded = test.load(function()
      local server = moonpost.server { listen = "smtp://127.0.0.1:25", domains = "example.org" }
      function server.on.mail(session, sender)
        local got = moonpost.spf.check { ip = session.ip, mailfrom = sender.address, helo = session.helo }
        if got.result == "fail" then
          return 550, "5.7.23", got.explanation
        end
      end
      return server
    end, { dns = { ["example.com"] = { TXT = "v=spf1 ip4:203.0.113.9 -all" } } })
    local peer = loaded:session { ip = "203.0.113.9", helo = "mail.example.com" }
    assert.equal(250, peer:mail("a@example.com").code)
    peer = loaded:session { ip = "203.0.113.10", helo = "mail.example.com" }
    assert.equal("5.7.23", peer:mail("a@example.com").enhanced)
  end)
end)

describe("moonpost.spf: Received-SPF", function()
  it("has what RFC 7208 9.1 asks for", function()
    assert.equal("pass (mx.example.org: 192.0.2.1 may send mail for example.net) client-ip=192.0.2.1; envelope-from=\"bob@example.net\"; "
      .. "helo=mail.example.net; identity=mailfrom; receiver=mx.example.org; mechanism=\"ip4:192.0.2.1\"",
      spf.received(policy("v=spf1 ip4:192.0.2.1 -all"), "mx.example.org"))
  end)

  it("carries nothing of a stranger's out of its place", function()
    local value = spf.received(check({}, { mailfrom = 'a"\r\nX: (b)\\@example.net', helo = "x\r\ny; z=(" }), "mx.example.org")
    assert.is_nil(value:find "[^ -~]")
    assert.truthy(value:find([[envelope-from="a\"??X: (b)\\@example.net"]], 1, true), value)
    assert.truthy(value:find([[helo="x??y; z=("]], 1, true), value)
  end)
end)
