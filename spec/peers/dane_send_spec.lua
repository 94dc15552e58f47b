-- moonpost.send by MX, to servers whose certificates signed zones name, or do not: DANE from the DNS to the row.
local certs = require "spec.support.certs"
local dns = require "moonpost.dns"
local hostile = require "spec.support.hostile"
local moonpost = require "moonpost"
local mtasts = require "moonpost.mtasts"
local nameserver = require "spec.support.nameserver"
local ports = require "spec.support.ports"
local served = require "spec.support.served"

local WRONG = ("cd"):rep(32)

describe("moonpost.send under DANE", function()
  local it = nameserver.there and it or pending
  local port, server, names, house
  local there = {} -- servers by name

  local function records(list)
    return (table.concat(list, "\n"):gsub("PORT", "_" .. port .. "._tcp") .. "\n")
  end

  lazy_setup(function()
    if not nameserver.there then
      return
    end
    port = ports.free()
    local function script(pair)
      return { certificate = pair and pair.certificate, key = pair and pair.key, extensions = { "PIPELINING", "REQUIRETLS" } }
    end
    local function start(name, address, pair)
      there[name] = hostile.start(script(pair), address .. ":" .. port)
    end
    start("ee", "127.0.0.2", certs.expired)
    start("other", "127.0.0.3", certs.other)
    start("ta", "127.0.0.4", certs.chained("ta", "mxta.send.example", "mxtaspki.send.example", "mxtadomain.elsewhere.example"))
    start("domain", "127.0.0.5", certs.chained("domain", "tadomain.send.example"))
    start("clear", "127.0.0.6")
    start("sts", "127.0.0.7", certs.chained("sts", "mxsts.send.example", "mxfree.send.example"))
    house = served.start {
      listen = { ("smtp://127.0.0.8:%d"):format(port) }, options = certs.tls .. ', domains = { "house.send.example" }',
    }
    local ca, key = certs.digest(certs.ca, 0), certs.digest(certs.ca, 1)
    local ee = certs.digest(certs.expired.certificate, 1)
    server = nameserver.start {
      ["send.example"] = { signed = true, records = records {
        "ee MX 10 mxee", "mxee A 127.0.0.2", "PORT.mxee TLSA 3 1 1 " .. ee,
        "house MX 10 mxhouse", "mxhouse A 127.0.0.8", "PORT.mxhouse TLSA 3 1 1 " .. certs.digest(certs.server.certificate, 1),
        "alias MX 10 mxalias", "mxalias CNAME mxee",
        "wrong MX 10 mxwrong", "mxwrong A 127.0.0.3", "PORT.mxwrong TLSA 3 1 1 " .. WRONG,
        "next MX 10 mxwrong", "next MX 20 mxee",
        "ta MX 10 mxta", "mxta A 127.0.0.4", "PORT.mxta TLSA 2 0 1 " .. ca,
        "taspki MX 10 mxtaspki", "mxtaspki A 127.0.0.4", "PORT.mxtaspki TLSA 2 1 1 " .. key,
        "tadomain MX 10 mxtadomain", "mxtadomain A 127.0.0.5", "PORT.mxtadomain TLSA 2 1 1 " .. key,
        "tanone MX 10 mxtanone", "mxtanone A 127.0.0.4", "PORT.mxtanone TLSA 2 0 1 " .. ca,
        "tanonespki MX 10 mxtanonespki", "mxtanonespki A 127.0.0.4", "PORT.mxtanonespki TLSA 2 1 1 " .. key,
        "tawrong MX 10 mxtawrong", "mxtawrong A 127.0.0.4", "PORT.mxtawrong TLSA 2 0 1 " .. WRONG,
        "un MX 10 mxun", "mxun A 127.0.0.3", "PORT.mxun TLSA 1 1 1 " .. WRONG, "PORT.mxun TLSA 3 1 1 abcd",
        "unclear MX 10 mxunclear", "mxunclear A 127.0.0.6", "PORT.mxunclear TLSA 0 0 1 " .. WRONG,
        "clear MX 10 mxclear", "mxclear A 127.0.0.6", "PORT.mxclear TLSA 3 1 1 " .. ee,
        "bare MX 10 mxbare", "mxbare A 127.0.0.3",
        "sts MX 10 mxsts", "mxsts A 127.0.0.7", "PORT.mxsts TLSA 3 1 1 " .. WRONG, '_mta-sts.sts TXT "v=STSv1; id=1;"',
        "free MX 10 mxfree", "mxfree A 127.0.0.7", '_mta-sts.free TXT "v=STSv1; id=1;"',
      } },
      ["plain.example"] = { records = records { "@ MX 10 mx", "mx A 127.0.0.3", "PORT.mx TLSA 3 1 1 " .. WRONG } },
      ["spoilt.example"] = { signed = true, records = records { "@ MX 10 mx", "mx A 127.0.0.2", "PORT.mx TLSA 3 1 1 " .. ee },
        change = function(text)
          return (text:gsub(ee, WRONG))
        end },
      ["late.example"] = { signed = "expired", records = records { "@ MX 10 mx", "mx A 127.0.0.2" } },
    }
    names = dns.resolver(server:resolver())
  end)

  lazy_teardown(function()
    for _, one in pairs(there) do
      one:close()
    end
    if server then
      server:stop()
      house:close()
    end
  end)

  -- The row of one message, and the error.
  local function send(domain, more)
    local mail = {
      from = "me@example.org", to = "you@" .. domain, subject = domain, text = "x", port = port, dns = names, allow_local = true,
      mtasts = false, helo = "client.example.org",
    }
    for name, value in pairs(more or {}) do
      mail[name] = value
    end
    if mail.via then -- which has its own
      mail.port = nil
    end
    local result, err = moonpost.send(mail)
    return (result or err).recipients[1], err
  end

  local function messages()
    local count = 0
    for _, one in pairs(there) do
      count = count + one:count "message"
    end
    return count
  end

  -- Delivered to `host`, and what is said of TLS.
  local function delivered(row, host, level, how)
    assert.equal("250 2.0.0 taken", tostring(row.reply))
    assert.same({ "delivered", host, true, level, how }, { row.state, row.host, row.tls.used, row.tls.level, row.tls.how })
    assert.is_string(row.tls.version)
  end

  -- Nothing has gone anywhere, and the row says what was promised.
  local function deferred(domain, pattern, more)
    local before = messages()
    local row, err = send(domain, more)
    assert.same({ "deferred", "tls", true }, { row.state, row.stage, err.temporary })
    assert.matches("^4%.7%.", row.reply.enhanced)
    assert.matches(pattern, row.reply.text)
    assert.is_string(row.tls.policy)
    assert.is_string(row.tls.why)
    assert.equal(before, messages())
    return row
  end

  it("delivers by DANE-EE 3 1 1, whatever name and date the certificate has", function()
    local row = send "ee.send.example"
    delivered(row, "mxee.send.example", "dane", "dane-ee")
    assert.is_true(row.tls.verified)
    assert.equal(("DANE: TLSA records at _%d._tcp.mxee.send.example"):format(port), row.tls.policy)
    assert.equal(1, there.ee:count "tls %S+ mxee%.send%.example$") -- SNI is the TLSA base domain (RFC 7672 8.1)
  end)

  it("delivers to our own server", function()
    local row = send "house.send.example"
    assert.same({ "delivered", true, "dane", "dane-ee" }, { row.state, row.tls.verified, row.tls.level, row.tls.how })
    assert.equal(1, #house:mail "you")
  end)

  it("takes the records where a signed alias leads", function()
    local row = send "alias.send.example"
    delivered(row, "mxalias.send.example", "dane", "dane-ee")
    assert.matches("mxee%.send%.example", row.tls.policy)
  end)

  it("defers where the key is another, and sends nothing", function()
    local row = deferred("wrong.send.example", "TLSA")
    assert.equal("dane", row.tls.level)
    assert.is_false(row.tls.used)
    assert.equal("mxwrong.send.example", row.host)
  end)

  it("tries the next host where the key of the first is another", function()
    local before = there.other:count "message"
    delivered(send "next.send.example", "mxee.send.example", "dane", "dane-ee")
    assert.equal(before, there.other:count "message")
  end)

  it("delivers by DANE-TA 2 0 1 and 2 1 1 to the host's own name", function()
    delivered(send "ta.send.example", "mxta.send.example", "dane", "dane-ta")
    delivered(send "taspki.send.example", "mxtaspki.send.example", "dane", "dane-ta")
  end)

  it("delivers by DANE-TA to the name of the recipients' domain", function()
    delivered(send "tadomain.send.example", "mxtadomain.send.example", "dane", "dane-ta")
  end)

  it("defers where DANE-TA leads to a certificate for another name, or to another authority", function()
    deferred("tanone.send.example", "mxtanone%.send%.example")
    deferred("tanonespki.send.example", "mxtanonespki%.send%.example")
    deferred("tawrong.send.example", "mxtawrong")
  end)

  it("takes anybody's certificate where no record can be used, and says so", function()
    local row = send "un.send.example"
    delivered(row, "mxun.send.example", "required", "none")
    assert.is_false(row.tls.verified)
    assert.matches("none of the TLSA records", row.tls.policy)
  end)

  it("defers where no record can be used and there is no STARTTLS either", function()
    local row = deferred("unclear.send.example", "STARTTLS")
    assert.equal("required", row.tls.level)
  end)

  it("defers where records can be used and there is no STARTTLS", function()
    deferred("clear.send.example", "STARTTLS")
  end)

  it("defers where the records are bogus", function()
    local row = deferred("spoilt.example", "DANE")
    assert.equal("refused", row.tls.level)
  end)

  it("defers where the mail exchangers are bogus", function()
    local row, err = send "late.example"
    assert.same({ "deferred", "route", "4.4.3", true }, { row.state, row.stage, row.reply.enhanced, err.temporary })
  end)

  it("is opportunistic where the zone is not signed, or has no records", function()
    local row = send "plain.example"
    delivered(row, "mx.plain.example", "opportunistic", "none")
    assert.is_false(row.tls.verified)
    delivered(send "bare.send.example", "mxbare.send.example", "opportunistic", "none")
  end)

  it("delivers nothing without records where \"dane\" was asked for", function()
    deferred("bare.send.example", '"dane" was asked for', { tls = "dane" })
    deferred("plain.example", '"dane" was asked for', { tls = "dane" })
    delivered(send("ee.send.example", { tls = "dane" }), "mxee.send.example", "dane", "dane-ee")
  end)

  -- RFC 8461 2.
  it("is not overridden by an MTA-STS policy that would match", function()
    local sts = mtasts.new {
      dns = names, fetch = function()
        return "version: STSv1\nmode: enforce\nmx: *.send.example\nmax_age: 86400\n"
      end,
    }
    local tls = { ca = certs.ca }
    local row = deferred("sts.send.example", "TLSA", { mtasts = sts, tls = tls })
    assert.equal("dane", row.tls.level)
    row = send("free.send.example", { mtasts = sts, tls = tls }) -- the same server, where there are no records
    delivered(row, "mxfree.send.example", "verified", "names")
    assert.matches("MTA%-STS policy of free%.send%.example", row.tls.policy)
  end)

  it("looks for the records of a host that was named, when \"dane\" is asked for", function()
    local via = "smtp://%s:" .. port
    delivered(send("example.net", { tls = "dane", via = via:format "mxee.send.example" }), "mxee.send.example", "dane", "dane-ee")
    deferred("example.net", "TLSA", { tls = "dane", via = via:format "mxwrong.send.example" })
    deferred("example.net", '"dane" was asked for', { tls = "dane", via = via:format "mxbare.send.example" })
    deferred("example.net", '"dane" was asked for', { tls = "dane", via = via:format "127.0.0.2" })
    deferred("example.net", "DANE", { tls = "dane", via = via:format "mx.spoilt.example" })
    local client <close> = assert(moonpost.connect { host = "mxee.send.example", port = port, tls = "dane", dns = names })
    assert.equal("dane-ee", client.tls.how)
    local other, err = moonpost.connect { host = "mx.plain.example", port = port, tls = "dane", dns = names }
    assert.is_nil(other)
    assert.equal("tls", err.kind)
  end)

  describe("and REQUIRETLS (RFC 8689 4.2.1)", function()
    local params = { requiretls = true }

    it("delivers to who is verified, and hands the demand on", function()
      local before = there.ee:count "MAIL FROM:.* REQUIRETLS"
      delivered(send("ee.send.example", { params = params }), "mxee.send.example", "dane", "dane-ee")
      assert.equal(before + 1, there.ee:count "MAIL FROM:.* REQUIRETLS")
      delivered(send("free.send.example", { params = params, tls = { ca = certs.ca } }), "mxfree.send.example", "verified", "names")
      delivered(send("free.send.example", { params = params, tls = { ca = certs.ca, level = "none" } }), "mxfree.send.example", "verified",
        "names")
    end)

    it("delivers to nobody who is not", function()
      deferred("bare.send.example", "certificate", { params = params, tls = { ca = certs.ca } })
      deferred("un.send.example", "certificate", { params = params, tls = { ca = certs.ca } })
      deferred("clear.send.example", "STARTTLS", { params = params })
    end)

    it("delivers to no host that unsigned mail exchangers name", function()
      deferred("plain.example", "neither signed MX records nor an MTA%-STS policy", { params = params })
    end)

    it("verifies a smarthost", function()
      local via = "smtp://mxfree.send.example:" .. port
      delivered(send("example.net", { params = params, via = via, tls = { ca = certs.ca } }), "mxfree.send.example", "verified", "names")
      deferred("example.net", "certificate", { params = params, via = "smtp://mxbare.send.example:" .. port, tls = { ca = certs.ca } })
    end)

    it("stays here on a connection to nobody in particular", function()
      local client <close> = assert(moonpost.connect { host = "mxbare.send.example", port = port, tls = "required", dns = names })
      local before = messages()
      local result, err = client:send { from = "me@example.org", to = "you@example.net", text = "x", params = params }
      assert.is_nil(result)
      assert.same({ "deferred", "tls", "4.7.5" }, {
        err.recipients[1].state, err.recipients[1].stage, err.recipients[1].reply.enhanced,
      })
      assert.equal(before, messages())
    end)
  end)
end)
