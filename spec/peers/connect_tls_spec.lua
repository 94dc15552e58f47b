-- moonpost.connect over sockets and TLS, to our own server: what is verified, what is refused, what is said of it.
local certs = require "spec.support.certs"
local moonpost = require "moonpost"
local served = require "spec.support.served"
local tmpdir = require "spec.support.tmpdir"

describe("moonpost.connect over TLS", function()
  local house
  setup(function()
    house = served.start {
      listen = { "smtp://127.0.0.1:0", "smtps://127.0.0.1:0" },
      options = ([[ tls = { certificate = %q, key = %q, client = "ask", client_ca = %q },
        limits = { auth_delay = 0 },
        mechanisms = { "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS",
          "XOAUTH2", "OAUTHBEARER" },
      ]]):format(certs.server.certificate, certs.server.key, certs.ca),
      hooks = [[
function server.on.credentials(_, user) return user == "me" and { password = "geheim" } or nil end
function server.on.helo(session, name)
  if name == "who.example.org" and session.tls then return 550, "5.7.1", "subject " .. tostring(session.tls.subject) end
end
function server.on.token(_, user, token) return token == "t0ken" end
]],
    }
  end)
  teardown(function()
    house:close()
  end)

  local function connect(way, tls, more)
    local options = {
      host = "127.0.0.1", port = house.port[way], protocol = way, tls = tls, helo = "client.example.org",
    }
    for name, value in pairs(more or {}) do
      options[name] = value
    end
    return moonpost.connect(options)
  end

  for _, way in ipairs { "smtp", "smtps" } do
    describe("to " .. way, function()
      it("takes any certificate when it is opportunistic or required, and says what it is worth", function()
        for _, level in ipairs { "opportunistic", "required" } do
          local client <close> = assert(connect(way, level))
          assert.is_true(client.tls.used)
          assert.equal("TLSv1.3", client.tls.version)
          assert.is_false(client.tls.verified)
          assert.is_string(client.tls.why)
          assert(client:send { from = "a@example.net", to = "bob@example.org", subject = way, text = "x" })
        end
      end)

      it("verifies names against its own authority", function()
        local client <close> = assert(connect(way, { level = "verified", ca = certs.ca, names = "mx.example.org" }))
        assert.is_true(client.tls.verified)
        assert.equal("names", client.tls.how)
      end)

      it("refuses another name, and an authority that nobody knows", function()
        for _, tls in ipairs { { level = "verified", ca = certs.ca, names = "other.example.com" }, "verified" } do
          local client, err = connect(way, tls)
          assert.is_nil(client)
          assert.equal("tls", err.kind)
          assert.is_nil(err.message:find("[\r\n]"))
        end
      end)

      it("knows a fingerprint", function()
        local fingerprint
        do
          local client <close> = assert(connect(way, "required"))
          fingerprint = client.tls.fingerprint
        end
        local client <close> = assert(connect(way, { pins = fingerprint:upper():gsub("..", "%0:"):sub(1, -2) }))
        assert.equal("pin", client.tls.how)
        local other, err = connect(way, { pins = ("0"):rep(64) })
        assert.is_nil(other)
        assert.equal("tls", err.kind)
      end)

      it("shows its own certificate", function()
        local client <close> = assert(connect(way, { level = "required", certificate = certs.client.certificate, key = certs.client.key }))
        assert.is_true(client.tls.used)
      end)

      -- Configurations are kept by what they were made of; a renewed certificate was not read until the process ended.
      it("reads a certificate that was renewed, in the old file or by a new one in its place", function()
        local dir <close> = tmpdir.new()
        local file = dir:join("ours.pem")
        local function write(path, of)
          local octets = {}
          for _, part in ipairs { of.certificate, of.key } do
            local from <close> = assert(io.open(part))
            octets[#octets + 1] = from:read "a"
          end
          local to <close> = assert(io.open(path, "w"))
          to:write(table.concat(octets))
        end
        local function who()
          local client, err = connect(way, { level = "required", certificate = file }, { helo = "who.example.org" })
          assert.is_nil(client)
          return err.message:match("subject.*CN *= *([%w.]+)")
        end
        write(file, certs.client)
        assert.equal("client.example.net", who())
        assert.equal("client.example.net", who())
        write(file, certs.two)
        assert.equal("two.example.net", who())
        write(file .. ".new", certs.client)
        assert(os.rename(file .. ".new", file))
        assert.equal("client.example.net", who())
      end)

      it("is told of a file that is not there", function()
        local client, err = connect(way, { level = "verified", ca = "/nowhere/ca.pem" })
        assert.is_nil(client)
        assert.matches("/nowhere/ca.pem: no such file", err.message)
      end)

      for _, mechanism in ipairs { "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS" } do
        it("authenticates by " .. mechanism, function()
          local auth = { user = "me", password = "geheim", mechanisms = mechanism }
          local client <close> = assert(connect(way, "required", { auth = auth }))
          assert.equal(mechanism, client.mechanism)
          auth.password = "falsch"
          local other, err = connect(way, "required", { auth = auth })
          assert.is_nil(other)
          assert.equal("auth", err.kind)
          assert.equal(535, err.code)
        end)
      end

      for _, mechanism in ipairs { "XOAUTH2", "OAUTHBEARER" } do
        it("authenticates by " .. mechanism, function()
          local client <close> = assert(connect(way, "required", { auth = { user = "me", token = "t0ken", mechanisms = mechanism } }))
          assert.equal(mechanism, client.mechanism)
          local other, err = connect(way, "required", { auth = { user = "me", token = "other", mechanisms = mechanism } })
          assert.is_nil(other)
          assert.equal("auth", err.kind)
        end)
      end

      it("chooses the strongest mechanism", function()
        local client <close> = assert(connect(way, "required", { auth = { user = "me", password = "geheim" } }))
        assert.equal("SCRAM-SHA-256-PLUS", client.mechanism)
      end)

      it("resumes a session", function()
        for _ = 1, 2 do
          local client <close> = assert(connect(way, "required", { helo = "again.example.org" }))
          assert(client:send { from = "a@example.net", to = "bob@example.org", text = "x" })
        end
        local client <close> = assert(connect(way, "required"))
        assert.is_true(client.tls.resumed)
        local other <close> = assert(connect(way, { level = "verified", ca = certs.ca })) -- under other terms it is not
        assert.is_false(other.tls.resumed)
        assert.is_true(other.tls.verified)
      end)

      it("carries 2 MB whole", function()
        local octets = "Subject: large\r\n\r\n" .. (("."):rep(70) .. "\r\n"):rep(30000)
        local client <close> = assert(connect(way, "required"))
        assert(client:send { from = "a@example.net", to = "large@example.org", message = octets })
      end)
    end)
  end

  it("sends no credentials where the certificate does not hold", function()
    local client, err = connect("smtp", nil, { auth = { user = "me", password = "geheim" } })
    assert.is_nil(client)
    assert.equal("tls", err.kind)
  end)

  -- In a plain script nobody turned the loop once a message was sent: the connection stayed open, and the server waited for its end.
  it("has said goodbye when a script goes on", function()
    local heard
    assert(moonpost.send {
      via = "smtps://127.0.0.1:" .. house.port.smtps, tls = "required", from = "a@example.net", to = "bob@example.org", text = "x",
      trace = function(direction, octets)
        heard = direction == "received" and octets or heard
      end,
    })
    assert.matches("^221 ", heard)
  end)
end)
