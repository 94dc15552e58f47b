local accounts = require "spec.peers.accounts"
local certs = require "spec.support.certs"
local clients = require "spec.peers.clients"
local peers = require "spec.support.peers"
local served = require "spec.support.served"

describe("nodemailer", function()
  if not peers.has_node_module("nodemailer") then
    pending("nodemailer is not among the peers")
    return
  end

  local house

  setup(function()
    house = served.start {
      listen = { "smtp://127.0.0.1:0", "submission://127.0.0.1:0", "submissions://127.0.0.1:0", "lmtp://127.0.0.1:0" },
      options = accounts.options,
      hooks = accounts.hooks .. [[
        function server.on.rcpt(session, recipient)
          if recipient.mailbox == "nobody" then return 550, "5.1.1", "No such mailbox" end
        end
      ]],
    }
  end)

  teardown(function()
    house:close()
  end)

  local function transport(way, changes)
    local that = { host = "127.0.0.1", port = house.port[way], name = "client.example.net", secure = way == "submissions",
      tls = { servername = "mx.example.org" }, requireTLS = way == "submission", ignoreTLS = way == "smtp" }
    for key, value in pairs(changes or {}) do
      that[key] = value
    end
    return that
  end

  local function mail(changes)
    local that = { envelope = { from = accounts.user, to = { "bob@example.org" } }, from = accounts.user,
      to = "bob@example.org", subject = "by nodemailer", text = "Hello.\n.\nBye.\n" }
    for key, value in pairs(changes or {}) do
      that[key] = value
    end
    return that
  end

  local function send(way, changes, ...)
    return clients.node { transport = transport(way, changes), ca = certs.ca, mails = { ... } }
  end

  it("delivers in clear", function()
    local answer = send("smtp", nil, mail())[1]
    assert.matches("^250 2.0.0 Accepted as ", answer.response)
    assert.matches("\n\nHello.\n.\nBye.\n$", house:take("bob"))
  end)

  it("delivers many over one connection", function()
    local answers = send("smtp", { pool = true, maxConnections = 1 }, mail(), mail(), mail(), mail(), mail())
    assert.equal(5, #answers)
    for _, answer in ipairs(answers) do
      assert.matches("^250 ", answer.response)
    end
    assert.equal(5, #house:mail("bob"))
    for _, file in ipairs(house.dir:list("mail/bob/new")) do
      os.remove(house.dir:join("mail/bob/new", file))
    end
  end)

  it("is told which recipients are refused", function()
    local to = { "bob@example.org", "nobody@example.org", "somebody@example.com" }
    local answer = send("smtp", nil, mail { envelope = { from = accounts.user, to = to } })[1]
    assert.same({ "bob@example.org" }, answer.accepted)
    assert.same({ "nobody@example.org", "somebody@example.com" }, answer.rejected)
    house:take("bob")
  end)

  it("sends SMTPUTF8 addresses and a body that is not ASCII", function()
    local answer = send("smtp", nil, mail {
      envelope = { from = "jörg@example.net", to = { "büro@example.org" } }, text = "Grüße", textEncoding = "8bit",
    })[1]
    assert.is_nil(answer.error, answer.response)
    assert.matches("^Return%-Path: <jörg@example.net>\n", house:take("büro"))
  end)

  for _, way in ipairs { "submission", "submissions" } do
    for _, mechanism in ipairs { "PLAIN", "LOGIN", "CRAM-MD5" } do
      it(("authenticates by %s over %s"):format(mechanism, way), function()
        local answer = send(way, {
          authMethod = mechanism, auth = { user = accounts.user, pass = accounts.password },
        }, mail())[1]
        assert.is_nil(answer.error, answer.response)
        house:expect(("mail by=%s from=user@example.org"):format(mechanism:gsub("%-", "%%-")))
        assert.matches("with ESMTPSA ", house:take("bob"))
      end)
    end

    it("authenticates by XOAUTH2 over " .. way, function()
      local answer = send(way, { auth = { type = "OAuth2", user = accounts.user, accessToken = accounts.token } }, mail())[1]
      assert.is_nil(answer.error, answer.response)
      house:expect("mail by=XOAUTH2 from=user@example.org")
      house:take("bob")
    end)
  end

  for _, mechanism in ipairs { "PLAIN", "LOGIN", "CRAM-MD5" } do
    it("is refused a wrong password for " .. mechanism, function()
      local answer = send("submission", {
        authMethod = mechanism, auth = { user = accounts.user, pass = "wrong" },
      }, mail())[1]
      assert.equal("EAUTH", answer.error)
      assert.equal(535, answer.code)
    end)
  end

  it("is refused a wrong token for XOAUTH2", function()
    local answer = send("submission", { auth = { type = "OAuth2", user = accounts.user, accessToken = "stale" } }, mail())[1]
    assert.equal("EAUTH", answer.error) -- it wanted a new token at once, and nobody gave it the means
    assert.same({}, house:mail("bob"))
  end)

  it("speaks LMTP", function()
    local answer = send("lmtp", { lmtp = true, ignoreTLS = true }, mail {
      envelope = { from = accounts.user, to = { "bob@example.org", "nobody@example.org" } },
    })[1]
    assert.is_nil(answer.error, answer.response)
    assert.same({ "nobody@example.org" }, answer.rejected)
    assert.matches("with LMTP\n", house:take("bob"))
  end)
end)
