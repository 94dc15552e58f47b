-- What the handles of the sending half hold on to, and for how long. Sanitizer builds see most of it.
local certs = require "spec.support.certs"
local core = require "moonpost.core"
local process = require "spec.support.process"
local tmpdir = require "spec.support.tmpdir"
local uv = require "luv"

local function collect()
  collectgarbage()
  collectgarbage()
end

-- A string that nobody else has: short ones are shared by all who say the same.
local function own(text)
  return text .. ("x"):rep(60) .. "@example.org"
end

-- A client and its server's wire; `told` has a row for everything that came.
local function open(ehlo, opts)
  local worker = core.virtual_worker()
  local stream, wire = worker:memory_stream { ip = "192.0.2.25", port = 25 }
  local told = {}
  local client = assert(worker:client(stream, opts or { hostname = "client.example" }, function(...)
    told[#told + 1] = table.pack(...)
  end))
  local function turn()
    for _ = 1, 4 do
      worker:turn(false)
    end
  end
  if ehlo then
    wire:send("220 mx\r\n")
    turn()
    assert(client:hello())
    wire:send(ehlo)
    turn()
    wire:receive()
    assert.equal(2, #told)
  end
  return client, wire, told, turn, worker
end

local function run(program)
  local dir <close> = tmpdir.new()
  return process.run {
    uv.exepath(), dir:write("run.lua", program), timeout = 20,
    env = { LUA_CPATH = package.cpath, LUA_PATH = package.path, ASAN_OPTIONS = "detect_leaks=0" },
  }
end

describe("moonpost.core.client: what an operation borrows", function()
  it("is the client's own: a script may change its tables while the peer takes its time", function()
    local client, wire, told, turn = open("250 mx\r\n")
    local mail = { from = own "ann", to = { own "bob", { address = own "eve" } } }
    assert(client:send(mail, "Subject: x\r\n\r\nhello\r\n"))
    mail.from, mail.to[1], mail.to[2].address, mail.to = nil, nil, nil, nil
    collect()
    for _, reply in ipairs { "250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n", "250 taken\r\n" } do
      turn()
      wire:send(reply)
      collect()
    end
    turn()
    assert.equal(("MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\nSubject: x\r\n\r\nhello\r\n.\r\n")
      :format(own "ann", own "bob", own "eve"), wire:receive())
    assert.is_true(told[3][2])
  end)

  it("stays while recipients are offered one by one", function()
    local client, wire, told, turn = open("250 mx\r\n")
    local list = { own "bob" }
    assert(client:mail { from = "", to = list })
    wire:send("250 ok\r\n")
    turn()
    list[1] = nil
    collect()
    assert(client:rcpt(1))
    turn()
    assert.equal(("MAIL FROM:<>\r\nRCPT TO:<%s>\r\n"):format(own "bob"), wire:receive())
    wire:send("250 ok\r\n")
    turn()
    assert.equal(4, #told)
  end)

  -- The line of a command that came too early took the place of what a message on its way was read from.
  it("is left alone by an operation that comes too early", function()
    local client, wire, told, turn = open("250 mx\r\n")
    assert(client:send({ from = "a@b.example", to = "x@example.org" }, own "Subject: x\r\n\r\nhello "))
    for _, early in ipairs { "command", "vrfy", "send", "mail", "data", "again", "auth", "hello", "quit" } do
      local args = early == "send" and {} or early == "auth" and { user = "u", password = "p" } or own "NOOP"
      local ok, why, name = client[early](client, args)
      assert.same({ early, nil, "MISUSE" }, { early, ok, name }, why)
    end
    collect()
    for _, reply in ipairs { "250 ok\r\n", "250 ok\r\n", "354 go\r\n", "250 taken\r\n" } do
      turn()
      wire:send(reply)
    end
    turn()
    assert.truthy(wire:receive():find(own "hello ", 1, true))
    assert.is_true(told[3][2])
  end)

  -- What is refused without asking the peer is over at once, but told on the next turn. A message that was sent before it had been told
  -- freed the replies that were to be shown.
  it("stays to the end, which is when it was told", function()
    local client, _, told, turn = open("250-mx\r\n250 SIZE 10\r\n")
    local mail = { from = "a@b.example", to = { "x@example.org" } }
    assert(client:send(mail, ("x"):rep(100)))
    assert.equal("MISUSE", (select(3, client:send(mail, "short\r\n"))))
    turn()
    assert.equal(552, told[3][4])
    assert.equal("refused", client:result(1))
  end)

  it("are the octets of a login too", function()
    local client, wire, told, turn = open("250-mx\r\n250 AUTH LOGIN\r\n")
    local login = { user = own "user", password = own "secret", in_clear = { "LOGIN" } }
    assert(client:auth(login))
    login.user, login.password = nil, nil
    collect()
    turn()
    wire:send("334 UGFzc3dvcmQ6\r\n")
    collect()
    turn()
    wire:send("334 UGFzc3dvcmQ6\r\n")
    turn()
    wire:send("235 ok\r\n")
    turn()
    assert.is_true(told[3][2])
  end)

  -- The mail had been read, and was not kept, when the body turned out to be none.
  it("is there for client:again, though the body was no body the first time", function()
    local client, wire, _, turn = open("250 mx\r\n")
    assert.is_false(pcall(client.send, client, { from = own "ann", to = own "bob" }, 42))
    collect()
    assert(client:again("hello\r\n"))
    turn()
    assert.equal(("MAIL FROM:<%s>\r\n"):format(own "ann"), wire:receive())
  end)
end)

describe("moonpost.core.client: lifetimes", function()
  it("is kept while the connection lives", function()
    local client, wire, told, turn = open("250 mx\r\n")
    assert(client:noop())
    client = nil -- luacheck: ignore
    collect()
    turn()
    wire:send("250 ok\r\n")
    turn()
    assert.same({ "done", true }, { told[3][1], told[3][2] })
    wire:eof()
    turn()
    assert.equal("closed", told[4][1])
    collect()
  end)

  it("is over when its worker is", function()
    local client, wire = open("250 mx\r\n")
    assert(client:send({ from = own "ann", to = own "bob" }, "hello\r\n"))
    collect()
    assert.is_false(client:is_open())
    assert.is_nil(client:tls())
    client:leave()
    client:close()
    assert.equal(("MAIL FROM:<%s>\r\n"):format(own "ann"), wire:receive())
  end)

  it("takes a stream of its own worker alone, and once", function()
    local worker, other = core.virtual_worker(), core.virtual_worker()
    local stream = other:memory_stream { ip = "192.0.2.25", port = 25 }
    local on = function() end
    local ok, why = pcall(worker.client, worker, stream, { hostname = "c.example" }, on)
    assert.is_false(ok)
    assert.truthy(why:find("another worker's", 1, true))
    local client = other:client(stream, { hostname = "c.example" }, on)
    ok, why = pcall(other.client, other, stream, { hostname = "c.example" }, on)
    assert.is_false(ok)
    assert.truthy(why:find("has been taken", 1, true))
    client:close()
  end)

  it("leaves a stream alone when its options are wrong", function()
    local worker = core.virtual_worker()
    local stream, wire = worker:memory_stream { ip = "192.0.2.25", port = 25 }
    for _, opts in ipairs { { hostname = "a b" }, { tls = { names = { 5 } } }, { tls = { level = "verified" } } } do
      opts.hostname = opts.hostname or "c.example"
      local ok, client = pcall(worker.client, worker, stream, opts, function() end)
      assert.falsy(ok and client)
    end
    local client = assert(worker:client(stream, { hostname = "c.example" }, function() end))
    wire:send("220 mx\r\n")
    assert(client:hello())
    stream:close()
    stream:close()
    assert.is_true(client:is_open())
    client:close()
  end)

  it("can be closed twice, and by everything it calls", function()
    local calls = { done = true, trace = true, closed = true }
    for kind in pairs(calls) do
      local worker = core.virtual_worker()
      local stream, wire = worker:memory_stream { ip = "192.0.2.25", port = 25 }
      local client
      local seen = 0
      client = worker:client(stream, { hostname = "c.example", trace = true }, function(what)
        if what == kind then
          seen = seen + 1
          client:close()
          client:leave()
        end
      end)
      wire:send("220 mx\r\n")
      wire:eof()
      worker:turn(false)
      assert.same({ kind, 1 }, { kind, seen })
      assert.is_false(client:is_open())
      do
        local _ <close> = client
        local _ <close> = client
      end
    end
  end)

  it("leaves with QUIT, which nobody hears of", function()
    local client, wire, told, turn = open("250 mx\r\n")
    client:leave()
    client:leave()
    assert.is_false(client:is_open())
    assert.equal("QUIT\r\n", wire:receive())
    turn()
    wire:send("221 bye\r\n")
    turn()
    assert.equal(2, #told)
  end)

  for name, last in pairs {
    ["ends the process"] = "os.exit(7, true)", ["fails"] = "error('no', 0)", ["closes the client"] = "client:close()",
    ["collects garbage"] = "client = nil collectgarbage() collectgarbage()",
  } do
    it(("lets a callback that %s do so, with a message on its way"):format(name), function()
      local out = run(([[
        local core = require "moonpost.core"
        local worker = core.virtual_worker()
        local stream, wire = worker:memory_stream { ip = "192.0.2.25", port = 25 }
        local client
        local second = worker:client(worker:memory_stream { ip = "192.0.2.26", port = 25 }, { hostname = "c.example" }, function() end)
        client = worker:client(stream, { hostname = "c.example", trace = true }, function(kind, sent, octets)
          if kind == "trace" and sent and octets:find("RCPT", 1, true) then %s end
          if kind == "done" and not worked then worked = true assert(client:hello()) elseif kind == "done" and not mailed then
            mailed = true
            assert(client:send({ from = "a@b.example", to = "x@example.org" }, "hello\r\n"))
          end
        end)
        for _, reply in ipairs { "220 mx\r\n", "250 mx\r\n", "250 ok\r\n" } do
          wire:send(reply)
          for _ = 1, 3 do worker:turn(false) end
        end
        os.exit(8, true)
      ]]):format(last))
      assert.equal(name == "ends the process" and 7 or 8, out.code, out.output)
    end)
  end

  it("is no trouble to a state that closes with operations under way, over sockets too", function()
    local out = run [[
      local core = require "moonpost.core"
      local worker = core.worker()
      local dialling = worker:dial({ to = { { ip = "192.0.2.1", port = 25 }, { ip = "127.0.0.1", port = 1 } } }, function() end)
      local stream, wire = worker:memory_stream { ip = "192.0.2.25", port = 25 }
      local left = worker:memory_stream { ip = "192.0.2.25", port = 25 }
      local client = worker:client(stream, { hostname = "c.example" }, function() end)
      wire:send("220 mx\r\n")
      for _ = 1, 3 do worker:turn(false) end
      assert(client:hello())
    ]]
    assert.equal(0, out.code, out.output)
  end)
end)

describe("moonpost.core.client: TLS", function()
  local function drain(client, wire, turn)
    turn()
    wire:send("220 go\r\n")
    turn()
    local hello = wire:receive()
    client:close()
    return hello
  end

  it("holds on to fields that a table makes up", function()
    local made = {
      sni = function() return ("s"):rep(50) .. ".example.org" end,
      names = function() return { ("n"):rep(50) .. ".example.org" } end,
      cache = function() return ("c"):rep(50) end,
      ciphersuites = function() return "TLS_AES_256_GCM_SHA384:" .. ("TLS_AES_128_GCM_SHA256") end,
      level = function() return "verif" .. "ied" end,
    }
    local client, wire, _, turn = open("250-mx\r\n250 STARTTLS\r\n")
    assert(client:starttls(setmetatable({}, { __index = function(_, field)
      collect()
      return made[field] and made[field]()
    end })))
    assert.truthy(drain(client, wire, turn):find(("s"):rep(50) .. ".example.org", 1, true))
  end)

  it("does without a stream that a table of options has closed", function()
    local worker = core.virtual_worker()
    local stream = worker:memory_stream { ip = "192.0.2.25", port = 25 }
    local opts = setmetatable({ hostname = "client.example" }, { __index = function()
      stream:close()
    end })
    assert.error_matches(function()
      worker:client(stream, opts, function() end)
    end, "stream is closed")
  end)

  -- Each description had a configuration of its own for as long as the state lived.
  it("keeps so many configurations, and no more", function()
    local client = open("250-mx\r\n250 STARTTLS\r\n")
    assert(client:noop()) -- what follows is too early, and the session is dropped
    for i = 1, 100 do
      assert.equal("MISUSE", (select(3, client:starttls { ca = certs.ca, ciphers = ("HIGH:"):rep(i) .. "!aNULL" })))
    end
    local count = 0
    for key, value in pairs(debug.getregistry()) do
      if type(key) == "userdata" and type(value) == "table" and math.type(value[0]) == "integer" then
        for _, box in pairs(value) do
          count = count + (type(box) == "userdata" and 1 or 0)
        end
      end
    end
    assert.is_true(count > 0 and count <= 64, count)
  end)
end)
