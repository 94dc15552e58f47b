--- dkimpy: chains that we seal hold for it, its chains for us, and chains of both for both.
local arc = require "moonpost.arc"
local dkim = require "moonpost.dkim"
local dkjson = require "dkjson"
local dns = require "moonpost.dns"
local json = require "moonpost.json"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local tmpdir = require "spec.support.tmpdir"

local CLIENT = "spec/peers/clients/dkimpy.py"
local MESSAGE = table.concat({
  "Received: from a by b;", "\tMon, 23 Nov 2026 15:00:00 +0000", "From:  Ann Lee <ann@example.com>",
  "To:bob@example.org,", "  Carol <carol@example.org>",
  "Subject:", "  folded\t and  \t spaced ", "Date: Mon, 23 Nov 2026 15:00:00 +0000", "Message-ID: <1@example.com>", "",
  "two  spaces, a\ttab \t and some at the end \t", "", " \t", ".dot", ("0123456789 abcde\r\n"):rep(300) .. "end ", "", "", "",
}, "\r\n")

describe("arc: dkimpy", function()
  local seals = peers.dkimpy and os.execute(peers.python3 .. " -c 'import authres' 2>/dev/null") -- it seals with the help of another module
  local it, seals_it = peers.dkimpy and it or pending, seals and it or pending
  local dir, ours, theirs, records

  setup(function()
    dir = tmpdir.new()
    ours, theirs = dkim.keygen "rsa", dkim.keygen "rsa"
    records = { ["o._domainkey.ours.example"] = ours.record, ["t._domainkey.theirs.example"] = theirs.record }
    dir:write("theirs.pem", theirs.private)
  end)

  teardown(function()
    dir:remove()
  end)

  local function ask(octets, question)
    local result = process.run { stdin = octets, timeout = 60, peers.python3, CLIENT, json.encode(question) }
    assert.equal(0, result.code, result.output)
    return result.out
  end

  local function zone()
    local names = {}
    for name, text in pairs(records) do
      names[name] = { TXT = text }
    end
    return dns.zone(names)
  end

  local function seal(octets)
    return assert(arc.seal(octets, {
      domain = "ours.example", selector = "o", key = ours.private, dns = zone(),
      results = "mx.ours.example;\r\n\tspf=pass smtp.mailfrom=ann@example.com;\r\n\tdmarc=pass (p=none) header.from=example.com",
    }))
  end

  -- It wants to know from a field of its own what the chain was worth.
  local function sealed_by_them(octets, worth)
    octets = ("Authentication-Results: mx.theirs.example; arc=%s; spf=none\r\n"):format(worth) .. octets
    return ask(octets, { key = dir:join "theirs.pem", selector = "t", domain = "theirs.example", server = "mx.theirs.example" }) .. octets
  end

  local function both(octets, worth, count)
    local chain = assert(arc.verify(octets, { dns = zone() }))
    assert.same({ worth, count }, { chain.result, chain.instance }, chain.reason)
    local said = dkjson.decode(ask(octets, { chain = records }))
    assert.equal(worth, said[1], said[2])
  end

  it("believes what we seal", function()
    both(seal(MESSAGE), "pass", 1)
    both(seal(seal(MESSAGE)), "pass", 2)
  end)

  seals_it("seals what we believe", function()
    both(sealed_by_them(MESSAGE, "none"), "pass", 1)
  end)

  seals_it("goes on with our chains, and we with its", function()
    both(sealed_by_them(seal(MESSAGE), "pass"), "pass", 2)
    both(seal(sealed_by_them(seal(MESSAGE), "pass")), "pass", 3)
    both(seal(seal(sealed_by_them(MESSAGE, "none"))), "pass", 3)
  end)

  it("sees what has been changed, as we do", function()
    for from, to in pairs { ["folded"] = "fold", ["spf=pass"] = "spf=fail", ["abcde\r\nend"] = "abcdf\r\nend" } do
      both((seal(seal(MESSAGE)):gsub(from, to)), "fail", 2)
    end
  end)
end)
