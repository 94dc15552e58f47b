--- dkimpy and OpenDKIM: our signatures hold for them, theirs for us, over the same messages with everything in them that a form may change.
local dkim = require "moonpost.dkim"
local dkjson = require "dkjson"
local dns = require "moonpost.dns"
local json = require "moonpost.json"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local tmpdir = require "spec.support.tmpdir"

local CLIENT = "spec/peers/clients/dkimpy.py"
local FORMS = { "relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple" }
local MESSAGE = table.concat({
  "Received: from a by b;", "\tMon, 23 Nov 2026 15:00:00 +0000", "From:  Ann Lee <ann@example.com>",
  "To:bob@example.org,", "  Carol <carol@example.org>", "Subject:", "  folded\t and  \t spaced ",
  "DATE: Mon, 23 Nov 2026 15:00:00 +0000", "Message-ID: <1@example.com>", "X-Empty:", "",
  "two  spaces, a\ttab \t and some at the end \t",
  "", " \t", ".dot", ("0123456789 abcde\r\n"):rep(3000) .. "end ", "", " ", "", "",
}, "\r\n")

describe("dkim: peers", function()
  local dir, rsa, ed25519, records

  setup(function()
    dir = tmpdir.new()
    rsa, ed25519 = dkim.keygen "rsa", dkim.keygen "ed25519"
    records = { ["rsa._domainkey.example.com"] = rsa.record, ["ed._domainkey.example.com"] = ed25519.record }
    dir:write("rsa.pem", rsa.private)
    dir:write("dns", ("rsa._domainkey.example.com %s\n"):format(rsa.record))
    dir:write("verify", ("Mode v\nSyslog no\nQueryCache no\nTestDNSData %s\n"):format(dir:join "dns"))
  end)

  teardown(function()
    dir:remove()
  end)

  local function run(stdin, ...)
    local result = process.run { stdin = stdin, timeout = 60, ... }
    assert.equal(0, result.code, result.output)
    return result
  end

  local function passes(octets, count)
    local zone = {}
    for name, text in pairs(records) do
      zone[name] = { TXT = text }
    end
    local list = assert(dkim.verify(octets, { dns = dns.zone(zone) }))
    assert.equal(count or 1, #list)
    for _, one in ipairs(list) do
      assert.equal("pass", one.result, one.reason)
    end
  end

  local function sign(form, more)
    local options = { domain = "example.com", selector = "rsa", key = rsa.private, canonicalization = form }
    for name, value in pairs(more or {}) do
      options[name] = value
    end
    return assert(dkim.sign(MESSAGE, options))
  end

  describe("dkimpy", function()
    local it = peers.dkimpy and it or pending

    local function verify(octets)
      return dkjson.decode(run(octets, peers.python3, CLIENT, json.encode { records = records }).out)
    end

    for _, form in ipairs(FORMS) do
      it("verifies what we sign, and we what it signs: " .. form, function()
        local octets = sign(form, { identity = "ann@lists.example.com", expires = "7d" })
        octets = assert(dkim.sign(octets, { domain = "example.com", selector = "ed", key = ed25519.private, canonicalization = form }))
        assert.same({ { true }, { true } }, verify(octets))
        assert.is_false(verify((octets:gsub("0123456789 abcde\r\nend", "0123456789 abcdf\r\nend")))[1][1])
        passes(run(MESSAGE, peers.python3, CLIENT, json.encode {
          key = dir:join "rsa.pem", selector = "rsa", domain = "example.com", algorithm = "rsa-sha256", identity = "a=b@example.com",
          canonicalization = { form:match "(%a+)/(%a+)" },
        }).out .. MESSAGE)
      end)
    end

    it("verifies a signature by part of the body, which we refuse", function()
      local octets = sign("relaxed/relaxed", { length = 100 })
      assert.same({ { true } }, verify(octets))
      assert.equal("policy", assert(dkim.verify(octets, { dns = dns.zone { ["rsa._domainkey.example.com"] = { TXT = rsa.record } } }))[1].result)
    end)
  end)

  -- Its test mode reads a file as the milter protocol would have it: one space behind each colon.
  describe("OpenDKIM", function()
    local it = peers.opendkim and it or pending
    local message = MESSAGE:gsub("\nFrom:  ", "\nFrom: "):gsub("\nTo:", "\nTo: "):gsub("\nSubject:\r\n", "\nSubject: a\r\n")
      :gsub("\nX%-Empty:", "%0 ")

    local function judge(octets)
      dir:write("message", octets)
      return run(nil, peers.opendkim, "-x", dir:join "verify", "-t", dir:join "message").output
    end

    for _, form in ipairs(FORMS) do
      it("verifies what we sign, and we what it signs: " .. form, function()
        local octets = assert(dkim.sign(message, { domain = "example.com", selector = "rsa", key = rsa.private, canonicalization = form }))
        assert.matches("verification %(s=rsa,? d=example.com, 2048%-bit key%) succeeded", judge(octets))
        assert.matches("failed: signature verification failed", judge((octets:gsub("end \r\n", "and \r\n"))))
        dir:write("message", message)
        dir:write("sign", ("Mode s\nSyslog no\nDomain example.com\nSelector rsa\nKeyFile %s\nRequireSafeKeys no\nCanonicalization %s\n")
          :format(dir:join "rsa.pem", form))
        local value = run(nil, peers.opendkim, "-vv", "-x", dir:join "sign", "-t", dir:join "message").out
          :match "hname='DKIM%-Signature' hvalue='(.-)'"
        passes(("DKIM-Signature: %s\r\n%s"):format(value:gsub("\r?\n", "\r\n"), message))
      end)
    end
  end)
end)
