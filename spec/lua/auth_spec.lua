local moonpost = require "moonpost"
local test = require "moonpost.test"
local wired = require "spec.support.wired"

local KEY = moonpost.dkim.keygen "ed25519"
local SEAL = moonpost.dkim.keygen "ed25519"

-- A domain that mail comes from by 203.0.113.9 alone, signed; a list that forwards; and a domain that asks for nothing.
local function names()
  return {
    ["example.net"] = { TXT = "v=spf1 ip4:203.0.113.9 -all", A = "203.0.113.9" },
    ["mail.example.net"] = { A = "203.0.113.9", TXT = "v=spf1 a -all" },
    ["s1._domainkey.example.net"] = { TXT = KEY.record },
    ["_dmarc.example.net"] = { TXT = "v=DMARC1; p=reject" },
    ["_dmarc.soft.example"] = { TXT = "v=DMARC1; p=quarantine" },
    ["lists.example"] = { TXT = "v=spf1 ip4:198.51.100.7 -all" },
    ["s2._domainkey.lists.example"] = { TXT = SEAL.record },
    ["9.113.0.203.in-addr.arpa"] = { PTR = "mail.example.net" },
  }
end

local MESSAGE = "From: Ann <ann@example.net>\r\nTo: bob@example.org\r\nSubject: Hi\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\nHello.\r\n"

local function signed(octets)
  return assert(moonpost.dkim.sign(octets or MESSAGE, { domain = "example.net", selector = "s1", key = KEY.private }))
end

-- What auth.verify says of a message; and the message as it stands behind it.
local function verify(octets, how)
  how = how or {}
  local found, after
  local policy = test.load(function()
    local server = moonpost.server { hostname = "mx.example.org", listen = how.listen or "smtp://127.0.0.1:25", domains = "example.org" }
    server.on.message = function(session, message)
      found = moonpost.auth.verify(session, message, how.options)
      after = message:octets()
      message:discard "spec"
    end
    return server
  end, { dns = how.dns or names() })
  local peer = policy:session(how.peer or { ip = "203.0.113.9" })
  peer[how.listen and how.listen:find "lmtp" and "lhlo" or "ehlo"](peer, how.helo or "mail.example.net")
  assert.equal(250, peer:mail(how.sender or "ann@example.net").code)
  assert.equal(250, peer:rcpt("bob@example.org").code)
  local pending = peer:start_data(octets)
  if how.advance then
    policy:advance(how.advance)
  end
  pending:reply()
  assert(found, "the hook did not come to its end")
  policy:stop()
  return found, after
end

describe("moonpost.auth.verify", function()
  after_each(wired.release_log)

  it("says what everybody vouches for, in one header", function()
    local found = verify(signed())
    assert.equal("pass", found.spf.result)
    assert.equal("pass", found.helo.result)
    assert.equal("pass", found.iprev.result)
    assert.equal("pass", found.dkim[1].result)
    assert.equal("none", found.arc.result)
    assert.equal("pass", found.dmarc.result)
    assert.equal("none", found.disposition)
    assert.equal("example.net", found.from)
    local field = moonpost.authres.parse(found.header)
    assert.equal("mx.example.org", field.id)
    local said = {}
    for _, one in ipairs(field.results) do
      said[#said + 1] = one.method .. "=" .. one.result
    end
    assert.same({ "iprev=pass", "spf=pass", "spf=pass", "dkim=pass", "dmarc=pass" }, said)
    assert.equal("ann@example.net", field.results[2].properties["smtp.mailfrom"])
    assert.equal("example.net", field.results[4].properties["header.d"])
    assert.equal("example.net", field.results[5].properties["header.from"])
  end)

  it("does what the author's domain asks for where nobody vouches", function()
    local found = verify(MESSAGE, { peer = { ip = "192.0.2.1" } })
    assert.equal("fail", found.spf.result)
    assert.same({}, found.dkim)
    assert.equal("fail", found.dmarc.result)
    assert.equal("reject", found.disposition)
    assert.truthy(found.header:find("dkim=none", 1, true))
  end)

  it("looks at HELO where the reverse-path is empty (RFC 7489 3.1.2)", function()
    local found = verify(MESSAGE, { sender = "" })
    assert.equal("none", found.spf.result)
    assert.equal("pass", found.helo.result)
    assert.equal("pass", found.dmarc.result)
    assert.is_nil(found.header:find("smtp.mailfrom", 1, true))
  end)

  it("takes the Authentication-Results away that claim to be ours", function()
    local forged = "Authentication-Results: MX.example.org; dmarc=pass\r\nAuthentication-Results: other.example; spf=pass\r\n"
    local found, after = verify(forged .. MESSAGE)
    assert.equal(1, found.removed)
    assert.is_nil(after:find("MX.example.org; dmarc", 1, true))
    assert.truthy(after:find("other.example; spf=pass", 1, true))
  end)

  it("knows no SPF and no name where there is no address", function()
    local found = verify(signed(), { listen = "lmtp://unix:/run/moonpost.sock", peer = { unix = true }, helo = "localhost" })
    assert.equal("none", found.spf.result)
    assert.equal("none", found.iprev.result)
    assert.is_nil(found.ip)
    assert.equal("pass", found.dmarc.result) -- DKIM vouches
    assert.is_nil(found.header:find("spf=", 1, true))
    assert.is_nil(found.header:find("iprev=", 1, true))
  end)

  it("says that there is no author, or more than one", function()
    for _, from in ipairs { "", "From: a@example.net, b@example.com\r\n" } do
      local found = verify(from .. "Subject: x\r\n\r\nHello.\r\n")
      assert.equal("permerror", found.dmarc.result)
      assert.is_nil(found.from)
      assert.truthy(found.header:find("dmarc=permerror", 1, true))
      assert.is_nil(found.header:find("header.from", 1, true))
    end
  end)

  it("comes to a temporary error where the DNS does not answer", function()
    local dns = names()
    dns["_dmarc.example.net"] = { fail = "timeout" }
    assert.equal("temperror", verify(MESSAGE, { dns = dns }).dmarc.result)
    dns = names()
    dns["s1._domainkey.example.net"] = { fail = "timeout" }
    local found = verify(signed(), { dns = dns, peer = { ip = "192.0.2.1" } })
    assert.equal("temperror", found.dkim[1].result)
    assert.equal("temperror", found.dmarc.result)
    assert.equal("none", found.disposition)
  end)

  -- Every look-up waits until the spec lets it go: those that wait together were asked together.
  local function slow(zone)
    local waiting, source = {}, moonpost.dns.zone(zone)
    local task = require "moonpost.task"
    local own = setmetatable({ waiting = waiting }, getmetatable(source))
    for name, value in pairs(source) do
      own[name] = value
    end
    local function wait(what)
      waiting[#waiting + 1] = what
      task.park(function(wake)
        waiting[#waiting] = { what, wake }
      end, what)
    end
    function own._ask(_, name, kind)
      wait(name .. " " .. kind)
      return source:_ask(name, kind)
    end
    function own._ask_all(_, questions)
      wait(questions[1][1] .. " " .. questions[1][2])
      return source:_ask_all(questions)
    end
    return own
  end

  it("asks everything at once", function()
    local source = slow(names())
    local policy = test.load(function()
      local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25", domains = "example.org" }
      server.on.message = function(session, message)
        moonpost.auth.verify(session, message, { dns = source })
        message:discard "spec"
      end
      return server
    end)
    local peer = policy:session { ip = "203.0.113.9", helo = "mail.example.net" }
    peer:mail "ann@example.net"
    peer:rcpt "bob@example.org"
    local pending = peer:start_data(signed())
    assert.is_false(pending:done())
    local asked = {}
    for i, one in ipairs(source.waiting) do
      asked[i] = one[1]
    end
    table.sort(asked)
    assert.same({
      "9.113.0.203.in-addr.arpa PTR", "_dmarc.example.net TXT", "example.net TXT", "mail.example.net TXT", "s1._domainkey.example.net TXT",
    }, asked)
    policy:stop()
  end)

  -- A zone in which some names have no answer, ever; others that are asked for with them have theirs.
  local function hanging(pattern)
    local source, hangs = moonpost.dns.zone(names()), {}
    for name, value in pairs(source) do
      hangs[name] = value
    end
    local function wait(gone)
      require("moonpost.task").park(function()
        return gone
      end, "an answer that never comes")
    end
    function hangs._ask(self, name, kind)
      if name:find(pattern) then
        self.asked = (self.asked or 0) + 1
        wait(function() self.gone = (self.gone or 0) + 1 end)
      end
      return source:_ask(name, kind)
    end
    function hangs._ask_all(self, questions)
      local late = false
      for _, question in ipairs(questions) do
        if question[1]:find(pattern) then
          late = true
        else
          source:_ask_all { question }
        end
      end
      if late then
        self.asked = (self.asked or 0) + 1
        wait(function() self.gone = (self.gone or 0) + 1 end)
      end
    end
    return setmetatable(hangs, getmetatable(source))
  end

  it("keeps its deadline, and says what it knows by then", function()
    local how = { options = { dns = hanging "_domainkey", timeout = "10s" }, peer = { ip = "192.0.2.1" }, advance = "10s" }
    local found = verify(signed(), how)
    assert.equal("fail", found.spf.result)
    assert.equal("temperror", found.dkim[1].result)
    assert.equal("temperror", found.dmarc.result) -- the signature might have vouched
    assert.equal("none", found.disposition)
    how.peer = nil
    assert.equal("pass", verify(signed(), how).dmarc.result) -- SPF is enough
    how.options.dns = hanging "."
    found = verify(signed(), how)
    assert.same({ "temperror", "temperror", "temperror", "temperror", "temperror" },
      { found.spf.result, found.helo.result, found.iprev.result, found.dkim[1].result, found.dmarc.result })
  end)

  -- Else whoever has a name server that never answers would be above DMARC: one more signature, or a reverse-path of its own, would do.
  it("lets nobody keep a verdict away by a slow server of their own", function()
    local octets = assert(moonpost.dkim.sign(MESSAGE, { domain = "slow.example", selector = "s", key = KEY.private }))
    octets = assert(moonpost.arc.seal(octets, { domain = "slow.example", selector = "s", key = KEY.private, chain = "none", results = "x" }))
    local found = verify(octets, {
      options = { dns = hanging "slow%.example", timeout = "10s" }, sender = "ann@slow.example", helo = "slow.example", advance = "10s",
    })
    assert.equal("temperror", found.spf.result)
    assert.equal("temperror", found.dkim[1].result)
    assert.equal("slow.example", found.dkim[1].domain)
    assert.equal("fail", found.arc.result)
    assert.is_true(found.arc.temporary)
    assert.equal("fail", found.dmarc.result)
    assert.equal("reject", found.disposition)
  end)

  it("asks no longer when its hook is given up", function()
    local source = hanging "."
    local policy = test.load(function()
      local server = moonpost.server {
        hostname = "mx.example.org", listen = "smtp://127.0.0.1:25", domains = "example.org",
        limits = { message_time = "2s" },
      }
      server.on.message = function(session, message)
        moonpost.auth.verify(session, message, { dns = source })
      end
      return server
    end)
    local peer = policy:session { ip = "203.0.113.9", helo = "mail.example.net" }
    peer:mail "ann@example.net"
    peer:rcpt "bob@example.org"
    peer:start_data(signed())
    assert.equal(5, source.asked)
    policy:advance "2s"
    assert.equal(5, source.gone)
    policy:stop()
  end)

  describe("sealers", function()
    -- The message as a list forwards it: its subject changed, sealed with what the list found.
    local function forwarded(results)
      local octets = signed():gsub("Subject: Hi", "Subject: [list] Hi")
      return assert(moonpost.arc.seal(octets, {
        domain = "lists.example", selector = "s2", key = SEAL.private, chain = "none",
        results = "lists.example; " .. (results or "dmarc=pass header.from=example.net"),
      }))
    end
    local peer = { ip = "198.51.100.7" }

    local function judge(octets, sealers)
      return verify(octets, { peer = peer, sender = "list@lists.example", options = { sealers = sealers } })
    end

    it("are believed when they are named", function()
      local found = judge(forwarded(), { "lists.example" })
      assert.equal("pass", found.arc.result)
      assert.equal("fail", found.dmarc.result)
      assert.equal("none", found.disposition)
      assert.same({ domain = "lists.example", instance = 1 }, found.override)
      assert.truthy(found.header:find("arc=pass", 1, true))
    end)

    it("are not otherwise", function()
      assert.equal("reject", judge(forwarded()).disposition)
      assert.equal("reject", judge(forwarded(), { "other.example" }).disposition)
    end)

    it("have to have found that DMARC passed for this author", function()
      assert.equal("reject", judge(forwarded "dmarc=fail header.from=example.net", { "lists.example" }).disposition)
      assert.equal("reject", judge(forwarded "dmarc=pass header.from=example.com", { "lists.example" }).disposition)
      assert.equal("reject", judge(forwarded "dmarc=pass", { "lists.example" }).disposition)
    end)

    it("count for nothing when the chain is broken", function()
      local found = judge(forwarded():gsub("Hello", "Hullo"), { "lists.example" })
      assert.equal("fail", found.arc.result)
      assert.equal("reject", found.disposition)
    end)
  end)

  it("refuses what makes no sense, at the caller's line", function()
    for _, options in ipairs { { timeout = "x" }, { sealers = { "a b" } }, { dns = 1 }, { method = "z" }, { sealer = "x" } } do
      local err
      local policy = test.load(function()
        local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25", domains = "example.org" }
        server.on.message = function(session, message)
          err = select(2, pcall(function()
            local found = moonpost.auth.verify(session, message, options)
            return found
          end))
          message:discard "spec"
        end
        return server
      end)
      policy:session({ helo = "x.example" }):send_message { from = "a@example.net", to = "bob@example.org" }
      assert.matches("auth_spec%.lua:%d+: auth%.verify: ", err)
      policy:stop()
    end
    assert.has_error(function() moonpost.auth.verify({}, {}) end)
  end)
end)

describe("moonpost.plugins.auth", function()
  after_each(wired.release_log)

  local function load(options, dns)
    return test.load(function()
      local server = moonpost.server {
        hostname = "mx.example.org", listen = { "smtp://127.0.0.1:25" }, domains = "example.org", relay = { networks = "10.0.0.0/8" },
      }
      server:use(require "moonpost.plugins.auth"(options))
      server.on.message = function(_, message)
        message:prepend("X-Found", message.meta.auth and message.meta.auth.dmarc.result or "nothing")
        message:deliver { maildir = "mail/%{mailbox}" }
      end
      return server
    end, { dns = dns or names() })
  end

  local function send(policy, octets, ip, sender)
    local peer = policy:session { ip = ip or "203.0.113.9", helo = "mail.example.net" }
    peer:mail(sender or "ann@example.net")
    peer:rcpt "bob@example.org"
    return peer:data(octets)
  end

  it("puts the header on top, keeps what it found, and logs a line", function()
    local policy = load()
    assert.equal(250, send(policy, "X-Quarantine: no\r\n" .. signed()).code)
    local delivered = policy.sent[1].message
    assert.truthy(delivered:find("\nAuthentication-Results: mx.example.org;", 1, true))
    assert.truthy(delivered:find("X-Found: pass", 1, true))
    assert.is_nil(delivered:find("X-Quarantine", 1, true))
    assert.equal(1, #policy:logged "authenticated")
  end)

  it("lets a failure pass unless it is to enforce", function()
    local policy = load()
    assert.equal(250, send(policy, MESSAGE, "192.0.2.1").code)
    assert.truthy(policy.sent[1].message:find("dmarc=fail", 1, true))
  end)

  it("refuses, as the domain asks for", function()
    local reply = send(load { enforce = true }, MESSAGE, "192.0.2.1")
    assert.equal(550, reply.code)
    assert.equal("5.7.26", reply.enhanced)
    assert.truthy(reply.text:find("example.net", 1, true))
  end)

  local SOFT = MESSAGE:gsub("ann@example.net", "ann@soft.example")

  it("tags for quarantine, or refuses, or does nothing", function()
    local policy = load { enforce = true }
    assert.equal(250, send(policy, SOFT).code)
    assert.truthy(policy.sent[1].message:find("X-Quarantine: yes (DMARC, soft.example)", 1, true))
    assert.equal(550, send(load { enforce = true, quarantine = "reject" }, SOFT).code)
    policy = load { enforce = true, quarantine = "none" }
    assert.equal(250, send(policy, SOFT).code)
    assert.is_nil(policy.sent[1].message:find("X-Quarantine", 1, true))
  end)

  it("refuses what has no author, or several", function()
    assert.equal(550, send(load { enforce = true }, "Subject: x\r\n\r\nHello.\r\n").code)
    assert.equal(250, send(load {}, "Subject: x\r\n\r\nHello.\r\n").code)
  end)

  it("lets pass what cannot be looked up, or has it come again", function()
    local dns = names()
    dns["_dmarc.example.net"] = { fail = "timeout" }
    assert.equal(250, send(load({ enforce = true }, dns), MESSAGE).code)
    assert.equal(451, send(load({ enforce = true, fail = "closed" }, dns), MESSAGE).code)
  end)

  it("does not look at the mail of those who may relay, nor of exempt networks, and believes no header of theirs", function()
    local forged = "Authentication-Results: mx.example.org; dmarc=pass\r\n" .. MESSAGE
    for _, case in ipairs { { {}, "10.1.2.3" }, { { exempt = "192.0.2.0/24" }, "192.0.2.1" } } do
      case[1].enforce = true
      local policy = load(case[1])
      assert.equal(250, send(policy, forged, case[2]).code)
      assert.truthy(policy.sent[1].message:find("X-Found: nothing", 1, true))
      assert.is_nil(policy.sent[1].message:find("Authentication-Results", 1, true))
    end
  end)

  it("refuses options that make no sense", function()
    for _, options in ipairs { { enforce = "x" }, { exempt = "x" }, { tag = "a b" }, { quarantine = "x" }, { id = "" }, "enforce" } do
      assert.error_matches(function() load(options) end, "auth: ")
    end
  end)
end)
