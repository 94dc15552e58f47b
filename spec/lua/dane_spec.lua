local dane = require "moonpost.dane"
local dns = require "moonpost.dns"
local route = require "moonpost.route"

local A, B = ("aa"):rep(32), ("bb"):rep(32)
local LONG = ("cc"):rep(64)
local octets = { [A] = ("\xaa"):rep(32), [B] = ("\xbb"):rep(32), [LONG] = ("\xcc"):rep(64) }

local function copy(from, changes)
  local into = {}
  for key, value in pairs(from) do
    into[key] = value
  end
  for key, value in pairs(changes or {}) do
    into[key] = value or nil
  end
  return into
end

-- A domain that has done everything right.
local signed = {
  ["example.org"] = { MX = { 10, "mx.example.org" }, secure = true },
  ["mx.example.org"] = { A = "192.0.2.1", secure = true },
  ["_25._tcp.mx.example.org"] = { TLSA = { 3, 1, 1, A }, secure = true },
}

-- What does not say that it is signed is not; that something is not there is.
local function find(changes)
  local names = copy(signed, changes)
  for name, entry in pairs(names) do
    if type(entry) == "table" then
      names[name] = copy(entry)
      names[name].secure = entry.secure == true
    end
  end
  local zone = dns.zone(names, { secure = true })
  local found = assert(route.mx("example.org", { dns = zone }))
  return dane.find(found, found[1], { dns = zone })
end

describe("moonpost.dane: where it applies (RFC 7672 2)", function()
  it("takes the TLSA records of a host whose MX, addresses and records are all signed", function()
    local found = find()
    assert.equal("usable", found.state)
    assert.equal("mx.example.org", found.base)
    assert.same({ { usage = 3, selector = 1, mtype = 1, data = octets[A] } }, found.records)
    assert.equal("DANE: TLSA records at _25._tcp.mx.example.org", found.why)
  end)

  for _, row in ipairs {
    { "2.2.1: MX records that are not signed", { ["example.org"] = { MX = { 10, "mx.example.org" } } }, "none",
      "mail exchangers are not signed" },
    { "2.2.2: addresses that are not signed", { ["mx.example.org"] = { A = "192.0.2.1" } }, "none", "addresses are not signed" },
    { "2.1.1: TLSA records that are not signed", { ["_25._tcp.mx.example.org"] = { TLSA = { 3, 1, 1, A } } }, "none",
      "no signed TLSA records" },
    { "2.1.3: no TLSA records", { ["_25._tcp.mx.example.org"] = false }, "none", "no signed TLSA records" },
    { "2.1.3: no records of that type", { ["_25._tcp.mx.example.org"] = { TXT = "x", secure = true } }, "none",
      "no signed TLSA records" },
    { "2.1.2: TLSA records that are bogus", { ["_25._tcp.mx.example.org"] = "bogus" }, "deferred", "signatures" },
    { "2.1.2: a server that fails for TLSA records", { ["_25._tcp.mx.example.org"] = "servfail" }, "deferred", "no server" },
    { "2.1.2: no answer about TLSA records", { ["_25._tcp.mx.example.org"] = "timeout" }, "deferred", "in time" },
    { "2.2: only records of usage 0 and 1", { ["_25._tcp.mx.example.org"] = { TLSA = { { 0, 1, 1, A }, { 1, 1, 1, A } }, secure = true } },
      "unusable", "none of the TLSA records" },
    { "2.2: only records of an unknown usage", { ["_25._tcp.mx.example.org"] = { TLSA = { 255, 1, 1, A }, secure = true } }, "unusable" },
    { "2.2: only records of an unknown selector", { ["_25._tcp.mx.example.org"] = { TLSA = { 3, 2, 1, A }, secure = true } }, "unusable" },
    { "2.2: only records of an unknown matching type", { ["_25._tcp.mx.example.org"] = { TLSA = { 3, 1, 3, A }, secure = true } },
      "unusable" },
    { "2.2: only digests of another length", { ["_25._tcp.mx.example.org"] = { TLSA = { { 3, 1, 1, "aa" }, { 3, 1, 2, A } }, secure = true } },
      "unusable" },
    { "records of usage 1 beside one of usage 2", { ["_25._tcp.mx.example.org"] = { TLSA = { { 1, 1, 1, A }, { 2, 0, 1, B } }, secure = true } },
      "usable" },
  } do
    it(("%s: %s"):format(row[1], row[3]), function()
      local found = find(row[2])
      assert.equal(row[3], found.state)
      assert.truthy(found.why:find(row[4] or "", 1, true), found.why)
      assert.equal(row[3] == "usable", found.records ~= nil)
      assert.equal(row[3] == "deferred", found.err ~= nil)
    end)
  end

  it("does not ask for TLSA records where they could not count (2.2.2): a server that fails for them harms nobody", function()
    local found = find { ["mx.example.org"] = { A = "192.0.2.1" }, ["_25._tcp.mx.example.org"] = "servfail" }
    assert.equal("none", found.state)
  end)

  it("has none for an address", function()
    local zone = dns.zone({}, { secure = true })
    for _, found in ipairs {
      assert(route.mx("[192.0.2.1]", { dns = zone })), assert(route.host("192.0.2.1", { dns = zone })),
    } do
      assert.equal("none", dane.find(found, found[1], { dns = zone }).state)
    end
  end)

  it("looks at the port's records", function()
    local zone = dns.zone({
      ["relay.example.org"] = { A = "192.0.2.1", secure = true }, ["_587._tcp.relay.example.org"] = { TLSA = { 3, 1, 1, A }, secure = true },
    }, { secure = true })
    local found = assert(route.host("relay.example.org", { dns = zone }))
    assert.equal("none", dane.find(found, found[1], { dns = zone }).state)
    assert.equal("usable", dane.find(found, found[1], { dns = zone, port = 587 }).state)
  end)

  it("raises for a resolver that is none", function()
    assert.is_false((pcall(dane.find, { secure = true }, { host = "a", name = "a", secure = true }, { dns = {} })))
  end)
end)

describe("moonpost.dane: aliases (RFC 7672 2.2.2)", function()
  local alias = { ["mx.example.org"] = { CNAME = "host.example.net", secure = true },
    ["host.example.net"] = { A = "192.0.2.1", secure = true } }

  it("looks first where a signed alias leads", function()
    local found = find(copy(alias, { ["_25._tcp.host.example.net"] = { TLSA = { 3, 1, 1, B }, secure = true } }))
    assert.same({ "usable", "host.example.net", octets[B] }, { found.state, found.base, found.records[1].data })
  end)

  it("looks at the alias itself when there is nothing there", function()
    local found = find(alias)
    assert.same({ "usable", "mx.example.org", octets[A] }, { found.state, found.base, found.records[1].data })
    found = find(copy(alias, { ["_25._tcp.host.example.net"] = { TLSA = { 3, 1, 1, B } } }))
    assert.equal("mx.example.org", found.base)
  end)

  it("is deferred when it cannot know whether there is something there", function()
    assert.equal("deferred", find(copy(alias, { ["_25._tcp.host.example.net"] = "servfail" })).state)
  end)

  it("stops at records that cannot be used", function()
    local found = find(copy(alias, { ["_25._tcp.host.example.net"] = { TLSA = { 1, 1, 1, B }, secure = true } }))
    assert.same({ "unusable", "host.example.net" }, { found.state, found.base })
  end)

  it("looks at a signed alias alone when it leads where nothing is signed", function()
    local found = find(copy(alias, {
      ["host.example.net"] = { A = "192.0.2.1" }, ["_25._tcp.host.example.net"] = { TLSA = { 3, 1, 1, B }, secure = true },
    }))
    assert.same({ "usable", "mx.example.org", octets[A] }, { found.state, found.base, found.records[1].data })
  end)

  it("has none for an alias that is not signed", function()
    local found = find(copy(alias, { ["mx.example.org"] = { CNAME = "host.example.net" } }))
    assert.equal("none", found.state)
  end)

  it("is deferred when it cannot know whether the alias is signed", function()
    local zone = dns.zone(copy(signed, { ["mx.example.org"] = { A = "192.0.2.1", fail = { CNAME = "bogus" } } }), { secure = true })
    local found = dane.find({ domain = "example.org", secure = true },
      { host = "mx.example.org", name = "host.example.net", secure = false }, { dns = zone })
    assert.equal("deferred", found.state)
  end)
end)

describe("moonpost.dane: reference identifiers (RFC 7672 3.2.2)", function()
  local ta = { TLSA = { 2, 0, 1, A }, secure = true }

  for _, row in ipairs {
    { "of a mail exchanger: its name and the next hop's", { ["_25._tcp.mx.example.org"] = ta }, { "mx.example.org", "example.org" } },
    { "and where an alias of the next hop leads",
      { ["example.org"] = { CNAME = "customer.example.net", secure = true },
        ["customer.example.net"] = { MX = { 10, "mx.example.org" }, secure = true }, ["_25._tcp.mx.example.org"] = ta },
      { "mx.example.org", "example.org", "customer.example.net" } },
    { "of a mail exchanger that is an alias: where it leads, and the next hop's",
      { ["mx.example.org"] = { CNAME = "host.example.net", secure = true }, ["host.example.net"] = { A = "192.0.2.1", secure = true },
        ["_25._tcp.host.example.net"] = ta }, { "host.example.net", "example.org" } },
    { "without mail exchangers: the domain", { ["example.org"] = { A = "192.0.2.1", secure = true }, ["_25._tcp.example.org"] = ta },
      { "example.org" } },
    { "without mail exchangers, an alias: where it leads, and the domain",
      { ["example.org"] = { CNAME = "host.example.net", secure = true }, ["host.example.net"] = { A = "192.0.2.1", secure = true },
        ["_25._tcp.host.example.net"] = ta }, { "host.example.net", "example.org" } },
  } do
    it(row[1], function()
      local found = find(row[2])
      assert.equal("usable", found.state)
      assert.same(row[3], found.names)
    end)
  end
end)

describe("moonpost.dane: which records are used", function()
  local function usable(...)
    local records, kept = {}, {}
    for i, row in ipairs { ... } do
      records[i] = { usage = row[1], selector = row[2], mtype = row[3], data = row[4] or octets[({ A, LONG })[row[3]]] }
    end
    for i, record in ipairs(dane.usable(records)) do
      kept[i] = ("%d%d%d"):format(record.usage, record.selector, record.mtype)
    end
    return table.concat(kept, " ")
  end

  for _, row in ipairs {
    { "every combination of usage 2 and 3", "200 210 300 310 201 211 301 311",
      { 2, 0, 0, "x" }, { 2, 1, 0, "x" }, { 3, 0, 0, "x" }, { 3, 1, 0, "x" }, { 2, 0, 1 }, { 2, 1, 1 }, { 3, 0, 1 }, { 3, 1, 1 } },
    { "the strongest digest of a usage and selector (RFC 7671 9)", "312 301", { 3, 1, 1 }, { 3, 1, 2 }, { 3, 0, 1 } },
    { "a whole certificate beside digests", "300 302", { 3, 0, 0, "x" }, { 3, 0, 1 }, { 3, 0, 2 } },
    { "a digest beside one that is malformed", "311", { 3, 1, 1 }, { 3, 1, 2, "short" } },
    { "several of one kind", "311 311", { 3, 1, 1 }, { 3, 1, 1 } },
    { "no empty ones", "", { 3, 0, 0, "" }, { 3, 1, 1, "" } },
    { "none of usages 0 and 1", "", { 0, 0, 1 }, { 1, 1, 1 }, { 0, 0, 0, "x" } },
  } do
    it(row[1], function()
      assert.equal(row[2], usable(table.unpack(row, 3)))
    end)
  end

  it("and no more than a number of them", function()
    local records = {}
    for i = 1, 1000 do
      records[i] = { usage = 3, selector = 1, mtype = 1, data = octets[A] }
    end
    assert.equal(64, #dane.usable(records))
  end)
end)
