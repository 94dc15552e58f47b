local accounts = require "spec.peers.accounts"
local certs = require "spec.support.certs"
local clients = require "spec.peers.clients"
local peers = require "spec.support.peers"
local served = require "spec.support.served"

describe("smtplib", function()
  if not peers.python3 then
    pending("python3 is not installed")
    return
  end

  local house
  local eight_bit = "Subject: Gr\xfc\xdfe\r\n\r\n\xe4\xf6\xfc\r\n.\r\n..x\r\n"

  setup(function()
    house = served.start {
      listen = {
        "smtp://127.0.0.1:0", "submission://127.0.0.1:0", "submissions://127.0.0.1:0", "lmtp://127.0.0.1:0",
        '{ "lmtp://unix:DIR/lmtp.sock", name = "socket" }',
      },
      options = accounts.options .. ', extensions = { "DSN" }',
      hooks = accounts.hooks .. [[
        function server.on.rcpt(session, recipient)
          if recipient.mailbox == "nobody" then return 550, "5.1.1", "No such mailbox" end
          log.info("rcpt", { to = recipient.address, params = recipient.params })
        end
        function server.on.message(_, message)
          message:deliver { maildir = dir .. "/mail/%{mailbox}" }
          message:to(function(r) return r.mailbox == "full" end):refuse(452, "4.2.2", "Mailbox full")
          log.info("message", { params = message.params, eight_bit = message.eight_bit })
        end
      ]],
    }
    house.dir:write("mail.txt", eight_bit)
  end)

  teardown(function()
    house:close()
  end)

  local function ask(way, changes)
    local that = {
      host = "127.0.0.1", port = house.port[way], ca = certs.ca, from = accounts.user, to = { "bob@example.org" },
      file = house.dir:join("mail.txt"),
    }
    for key, value in pairs(changes or {}) do
      that[key] = value
    end
    return clients.python(that)
  end

  it("delivers 8-bit octets as they are", function()
    assert.is_nil(ask("smtp", { options = { "BODY=8BITMIME" } }).error)
    house:expect("message eight_bit=true")
    assert.equal((eight_bit:gsub("\r\n", "\n")), (served.strip(house:octets("bob"))))
  end)

  it("sees what is announced", function()
    local features = " " .. table.concat(ask("smtp").features, " ") .. " "
    for _, name in ipairs { "8bitmime", "chunking", "dsn", "enhancedstatuscodes", "pipelining", "size", "smtputf8", "starttls" } do
      assert.matches(" " .. name .. " ", features, 1, true)
    end
    assert.is_nil(features:find(" auth ", 1, true))
    house:take("bob")
  end)

  for way, mode in pairs { smtp = "starttls", submissions = "implicit" } do
    it("verifies the certificate, " .. mode, function()
      local answer = ask(way, { mode = mode, mech = "PLAIN", user = accounts.user, password = accounts.password })
      assert.is_nil(answer.error, answer.text)
      assert.matches("with ESMTPSA ", house:take("bob"))
    end)
  end

  it("sends SMTPUTF8 addresses, and they stay what they are", function()
    assert.is_nil(ask("smtp", { from = "jörg@bücher.example", to = { "büro@example.org" }, options = { "SMTPUTF8" } }).error)
    assert.matches("^Return%-Path: <jörg@bücher.example>\nDelivered%-To: büro@example.org\n", house:take("büro"))
  end)

  it("hands over the parameters of DSN", function()
    assert.is_nil(ask("smtp", {
      options = { "RET=HDRS", "ENVID=a+2Bb" }, rcpt_options = { "NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;bob@example.com" },
    }).error)
    house:expect([[rcpt params=.*notify.*orcpt\":\"bob@example%.com\"]])
    house:expect([[message .*envid\":\"a%+b\",\"ret\":\"HDRS]])
    house:take("bob")
  end)

  it("is told which recipients are refused", function()
    assert.same({ ["nobody@example.org"] = { 550, "5.1.1 No such mailbox" } },
      ask("smtp", { to = { "nobody@example.org", "bob@example.org" } }).refused)
    house:take("bob")
    assert.equal("recipients", ask("smtp", { to = { "nobody@example.org" } }).error)
  end)

  it("is told that the message is too large", function()
    local small <close> = served.start { options = 'limits = { size = 30 }' } -- it says SIZE=31 of itself
    local answer = ask("smtp", { port = small.port.smtp })
    assert.equal(552, answer.code)
    assert.equal("SMTPSenderRefused", answer.error)
  end)

  for _, mechanism in ipairs { "PLAIN", "LOGIN", "CRAM-MD5" } do
    for _, initial in ipairs(mechanism == "CRAM-MD5" and { false } or { true, false }) do
      it(("authenticates by %s, %s"):format(mechanism, initial and "at once" or "when asked"), function()
        local answer = ask("submission", {
          mode = "starttls", mech = mechanism, user = accounts.user, password = accounts.password, initial = initial,
        })
        assert.is_nil(answer.error, answer.text)
        house:expect(("mail by=%s from=user@example.org"):format(mechanism:gsub("%-", "%%-")))
        house:take("bob")
      end)
    end

    it("is refused a wrong password and an unknown user for " .. mechanism, function()
      for user, password in pairs { [accounts.user] = "wrong", ["other@example.org"] = accounts.password } do
        local answer = ask("submission", { mode = "starttls", mech = mechanism, user = user, password = password })
        assert.equal("SMTPAuthenticationError", answer.error)
        assert.equal(535, answer.code)
      end
    end)
  end

  for _, way in ipairs { "lmtp", "socket" } do
    it("speaks LMTP, " .. way, function()
      local where = way == "socket" and house.dir:join("lmtp.sock") or nil
      local answer = ask(way, { mode = "lmtp", path = where, to = { "nobody@example.org", "bob@example.org" } })
      assert.is_nil(answer.error, answer.text)
      assert.same({ ["nobody@example.org"] = { 550, "5.1.1 No such mailbox" } }, answer.refused)
      assert.matches("with LMTP\n", house:take("bob"))
    end)
  end
end)
