local core = require "moonpost.core"
local dkim = require "moonpost.dkim"
local dns = require "moonpost.dns"
local wired = require "spec.support.wired"

local pair = dkim.keygen "ed25519"
local NAME = "one._domainkey.example.com"
local NOW = 1700000000
local plain = { domain = "example.com", selector = "one", key = pair.private, time = NOW }

local function with(more)
  local options = {}
  for _, from in ipairs { plain, more } do
    for name, value in pairs(from) do
      options[name] = value
    end
  end
  return options
end

local function message_of(body)
  return "From: ann@example.com\r\nTo: bob@example.org\r\nSubject: Hello\r\n\r\n" .. (body or "Hello!\r\n")
end

local function verify(octets, record, more)
  local options = { dns = dns.zone { [NAME] = type(record) == "string" and record:find "=" and { TXT = record } or record or { TXT = pair.record } },
    time = NOW }
  for name, value in pairs(more or {}) do
    options[name] = value
  end
  return assert(dkim.verify(octets, options))
end

-- The list at the end of h=, without its folding.
local function signed_names(octets)
  return (octets:gsub("\r\n%s+", ""):match "h=([^;]*);")
end

describe("moonpost.dkim: sign and verify", function()
  it("hold together, with everything that is known of a signature", function()
    local octets = assert(dkim.sign(message_of(), with { expires = "1d", identity = "ann@mail.example.com" }))
    local list = verify(octets)
    assert.equal(1, #list)
    assert.is_nil(list.more)
    local one = list[1]
    assert.equal(8, #one.signature)
    one.signature = nil
    assert.same({
      result = "pass", domain = "example.com", selector = "one", identity = "ann@mail.example.com", algorithm = "ed25519-sha256",
      canonicalization = "relaxed/relaxed", headers = { "From", "Subject", "To", "From", "Subject", "To" }, time = NOW,
      expires = NOW + 86400, key_bits = 256, testing = false,
    }, one)
  end)

  it("take several signatures, the first on top, of keys of both kinds", function()
    local rsa = dkim.keygen("rsa", 1024)
    local octets = assert(dkim.sign(message_of(), { with { canonicalization = "simple/simple" }, with { selector = "two", key = rsa.private } }))
    local list = assert(dkim.verify(octets, {
      dns = dns.zone { [NAME] = { TXT = pair.record }, ["two._domainkey.example.com"] = { TXT = rsa.record .. "; t=y" } }, time = NOW,
    }))
    assert.equal(2, #list)
    assert.same({ "pass", "one", "simple/simple", false }, { list[1].result, list[1].selector, list[1].canonicalization, list[1].testing })
    assert.same({ "pass", "two", 1024, true }, { list[2].result, list[2].selector, list[2].key_bits, list[2].testing })
  end)

  it("hash the body once for signatures that want it alike", function()
    local asked
    local hash = core.dkim_hash
    finally(function()
      core.dkim_hash = hash
    end)
    core.dkim_hash = function(...)
      asked = { ... }
      return hash(...)
    end
    local octets = assert(dkim.sign(message_of(), {
      plain, with { canonicalization = "simple/simple" }, with { canonicalization = "simple/relaxed" }, with { length = 5 },
    }))
    assert.same({ "relaxed", false, "simple", false, "relaxed", 5 }, asked)
    local forms = {}
    for i, one in ipairs(verify(octets, nil, { partial = true })) do
      forms[i] = ("%s %s %s"):format(one.result, one.canonicalization, one.length)
    end
    assert.same({ "pass relaxed/relaxed nil", "pass simple/simple nil", "pass simple/relaxed nil", "pass relaxed/relaxed 5" }, forms)
  end)

  it("have a ceiling for the header", function()
    local octets = "From: a@example.com\r\nX: " .. ("x"):rep(33 << 20) .. "\r\n\r\n"
    for _, name in ipairs { "verify", "sign" } do
      local ok, err = dkim[name](octets, name == "sign" and plain or nil)
      assert.is_nil(ok)
      assert.matches("the message's header is too long", tostring(err))
    end
  end)

  it("keep keys of records that are as long as keys are, and no others", function()
    local public = require("moonpost.dkim.keys").public
    assert.equal(public(pair.record), public(pair.record))
    local long = pair.record .. "; n=" .. ("x"):rep(2048)
    assert.not_equal(public(long), public(long))
  end)

  it("find nothing where nobody signed, and ask nobody", function()
    local source = dns.zone {}
    source._ask_all = function()
      error "asked"
    end
    assert.same({}, assert(dkim.verify(message_of(), { dns = source })))
  end)

  it("judge ten signatures, and ask for a key once", function()
    local octets = message_of()
    for _ = 1, 12 do
      octets = assert(dkim.sign(octets, with { oversign = { "From" } }))
    end
    local source = dns.zone { [NAME] = { TXT = pair.record } }
    local asked
    local ask_all = source._ask_all
    source._ask_all = function(self, questions)
      asked = #questions
      return ask_all(self, questions)
    end
    local list = assert(dkim.verify(octets, { dns = source, time = NOW }))
    assert.equal(10, #list)
    assert.equal(2, list.more)
    assert.equal(1, asked)
    for _, one in ipairs(list) do
      assert.equal("pass", one.result)
    end
  end)

  it("notice a change of the body, and of a field", function()
    local octets = assert(dkim.sign(message_of(), plain))
    assert.equal("the body has been changed", verify(octets .. "P.S.\r\n")[1].reason)
    local one = verify((octets:gsub("Subject: Hello", "Subject: Other")))[1]
    assert.same({ "fail", "the signature does not hold" }, { one.result, one.reason })
  end)

  it("say what became of the question for the key", function()
    local octets = assert(dkim.sign(message_of(), plain))
    for _, case in ipairs {
      { "servfail", "temperror", "nobody could answer the question for the key" },
      { "timeout", "temperror", "no answer in time to the question for the key" },
      { "bogus", "temperror", "the answer to the question for the key is forged" },
      { { A = "192.0.2.1" }, "permerror", "there is no such key" },
      { "v=DKIM1; p=", "permerror", "the key has been revoked" },
      { "v=spf1 -all=", "permerror", "the key record is malformed" },
      { { TXT = { "v=spf1 -all", "v=DKIM1; k=rsa; p=", pair.record } }, "pass" },
    } do
      local one = verify(octets, case[1])[1]
      assert.same({ case[2], case[3] }, { one.result, one.reason })
    end
  end)

  it("leave no octet of the body unsigned, unless that may be", function()
    local octets = assert(dkim.sign(message_of(), with { length = 5 }))
    local one = verify(octets)[1]
    assert.same({ "policy", "3 octets of the body are not signed", 5 }, { one.result, one.reason, one.length })
    assert.equal("pass", verify(octets .. "more\r\n", nil, { partial = true })[1].result)
    assert.equal("pass", verify(assert(dkim.sign(message_of(), with { length = 1000 })))[1].result)
  end)

  it("let signatures end", function()
    local octets = assert(dkim.sign(message_of(), with { expires = 60 }))
    assert.equal("pass", verify(octets, nil, { time = NOW + 360 })[1].result)
    assert.equal("it has expired", verify(octets, nil, { time = NOW + 361 })[1].reason)
  end)
end)

describe("moonpost.dkim.sign", function()
  it("signs what it is told to, and once more", function()
    local function names(more)
      return signed_names(assert(dkim.sign(message_of(), with(more))))
    end
    assert.equal("From:Subject:To:From:Subject:To", names {})
    assert.equal("From:To:From:Subject:To", names { headers = { "From", "To", "Cc" } })
    assert.equal("From:From:Cc", names { headers = { "From" }, oversign = { "From", "Cc" } })
    assert.equal("From:From:Cc", names { headers = { "From", "Cc" }, oversign = true })
    assert.equal("From", names { headers = { "From" }, oversign = false })
  end)

  it("refuses what no signature can hold with", function()
    local octets, err = dkim.sign("To: a@example.org\r\n\r\n", plain)
    assert.is_nil(octets)
    assert.equal("message", err.kind)
    assert.matches("no From field", err.message)
    octets, err = dkim.sign("From: a@example.org\n\nHi\n", plain)
    assert.is_nil(octets)
    assert.equal("message", err.kind)
    assert.matches("have to end with CRLF", err.message)
  end)

  it("says which key cannot be read", function()
    local octets, err = dkim.sign(message_of(), with { key = "/nowhere/key.pem" })
    assert.is_nil(octets)
    assert.equal("key", err.kind)
    assert.matches("/nowhere/key.pem: No such file", err.message)
    local key
    key, err = dkim.key "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    assert.is_nil(key)
    assert.matches("no private key in PEM", err.message)
  end)

  it("reads a key from a file once", function()
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(pair.private)
    file:close()
    local signer = assert(dkim.signer(with { key = path }))
    os.remove(path)
    assert.equal("pass", verify(assert(dkim.sign(message_of(), signer)))[1].result)
    assert.equal("pass", verify(assert(dkim.sign(message_of(), with { key = path })))[1].result)
    assert.equal("pass", verify(assert(dkim.sign(message_of(), with { key = dkim.key(path) })))[1].result)
  end)

  it("raises for options that make no sense, at the caller's line", function()
    for text, more in pairs {
      ["domain: \"a b\" is no domain"] = { domain = "a b" },
      ["unknown option \"selectr\" (did you mean \"selector\"?)"] = { selectr = "x" },
      ["key: PEM"] = { key = 7 },
      ["headers: \"a:b\" is no name"] = { headers = { "a:b" } },
      ["oversign: true, false or a list"] = { oversign = 7 },
      ["oversign: \"a b\" is no name"] = { oversign = { "a b" } },
      ["headers: From has to be among them"] = { headers = { "To" }, oversign = false },
      ["headers: From has to be"] = { headers = { "To" }, oversign = { "To" } },
      ['identity: "user@example.com" or'] = { identity = "ann@example.org" },
      ['or "@example.com" expected'] = { identity = "ann@badexample.com" },
      ["canonicalization: one of"] = { canonicalization = "loose" },
      ["expires: a duration"] = { expires = "soon" },
      ["expires: it is too long"] = { expires = 1e15 },
      ["xxx\" is no name"] = { headers = { "From", ("x"):rep(201) } },
    } do
      local ok, err = pcall(dkim.sign, message_of(), with(more))
      assert.is_false(ok)
      assert.truthy(err:find(text, 1, true), err)
    end
    assert.error_matches(function() dkim.sign(message_of(), { domain = "example.com", key = pair.private }) end, "selector: missing")
    for _, misuse in ipairs {
      function() dkim.sign(7, plain) end, function() dkim.sign("", 7) end, function() dkim.signer(7) end, function() dkim.verify(7) end,
    } do
      local _, err = pcall(misuse)
      assert.matches("^spec/lua/dkim_spec.lua:%d+: dkim.%a+: a .- expected, got a number", err)
    end
    assert.error_matches(function() dkim.verify(message_of(), { dns = 7 }) end, "dkim.verify: dns: what dns.resolver")
    assert.error_matches(function() dkim.keygen "dsa" end, '^dkim%.keygen: "ed25519" or "rsa" expected, got "dsa"$')
  end)
end)

describe("moonpost.dkim in a hook", function()
  after_each(function()
    dns.use(nil)
    wired.release_log()
  end)

  -- Sends `octets` to a house whose hook is `hook(message)`; waits of the hook are let pass. Returns what it returned.
  local function through(octets, hook, options)
    dns.use(dns.zone { [NAME] = { TXT = pair.record } })
    local got
    local house = wired.new(options or { domains = "example.org" }, function(server)
      function server.on.message(_, message)
        got = table.pack(hook(message))
        message:discard "seen"
      end
    end)
    local peer = house:session()
    assert.matches("^250 ", (peer:send("ann@example.com", "bob@example.org", (octets:gsub("\r\n$", "")))))
    return table.unpack(got)
  end

  for name, body in pairs { ["a short one"] = "Hello!\r\n", ["one for the thread pool"] = ("0123456789 abcdef\r\n"):rep(20000) } do
    it("verifies a received message as it came, " .. name, function()
      local octets = assert(dkim.sign(message_of(body), with { canonicalization = "simple/simple" }))
      local list = through(octets, function(message)
        message:prepend("X-Seen", "yes")
        message:replace("Subject", "[changed] Hello")
        return assert(dkim.verify(message, { time = NOW }))
      end)
      assert.equal(1, #list)
      assert.equal("pass", list[1].result, list[1].reason)
    end)

    it("signs a received message as it stands, " .. name, function()
      local octets = through(message_of(body), function(message)
        message:replace("Subject", "[changed] Hello")
        assert.equal(message, assert(dkim.sign(message, with { canonicalization = "simple/simple" })))
        return message:octets()
      end)
      assert.matches("^DKIM%-Signature: v=1; ", octets)
      assert.matches("\r\nSubject: %[changed%] Hello\r\n", octets)
      assert.equal("pass", verify(octets)[1].result)
    end)
  end

  it("verifies a body that went into a file", function()
    local body = ("one two three four\r\n"):rep(40000)
    local list = through(assert(dkim.sign(message_of(body), plain)), function(message)
      return assert(dkim.verify(message, { time = NOW }))
    end, { domains = "example.org", limits = { body_memory = "16KB" } })
    assert.equal("pass", list[1].result, list[1].reason)
  end)
end)

describe("moonpost.core: what DKIM is made of", function()
  it("refuses to judge before there was a body, and after it is closed", function()
    local verifier = assert(core.dkim_verifier(assert(dkim.sign(message_of(), plain)), NOW, false))
    local key = assert(core.dkim_record(pair.record))
    assert.error_matches(function() verifier:judge(1, key) end, "the body comes first")
    assert.is_true(verifier:feed(message_of(), core.worker(), print))
    assert.error_matches(function() verifier:feed(message_of(), core.worker(), print) end, "it has had its body")
    verifier:judge(1, key)
    assert.equal("pass", verifier:signature(1).result)
    assert.error_matches(function() verifier:signature(2) end, "no such signature")
    verifier:close()
    assert.error_matches(function() verifier:count() end, "closed")
  end)

  -- A message of octets on the worker's own loop, and a verifier that waits for its body.
  local function waiting(done)
    local octets = assert(dkim.sign(message_of(("0123456789 abcdef\r\n"):rep(10000)), plain)) -- in memory, and not at once
    local message
    local made = core.worker():message(octets, "ann@example.com", "bob@example.org", "1", NOW, false, function(...)
      message = assert(...)
    end)
    while not (made or message) do
      core.worker():turn(true)
    end
    message = made or message
    local verifier = assert(core.dkim_verifier(message, NOW, false))
    assert.is_false(verifier:feed(message, core.worker(), done))
    message:close()
    return verifier
  end

  it("hashes a long body in the thread pool, whoever lets go of it meanwhile", function()
    local outcome
    local verifier = waiting(function(...)
      outcome = table.pack(...)
    end)
    assert.error_matches(function() verifier:count() end, "waits for the body")
    while not outcome do
      core.worker():turn(true)
    end
    assert.is_true(outcome[1])
    verifier:judge(1, assert(core.dkim_record(pair.record)))
    assert.equal("pass", verifier:signature(1).result)
  end)

  it("tells who closed a verifier that its body came to nothing", function()
    local outcome
    waiting(function(...)
      outcome = table.pack(...)
    end):close()
    while not outcome do
      core.worker():turn(true)
    end
    assert.same({ nil, "cancelled", "CANCELLED", n = 3 }, outcome)
  end)
end)
