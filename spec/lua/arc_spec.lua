local arc = require "moonpost.arc"
local core = require "moonpost.core"
local dkim = require "moonpost.dkim"
local dns = require "moonpost.dns"
local moonpost = require "moonpost"
local test = require "moonpost.test"

local NOW = 1700000000
local MESSAGE = "From: Ann <ann@example.net>\r\nTo: list@example.org\r\nSubject: Hello\r\n\r\nHello there!\r\n"
local keys = { rsa = dkim.keygen("rsa", 1024), ed25519 = dkim.keygen "ed25519" }
local zone = {
  ["rsa._domainkey.example.org"] = { TXT = keys.rsa.record },
  ["ed25519._domainkey.example.com"] = { TXT = keys.ed25519.record },
  ["gone._domainkey.example.org"] = "timeout",
}

local function seal(octets, options)
  local all = {
    domain = "example.org", selector = "rsa", key = keys.rsa.private, results = "mx.example.org; spf=pass", time = NOW, dns = dns.zone(zone),
  }
  for key, value in pairs(options or {}) do
    all[key] = value
  end
  return assert(arc.seal(octets, all))
end

local function verify(octets, names)
  return assert(arc.verify(octets, { dns = dns.zone(names or zone), time = NOW }))
end

-- A message that went through `count` hands, all of which sealed.
local function chain_of(count)
  local octets = MESSAGE
  for i = 1, count do
    octets = seal(octets, i % 2 == 0 and { domain = "example.com", selector = "ed25519", key = keys.ed25519.private } or nil)
  end
  return octets
end

describe("moonpost.arc", function()
  it("judges a message that nobody sealed", function()
    assert.same({ result = "none", instance = 0, sets = {} }, verify(MESSAGE))
  end)

  it("seals, again and again, with keys of both kinds, and judges what came of it", function()
    local found = verify(chain_of(3))
    assert.same({ "pass", 3, 0 }, { found.result, found.instance, found.oldest_pass })
    assert.same({ instance = 2, domain = "example.com", selector = "ed25519", chain = "pass", results = "mx.example.org; spf=pass",
      signature = "pass", seal = "pass" }, found.sets[2])
    assert.equal("none", found.sets[1].chain)
  end)

  it("says since when nothing has been changed", function()
    local changed = chain_of(2):gsub("Hello there", "Hello, there")
    local found = verify(seal(changed, { chain = "pass" }))
    assert.same({ "pass", 3, 3 }, { found.result, found.instance, found.oldest_pass })
    assert.equal("fail", found.sets[2].signature)
  end)

  for what, change in pairs {
    ["the body"] = function(octets) return (octets:gsub("there", "here")) end,
    ["a signed field"] = function(octets) return (octets:gsub("Subject: Hello", "Subject: Hullo")) end,
    ["what was found out"] = function(octets) return (octets:gsub("spf=pass", "spf=fail", 1)) end,
    ["a set that is gone"] = function(octets) return (octets:gsub("ARC%-Seal: .-i=1;.-\r\n(%u)", "%1", 1)) end,
    ["a field twice"] = function(octets) return octets:match "ARC%-Seal:.-\r\n%u" :sub(1, -2) .. octets end,
    ["cv= of a later set"] = function(octets) return (octets:gsub("cv=pass", "cv=none", 1)) end,
  } do
    it("fails over " .. what, function()
      local found = verify(change(chain_of(2)))
      assert.equal("fail", found.result)
      assert.is_string(found.reason)
      assert.is_nil(found.temporary)
    end)
  end

  it("says when it may pass later", function()
    local found = verify(seal(MESSAGE, { selector = "gone" }))
    assert.same({ "fail", true }, { found.result, found.temporary })
    assert.matches("no answer in time", found.reason)
    found = verify(seal(MESSAGE, { selector = "nowhere" }))
    assert.same({ "fail" }, { found.result, found.temporary })
    assert.matches("there is no such key", found.reason)
  end)

  it("seals a chain that fails here, and none that had failed before", function()
    local broken = chain_of(1):gsub("there", "here")
    local sealed = seal(broken)
    assert.matches("cv=fail", sealed)
    assert.equal("fail", verify(sealed).result)
    assert.matches("failed before", verify(sealed).reason)
    assert.equal(sealed, seal(sealed))
    local junk = "ARC-Seal: i=x\r\n" .. MESSAGE
    assert.equal(junk, seal(junk))
  end)

  it("takes fifty sets, and no more", function()
    local octets = chain_of(50)
    assert.equal("pass", verify(octets).result)
    assert.equal(octets, seal(octets))
    assert.equal("fail", verify((octets:gsub("i=50;", "i=51;"))).result)
  end)

  it("signs the fields that are named, and no seal", function()
    local octets = seal(MESSAGE, { headers = { "From", "Subject", "Absent" } })
    assert.matches("h=From:Subject;", octets)
    assert.has_error(function()
      arc.seal(MESSAGE, { domain = "example.org", selector = "s", key = keys.rsa.private, results = "x", headers = { "ARC-Seal" } })
    end)
  end)

  it("seals a message in a hook, above what it has become", function()
    local seen
    local policy = test.load(function()
      local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25", domains = "example.org" }
      function server.on.message(_, message)
        local found = assert(arc.verify(message))
        message:prepend("X-List", "yes")
        assert(arc.seal(message, { domain = "example.org", selector = "rsa", key = keys.rsa.private, chain = found,
          results = "mx.example.org; none", headers = { "From", "X-List" } }))
        seen = message.headers:get "ARC-Seal"
        local whole = assert(message:octets())
        message.meta.result = assert(arc.verify(whole)).result
        seen = seen and message.meta.result
        message:discard "spec"
      end
      return server
    end, { dns = zone })
    local reply = policy:session({ helo = "mail.example.com" }):send_message { from = "a@example.com", to = "b@example.org", data = MESSAGE }
    assert.equal(250, reply.code)
    assert.equal("pass", seen)
  end)

  it("agrees with the suite's readers about tags", function()
    assert.same({ a = "b", c = "d e" }, core.dkim_tags " a = b ;c=d e; ")
    assert.is_nil(core.dkim_tags "a=b; a=c")
    assert.is_nil(core.dkim_octets "a b")
    assert.equal("hello", core.dkim_octets "aGVs\r\n bG8=")
  end)

  it("names what is wrong with options", function()
    for text, options in pairs {
      ["arc.seal: key: missing"] = { domain = "example.org", selector = "s", results = "x" },
      ["arc.seal: results: missing"] = { domain = "example.org", selector = "s", key = keys.rsa.private },
      ["arc.seal: chain: "] = { domain = "example.org", selector = "s", results = "x", chain = "maybe" },
      ['"a b" is no domain'] = { domain = "a b", selector = "s", results = "x" },
    } do
      local _, err = pcall(function()
        local made = arc.seal(MESSAGE, options)
        return made
      end)
      assert.matches("^spec/lua/arc_spec.lua:%d+: ", err)
      assert.truthy(err:find(text, 1, true), err)
    end
    local octets, err = arc.seal(MESSAGE, { domain = "example.org", selector = "s", results = "x", key = "/nowhere/key.pem" })
    assert.same({ nil, "key" }, { octets, err.kind })
    octets, err = arc.seal((MESSAGE:gsub("\r\n", "\n")), { domain = "example.org", selector = "s", results = "x", key = keys.rsa.private })
    assert.same({ nil, "message" }, { octets, err.kind })
  end)
end)
