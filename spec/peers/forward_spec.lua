-- A proxy of ours on loopback, in front of servers that are ours and that are not: what its senders hear is what those say, and what
-- arrives is what was sent.
local accounts = require "spec.peers.accounts"
local certs = require "spec.support.certs"
local moonpost = require "moonpost"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local served = require "spec.support.served"
local smtp_sink = require "spec.support.sinks.smtp_sink"
local test_server = require "spec.support.sinks.moonpost"
local uv = require "luv"

local FROM, TO = "alice@example.net", "bob@example.org"
local MESSAGE = "Subject: on\r\n\r\n.dot\r\n..\r\n8-bit: \xc3\xa9\r\n"

local root = uv.getuid() == 0

-- A proxy whose plan is the text of a Lua value.
local function proxy(plan, more)
  more = more or {}
  return served.start {
    listen = { "smtp://127.0.0.1:0", "lmtp://127.0.0.1:0" }, args = more.args,
    options = 'relay = { networks = { "127.0.0.1" } }, limits = { size = "60MB" }, extensions = { "DSN", "BINARYMIME" }'
      .. (more.options or ""),
    hooks = ([[
      local plan = %s
      function server.on.message(_, message)
        message:prepend("X-Passed-By", "proxy")
        message:forward(plan)
      end
    ]]):format(plan),
  }
end

local function send(house, more)
  local options = { via = "smtp://" .. house.at.smtp, tls = "none", from = FROM, to = TO, message = MESSAGE }
  for name, value in pairs(more or {}) do
    options[name] = value
  end
  local result, err = moonpost.send(options)
  return (result or err).recipients
end

-- The message as it was handed on, without what was put on top on the way.
local function bare(octets)
  local fields, rest = octets:match("^(.-\n)X%-Passed%-By: proxy\r?\n(.*)$")
  if not fields then
    fields, rest = "", octets:gsub("^X%-Passed%-By: proxy\r\n", "")
  end
  return rest, fields
end

describe("message:forward to a server of ours", function()
  local sink

  setup(function()
    sink = test_server { options = 'extensions = { "DSN", "BINARYMIME" }' }
  end)

  teardown(function()
    sink:close()
  end)

  for name, place in pairs { -- each gives the text of a plan
    ["over SMTP"] = function() return ("%q"):format(sink.url) end,
    ["over STARTTLS, verified"] = function()
      return ('{ url = "smtp://localhost:%d", tls = { level = "verified", ca = %q, names = "mx.example.org" } }'):format(sink.port, certs.ca)
    end,
    ["over TLS with a login"] = function()
      return ('{ url = %q, tls = { level = "verified", ca = %q, names = "mx.example.org" }, auth = { user = %q, password = %q } }')
        :format(sink.implicit, certs.ca, accounts.user, accounts.password)
    end,
    ["over LMTP"] = function() return ("%q"):format(sink.lmtp) end,
    ["over LMTP and a unix socket"] = function() return ("%q"):format(sink.unix) end,
  } do
    it("arrives " .. name, function()
      local house <close> = proxy(place())
      local row = send(house, { from = accounts.user })[1] -- who has logged in sends only as himself
      assert.equal(250, row.reply.code, tostring(row.reply) .. house.process.output)
      assert.matches("^Accepted as %w+$", row.reply.text)
      local got = sink:take()
      assert.equal(MESSAGE, (bare(got.octets)))
      assert.equal(accounts.user, got.sender)
      -- the id is that of the server behind
      assert.equal(0, house:count("message=" .. row.reply.text:match("as (%w+)")))
    end)
  end

  it("hears of each recipient over LMTP", function()
    local house <close> = proxy(("%q"):format(sink.url))
    local rows = send(house, { via = "lmtp://" .. house.at.lmtp, to = { TO, "eve@elsewhere.example" } })
    assert.equal(250, rows[1].reply.code)
    assert.same({ 550, "5.7.1" }, { rows[2].reply.code, rows[2].reply.enhanced })
    sink:take()
  end)

  it("gives the refusal of its only recipient", function()
    local house <close> = proxy(("%q"):format(sink.url))
    local row = send(house, { to = "eve@elsewhere.example" })[1]
    assert.same({ "refused", "body", 550, "5.7.1" }, { row.state, row.stage, row.reply.code, row.reply.enhanced })
    assert.equal(1, house:count("next hop refused"))
  end)

  it("arrives octet by octet: 25 MB, and what has no lines", function()
    local house <close> = proxy(("{ url = %q, tls = 'none' }"):format(sink.unix))
    local line = ("0123456789abcde."):rep(4) .. "\r\n.\r\n"
    local big = "Subject: big\r\n\r\n" .. line:rep(25000000 // #line)
    assert.equal(250, send(house, { message = big })[1].reply.code)
    assert.is_true(bare(sink:take().octets) == big)
    local all = {}
    for i = 0, 255 do
      all[#all + 1] = string.char(i)
    end
    local binary = "Subject: b\r\n\r\n" .. (table.concat(all) .. "\r\n.\r\n\n"):rep(1000) .. "no line end"
    assert.equal(250, send(house, { message = binary, params = { body = "BINARYMIME" } })[1].reply.code)
    assert.is_true(bare(sink:take().octets) == binary)
  end)

  it("keeps connections, and one sender does not wait for another", function()
    local house <close> = proxy(("{ url = %q, tls = 'none', connections = 4 }"):format(sink.url))
    local before = #sink:messages()
    local pool <close> = moonpost.pool { via = "smtp://" .. house.at.smtp, tls = "none", connections = 10 }
    local good = 0
    for i = 1, 200 do
      pool:post({ from = FROM, to = TO, message = MESSAGE .. i .. "\r\n" }, function(result)
        good = good + (result and 1 or 0)
      end)
      if i % 20 == 0 then
        pool:drain()
        sink:log() -- what the servers log is read, or they would wait for that
        house.process:poll()
      end
    end
    assert.equal(200, good)
    local seen, list = {}, sink:messages(before + 200)
    assert.equal(before + 200, #list)
    for i = before + 1, #list do
      seen[list[i].octets:match("(%d+)\r\n$")] = true
    end
    sink.given = #list
    for i = 1, 200 do
      assert.is_true(seen[tostring(i)])
    end
  end)
end)

describe("message:forward", function()
  it("finishes what is on its way when the server is told to stop", function()
    local behind <close> = served.start {
      options = 'relay = { networks = { "127.0.0.1" } }',
      hooks = [[
        function server.on.message(_, message)
          log.info("begun")
          moonpost.sleep(0.5)
          message:discard "test"
        end
      ]],
    }
    local house <close> = proxy(("'smtp://%s'"):format(behind.at.smtp), { args = { "--grace", "20s" } })
    local row
    local sending = moonpost.spawn(function()
      row = send(house)[1]
    end)
    local stopping = moonpost.spawn(function()
      while behind:count("begun") == 0 do
        moonpost.sleep(0.01)
      end
      uv.kill(house.process.pid, "sigterm")
    end)
    moonpost.run(function()
      stopping:join()
      sending:join()
    end)
    assert.equal(250, row.reply.code)
    house:stop()
    assert.equal(1, house:count("message accepted"))
  end)

  it("answers 451 while nobody listens behind, and hands on again when somebody does", function()
    local port = require("spec.support.ports").free()
    local house <close> = proxy(("'smtp://127.0.0.1:%d'"):format(port))
    local row = send(house)[1]
    assert.same({ "deferred", 451, "4.4.1" }, { row.state, row.reply.code, row.reply.enhanced })
    assert.is_nil(row.reply.text:find("127.0.0.1", 1, true))
    local behind <close> = served.start { listen = { "smtp://127.0.0.1:" .. port } }
    assert.equal(250, send(house)[1].reply.code)
    assert.equal(MESSAGE:gsub("\r", ""), (bare(behind:take "bob")))
  end)
end)

describe("message:forward to smtp-sink", function()
  if not peers.smtp_sink then
    pending("smtp-sink is not there")
    return
  end

  local function row(...)
    local sink <close> = smtp_sink { ... }
    local house <close> = proxy(("{ url = %q, timeout = '3s' }"):format(sink.url))
    return send(house)[1], house
  end

  for _, command in ipairs { "MAIL", "RCPT", "DATA", "." } do
    it("gives back a hard refusal of " .. command, function()
      local is = row("-f", command)
      assert.same({ "refused", 500, "5.3.0" }, { is.state, is.reply.code, is.reply.enhanced })
    end)

    it("gives back a soft refusal of " .. command, function()
      local is = row("-r", command)
      assert.same({ "deferred", 450, "4.3.0" }, { is.state, is.reply.code, is.reply.enhanced })
    end)

    it("is for now when it hangs up at " .. command, function()
      local is = row("-q", command)
      assert.same({ "deferred", 451 }, { is.state, is.reply.code })
    end)

    it("does not hang up when it says 421 to " .. command, function()
      local is = row("-Q", command)
      assert.same({ "deferred", 451 }, { is.state, is.reply.code })
    end)
  end

  for _, option in ipairs { "-f", "-r", "-q", "-Q" } do
    it("is for now when it is not let in: " .. option .. " CONNECT", function()
      local is = row(option, "CONNECT")
      assert.same({ "deferred", 451 }, { is.state, is.reply.code })
      assert.equal("4", is.reply.enhanced:sub(1, 1))
    end)
  end

  it("is for now when it takes too long", function()
    local is = row("-W", ".:60")
    assert.same({ "deferred", 451, "4.4.2" }, { is.state, is.reply.code, is.reply.enhanced })
  end)

  it("refuses 8 bits that it cannot carry, and hands on what it can", function()
    local sink <close> = smtp_sink { "-8" }
    local house <close> = proxy(("%q"):format(sink.url))
    assert.same({ 554, "5.6.3" }, { send(house)[1].reply.code, send(house)[1].reply.enhanced })
    assert.equal(250, send(house, { message = "Subject: 7\r\n\r\nHello.\r\n" })[1].reply.code)
    assert.matches("X%-Passed%-By: proxy\r?\nSubject: 7\r?\n", sink:take().octets)
  end)
end)

for name, there in pairs { postfix = peers.postfix and root, dovecot = peers.dovecot and root } do
  describe("message:forward to " .. name, function()
    if not there then
      pending("is not there, or needs root")
      return
    end

    it("arrives", function()
      local sink <close> = require("spec.support.sinks." .. name)()
      local house <close> = proxy(("{ url = %q, tls = 'none' }"):format(sink.url))
      local is = send(house)[1]
      assert.equal(250, is.reply.code, tostring(is.reply) .. house.process.output)
      assert.matches("\r\n8%-bit: \xc3\xa9\r\n$", sink:take().octets)
    end)
  end)
end

describe("examples/proxy.lua", function()
  it("stands in front of a server that is named by the environment", function()
    local behind <close> = served.start {}
    local front <close> = process.start {
      process.moonpost, "serve", "--listen", "smtp://127.0.0.1:0", "examples/proxy.lua",
      env = { BEHIND = "smtp://" .. behind.at.smtp },
    }
    local at = front:expect("listening on smtp://(%S+)", 30)
    local result = assert(moonpost.send {
      via = "smtp://" .. at, tls = "none", from = FROM, to = { TO, "carl@example.org" }, message = MESSAGE,
    })
    assert.equal(2, #result.recipients)
    assert.matches("X%-Passed%-By: proxy.example.org; from 127.0.0.1\n", behind:take "bob")
    behind:take "carl"
    assert.equal(0, (front:stop()))
  end)
end)
