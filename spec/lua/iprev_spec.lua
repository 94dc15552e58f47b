local dns = require "moonpost.dns"
local iprev = require "moonpost.iprev"

local function find(names, ip)
  return iprev.check { ip = ip or "192.0.2.1", dns = dns.zone(names) }
end

describe("moonpost.iprev", function()
  it("passes with a name that leads back (RFC 8601 3)", function()
    local found = find { ["192.0.2.1"] = { PTR = { "other.example", "mail.example.net" } }, ["other.example"] = { A = "192.0.2.9" },
      ["mail.example.net"] = { A = { "192.0.2.2", "192.0.2.1" } } }
    assert.same({ result = "pass", ip = "192.0.2.1", name = "mail.example.net", names = { "mail.example.net" } }, found)
  end)

  it("compares addresses, not their texts", function()
    local names = { ["2001:db8::1"] = { PTR = "mail.example.net" }, ["mail.example.net"] = { AAAA = "2001:DB8:0:0::1", A = "192.0.2.1" } }
    assert.equal("pass", find(names, "2001:db8:0:0:0:0:0:1").result)
    names["192.0.2.1"] = { PTR = "mail.example.net" }
    assert.equal("pass", find(names, "::ffff:192.0.2.1").result)
  end)

  it("tells no name, a name of somebody else and a name that cannot be asked for", function()
    assert.equal("permerror", find({}).result)
    assert.equal("fail", find({ ["192.0.2.1"] = { PTR = "a.example" }, ["a.example"] = { A = "192.0.2.2" } }).result)
    assert.equal("fail", find({ ["192.0.2.1"] = { PTR = "a.example" } }).result)
    assert.equal("temperror", find({ ["192.0.2.1"] = { PTR = "a.example" }, ["a.example"] = "servfail" }).result)
    assert.equal("temperror", find({ ["192.0.2.1"] = "timeout" }).result)
  end)

  it("looks at ten names at most", function()
    local names, list = {}, {}
    for i = 1, 11 do
      list[i] = ("n%d.example"):format(i)
      names[list[i]] = { A = i == 11 and "192.0.2.1" or "192.0.2.2" }
    end
    names["192.0.2.1"] = { PTR = list }
    assert.equal("fail", find(names).result)
    names["n10.example"] = { A = "192.0.2.1" }
    assert.same({ "n10.example" }, find(names).names)
  end)

  it("refuses what is no address, at the caller's line", function()
    local ok, err = pcall(function()
      local found = iprev.check { ip = "mail.example.net" }
      return found
    end)
    assert.is_false(ok)
    assert.matches("^spec/lua/iprev_spec%.lua:%d+: iprev%.check: ip: an address expected", err)
  end)
end)
