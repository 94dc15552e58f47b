local accounts = require "spec.peers.accounts"
local certs = require "spec.support.certs"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local served = require "spec.support.served"

describe("curl", function()
  if not peers.curl then
    pending("curl is not installed")
    return
  end

  local house
  local LOGIN_DENIED, SEND_ERROR = 67, 55 -- curl's exit statuses; a refused recipient is a SEND_ERROR to it

  setup(function()
    house = served.start {
      listen = {
        "smtp://127.0.0.1:0", "submission://127.0.0.1:0", "submissions://127.0.0.1:0",
        '{ "smtp://[::1]:0", name = "six" }',
        '{ "submission://127.0.0.1:0", name = "XOAUTH2", mechanisms = { "XOAUTH2" } }', -- curl would choose the other
        '{ "submission://127.0.0.1:0", name = "OAUTHBEARER", mechanisms = { "OAUTHBEARER" } }',
      },
      options = accounts.options,
      hooks = accounts.hooks .. [[
        function server.on.rcpt(_, recipient)
          if recipient.mailbox == "nobody" then return 550, "5.1.1", "No such mailbox" end
        end
      ]],
    }
    house.dir:write("mail.txt", "Subject: by curl\r\n\r\n.dots\r\n..\r\nend\r\n")
  end)

  teardown(function()
    house:close()
  end)

  -- curl names the server as the certificate does, and the name leads to loopback.
  local function curl(way, ...)
    local scheme = way == "submissions" and "smtps" or "smtp"
    return process.run {
      peers.curl, "-sSv", "--url", ("%s://mx.example.org:%d/client.example.net"):format(scheme, house.port[way]),
      "--resolve", ("mx.example.org:%d:127.0.0.1"):format(house.port[way]), "--cacert", certs.ca,
      "-T", house.dir:join("mail.txt"), ...,
    }
  end

  local function ok(...)
    local result = curl(...)
    assert.equal(0, result.code, result.output)
    return result
  end

  local envelope = { "--mail-from", "user@example.org", "--mail-rcpt", "bob@example.org" }

  it("delivers in clear, and what arrives is what was sent", function()
    ok("smtp", table.unpack(envelope))
    local octets, fields = served.strip(house:octets("bob"))
    assert.equal((house.dir:read("mail.txt"):gsub("\r\n", "\n")), octets)
    assert.matches("from client.example.net %(%[127.0.0.1%]%)", fields)
  end)

  it("delivers over IPv6", function()
    local result = process.run {
      peers.curl, "-sSv", "--url", ("smtp://[::1]:%d/client.example.net"):format(house.port.six), "-T",
      house.dir:join("mail.txt"), table.unpack(envelope),
    }
    assert.equal(0, result.code, result.output)
    assert.matches("from client.example.net %(%[IPv6:::1%]%)", house:take("bob"))
  end)

  it("trusts the certificate over STARTTLS", function()
    ok("smtp", "--ssl-reqd", table.unpack(envelope))
    assert.matches("with ESMTPS ", house:take("bob"))
  end)

  it("is told that somebody is unknown, and may go on for the others", function()
    local result = curl("smtp", "--mail-rcpt", "nobody@example.org", table.unpack(envelope))
    assert.equal(SEND_ERROR, result.code, result.output)
    assert.matches("550 5.1.1 No such mailbox", result.output)
    ok("smtp", "--mail-rcpt-allowfails", "--mail-rcpt", "nobody@example.org", table.unpack(envelope))
    house:take("bob")
  end)

  it("sends addresses that are not ASCII", function()
    ok("smtp", "--mail-from", "jörg@example.net", "--mail-rcpt", "bob@example.org")
    assert.matches("^Return%-Path: <jörg@example.net>\n", house:take("bob"))
  end)

  it("asks by VRFY, EXPN and HELP", function()
    for command, reply in pairs { ["VRFY bob"] = "< 252 2", ["EXPN list"] = "< 502 5", HELP = "< 214 2" } do
      local result = process.run { peers.curl, "-sSv", "--url", "smtp://" .. house.at.smtp, "-X", command }
      assert.matches(reply, result.output, 1, true)
    end
  end)

  local mechanisms = { "PLAIN", "LOGIN", "CRAM-MD5" }
  if process.run({ peers.curl, "--version" }).out:lower():find("gsasl", 1, true) then
    table.move({ "SCRAM-SHA-1", "SCRAM-SHA-256" }, 1, 2, 4, mechanisms)
  end

  for _, mechanism in ipairs(mechanisms) do
    for _, way in ipairs { "submission", "submissions" } do
      it("authenticates by " .. mechanism .. " over " .. way, function()
        ok(way, "--ssl-reqd", "--login-options", "AUTH=" .. mechanism, "--user", accounts.user .. ":" .. accounts.password,
          table.unpack(envelope))
        house:expect(("mail by=%s from=user@example.org user=user@example.org"):format(mechanism:gsub("%-", "%%-")))
        house:take("bob")
      end)
    end

    it("is refused a wrong password for " .. mechanism, function()
      local result = curl("submission", "--ssl-reqd", "--login-options", "AUTH=" .. mechanism, "--user",
        accounts.user .. ":wrong", table.unpack(envelope))
      assert.equal(LOGIN_DENIED, result.code, result.output)
      assert.matches("< 535 5.7.8 ", result.output)
    end)
  end

  for _, mechanism in ipairs { "XOAUTH2", "OAUTHBEARER" } do
    for _, initial in ipairs { true, false } do
      it(("authenticates by %s, %s"):format(mechanism, initial and "at once" or "when asked"), function()
        ok(mechanism, "--ssl-reqd", "--login-options", "AUTH=" .. mechanism, "--user", accounts.user, "--oauth2-bearer",
          accounts.token, initial and "--sasl-ir" or "--no-sasl-ir", table.unpack(envelope))
        house:expect(("mail by=%s from=user@example.org user=user@example.org"):format(mechanism))
        house:take("bob")
      end)
    end

    it("is refused a wrong token for " .. mechanism, function()
      local result = curl(mechanism, "--ssl-reqd", "--login-options", "AUTH=" .. mechanism, "--user", accounts.user,
        "--oauth2-bearer", "stale", table.unpack(envelope))
      assert.equal(LOGIN_DENIED, result.code, result.output)
      -- of XOAUTH2 it does not wait for the end: the challenge in JSON says it all
      assert.matches(mechanism == "XOAUTH2" and "\n< 334 eyJzdGF0dXMiOiI0MDEi" or "\n< 535 5.7.8 ", result.output)
      assert.is_nil(house.process.output:find("stale", 1, true))
    end)
  end

  it("meets a server that goes on after all that", function()
    local peer <close> = raw.session(house.port.smtp)
    assert.equal("221", peer:command("QUIT"):sub(1, 3))
  end)
end)
