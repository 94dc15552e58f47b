local certs = require "spec.support.certs"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local served = require "spec.support.served"

-- A record that begins like a ClientHello of TLS 1.2.
local CLIENT_HELLO = "\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" .. ("\x5a"):rep(192)

local HOOKS = [[
  function server.on.mail(_, sender) log.info("mail", { from = sender.address }) end
  function server.on.disconnect(_, why) log.info("gone", { why = why }) end
]]

describe("a listener without TLS", function()
  local house

  setup(function()
    house = served.start { hooks = HOOKS }
  end)

  teardown(function()
    house:close()
  end)

  for name, octets in pairs {
    ["GET"] = "GET / HTTP/1.1\r\nHost: mx.example.org\r\nX: y\r\n\r\nMAIL FROM:<a@example.net>\r\n",
    ["POST"] = "POST /x HTTP/1.0\r\nContent-Length: 26\r\n\r\nMAIL FROM:<a@example.net>\r\n",
    ["a ClientHello"] = CLIENT_HELLO .. "MAIL FROM:<a@example.net>\r\n",
  } do
    it("closes on " .. name .. " at once", function()
      local peer <close> = raw.connect(house.port.smtp)
      peer:read()
      peer:send(octets)
      local replies = peer:rest()
      local _, count = replies:gsub("\n", "")
      assert.is_true(count <= 1, replies)
      assert.is_nil(replies:find("^2"), replies)
      peer:leave()
      house:expect("gone ")
      assert.equal(0, house:count("mail from"))
    end)
  end

  if peers.curl then
    it("answers curl's HTTP with the end", function()
      local result = process.run { peers.curl, "-sS", "--http0.9", "-m", "10", "http://" .. house.at.smtp .. "/" }
      assert.is_nil(result.out:find("\n2"))
      assert.equal(0, house:count("mail from"))
    end)
  end
end)

describe("STARTTLS", function()
  local house

  setup(function()
    house = served.start {
      listen = { "smtp://127.0.0.1:0", "smtps://127.0.0.1:0" },
      options = certs.tls .. ', limits = { handshake_time = "300ms" }', hooks = HOOKS,
    }
  end)

  teardown(function()
    house:close()
  end)

  it("does not hear what was said in clear behind it (CVE-2011-0411)", function()
    local peer <close> = raw.session(house.port.smtp)
    peer:send("STARTTLS\r\nMAIL FROM:<injected@example.net>\r\nRCPT TO:<bob@example.org>\r\n")
    local replies = peer:rest()
    assert.equal(1, select(2, replies:gsub("\n", "")), replies)
    peer:leave()
    house:expect("gone ")
    assert.equal(0, house:count("mail from"))
  end)

  it("ends a handshake that never ends", function()
    local peer <close> = raw.session(house.port.smtp)
    assert.matches("^220 ", peer:command("STARTTLS"))
    peer:send(CLIENT_HELLO:sub(1, 20))
    peer:rest()
    peer:leave()
    house:expect("gone why=.*hand")
    local implicit <close> = raw.connect(house.port.smtps)
    assert.equal("", (implicit:rest()))
  end)

  it("ends a handshake that is none", function()
    local peer <close> = raw.session(house.port.smtp)
    assert.matches("^220 ", peer:command("STARTTLS"))
    peer:send("EHLO client.example.net\r\nMAIL FROM:<a@example.net>\r\n")
    assert.is_nil((peer:rest()):find("^2"))
    peer:leave()
    house:expect("gone why=")
    assert.equal(0, house:count("mail from"))
    local implicit <close> = raw.connect(house.port.smtps)
    implicit:send("EHLO client.example.net\r\n")
    assert.is_nil((implicit:rest()):find("^2"))
  end)

  if peers.python3 then
    it("is closed by close_notify in the middle of a chunk, and octets in clear behind it are nothing (CVE-2026-45185)", function()
      for _, clear in ipairs { "x", "Subject: x\r\n\r\n.\r\nQUIT\r\n" } do
        local result = process.run {
          peers.python3, "spec/hostile/clients/half_tls.py", tostring(house.port.smtp), certs.ca, clear,
        }
        assert.equal(0, result.code, result.output)
        assert.equal("closed\n", result.out)
        house:expect("gone why=")
      end
      assert.same({}, house:mail("bob"))
      assert.equal(0, house:count("accepted"))
    end)
  end
end)
