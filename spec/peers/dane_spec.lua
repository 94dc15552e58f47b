-- DANE against zones that a real name server serves, signed here, with their keys as trust anchors.
local dane = require "moonpost.dane"
local dns = require "moonpost.dns"
local nameserver = require "spec.support.nameserver"
local route = require "moonpost.route"

local GOOD, OTHER = ("ab"):rep(32), ("cd"):rep(32)

describe("moonpost.dane, by signed zones", function()
  local it = nameserver.there and it or pending
  local server, names

  lazy_setup(function()
    if not nameserver.there then
      return
    end
    server = nameserver.start {
      ["good.example"] = { signed = true, records = table.concat({
        "@ MX 10 mx", "mx A 192.0.2.1", "_25._tcp.mx TLSA 3 1 1 " .. GOOD,
        "ta MX 10 mxta", "mxta A 192.0.2.2", "_25._tcp.mxta TLSA 2 0 1 " .. GOOD,
        "bare MX 10 mxbare", "mxbare A 192.0.2.3",
        "pkix MX 10 mxpkix", "mxpkix A 192.0.2.4", "_25._tcp.mxpkix TLSA 1 1 1 " .. GOOD,
        "out MX 10 mx.plain.example.",
        "alias MX 10 mxalias", "mxalias CNAME host.plain.example.", "_25._tcp.mxalias TLSA 3 1 1 " .. OTHER,
        "inner MX 10 mxinner", "mxinner CNAME mx", "_25._tcp.mxinner TLSA 3 1 1 " .. OTHER,
        "wild MX 10 any.wild", "*.wild A 192.0.2.5", "*.wild TLSA 3 1 1 " .. GOOD,
        "indirect MX 10 mxindirect", "mxindirect A 192.0.2.6", "_25._tcp.mxindirect CNAME _dane",
        "_dane TLSA 3 1 1 " .. GOOD,
      }, "\n") .. "\n" },
      ["plain.example"] = { records = "@ MX 10 mx.good.example.\nmx A 192.0.2.7\nhost A 192.0.2.8\n"
        .. "_25._tcp.mx TLSA 3 1 1 " .. GOOD .. "\n_25._tcp.host TLSA 3 1 1 " .. GOOD .. "\n" },
      ["spoilt.example"] = { signed = true,
        records = "@ MX 10 mx\nmx A 192.0.2.9\n_25._tcp.mx TLSA 3 1 1 " .. GOOD .. "\n",
        change = function(text)
          return (text:gsub(GOOD, OTHER))
        end },
      ["late.example"] = { signed = "expired", records = "@ MX 10 mx\nmx A 192.0.2.10\n" },
    }
    names = dns.resolver(server:resolver())
  end)
  lazy_teardown(function()
    if server then
      server:stop()
    end
  end)

  local function find(domain)
    local found = assert(route.mx(domain, { dns = names }))
    return dane.find(found, found[1], { dns = names })
  end

  for _, row in ipairs {
    { "good.example", "usable", "mx.good.example" },
    { "ta.good.example", "usable", "mxta.good.example" },
    { "wild.good.example", "usable", "any.wild.good.example" },
    { "indirect.good.example", "usable", "mxindirect.good.example" },
    { "inner.good.example", "usable", "mx.good.example" },
    { "alias.good.example", "usable", "mxalias.good.example" },
    { "pkix.good.example", "unusable", "mxpkix.good.example" },
    { "bare.good.example", "none" },
    { "out.good.example", "none" },
    { "plain.example", "none" },
    { "spoilt.example", "deferred" },
  } do
    it(("%s: %s"):format(row[1], row[2]), function()
      local found = find(row[1])
      assert.same({ row[2], row[3] }, { found.state, found.base })
    end)
  end

  it("is held against both names under a DANE-TA record", function()
    assert.same({ "mxta.good.example", "ta.good.example" }, find("ta.good.example").names)
  end)

  it("takes the record where a signed alias leads before the alias's own", function()
    assert.equal(("\xab"):rep(32), find("inner.good.example").records[1].data)
    assert.equal(("\xcd"):rep(32), find("alias.good.example").records[1].data)
  end)

  it("finds no host at all where the signatures of its MX records have run out", function()
    local found, err = route.mx("late.example", { dns = names })
    assert.is_nil(found)
    assert.is_true(err.temporary)
  end)
end)
