-- A server whose hooks make HTTP requests and look for MTA-STS policies: workers, peers that leave, reloads and a stop with requests in flight.
local certs = require "spec.support.certs"
local https = require "spec.support.https"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local tmpdir = require "spec.support.tmpdir"

local function policy(web, word, dir)
  return ([[
    local moonpost = require "moonpost"
    local mtasts = require "moonpost.mtasts"
    local where, ca, word, folder = %q, %q, %q, %q
    local server = moonpost.server {
      hostname = "mx.example.org", listen = "smtp://127.0.0.1:0", domains = { "example.org" },
    }
    local sts = mtasts.new {
      dns = moonpost.dns.zone { ["_mta-sts.example.net"] = { TXT = "v=STSv1; id=1;" } },
      connect_to = where, ca_file = ca, folder = folder,
    }
    function server.on.mail(session, sender)
      if sender.domain == "example.net" then
        local policy, why = sts:lookup(sender.domain)
        return 450, "4.7.1", word .. " " .. (policy and policy.mode or why)
      end
      local response, err = moonpost.http.request {
        url = "https://web.example.org/" .. sender.localpart, connect_to = where, ca_file = ca, timeout = "1m",
      }
      return 450, "4.7.1", word .. " " .. (response and response.body or err.kind)
    end
    function server.on.disconnect() moonpost.log.info "gone" end
    return server]]):format(web.address, certs.ca, word, dir.path)
end

local function start(dir, text, ...)
  local args = { process.moonpost, "serve", "--grace=1s", ... }
  args[#args + 1] = dir:write("policy.lua", text)
  local server = process.start(args)
  return server, math.tointeger(server:expect("listening on %l+://127.0.0.1:(%d+)"))
end

local function ask(port, sender)
  local peer <close> = raw.session(port)
  return peer:command(("MAIL FROM:<%s>"):format(sender))
end

describe("moonpost serve: HTTP requests #thread", function()
  local it = peers.python3 and peers.openssl and it or pending

  local function open()
    local web = https.start(certs.web)
    web:answer("web.example.org", "/alice", "200 OK", "Content-Type: text/plain", "known")
    web:answer("mta-sts.example.net", "/.well-known/mta-sts.txt", "200 OK", "Content-Type: text/plain",
      "version: STSv1\nmode: enforce\nmx: mx.example.net\nmax_age: 86400\n")
    web:raw("web.example.org", "/hang", "HANG")
    return web
  end

  it("are waited for in every worker without holding up others, and given up for a peer that has gone", function()
    local dir <close> = tmpdir.new()
    local web <close> = open()
    local server <close>, port = start(dir, policy(web, "said", dir), "--workers=2")
    do
      local waiting <close> = raw.session(port)
      waiting:send("MAIL FROM:<hang@example.com>\r\n")
      web:expect "^request GET web.example.org /hang"
      for _ = 1, 8 do
        assert.equal("450 4.7.1 said known", ask(port, "alice@example.com"))
        assert.equal("450 4.7.1 said enforce", ask(port, "a@example.net"))
      end
      waiting:leave(true)
    end
    server:expect "gone"
    web:expect "^gone GET web.example.org /hang"
  end)

  it("do not hold up a stop", function()
    local dir <close> = tmpdir.new()
    local web <close> = open()
    local server <close>, port = start(dir, policy(web, "said", dir))
    local waiting <close> = raw.session(port)
    waiting:send("MAIL FROM:<hang@example.com>\r\n")
    web:expect "^request GET web.example.org /hang"
    assert.equal(0, (server:stop(20)))
    web:expect "^gone GET web.example.org /hang"
  end)

  it("end with the generation that made them, and policies that it found are there for the next", function()
    local dir <close> = tmpdir.new()
    local web <close> = open()
    local server <close>, port = start(dir, policy(web, "old", dir))
    assert.equal("450 4.7.1 old enforce", ask(port, "a@example.net"))
    local waiting <close> = raw.session(port)
    waiting:send("MAIL FROM:<hang@example.com>\r\n")
    web:expect "^request GET web.example.org /hang"
    local before = web:count()
    dir:write("policy.lua", policy(web, "new", dir))
    server:kill "sighup"
    server:expect "policy loaded"
    assert.equal("450 4.7.1 new enforce", ask(port, "a@example.net"))
    web:expect "^gone GET web.example.org /hang"
    assert.equal(before, web:count())
    assert.equal("450 4.7.1 new known", ask(port, "alice@example.com"))
  end)
end)
