local core = require "moonpost.core"
local dns = require "moonpost.dns"
local moonpost = require "moonpost"
local task = require "moonpost.task"
local test = require "moonpost.test"
local tmpdir = require "spec.support.tmpdir"

local function zone()
  return dns.zone({
    ["example.net"] = { MX = { { 20, "b.example.net" }, { 10, "a.example.net" } }, TXT = { "v=spf1 -all", "" }, ttl = 300 },
    ["a.example.net"] = { A = { "192.0.2.1", "192.0.2.2", "192.0.2.3" }, AAAA = "2001:db8::1", secure = true },
    ["www.example.net"] = { CNAME = "a.example.net", ttl = 60, secure = true },
    ["loop.example.net"] = { CNAME = "pool.example.net" },
    ["pool.example.net"] = { CNAME = "loop.example.net" },
    ["away.example.net"] = { CNAME = "elsewhere.example.org" },
    ["*.wild.example.net"] = { A = "192.0.2.9" },
    ["set.wild.example.net"] = { TXT = "here" },
    ["_25._tcp.a.example.net"] = { TLSA = { { 3, 1, 1, "00ff" }, { 2, 0, 1, "AB CD" } }, secure = true },
    ["192.0.2.1"] = { PTR = "a.example.net" },
    ["2001:db8::1"] = { PTR = { "a.example.net" } },
    ["null.example.net"] = { MX = { 0, "." } },
    ["bücher.example.net"] = { A = "192.0.2.7" },
    ["dead.example.net"] = "servfail",
    ["late.example.net"] = "timeout",
    ["forged.example.net"] = "bogus",
    ["half.example.net"] = { A = "192.0.2.4", fail = { AAAA = "timeout" } },
    ["poor.example.net"] = { A = {}, fail = { AAAA = "timeout" } },
  })
end

describe("moonpost.dns: a zone", function()
  local names = zone()

  it("gives mail exchangers by preference", function()
    local answer = assert(names:mx "example.net")
    assert.same({ { preference = 10, host = "a.example.net" }, { preference = 20, host = "b.example.net" },
      name = "example.net", ttl = 300, status = "insecure" }, answer)
    assert.same({ preference = 0, host = "" }, names:mx("null.example.net")[1])
  end)

  it("gives addresses of a family, texts, certificates and names of addresses", function()
    assert.same({ "192.0.2.1", "192.0.2.2", "192.0.2.3", name = "a.example.net", ttl = 3600, status = "secure" },
      names:a "a.example.net")
    assert.equal("2001:db8::1", names:aaaa("A.Example.NET.")[1])
    assert.same({ "v=spf1 -all", "" }, { table.unpack(names:txt "example.net") })
    assert.same({ { usage = 3, selector = 1, mtype = 1, data = "\0\255" }, { usage = 2, selector = 0, mtype = 1, data = "\xab\xcd" } },
      { table.unpack(names:tlsa "_25._tcp.a.example.net") })
    assert.equal("a.example.net", names:ptr("192.0.2.1")[1])
    assert.equal("a.example.net", names:ptr("2001:db8::1")[1])
    assert.equal("a.example.net", names:ptr("1.2.0.192.in-addr.arpa")[1])
  end)

  it("follows aliases, with the shortest time to live, and says where they led", function()
    local answer = names:a "www.example.net"
    assert.equal("192.0.2.1", answer[1])
    assert.equal("a.example.net", answer.name)
    assert.equal(60, answer.ttl)
    assert.equal("secure", answer.status)
    assert.same({ "a.example.net" }, { table.unpack(names:cname "www.example.net") })
    answer = names:a "away.example.net"
    assert.is_true(answer.nxdomain)
    assert.equal("elsewhere.example.org", answer.name)
    local none, err = names:a "loop.example.net"
    assert.is_nil(none)
    assert.equal("servfail", err.kind)
  end)

  it("tells a name that does not exist from one without such records", function()
    assert.is_true(names:a("no.example.net").nxdomain)
    assert.is_nil(names:a("no.example.net").nodata)
    assert.is_true(names:a("example.net").nodata)
    assert.is_true(names:a("net").nodata) -- something is below it
    assert.is_true(names:a("wild.example.net").nodata)
    assert.equal("secure", dns.zone({}, { secure = true }):mx("example.org").status)
  end)

  it("answers by a wildcard for what is not there, not for what is (RFC 4592)", function()
    assert.equal("192.0.2.9", names:a("some.wild.example.net")[1])
    assert.equal("192.0.2.9", names:a("some.deep.wild.example.net")[1])
    assert.is_true(names:a("set.wild.example.net").nodata)
    assert.is_true(names:a("below.set.wild.example.net").nxdomain)
  end)

  it("knows internationalised names by their A-labels", function()
    assert.equal("192.0.2.7", names:a("BÜCHER.example.net")[1])
    assert.equal("192.0.2.7", names:a("xn--bcher-kva.example.net")[1])
  end)

  for name, kind in pairs { dead = "servfail", late = "timeout", forged = "bogus" } do
    it("fails as it is told: " .. kind, function()
      for _, method in ipairs { "mx", "a", "aaaa", "txt", "tlsa", "cname", "addresses" } do
        local none, err = names[method](names, name .. ".example.net")
        assert.is_nil(none)
        assert.equal(kind, err.kind)
        assert.is_true(err.temporary)
        assert.equal(name .. ".example.net", err.name)
        assert.matches(name .. "%.example%.net %u+: .", tostring(err))
      end
    end)
  end

  it("hands out tables that the asker may change", function()
    names:mx("example.net")[1].host = "changed"
    assert.equal("a.example.net", names:mx("example.net")[1].host)
  end)

  it("refuses what is no table of records, at the caller's line", function()
    for text, given in pairs {
      ['a%.b: A: an IPv4 address expected'] = { ["a.b"] = { A = "2001:db8::1" } },
      ['a%.b: AAAA: an IPv6 address expected'] = { ["a.b"] = { AAAA = "192.0.2.1" } },
      ['a%.b: MX: { 10, "mx'] = { ["a.b"] = { MX = { { "10", "x.y" } } } },
      ['a%.b: TLSA: { 3, 1'] = { ["a.b"] = { TLSA = { 3, 1, 1, "abc" } } },
      ['a%.b: SPF is no type'] = { ["a.b"] = { SPF = "x" } },
      ['a%.b: "servfail", "timeout"'] = { ["a.b"] = "refused" },
      ['"a%.%.b" is no domain name'] = { ["a..b"] = {} },
      ['a%.b: one CNAME'] = { ["a.b"] = { CNAME = { "c.d", "e.f" } } },
    } do
      local ok, err = pcall(function()
        dns.zone(given)
      end)
      assert.is_false(ok)
      assert.matches("^spec/lua/dns_spec%.lua:%d+: dns%.zone: " .. text, err)
    end
    assert.error_matches(function() dns.zone({}, { tll = 3 }) end, 'unknown option "tll"')
  end)
end)

describe("moonpost.dns: addresses", function()
  local names = zone()

  it("come by turns, IPv6 first", function()
    assert.same({ "2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3" }, { table.unpack(names:addresses "a.example.net") })
    assert.equal("secure", names:addresses("a.example.net").status)
  end)

  it("are their own answer", function()
    assert.same({ "192.0.2.77", ttl = 0, status = "insecure", name = "192.0.2.77" }, names:addresses "192.0.2.77")
    assert.equal("2001:db8::5", names:addresses("2001:db8::5")[1])
  end)

  it("of one family will do when the other could not be asked", function()
    local answer = names:addresses "half.example.net"
    assert.same({ "192.0.2.4" }, { table.unpack(answer) })
    assert.equal("timeout", answer.partial.kind)
  end)

  it("are not known to be missing when one family could not be asked", function()
    local none, err = names:addresses "poor.example.net"
    assert.is_nil(none)
    assert.equal("timeout", err.kind)
  end)

  it("say that there are none", function()
    assert.is_true(names:addresses("no.example.net").nxdomain)
    assert.is_true(names:addresses("example.net").nodata)
  end)

  it("are 32 at most, whoever made a name with more", function()
    local list = {}
    for i = 1, 200 do
      list[i] = "10.0.0." .. i
    end
    assert.equal(32, #dns.zone({ ["big.example"] = { A = list, AAAA = "::2" } }):addresses "big.example")
  end)
end)

describe("moonpost.dns: names", function()
  it("become A-labels", function()
    assert.equal("xn--bcher-kva.example", dns.to_ascii "Bücher.Example")
    assert.equal("xn--fa-hia.de", dns.to_ascii "faß.de") -- non-transitional
    assert.equal("xn--fiqs8s", dns.to_ascii "中国")
    assert.equal("a.example", dns.to_ascii "a。example") -- an ideographic full stop separates too
    assert.equal("_25._tcp.mx.example", dns.to_ascii "_25._tcp.MX.example.")
  end)

  it("become U-labels, for people", function()
    assert.equal("bücher.example", dns.to_unicode "xn--bcher-kva.EXAMPLE.")
    assert.equal("bücher.example", dns.to_unicode "Bücher.Example")
    assert.equal("plain.example", dns.to_unicode "plain.example")
    for _, name in ipairs { "xn--a.example", "xn--bcher-kva1.example", "xn--.example", "xn--zcaÿ", "xn--ASCII-.example", ("ü"):rep(70) } do
      local unicode, err = dns.to_unicode(name)
      assert.is_nil(unicode, name)
      assert.equal("name", err.kind)
    end
    assert.error_matches(function() dns.to_unicode(7) end, "dns%.to_unicode: a name expected, got number")
  end)

  for what, name in pairs {
    empty = "", dot = ".", dots = "a..b", ["a leading dot"] = ".a", space = "a b", control = "a\r\nb", NUL = "a\0b",
    backslash = "a\\.b", ["bad UTF-8"] = "a\xff.b", ["a long label"] = ("x"):rep(64) .. ".example",
    ["a long name"] = ("abcdefg."):rep(40) .. "example", ["a long label of other letters"] = ("ü"):rep(70),
    ["a soft hyphen alone"] = "\u{ad}.example",
  } do
    it("are refused, and never asked for: " .. what, function()
      local ascii, err = dns.to_ascii(name)
      assert.is_nil(ascii)
      assert.equal("name", err.kind)
      assert.is_false(err.temporary)
      assert.is_nil(err.message:find("%c"))
      assert.equal("name", select(2, zone():mx(name)).kind)
      assert.equal("name", select(2, zone():addresses(name)).kind)
    end)
  end

  it("raise when they are no text", function()
    assert.error_matches(function() dns.mx(nil) end, "^dns%.mx: a name expected, got nil")
    assert.error_matches(function() zone():txt {} end, "^dns%.txt: a name expected, got table")
    assert.error_matches(function() dns.to_ascii(7) end, "dns%.to_ascii: a name expected, got number")
  end)
end)

describe("moonpost.dns: the default resolver", function()
  after_each(function()
    dns.use(nil)
  end)

  it("is asked by the functions of the module, and can be exchanged", function()
    local mine = zone()
    local former = dns.use(mine)
    assert.equal("192.0.2.1", moonpost.dns.a("a.example.net")[1])
    assert.equal(mine, dns.default())
    assert.equal(mine, dns.use(former))
    assert.error_matches(function() dns.use "8.8.8.8" end, "dns%.use: what dns%.resolver or dns%.zone returned")
  end)

  it("of a test is the test's names, and the test's alone", function()
    local outside = dns.use(zone())
    local policy = test.load(function()
      local server = moonpost.server { listen = "smtp://127.0.0.1:25", domains = "example.org" }
      function server.on.mail(_, sender)
        local mx, err = moonpost.dns.mx(sender.domain)
        if not mx then
          return 451, "4.4.3", err.kind
        elseif #mx == 0 then
          return 550, "5.1.8", "no mail can go back"
        end
      end
      return server
    end, { dns = { ["example.com"] = { MX = { 10, "mx.example.com" } }, ["late.example.com"] = "timeout" } })
    local peer = policy:session()
    peer:ehlo "mail.example.com"
    assert.equal(250, peer:mail("a@example.com").code)
    peer:rset()
    assert.equal(550, peer:mail("a@example.net").code)
    assert.matches("timeout", tostring(peer:mail("a@late.example.com")))
    assert.equal("mx.example.com", policy.dns["example.com"].MX[2])
    assert.equal("a.example.net", dns.mx("example.net")[1].host)
    dns.use(outside)
  end)

  it("of a test refuses names that make no sense, at the caller's line", function()
    assert.error_matches(function()
      test.load(function() end, { dns = { ["a.b"] = { A = "x" } } })
    end, "^test%.load: dns: a%.b: A: an IPv4 address expected")
  end)
end)

describe("moonpost.dns: a resolver", function()
  local silent = { forwarders = { "127.0.0.1:9" }, timeout = "50ms" }

  it("knows localhost without asking", function()
    local names = dns.resolver(silent)
    assert.same({ "127.0.0.1" }, { table.unpack(names:a "localhost") })
    assert.is_true(names:mx("localhost").nodata)
    assert.equal("localhost", names:ptr("127.0.0.1")[1])
  end)

  it("gives up in time", function()
    local names = dns.resolver(silent)
    local none, err = names:mx "example.net"
    assert.is_nil(none)
    assert.equal("timeout", err.kind)
    assert.equal("example.net MX: no answer within 50ms", tostring(err))
  end)

  it("leaves nothing that would keep the loop going", function()
    local names = dns.resolver(silent)
    names:a "example.net"
    assert.equal(0, names:_handle(core.worker()):waiting())
    assert.is_false(core.worker():turn(false))
  end)

  it("asks equal questions in flight once", function()
    local names = dns.resolver(silent)
    local handle = names:_handle(core.worker())
    task.run(function()
      local tasks = {}
      for i = 1, 20 do
        tasks[i] = task.spawn(names.mx, names, i % 2 == 0 and "same.example" or "SAME.example.")
      end
      local other = task.spawn(names.a, names, "same.example")
      task.sleep(0.01)
      assert.equal(2, handle:waiting())
      for _, one in ipairs(tasks) do
        assert.equal("timeout", select(2, one:join()).kind)
      end
      other:join()
    end)
    assert.equal(0, handle:waiting())
  end)

  it("lets a task go that is cancelled or out of time, and the question with the last who asked", function()
    local names = dns.resolver { forwarders = { "127.0.0.1:9" }, timeout = "1m" }
    local handle = names:_handle(core.worker())
    task.run(function()
      local first, second = task.spawn(names.mx, names, "x.example"), task.spawn(names.mx, names, "x.example")
      task.sleep(0.005)
      first:cancel()
      assert.equal(1, handle:waiting())
      second:cancel()
      assert.equal(0, handle:waiting())
      assert.equal("timeout", select(2, task.timeout("5ms", names.addresses, names, "y.example")).kind)
      assert.equal(0, handle:waiting())
    end)
  end)

  it("shares its cache with those described alike", function()
    local one, other = dns.resolver(silent), dns.resolver { forwarders = "127.0.0.1:9", timeout = "1m" }
    local third = dns.resolver { forwarders = "127.0.0.1:10" }
    task.run(function()
      local asking = task.spawn(other.mx, other, "z.example")
      task.sleep(0.005)
      assert.equal(1, one:_handle(core.worker()):waiting())
      assert.equal(0, third:_handle(core.worker()):waiting())
      asking:cancel()
    end)
  end)

  it("serves names from a table before it asks", function()
    local names = dns.resolver { forwarders = "127.0.0.1:9", timeout = "20ms",
      zone = { ["example.net"] = { MX = { 10, "mx.example.net" } } } }
    assert.equal("mx.example.net", names:mx("example.net")[1].host)
    assert.is_true(names:a("example.net").nodata)
    assert.equal("timeout", select(2, names:mx "example.org").kind)
  end)

  it("takes addresses, and nothing else, from the hosts file", function()
    local dir <close> = tmpdir.new()
    local path = dir:write("hosts", "# a comment\n192.0.2.5\tHere.Example here # and another\n2001:db8::5 here\nnonsense x\n")
    local names = dns.resolver { forwarders = "127.0.0.1:9", timeout = "20ms", hosts = path }
    assert.same({ "192.0.2.5" }, { table.unpack(names:addresses "here.example") })
    assert.same({ "192.0.2.5", "2001:db8::5" }, { table.unpack(names:addresses "HERE") })
    assert.equal("insecure", names:addresses("here").status)
    assert.equal("timeout", select(2, names:addresses "x").kind)
    assert.equal("timeout", select(2, names:a "here.example").kind)
    names = dns.resolver { forwarders = "127.0.0.1:9", timeout = "20ms", hosts = false }
    assert.equal("timeout", select(2, names:addresses "here.example").kind)
  end)

  for text, given in pairs {
    ['forwarders: "ns.example" is no address'] = { forwarders = "ns.example" },
    ['forwarders: "192.0.2.1:0" is no address'] = { forwarders = { "192.0.2.1:0" } },
    ['stubs: "x" is no address'] = { stubs = { ["example.net"] = "x" } },
    ['stubs: "a..b" is no zone'] = { stubs = { ["a..b"] = "192.0.2.1" } },
    ["exclude each other"] = { forwarders = "192.0.2.1", recursion = true },
    ["root_key: /no/such/file: No such file"] = { root_key = "/no/such/file" },
    ["trust anchors or servers"] = { trust_anchors = "no anchor" },
    ["timeout: between 1ms and 1h"] = { timeout = 0 },
    ['unknown option "forwarder" (did you mean "forwarders"?)'] = { forwarder = "192.0.2.1" },
    ["dns.zone: a.b: A: an IPv4"] = { zone = { ["a.b"] = { A = "x" } } },
  } do
    it("is refused: " .. text, function()
      local ok, err = pcall(function()
        dns.resolver(given)
      end)
      assert.is_false(ok)
      assert.matches("^spec/lua/dns_spec%.lua:%d+: ", err)
      assert.truthy(err:find(text, 1, true), err)
    end)
  end

  it("asks nobody from a test", function()
    local policy = test.load(function()
      local server = moonpost.server { listen = "smtp://127.0.0.1:25", domains = "example.org" }
      local names = dns.resolver {}
      function server.on.mail()
        names:mx "example.net"
      end
      return server
    end)
    local peer = policy:session()
    peer:ehlo "mail.example.com"
    assert.equal(451, peer:mail("a@example.com").code)
    assert.matches("nobody can be asked on a test's worker", tostring(policy:logged()[1] and policy.log[#policy.log]))
  end)
end)
