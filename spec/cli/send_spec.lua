-- moonpost send as people and programs start it, to our own server and to servers that are not kind.
local certs = require "spec.support.certs"
local dkjson = require "dkjson"
local peers = require "spec.support.peers"
local ports = require "spec.support.ports"
local process = require "spec.support.process"
local served = require "spec.support.served"
local tmpdir = require "spec.support.tmpdir"

local FROM, TO = "me@example.net", "bob@example.org"

local house, dir

-- Arguments, and `stdin` and `env` by name.
local function send(options)
  local command = { process.moonpost, "send", stdin = options.stdin, env = options.env or { MOONPOST_PASSWORD = false }, timeout = 30 }
  return process.run(table.move(options, 1, #options, 3, command))
end

-- The same with what every message needs; `to` and `via` are usual ones.
local function send_to(options)
  local words = { "--from", options.from or FROM, "--via", options.via or "smtp://" .. house.at.smtp, stdin = options.stdin, env = options.env }
  for _, to in ipairs(options.to or { TO }) do
    table.move({ "--to", to }, 1, 2, #words + 1, words)
  end
  return send(table.move(options, 1, #options, #words + 1, words))
end

local hooks = [[
function server.on.credentials(session, user)
  return user == "ann" and { password = "gehe im:@%" } or nil
end
function server.on.rcpt(session, recipient)
  local class, enhanced = recipient.localpart:match("^([45])(%d+)$")
  if class then
    return tonumber(class) * 100 + 50, class .. "." .. enhanced .. ".1", "As you wish"
  end
end
]]

setup(function()
  dir = tmpdir.new()
  house = served.start {
    listen = { "smtp://127.0.0.1:0", "submission://127.0.0.1:0", "smtps://127.0.0.1:0", "lmtp://127.0.0.1:0" },
    options = ("tls = { certificate = %q, key = %q }"):format(certs.server.certificate, certs.server.key),
    hooks = hooks,
  }
end)

teardown(function()
  house:close()
  dir:remove()
end)

describe("moonpost send", function()
  it("makes a message of a subject and a text, and says that it was delivered", function()
    local result = send_to { "--subject", "Grüße", "--header", "X-Colour: blau, grün", "--body", "Wie geht's?\n" }
    assert.equal(0, result.code, result.output)
    assert.equal("", result.err)
    assert.matches("^delivered  bob@example%.org  250 2%.%d%.%d .*127%.0%.0%.1, TLSv1%.%d, not verified.*\n$", result.out)
    local mail = house:take "bob"
    assert.matches("\nFrom: me@example.net\nTo: bob@example.org\nSubject: =?UTF-8?B?R3LDvMOfZQ==?=\n", mail, 1, true)
    assert.matches("\nX-Colour: =?UTF-8?B?", mail, 1, true)
    assert.matches("\n\nWie geht's%?\n$", mail)
  end)

  it("sends standard input: a whole message as it stands, with --header on top", function()
    local whole = "Subject: whole\r\nX-Folded: a\r\n b\r\n\r\n.dot\r\n"
    local result = send_to { "--header", "X-Top: 1", "-", stdin = whole }
    assert.equal(0, result.code, result.output)
    assert.equal(("X-Top: 1\r\n" .. whole):gsub("\r\n", "\n"), (served.strip(house:take "bob")))
  end)

  it("sends to --cc and --bcc too, of whom a text's header names the former", function()
    local result = send_to { "--cc", "Carol <carol@example.org>", "--bcc", "dave@example.org", "--body", "x" }
    assert.equal(0, result.code, result.output)
    assert.equal(3, select(2, result.out:gsub("delivered", "")))
    for _, who in ipairs { "bob", "carol", "dave" } do
      local mail = house:take(who)
      assert.matches("\nTo: bob@example.org\nCc: Carol <carol@example.org>\n", mail, 1, true)
      assert.is_nil(mail:match("^.-\n\n"):find("Bcc", 1, true))
    end
  end)

  it("takes a text for what it is, whatever it begins with, when there is a --subject", function()
    assert.equal(0, send_to({ "--subject", "Hi", "-", stdin = "Reminder: milk\n\nBuy it.\n" }).code)
    assert.matches("Subject: Hi\n.*\n\nReminder: milk\n\nBuy it.\n$", house:take "bob")
    assert.equal(0, send_to({ "--file", "-", stdin = "No field here\nX: y\n\nEnd.\n" }).code)
    assert.matches("\n\nNo field here\nX: y\n\nEnd.\n$", house:take "bob")
  end)

  it("sends a file", function()
    assert.equal(0, send_to({ "--file", dir:write("message", "Subject: file\n\nFrom a file.\n") }).code)
    assert.equal("Subject: file\n\nFrom a file.\n", (served.strip(house:take "bob")))
  end)

  it("has a row for each recipient, and an object with --json", function()
    local two = { "carol@example.org", "5517@example.org" }
    local result = send_to { to = two, "--body", "x" }
    assert.matches("^delivered  carol@example%.org  250 [^\n]+\nrefused    5517@example%.org   550 5%.517%.1 As you wish  [^\n]+\n$", result.out)
    local objects = {}
    for line in send_to({ to = two, "--body", "x", "--json" }).out:gmatch("[^\n]+") do
      objects[#objects + 1] = assert(dkjson.decode(line))
    end
    assert.equal(2, #objects)
    local row = objects[2]
    assert.same({ "5517@example.org", false, "refused", "rcpt", 550, "5.517.1", "As you wish", false, "127.0.0.1" },
      { row.address, row.ok, row.state, row.stage, row.code, row.enhanced, row.text, row.own, row.ip })
    assert.same({ true, false }, { row.tls.used, row.tls.verified })
    assert.is_true(objects[1].ok)
    assert.equal(2, #house:mail "carol")
  end)

  -- { recipients, exit status }
  for name, row in pairs {
    ["0 when all were delivered"] = { { "dave@example.org", "erin@example.org" }, 0 },
    ["69 when somebody's was refused for good"] = { { "dave@example.org", "511@example.org" }, 69 },
    ["75 when somebody's was refused for now"] = { { "dave@example.org", "421@example.org" }, 75 },
    ["75 when there are both"] = { { "511@example.org", "421@example.org", "512@example.org" }, 75 },
  } do
    it("ends with status " .. name, function()
      local result = send_to { to = row[1], "--body", "x" }
      assert.equal(row[2], result.code, result.output)
    end)
  end

  it("ends with status 75 where nobody listens, and says so in a row", function()
    local result = send_to { via = "smtp://127.0.0.1:" .. ports.free(), "--body", "x" }
    assert.equal(75, result.code)
    assert.matches("^deferred   bob@example%.org  451 4%.4%.1 .*refused", result.out)
  end)

  it("ends with status 69 where there is no such domain", function()
    local result = send { "--from", FROM, "--to", "you@example.invalid", "--body", "x", "--timeout", "5s" }
    assert.truthy(({ [69] = true, [75] = true })[result.code], result.output) -- 75 where there is no resolver to ask
    assert.matches("you@example%.invalid  %d", result.out)
  end)

  it("gives up after --timeout", function()
    local silent = peers.smtp_sink and require "spec.support.sinks.smtp_sink" { "-w", "30", dump = false }
    if not silent then
      pending "smtp-sink is not there"
      return
    end
    local result = send_to { via = silent.url, "--body", "x", "--timeout", "300ms" }
    silent:close()
    assert.equal(75, result.code)
    assert.matches("^%a+ +bob@example%.org  451 4%.4%.2 ", result.out)
  end)

  it("speaks LMTP", function()
    local result = send_to { via = "lmtp://" .. house.at.lmtp, to = { "fay@example.org", "gus@example.org" }, "--body", "x" }
    assert.equal(0, result.code, result.output)
    assert.same({ 1, 1 }, { #house:mail "fay", #house:mail "gus" })
  end)
end)

describe("moonpost send --tls", function()
  local sub

  before_each(function()
    sub = "submission://ann@" .. house.at.submission
  end)

  local function as_ann(options)
    options.via, options.env = options.via or sub, options.env or { MOONPOST_PASSWORD = "gehe im:@%" }
    options.from, options.to = "ann@example.org", { "ann@example.org" }
    return send_to(options)
  end

  it("verifies a server before a password is sent, by the authorities of --ca", function()
    local result = as_ann { "--ca", certs.ca, "--body", "x" }
    assert.equal(0, result.code, result.output)
    assert.matches(", TLSv1%.%d, verified%)\n$", result.out)
    result = as_ann { "--body", "x", "-v" }
    assert.equal(75, result.code)
    assert.matches("^deferred .* 451 4%.7%.5 ", result.out)
    assert.matches("> STARTTLS", result.err, 1, true)
    assert.is_nil(result.err:find("> AUTH", 1, true))
  end)

  it("takes the password from the first line of a file", function()
    local file = dir:write("password", "gehe im:@%\nsecond line\n")
    local result = as_ann { via = "submission://" .. house.at.submission, env = { MOONPOST_PASSWORD = "wrong" }, "--auth-user", "ann",
      "--auth-password-file", file, "--ca", certs.ca, "--body", "x" }
    assert.equal(0, result.code, result.output)
  end)

  describe("without TLS", function()
    local open

    setup(function()
      open = served.start { listen = { "smtp://127.0.0.1:0" }, options = "auth_in_clear = true", hooks = hooks .. [[
        function server.on.token(_, user, token)
          return user == "ann" and token == "a.b.c"
        end
      ]] }
    end)

    teardown(function()
      open:close()
    end)

    local function in_clear(env, ...)
      return as_ann { via = "smtp://ann@" .. open.at.smtp, env = env, "--tls", "none", "--body", "x", "-v", ... }
    end

    it("sends a password by a mechanism that was allowed by name", function()
      local result = in_clear(nil, "--auth-in-clear", "PLAIN")
      assert.equal(0, result.code, result.output)
      assert.matches("> AUTH PLAIN ***\n", result.err, 1, true)
    end)

    it("sends a bearer token, of a file or the environment", function()
      local file = dir:write("token", "a.b.c\n")
      local result = in_clear({ MOONPOST_PASSWORD = "wrong" }, "--auth-token-file", file, "--auth-in-clear", "oauthbearer")
      assert.equal(0, result.code, result.output)
      assert.matches("> AUTH OAUTHBEARER ***\n", result.err, 1, true)
      result = in_clear({ MOONPOST_PASSWORD = false, MOONPOST_TOKEN = "a.b.c" }, "--auth-in-clear", "XOAUTH2")
      assert.equal(0, result.code, result.output)
      assert.matches("> AUTH XOAUTH2 ***\n", result.err, 1, true)
    end)

    it("sends neither of them when nothing was said, and says what would help", function()
      local result = in_clear({ MOONPOST_PASSWORD = false, MOONPOST_TOKEN = "a.b.c" })
      assert.equal(75, result.code)
      assert.matches("538 5.7.11 Encryption is required for the mechanisms that are left; --auth-in-clear names", result.out, 1, true)
      assert.is_nil(result.err:find("> AUTH", 1, true))
    end)
  end)

  it("defers where the password is wrong", function()
    local result = as_ann { env = { MOONPOST_PASSWORD = "wrong" }, "--ca", certs.ca, "--body", "x" }
    assert.equal(75, result.code)
    assert.matches("AUTH: 535", result.out)
  end)

  it("is none where that is said, and required where that is", function()
    assert.matches(", in clear%)\n$", send_to({ "--tls", "none", "--body", "x" }).out)
    assert.matches(", TLSv1%.%d, not verified", send_to({ "--tls=required", "--body", "x" }).out)
    local result = send_to { "--tls", "verified", "--body", "x", via = "smtps://" .. house.at.smtps }
    assert.equal(75, result.code)
    assert.matches("451 4%.7%.5 ", result.out)
  end)

  it("shows the dialogue with -v, directions marked, secrets starred, the body counted", function()
    local result = as_ann { "--ca", certs.ca, "-v", "--body", "x" }
    assert.equal(0, result.code, result.output)
    local said = result.err
    for _, line in ipairs {
      "* 127.0.0.1 is connected\n< 220 mx.example.org ", "\n> EHLO ", "\n> STARTTLS\n< 220 ", "\n* TLSv1.", ", verified\n> EHLO ",
      "\n> AUTH PLAIN ***\n< 235 ", "\n> MAIL FROM:<ann@example.org>", "\n> RCPT TO:<ann@example.org>", " octets of the message]\n",
    } do
      assert.truthy(said:find(line, 1, true), ("%q is not in\n%s"):format(line, said))
    end
    assert.is_nil(said:find("gehe im", 1, true))
    for line in said:gmatch("[^\n]+") do
      assert.matches("^[<>*] ", line)
    end
    assert.matches("^delivered", result.out)
  end)
end)

describe("moonpost send: a peer's control characters", function()
  it("do not reach the terminal", function()
    local sink <close> = require "spec.support.sinks.scripted" { commands = { MAIL = "550 \27[31mred\7" } }
    local result = send_to { via = sink.url, "-v", "--body", "x" }
    assert.equal(69, result.code, result.output)
    assert.is_nil(result.output:find("[\27\7]"))
    assert.matches("< 550 \\x1b[31mred\\x07\n", result.err, 1, true)
  end)
end)

describe("moonpost send: the command line", function()
  local base = { "--from", FROM, "--to", TO }
  -- { arguments, what is said, status when not 64, without --from and --to }
  local wrong = {
    { { "--to", TO, "--body", "x" }, "--from is missing", bare = true },
    { { "--from", FROM, "--body", "x" }, "--to is missing", bare = true },
    { { "--from", "me@", "--to", TO, "--body", "x" }, '--from: "me@" is no address', bare = true },
    { { "--too", TO, "--body", "x" }, "unknown option --too (did you mean --to?)" },
    { { "--auth-password", "x", "--body", "x" }, "unknown option --auth-password" },
    { {}, "what to send is missing: --body TEXT, --file PATH, or - for standard input" },
    { { "--body", "x", "-" }, "one of --body, --file and -" },
    { { "--body", "x", "--to", "you@" }, '--to: "you@" is no address' },
    { { "--body", "x", "--header", "colourless" }, '--header: "Name: value" expected, got "colourless"' },
    { { "--header", "A b: c", "-" }, '--header: "A b" is no name of a header field' },
    { { "--body", "x", "--header", "A: b\nBcc: you@example.org" }, "--header: A: a line break or control character" },
    { { "--body", "x", "--subject", "a\nb" }, "--subject: a line break or control character" },
    { { "you@example.com" }, 'unexpected argument "you@example.com"' },
    { { "--body", "x", "--tls", "verifed" },
      "--tls: none, opportunistic, required, verified or dane expected, got \"verifed\" (did you mean \"verified\"?)" },
    { { "--body", "x", "--via", "smpt://relay.example.org" }, 'unknown protocol "smpt" (did you mean "smtp"?)' },
    { { "--body", "x", "--via", "smtp://ann:geheim@relay.example.org" }, "--via: a password is never an argument" },
    { { "--body", "x", "--auth-user", "ann" }, "--auth-user: it needs --via" },
    { { "--body", "x", "--via", "smtp://ann@a.example", "--auth-user", "ann" }, "--auth-user: the URL of --via names a user" },
    { { "--body", "x", "--via", "smtp://ann@a.example" }, "a password is needed: --auth-password-file FILE, or MOONPOST_PASSWORD" },
    { { "--body", "x", "--via", "smtp://a.example", "--auth-password-file", "/dev/null" }, "--auth-user is missing" },
    { { "--body", "x", "--via", "smtp://a.example", "--auth-token-file", "/dev/null" }, "--auth-token-file: --auth-user is missing" },
    { { "--body", "x", "--via", "smtp://ann@a.example", "--auth-token-file", "/dev/null" }, "/dev/null: it is empty", status = 66 },
    { { "--body", "x", "--via", "smtp://ann@a.example", "--auth-token-file", "a", "--auth-password-file", "b" }, "one of --auth-password-file" },
    { { "--body", "x", "--via", "smtp://a.example", "--helo", "my host" }, '--helo: "my host" is neither a host name' },
    { { "--body", "x", "--via", "smtp://a.example", "--source", "here" }, '--source: "here" is no IP address' },
    { { "--body", "x", "--via", "smtp://ann@a.example", "--auth-password-file", "/dev/null" }, "/dev/null: it is empty", status = 66 },
    { { "--body", "x", "--source", "127.0.0.1", "--source", "127.0.0.2" }, "--source: one address of each family" },
    { { "--body", "x", "--timeout", "soon" }, "--timeout: a duration" },
    { { "--body", "x", "--ca", "/nowhere/ca.pem" }, "--ca: a file or folder that can be read expected" },
    { { "--file", "/nowhere/message" }, "/nowhere/message: No such file", status = 66 },
    { { "--file", "/" }, "/: ", status = 66 },
    { { "--subject", "x", "-" }, "the text is not UTF-8", status = 65, stdin = "caf\xe9\n" },
  }
  for _, row in ipairs(wrong) do
    local words = table.concat(row[1], " "):gsub("%c", "?")
    it(("refuses `%s` with status %d"):format(words, row.status or 64), function()
      local args = row.bare and {} or { table.unpack(base) }
      args.stdin = row.stdin
      local result = send(table.move(row[1], 1, #row[1], #args + 1, args))
      assert.equal(row.status or 64, result.code, result.output)
      assert.equal("", result.out)
      assert.matches(row[2], result.err, 1, true)
      assert.is_nil(result.err:find("geheim", 1, true))
    end)
  end

  it("is explained in full", function()
    local out = process.run({ process.moonpost, "help", "send" }).out
    for _, option in ipairs(require("moonpost.cli.send").options) do
      assert.matches("--" .. option.name, out, 1, true)
      assert.is_true(#option.doc > 0)
    end
    assert.matches("-v, --verbose", out, 1, true)
  end)
end)
