local policies = require "moonpost.mtasts.policy"
local tlspolicy = require "moonpost.tlspolicy"

local RECORDS = { { usage = 3, selector = 1, mtype = 1, data = ("x"):rep(32) } }

local dane = {
  none = { state = "none", why = "no DANE: there are no signed TLSA records" },
  usable = {
    state = "usable", why = "DANE: TLSA records", base = "base.example.org", names = { "base.example.org", "example.org" },
    records = RECORDS,
  },
  unusable = { state = "unusable", why = "DANE: none can be used", base = "base.example.org" },
  deferred = { state = "deferred", why = "DANE: servfail" },
}

local function sts(mode, mx)
  local policy = assert(policies.parse(("version: STSv1\nmode: %s\nmx: %s\nmax_age: 86400\n"):format(mode, mx or "mx.example.org")))
  policy.domain = "example.org"
  return policy
end

local policy = {
  ["no policy"] = false,
  ["none"] = sts("none", "other.example.org"),
  ["testing"] = sts "testing",
  ["testing, not listed"] = sts("testing", "other.example.org"),
  ["enforce"] = sts "enforce",
  ["enforce, not listed"] = sts("enforce", "other.example.org"),
}

local function decide(level, found, sts_row, more)
  local wish = { host = "mx.example.org", level = level, dane = dane[found], sts = policy[sts_row] or nil }
  for name, value in pairs(more or {}) do
    wish[name] = value
  end
  return tlspolicy.decide(wish)
end

describe("moonpost.tlspolicy", function()
  -- asked for, DANE, MTA-STS -> level. RFC 7672 2.2 and 2.1.2; RFC 8461 2, 4.1 and 5.
  for _, row in ipairs {
    { nil, nil, "no policy", "opportunistic" },
    { nil, "none", "no policy", "opportunistic" },
    { nil, "usable", "no policy", "dane" },
    { nil, "unusable", "no policy", "required" },
    { nil, "deferred", "no policy", "refused" },

    { "opportunistic", "none", "none", "opportunistic" },
    { "opportunistic", "none", "testing", "opportunistic" },
    { "opportunistic", "none", "testing, not listed", "opportunistic" },
    { "opportunistic", "none", "enforce", "verified" },
    { "opportunistic", "none", "enforce, not listed", "refused" },
    { "opportunistic", "usable", "none", "dane" },
    { "opportunistic", "usable", "testing, not listed", "dane" },
    { "opportunistic", "usable", "enforce", "dane" },
    { "opportunistic", "usable", "enforce, not listed", "refused" },
    { "opportunistic", "unusable", "none", "required" },
    { "opportunistic", "unusable", "testing", "required" },
    { "opportunistic", "unusable", "enforce", "verified" },
    { "opportunistic", "unusable", "enforce, not listed", "refused" },
    { "opportunistic", "deferred", "none", "refused" },
    { "opportunistic", "deferred", "testing", "refused" },
    { "opportunistic", "deferred", "enforce", "refused" },
    { "opportunistic", "deferred", "enforce, not listed", "refused" },

    { "required", nil, "no policy", "required" },
    { "required", "none", "no policy", "required" },
    { "required", "usable", "no policy", "dane" },
    { "required", "unusable", "no policy", "required" },
    { "required", "deferred", "no policy", "refused" },
    { "required", "none", "testing", "required" },
    { "required", "none", "enforce", "verified" },
    { "required", "none", "enforce, not listed", "refused" },
    { "required", "deferred", "enforce", "refused" },

    { "verified", nil, "no policy", "verified" },
    { "verified", "none", "no policy", "verified" },
    { "verified", "usable", "no policy", "verified" },
    { "verified", "unusable", "no policy", "verified" },
    { "verified", "deferred", "no policy", "verified" },
    { "verified", "none", "enforce", "verified" },
    { "verified", "none", "enforce, not listed", "refused" },
    { "verified", "none", "testing, not listed", "verified" },

    { "dane", nil, "no policy", "refused" },
    { "dane", "none", "no policy", "refused" },
    { "dane", "usable", "no policy", "dane" },
    { "dane", "unusable", "no policy", "refused" },
    { "dane", "deferred", "no policy", "refused" },
    { "dane", "none", "enforce", "refused" },
    { "dane", "usable", "enforce", "dane" },
    { "dane", "usable", "enforce, not listed", "refused" },

    { "none", nil, "no policy", "none" },
    { "none", "usable", "enforce", "none" },
    { "none", "deferred", "enforce, not listed", "none" },
  } do
    it(("%s, DANE %s, MTA-STS %s: %s"):format(row[1] or "nothing asked", row[2] or "not looked for", row[3], row[4]), function()
      local decision = decide(row[1], row[2], row[3])
      assert.equal(row[4], decision.level)
      assert.is_string(decision.why)
      assert.is_nil(decision.why:find("\n", 1, true))
      assert.equal(row[4] == "opportunistic", decision.fallback)
      assert.equal(row[4] == "refused" and "4.7.5" or nil, decision.enhanced)
      assert.equal(row[4] == "dane", decision.tlsa ~= nil)
      assert.equal(row[4] == "verified" or row[4] == "dane", decision.names ~= nil)
      assert.equal(row[4] == "none" or row[4] == "refused", decision.sni == nil)
    end)
  end

  it("verifies where credentials are sent", function()
    local decision = decide(nil, nil, "no policy", { credentials = true })
    assert.same({ "verified", { "mx.example.org" }, "mx.example.org", "credentials are sent" },
      { decision.level, decision.names, decision.sni, decision.why })
  end)

  it("never sends credentials in clear after a handshake that failed", function()
    local decision = decide("opportunistic", nil, "no policy", { credentials = true })
    assert.same({ "opportunistic", false }, { decision.level, decision.fallback })
  end)

  it("hands on names, authorities, fingerprints and SNI that were given", function()
    local given = { names = { "a.example", "b.example" }, ca = "/ca.pem", pins = { "aa" }, sni = "c.example" }
    local decision = decide("verified", nil, "no policy", given)
    assert.same(given, { names = decision.names, ca = decision.ca, pins = decision.pins, sni = decision.sni })
  end)

  it("verifies the mail exchanger's own name where MTA-STS says so, and nothing else will do", function()
    local decision = decide(nil, "none", "enforce", { names = { "a.example" }, pins = { "aa" } })
    assert.same({ { "mx.example.org" }, "mx.example.org" }, { decision.names, decision.sni })
    assert.is_nil(decision.pins)
    assert.equal("mx.example.org is in the MTA-STS policy of example.org", decision.why)
  end)

  it("takes records, names and SNI from DANE", function()
    local decision = decide(nil, "usable", "no policy", { sni = "c.example", ca = "/ca.pem" })
    assert.same({ RECORDS, { "base.example.org", "example.org" }, "base.example.org" }, { decision.tlsa, decision.names, decision.sni })
    assert.is_nil(decision.ca)
    assert.equal("base.example.org", decide(nil, "unusable", "no policy").sni)
  end)

  it("says what a policy that is being tested would have said", function()
    assert.equal("mx.example.org is in the MTA-STS policy of example.org", decide(nil, "none", "testing").testing)
    assert.equal("mx.example.org is not in the MTA-STS policy of example.org", decide(nil, "usable", "testing, not listed").testing)
    assert.is_nil(decide(nil, "none", "enforce").testing)
  end)

  it("says why", function()
    assert.equal("nothing was asked for", decide(nil, "none", "no policy").why)
    assert.equal('"required" was asked for', decide("required", "none", "no policy").why)
    assert.equal("DANE: servfail", decide(nil, "deferred", "enforce").why)
    assert.equal("mx.example.org is not in the MTA-STS policy of example.org", decide("verified", nil, "enforce, not listed").why)
    assert.equal('"dane" was asked for: DANE: none can be used', decide("dane", "unusable", "no policy").why)
    assert.equal('"dane" was asked for: TLSA records were not looked for', decide("dane", nil, "no policy").why)
  end)

  for _, row in ipairs {
    { nil, false, true, true, true },
    { "opportunistic", false, true, true, true },
    { "required", false, true, true, true },
    { "verified", false, true, false, true },
    { "dane", false, true, true, true },
    { "none", false, true, false, false },
    { nil, true, true, false, true },
    { nil, false, false, false, false },
    { nil, true, false, false, false },
    { "dane", false, false, true, false },
    { "verified", true, false, false, false },
  } do
    it(("wants of %s%s%s: DANE %s, MTA-STS %s"):format(row[1] or "nothing asked", row[2] and ", credentials" or "",
      row[3] and ", by MX" or "", row[4], row[5]), function()
      assert.same({ row[4], row[5] }, { tlspolicy.wants(row[1], row[2], row[3]) })
    end)
  end

  -- RFC 8689 4.2.1. { asked for, DANE, MTA-STS, signed MX records, level }
  for _, row in ipairs {
    { nil, "usable", "no policy", true, "dane" },
    { nil, "unusable", "no policy", true, "verified" },
    { nil, "none", "no policy", true, "verified" },
    { nil, "none", "no policy", false, "refused" },
    { nil, "none", "enforce", false, "verified" },
    { nil, "none", "testing", false, "verified" },
    { nil, "none", "enforce, not listed", false, "refused" },
    { nil, "none", "testing, not listed", false, "refused" },
    { nil, "deferred", "enforce", true, "refused" },
    { "required", nil, "no policy", true, "verified" },
    { "opportunistic", nil, "no policy", true, "verified" },
    { "none", nil, "no policy", true, "verified" },
    { "none", "usable", "no policy", true, "dane" },
    { "none", "deferred", "no policy", true, "refused" },
    { "verified", nil, "no policy", true, "verified" },
    { "dane", "none", "no policy", true, "refused" },
  } do
    it(("under REQUIRETLS: %s, DANE %s, MTA-STS %s, MX records %s: %s"):format(row[1] or "nothing asked", row[2] or "not looked for",
      row[3], row[4] and "signed" or "not signed", row[5]), function()
      local decision = decide(row[1], row[2], row[3], { requiretls = true, unsigned = not row[4] })
      assert.equal(row[5], decision.level)
      assert.is_false(decision.fallback)
      assert.equal(row[5] ~= "refused", decision.names ~= nil)
    end)
  end

  it("wants to know of DANE and MTA-STS under REQUIRETLS whatever was asked for", function()
    assert.same({ true, true }, { tlspolicy.wants("none", false, true, true) })
    assert.same({ false, false }, { tlspolicy.wants("none", false, false, true) })
  end)

  it("raises for a level that there is not", function()
    assert.has_error(function() tlspolicy.decide { host = "a", level = "maybe" } end,
      "tlspolicy.decide: level: one of none, opportunistic, required, verified, dane expected, got maybe")
  end)
end)
