local core = require "moonpost.core"
local moonpost = require "moonpost"
local process = require "spec.support.process"
local socket = require "socket"
local tmpdir = require "spec.support.tmpdir"
local wired = require "spec.support.wired"

local build = os.getenv("MOONPOST_BUILD") or "build"

describe("moonpost.serving", function()
  local worker = core.worker()
  local servers = {}

  -- Turns the loop until `done()` says something true; a spec that waits in vain fails.
  local function turn_until(what, done)
    local limit = socket.gettime() + 10 * process.scale
    while true do
      local value = done()
      if value then
        return value
      end
      assert(socket.gettime() < limit, "waited in vain for " .. what)
      worker:turn(false)
    end
  end

  local function start(options, define)
    local server = moonpost.server(options)
    if define then
      define(server)
    end
    local ok, err = server:start()
    if ok then
      servers[#servers + 1] = server
    end
    return server, ok, err
  end

  local Client = {}
  Client.__index = Client

  local function connect(address)
    local sock = assert(socket.connect(address.ip, address.port))
    sock:settimeout(0)
    return setmetatable({ sock = sock }, Client)
  end

  function Client:line()
    local rest
    return turn_until("a line", function()
      local line, err, partial = self.sock:receive("*l", rest)
      rest = partial
      return line or err == "closed" and "closed"
    end)
  end

  function Client:command(line)
    assert(self.sock:send(line .. "\r\n"))
    return self:line()
  end

  before_each(function()
    wired.catch_log()
  end)

  after_each(function()
    for _, server in ipairs(servers) do
      local over = false
      server:_stop(0, function() over = true end)
      turn_until("the end", function() return over end)
    end
    servers = {}
    wired.release_log()
  end)

  it("binds, serves, and says where", function()
    local server = start { hostname = "mx.example.org", listen = { "smtp://127.0.0.1:0", { "lmtp://127.0.0.1:0",
      name = "inside" } } }
    assert.equal(2, #server.addresses)
    local smtp, lmtp = server.addresses[1], server.addresses[2]
    assert.same({ "smtp", "smtp", "127.0.0.1" }, { smtp.name, smtp.protocol, smtp.ip })
    assert.is_true(smtp.port > 0)
    assert.equal(("smtp://127.0.0.1:%d"):format(smtp.port), smtp.url)
    assert.same({ "inside", "lmtp" }, { lmtp.name, lmtp.protocol })
    assert.matches("^220 mx.example.org ESMTP", connect(smtp):line())
    assert.matches("^220 mx.example.org LMTP", connect(lmtp):line())
  end)

  it("serves unix sockets, with the mode that was asked for", function()
    local dir <close> = tmpdir.new()
    local server = start { listen = { { "lmtp://unix:" .. dir:join("mp.sock"), mode = "0600" } } }
    assert.equal(dir:join("mp.sock"), server.addresses[1].path)
    assert.same({ "mp.sock" }, dir:list())
    assert.equal(384, require("luv").fs_stat(dir:join("mp.sock")).mode & 511)
  end)

  it("notices a port that somebody else holds, and starts nothing", function()
    local held = assert(socket.bind("127.0.0.1", 0))
    local _, port = held:getsockname()
    local server, ok, err = start { listen = { "smtp://127.0.0.1:0", "smtp://127.0.0.1:" .. port } }
    assert.is_nil(ok)
    assert.equal("bind", err.kind)
    assert.matches(("^cannot listen on smtp://127.0.0.1:%d: "):format(port), tostring(err))
    assert.is_nil(tostring(err):find("\n", 1, true))
    assert.same({}, server.addresses)
    held:close()
  end)

  it("demands a hook for AUTH where AUTH is demanded", function()
    local _, ok, err = start { listen = { { "submission://127.0.0.1:0", tls = "optional" } } }
    assert.is_nil(ok)
    assert.matches("submission://127.0.0.1:0 demands AUTH, but there is no credentials, auth or token hook",
      tostring(err))
  end)

  it("cannot be started twice", function()
    local server = start { listen = "smtp://127.0.0.1:0" }
    assert.has_error(function() server:start() end)
  end)

  it("stops: idle peers are told 421, and nobody is let in any more", function()
    local server = start { listen = "smtp://127.0.0.1:0" }
    local address = server.addresses[1]
    local client = connect(address)
    assert.matches("^220 ", client:line())
    local over = false
    moonpost.spawn(function()
      server:stop("5s")
      over = true
    end)
    assert.matches("^421 ", client:line())
    assert.equal("closed", client:line())
    client.sock:close()
    turn_until("the end", function() return over end)
    assert.same({}, server.addresses)
    assert.is_nil((socket.connect(address.ip, address.port)))
    servers = {}
  end)

  it("stops after the grace period, whoever is busy", function()
    local server = start({ listen = "smtp://127.0.0.1:0", domains = "example.org" }, function(s)
      s.on.message = function(_, m) m:discard("x") end
    end)
    local client = connect(server.addresses[1])
    client:line()
    assert.matches("^250 ", client:command("HELO a"))
    assert.matches("^250 ", client:command("MAIL FROM:<a@b.c>"))
    assert.matches("^250 ", client:command("RCPT TO:<bob@example.org>"))
    assert.matches("^354 ", client:command("DATA"))
    local over = false
    server:_stop(30, function() over = true end)
    assert.matches("^250 ", client:command("\r\nx\r\n."))
    assert.matches("^421 ", client:line())
    client.sock:close()
    turn_until("the end", function() return over end)

    server = start({ listen = "smtp://127.0.0.1:0", domains = "example.org" })
    client = connect(server.addresses[1])
    client:line()
    client:command("HELO a")
    client:command("MAIL FROM:<a@b.c>")
    over = false
    server:_stop(0.05, function() over = true end)
    turn_until("the end of grace", function() return over end)
  end)

  it("waits on the main coroutine too, and takes a grace period in any form", function()
    local server = start { listen = "smtp://127.0.0.1:0" }
    server:stop(0)
    server:stop()
    assert.has_error(function() server:stop("soon") end)
    servers = {}
  end)

  it("loads certificates anew", function()
    local dir <close> = tmpdir.new()
    assert(core.selfsigned(dir:join("a.pem"), dir:join("a.key"), "a.example"))
    local server = start { listen = "smtp://127.0.0.1:0", tls = { certificate = dir:join("a.pem"),
      key = dir:join("a.key") } }
    assert.is_true((server:reload_certificates()))
    dir:write("a.pem", "garbage")
    local ok, err = server:reload_certificates()
    assert.is_nil(ok)
    assert.matches("a.pem", tostring(err))
    assert.is_nil(tostring(err):find("\n", 1, true))
  end)

  describe("run, in a plain script", function()
    local function script(dir, body)
      local lua = io.open(build .. "/lua") and build .. "/lua" or "lua5.4"
      local root = require("luv").cwd()
      local cpath = (build:sub(1, 1) == "/" and build or root .. "/" .. build) .. "/lib/?.so"
      return { lua, dir:write("script.lua", ([[
        package.path = %q .. package.path
        package.cpath = %q .. package.cpath
        local moonpost = require "moonpost"
      ]]):format(root .. "/lua/?.lua;" .. root .. "/lua/?/init.lua;", cpath .. ";") .. body) }
    end

    local serve = [[
      local server = moonpost.server { listen = "smtp://127.0.0.1:0", domains = "example.org", grace = "20s" }
      function server.on.start(s) print("start", #s.addresses) end
      function server.on.retire() print "retire" end
      function server.on.rcpt() print "asked" io.stdout:flush() moonpost.sleep(60) end
      io.stdout:setvbuf "line"
      server:run()
      print "returned"
    ]]

    it("serves until SIGTERM, then returns", function()
      local dir <close> = tmpdir.new()
      for _, name in ipairs { "sigterm", "sigint" } do
        local child <close> = process.start(script(dir, serve))
        local port = child:expect("listening on smtp://127.0.0.1:(%d+)")
        local client = assert(socket.connect("127.0.0.1", tonumber(port)))
        assert.matches("^220 ", client:receive("*l"))
        child:kill(name)
        assert.matches("^421 ", client:receive("*l"))
        client:close()
        child:expect("^retire")
        child:expect("^returned")
        assert.equal(0, (child:wait()))
      end
    end)

    it("stops at once at the second signal", function()
      local dir <close> = tmpdir.new()
      local child <close> = process.start(script(dir, serve))
      local port = child:expect("listening on smtp://127.0.0.1:(%d+)")
      local client = assert(socket.connect("127.0.0.1", tonumber(port)))
      client:receive("*l")
      client:send("EHLO a\r\n")
      repeat
        local line = client:receive("*l")
      until line:find("^250 ")
      client:send("MAIL FROM:<a@b.c>\r\nRCPT TO:<bob@example.org>\r\n")
      child:expect("^asked")
      child:kill("sigterm")
      child:expect("^retire")
      child:kill("sigterm")
      child:expect("^returned")
      assert.equal(0, (child:wait()))
      client:close()
    end)

    it("is a line and a status when it cannot start", function()
      local dir <close> = tmpdir.new()
      local held = assert(socket.bind("127.0.0.1", 0))
      local _, port = held:getsockname()
      local child = process.run(script(dir, ('moonpost.server { listen = "smtp://127.0.0.1:%d" }:run()'):format(port)))
      assert.equal(1, child.code)
      assert.matches("script.lua:%d+: cannot listen on smtp://127.0.0.1:" .. port .. ": [^\n]+", child.err)
      held:close()
    end)

    it("interrupts a hook that loops for ever, and serves on", function()
      local dir <close> = tmpdir.new()
      local child <close> = process.start(script(dir, [[
        local server = moonpost.server { listen = "smtp://127.0.0.1:0", domains = "example.org",
          limits = { cpu_time = "200ms" } }
        function server.on.helo(_, name) while name == "loop.example" do end end
        server:run()
      ]]))
      local port = child:expect("listening on smtp://127.0.0.1:(%d+)")
      local client = assert(socket.connect("127.0.0.1", tonumber(port)))
      client:settimeout(10 * process.scale)
      client:receive("*l")
      client:send("HELO loop.example\r\n")
      assert.matches("^451 ", client:receive("*l"))
      child:expect("hook failed.*interrupted")
      client:send("HELO other.example\r\n")
      assert.matches("^250 ", client:receive("*l"))
      client:close()
    end)

    it("survives a hook that allocates without end, and serves on", function()
      local dir <close> = tmpdir.new()
      local child <close> = process.start(script(dir, [[
        local server = moonpost.server {
          listen = "smtp://127.0.0.1:0", domains = "example.org", limits = { memory = "50MB", cpu_time = "20s" },
        }
        function server.on.helo(_, name)
          local t = {}
          while name == "greedy.example" do t[#t + 1] = ("x"):rep(1000) .. #t end
        end
        server:run()
      ]]))
      local port = child:expect("listening on smtp://127.0.0.1:(%d+)")
      local client = assert(socket.connect("127.0.0.1", tonumber(port)))
      client:settimeout(30 * process.scale)
      client:receive("*l")
      client:send("HELO greedy.example\r\n")
      assert.matches("^451 ", client:receive("*l"))
      child:expect("hook failed.*not enough memory %(limits.memory%)")
      client:send("HELO other.example\r\n")
      assert.matches("^250 ", client:receive("*l"))
      client:close()
    end)
  end)
end)
