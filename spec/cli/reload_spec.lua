local certs = require "spec.support.certs"
local peers = require "spec.support.peers"
local ports = require "spec.support.ports"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local served = require "spec.support.served"
local tmpdir = require "spec.support.tmpdir"

-- A server whose policy is written anew. `told` is what its rcpt hook answers.
local function policy(told, listen, more)
  return ([[
    local moonpost = require "moonpost"
    local server = moonpost.server {
      hostname = "mx.example.org", listen = { %s }, domains = { "example.org" }, %s
    }
    function server.on.rcpt() return 450, "4.7.1", %q end
    return server]]):format(listen or '"smtp://127.0.0.1:0"', more or "", told)
end

local House = {}
House.__index = House
function House:__close()
  self.process:stop()
  self.dir:remove()
end

local function start(text, ...)
  local dir = tmpdir.new()
  local args = { process.moonpost, "serve", "--grace=5s", ... }
  args[#args + 1] = dir:write("policy.lua", text)
  local p = process.start(args)
  local port = math.tointeger(p:expect("listening on %l+://127.0.0.1:(%d+)"))
  return setmetatable({ dir = dir, process = p, port = port }, House)
end

function House:write(text)
  self.dir:write("policy.lua", text)
  self.process:kill("sighup")
end

local function ask(peer)
  peer:command("MAIL FROM:<>")
  local reply = peer:command("RCPT TO:<a@example.org>")
  peer:command("RSET")
  return reply
end

local function ask_anew(port)
  local peer <close> = raw.session(port)
  return ask(peer)
end

describe("moonpost serve: SIGHUP", function()
  it("lets new connections meet the new policy, and those that are open finish with the old one", function()
    local house <close> = start(policy "old")
    local before <close> = raw.session(house.port)
    before:command("MAIL FROM:<a@example.net>")
    house:write(policy "new")
    house.process:expect("policy loaded")
    assert.equal("450 4.7.1 new", ask_anew(house.port))
    assert.equal("450 4.7.1 old", before:command("RCPT TO:<a@example.org>"))
    assert.matches("^250 ", before:command("RSET"))
    assert.equal("450 4.7.1 old", ask(before)) -- and goes on, for a session keeps its generation
  end)

  it("tells sessions of the old policy 421 when the grace is over", function()
    local house <close> = start(policy "old", "--grace", "1s")
    local before <close> = raw.session(house.port)
    house:write(policy "new")
    house.process:expect("policy loaded")
    assert.matches("^421 ", (before:rest()))
    assert.equal("450 4.7.1 new", ask_anew(house.port))
  end)

  it("loads modules anew", function()
    local text = policy("?"):gsub('"%?"', 'require "word"')
    local dir = tmpdir.new()
    dir:write("word.lua", 'return "old"')
    local p <close> = process.start { process.moonpost, "serve", dir:write("policy.lua", text) }
    local port = math.tointeger(p:expect("listening on %l+://127.0.0.1:(%d+)"))
    assert.equal("450 4.7.1 old", ask_anew(port))
    dir:write("word.lua", 'return "new"')
    p:kill("sighup")
    p:expect("policy loaded")
    assert.equal("450 4.7.1 new", ask_anew(port))
    dir:remove()
  end)

  local bad = {
    { "does not parse", "local x = = 1", "policy.lua:1: unexpected symbol near '='" },
    { "raises", "error 'no database'", "policy.lua:1: no database" },
    { "names a certificate that is not there", policy("new", nil, 'tls = { certificate = "absent.pem" }'), "absent.pem" },
    { "wants an address that is not ours", policy("new", '"smtp://192.0.2.1:2525"'), "192.0.2.1:2525" },
    { "raises in its start hook",
      policy("new"):gsub("return server$", 'function server.on.start() error "no database" end return server'),
      "no database" },
  }
  for _, row in ipairs(bad) do
    it("keeps the old policy when the new one " .. row[1] .. ", and says so in one line", function()
      local house <close> = start(policy "old", "--workers", "2")
      local before <close> = raw.session(house.port)
      house:write(row[2])
      local why = house.process:expect("error policy not loaded; the one before serves on why=(.*)")
      assert.matches(row[3], why, 1, true)
      for _ = 1, 4 do
        assert.equal("450 4.7.1 old", ask_anew(house.port))
      end
      assert.equal("450 4.7.1 old", ask(before))
      house:write(policy "newer")
      house.process:expect("policy loaded")
      assert.equal("450 4.7.1 newer", ask_anew(house.port))
    end)
  end

  it("binds new endpoints and closes those that are gone", function()
    local one, two = ports.free(), ports.free()
    local house <close> = start(policy("old", ('"smtp://127.0.0.1:%d"'):format(one)))
    house:write(policy("new", ('"smtp://127.0.0.1:%d", "lmtp://unix:%s"'):format(two, house.dir:join("socket"))))
    house.process:expect(("endpoint closed url=smtp://127.0.0.1:%d$"):format(one))
    assert.equal(tostring(two), house.process:expect("listening on smtp://127.0.0.1:(%d+)"))
    house.process:expect("listening on lmtp://unix:")
    house.process:expect("policy loaded")
    assert.equal("450 4.7.1 new", ask_anew(two))
    raw.session(house.dir:join("socket"), { verb = "LHLO" }):leave()
    local deadline = os.time() + 10
    while pcall(raw.connect, one) do
      assert(os.time() < deadline, "the old port is still open")
    end
    house:write(policy("again", ('"smtp://127.0.0.1:%d"'):format(one)))
    house.process:expect("listening on smtp://127.0.0.1:" .. one)
    assert.equal("450 4.7.1 again", ask_anew(one))
  end)

  it("refuses nobody who connects meanwhile #thread", function()
    local house <close> = start(policy "old", "--workers", "2")
    -- whichever policy one meets, nobody is hung up on without a word
    local function converse()
      local peer <close> = raw.connect(house.port)
      local reply = peer:read()
      for _, command in ipairs { "EHLO x", "MAIL FROM:<>", "RCPT TO:<a@example.org>" } do
        assert.matches("^[24]", reply)
        if reply:find("^421") then
          return reply
        end
        reply = peer:command(command)
      end
      return reply
    end
    for round = 1, 5 do
      house:write(policy("policy " .. round))
      local reply
      repeat
        reply = converse()
        house.process:poll() -- a log that nobody reads fills its pipe, and its writer waits
      until reply == "450 4.7.1 policy " .. round
      house.process:expect("policy loaded")
    end
  end)

  it("serves every session to its 221 while policies come and go, and counts the messages of each once #thread", function()
    local house <close> = served.start {
      listen = { "smtp://127.0.0.1:0", "lmtp://unix:DIR/socket" }, args = { "--workers", "2", "--grace", "20s" },
      hooks = [[
        local messages = moonpost.shared "messages"
        function server.on.rcpt(_, recipient)
          if recipient.mailbox == "count" then return 450, "4.7.1", tostring(messages:get "all") end
        end
        function server.on.message(_, message)
          messages:incr "all"
          message:discard "counted"
        end]],
    }
    local load <close> = process.start { peers.python3, "spec/support/knock.py", "8", tostring(house.port.smtp), house.dir:join("socket") }
    load:expect("^knocking$")
    for _ = 1, 8 do
      house.process:kill("sighup")
      house:expect("policy loaded")
      assert.is_false(load:poll(), load.output)
    end
    load:finish()
    local sessions = load:expect("^(%d+) sessions, %1 accepted$")
    assert.equal(0, load:wait())
    local peer <close> = raw.session(house.port.smtp)
    peer:command("MAIL FROM:<>")
    assert.equal("450 4.7.1 " .. sessions, peer:command("RCPT TO:<count@example.org>"))
    assert.is_true(tonumber(sessions) > 8 * 8, sessions)
  end)

  it("is not lost when it comes while the policy is being loaded", function()
    local house <close> = start(policy "old")
    house:write([[io.stderr:write "loading\n" require("moonpost").sleep(0.1) ]] .. policy "slow")
    house.process:expect("^loading")
    house.process:kill("sighup")
    house.process:expect("policy loaded")
    house.process:expect("policy loaded")
    assert.equal("450 4.7.1 slow", ask_anew(house.port))
  end)

  it("shows the new certificate to who comes after it", function()
    local function serial(port)
      local result = process.run {
        "openssl", "s_client", "-connect", "127.0.0.1:" .. port, "-starttls", "smtp", "-CAfile", certs.ca,
        stdin = "QUIT\r\n",
      }
      return result.out:match("subject=([^\n]*)")
    end
    local function tls(of)
      return ("tls = { certificate = %q, key = %q }"):format(of.certificate, of.key)
    end
    local house <close> = start(policy("old", nil, tls(certs.server)))
    assert.matches("mx.example.org", serial(house.port), 1, true)
    house:write(policy("new", nil, tls(certs.other)))
    house.process:expect("policy loaded")
    assert.matches("sni.example.net", serial(house.port), 1, true)
  end)

  it("tells the script of the old policy, by on.retire", function()
    local text = policy("old"):gsub("return server$",
      'function server.on.retire() moonpost.log.info "bye" end return server')
    local house <close> = start(text)
    house:write(policy "new")
    house.process:expect("bye")
  end)
end)
