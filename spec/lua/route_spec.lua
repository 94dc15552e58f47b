local dns = require "moonpost.dns"
local route = require "moonpost.route"

local function first(n)
  return n -- leaves the order as it is: every element changes places with itself
end

local function hosts(found)
  local list = {}
  for i, one in ipairs(found) do
    list[i] = one.host
  end
  return list
end

local names = dns.zone {
  ["example.net"] = { MX = { { 20, "c.example.net" }, { 10, "b.example.net" }, { 10, "a.example.net" }, { 5, "best.example.net" } } },
  ["best.example.net"] = { A = "192.0.2.5", AAAA = "2001:db8::5" },
  ["a.example.net"] = { A = "192.0.2.1" },
  ["b.example.net"] = { A = "192.0.2.2" },
  ["c.example.net"] = { A = "192.0.2.3" },
  ["alone.example.net"] = { A = "192.0.2.7" },
  ["alias.example.net"] = { CNAME = "example.net" },
  ["null.example.net"] = { MX = { 0, "." } },
  ["odd.example.net"] = { MX = { { 0, "." }, { 10, "a.example.net" } } },
  ["none.example.net"] = { MX = { { 0, "." }, { 10, "." } } },
  ["nothing.example.net"] = { TXT = "here" },
  ["late.example.net"] = "timeout", ["dead.example.net"] = "servfail", ["forged.example.net"] = "bogus",
  ["gone.example.net"] = { MX = { 10, "no.example.org" } },
  ["half.example.net"] = { MX = { { 10, "late.example.net" }, { 20, "a.example.net" } } },
  ["unknown.example.net"] = { MX = { { 10, "no.example.org" }, { 20, "late.example.net" } } },
  ["home.example.net"] = { MX = { { 10, "loopback.example.net" }, { 10, "link.example.net" }, { 20, "mapped.example.net" } } },
  ["mixed.example.net"] = { MX = { { 10, "both.example.net" } } },
  ["loopback.example.net"] = { A = "127.0.0.2", AAAA = "::1" },
  ["link.example.net"] = { A = "169.254.0.1", AAAA = "fe80::1" },
  ["mapped.example.net"] = { A = "0.0.0.0", AAAA = "::" },
  ["both.example.net"] = { A = { "127.0.0.1", "192.0.2.8" } },
  ["numeric.example.net"] = { MX = { { 10, "192.0.2.1" }, { 20, "a.example.net" } } },
  ["bücher.example"] = { MX = { 10, "a.example.net" } },
  ["twice.example.net"] = { MX = { { 20, "a.example.net" }, { 10, "A.example.net" }, { 15, "b.example.net" } } },
}

local function mx(domain, options)
  options = options or {}
  options.dns, options.random = options.dns or names, options.random or first
  return route.mx(domain, options)
end

local function refused(code, enhanced, domain, options)
  local found, err = mx(domain, options)
  assert.is_nil(found)
  assert.equal("route", err.kind)
  assert.equal(code, err.code)
  assert.equal(enhanced, err.enhanced)
  assert.equal(code < 500, err.temporary)
  return err
end

describe("moonpost.route: mail exchangers", function()
  it("come by preference, with their addresses", function()
    local found = assert(mx "example.net")
    assert.same({ "best.example.net", "a.example.net", "b.example.net", "c.example.net" }, hosts(found))
    assert.same({ host = "best.example.net", name = "best.example.net", preference = 5, secure = false,
      addresses = { "2001:db8::5", "192.0.2.5" } }, found[1])
    assert.is_false(found.implicit)
    assert.equal("example.net", found.domain)
    assert.same({}, found.skipped)
  end)

  it("of one preference come in random order (RFC 5321 5.1)", function()
    local seen = {}
    for _ = 1, 200 do
      local found = route.mx("example.net", { dns = names })
      assert.equal("best.example.net", found[1].host)
      assert.equal("c.example.net", found[4].host)
      seen[found[2].host] = true
    end
    assert.same({ ["a.example.net"] = true, ["b.example.net"] = true }, seen)
    assert.same({ "best.example.net", "b.example.net", "a.example.net", "c.example.net" },
      hosts(mx("example.net", { random = function() return 1 end })))
  end)

  it("are each tried once, at the best of their preferences", function()
    assert.same({ "a.example.net", "b.example.net" }, hosts(mx "twice.example.net"))
  end)

  it("are looked for at the name that an alias stands for", function()
    assert.equal("best.example.net", mx("alias.example.net")[1].host)
  end)

  it("are looked for by A-labels", function()
    local found = mx "BÜCHER.example"
    assert.equal("xn--bcher-kva.example", found.domain)
    assert.equal("a.example.net", found[1].host)
  end)

  it("that are addresses are no host names, and skipped", function()
    local found = mx "numeric.example.net"
    assert.same({ "a.example.net" }, hosts(found))
    assert.same({ { host = "192.0.2.1", why = "this is no host name" } }, found.skipped)
  end)

  it("are not all looked at when there are too many", function()
    local found = mx("example.net", { hosts = 2 })
    assert.same({ "best.example.net", "a.example.net" }, hosts(found))
    assert.same({ "b.example.net", "c.example.net" }, hosts(found.skipped))
  end)

  it("without an address are skipped, as long as there are others", function()
    local found = mx "half.example.net"
    assert.same({ "a.example.net" }, hosts(found))
    assert.equal("late.example.net", found.skipped[1].host)
    assert.matches("no answer in time", found.skipped[1].why)
  end)

  it("of which none has an address are an error, temporary when one could not be asked for", function()
    refused(550, "5.4.4", "gone.example.net")
    assert.equal("timeout", refused(451, "4.4.3", "unknown.example.net").cause.kind)
  end)
end)

describe("moonpost.route: a domain", function()
  it("without MX records stands for itself", function()
    local found = mx "alone.example.net"
    assert.is_true(found.implicit)
    assert.same({ "alone.example.net" }, hosts(found))
    assert.same({ "192.0.2.7" }, found[1].addresses)
  end)

  it("without MX records and addresses takes no mail", function()
    refused(550, "5.1.2", "nothing.example.net")
  end)

  it("that does not exist is refused for good", function()
    assert.matches("no such domain", tostring(refused(550, "5.1.2", "no.example.org")))
  end)

  it("that takes no mail says so by a null MX (RFC 7505)", function()
    refused(556, "5.1.10", "null.example.net")
    refused(556, "5.1.10", "none.example.net")
    assert.same({ "a.example.net" }, hosts(mx "odd.example.net"))
  end)

  it("of which the DNS knows nothing now is deferred", function()
    for name, kind in pairs { late = "timeout", dead = "servfail", forged = "bogus" } do
      assert.equal(kind, refused(451, "4.4.3", name .. ".example.net").cause.kind)
    end
  end)

  it("that is none is refused for good, and not repeated raw", function()
    for _, domain in ipairs { "a..b", "", "a b", "a\r\nb", ("x"):rep(300) } do
      assert.is_nil(tostring(refused(550, "5.1.2", domain)):find("%c"))
    end
  end)

  it("is signed when both MX records and addresses are", function()
    local signed = dns.zone({
      ["a.example"] = { MX = { { 10, "mx.a.example" }, { 20, "plain.b.example" } } }, ["mx.a.example"] = { CNAME = "real.a.example" },
      ["real.a.example"] = { A = "192.0.2.1" }, ["plain.b.example"] = { A = "192.0.2.2", secure = false },
      ["c.example"] = { MX = { 10, "mx.a.example" }, secure = false }, ["d.example"] = { A = "192.0.2.3" },
    }, { secure = true })
    local found = mx("a.example", { dns = signed })
    assert.is_true(found.secure)
    assert.is_true(found[1].secure)
    assert.equal("mx.a.example", found[1].host)
    assert.equal("real.a.example", found[1].name)
    assert.is_false(found[2].secure)
    found = mx("c.example", { dns = signed })
    assert.is_false(found.secure)
    assert.is_false(found[1].secure)
    assert.is_true(mx("d.example", { dns = signed })[1].secure)
  end)
end)

describe("moonpost.route: ourselves", function()
  it("cut off everything of equal or worse preference, by name", function()
    local found = mx("example.net", { names = { "B.example.net." } })
    assert.same({ "best.example.net" }, hosts(found))
    assert.same({ "a.example.net", "b.example.net", "c.example.net" }, hosts(found.skipped))
  end)

  it("cut off everything of equal or worse preference, by address", function()
    assert.same({ "best.example.net" }, hosts(mx("example.net", { addresses = "192.0.2.1" })))
    assert.same({ "best.example.net", "a.example.net", "b.example.net" }, hosts(mx("example.net", { addresses = { "192.0.2.3" } })))
  end)

  it("as the best of all are a loop", function()
    refused(554, "5.4.6", "example.net", { names = "best.example.net" })
    refused(554, "5.4.6", "example.net", { addresses = { "2001:DB8:0::5" } })
    refused(554, "5.4.6", "alone.example.net", { names = "alone.example.net" })
    refused(554, "5.4.6", "[192.0.2.9]", { addresses = "192.0.2.9" })
  end)
end)

describe("moonpost.route: loopback and link-local addresses", function()
  it("are refused", function()
    refused(550, "5.4.4", "home.example.net")
    refused(550, "5.1.2", "loopback.example.net")
    assert.same({ "192.0.2.8" }, mx("mixed.example.net")[1].addresses)
  end)

  it("are dialled where that is allowed", function()
    assert.same({ "link.example.net", "loopback.example.net", "mapped.example.net" }, hosts(mx("home.example.net", { allow_local = true })))
    assert.same({ "127.0.0.1", "192.0.2.8" }, mx("mixed.example.net", { allow_local = true })[1].addresses)
  end)
end)

describe("moonpost.route: an address literal", function()
  it("is dialled as it stands", function()
    assert.same({ "192.0.2.9" }, mx("[192.0.2.9]")[1].addresses)
    assert.equal("[192.0.2.9]", mx("[192.0.2.9]")[1].host)
    assert.same({ "2001:db8::9" }, mx("[IPv6:2001:db8::9]")[1].addresses)
  end)

  it("is refused when it is none, or local", function()
    for _, text in ipairs { "[192.0.2]", "[2001:db8::9]", "[IPv6:192.0.2.1]", "[]", "[tag:x]" } do
      refused(550, "5.1.2", text)
    end
    refused(550, "5.1.2", "[127.0.0.1]")
    refused(550, "5.1.2", "[IPv6:::1]")
    refused(550, "5.1.2", "[IPv6:::ffff:127.0.0.1]")
    assert.same({ "127.0.0.1" }, mx("[127.0.0.1]", { allow_local = true })[1].addresses)
  end)
end)

describe("moonpost.route: a named host", function()
  it("is dialled whatever its addresses are, and its MX records", function()
    assert.same({ "127.0.0.2" }, { (table.unpack(route.host("both.example.net", { dns = names })[1].addresses):gsub("1$", "2")) })
    assert.same({ "::1", "127.0.0.2" }, route.host("loopback.example.net", { dns = names })[1].addresses)
    assert.same({ "127.0.0.1" }, route.host("127.0.0.1", { dns = names })[1].addresses)
  end)

  it("that cannot be found is an error", function()
    local _, err = route.host("no.example.org", { dns = names })
    assert.equal("5.1.2", err.enhanced)
    _, err = route.host("late.example.net", { dns = names })
    assert.equal("4.4.3", err.enhanced)
    _, err = route.host("a..b", { dns = names })
    assert.equal("5.1.2", err.enhanced)
  end)
end)

describe("moonpost.route: mistakes", function()
  it("raise", function()
    assert.error_matches(function() route.mx(nil) end, "^route%.mx: a name expected, got nil")
    assert.error_matches(function() route.mx("a", { name = "x" }) end, '^route%.mx: unknown option "name"')
    assert.error_matches(function() route.mx("a", { addresses = "x" }) end, '^route%.mx: addresses: "x" is no IP address')
    assert.error_matches(function() route.host("a", { dns = {} }) end, "^route%.host: dns: what dns%.resolver")
  end)
end)
