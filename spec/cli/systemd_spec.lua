-- No systemd runs here: what it hands to a service, and hears of it, are variables, descriptors and datagrams.
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local tmpdir = require "spec.support.tmpdir"
local uv = require "luv"

local function policy(listen, hooks, options)
  return ([[
    local moonpost = require "moonpost"
    local server = moonpost.server { hostname = "mx.example.org", listen = { %s }, domains = { "example.org" }, %s }
    %s
    return server]]):format(listen, options or "", hooks or "")
end

-- The command that starts moonpost with these sockets.
local function activated(sockets, ...)
  local command = { peers.python3, "spec/support/activate.py" }
  table.move(sockets, 1, #sockets, #command + 1, command)
  for _, part in ipairs { "--", process.moonpost, "serve", "--grace=1s", ... } do
    command[#command + 1] = part
  end
  return command
end

local function greets(where)
  local peer <close> = raw.connect(where)
  assert.matches("^220 ", peer:read())
  assert.matches("^221 ", peer:command("QUIT"))
end

describe("moonpost serve: socket activation", function()
  it("serves the sockets that it is given, by address and by name, and binds the others itself", function()
    local dir <close> = tmpdir.new()
    local path = dir:write("policy.lua", policy(([["smtp://127.0.0.1:0", "lmtp://unix:%s",
      { "smtp://192.0.2.1:25", name = "web" }]]):format(dir:join("given"))))
    local p <close> = process.start(activated({ "=unix:" .. dir:join("given"), "web=127.0.0.1:0" }, "--workers", "2", path))
    local port = p:expect("^socket web (%d+)")
    local own = p:expect("listening on smtp://127.0.0.1:(%d+) name=smtp$")
    p:expect "listening on lmtp://unix:%S+/given"
    p:expect(("listening on smtp://127.0.0.1:%s name=web$"):format(port))
    for _ = 1, 4 do -- whichever worker takes it
      greets(math.tointeger(port))
      greets(math.tointeger(own))
      local peer <close> = raw.session(dir:join("given"), { verb = "LHLO" })
      assert.matches("^221 ", peer:command("QUIT"))
    end
    assert.equal(0, p:stop())
    assert.is_not_nil(uv.fs_lstat(dir:join("given"))) -- its file is not ours
  end)

  it("takes a socket for every address of both families for 0.0.0.0", function()
    local dir <close> = tmpdir.new()
    local path = dir:write("policy.lua", policy '"smtp://0.0.0.0:" .. os.getenv("ACTIVATED"):match("%d+")')
    local p <close> = process.start(activated({ "=[::]:0" }, path))
    local port = p:expect("^socket  (%d+)")
    p:expect(("listening on smtp://%%[::%%]:%s "):format(port))
    greets(math.tointeger(port))
  end)

  it("keeps them through reloads, when a policy has done without them meanwhile too", function()
    local dir <close> = tmpdir.new()
    local with = policy '"smtp://127.0.0.1:0", { "smtp://192.0.2.1:25", name = "web" }'
    local path = dir:write("policy.lua", with)
    local p <close> = process.start(activated({ "web=127.0.0.1:0" }, path))
    local port = math.tointeger(p:expect("^socket web (%d+)"))
    p:expect("listening on smtp://%S+ name=web")
    for _ = 1, 2 do
      p:kill("sighup")
      p:expect("policy loaded")
      greets(port)
      dir:write("policy.lua", policy '"smtp://127.0.0.1:0"')
      p:kill("sighup")
      p:expect("policy loaded")
      local waits <close> = raw.connect(port) -- nobody is refused
      dir:write("policy.lua", with)
      p:kill("sighup")
      p:expect("policy loaded")
      assert.matches("^220 ", waits:read())
    end
  end)

  it("takes nothing that was meant for another process, and tells no child of it", function()
    local dir <close> = tmpdir.new()
    local path = dir:write("policy.lua", policy('"smtp://127.0.0.1:0"', [[
      function server.on.start()
        os.execute "env | grep -E '^(LISTEN|NOTIFY|WATCHDOG)_' >&2; echo asked >&2; ls -l /proc/self/fd >&2; echo seen >&2"
      end]]))
    local other = activated({ "x=127.0.0.1:0" }, path)
    other.env = { ACTIVATE_PID = "1", NOTIFY_SOCKET = dir:join("nobody"), WATCHDOG_USEC = "1000000" }
    local p <close> = process.start(other)
    p:expect("listening on")
    assert.is_nil(p.err:match("[LNW]%u+_%u+="))
    assert.matches("asked", p.err, 1, true)
    p:stop()
    local ours <close> = process.start(activated({ "smtp=127.0.0.1:0" }, path))
    ours:expect("listening on")
    assert.is_nil(ours.err:match("[LNW]%u+_%u+="))
    local children = ours.err:match("asked(.*)seen")
    assert.is_nil(children:match(" 3 %-> socket:"), children)
  end)

  local wrong = {
    { "fits no endpoint, by its name and address", { "web=127.0.0.1:0" },
      "descriptor 3 %(web, 127.0.0.1:%d+%) is no endpoint of the policy, neither by its address nor by its name" },
    { "is one more than there are endpoints", { "smtp=127.0.0.1:0", "smtp=127.0.0.1:0" }, "descriptor 4 %(smtp, 127.0.0.1:%d+%) is no endpoint" },
    { "is no socket", { "smtp=file" }, "descriptor 3 %(smtp%) is no socket" },
    { "is no stream socket", { "=udp" }, "descriptor 3 is no stream socket %(ListenStream=%)" },
    { "does not listen", { "smtp=bound" }, "descriptor 3 %(smtp%) does not listen %(Accept=no%)" },
    { "is not open", {}, "descriptor 3 is no", { ACTIVATE_FDS = "1" } },
    { "is one of nonsense", {}, "LISTEN_FDS=many: a number up to 1024 expected", { ACTIVATE_FDS = "many" } },
  }
  for _, row in ipairs(wrong) do
    it("refuses to start with status 78 when one " .. row[1], function()
      local dir <close> = tmpdir.new()
      local command = activated(row[2], dir:write("policy.lua", policy '"smtp://127.0.0.1:0"'))
      command.env = row[4]
      local result = process.run(command)
      assert.equal(78, result.code, result.output)
      assert.matches("moonpost: " .. row[3], result.err)
    end)
  end
end)

-- A supervisor that listens, and a server that tells it.
local function supervised(address, text, env, ...)
  local dir = tmpdir.new()
  address = address:gsub("^DIR", dir.path)
  local ear = process.start { peers.python3, "spec/support/notified.py", address }
  ear:expect("^ready$")
  env.NOTIFY_SOCKET = address
  local path = dir:write("policy.lua", (text:gsub("DIR", dir.path)))
  local command = { process.moonpost, "serve", "--grace=1s", env = env, ... }
  command[#command + 1] = path
  local p = process.start(command)
  return setmetatable({ dir = dir, ear = ear, process = p }, {
    __close = function()
      p:stop()
      ear:kill()
      ear:wait()
      dir:remove()
    end,
  })
end

-- What was sent before this has been heard when this is heard.
local function mark(address, text)
  local code = "import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(sys.argv[2].encode(), sys.argv[1])"
  assert.equal(0, process.run({ peers.python3, "-c", code, address, text }).code)
end

describe("moonpost serve: what a supervisor is told", function()
  local serial = 0
  for what, address in pairs { path = "DIR/notify", ["abstract name"] = "@moonpost-spec-" .. uv.os_getpid() } do
    it("is sent to a socket with a" .. (what == "path" and " " or "n ") .. what, function()
      serial = serial + 1
      local house <close> = supervised(address, policy '"smtp://127.0.0.1:0"', {}, "--workers", "2")
      local pid, status = house.ear:expect("^READY=1 | MAINPID=(%d+) | STATUS=(.*)$")
      assert.equal(house.process.pid, math.tointeger(pid))
      assert.matches("^Serving .*policy.lua with 2 workers$", status)
      local port = house.process:expect("listening on smtp://127.0.0.1:(%d+)")
      greets(math.tointeger(port))
      house.process:kill("sigterm")
      house.ear:expect("^STOPPING=1 | STATUS=Stopping; sessions may finish for 1s$")
      assert.equal(0, house.process:wait())
    end)
  end

  it("is each reload, its end be it good or bad, by the clock of the system", function()
    local house <close> = supervised("DIR/notify", policy '"smtp://127.0.0.1:0"', {})
    house.ear:expect("^READY=1")
    local function uptime()
      return uv.hrtime() // 1000
    end
    local before = uptime()
    house.process:kill("sighup")
    local at = math.tointeger(house.ear:expect("^RELOADING=1 | MONOTONIC_USEC=(%d+) | STATUS=Loading"))
    assert.is_true(before <= at and at <= uptime())
    house.ear:expect("^READY=1 .*STATUS=Serving")
    house.dir:write("policy.lua", "error 'no\\ndatabase'")
    house.process:kill("sighup")
    house.ear:expect("^RELOADING=1")
    house.ear:expect("^READY=1 .*STATUS=The policy was not loaded, the one before serves on: .*policy.lua:1: no")
  end)

  it("is why it does not start", function()
    local house <close> = supervised("DIR/notify", "error 'no database'", {})
    house.ear:expect("^STATUS=.*policy.lua:1: no database$")
    assert.equal(1, house.process:wait())
    assert.is_nil(house.ear.out:find("READY", 1, true))
  end)

  it("is one line of whole characters, however long what was raised is", function()
    local house <close> = supervised("DIR/notify", 'error(("\u{fc}"):rep(2000), 0)', {})
    local text = house.ear:expect("^STATUS=(.*\u{fc})$")
    assert.is_true(#text <= 1024 and #text > 1000 and utf8.len(text) ~= nil)
  end)

  it("is nothing when there is nobody to hear it, and that is said once", function()
    local dir <close> = tmpdir.new()
    local path = dir:write("policy.lua", policy '"smtp://127.0.0.1:0"')
    local p <close> = process.start { process.moonpost, "serve", path, env = { NOTIFY_SOCKET = dir:join("nobody") } }
    p:expect("the supervisor cannot be told address=%S+nobody")
    p:kill("sighup")
    p:expect("policy loaded")
    assert.equal(0, p:stop())
    assert.equal(1, select(2, p.err:gsub("cannot be told", "")))
  end)

  it("is that all workers answer, and not when one does not #thread", function()
    local house <close> = supervised("DIR/notify", policy('"smtp://127.0.0.1:0"', [[
      function server.on.mail()
        moonpost.log.info("stands still", { worker = moonpost.worker.id })
        os.execute "while [ ! -e DIR/go ]; do sleep 0.05; done"
      end]], 'limits = { cpu_time = "100ms" }'), { WATCHDOG_USEC = "2000000" }, "--workers", "3")
    house.ear:expect("^READY=1")
    for _ = 1, 3 do
      house.ear:expect("^WATCHDOG=1$")
    end
    local port = math.tointeger(house.process:expect("listening on smtp://127.0.0.1:(%d+)"))
    local peer <close> = raw.session(port)
    peer:lines("MAIL FROM:<>")
    local worker = house.process:expect("stands still worker=(%d)$")
    house.process:expect(("a worker does not answer; .* workers=%s seconds=[%%d.]+$"):format(worker))
    mark(house.dir:join("notify"), "first")
    house.ear:expect("^first$")
    house.process:expect("a call in Lua does not return.* worker=" .. worker) -- more than a second later
    mark(house.dir:join("notify"), "second")
    assert.equal("second", house.ear:expect("^.*$")) -- and nothing in between
    house.dir:write("go", "")
    house.process:expect("all workers answer again")
    assert.matches("^451 ", peer:read()) -- it ran for too long, and hears so
    house.ear:expect("^WATCHDOG=1$")
  end)

  it("is nothing of a watchdog that was meant for another process", function()
    local house <close> = supervised("DIR/notify", policy('"smtp://127.0.0.1:0"', [[
      function server.on.mail() moonpost.sleep(0.5) end]]), { WATCHDOG_USEC = "100000", WATCHDOG_PID = "1" })
    local port = math.tointeger(house.process:expect("listening on smtp://127.0.0.1:(%d+)"))
    local peer <close> = raw.session(port)
    assert.matches("^250 ", peer:command("MAIL FROM:<>"))
    house.ear:poll()
    assert.is_nil(house.ear.out:find("WATCHDOG", 1, true))
  end)
end)

describe("examples/systemd", function()
  local function read(path)
    local file <close> = assert(io.open(path))
    return (file:read("a"))
  end

  it("is what systemd understands, without a warning", function()
    if process.run({ "sh", "-c", "command -v systemd-analyze" }).code ~= 0 then
      pending("needs systemd-analyze")
      return
    end
    local dir <close> = tmpdir.new()
    local paths = {}
    for i, name in ipairs { "moonpost.service", "moonpost.socket" } do
      local text = read("examples/systemd/" .. name):gsub("/usr/local/bin/moonpost", (process.moonpost:gsub("%%", "%%%%")))
      paths[i] = dir:write(name, text)
    end
    local result = process.run { "systemd-analyze", "verify", "--man=no", table.unpack(paths) }
    assert.equal("", result.output)
    assert.equal(0, result.code)
  end)

  it("has the exit statuses that another start does not change", function()
    local statuses = read("examples/systemd/moonpost.service"):match("\nRestartPreventExitStatus=([%d ]+)\n")
    local page = read "docs/operating.md"
    for status in statuses:gmatch("%d+") do
      assert.matches("\n| " .. status .. " |", page, 1, true)
    end
  end)

  it("runs without memory that is written and executed, as the unit demands", function()
    -- prctl(PR_SET_MDWE) is what MemoryDenyWriteExecute= comes to
    local code = "import ctypes, os, sys\nif ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0: sys.exit(99)\nos.execv(sys.argv[1], sys.argv[1:])"
    local dir <close> = tmpdir.new()
    local path = dir:write("policy.lua", policy '"smtp://127.0.0.1:0"')
    local p <close> = process.start { peers.python3, "-c", code, process.moonpost, "serve", path }
    local ok, port = pcall(p.expect, p, "listening on smtp://127.0.0.1:(%d+)")
    if not ok and p.code == 99 then
      pending("needs Linux 6.3")
      return
    end
    assert.is_true(ok, port)
    greets(math.tointeger(port))
  end)
end)
