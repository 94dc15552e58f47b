local core = require "moonpost.core"
local moonpost = require "moonpost"

local SECRET, OLD = "a secret of 20 octets", "an older one, of 22 octets"
local DAY = 86400
local NOW = 1795387310

local function made(of)
  local given = { domain = "relay.example.org", secrets = SECRET }
  for key, value in pairs(of or {}) do
    given[key] = value
  end
  return moonpost.srs(given)
end

describe("moonpost.core", function()
  it("has HMAC-SHA256 (RFC 4231, case 2)", function()
    local hex = core.hmac("Jefe", "what do ya want for nothing?"):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
    assert.equal("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", hex)
  end)

  it("has random octets, as many as asked for", function()
    assert.equal(256, #core.random(256))
    assert.not_equal(core.random(16), core.random(16))
    assert.error_matches(function() core.random(0) end, "1 to 256")
    assert.error_matches(function() core.random(257) end, "1 to 256")
  end)
end)

describe("moonpost.srs", function()
  local srs = made { own = { "example.org", ".example.net" } }

  describe("forward", function()
    it("makes an address of ours that names the sender", function()
      assert.matches("^SRS0=[A-Z2-7]+=[A-Z2-7][A-Z2-7]=sender%.example=ann@relay%.example%.org$", srs:forward("ann@sender.example", NOW))
    end)

    it("leaves the null sender and our own domains alone", function()
      for _, sender in ipairs { "", "bob@example.org", "bob@EXAMPLE.ORG", "x@a.example.net", "x@b.a.example.net", "x@relay.example.org" } do
        assert.equal(sender, srs:forward(sender, NOW))
      end
      assert.matches("^SRS0=", srs:forward("x@example.net", NOW)) -- only what is below it is ours
      assert.matches("^SRS0=", srs:forward("x@notexample.org", NOW))
    end)

    it("turns what another forwarder has made into SRS1, and keeps its SRS0 whole", function()
      for _, separator in ipairs { "=", "+", "-" } do
        local theirs = ("SRS0%sHHHH=TT=sender.example=ann"):format(separator)
        local ours = srs:forward(theirs .. "@first.example", NOW)
        assert.matches("^SRS1=[A-Z2-7]+=first%.example=%" .. separator .. "HHHH=TT=sender%.example=ann@relay", ours)
        assert.equal(theirs .. "@first.example", srs:reverse(ours, NOW))
      end
    end)

    it("makes no chain of many forwarders: SRS1 names the first one", function()
      local second = moonpost.srs { domain = "second.example", secrets = OLD }
      local sender = "SRS0=HH=TT=s.example=ann@first.example"
      local twice = second:forward(sender, NOW)
      local thrice = srs:forward(twice, NOW)
      assert.matches("^SRS1=[A-Z2-7]+=first%.example==HH=TT=s%.example=ann@relay%.example%.org$", thrice)
      assert.equal(sender, srs:reverse(thrice, NOW))
    end)

    it("takes what only looks rewritten for the ordinary address that it is", function()
      for _, sender in ipairs { "SRS0@a.example", "srs0=x@a.example", "SRS1=a=b@a.example", "SRS1=h=h_h=x@a.example" } do
        local ours = srs:forward(sender, NOW)
        assert.matches("^SRS0=[A-Z2-7]+=..=a%.example=", ours)
        assert.equal(sender, srs:reverse(ours, NOW))
      end
    end)

    it("keeps quoted local parts and address literals", function()
      for _, sender in ipairs { '"ann lee"@a.example', [["a\"b"@a.example]], "ann@[192.0.2.1]", "a=b=c@a.example", '"a..b"@a.example' } do
        local ours = assert(srs:forward(sender, NOW))
        assert.truthy(core.mailbox(ours), ours)
        assert.equal(sender, srs:reverse(ours, NOW))
      end
    end)

    it("writes a domain in A-labels, so that every peer can carry it", function()
      local ours = srs:forward("ann@b\u{fc}cher.example", NOW)
      assert.matches("=xn%-%-bcher%-kva%.example=ann@", ours)
      assert.equal("ann@xn--bcher-kva.example", srs:reverse(ours, NOW))
    end)

    it("refuses what no local part can hold", function()
      local fits = ("a"):rep(64 - #"SRS0=123456=12=sender.example=")
      assert.equal(64 + #"@relay.example.org", #srs:forward(fits .. "@sender.example", NOW))
      local address, err = srs:forward(fits .. "a@sender.example", NOW)
      assert.is_nil(address)
      assert.equal("too_long", err.kind)
      assert.is_false(err.temporary)
      assert.matches("65 octets, 1 more", tostring(err))
    end)

    it("refuses what is no address, without repeating it", function()
      for _, sender in ipairs { "ann", "a b@c.example", "ann@c.example\r\nX: y", "@c.example", "a@" } do
        local address, err = srs:forward(sender, NOW)
        assert.is_nil(address)
        assert.equal("invalid", err.kind)
        assert.is_nil(tostring(err):find("ann", 1, true))
      end
    end)
  end)

  describe("reverse", function()
    local ours = srs:forward("Ann.Lee@Sender.example", NOW)

    it("gives the sender back", function()
      assert.equal("Ann.Lee@Sender.example", srs:reverse(ours, NOW))
      assert.equal("Ann.Lee@Sender.example", srs:reverse(ours:gsub("@.*", "@RELAY.Example.ORG"), NOW))
    end)

    it("tolerates a case that was folded on the way", function()
      assert.equal("ann.lee@sender.example", srs:reverse(ours:lower(), NOW))
      assert.equal("ANN.LEE@SENDER.EXAMPLE", srs:reverse(ours:upper(), NOW))
      local chained = srs:forward("SRS0=HH=TT=s.example=ann@first.example", NOW)
      assert.equal("SRS0=hh=tt=s.example=ann@first.example", srs:reverse(chained:lower(), NOW))
    end)

    it("refuses every address in which one character is another", function()
      local at = ours:find "@"
      for i = 6, at - 1 do
        local c = ours:sub(i, i)
        for _, other in ipairs { "X", "q", "2" } do
          if other:lower() ~= c:lower() and c ~= "=" and c ~= "." then
            local address, err = srs:reverse(ours:sub(1, i - 1) .. other .. ours:sub(i + 1), NOW)
            assert.is_nil(address)
            assert.equal("forged", err.kind)
          end
        end
      end
    end)

    it("refuses a hash of another length, and another secret's", function()
      local hash = ours:match "^SRS0=([^=]+)"
      for _, other in ipairs { hash:sub(1, -2), hash .. "A", hash:sub(1, 4), "=" .. hash } do
        local address, err = srs:reverse((ours:gsub("^SRS0=[^=]+", "SRS0=" .. other)), NOW)
        assert.is_nil(address)
        assert.is_true(err.kind == "forged" or err.kind == "malformed")
      end
      assert.equal("forged", select(2, made({ secrets = OLD }):reverse(ours, NOW)).kind)
    end)

    it("believes every secret, and signs with the first", function()
      local both = made { secrets = { SECRET, OLD } }
      local old = made { secrets = OLD }
      assert.equal("a@b.example", both:reverse(old:forward("a@b.example", NOW), NOW))
      assert.equal(made():forward("a@b.example", NOW), both:forward("a@b.example", NOW))
    end)

    it("expires by days, also where the count of days begins anew", function()
      local short = made { expire = "7d" }
      for _, day in ipairs { 0, 1, 500, 1020, 1023, 1024, 20000 } do
        local start = day * DAY + 3600
        local address = short:forward("a@b.example", start)
        for _, later in ipairs { -1, 0, 1, 7 } do
          assert.equal("a@b.example", short:reverse(address, start + later * DAY), later)
        end
        for _, later in ipairs { -2, 8, 100, 1000 } do
          assert.equal("expired", select(2, short:reverse(address, start + later * DAY)).kind)
        end
      end
      assert.matches("good for 7 days", tostring(select(2, short:reverse(short:forward("a@b.example", 0), 9 * DAY))))
    end)

    it("knows what is not its own, and what is not whole", function()
      for address, kind in pairs {
        ["bob@relay.example.org"] = "other", ["SRS0=a=b=c=d@elsewhere.example"] = "other", ["SRS2=a@relay.example.org"] = "other",
        [""] = "other", ["nonsense"] = "other", ["SRS0=@relay.example.org"] = "malformed", ["SRS0=a=b=c@relay.example.org"] = "malformed",
        ["SRS1=a=b@relay.example.org"] = "malformed", ["SRS1=a=b=c@relay.example.org"] = "malformed",
        ["SRS1=a=b==c@relay.example.org"] = "forged", ["SRS0=a=b=c=d@relay.example.org"] = "forged",
      } do
        local original, err = srs:reverse(address, NOW)
        assert.is_nil(original)
        assert.equal(kind, err.kind, address)
      end
    end)

    it("holds for every separator", function()
      for _, separator in ipairs { "=", "+", "-" } do
        local other = made { separator = separator }
        local address = other:forward("a@b.example", NOW)
        assert.equal("SRS0" .. separator, address:sub(1, 5))
        assert.equal("a@b.example", other:reverse(address, NOW))
        assert.equal("a@b.example", srs:reverse(address, NOW)) -- who changes it can still be written to
      end
    end)

    it("uses the clock where it is told no time", function()
      assert.equal("a@b.example", srs:reverse(srs:forward("a@b.example")))
    end)
  end)

  it("tells what looks like its own", function()
    assert.is_true(srs:matches("srs0=a@relay.example.org"))
    assert.is_false(srs:matches("srs0=a@example.org"))
    assert.is_false(srs:matches("bob@relay.example.org"))
  end)

  describe("options", function()
    local function refused(pattern, given)
      local ok, why = pcall(function()
        moonpost.srs(given)
      end)
      assert.is_false(ok)
      assert.matches("srs_spec.lua:%d+: moonpost.srs: " .. pattern, why)
      assert.is_nil(why:find("short", 1, true), "a secret in an error")
    end

    it("are checked at the caller's line", function()
      refused("a table of options expected", "x")
      refused('unknown option "secret" %(did you mean "secrets"%?%)', { domain = "a.example", secret = SECRET })
      refused("domain is needed", { secrets = SECRET })
      refused("secrets is needed", { domain = "a.example" })
      refused("secrets: at least one", { domain = "a.example", secrets = {} })
      refused("secrets: secret 2: at least 16 octets", { domain = "a.example", secrets = { SECRET, "short" } })
      refused("secrets: a list of strings expected$", { domain = "a.example", secrets = 7 })
      refused('domain: "a b" is no domain', { domain = "a b", secrets = SECRET })
      refused('own: "x y" is no domain', { domain = "a.example", secrets = SECRET, own = "x y" })
      refused("expire: 1 to 1000 days", { domain = "a.example", secrets = SECRET, expire = "5m" })
      refused("hash: 4 to 20", { domain = "a.example", secrets = SECRET, hash = 2 })
      refused('separator: one of "=", "%+", "%-"', { domain = "a.example", secrets = SECRET, separator = "_" })
      for verb, value in pairs { forward = 7, reverse = {} } do
        local _, why = pcall(function()
          srs[verb](srs, value)
        end)
        assert.matches(("srs_spec.lua:%%d+: srs:%s: an address expected, got a %s"):format(verb, type(value)), why)
      end
    end)

    it("keep their secrets out of sight", function()
      for _, value in pairs(srs) do
        assert.not_equal(SECRET, value)
      end
      assert.equal("moonpost.Srs: relay.example.org", tostring(srs))
    end)
  end)
end)
