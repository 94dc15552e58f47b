-- WIRE's table of the client, row by row, over sockets: a server that is hostile, broken or in other hands, and what becomes of the
-- mail. The rows that need no socket are in spec/lua/send_spec.lua and, octet by octet, in spec/c/test_client_rows.c.
local certs = require "spec.support.certs"
local hostile = require "spec.support.hostile"
local moonpost = require "moonpost"
local dns = require "moonpost.dns"
local process = require "spec.support.process"
local uv = require "luv"

local SHORT = { operation = "60s" }
for _, name in ipairs { "banner", "handshake", "hello", "auth", "mail", "rcpt", "data", "final", "quit" } do
  SHORT[name] = 0.7 * process.scale
end
local SECRET = "AG1lAGdlaGVpbQ==" -- PLAIN of me and geheim

local function with_tls(script, pair)
  pair = pair or certs.server
  script.certificate, script.key = pair.certificate, pair.key
  return script
end

-- One message via the server: result, error, the only row.
local function send(server, options)
  local mail = {
    from = "me@example.org", to = "you@example.net", subject = "Hi", text = "hey", via = server.url, timeouts = SHORT, helo = "client.example.org",
  }
  for name, value in pairs(options or {}) do
    mail[name] = value
  end
  local result, err = moonpost.send(mail)
  return result, err, (result or err).recipients[1]
end

-- No envelope, no password, and nothing else of the mail has gone there.
local function nothing_said(server)
  local heard = server:heard()
  for _, word in ipairs { "MAIL", "RCPT", "DATA", "AUTH", SECRET, "geheim" } do
    assert.is_nil(heard:find(word, 1, true), heard)
  end
  assert.equal(0, server:count "message")
end

local function deferred_by_tls(row)
  assert.same({ "deferred", "tls", 451, true }, { row.state, row.stage, row.reply.code, row.own })
  assert.matches("^4%.7%.", row.reply.enhanced)
  assert.is_false(row.tls.used and row.tls.verified or false)
  assert.is_string(row.tls.policy)
end

local function is_clean(text)
  assert.is_nil(text:find("[%c\x7f]"), ("%q"):format(text))
  assert.is_not_nil(utf8.len(text), ("%q"):format(text))
end

describe("a hostile server: bytes after 220 to STARTTLS before the handshake", function()
  for name, injected in pairs {
    ["a reply"] = "220 go\r\n250 injected\r\n", ["two octets"] = "220 go\r\n25", ["capabilities"] = "220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n",
  } do
    for _, level in ipairs { "opportunistic", "required", "verified" } do
      it(("%s, %s: aborted, and nothing goes in clear"):format(name, level), function()
        local server <close> = hostile.start(with_tls { STARTTLS = { injected, { tls = true } } })
        local result, _, row = send(server, { tls = level })
        assert.is_nil(result)
        assert.same({ "deferred", "protocol" }, { row.state, row.stage })
        assert.matches("peer spoke between 220 and the handshake", row.reply.text)
        server:finish()
        assert.equal(0, server:count "^2 ")
        nothing_said(server)
      end)
    end
  end
end)

describe("a hostile server: STARTTLS missing or refused", function()
  for name, script in pairs {
    ["missing"] = function() return {} end,
    ["refused for now"] = function() return with_tls { STARTTLS = { "454 4.7.0 not now\r\n" } } end,
    ["refused for good"] = function() return with_tls { STARTTLS = { "502 5.5.1 never heard of it\r\n" } } end,
  } do
    for _, level in ipairs { "required", "verified" } do
      it(("%s, %s: no mail is sent, and it is deferred"):format(name, level), function()
        local server <close> = hostile.start(script())
        local _, _, row = send(server, { tls = level })
        deferred_by_tls(row)
        server:finish()
        nothing_said(server)
      end)
    end

    it(name .. ", with a password: it is not sent", function()
      local one = script()
      one.extensions = { "AUTH PLAIN LOGIN" }
      local server <close> = hostile.start(one)
      local _, _, row = send(server, { auth = { user = "me", password = "geheim" } })
      deferred_by_tls(row)
      server:finish()
      nothing_said(server)
    end)

    it(name .. ", opportunistic: goes in clear, and says so", function()
      local server <close> = hostile.start(script())
      local result, _, row = send(server)
      assert.is_true(result.ok)
      assert.same({ false, "opportunistic" }, { row.tls.used, row.tls.level })
      assert.matches("STARTTLS", row.tls.why)
      server:finish()
      assert.equal(1, server:count "gone")
    end)
  end
end)

describe("a hostile server: a certificate for another name, expired, self-signed", function()
  for name, case in pairs {
    ["another name"] = { "other", "sni.example.net" }, ["expired"] = { "expired", "expired" }, ["self-signed"] = { "stranger", "self%-signed" },
  } do
    local verified

    before_each(function()
      verified = { level = "verified", ca = certs.ca, names = { "mx.example.org" } }
    end)

    it(name .. ": no mail is sent", function()
      local server <close> = hostile.start(with_tls({}, certs[case[1]]))
      local _, _, row = send(server, { tls = verified })
      deferred_by_tls(row)
      assert.equal("4.7.5", row.reply.enhanced)
      assert.matches(case[2], row.reply.text)
      is_clean(row.reply.text)
      server:finish()
      nothing_said(server)
    end)

    it(name .. ": no password is sent", function()
      local server <close> = hostile.start(with_tls({ extensions = { "AUTH PLAIN" } }, certs[case[1]]))
      local client, err = moonpost.connect {
        url = server.url, tls = verified, auth = { user = "me", password = "geheim" }, timeouts = SHORT,
      }
      assert.is_nil(client)
      assert.equal("tls", err.kind)
      server:finish()
      assert.equal(0, server:count "^2 ")
      nothing_said(server)
    end)

    it(name .. ", from the first octet: no mail is sent", function()
      local server <close> = hostile.start(with_tls({ implicit = true }, certs[case[1]]))
      local _, _, row = send(server, { via = "smtps://127.0.0.1:" .. server.port, tls = verified })
      deferred_by_tls(row)
      server:finish()
      nothing_said(server)
    end)

    it(name .. ", opportunistic: any certificate will do, and the result says what it is worth", function()
      local server <close> = hostile.start(with_tls({}, certs[case[1]]))
      local result, _, row = send(server)
      assert.is_true(result.ok)
      assert.same({ true, false, "opportunistic" }, { row.tls.used, row.tls.verified, row.tls.level })
      assert.is_string(row.tls.why)
      assert.equal(64, #row.tls.fingerprint:gsub(":", ""))
    end)
  end
end)

describe("a hostile server: the handshake itself fails", function()
  for _, how in ipairs { "close", "reset", "garbage", "silence" } do
    local function failing(more)
      local script = with_tls { STARTTLS = { "220 go\r\n", { tls = how } }, extensions = { "AUTH PLAIN" } }
      script.again = more
      return script
    end

    it(how .. ", opportunistic: one reconnect in clear", function()
      local server <close> = hostile.start(failing())
      local result, _, row = send(server)
      assert.is_true(result.ok)
      assert.same({ false, "opportunistic" }, { row.tls.used, row.tls.level })
      assert.matches("TLS", row.tls.why)
      is_clean(row.tls.why)
      server:finish(2)
      assert.equal(1, server:count "^1 < STARTTLS")
      assert.equal(0, server:count "^2 < STARTTLS")
      assert.equal(1, server:count "^2 message")
      assert.equal(0, server:count "^3 ")
    end)

    it(how .. ", opportunistic: no more than one", function()
      local server <close> = hostile.start(failing { { banner = { { close = true } } } })
      local _, _, row = send(server)
      assert.same({ "deferred", "connection" }, { row.state, row.stage })
      server:finish(2)
      nothing_said(server)
    end)

    it(how .. ", required: none", function()
      local server <close> = hostile.start(failing())
      local _, _, row = send(server, { tls = "required" })
      deferred_by_tls(row)
      server:finish()
      assert.equal(0, server:count "^2 ")
      nothing_said(server)
    end)

    for _, level in ipairs { "opportunistic", "verified" } do
      it(("%s, %s with credentials: none"):format(how, level), function()
        local server <close> = hostile.start(failing())
        local _, _, row = send(server, { tls = level, auth = { user = "me", password = "geheim", in_clear = { "PLAIN" } } })
        deferred_by_tls(row)
        server:finish()
        assert.equal(0, server:count "^2 ")
        nothing_said(server)
      end)
    end
  end

  it("for want of a common version: one reconnect in clear", function()
    local server <close> = hostile.start(with_tls { STARTTLS = { "220 go\r\n", { tls = true } }, most = "1.2" })
    local result, _, row = send(server, { tls = { level = "opportunistic", min_version = "1.3" } })
    assert.is_true(result.ok)
    assert.is_false(row.tls.used)
    assert.matches("alert", row.tls.why)
    server:finish(2)
    assert.equal(1, server:count "^1 failed")
  end)
end)

describe("a hostile server: EHLO capabilities before and after TLS differ", function()
  it("only the later ones count", function()
    local server <close> = hostile.start(with_tls {
      EHLO = { "250-mx.example.net\r\n250-AUTH PLAIN\r\n250-SIZE 1\r\n250-CHUNKING\r\n250-SMTPUTF8\r\n250 STARTTLS\r\n" },
      ["tls:EHLO"] = { "250-mx.example.net\r\n250 8BITMIME\r\n" },
    })
    local client <close> = assert(moonpost.connect { url = server.url, tls = "required", timeouts = SHORT })
    local has = client.capabilities.extensions
    assert.truthy(has["8BITMIME"])
    for _, name in ipairs { "AUTH", "SIZE", "CHUNKING", "SMTPUTF8", "STARTTLS", "PIPELINING" } do
      assert.is_nil(has[name], name)
    end
    assert(client:send { from = "me@example.org", to = "you@example.net", subject = "Hi", text = "more than one octet" })
  end)

  it("a password is not sent by what was announced before", function()
    local server <close> = hostile.start(with_tls {
      EHLO = { "250-mx.example.net\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n" }, ["tls:EHLO"] = { "250 mx.example.net\r\n" },
    })
    local client, err = moonpost.connect { url = server.url, tls = "required", auth = { user = "me", password = "geheim" }, timeouts = SHORT }
    assert.is_nil(client)
    assert.equal("auth", err.kind)
    server:finish()
    nothing_said(server)
  end)
end)

describe("a hostile server: an endless multiline reply", function()
  for _, stage in ipairs { "banner", "EHLO", "MAIL", "body" } do
    for name, piece in pairs {
      ["lines without end"] = "250-and another line\r\n", ["a line of 10 MB"] = ("x"):rep(1000), ["nothing but CR"] = "\r",
      ["nothing but NUL"] = "\0",
    } do
      it(("%s, at %s: capped, and the connection fails"):format(name, stage), function()
        local code = stage == "banner" and "220" or "250"
        local first = name == "lines without end" and {} or { code .. " " }
        first[#first + 1] = { flood = piece:gsub("^250", code), octets = 10 << 20 }
        first[#first + 1] = { silence = true }
        local server <close> = hostile.start { [stage] = first }
        collectgarbage()
        local before = collectgarbage("count")
        local result, _, row = send(server)
        assert.is_nil(result)
        assert.equal(stage == "body" and "unknown" or "deferred", row.state)
        assert.is_true(#row.reply.text < 2048)
        is_clean(row.reply.text)
        assert.not_matches("silent", row.reply.text) -- that was not what ended it
        collectgarbage()
        assert.is_true(collectgarbage("count") - before < 2048)
      end)
    end

    it("mixed codes in one reply, at " .. stage .. ": the connection fails", function()
      local code = stage == "banner" and "220" or "250"
      local server <close> = hostile.start { [stage] = { code .. "-one\r\n550 two\r\n" } }
      local result, _, row = send(server)
      assert.is_nil(result)
      assert.equal(stage == "body" and "unknown" or "deferred", row.state)
      assert.is_true(row.own)
      server:finish()
    end)
  end
end)

describe("a hostile server: control characters", function()
  local DIRT = "5.7.1 a\27[31mred\7\0\8 b\rc\1\127 \xc2\x9b31m \xff\xfe caf\xc3\xa9"

  for _, stage in ipairs { "banner", "EHLO", "MAIL", "RCPT", "DATA", "body" } do
    it("are cleaned in rows and errors, at " .. stage, function()
      local server <close> = hostile.start { [stage] = { "550-" .. DIRT .. "\r\n550 " .. DIRT .. "\r\n" }, HELO = { "550 " .. DIRT .. "\r\n" } }
      local result, err, row = send(server)
      assert.is_nil(result)
      is_clean((row.reply.text:gsub("\n", " "))) -- between its lines
      is_clean(tostring(row.reply))
      is_clean(err.message)
      assert.truthy(row.reply.text:find("a?[31mred", 1, true), row.reply.text)
    end)
  end

  it("are cleaned in what is logged of them", function()
    local server <close> = hostile.start { MAIL = { "550 " .. DIRT .. "\r\n" } }
    local run = process.run { uv.exepath(), "-e", ([[
      package.path, package.cpath = %q, %q
      local moonpost = require "moonpost"
      local result, err = moonpost.send { from = "me@example.org", to = "you@example.net", text = "x", via = %q }
      moonpost.log.warn("not sent", { reply = err.recipients[1].reply.text, err = tostring(err) })
    ]]):format(package.path, package.cpath, server.url), "/dev/null", env = { ASAN_OPTIONS = "detect_leaks=0" } }
    assert.equal(0, run.code, run.output)
    assert.matches("not sent", run.output)
    for _, line in ipairs(run.lines) do
      is_clean(line)
    end
  end)

  it("are cleaned in capabilities", function()
    local server <close> = hostile.start { EHLO = { "250-mx\27[0m\r\n250-X\7Y\r\n250 8BITMIME\r\n" } }
    local client = moonpost.connect { url = server.url, timeouts = SHORT }
    if client then
      for name in pairs(client.capabilities.extensions) do
        is_clean(name)
      end
      client:close()
    end
  end)

  it("are cleaned in the dialogue that moonpost send -v prints", function()
    local server <close> = hostile.start { banner = { "220 " .. DIRT .. "\r\n" }, MAIL = { "550 " .. DIRT .. "\r\n" } }
    local run = process.run {
      process.moonpost, "send", "-v", "--from", "me@example.org", "--to", "you@example.net", "--via", server.url, "--body", "x",
    }
    assert.equal(69, run.code, run.output)
    assert.matches("220 5%.7%.1 a", run.output)
    for _, line in ipairs(run.lines) do
      is_clean(line)
    end
  end)

  it("are heard by a trace as they came: it is given octets, and who prints them quotes them", function()
    local server <close> = hostile.start { MAIL = { "550 " .. DIRT .. "\r\n" } }
    local heard = {}
    send(server, { trace = function(direction, octets)
      heard[#heard + 1] = direction == "received" and octets or nil
    end })
    assert.truthy(table.concat(heard):find("550 " .. DIRT .. "\r\n", 1, true))
  end)
end)

describe("a hostile server: 421 at any point; close at any point; no reply", function()
  local hows = {
    ["421"] = { "421 4.3.2 going down\r\n", { close = true } }, ["close"] = { { close = true } }, ["reset"] = { { reset = true } },
    ["half a reply"] = { "25", { close = true } }, ["silence"] = { { silence = true } },
  }

  for _, tls in ipairs { false, true } do
    for _, stage in ipairs { "banner", "EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "body", "QUIT" } do
      for how, actions in pairs(hows) do
        if not (tls and stage == "banner") and (tls or stage ~= "STARTTLS") then
          it(("%s at %s%s: the state of each recipient is known"):format(how, stage, tls and " under TLS" or ""), function()
            local script = tls and with_tls {} or {}
            script[tls and stage ~= "STARTTLS" and "tls:" .. stage or stage] = actions
            local server <close> = hostile.start(script)
            local result, err = moonpost.send {
              from = "me@example.org", to = { "one@example.net", "two@example.net" }, text = "x", via = server.url, timeouts = SHORT,
              tls = tls and "required" or "none",
            }
            local rows = (result or err).recipients
            assert.equal(2, #rows)
            for _, row in ipairs(rows) do
              if stage == "QUIT" then
                assert.equal("delivered", row.state)
              elseif stage == "body" and how ~= "421" then
                assert.equal("unknown", row.state) -- sent again: never lost
              else
                assert.equal("deferred", row.state)
              end
              assert.is_true(row.ok or row.reply.code < 500)
            end
            assert.equal(stage ~= "QUIT", err ~= nil and err.temporary)
          end)
        end
      end
    end
  end
end)

describe("a hostile server: 5xx to banner, EHLO, STARTTLS or AUTH, or a TLS policy that fails", function()
  local net = dns.zone {
    ["example.net"] = { MX = { { 10, "one.example.net" }, { 20, "two.example.net" } } },
    ["one.example.net"] = { A = "127.0.0.1" }, ["two.example.net"] = { A = "127.0.0.2" },
  }
  for name, case in pairs {
    ["banner"] = { { banner = { "554 5.3.2 no\r\n" } } },
    ["EHLO"] = { { EHLO = { "550 5.7.1 no\r\n" }, HELO = { "550 5.7.1 no\r\n" } } },
    ["STARTTLS"] = { with_tls { STARTTLS = { "554 5.7.0 no\r\n" } }, "required" },
    ["a certificate"] = { with_tls({}, certs.other), "verified" },
    ["AUTH"] = { with_tls { extensions = { "AUTH PLAIN" }, AUTH = { "535 5.7.8 no\r\n" } }, "required", { user = "me", password = "geheim" } },
  } do
    it(name .. ": the next host is tried, then the delivery is deferred", function()
      local one <close> = hostile.start(case[1])
      local function mail()
        return moonpost.send {
          from = "me@example.org", to = "you@example.net", text = "x", dns = net, allow_local = true, port = one.port, timeouts = SHORT,
          tls = case[2] and { level = case[2], ca = certs.ca } or "none", auth = case[3], mtasts = false,
        }
      end
      local result, err = mail()
      assert.is_nil(result)
      assert.equal("deferred", err.recipients[1].state)
      assert.equal("two.example.net", err.recipients[1].host)
      one:finish()

      local good = case[2] and with_tls({ extensions = { "AUTH PLAIN" } }, case[2] == "verified" and certs.two or nil) or {}
      local two <close> = hostile.start(good, "127.0.0.2:" .. one.port)
      result, err = mail()
      assert.is_nil(err)
      assert.equal("two.example.net", result.recipients[1].host)
      assert.equal(1, two:count "message")
    end)
  end
end)
