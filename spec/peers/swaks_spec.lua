local accounts = require "spec.peers.accounts"
local certs = require "spec.support.certs"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local served = require "spec.support.served"

-- Speaks to `at` ("address:port", or the path of a unix socket) with further arguments of swaks.
local function swaks(at, ...)
  return process.run {
    peers.swaks, "--from", "alice@example.net", "--to", "bob@example.org", "--helo", "client.example.net",
    at:find("^/") and "--socket" or "--server", at, ...,
  }
end

local NO_TLS, REFUSED_RCPT, REFUSED_AUTH = 29, 24, 28 -- swaks' exit statuses

describe("swaks", function()
  if not peers.swaks then
    pending("swaks is not installed")
    return
  end

  local house

  setup(function()
    house = served.start {
      listen = {
        "smtp://127.0.0.1:0", '{ "submission://127.0.0.1:0" }', "submissions://127.0.0.1:0", "lmtp://127.0.0.1:0",
        '{ "lmtp://unix:DIR/lmtp.sock", name = "socket" }',
      },
      options = accounts.options,
      hooks = accounts.hooks .. [[
        function server.on.rcpt(session, recipient)
          log.info("rcpt", { ip = session.ip, helo = session.helo, tls = session.tls and session.tls.version,
            login = session.user, class = recipient.class })
          if recipient.mailbox == "nobody" then return 550, "5.1.1", "No such mailbox" end
        end
        function server.on.message(_, message)
          message:deliver { maildir = dir .. "/mail/%{mailbox}" }
          message:to(function(r) return r.mailbox == "full" end):refuse(452, "4.2.2", "Mailbox full")
        end
      ]],
    }
  end)

  teardown(function()
    house:close()
  end)

  local function ok(...)
    local result = swaks(...)
    assert.equal(0, result.code, result.output)
    return result
  end

  it("delivers into a Maildir, with the fields of the way on top", function()
    ok(house.at.smtp, "--header", "Subject: plain", "--body", "Hello.\n.dot\n..\n")
    local mail = house:take("bob")
    assert.matches("^Return%-Path: <alice@example.net>\n", mail)
    assert.matches("\nDelivered%-To: bob@example.org\n", mail)
    assert.matches("\nReceived: from client.example.net %(%[127.0.0.1%]%)\n\tby mx.example.org with ESMTP\n", mail)
    assert.matches("\nSubject: plain\n", mail)
    assert.matches("\n\nHello.\n.dot\n..\n", mail)
  end)

  it("speaks HELO", function()
    ok(house.at.smtp, "--protocol", "SMTP")
    assert.matches("\tby mx.example.org with SMTP\n", house:take("bob"))
  end)

  it("speaks STARTTLS, and the certificate is good", function()
    ok(house.at.smtp, "--tls", "--tls-verify", "--tls-ca-path", certs.ca)
    assert.matches("with ESMTPS ", house:take("bob"))
    house:expect("rcpt .*tls=TLSv1.3")
  end)

  it("speaks TLS 1.2", function()
    ok(house.at.smtp, "--tls", "--tls-protocol", "tlsv1_2")
    house:take("bob")
    house:expect("rcpt .*tls=TLSv1.2")
  end)

  it("is refused TLS 1.1", function()
    local result = swaks(house.at.smtp, "--tls", "--tls-protocol", "tlsv1_1", "--tls-cipher", "DEFAULT@SECLEVEL=0")
    assert.equal(NO_TLS, result.code, result.output)
    assert.same({}, house:mail("bob"))
  end)

  it("sends a pipelined group", function()
    ok(house.at.smtp, "--pipeline", "--to", "bob@example.org,carol@example.org,nobody@example.org")
    house:take("bob")
    house:take("carol")
  end)

  it("is told of a refused recipient, and of relaying", function()
    local result = swaks(house.at.smtp, "--to", "nobody@example.org")
    assert.equal(REFUSED_RCPT, result.code)
    assert.matches("<%*%* 550 5.1.1 No such mailbox", result.output)
    result = swaks(house.at.smtp, "--to", "somebody@example.com")
    assert.equal(REFUSED_RCPT, result.code)
    assert.matches("<%*%* 550 5.7.1 ", result.output)
  end)

  it("finds no AUTH before TLS, and may not submit without", function()
    local result = swaks(house.at.smtp, "--auth", "PLAIN", "--auth-user", accounts.user, "--auth-password", accounts.password)
    assert.equal(REFUSED_AUTH, result.code, result.output)
    result = swaks(house.at.submission)
    assert.matches("<%*%* 530 5.7.0 ", result.output)
    result = swaks(house.at.submission, "--tls")
    assert.matches("<~%* 530 5.7.0 ", result.output)
  end)

  for _, mechanism in ipairs { "PLAIN", "LOGIN", "CRAM-MD5" } do
    for _, way in ipairs { "submission", "submissions" } do
      local tls = way == "submissions" and "--tls-on-connect" or "--tls"

      it("authenticates by " .. mechanism .. " over " .. way, function()
        ok(house.at[way], tls, "--auth", mechanism, "--auth-user", accounts.user, "--auth-password", accounts.password,
          "--from", accounts.user, "--to", "somebody@example.com,bob@example.org")
        house:expect(("mail by=%s from=user@example.org user=user@example.org"):format(mechanism:gsub("%-", "%%-")))
        assert.matches("with ESMTPSA ", house:take("bob"))
        house:take("somebody")
      end)
    end

    it("is refused a wrong password for " .. mechanism, function()
      local result = swaks(house.at.submission, "--tls", "--auth", mechanism, "--auth-user", accounts.user,
        "--auth-password", accounts.password .. "r")
      assert.equal(REFUSED_AUTH, result.code, result.output)
      assert.matches("<~%* 535 5.7.8 ", result.output)
      assert.is_nil(house.process.output:find(accounts.password, 1, true))
    end)
  end

  it("may send only as the addresses that are the user's", function()
    local result = swaks(house.at.submission, "--tls", "--auth", "PLAIN", "--auth-user", accounts.user,
      "--auth-password", accounts.password, "--from", "alice@example.org")
    assert.matches("<~%* 553 5.7.1 ", result.output)
  end)

  for _, way in ipairs { "lmtp", "socket" } do
    it("hears of each recipient of its own over LMTP, " .. way, function()
      local result = swaks(house.at[way]:gsub("^unix:", ""), "--protocol", "LMTP",
        "--to", "bob@example.org,full@example.org,nobody@example.org,carol@example.org")
      local replies = {}
      for code in result.output:gmatch("\n<[-*~ ]*%s+(%d%d%d) [%d.]+ [^\n]*") do
        replies[#replies + 1] = code
      end
      assert.matches(table.concat({ "250", "452", "250" }, " "), table.concat(replies, " "), 1, true)
      assert.matches("452 4.2.2 Mailbox full", result.output, 1, true)
      assert.matches("with LMTP\n", house:take("bob"))
      house:take("carol")
      assert.same({}, house:mail("full"))
    end)
  end
end)

describe("swaks behind a proxy", function()
  if not peers.swaks then
    pending("swaks is not installed")
    return
  end

  local house

  setup(function()
    house = served.start {
      options = 'proxy = { "127.0.0.1" }, relay = { networks = { "10.0.0.0/8", "127.0.0.0/8" } }',
      hooks = [[
        function server.on.rcpt(session, recipient)
          log.info("rcpt", { ip = session.ip, port = session.port, local_ip = session.local_ip, proxied = session.proxied,
            class = recipient.class })
        end
      ]],
    }
  end)

  teardown(function()
    house:close()
  end)

  for version = 1, 2 do
    local function proxied(source, ...)
      return swaks(house.at.smtp, "--proxy-version", tostring(version), "--proxy-family", version == 1 and "TCP4" or "AF_INET",
        "--proxy-source", source, "--proxy-source-port", "4444", "--proxy-dest", "192.0.2.1", "--proxy-dest-port", "25", ...)
    end

    it("is who the header of version " .. version .. " names", function()
      local result = proxied("203.0.113.9")
      assert.equal(0, result.code, result.output)
      house:expect("rcpt class=local ip=203.0.113.9 local_ip=192.0.2.1 port=4444 proxied=true")
      assert.matches("client.example.net %(%[203.0.113.9%]%)", house:take("bob"))
    end)

    it("relays by the address in the header of version " .. version .. " and not by the proxy's", function()
      local result = proxied("203.0.113.9", "--to", "somebody@example.com")
      assert.equal(REFUSED_RCPT, result.code, result.output)
      result = proxied("10.1.2.3", "--to", "somebody@example.com")
      assert.equal(0, result.code, result.output)
      house:expect("rcpt class=relay ip=10.1.2.3")
      house:take("somebody")
    end)
  end

  it("is closed without a header", function()
    local strict <close> = served.start { options = 'proxy = { "127.0.0.1" }, limits = { handshake_time = "300ms" }' }
    local result = swaks(strict.at.smtp)
    assert.not_equal(0, result.code)
    assert.is_nil(result.output:find("220 ", 1, true), result.output)
  end)
end)

describe("swaks with XCLIENT", function()
  if not peers.swaks then
    pending("swaks is not installed")
    return
  end

  local hooks = [[
    function server.on.rcpt(session, recipient)
      log.info("rcpt", { ip = session.ip, helo = session.helo, user = session.user or "nobody", class = recipient.class })
    end
  ]]

  it("is believed from a listed network: address, name and login", function()
    local house <close> = served.start { options = 'xclient = { "127.0.0.1" }, relay = { authenticated = true }', hooks = hooks }
    local result = swaks(house.at.smtp, "--xclient-addr", "203.0.113.77", "--xclient-helo", "far.example.net")
    assert.equal(0, result.code, result.output)
    house:expect("rcpt class=local helo=client.example.net ip=203.0.113.77 user=nobody")
    house:take("bob")
    result = swaks(house.at.smtp, "--xclient-addr", "203.0.113.77", "--xclient-login", "user@example.org",
      "--from", "user@example.org", "--to", "somebody@example.com")
    assert.equal(0, result.code, result.output)
    house:expect("rcpt class=relay helo=client.example.net ip=203.0.113.77 user=user@example.org")
  end)

  it("is refused from elsewhere", function()
    local house <close> = served.start { options = 'xclient = { "10.0.0.0/8" }', hooks = hooks }
    local result = swaks(house.at.smtp, "--xclient", "ADDR=203.0.113.77")
    assert.not_equal(0, result.code)
    assert.matches("did not advertise XCLIENT", result.output)
    local peer <close> = raw.session(house.port.smtp)
    assert.matches("^550 5.7.0 ", peer:command("XCLIENT ADDR=203.0.113.77"))
    assert.same({}, house:mail("bob"))
  end)
end)
