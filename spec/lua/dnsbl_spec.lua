local dns = require "moonpost.dns"
local moonpost = require "moonpost"
local shared = require "moonpost.shared"
local task = require "moonpost.task"
local test = require "moonpost.test"

local names = {
  ["2.0.0.127.bl.example"] = { A = "127.0.0.2" },
  ["9.113.0.203.bl.example"] = { A = { "127.0.0.4", "127.0.0.2" }, TXT = "see https://bl.example/\r\n203.0.113.9", ttl = 60 },
  ["1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example"] = { A = "127.0.0.2" },
  ["*.parked.example"] = { A = "192.0.2.80" },
  ["*.busy.example"] = { A = "127.255.255.254" },
  ["*.late.example"] = "timeout",
  ["*.all.example"] = { A = "127.0.0.2" },
  ["bad.example.net.uri.example"] = { A = "127.0.0.2" },
  ["evil.example.uri.example"] = { A = "127.0.0.2" },
  ["test.uri.example"] = { A = "127.0.0.2" },
}

describe("moonpost.dnsbl", function()
  local before
  before_each(function()
    before = select(2, shared.isolate())
  end)
  after_each(function()
    shared.rejoin(before)
  end)

  local function lists(options)
    options.dns = options.dns or dns.zone(names)
    return moonpost.dnsbl(options)
  end

  -- A zone that counts, and answers a little later.
  local function counted()
    local source, asked = dns.zone(names), {}
    local ask = source._ask
    source._ask = function(self, name, kind)
      asked[#asked + 1] = name .. " " .. kind
      task.sleep(0.002)
      return ask(self, name, kind)
    end
    return source, asked
  end

  it("finds an address by its name in a list (RFC 5782 2.1, 2.4)", function()
    local found = lists({ zones = { { zone = "BL.example.", reason = true } } }):check "203.0.113.9"
    assert.same({ listed = true, failed = {}, hits = { { zone = "bl.example", codes = { "127.0.0.2", "127.0.0.4" },
      reason = "see https://bl.example/??203.0.113.9" } } }, found)
    assert.is_true(lists({ zones = "bl.example" }):check("2001:db8::1").listed)
    assert.is_true(lists({ zones = "bl.example" }):check("::ffff:203.0.113.9").listed)
    assert.same({ listed = false, hits = {}, failed = {} }, lists({ zones = "bl.example" }):check "203.0.113.10")
  end)

  it("looks for the codes that count", function()
    assert.is_false(lists({ zones = { { zone = "bl.example", codes = "127.0.0.9" } } }):check("203.0.113.9").listed)
    assert.same({ "127.0.0.4" }, lists({ zones = { { zone = "bl.example", codes = { "127.0.0.4/30" } } } }):check("203.0.113.9").hits[1].codes)
  end)

  it("finds where links lead, by domain and by address", function()
    local uri = lists { zones = { "uri.example", "bl.example" } }
    local found = uri:links "http://a.example/ http://example.org/ see http://x.evil.example/ and http://203.0.113.9:8080/x"
    assert.same({ { "x.evil.example", "uri.example" }, { "203.0.113.9", "bl.example" } },
      { { found.hits[1].host, found.hits[1].zone }, { found.hits[2].host, found.hits[2].zone } })
    assert.equal(2, #found.hits)
    assert.same({ listed = false, hits = {}, failed = {} }, uri:links "nothing here")
  end)

  it("finds a domain", function()
    local uri = lists { zones = "uri.example" }
    assert.is_true(uri:domain("Bad.Example.NET").listed)
    assert.is_false(uri:domain("good.example.net").listed)
    assert.is_false(uri:domain("no name").listed)
    assert.is_false(uri:domain("192.0.2.1").listed)
    assert.is_false(uri:domain(("abcdefg."):rep(30) .. "example").listed)
  end)

  it("believes no list that is none, or does not answer us", function()
    local found = lists({ zones = { "parked.example", "busy.example", "late.example", "bl.example" } }):check "203.0.113.9"
    assert.is_true(found.listed)
    assert.equal("bl.example", found.hits[1].zone)
    assert.is_nil(found.hits[2])
    assert.same({ "parked.example", "busy.example", "late.example" },
      { found.failed[1].zone, found.failed[2].zone, found.failed[3].zone })
    assert.matches("192.0.2.80", found.failed[1].problem)
    assert.matches("127.255.255.254", found.failed[2].problem)
    assert.matches("no answer in time", found.failed[3].problem)
  end)

  it("fails open, or closed", function()
    assert.is_false(lists({ zones = "late.example" }):check("203.0.113.9").listed)
    local found = lists({ zones = "late.example", fail = "closed" }):check "203.0.113.9"
    assert.is_true(found.listed)
    assert.same({}, found.hits)
  end)

  it("asks equal questions once, and keeps the answers", function()
    local source, asked = counted()
    local two = lists { zones = { "bl.example", "uri.example" }, dns = source }
    task.run(function()
      local tasks = {}
      for i = 1, 10 do
        tasks[i] = task.spawn(two.check, two, "203.0.113.9")
      end
      for _, one in ipairs(tasks) do
        assert.is_true(one:join().listed)
      end
    end)
    assert.equal(2, #asked)
    assert.is_true(two:check("203.0.113.9").listed)
    assert.is_true(lists({ zones = "bl.example", dns = source }):check("203.0.113.9").listed) -- of all workers
    assert.equal(2, #asked)
  end)

  it("goes on for others when who asked first is gone", function()
    local source, asked = counted()
    local one = lists { zones = "bl.example", dns = source }
    task.run(function()
      local first = task.spawn(one.check, one, "203.0.113.9")
      local second = task.spawn(one.check, one, "203.0.113.9")
      task.sleep(0)
      first:cancel()
      assert.is_true(second:join().listed)
    end)
    assert.equal(1, #asked)
  end)

  it("keeps no failure", function()
    local source = dns.zone(names)
    local one = lists { zones = "late.example", dns = source }
    assert.equal(1, #one:check("203.0.113.9").failed)
    source._ask = function()
      return { "127.0.0.2", ttl = 60 }
    end
    assert.is_true(one:check("203.0.113.9").listed)
  end)

  it("is over in time, and clean when a look-up raises", function()
    local source = dns.zone(names)
    source._ask = function()
      task.sleep(0.05)
      return { ttl = 1 }
    end
    local found = lists({ zones = { "bl.example" }, dns = source, timeout = "5ms" }):check "203.0.113.9"
    assert.same({ { zone = "bl.example", problem = "no answer in time" } }, found.failed)
    local broken = lists { zones = "other.example", dns = source }
    source._ask = function()
      error("broken", 0)
    end
    local ok, err = pcall(broken.check, broken, "203.0.113.9")
    assert.is_false(ok)
    assert.truthy(tostring(err):find("broken", 1, true))
    source._ask = function()
      return { ttl = 1 }
    end
    assert.is_false(broken:check("203.0.113.9").listed)
    task.run(task.sleep, 0.06)
  end)

  it("tells lists that work from others (RFC 5782 5)", function()
    local results = lists({ zones = { "bl.example", "all.example", "gone.example", "parked.example", "late.example" } }):probe()
    assert.same({ true, false, false, false, false },
      { results[1].ok, results[2].ok, results[3].ok, results[4].ok, results[5].ok })
    assert.equal("lists everything", results[2].problem)
    assert.equal("lacks the entry that every list has", results[3].problem)
    assert.is_true(lists({ zones = "uri.example" }):probe(true)[1].ok)
  end)

  it("refuses options that make no sense, at the caller's line", function()
    for text, given in pairs {
      ['dnsbl: zones: a domain name expected, got "a b"'] = "a b",
      ["zones: a domain name expected, got none"] = { zones = { { codes = "127.0.0.2" } } },
      ["zones: a list of zones expected; one table of"] = { zones = { zone = "bl.example", codes = "127.0.0.2" } },
      ['unknown option "zones.code" (did you mean'] = { zones = { { zone = "bl.example", code = "127.0.0.2" } } },
      ["zones.reason: true or false"] = { zones = { { zone = "bl.example", reason = "yes" } } },
      ["dnsbl: zones: a list of zones expected"] = { zones = {} },
      ['zones.codes: "127" is no IPv4 address'] = { zones = { { zone = "bl.example", codes = "127" } } },
      ['unknown option "zone" (did you mean "zones"?)'] = { zone = "bl.example" },
      ["fail: one of"] = { zones = "bl.example", fail = "shut" },
    } do
      local ok, err = pcall(function()
        local made = moonpost.dnsbl(given)
        return made
      end)
      assert.is_false(ok)
      assert.matches("^spec/lua/dnsbl_spec%.lua:%d+: ", err)
      assert.truthy(err:find(text, 1, true), err)
    end
  end)
end)

describe("moonpost.plugins.dnsbl", function()
  local function load(options, given)
    return test.load(function()
      local all = { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25", domains = "example.org" }
      for key, value in pairs(given or {}) do
        all[key] = value
      end
      local server = moonpost.server(all)
      server:use(require "moonpost.plugins.dnsbl"(options))
      return server
    end, { dns = names })
  end

  local function answer(policy, how)
    how = how or {}
    local peer = policy:session { ip = how.ip or "203.0.113.9", helo = how.helo or "mail.example.com" }
    peer:mail(how.from or "a@example.com")
    return peer:rcpt(how.to or "bob@example.org")
  end

  it("refuses who is listed", function()
    local policy = load { zones = { { zone = "bl.example", reason = true } } }
    local reply = answer(policy)
    assert.equal("5.7.1", reply.enhanced)
    assert.equal("Client host 203.0.113.9 is listed by bl.example: see https://bl.example/??203.0.113.9", reply.text)
    assert.equal(250, answer(policy, { ip = "203.0.113.10" }).code)
  end)

  it("refuses mail of domains that are listed, by sender and by HELO", function()
    local policy = load { domains = "uri.example" }
    assert.equal("Domain bad.example.net is listed by uri.example", answer(policy, { from = "a@bad.example.net" }).text)
    assert.equal(550, answer(policy, { helo = "bad.example.net", from = "" }).code)
    assert.equal(250, answer(policy).code)
  end)

  it("refuses mail whose links lead to what is listed", function()
    local policy = load { links = "uri.example" }
    local function send(body)
      local peer = policy:session { ip = "203.0.113.9", helo = "mail.example.com" }
      return peer:send_message { from = "a@example.com", to = "bob@example.org", data = "Subject: x\r\nContent-Type: text/html\r\n\r\n" .. body }
    end
    local reply = send '<a href="http://shop.evil.example/?x=1">here</a>\r\n'
    assert.equal("Where a link leads: shop.evil.example is listed by uri.example", reply.text)
    assert.matches("^Nobody takes this message", send('<a href="http://good.example/">here</a>\r\n').text) -- none of ours
  end)

  it("asks whom it is told to", function()
    local policy = load { zones = "own.example", dns = moonpost.dns.zone { ["9.113.0.203.own.example"] = { A = "127.0.0.2" } } }
    assert.equal("Client host 203.0.113.9 is listed by own.example", answer(policy).text)
  end)

  it("lets everybody write to the postmaster, and relays and the exempt to all", function()
    local policy = load({ zones = "all.example", exempt = "198.51.100.0/24" }, { relay = { networks = { "10.0.0.0/8" } } })
    assert.equal(550, answer(policy).code)
    assert.equal(250, answer(policy, { to = "Postmaster@example.org" }).code)
    assert.equal(550, answer(policy, { to = "postmasters@example.org" }).code)
    assert.equal(250, answer(policy, { ip = "198.51.100.7" }).code)
    assert.equal(250, answer(policy, { ip = "10.1.2.3" }).code)
  end)

  it("lets mail in when a list does not answer, or asks to come back", function()
    local policy = load { zones = "late.example" }
    assert.equal(250, answer(policy).code)
    assert.equal(250, answer(policy).code)
    assert.equal(1, #policy:logged "a list cannot be asked") -- a minute
    policy:advance "61s"
    assert.equal(250, answer(policy).code)
    assert.equal(2, #policy:logged "a list cannot be asked")
    local reply = answer(load { zones = "late.example", fail = "closed" })
    assert.same({ 451, "4.7.1" }, { reply.code, reply.enhanced })
  end)

  it("refuses options that make no sense, at the policy's line", function()
    local plugin = require "moonpost.plugins.dnsbl"
    for text, options in pairs {
      ["dnsbl: zones, domains or links are needed"] = {},
      ['dnsbl: exempt: "here" is no network'] = { zones = "bl.example", exempt = "here" },
      ["dnsbl: zones: a domain name expected"] = { zones = "a b" },
      ["dnsbl: domains.zone: a string expected"] = { domains = 7 },
      ["dnsbl: links: a domain name expected"] = { links = "a b" },
      ["dnsbl: dns: what dns.resolver"] = { zones = "bl.example", dns = "192.0.2.53" },
      ["dnsbl: a table of options expected"] = "bl.example",
    } do
      local _, err = pcall(function()
        local made = plugin(options)
        return made
      end)
      assert.matches("dnsbl_spec.lua:%d+: ", err)
      assert.truthy(err:find(text, 1, true), err)
    end
  end)
end)
