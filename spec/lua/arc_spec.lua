local core = require "moonpost.core"
local moonpost = require "moonpost"
local wired = require "spec.support.wired"

local arc = moonpost.arc
local ED, RSA = moonpost.dkim.keygen "ed25519", moonpost.dkim.keygen("rsa", 2048)
local NOW = 1767225600
local MESSAGE = "From: ann@example.net\r\nTo: list@lists.example\r\nSubject: Hi\r\n\r\nHello.\r\n"

local function zone(more)
  local names = {
    ["e._domainkey.lists.example"] = { TXT = ED.record },
    ["r._domainkey.hop.example"] = { TXT = RSA.record },
  }
  for name, entry in pairs(more or {}) do
    names[name] = entry
  end
  return moonpost.dns.zone(names)
end

local lists = { domain = "lists.example", selector = "e", key = ED.private, time = NOW, results = "dmarc=pass header.from=example.net" }
local hop = { domain = "hop.example", selector = "r", key = RSA.private, time = NOW, results = { { method = "spf", result = "none" } } }

-- Sealed by each in turn.
local function sealed(octets, ...)
  for _, how in ipairs { ... } do
    local options = { dns = zone() }
    for name, value in pairs(how) do
      options[name] = value
    end
    octets = assert(arc.seal(octets, options))
  end
  return octets
end

local function verify(octets, more)
  return assert(arc.verify(octets, { dns = zone(more), time = NOW }))
end

describe("moonpost.arc", function()
  it("finds no chain where there is none", function()
    assert.same({ result = "none", instance = 0, sets = {} }, verify(MESSAGE))
    assert.equal("none", verify("").result)
  end)

  it("reads what it has sealed, with either kind of key", function()
    local chain = verify(sealed(MESSAGE, lists, hop))
    assert.equal("pass", chain.result)
    assert.equal(2, chain.instance)
    assert.equal(0, chain.oldest_pass)
    assert.equal("lists.example", chain.sets[1].domain)
    assert.equal("none", chain.sets[1].cv)
    assert.equal("hop.example", chain.sets[2].domain)
    assert.equal("pass", chain.sets[2].cv)
    assert.equal(NOW, chain.sets[2].time)
    assert.equal("lists.example", chain.sets[1].results.id)
    assert.equal("dmarc", chain.sets[1].results.results[1].method)
  end)

  it("says from which set on the message is as it was", function()
    local changed = sealed(MESSAGE, lists):gsub("Subject: Hi", "Subject: [x] Hi")
    assert.equal("fail", verify(changed).result)
    local chain = verify(sealed(changed, { domain = "hop.example", selector = "r", key = RSA.private, time = NOW, results = "spf=none", chain = "pass" }))
    assert.equal("pass", chain.result)
    assert.equal(2, chain.oldest_pass)
  end)

  it("goes on from its own Authentication-Results, and from what came in where they say nothing", function()
    local octets = sealed(MESSAGE, lists)
    local ours = "Authentication-Results: hop.example; arc=fail;\r\n spf=pass (a; \"b) smtp.mailfrom=x@example.net\r\n" .. octets
    local how = { domain = "hop.example", selector = "r", key = RSA.private, time = NOW, dns = zone() }
    local chain = verify(assert(arc.seal(ours, how)))
    assert.equal("fail", chain.result)
    assert.is_true(chain.ended)
    assert.equal("fail", chain.sets[2].cv)
    chain = verify(assert(arc.seal(octets, how)))
    assert.equal("pass", chain.result)
    assert.same({}, chain.sets[2].results.results)
  end)

  it("adds nothing to a chain that somebody found broken, nor to one that is full", function()
    local broken = sealed(MESSAGE:gsub("Hi", "Ho"), lists):gsub("Ho", "Hi")
    local ended = sealed(broken, hop)
    local chain = verify(ended)
    assert.equal("fail", chain.result)
    assert.equal(2, chain.instance)
    local same, err, instance = arc.seal(ended, lists)
    assert.equal(ended, same)
    assert.is_nil(err)
    assert.is_nil(instance)
    local octets = MESSAGE
    for i = 1, 50 do
      octets = ("ARC-Seal: i=%d; a=rsa-sha256; cv=pass; d=x.example; s=s; b=AAAA\r\n"):format(i) .. octets
    end
    assert.equal(octets, (arc.seal(octets, lists)))
  end)

  it("tells nobody's silence from a broken chain", function()
    local octets = sealed(MESSAGE, lists)
    local chain = verify(octets, { ["e._domainkey.lists.example"] = { fail = "timeout" } })
    assert.equal("fail", chain.result)
    assert.is_true(chain.temporary)
    chain = verify(octets, { ["e._domainkey.lists.example"] = {} })
    assert.equal("fail", chain.result)
    assert.is_nil(chain.temporary)
    assert.matches("there is no such key", chain.reason)
  end)

  it("holds no chain that is not whole, in order, and no longer than fifty sets", function()
    local octets = sealed(MESSAGE, lists, hop)
    local function without(name, i)
      return (octets:gsub(name:gsub("%-", "%%-") .. ": i=" .. i .. "[^\n]*\n", ""))
    end
    assert.equal("fail", verify(without("ARC-Authentication-Results", 1)).result)
    assert.matches("not complete", verify(without("ARC-Authentication-Results", 1)).reason)
    local twice = octets:match "^ARC%-Seal:.-\r\nARC" :sub(1, -4) .. octets
    assert.matches("twice", verify(twice).reason)
    for _, value in ipairs { "0", "51", "-1", "1x", "01 2", "99999999999999999999" } do
      assert.equal("fail", verify(("ARC-Seal: i=%s; a=rsa-sha256; cv=none; d=x.example; s=s; b=AAAA\r\n"):format(value) .. MESSAGE).result, value)
    end
    local many = {}
    for i = 1, 200 do
      many[i] = "ARC-Authentication-Results: i=1; x\r\n"
    end
    assert.matches("more than 50 sets", verify(table.concat(many) .. MESSAGE).reason)
  end)

  it("covers no seal with a signature (RFC 8617 4.1.2)", function()
    assert.error_matches(function()
      arc.seal(MESSAGE, { domain = "a.example", selector = "s", key = ED.private, headers = { "From", "ARC-Seal" } })
    end, 'arc%.seal: headers: "ARC%-Seal" is nothing that a signature of ARC covers')
  end)

  it("signs as it is told, and names that are there twice are signed twice", function()
    local octets = sealed("Received: a\r\nReceived: b\r\n" .. MESSAGE, {
      domain = "lists.example", selector = "e", key = ED.private, headers = { "From", "Received" }, canonicalization = "simple/simple",
      results = "none",
    })
    assert.truthy(octets:find("h=From:Received:Received;", 1, true))
    assert.equal("pass", verify(octets).result)
    assert.equal("fail", verify((octets:gsub("Received: a", "Received: c"))).result)
  end)

  it("folds what it writes", function()
    local octets = sealed(MESSAGE, { domain = ("a"):rep(60) .. ".example", selector = ("s"):rep(60), key = ED.private, results = "none" })
    for line in octets:gmatch "[^\r\n]+" do
      assert.is_true(#line <= 160, line)
    end
  end)

  it("takes a message of a session, whose header is edited in place", function()
    local after, err, instance
    local house = wired.new({ domains = "lists.example" }, function(server)
      server.on.message = function(_, message)
        message:replace("Subject", "[list] Hi")
        local _
        _, err, instance = arc.seal(message, { domain = "lists.example", selector = "e", key = core.dkim_key(ED.private), results = "none" })
        after = message:octets()
        message:discard "spec"
      end
    end)
    house:session():send("ann@example.net", "list@lists.example", MESSAGE:gsub("\r\n$", ""))
    wired.release_log()
    assert.is_nil(err)
    assert.equal(1, instance)
    assert.matches("^ARC%-Seal: .-\nARC%-Message%-Signature: .-\nARC%-Authentication%-Results: i=1; lists%.example; none\r\n", after)
    assert.equal("pass", verify(after).result)
  end)

  it("writes a result", function()
    local written = moonpost.authres.format { id = "mx.example", results = { arc.authres(verify(sealed(MESSAGE, lists))) } }
    assert.equal("mx.example;\r\n\tarc=pass (i=1) header.oldest-pass=0 header.d=lists.example header.s=e", written)
    assert.equal("none", arc.authres(verify(MESSAGE)).result)
    assert.equal("the seal of instance 1: it does not hold", arc.authres(verify((sealed(MESSAGE, lists):gsub("pass header", "fail header")))).reason)
  end)

  it("refuses options that make no sense, at the caller's line", function()
    local good = { domain = "a.example", selector = "s", key = ED.private }
    for name, value in pairs { domain = "a b", selector = 7, key = {}, chain = "x", results = 7, headers = 7, canonicalization = "x", dns = {}, more = 1 } do
      local options = { [name] = value }
      for key, other in pairs(good) do
        options[key] = options[key] == nil and other or options[key]
      end
      local ok, err = pcall(function()
        local octets = arc.seal(MESSAGE, options) -- no tail call
        return octets
      end)
      assert.is_false(ok, name)
      assert.matches("arc_spec%.lua:%d+: arc%.seal: ", err)
    end
    for name in pairs(good) do
      local options = { domain = "a.example", selector = "s", key = ED.private }
      options[name] = nil
      assert.error_matches(function() arc.seal(MESSAGE, options) end, "arc%.seal: " .. name .. ": missing")
    end
    assert.error_matches(function() arc.seal(MESSAGE) end, "arc%.seal: a table of options expected")
    assert.error_matches(function() arc.verify(7) end, "arc%.verify: a message or its octets expected")
    local none, err = arc.seal(MESSAGE, { domain = "a.example", selector = "s", key = "/nowhere/key.pem" })
    assert.is_nil(none)
    assert.equal("key", err.kind)
  end)
end)

describe("moonpost.core: what ARC is made of", function()
  it("reads tags, and where b= has its value", function()
    local tags, first, last = core.dkim_tags " a=1; b = x y ;c="
    assert.same({ a = "1", b = "x y", c = "" }, tags)
    assert.equal(" x y ", (" a=1; b = x y ;c="):sub(first, last))
    assert.is_nil((core.dkim_tags "a=1; a=2"))
    assert.same({}, core.dkim_tags "")
  end)

  it("signs digests, and checks signatures", function()
    local key, public = core.dkim_key(ED.private), core.dkim_record(ED.record)
    local digest = core.dkim_digest "x"
    local signature = key:sign(digest)
    assert.is_true(public:verify(digest, signature:gsub("(.)", "%1 ", 9)))
    assert.is_false(public:verify(core.dkim_digest "y", signature))
    assert.is_false(public:verify(digest, "%%%"))
    assert.is_nil((public:sign(digest)))
    assert.has_error(function() key:sign "short" end)
  end)

  it("closes fields, and says so", function()
    local fields = core.dkim_fields(MESSAGE, false)
    assert.same({ "To: list@lists.example\r\n" }, fields:list "To:Cc")
    fields:close()
    fields:close()
    assert.error_matches(function() fields:list "To" end, "fields are closed")
  end)
end)
