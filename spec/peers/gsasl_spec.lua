local accounts = require "spec.peers.accounts"
local certs = require "spec.support.certs"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local served = require "spec.support.served"

-- GNU SASL's command line: the peer that knows SCRAM, and the binding of SCRAM to the TLS channel.
describe("gsasl", function()
  if not peers.gsasl then
    pending("gsasl is not installed")
    return
  end

  local house

  setup(function()
    house = served.start {
      listen = {
        "smtp://127.0.0.1:0",
        '{ "smtp://127.0.0.1:0", name = "plain", mechanisms = { "SCRAM-SHA-256", "CRAM-MD5" }, auth_in_clear = true }',
      },
      options = accounts.options,
      hooks = accounts.hooks .. [[
        function server.on.quit(session)
          log.info("quit", { user = session.user or "nobody", by = session.mechanism or "nothing",
            tls = session.tls and session.tls.version })
        end
      ]],
    }
  end)

  teardown(function()
    house:close()
  end)

  local function gsasl(way, mechanism, password, ...)
    return process.run {
      peers.gsasl, "--smtp", "--connect", house.at[way], "--hostname", "mx.example.org", "--x509-ca-file", certs.ca, "-m",
      mechanism, "-a", accounts.user, "-p", password, ...,
    }
  end

  local function ok(way, mechanism, version, ...)
    local result = gsasl(way, mechanism, accounts.password, ...)
    assert.equal(0, result.code, result.output)
    assert.matches("235 2.7.0 ", result.output)
    local pattern = ("quit by=%s%s user=user@example.org"):format(mechanism, version and " tls=" .. version or "")
    house:expect((pattern:gsub("%-", "%%-")))
  end

  for _, mechanism in ipairs { "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS" } do
    it(mechanism .. " is bound to TLS 1.3 by its exporter", function()
      ok("smtp", mechanism, "TLSv1.3")
    end)

    it(mechanism .. " is bound to TLS 1.2 by tls-unique", function()
      ok("smtp", mechanism, "TLSv1.2", "--priority", "NORMAL:-VERS-TLS1.3")
    end)
  end

  for _, mechanism in ipairs { "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256" } do
    it("authenticates by " .. mechanism, function()
      ok("smtp", mechanism, "TLSv1.3", "--no-cb")
    end)
  end

  for _, mechanism in ipairs {
    "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS",
  } do
    it("is refused a wrong password for " .. mechanism, function()
      local result = gsasl("smtp", mechanism, "wrong", mechanism:find("PLUS") and "--quiet" or "--no-cb")
      assert.equal(1, result.code, result.output)
      assert.matches("\n535 5.7.8 ", result.output)
    end)
  end

  -- gsasl makes what the server keeps, too: {SCRAM-SHA-256}4096,salt,stored,server, which RFC 5803 writes otherwise.
  it("proves a password of which the server knows nothing but SCRAM's strings", function()
    local kept = {}
    for i, mechanism in ipairs { "SCRAM-SHA-1", "SCRAM-SHA-256" } do
      local made = process.run {
        peers.gsasl, "--mkpasswd", "-m", mechanism, "--iteration-count", "5000", "-p", accounts.password,
      }
      local count, salt, stored, server = made.out:match("^{[%w-]+}(%d+),([^,]+),([^,]+),([^,%s]+)%s*$")
      kept[i] = ("%q"):format(("%s$%s:%s$%s:%s"):format(mechanism, count, salt, stored, server))
    end
    local other <close> = served.start {
      options = accounts.options,
      hooks = ("function server.on.credentials() return { scram = { %s } } end"):format(table.concat(kept, ", ")),
    }
    for _, mechanism in ipairs { "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "PLAIN" } do
      for _, password in ipairs { accounts.password, "wrong" } do
        local result = process.run {
          peers.gsasl, "--smtp", "--connect", other.at.smtp, "--hostname", "mx.example.org", "--x509-ca-file", certs.ca,
          "-m", mechanism, "-a", accounts.user, "-p", password, mechanism:find("PLUS") and "--quiet" or "--no-cb",
        }
        assert.equal(password == accounts.password and 0 or 1, result.code, mechanism .. "\n" .. result.output)
      end
    end
  end)

  it("authenticates in clear where the policy allows it, and finds no PLUS there", function()
    ok("plain", "SCRAM-SHA-256", nil, "--no-starttls")
    local result = gsasl("plain", "SCRAM-SHA-256-PLUS", accounts.password, "--no-starttls")
    assert.equal(1, result.code, result.output)
    assert.matches("\n250%-AUTH CRAM%-MD5 SCRAM%-SHA%-256\r?\n", result.output)
    assert.is_nil(result.output:find("235", 1, true))
  end)

  it("does not find AUTH in clear elsewhere", function()
    local result = gsasl("smtp", "SCRAM-SHA-256", accounts.password, "--no-starttls")
    assert.is_nil(result.output:find("AUTH", 1, true))
  end)
end)
