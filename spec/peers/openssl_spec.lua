local certs = require "spec.support.certs"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local served = require "spec.support.served"

-- s_client to one listener; what it reads is the script, and the end of it the end of the connection.
local function s_client(house, way, ...)
  local command = {
    peers.openssl, "s_client", "-connect", house.at[way], "-nocommands", "-crlf", "-ign_eof", "-CAfile", certs.ca,
    "-verify_return_error", "-name", "client.example.net", ...,
  }
  if way == "smtp" then
    table.move({ "-starttls", "smtp" }, 1, 2, #command + 1, command)
  end
  command.stdin = "EHLO client.example.net\nQUIT\n"
  return process.run(command)
end

local hooks = [[
  function server.on.helo(session)
    local tls = session.tls
    if tls then
      log.info("helo", { version = tls.version, sni = tls.sni or "none", resumed = tls.resumed, verified = tls.verified,
        names = table.concat(tls.names, ","), subject = tls.subject or "none" })
    end
  end
]]

local function tls(more)
  return ("tls = { certificate = %q, key = %q, sni = { ['sni.example.net'] = { certificate = %q, key = %q } }, %s }"):format(
    certs.server.certificate, certs.server.key, certs.other.certificate, certs.other.key, more or "")
end

local LISTEN = { "smtp://127.0.0.1:0", "smtps://127.0.0.1:0" }

describe("openssl s_client", function()
  if not peers.openssl then
    pending("openssl is not installed")
    return
  end

  for _, way in ipairs { "smtp", "smtps" } do
    describe("to " .. way, function()
      local house

      setup(function()
        house = served.start { listen = LISTEN, options = tls(), hooks = hooks }
      end)

      teardown(function()
        house:close()
      end)

      local function subject(result)
        return result.out:match("subject=CN = (%S+)")
      end

      it("finds the certificate good and is answered", function()
        local result = s_client(house, way)
        assert.equal(0, result.code, result.output)
        assert.matches("Verify return code: 0 %(ok%)", result.out)
        assert.matches("\n221 2.0.0 ", result.out)
        house:expect("helo .*version=TLSv1.3")
      end)

      it("is shown the certificate of the name it asks for, and the default one for others", function()
        for _, case in ipairs {
          { "sni.example.net", "sni.example.net" }, { "SNI.example.NET", "sni.example.net" },
          { "mx.example.org", "mx.example.org" }, { "unknown.example.com", "mx.example.org" },
        } do
          local asked, shown = table.unpack(case)
          assert.equal(shown, subject(s_client(house, way, "-servername", asked)), asked)
          house:expect("helo .*sni=" .. asked:gsub("%.", "%%.") .. " ")
        end
        assert.equal("mx.example.org", subject(s_client(house, way, "-noservername")))
        house:expect("helo .*sni=none")
      end)

      for _, version in ipairs { "1_2", "1_3" } do
        it("resumes a session of TLS " .. version, function()
          local file = house.dir:join("session-" .. way .. version)
          local first = s_client(house, way, "-tls" .. version, "-sess_out", file)
          assert.matches("\nNew, TLSv", first.out)
          house:expect("helo .*resumed=false")
          local second = s_client(house, way, "-tls" .. version, "-sess_in", file)
          assert.matches("\nReused, TLSv", second.out)
          house:expect("helo .*resumed=true")
        end)
      end

      for _, version in ipairs { "1", "1_1" } do
        it("is refused TLS " .. version, function()
          local result = s_client(house, way, "-tls" .. version, "-cipher", "DEFAULT@SECLEVEL=0")
          assert.not_equal(0, result.code)
          assert.matches("alert protocol version", result.output)
        end)
      end

      it("is refused a renegotiation", function()
        local command = { peers.openssl, "s_client", "-connect", house.at[way], "-tls1_2", "-CAfile", certs.ca, "-crlf" }
        if way == "smtp" then
          table.move({ "-starttls", "smtp" }, 1, 2, #command + 1, command)
        end
        local client <close> = process.start(command)
        client:expect("^%s*Verify return code")
        client:write("NOOP\n")
        client:expect("^250 OK")
        client:write("R\n")
        client:expect("no renegotiation")
      end)

      it("finds other applications' protocols not spoken, and that fine", function()
        local result = s_client(house, way, "-alpn", "h2")
        assert.equal(0, result.code, result.output)
      end)
    end)
  end

  it("is refused what is below the minimum of the policy", function()
    local house <close> = served.start { listen = LISTEN, options = tls 'min_version = "1.3"', hooks = hooks }
    local result = s_client(house, "smtps", "-tls1_2")
    assert.matches("alert protocol version", result.output)
    assert.equal(0, s_client(house, "smtps").code)
  end)

  it("gets no ticket when the policy has none", function()
    local house <close> = served.start { listen = LISTEN, options = tls "tickets = false", hooks = hooks }
    for _, version in ipairs { "1_2", "1_3" } do
      local file = house.dir:join("session" .. version)
      s_client(house, "smtps", "-tls" .. version, "-sess_out", file)
      local known = require("luv").fs_stat(file) and { "-sess_in", file } or {}
      assert.matches("\nNew, TLSv", s_client(house, "smtps", "-tls" .. version, table.unpack(known)).out)
      house:expect("resumed=false")
    end
    assert.equal(0, house:count("resumed=true"))
  end)

  describe("with a certificate of its own", function()
    local function with(of)
      return "-cert", of.certificate, "-key", of.key
    end

    for _, way in ipairs { "smtp", "smtps" } do
      it("may be anybody when it is only asked, " .. way, function()
        local house <close> = served.start {
          listen = LISTEN, options = tls(('client = "ask", client_ca = %q'):format(certs.ca)), hooks = hooks,
        }
        assert.equal(0, s_client(house, way).code)
        house:expect('helo names="" .*subject=none verified=false')
        assert.equal(0, s_client(house, way, with(certs.client)).code)
        house:expect("helo names=client.example.net,second.example.net .*subject=.*client.example.net.* verified=true")
        assert.equal(0, s_client(house, way, with(certs.stranger)).code)
        house:expect('helo names="" .*verified=false')
      end)

      it("must be known when it is required, " .. way, function()
        local house <close> = served.start {
          listen = LISTEN, options = tls(('client = "require", client_ca = %q'):format(certs.ca)), hooks = hooks,
        }
        assert.not_equal(0, s_client(house, way, "-tls1_2").code)
        assert.not_equal(0, s_client(house, way, "-tls1_2", with(certs.stranger)).code)
        assert.equal(0, house:count("helo "))
        assert.equal(0, s_client(house, way, with(certs.client)).code)
        house:expect("helo names=client.example.net,second.example.net .*verified=true")
      end)

      it("is not asked by default, " .. way, function()
        local house <close> = served.start { listen = LISTEN, options = tls(), hooks = hooks }
        local result = s_client(house, way, with(certs.client))
        assert.matches("No client certificate CA names sent", result.out)
        house:expect('helo names="" .*subject=none verified=false')
      end)
    end
  end)

  it("meets a new certificate after SIGHUP, without a restart", function()
    local house <close> = served.start {
      listen = { "smtps://127.0.0.1:0" },
      before = function(dir)
        local server = certs.server
        for from, to in pairs { [server.certificate] = "mx.pem", [server.key] = "mx.key" } do
          local file <close> = assert(io.open(from, "rb"))
          dir:write(to, file:read("a"))
        end
      end,
      options = 'tls = { certificate = "DIR/mx.pem", key = "DIR/mx.key" }',
    }
    assert.matches("subject=CN = mx.example.org", s_client(house, "smtps").out)
    for from, to in pairs { [certs.other.certificate] = "mx.pem", [certs.other.key] = "mx.key" } do
      local file <close> = assert(io.open(from, "rb"))
      house.dir:write(to, file:read("a"))
    end
    house.process:kill("sighup")
    house:expect("policy loaded")
    assert.matches("subject=CN = sni.example.net", s_client(house, "smtps").out)
    house.dir:write("mx.pem", "nonsense")
    house.process:kill("sighup")
    house:expect("not loaded.*mx%.pem")
    assert.matches("subject=CN = sni.example.net", s_client(house, "smtps").out)
  end)
end)
