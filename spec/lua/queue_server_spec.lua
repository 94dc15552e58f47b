-- moonpost.server { queue = ... }: what only a queue can promise, and who is told that a message was delivered.
local moonpost = require "moonpost"
local served = require "spec.support.served"
local test = require "moonpost.test"
local tmpdir = require "spec.support.tmpdir"

local PROMISES = { "DELIVERBY", "DSN", "FUTURERELEASE", "MT-PRIORITY", "REQUIRETLS" }

local function announced(options, listener, session)
  local dir <close> = tmpdir.new()
  local policy = test.load(function()
    local queue = options.queued and moonpost.queue { spool = dir:join "spool" } or nil
    local server = moonpost.server {
      listen = { "smtp://127.0.0.1:25", "submission://127.0.0.1:587", "lmtp://127.0.0.1:24" }, queue = queue, extensions = options.extensions,
      tls = "development",
    }
    function server.on.credentials() return nil end
    return server
  end)
  local how = { listener = listener }
  for name, value in pairs(session or {}) do
    how[name] = value
  end
  local peer = policy:session(how)
  peer:ehlo "client.example.net"
  local list = {}
  for _, name in ipairs(PROMISES) do
    list[#list + 1] = peer.extensions[name] and name or nil
  end
  return list
end

describe("moonpost.server { queue = ... }", function()
  it("announces what only a queue can promise", function()
    assert.same({ "DELIVERBY", "DSN", "MT-PRIORITY", "REQUIRETLS" }, announced({ queued = true }, "smtp", { tls = {} }))
    assert.same({ "DELIVERBY", "DSN", "MT-PRIORITY" }, announced({ queued = true }, "smtp")) -- REQUIRETLS under TLS alone (RFC 8689 2)
    assert.same(PROMISES, announced({ queued = true }, "submission", { tls = {} }))
    assert.same({}, announced({ queued = true }, "lmtp"))
    assert.same({}, announced({}, "smtp", { tls = {} }))
  end)

  it("leaves the last word to `extensions`", function()
    assert.same({ "DSN", "FUTURERELEASE", "MT-PRIORITY" }, announced({ queued = true, extensions = { "FUTURERELEASE", DELIVERBY = false } }, "smtp"))
  end)

  it("holds no message longer than its queue tries to deliver one, unless told to (RFC 4865)", function()
    local function longest(limits, retry)
      local dir <close> = tmpdir.new()
      local shown
      local policy = test.load(function()
        local server = moonpost.server {
          listen = "submission://127.0.0.1:587", queue = moonpost.queue { spool = dir:join "spool", retry = retry }, limits = limits,
          tls = "development",
        }
        function server.on.credentials() return nil end
        for _, row in ipairs(server:describe()) do
          shown = row.option == "limits.hold" and row.value .. ", " .. (row.source:match "^default" or "given") or shown
        end
        return server
      end)
      local peer = policy:session { tls = {} }
      peer:ehlo "client.example.net"
      return { peer.extensions.FUTURERELEASE:match "^%d+", shown }
    end
    assert.same({ "432000", "5d, default" }, longest())
    assert.same({ "7200", "2h, default" }, longest(nil, { "5m", expire = "2h" }))
    assert.same({ "864000", "10d, given" }, longest { hold = "10d" })
  end)

  it("takes nothing but a queue, and enqueue() needs one", function()
    local ok, why = pcall(moonpost.server, { listen = {}, queue = "spool" })
    assert.is_false(ok)
    assert.matches("queue: what moonpost.queue { ... } made expected", tostring(why), 1, true)
    local policy = test.load(function()
      local server = moonpost.server { listen = { "smtp://127.0.0.1:25" }, domains = "example.org" }
      function server.on.message(_, message) message:enqueue() end
      return server
    end)
    local peer = policy:session()
    peer:ehlo "client.example.net"
    assert.equal(451, peer:send_message({ from = "a@example.net", to = { "b@example.org" } }).code)
  end)
end)

describe("a server with a queue", function()
  it("refuses what may be released only when its time is over", function()
    local house <close> = served.start {
      options = [[relay = { networks = { "127.0.0.1" } }, extensions = { "FUTURERELEASE" },
        queue = moonpost.queue { spool = "DIR/spool", route = "smtp://127.0.0.1:1" },]],
      hooks = "function server.on.message(_, message) message:enqueue() end",
    }
    local client = assert(moonpost.connect { url = "smtp://" .. house.at.smtp, tls = "none" })
    local mail = {
      from = "ann@example.net", to = "bob@example.com", message = "Subject: x\r\n\r\nx\r\n",
      params = { by = 60, by_mode = "R", holdfor = 3600 },
    }
    local _, err = client:send(mail)
    local reply = err.recipients[1].reply
    assert.same({ 554, "5.4.7" }, { reply.code, reply.enhanced })
    mail.params.by = 7200
    assert(client:send(mail))
    client:quit()
  end)

  it("keeps what hooks have changed: sender, recipients, their parameters, header, meta", function()
    local house <close> = served.start {
      options = [[relay = { networks = { "127.0.0.1" } },
        queue = moonpost.queue { spool = "DIR/spool", route = function(one)
          local notify = one.params and one.params.notify
          moonpost.log.info("routed", {
            a = one.message.sender, b = one.address, c = one.message.meta.kept or "none", d = notify and notify.NEVER and "never" or "any",
            e = one.message.priority, f = one.message.user or "nobody",
          })
          return function(_, octets) moonpost.log.info("octets", { top = octets():match "X%-Top: %a+" or "none" }) end
        end },]],
      hooks = [[
        function server.on.rcpt(_, recipient)
          if recipient.localpart == "alias" then recipient:rewrite("real@example.com") end
          if recipient.localpart == "quiet" then recipient.params = { notify = { NEVER = true } } end
        end
        function server.on.message(_, message)
          local first = message.headers.subject -- who asks for recipients has them looked at one by one
          if first == "forward" then message.sender.address = "srs0-x@fwd.example.org" end
          if first == "edited" then message:prepend("X-Top", "edited") message.meta.kept = "yes" end
          if first == "param" then message.params = { priority = 3 } end
          message:enqueue()
        end]],
    }
    local client = assert(moonpost.connect { url = "smtp://" .. house.at.smtp, tls = "none" })
    local function came(to, ...)
      assert(client:send { from = "ann@example.net", to = to, message = ("Subject: %s\r\n\r\nHello.\r\n"):format(to:match "%a+") })
      house:expect(("routed a=%s b=%s c=%s d=%s e=%s f=nobody"):format(...):gsub("%p", "%%%0"), 10)
      house:expect(to:find "edited" and "octets top=\"X%-Top: edited\"" or "octets top=none", 10)
    end
    came("plain@example.com", "ann@example.net", "plain@example.com", "none", "any", "0")
    came("alias@example.com", "ann@example.net", "real@example.com", "none", "any", "0")
    came("quiet@example.com", "ann@example.net", "quiet@example.com", "none", "never", "0")
    came("forward@example.com", "srs0-x@fwd.example.org", "forward@example.com", "none", "any", "0")
    came("param@example.com", "ann@example.net", "param@example.com", "none", "any", "3")
    came("edited@example.com", "ann@example.net", "edited@example.com", "yes", "any", "0")
    client:quit()
  end)

  it("tells who asks for it of a delivery into a Maildir", function()
    local behind <close> = served.start {
      options = 'domains = { "example.net" },',
      hooks = [[
        function server.on.message(_, message)
          log.info("report", { to = message.recipients[1].address, from = message.sender.address, about = message:octets():match "Action: (%a+)" })
          message:discard "test"
        end]],
    }
    local house <close> = served.start {
      options = ('queue = moonpost.queue { spool = "DIR/spool", route = "smtp://%s" },'):format(behind.at.smtp),
    }
    local client = assert(moonpost.connect { url = "smtp://" .. house.at.smtp, tls = "none" })
    local function say(to)
      assert(client:send { from = "ann@example.net", to = to, message = "Subject: x\r\n\r\nHello.\r\n" })
    end
    say { "bob@example.org" }
    say { { address = "carl@example.org", params = { notify = { FAILURE = true } } } }
    say { { address = "dora@example.org", params = { notify = { SUCCESS = true } } } }
    behind:expect("report .-about=delivered .-to=ann@example%.net", 20)
    client:quit()
    house:expect("delivered ")
    assert.equal(1, behind:count("report "))
    assert.equal(3, #house:mail("bob") + #house:mail("carl") + #house:mail("dora"))
  end)
end)
