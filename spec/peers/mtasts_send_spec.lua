-- moonpost.send by MX under MTA-STS: policies from a web server on loopback with an authority of its own, mail to servers whose
-- certificates fit them, or do not.
local certs = require "spec.support.certs"
local dns = require "moonpost.dns"
local hostile = require "spec.support.hostile"
local https = require "spec.support.https"
local moonpost = require "moonpost"
local mtasts = require "moonpost.mtasts"
local peers = require "spec.support.peers"
local ports = require "spec.support.ports"
local tmpdir = require "spec.support.tmpdir"

local DOMAIN = "example.net" -- certs.web is for mta-sts.example.net

describe("moonpost.send under MTA-STS", function()
  local it = peers.python3 and it or pending
  local port, web, folder
  local there = {} -- servers by name

  lazy_setup(function()
    if not peers.python3 then
      return
    end
    port = ports.free()
    local function start(name, address, pair)
      there[name] = hostile.start({ certificate = pair and pair.certificate, key = pair and pair.key }, address .. ":" .. port)
    end
    start("good", "127.0.0.2", certs.chained("good", "good.example.net"))
    start("other", "127.0.0.3", certs.other)
    start("clear", "127.0.0.4")
    start("expired", "127.0.0.5", certs.expired)
  end)

  lazy_teardown(function()
    for _, one in pairs(there) do
      one:close()
    end
  end)

  before_each(function()
    web, folder = https.start(certs.web), tmpdir.new()
  end)

  after_each(function()
    getmetatable(web).__close(web)
    folder:remove()
  end)

  -- What the domain's zone says: its hosts, and the id of its policy.
  local function zone(hosts, id)
    local names = {
      [DOMAIN] = { MX = {} }, ["good.example.net"] = { A = "127.0.0.2" }, ["other.example.net"] = { A = "127.0.0.3" },
      ["clear.example.net"] = { A = "127.0.0.4" }, ["expired.example.net"] = { A = "127.0.0.5" },
      ["_mta-sts." .. DOMAIN] = { TXT = id and "v=STSv1; id=" .. id .. ";" or "nothing of the kind" },
    }
    for i, host in ipairs(hosts) do
      names[DOMAIN].MX[i] = { i * 10, host .. ".example.net" }
    end
    return dns.zone(names)
  end

  local function publish(mode, mx, status)
    web:answer("mta-sts." .. DOMAIN, "/.well-known/mta-sts.txt", status or "200 OK", "Content-Type: text/plain",
      ("version: STSv1\nmode: %s\nmx: %s\nmax_age: 604800\n"):format(mode, mx or "*.example.net"))
  end

  -- A finder as a process that has just started has it: what it knows lies in the folder.
  local function finder(names, more)
    local options = { dns = names, connect_to = web.address, ca_file = certs.ca, folder = folder.path, timeout = "5s" }
    for name, value in pairs(more or {}) do
      options[name] = value
    end
    return mtasts.new(options)
  end

  local function messages()
    local count = 0
    for _, one in pairs(there) do
      count = count + one:count "message"
    end
    return count
  end

  local function send(hosts, id, more)
    local names = zone(hosts, id)
    local mail = {
      from = "me@example.org", to = "you@" .. DOMAIN, text = "x", port = port, dns = names, allow_local = true, tls = { ca = certs.ca },
      helo = "client.example.org", mtasts = finder(names),
    }
    for name, value in pairs(more or {}) do
      mail[name] = value
    end
    local result, err = moonpost.send(mail)
    return (result or err).recipients[1], err
  end

  local function delivered(row, host, level, used)
    assert.equal("250 2.0.0 taken", tostring(row.reply))
    assert.same({ host .. ".example.net", level, used ~= false }, { row.host, row.tls.level, row.tls.used })
  end

  local function deferred(row, err, before, pattern)
    assert.same({ "deferred", "tls", true }, { row.state, row.stage, err.temporary })
    assert.matches("^4%.7%.", row.reply.enhanced)
    assert.matches(pattern, row.reply.text)
    assert.matches("MTA%-STS", row.tls.policy)
    assert.is_false(row.tls.used)
    assert.equal(before, messages())
  end

  it("enforce: verifies the host, and says why", function()
    publish "enforce"
    local row = send({ "good" }, "1")
    delivered(row, "good", "verified")
    assert.same({ true, "names" }, { row.tls.verified, row.tls.how })
    assert.equal("good.example.net is in the MTA-STS policy of example.net", row.tls.policy)
  end)

  for name, pattern in pairs { other = "sni.example.net", clear = "STARTTLS", expired = "expired" } do
    it(("enforce: sends nothing to a server that does not fit (%s)"):format(name), function()
      publish "enforce"
      local before = messages()
      local row, err = send({ name }, "1")
      deferred(row, err, before, pattern)
      assert.equal("verified", row.tls.level)
    end)

    it(("enforce: tries the next host after it (%s)"):format(name), function()
      publish "enforce"
      local before = there[name]:count "message"
      delivered(send({ name, "good" }, "1"), "good", "verified")
      assert.equal(before, there[name]:count "message")
    end)

    it(("testing: sends all the same, and says what it would have been (%s)"):format(name), function()
      publish "testing"
      local row = send({ name }, "1")
      delivered(row, name, "opportunistic", name ~= "clear")
      assert.is_not_true(row.tls.verified)
      assert.equal(name .. ".example.net is in the MTA-STS policy of example.net", row.tls.testing)
    end)

    it(("none: is no policy (%s)"):format(name), function()
      publish "none"
      local row = send({ name }, "1")
      delivered(row, name, "opportunistic", name ~= "clear")
      assert.is_nil(row.tls.testing)
    end)
  end

  it("enforce: a handshake that fails is not followed by a connection in clear", function()
    local address = "127.0.0.6:" .. port
    local server <close> = hostile.start({
      certificate = certs.other.certificate, key = certs.other.key, STARTTLS = { "220 go\r\n", { tls = "close" } },
    }, address)
    publish "enforce"
    local names = dns.zone {
      [DOMAIN] = { MX = { 10, "mx.example.net" } }, ["mx.example.net"] = { A = "127.0.0.6" },
      ["_mta-sts." .. DOMAIN] = { TXT = "v=STSv1; id=1;" },
    }
    local before = messages()
    local row, err = send({}, "1", { dns = names, mtasts = finder(names) })
    deferred(row, err, before, "TLS")
    server:finish()
    assert.equal(0, server:count "^2 ")
    assert.is_nil(server:heard():find("MAIL", 1, true))
  end)

  it("enforce: sends nothing to a host that is not in the policy, whatever its certificate", function()
    publish("enforce", "elsewhere.example.net")
    local before = messages()
    local row, err = send({ "good" }, "1")
    deferred(row, err, before, "not in the MTA%-STS policy")
    assert.equal("refused", row.tls.level)
  end)

  it("enforce: goes past a host that is not in the policy", function()
    publish("enforce", "good.example.net")
    delivered(send({ "other", "good" }, "1"), "good", "verified")
  end)

  it("testing: goes to a host that is not in the policy, and says so", function()
    publish("testing", "elsewhere.example.net")
    local row = send({ "good" }, "1")
    delivered(row, "good", "opportunistic")
    assert.matches("is not in", row.tls.testing)
  end)

  it("is not asked for where nobody published one, and where that was turned off", function()
    publish "enforce"
    delivered(send({ "other" }, nil), "other", "opportunistic")
    delivered(send({ "other" }, "1", { mtasts = false }), "other", "opportunistic")
    delivered(send({ "clear" }, "1", { tls = "none" }), "clear", "none", false)
    assert.equal(0, web:count())
  end)

  it("takes the finder's options in its place", function()
    publish "enforce"
    local names = zone({ "good" }, "1")
    local row = send({ "good" }, "1", { mtasts = { dns = names, connect_to = web.address, ca_file = certs.ca } })
    delivered(row, "good", "verified")
  end)

  it("asks for the policy once for many messages", function()
    publish "enforce"
    local names = zone({ "good" }, "1")
    local sts = finder(names)
    for _ = 1, 3 do
      delivered(send({ "good" }, "1", { mtasts = sts }), "good", "verified")
    end
    assert.equal(1, web:count())
  end)

  it("keeps a policy across a restart, and while its host is down or lies", function()
    publish "enforce"
    delivered(send({ "good" }, "1"), "good", "verified")
    assert.equal(1, web:count())

    delivered(send({ "good" }, "1"), "good", "verified") -- a new finder, the same folder
    assert.equal(1, web:count())

    publish("enforce", nil, "503 Service Unavailable")
    local before = messages()
    local row, err = send({ "other" }, "2") -- a new id, that nobody can look up
    deferred(row, err, before, "sni.example.net")

    local gone = mtasts.new {
      dns = zone({ "other" }, "2"), connect_to = "127.0.0.1:" .. ports.free(), ca_file = certs.ca, folder = folder.path, timeout = "5s",
    }
    row, err = send({ "other" }, "2", { mtasts = gone })
    deferred(row, err, before, "sni.example.net")

    row, err = send({ "other" }, nil) -- nor does a record that has gone take it away (RFC 8461 10.2)
    deferred(row, err, before, "sni.example.net")
  end)

  it("does without where the policy cannot be had and none is known", function()
    local lost = { connect_to = "127.0.0.1:" .. ports.free() } -- nobody listens
    local names = zone({ "other" }, "1")
    delivered(send({ "other" }, "1", { mtasts = finder(names, lost) }), "other", "opportunistic")
    publish("enforce", nil, "404 Not Found")
    delivered(send({ "other" }, "1"), "other", "opportunistic")
    publish("enforce", nil, "301 Moved Permanently")
    delivered(send({ "other" }, "1"), "other", "opportunistic")
  end)

  it("believes no policy host whose certificate does not fit", function()
    publish "enforce"
    local names = zone({ "other" }, "1")
    delivered(send({ "other" }, "1", { mtasts = mtasts.new { dns = names, connect_to = web.address } }), "other", "opportunistic")
  end)

  it("makes a host known by REQUIRETLS' rules where MX records are not signed", function()
    publish "testing"
    local params = { requiretls = true }
    local before = messages()
    local row, err = send({ "good" }, "1", { params = params }) -- it does not announce the extension
    assert.same({ "refused", "5.7.30", "refused" }, { row.state, row.reply.enhanced, err.kind })
    assert.same({ "verified", true }, { row.tls.level, row.tls.verified })
    row, err = send({ "good" }, nil, { params = params, mtasts = mtasts.new { dns = zone({ "good" }, nil) } })
    assert.same({ "deferred", "tls" }, { row.state, row.stage })
    assert.is_true(err.temporary)
    assert.equal(before, messages())
  end)
end)
