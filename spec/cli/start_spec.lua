local ports = require "spec.support.ports"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local served = require "spec.support.served"
local socket = require "socket"
local tmpdir = require "spec.support.tmpdir"

-- Runs `moonpost serve` on a policy that cannot be served: it must end by itself.
local function fails(dir, policy, ...)
  dir:write("policy.lua", policy)
  local args = { process.moonpost, "serve", ... }
  args[#args + 1] = "policy.lua"
  args.cwd = dir.path
  local result = process.run(args)
  assert.equal(1, result.code, result.output)
  assert.equal("", result.out)
  assert.equal(1, select(2, result.err:gsub("\n", "")), result.err)
  return result.err
end

local function is_free(port)
  local listener = assert(socket.tcp())
  local ok = listener:bind("127.0.0.1", port)
  listener:close()
  return ok ~= nil
end

describe("moonpost serve: a start that fails", function()
  it("ends with one line for a policy that does not load", function()
    local dir <close> = tmpdir.new()
    assert.equal("moonpost: policy.lua:1: unexpected symbol near '='\n", fails(dir, "local x = = 1"))
    assert.equal("moonpost: absent.lua: No such file or directory\n",
      process.run({ process.moonpost, "serve", "absent.lua" }).err)
  end)

  it("reads certificates before a port is bound", function()
    local dir <close> = tmpdir.new()
    local port = ports.free()
    local taken = assert(socket.bind("127.0.0.1", port)) -- would be complained of, if it came first
    local err = fails(dir, ([[
      return require("moonpost").server {
        listen = { "smtp://127.0.0.1:%d" }, tls = { certificate = "absent.pem" },
      }]]):format(port))
    taken:close()
    assert.matches("moonpost: policy.lua: absent.pem: no such file or directory", err, 1, true)
  end)

  it("names the port that somebody else holds, and keeps none of the others", function()
    local dir <close> = tmpdir.new()
    local free, port = ports.free(), ports.free()
    local taken = assert(socket.bind("127.0.0.1", port))
    local err = fails(dir, ([[
      return require("moonpost").server {
        listen = { "smtp://127.0.0.1:%d", "lmtp://unix:socket", "smtp://127.0.0.1:%d" },
      }]]):format(free, port))
    taken:close()
    assert.equal(("moonpost: policy.lua: cannot listen on smtp://127.0.0.1:%d: address already in use\n"):format(port), err)
    assert.is_true(is_free(free))
    assert.same({ "policy.lua" }, dir:list())
  end)

  it("names a file that is in a unix socket's place, and leaves it there", function()
    local dir <close> = tmpdir.new()
    dir:write("socket", "precious")
    local err = fails(dir, [[return require("moonpost").server { listen = { "lmtp://unix:socket" } }]])
    assert.equal("moonpost: policy.lua: cannot listen on lmtp://unix:socket: the file exists and is not a socket\n", err)
    assert.equal("precious", dir:read("socket"))
  end)

  it("ends when the start hook of a worker raises", function()
    local dir <close> = tmpdir.new()
    local err = fails(dir, [[
      local server = require("moonpost").server { listen = { "smtp://127.0.0.1:0" } }
      function server.on.start() error "no database" end
      return server]], "--workers", "2")
    assert.matches("policy.lua", err, 1, true)
    assert.matches("no database", err, 1, true)
  end)

  it("ends when the policy loads once and not again", function()
    local dir <close> = tmpdir.new()
    local err = fails(dir, [[
      local file = io.open("mark")
      if file then error "I was here" end
      io.open("mark", "w"):close()
      return require("moonpost").server { listen = { "lmtp://unix:socket" } }]])
    assert.equal("moonpost: policy.lua:2: I was here\n", err)
    assert.same({ "mark", "policy.lua" }, dir:list())
  end)

  it("does not start as a user that does not exist", function()
    local dir <close> = tmpdir.new()
    local err = fails(dir, [[return require("moonpost").server { listen = { "lmtp://unix:socket" } }]], "--user", "no-such-user")
    assert.matches("moonpost: --user: ", err, 1, true)
    assert.matches("no-such-user", err, 1, true)
    assert.same({ "policy.lua" }, dir:list())
  end)
end)

describe("moonpost serve: the exit status", function()
  local plain = [[return require("moonpost").server { listen = { "lmtp://unix:%s" } }]]

  local function status(...)
    local result = process.run { ... }
    return result.code, result.err
  end

  it("is 66 when the policy cannot be read", function()
    local dir <close> = tmpdir.new()
    assert.equal(66, (status(process.moonpost, "serve", dir:join("absent.lua"))))
  end)

  it("is 75 when no descriptors are left to load it", function()
    local dir <close> = tmpdir.new()
    local path = dir:write("policy.lua", plain:format(dir:join("socket")))
    local code, err = status("prlimit", "--nofile=20", process.moonpost, "serve", path)
    assert.equal(75, code)
    assert.matches("no descriptors are left to load it", err, 1, true)
  end)

  it("is 77 when what it needs is for others", function()
    if process.run({ "id", "-u" }).out ~= "0\n" then
      pending("needs root")
      return
    end
    local dir <close> = tmpdir.new()
    os.execute("chmod 755 " .. dir.path)
    local path = dir:write("policy.lua", plain:format(dir:join("socket")))
    os.execute("chmod 644 " .. path)
    local nobody = { "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups" }
    local function as_nobody(...)
      local command = table.move(nobody, 1, #nobody, 1, {})
      return status(table.unpack(table.move({ ... }, 1, select("#", ...), #command + 1, command)))
    end
    local code, err = as_nobody(process.moonpost, "serve", path)
    assert.matches("permission denied", err, 1, true)
    assert.equal(77, code)
    code, err = as_nobody(process.moonpost, "serve", "--user", "daemon", "--listen", "smtp://127.0.0.1:0", path)
    assert.matches("--user: ", err, 1, true)
    assert.equal(77, code)
  end)
end)

describe("moonpost serve", function()
  it("says where it listens, serves, and stops on SIGTERM with status 0", function()
    local house <close> = served.start { listen = { "smtp://127.0.0.1:0", "lmtp://unix:DIR/socket" } }
    local peer <close> = raw.session(house.port.smtp)
    peer:envelope("a@example.net", "ann@example.org")
    assert.matches("^250 ", peer:command("Subject: hello", "", "Hello.", "."))
    assert.matches("Subject: hello\r?\n\r?\nHello%.", house:take("ann"))
    raw.session(house.dir:join("socket"), { verb = "LHLO" }):leave()
    house:stop()
    house:expect("stopped")
    assert.same({ "mail", "policy.lua" }, house.dir:list()) -- the socket file is gone
  end)

  it("listens where --listen says, not where the policy does", function()
    local dir <close> = tmpdir.new()
    local path = dir:write("policy.lua", [[
      local server = require("moonpost").server { listen = { "smtp://192.0.2.1:25" }, domains = { "example.org" } }
      function server.on.message(_, message) message:discard("test") end
      return server]])
    local p <close> = process.start {
      process.moonpost, "serve", "--listen", "smtp://127.0.0.1:0", "--listen=smtp://[::1]:0", path,
    }
    local v4 = p:expect("listening on smtp://127.0.0.1:(%d+)")
    p:expect("listening on smtp://%[::1%]:(%d+)")
    raw.session(math.tointeger(v4)):leave()
  end)

  it("writes JSON lines when told to, and less when told to", function()
    local dir <close> = tmpdir.new()
    local path = dir:write("policy.lua", [[return require("moonpost").server { listen = { "smtp://127.0.0.1:0" } }]])
    local p <close> = process.start { process.moonpost, "serve", "--log-format", "json", path }
    p:expect('^{.*"text":"listening on smtp://127.0.0.1:%d+".*}$')
    p:stop()
    for _, line in ipairs(p.lines) do
      assert.matches("^{.*}$", line)
    end
    local quiet <close> = process.start {
      process.moonpost, "serve", "--log-level", "error", "--listen", "lmtp://unix:" .. dir:join("socket"), path,
    }
    local peer
    repeat -- it says nothing: it is ready when it answers
      quiet:poll()
      peer = select(2, pcall(raw.connect, dir:join("socket")))
    until type(peer) == "table"
    assert.matches("^220 ", peer:read())
    peer:leave()
    assert.equal(0, quiet:stop())
    assert.equal("", quiet.output)
  end)

  it("finds certificates and modules where the policy's own code finds them", function()
    local dir <close> = tmpdir.new()
    dir:write("etc/policy.lua", [[
      local moonpost = require "moonpost"
      local server = moonpost.server { listen = { "smtp://127.0.0.1:0" }, domains = { "example.org" } }
      server:use(require "beside")
      return server]])
    dir:write("etc/beside.lua", 'return { name = "beside", rcpt = function() return 550, "5.7.1", "not here" end }')
    local p <close> = process.start { process.moonpost, "serve", "etc/policy.lua", cwd = dir.path }
    local peer <close> = raw.session(math.tointeger(p:expect("listening on smtp://127.0.0.1:(%d+)")))
    peer:command("MAIL FROM:<>")
    assert.equal("550 5.7.1 not here", peer:command("RCPT TO:<a@example.org>"))
  end)

  it("becomes another user once the ports are bound, before the policy runs for good", function()
    if process.run({ "id", "-u" }).out ~= "0\n" then
      pending("needs root")
      return
    end
    local dir <close> = tmpdir.new()
    os.execute("chmod 755 " .. dir.path)
    local path = dir:write("policy.lua", [[
      local moonpost = require "moonpost"
      local server = moonpost.server { listen = { "smtp://127.0.0.1:0" } }
      function server.on.start()
        for line in io.lines("/proc/self/status") do
          if line:find("^[UG]id:") then moonpost.log.info("is " .. line:gsub("%s+", " ")) end
        end
      end
      return server]])
    os.execute("chmod 644 " .. path)
    local p <close> = process.start { process.moonpost, "serve", "--user", "nobody", "--group", "65533", path }
    p:expect("is Uid: 65534 65534 65534 65534")
    p:expect("is Gid: 65533 65533 65533 65533")
    p:expect("listening on")
    assert.equal(0, p:stop())
  end)
end)

-- The certificate was made in silence where the policy is inspected, and whoever served with it found it there.
describe("moonpost serve: a development certificate", function()
  it("is said to be made when it was, and to be used the next time", function()
    local state <close> = tmpdir.new()
    for _, said in ipairs { "made", "using" } do
      local house <close> = served.start {
        listen = { "smtp://127.0.0.1:0" }, options = 'tls = "development"', env = { XDG_STATE_HOME = state.path }, args = { "--workers", "2" },
      }
      assert.equal(1, house:count(said .. " a development certificate"))
      assert.equal(1, house:count "a development certificate")
    end
  end)
end)
