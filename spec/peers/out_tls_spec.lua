-- Our client delivers to servers that are not ours, and to ours, by STARTTLS and over TLS from the first octet, and is known by
-- each mechanism that the peer has.
local accounts = require "spec.peers.accounts"
local certs = require "spec.support.certs"
local moonpost = require "moonpost"
local peers = require "spec.support.peers"
local uv = require "luv"

local MESSAGE = "Subject: out\r\nFrom: alice@example.net\r\n\r\n.dot\r\n..\r\n.\r\n8-bit: \xc3\xa9\r\n"
local FROM, TO = "alice@example.net", "bob@example.org"

local root = uv.getuid() == 0

local servers = {
  {
    name = "postfix", there = peers.postfix and root, options = { auth = true },
    mechanisms = { "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256" },
  },
  {
    name = "smtp_server", there = peers.has_node_module("smtp-server"), mechanisms = { "PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2" },
  },
  { name = "aiosmtpd", there = peers.python3, mechanisms = { "PLAIN", "LOGIN" } },
  {
    name = "moonpost", there = true,
    mechanisms = {
      "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "XOAUTH2",
      "OAUTHBEARER",
    },
  },
}

local function send(options)
  options.from, options.to, options.message = FROM, TO, MESSAGE
  return moonpost.send(options)
end

local function tls(level)
  return { level = level, ca = certs.ca }
end

for _, server in ipairs(servers) do
  describe("moonpost.send to " .. server.name .. " over TLS", function()
    if not server.there then
      pending("is not there, or needs root")
      return
    end

    local sink

    setup(function()
      sink = require("spec.support.sinks." .. server.name)(server.options)
    end)

    teardown(function()
      sink:close()
    end)

    before_each(function()
      sink.given = #sink:messages()
    end)

    local function arrived(from)
      local message = sink:take()
      assert.same({ from or FROM, TO, MESSAGE }, { message.sender, message.recipients[1], message.octets })
      return message
    end

    it("delivers over STARTTLS, to a certificate that is verified", function()
      local result = assert(send { via = sink.url, tls = tls "verified" })
      local facts = result.recipients[1].tls
      assert.same({ true, true }, { facts.used, facts.verified })
      assert.matches("^TLSv1", facts.version)
      arrived()
    end)

    it("delivers over TLS from the first octet", function()
      local result = assert(send { via = sink.implicit, tls = tls "verified" })
      assert.is_true(result.recipients[1].tls.verified)
      arrived()
    end)

    it("delivers over TLS that nobody asked to be verified, and says so", function()
      local result = assert(send { via = sink.url, tls = "opportunistic" })
      local facts = result.recipients[1].tls
      assert.same({ true, false }, { facts.used, facts.verified or false })
      arrived()
    end)

    it("delivers nothing to a certificate that cannot be verified", function()
      local result, err = send { via = sink.url, tls = "verified" } -- the system does not know this authority
      assert.is_nil(result)
      assert.same({ "tls", "deferred" }, { err.recipients[1].stage, err.recipients[1].state })
      result, err = send { via = sink.url, tls = { level = "verified", ca = certs.ca, names = { "mx.example.com" } } }
      assert.is_nil(result)
      assert.equal("tls", err.recipients[1].stage)
      assert.equal(sink.given, #sink:messages())
    end)

    for _, mechanism in ipairs(server.mechanisms) do
      local bearer = mechanism == "XOAUTH2" or mechanism == "OAUTHBEARER"

      local function login(secret)
        return {
          user = accounts.user, password = not bearer and secret or nil, token = bearer and secret or nil,
          mechanisms = { mechanism },
        }
      end

      it("delivers after AUTH " .. mechanism, function()
        local client <close> = assert(moonpost.connect {
          url = sink.url, tls = tls "verified", auth = login(bearer and accounts.token or accounts.password),
        })
        assert.same({ accounts.user, mechanism }, { client.user, client.mechanism })
        assert(client:send { from = accounts.user, to = TO, message = MESSAGE })
        local message = arrived(accounts.user)
        if message.user then
          assert.equal(accounts.user, message.user)
        end
      end)

      it("is told that a secret is wrong by AUTH " .. mechanism, function()
        local client, err = moonpost.connect { url = sink.url, tls = tls "verified", auth = login "wrong" }
        assert.is_nil(client)
        assert.equal("auth", err.kind)
        assert.equal(535, err.code)
      end)
    end

    it("says no secret without TLS", function()
      local said = {}
      local client, err = moonpost.connect {
        url = sink.url, tls = "none", auth = { user = accounts.user, password = accounts.password, mechanisms = { "PLAIN" } },
        trace = function(direction, octets)
          said[#said + 1] = direction == "sent" and octets or ""
        end,
      }
      assert.is_nil(client)
      assert.equal("auth", err.kind)
      assert.is_nil(table.concat(said):find("AUTH", 1, true))
    end)
  end)
end

-- Failed as long as a connection to a socket was to be for a certificate with the socket's path as its name.
describe("moonpost.send to a unix socket whose server has STARTTLS", function()
  local sink

  setup(function()
    sink = require "spec.support.sinks.moonpost" {}
  end)

  teardown(function()
    sink:close()
  end)

  it("uses it, and verifies where a name is given", function()
    local result = assert(send { via = sink.unix, tls = { level = "verified", ca = certs.ca, names = { "mx.example.org" } } })
    assert.same({ true, true }, { result.recipients[1].tls.used, result.recipients[1].tls.verified })
    assert.is_nil((send { via = sink.unix, tls = { level = "verified", ca = certs.ca, names = { "other.example.org" } } }))
    assert.is_true(assert(send { via = sink.unix }).recipients[1].tls.used)
  end)

  it("says that a name is needed", function()
    local result, err = send { via = sink.unix, tls = "verified" }
    assert.is_nil(result)
    assert.same({ "deferred", "tls" }, { err.recipients[1].state, err.recipients[1].stage })
    assert.matches("a socket has no name that a certificate could have: tls.names is needed", tostring(err), 1, true)
  end)
end)
