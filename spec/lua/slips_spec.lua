-- What people get wrong when they send: told at the line where they wrote it, before anything is dialled.
local moonpost = require "moonpost"
local test = require "moonpost.test"

local FROM, TO = "me@example.org", "you@example.net"

local function with(options)
  local mail = { from = FROM, to = TO, subject = "Hi", text = "Hello.", via = "smtp://one.example.net" }
  for name, value in pairs(options) do
    mail[name] = value or nil
  end
  return mail
end

-- What `fn` raises, where it has to be this file that is blamed.
local function raised(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  assert.matches("^[^:]*spec/lua/slips_spec%.lua:%d+: ", err)
  return (err:gsub("^[^:]*:%d+: ", ""))
end

local function params(value)
  return { params = value }
end

local function of_recipient(value)
  return { to = { { address = TO, params = value } } }
end

local slips = {
  { params { ret = "ALL" }, 'params.ret: "FULL" or "HDRS" expected, got "ALL"' },
  { params { ret = 5 }, 'params.ret: "FULL" or "HDRS" expected, got 5' },
  { params { body = "9BIT" }, 'params.body: "7BIT", "8BITMIME" or "BINARYMIME" expected' },
  { params { envid = "a\nb" }, "params.envid: a string of 1 to 100 printable" },
  { params { envid = ("x"):rep(101) }, "params.envid: a string of 1 to 100 printable" },
  { params { by = "soon" }, 'params.by: whole seconds expected, got "soon"' },
  { params { by = 1e10 }, "params.by: whole seconds expected" },
  { params { by = 0, by_mode = "R" }, "params.by: seconds to go expected" },
  { params { by = 60, by_mode = "X" }, 'params.by_mode: "R" or "N" expected' },
  { params { holdfor = 0 }, "params.holdfor: whole seconds, 1 or more" },
  { params { priority = 10 }, "params.priority: -9 to 9 expected, got 10" },
  { params { auth = "me" }, 'params.auth: an address, or "<>" expected' },
  { params { requiretls = 1 }, "params.requiretls: true or false expected, got 1" },
  { params { size = -1 }, "params.size: a whole number of octets" },
  { { size = "big" }, "size: a whole number of octets" },
  { of_recipient { notify = "FAILURE" }, "to: params.notify: a table such as { FAILURE = true, DELAY = true } expected" },
  { of_recipient { notify = { "FAILURE" } }, 'to: params.notify: unknown name "1": { FAILURE = true, DELAY = true }, no list' },
  { of_recipient { notify = { FAIL = true } }, 'to: params.notify: unknown name "FAIL"' },
  { of_recipient { notify = { NEVER = true, DELAY = true } }, "to: params.notify: NEVER stands alone" },
  { of_recipient { orcpt = 5 }, "to: params.orcpt: an address in ASCII expected" },
  { of_recipient { orcpt = "jörg@example.net" }, "to: params.orcpt: an address in ASCII expected" },
  { of_recipient { orcpt = ("x"):rep(494) }, "to: params.orcpt: at most 500 characters" },
  { of_recipient { orcpt = TO, orcpt_type = "a;b" }, "to: params.orcpt_type: a type" },
  { { to = { adress = TO } }, 'to: unknown name "adress" (did you mean "address"?)' },
  { { to = { { address = TO, parms = {} } } }, 'to: unknown name "parms" (did you mean "params"?)' },
  { { to = "a@example.net, b@example.net" }, "is no address; several are a list" },
  { { to = "you" }, '"you" is no address; its domain is missing' },
  { { headers = { ["X-One"] = "1" } }, 'headers: a list such as { "Name: value" } expected, got one with the name "X-One"' },
  { { headers = "X-One: 1" }, "headers: a list such as" },
  { { date = "today" }, "date: seconds since 1970 expected, got a string" },
  { { date = 1e300 }, "date: seconds since 1970 expected" },
  { { envelope = { form = FROM } }, 'envelope: unknown name "form" (did you mean "from"?)' },
  { { envelope = "x" }, "envelope: { from =, to = } expected, got a string" },
  { { envelope = { from = "x y" } }, 'envelope.from: "x y" is no address' },
  { { sender = "x y" }, 'sender: "x y" is no address' },
  { { subject = false, text = false, message = "x", headers = { "X-One: 1" } }, "message and headers: one of them" },
  { { text = false, body = "x" }, 'unknown option "body" (did you mean "text"?)' },
  { { smarthost = "x" }, 'unknown option "smarthost" (did you mean "via"?)' },
  { { auth = { username = "me", password = "x" } }, 'unknown option "auth.username" (did you mean "user"?)' },
  { { auth = { user = "me", password = "x", mechanisms = { "PLAN" } } }, 'auth.mechanisms: unknown name "PLAN" (did you mean "PLAIN"?)' },
  { { auth = { user = "me", password = "x", in_clear = "SCRAM-SHA-256" } }, 'auth.in_clear: unknown name "SCRAM-SHA-256"' },
  { { helo = "my host" }, 'helo: "my host" is neither a host name nor an address' },
  { { source = "here" }, 'source: "here" is no IP address' },
  { { dns = "192.0.2.53" }, "dns: what dns.resolver or dns.zone returned is expected" },
  { { ignore = { "CHUNKNG" } }, 'ignore: unknown name "CHUNKNG" (did you mean "CHUNKING"?)' },
  { { mtasts = { foldr = "x" } }, 'mtasts.new: unknown option "foldr" (did you mean "folder"?)' },
}

describe("moonpost.send, a slip", function()
  for _, slip in ipairs(slips) do
    it("is told where it was made: " .. slip[2], function()
      local why = raised(function()
        local result = moonpost.send(with(slip[1]))
        return result
      end)
      assert.matches(slip[2], why, 1, true)
    end)
  end

  it("is none where the value is one of those that there are", function()
    local one = test.server { extensions = { "DSN", "DELIVERBY", "FUTURERELEASE", "MT-PRIORITY", "8BITMIME" } }
    test.run(function()
      assert(moonpost.send(with {
        to = { { address = TO, params = { notify = { FAILURE = true, DELAY = true }, orcpt = "o@example.net" } } },
        params = { ret = "hdrs", envid = "a b+c", by = -5, by_mode = "N", priority = -9 }, ignore = "chunking", helo = "[192.0.2.1]",
        headers = { "X-One: 1" }, date = 0,
      }))
      assert(moonpost.send(with { to = { { address = TO, params = { orcpt = ("+"):rep(164) } } } })) -- 499
      assert(moonpost.send(with { params = { holdfor = 60 }, helo = "[IPv6:2001:db8::1]" }))
    end, { servers = { ["one.example.net"] = one } })
    assert.matches("RET=HDRS ENVID=a+20b+2Bc BY=-5;N MT-PRIORITY=-9", table.concat(one.commands, "\n"), 1, true)
    assert.matches("HOLDFOR=60", table.concat(one.commands, "\n"))
  end)
end)

describe("a client, a slip", function()
  local function on_client(fn, script)
    return test.run(function()
      local client = assert(moonpost.connect { host = "one.example.net", tls = "opportunistic" })
      local why = fn(client)
      client:close()
      return why
    end, { servers = { ["one.example.net"] = test.server(script) } })
  end

  for text, fn in pairs {
    ["client:mail: an address expected, got a nil"] = function(client) client:mail() end,
    ["client:mail: to: at least one recipient is needed"] = function(client) client:mail(FROM) end,
    ["client:mail: a line break in an address"] = function(client) client:mail(FROM .. ">\r\nRSET", TO) end,
    ['client:mail: params.ret: "FULL" or "HDRS" expected'] = function(client) client:mail(FROM, TO, { ret = "ALL" }) end,
    ['client:mail: params: unknown name "rett"'] = function(client) client:mail(FROM, TO, { rett = "FULL" }) end,
    ["client:vrfy: a string expected, got a nil"] = function(client) client:vrfy() end,
    ["client:raw: a string expected, got a nil"] = function(client) client:raw() end,
    ["client:auth: { user =, password = } expected, got a nil"] = function(client) client:auth() end,
    ["client:auth: a password or a token is needed"] = function(client) client:auth { user = "me" } end,
    ['client:auth: mechanisms: unknown name "PLAN"'] = function(client)
      client:auth { user = "me", password = "x", mechanisms = { "PLAN" } }
    end,
    ["tls is said where the connection is made, not of a message"] = function(client)
      client:send { from = FROM, to = TO, text = "x", tls = "none" }
    end,
  } do
    it("is told where it was made: " .. text, function()
      local why = on_client(function(client)
        return raised(function()
          fn(client)
          return true
        end)
      end)
      assert.matches(text, why, 1, true)
    end)
  end

  it("is to begin TLS twice", function()
    local why = on_client(function(client)
      return raised(function()
        client:starttls()
        return true
      end)
    end, { tls = true })
    assert.equal("client:starttls: TLS is in use", why)
  end)

  it("is to give a pool something that cannot be called", function()
    local why = test.run(function()
      local pool <close> = moonpost.pool { via = "smtp://one.example.net" }
      return raised(function()
        pool:post({ from = FROM, to = TO, text = "x" }, 5)
        return true
      end)
    end, { servers = { ["one.example.net"] = test.server() } })
    assert.equal("pool:post: done: a function expected, got a number", why)
  end)
end)

describe("moonpost.connect says what may help", function()
  local function connect(script, options)
    return test.run(function()
      options.host = "one.example.net"
      local client, err = moonpost.connect(options)
      assert.is_nil(client)
      return err
    end, { servers = { ["one.example.net"] = script } })
  end

  it("where no mechanism is left", function()
    local login = { user = "me", password = "x", mechanisms = "SCRAM-SHA-256" }
    local err = connect(test.server { tls = true, extensions = { "AUTH PLAIN LOGIN" } }, { auth = login })
    assert.matches("504 5.5.4 No mechanism that both sides can use: it offers PLAIN LOGIN", tostring(err), 1, true)
    err = connect(test.server(), { auth = login, tls = "none" })
    assert.matches("it offers none without TLS", tostring(err), 1, true)
  end)

  it("where nobody greets at a port that speaks TLS from the start", function()
    local err = connect(test.server { banner = { silent = true } }, { port = 465 })
    assert.equal("timeout", err.kind)
    assert.matches("port 465 speaks TLS from the start: smtps:// or submissions://", tostring(err), 1, true)
    err = connect(test.server { banner = { silent = true } }, { port = 25 })
    assert.is_nil(tostring(err):find("smtps", 1, true))
  end)
end)

describe("moonpost.send, a server that is not ready", function()
  local function row(script)
    return test.run(function()
      local _, err = moonpost.send(with {})
      return err.recipients[1]
    end, { servers = { ["one.example.net"] = test.server(script) } })
  end

  it("is quoted when it says 4xx to banner or EHLO", function()
    for _, script in ipairs { { banner = "421 busy" }, { ehlo = "421 busy" }, { ehlo = "550 no", helo = "421 busy" } } do
      local is = row(script)
      assert.same({ "deferred", "refused", 421, "busy" }, { is.state, is.stage, is.reply.code, is.reply.text })
      assert.is_nil(is.own)
      assert.equal("one.example.net", is.host)
    end
  end)

  it("is told in words when it says 5xx there, which is final for nobody", function()
    local is = row { banner = "554 5.3.2 Not today" }
    assert.same({ "deferred", "refused", 451, true }, { is.state, is.stage, is.reply.code, is.own })
    assert.matches("banner: 554 5.3.2 Not today", is.reply.text, 1, true)
  end)
end)
