-- A server whose hooks look names up: workers, reloads, peers that leave, and a stop with questions in flight.
local nameserver = require "spec.support.nameserver"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local tmpdir = require "spec.support.tmpdir"

-- A server that asks for the sender's mail exchangers.
local function policy(resolver, word)
  return ([[
    local moonpost = require "moonpost"
    local names = moonpost.dns.resolver { hosts = false, %s }
    local server = moonpost.server {
      hostname = "mx.example.org", listen = "smtp://127.0.0.1:0", domains = { "example.org" },
    }
    function server.on.mail(session, sender)
      moonpost.log.info("asking", { domain = sender.domain })
      local mx, err = names:mx(sender.domain)
      return 450, "4.7.1", %q .. " " .. (mx and (mx[1] and mx[1].host or "none") or err.kind)
    end
    function server.on.disconnect() moonpost.log.info "gone" end
    return server]]):format(resolver, word)
end

local function start(dir, text, ...)
  local args = { process.moonpost, "serve", "--grace=1s", ... }
  args[#args + 1] = dir:write("policy.lua", text)
  local server = process.start(args)
  return server, math.tointeger(server:expect("listening on %l+://127.0.0.1:(%d+)"))
end

local function ask(port, domain)
  local peer <close> = raw.session(port)
  return peer:command(("MAIL FROM:<a@%s>"):format(domain))
end

describe("moonpost serve: names #thread", function()
  it("are waited for without holding up others, and not for a peer that has gone", function()
    local dir <close> = tmpdir.new()
    local server <close>, port = start(dir, policy('forwarders = "127.0.0.1:9", timeout = "1m"', "said"), "--workers=2")
    do
      local waiting <close> = raw.session(port)
      waiting:send("MAIL FROM:<a@silent.example>\r\n")
      server:expect "asking"
      for _ = 1, 4 do
        assert.equal("450 4.7.1 said none", ask(port, "localhost"))
      end
      waiting:leave(true)
    end
    server:expect "gone"
  end)

  it("do not hold up a stop", function()
    local dir <close> = tmpdir.new()
    local server <close>, port = start(dir, policy('forwarders = "127.0.0.1:9", timeout = "1m"', "said"))
    local waiting <close> = raw.session(port)
    waiting:send("MAIL FROM:<a@silent.example>\r\n")
    server:expect "asking"
    assert.equal(0, (server:stop(20)))
  end)

  local check = nameserver.there and it or pending
  check("that one generation has learnt are known to the next", function()
    local dir <close> = tmpdir.new()
    local zones <close> = nameserver.start { ["example.net"] = { records = "@ MX 10 mx\n" } }
    local how = ('recursion = true, timeout = "2s", stubs = { ["example.net"] = %q }'):format(zones.address)
    local server <close>, port = start(dir, policy(how, "old"))
    assert.equal("450 4.7.1 old mx.example.net", ask(port, "example.net"))
    zones:stop()
    dir:write("policy.lua", policy(how, "new"))
    server:kill "sighup"
    server:expect "policy loaded"
    assert.equal("450 4.7.1 new mx.example.net", ask(port, "example.net"))
  end)
end)
