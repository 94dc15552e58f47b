-- The resolver against a real name server (nsd), with zones signed by ldns.
local dns = require "moonpost.dns"
local nameserver = require "spec.support.nameserver"
local route = require "moonpost.route"
local task = require "moonpost.task"

if not nameserver.there then
  pending("nsd and ldnsutils are not unpacked: ./dev test does that")
  return
end

local long = {}
for i = 1, 20 do
  long[i] = ('"%s"'):format(("%02d"):format(i):rep(100))
end

local records = [[
@       MX 20 b.mx
@       MX 10 a.mx
@       TXT "v=spf1 " "-all"
a.mx    A 192.0.2.1
a.mx    A 192.0.2.2
a.mx    AAAA 2001:db8::1
b.mx    60 A 192.0.2.3
www     CNAME a.mx
*.wild  A 192.0.2.9
_25._tcp.a.mx TLSA 3 1 1 ]] .. ("ab"):rep(32) .. "\nlong TXT " .. table.concat(long, " ") .. "\n"

describe("moonpost.dns with a name server", function()
  local server, names

  setup(function()
    server = nameserver.start {
      ["secure.example"] = { signed = true, records = records .. "plain NS ns.invalid.\n" },
      ["plain.secure.example"] = { records = "@ MX 10 mx\nmx A 192.0.2.4\n_25._tcp.mx TLSA 3 1 1 00ff\n" },
      ["plain.example"] = { records = records },
      ["forged.example"] = { signed = true, records = records, change = function(text)
        return (text:gsub("192%.0%.2%.2", "192.0.2.66"):gsub("20 b%.mx", "5 b.mx"))
      end },
      ["expired.example"] = { signed = "expired", records = records },
      ["unsigned.example"] = { signed = true, records = "@ A 192.0.2.1\n", change = function(text)
        return (text:gsub("[^\n]*RRSIG[^\n]*\n", ""))
      end },
    }
    local options = server:resolver { timeout = "20s" }
    options.stubs["nowhere.example"] = server.address -- which refuses to answer for it
    names = dns.resolver(options)
  end)

  teardown(function()
    if server then
      server:stop()
    end
  end)

  it("says of a signed zone that it is secure", function()
    local answer = assert(names:mx "secure.example")
    assert.same({ { preference = 10, host = "a.mx.secure.example" }, { preference = 20, host = "b.mx.secure.example" },
      status = "secure", ttl = answer.ttl, name = "secure.example" }, answer)
    assert.is_true(answer.ttl > 0 and answer.ttl <= 300)
    assert.equal("2001:db8::1", names:aaaa("a.mx.secure.example")[1])
    local tlsa = names:tlsa "_25._tcp.a.mx.secure.example"
    assert.same({ usage = 3, selector = 1, mtype = 1, data = ("\xab"):rep(32) }, tlsa[1])
    assert.equal("secure", tlsa.status)
    assert.equal("v=spf1 -all", names:txt("secure.example")[1])
  end)

  it("says so of aliases and wildcards", function()
    local answer = names:a "www.secure.example"
    assert.equal(2, #answer)
    assert.equal("a.mx.secure.example", answer.name)
    assert.equal("secure", answer.status)
    assert.equal("a.mx.secure.example", names:cname("www.secure.example")[1])
    answer = names:a "any.wild.secure.example"
    assert.equal("192.0.2.9", answer[1])
    assert.equal("secure", answer.status)
  end)

  it("says so of what is not there", function()
    local answer = names:mx "no.secure.example"
    assert.is_true(answer.nxdomain)
    assert.equal("secure", answer.status)
    answer = names:tlsa "_25._tcp.b.mx.secure.example"
    assert.is_true(answer.nxdomain)
    assert.equal("secure", answer.status)
    answer = names:mx "a.mx.secure.example"
    assert.is_true(answer.nodata)
    assert.equal("secure", answer.status)
  end)

  it("says of what is not signed that it is insecure, below a signed zone too", function()
    for _, domain in ipairs { "plain.example", "plain.secure.example" } do
      local answer = assert(names:mx(domain))
      assert.equal("insecure", answer.status)
      assert.is_true(#answer >= 1)
      assert.equal("insecure", names:mx("no." .. domain).status)
    end
    assert.equal("insecure", names:tlsa("_25._tcp.mx.plain.secure.example").status)
  end)

  it("gives nothing of a zone whose records were changed", function()
    for method, name in pairs { mx = "forged.example", a = "a.mx.forged.example" } do
      local none, err = names[method](names, name)
      assert.is_nil(none)
      assert.equal("bogus", err.kind)
      assert.is_true(err.temporary)
      assert.matches("bogus: .", tostring(err))
    end
    assert.equal("secure", names:aaaa("a.mx.forged.example").status) -- what was not changed still holds
  end)

  it("gives nothing of a zone whose signatures are over, or missing", function()
    assert.equal("bogus", select(2, names:mx "expired.example").kind)
    assert.equal("bogus", select(2, names:a "unsigned.example").kind)
  end)

  it("tells a server that refuses from one that is silent", function()
    local none, err = names:mx "nowhere.example"
    assert.is_nil(none)
    assert.equal("servfail", err.kind)
  end)

  it("reads answers that are too long for UDP", function()
    local answer = assert(names:txt "long.plain.example")
    assert.equal(4000, #answer[1])
    assert.equal("0101", answer[1]:sub(1, 4))
  end)

  it("asks forwarders", function()
    local forwarded = dns.resolver { forwarders = server.address, trust_anchors = server.anchors, timeout = "20s" }
    assert.equal("secure", assert(forwarded:mx "secure.example").status)
    assert.equal("bogus", select(2, forwarded:mx "forged.example").kind)
  end)

  it("reads keys from a file", function()
    local path = server.dir:write("keys", table.concat(server.anchors, "\n") .. "\n")
    local options = server:resolver { root_key = path, timeout = "20s" }
    options.trust_anchors = nil
    assert.equal("secure", assert(dns.resolver(options):mx "secure.example").status)
    server.dir:write("keys", "; none\n") -- what is made now has no keys
    assert.equal("insecure", assert(dns.resolver(options):mx "secure.example").status)
  end)

  it("calls nothing secure without keys", function()
    local trusting = dns.resolver(server:resolver { trust_anchors = {}, timeout = "20s" })
    assert.equal("insecure", assert(trusting:mx "secure.example").status)
    assert.equal("insecure", assert(trusting:mx "forged.example").status)
  end)

  it("answers many at once", function()
    task.run(function()
      local asked = {}
      for i = 1, 300 do
        asked[i] = task.spawn(names.a, names, ("n%d.wild.secure.example"):format(i))
      end
      for _, one in ipairs(asked) do
        local answer = assert(one:join())
        assert.equal("192.0.2.9", answer[1])
        assert.equal("secure", answer.status)
      end
    end)
  end)

  it("routes", function()
    local found = assert(route.mx("secure.example", { dns = names }))
    assert.equal("a.mx.secure.example", found[1].host)
    assert.equal("2001:db8::1", found[1].addresses[1])
    assert.equal(3, #found[1].addresses)
    assert.is_true(found[1].secure)
    local _, err = route.mx("forged.example", { dns = names })
    assert.equal("4.4.3", err.enhanced)
    assert.equal("bogus", err.cause.kind)
  end)
end)
