-- What a newcomer to docs/sending.md stumbled over: each option as the page shows it, and what is said when it is written wrongly.
local mail_of = require "moonpost.mail"
local moonpost = require "moonpost"
local test = require "moonpost.test"

local FROM, VIA = "me@example.org", "smtp://relay.example.org"

local function run(relay, fn)
  return test.run(fn, { servers = { ["relay.example.org"] = relay } })
end

-- Sends one message to `relay`; gives its rows.
local function send(relay, mail)
  mail.from, mail.via = mail.from or FROM, VIA
  mail.message = mail.message or not mail.text and "Subject: Hi\r\n\r\nx\r\n" or nil
  return run(relay, function()
    local result, err = moonpost.send(mail)
    return (result or err).recipients
  end)
end

describe("moonpost.send: a recipient that is a table", function()
  it("stands in the header of a message that is made of a text", function()
    local relay = test.server { extensions = { "DSN" } }
    local rows = send(relay, {
      to = { "ann@example.net", { address = "Bob <bob@example.net>", params = { notify = { FAILURE = true }, orcpt = "b@example.net" } } },
      cc = { address = "carl@example.net" }, text = "x",
    })
    assert.same({ true, true, true }, { rows[1].ok, rows[2].ok, rows[3].ok })
    assert.matches("\r\nTo: ann@example.net, Bob <bob@example.net>\r\nCc: carl@example.net\r\n", relay.messages[1].octets, 1, true)
    assert.matches("RCPT TO:<bob@example.net> NOTIFY=FAILURE ORCPT=rfc822;b@example.net", table.concat(relay.commands, "\n"), 1, true)
  end)
end)

describe("moonpost.send: dsn_lost", function()
  it("is said of those alone whose notification was asked for", function()
    local rows = send(test.server(), { to = { "ann@example.net", { address = "bob@example.net", params = { notify = { NEVER = true } } } } })
    assert.is_nil(rows[1].dsn_lost)
    assert.is_true(rows[2].dsn_lost)
  end)

  it("is not said because of other parameters, nor over LMTP", function()
    assert.is_nil(send(test.server(), { to = "ann@example.net", params = { body = "8BITMIME" } })[1].dsn_lost)
    assert.is_nil(send(test.server { extensions = { "SIZE" } }, { to = "ann@example.net", size = 20 })[1].dsn_lost)
    assert.is_true(send(test.server(), { to = "ann@example.net", params = { envid = "e" } })[1].dsn_lost)
    local rows = test.run(function()
      return moonpost.send({ via = "lmtp://unix:/run/lmtp.sock", from = FROM, to = "ann@example.net", message = "x" }).recipients
    end, { servers = { ["unix:/run/lmtp.sock"] = { lmtp = true } } })
    assert.is_nil(rows[1].dsn_lost)
  end)
end)

describe("moonpost.mail: params", function()
  local function prepare(params, of_recipient)
    return mail_of.prepare { from = FROM, to = { { address = "ann@example.net", params = of_recipient } }, message = "x", params = params }
  end

  for _, row in ipairs {
    { { prioriti = 3 }, nil, 'params: unknown name "prioriti" (did you mean "priority"?)' },
    { nil, { notfy = {} }, 'to: params: unknown name "notfy" (did you mean "notify"?)' },
    { "HDRS", nil, "params: a table expected, got a string" },
    { { holduntil = "tomorrow" }, nil, 'params.holduntil: a time such as "2026-03-02T10:15:00Z" expected' },
    { { holduntil = "2026-03-02T10:15:00" }, nil, "params.holduntil: a time" },
    { { holduntil = "2026-03-02T10:15:00Z+01:00" }, nil, "params.holduntil: a time" },
    { { holduntil = 5 }, nil, "params.holduntil: a time" },
  } do
    it("that are wrong are refused: " .. row[3], function()
      local prepared, why = prepare(row[1], row[2])
      assert.is_nil(prepared)
      assert.matches(row[3], why, 1, true)
    end)
  end

  it("say until when a message is held, without being told twice", function()
    for text, seconds in pairs {
      ["1970-01-01T00:00:00Z"] = 0, ["2000-02-29T12:00:00+01:00"] = 951822000, ["2026-03-01T00:00:00Z"] = 1772323200,
      ["2026-03-02T10:15:00.25-00:30"] = 1772448300, ["2100-12-31T23:59:59z"] = 4133980799,
    } do
      assert.equal(seconds, assert(prepare { holduntil = text }).params.holduntil_time, text)
    end
    assert.equal(7, prepare({ holduntil = "2026-03-01T00:00:00Z", holduntil_time = 7 }).params.holduntil_time)
  end)

  it("are left as they are given", function()
    local params = { holduntil = "2026-03-01T00:00:00Z" }
    mail_of.prepare { from = FROM, to = "ann@example.net", message = "x", params = params, size = 1 }
    assert.same({ holduntil = "2026-03-01T00:00:00Z" }, params)
  end)
end)

describe("a client whose connection has ended", function()
  it("says that it has been closed, by QUIT and by close()", function()
    for _, how in ipairs { "quit", "close", "leave" } do
      run(test.server(), function()
        local client = assert(moonpost.connect { host = "relay.example.org", tls = "none" })
        client[how](client)
        local reply, err = client:noop()
        assert.is_nil(reply)
        assert.equal("connection", err.kind)
        assert.matches("NOOP: the connection has been closed$", tostring(err))
      end)
    end
  end)
end)

describe("moonpost.connect: AUTH that would give the password away", function()
  it("says what there is to do about it", function()
    run(test.server { extensions = { "AUTH PLAIN LOGIN" } }, function()
      local client, err = moonpost.connect { host = "relay.example.org", tls = "none", auth = { user = "me", password = "geheim" } }
      assert.is_nil(client)
      assert.equal("auth", err.kind)
      assert.matches("538 5.7.11 Encryption is required for the mechanisms that are left; auth.in_clear names", tostring(err), 1, true)
      assert.is_nil(tostring(err):find("(538)", 1, true))
    end)
  end)
end)

describe("pool:lease", function()
  it("lends a connection to the pool's own server, and takes it back", function()
    local relay = test.server()
    run(relay, function()
      local pool <close> = moonpost.pool { via = VIA }
      local client = assert(pool:lease())
      assert.equal(250, client:noop().code)
      pool:release(client)
      assert(pool:send { from = FROM, to = "ann@example.net", text = "x" })
    end)
    assert.equal(1, relay.sessions)
  end)

  it("lends one to another server", function()
    run(test.server(), function()
      local pool <close> = moonpost.pool {}
      local client = assert(pool:lease(VIA))
      assert.equal("relay.example.org", client.host)
      pool:release(client)
      for url, why in pairs { ["smpt://x"] = 'unknown protocol "smpt"', ["smtp://a:b@x"] = "credentials are the pool's" } do
        assert.error_matches(function()
          pool:lease(url)
        end, why, 1, true)
      end
      assert.error_matches(function()
        pool:lease()
      end, "a URL is needed", 1, true)
    end)
  end)
end)
