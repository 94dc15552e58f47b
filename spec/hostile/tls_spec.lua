-- What may happen around a handshake. Certificates, versions, SNI and renegotiation are openssl_spec's; clear_spec has the
-- plaintext behind STARTTLS and in the middle of a chunk.
local accounts = require "spec.peers.accounts"
local certs = require "spec.support.certs"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local served = require "spec.support.served"

local BOTH = { "smtp://127.0.0.1:0", "smtps://127.0.0.1:0" }

local HOOKS = [[
  function server.on.connect() log.info "connect" end
  function server.on.tls(session) log.info("secure", { helo = session.helo or "none", user = session.user or "nobody" }) end
  function server.on.disconnect(_, why) log.info("gone", { why = why }) end
]]

-- clients/tls_peer.py, told line by line.
local Client = {}
local Client_mt = { __index = Client }

local function client(port)
  return setmetatable({
    process = process.start { peers.python3, "spec/hostile/clients/tls_peer.py", tostring(port) },
  }, Client_mt)
end

-- One command, and its answer.
function Client:tell(command)
  self.process:write(command .. "\n")
  return (self.process:expect("^(.*)$", 20))
end

-- A line of SMTP through TLS or in clear, and the reply.
function Client:say(line)
  self:tell("say " .. line .. "\\r\\n")
  return self:tell "reply"
end

function Client:clear(line)
  self:tell("clear " .. line .. "\\r\\n")
  return self:tell "reply"
end

function Client:starttls(how)
  assert.matches("^220 ", self:tell "reply")
  assert.matches("^250", self:clear "EHLO in-clear.example.net")
  assert.matches("^220 ", self:clear "STARTTLS")
  assert.matches("^TLSv1", self:tell("tls" .. (how or "")))
end

function Client:envelope()
  assert.matches("^250", self:say "EHLO client.example.net")
  assert.matches("^250 ", self:say "MAIL FROM:<a@example.net>")
  assert.matches("^250 ", self:say "RCPT TO:<bob@example.org>")
end

function Client_mt:__close()
  self.process:finish()
  self.process:wait()
end

if not peers.python3 then
  describe("TLS", function()
    pending "python3 is not installed"
  end)
  return
end

describe("a handshake", function()
  it("makes the server forget the name, the user and what the user may", function()
    local house <close> = served.start {
      options = accounts.options .. ", auth_in_clear = true", hooks = accounts.hooks .. HOOKS,
    }
    local auth = "AUTH PLAIN " .. require("mime").b64("\0" .. accounts.user .. "\0" .. accounts.password)
    local peer <close> = client(house.port.smtp)
    peer:tell "reply"
    peer:clear "EHLO in-clear.example.net"
    assert.matches("^235 ", peer:clear(auth))
    assert.matches("^250 ", peer:clear("MAIL FROM:<" .. accounts.user .. ">"))
    assert.matches("^250 ", peer:clear "RCPT TO:<anyone@example.com>") -- it may relay
    assert.matches("^503 5.5.1 ", peer:clear "STARTTLS")
    assert.matches("^250 ", peer:clear "RSET")
    house:expect("mail .*user=" .. accounts.user)
    assert.matches("^220 ", peer:clear "STARTTLS")
    peer:tell "tls"
    house:expect("secure helo=none user=nobody")
    assert.matches("^503 ", peer:say "MAIL FROM:<second@example.net>")
    assert.matches("^503 ", peer:say "RCPT TO:<anyone@example.com>")
    assert.matches("^250", peer:say "EHLO client.example.net")
    assert.matches("^250 ", peer:say "MAIL FROM:<third@example.net>")
    house:expect("mail .*from=third@example.net user=nobody")
    assert.matches("^550 5.7.1 ", peer:say "RCPT TO:<anyone@example.com>")
    assert.matches("^250 ", peer:say "RSET")
    assert.matches("^235 ", peer:say(auth)) -- not the second time: the first is forgotten
    assert.matches("^503 ", peer:say(auth))
    assert.equal(0, house:count "second@")
  end)

  it("is not begun twice, nor with an argument, nor in a transaction", function()
    local house <close> = served.start { listen = BOTH, options = certs.tls }
    local peer <close> = client(house.port.smtp)
    peer:tell "reply"
    peer:clear "EHLO in-clear.example.net"
    assert.matches("^501 5.5.4 ", peer:clear "STARTTLS x")
    assert.matches("^250 ", peer:clear "MAIL FROM:<a@example.net>")
    assert.matches("^503 5.5.1 ", peer:clear "STARTTLS")
    assert.matches("^250 ", peer:clear "RSET")
    assert.matches("^220 ", peer:clear "STARTTLS")
    peer:tell "tls"
    local implicit <close> = client(house.port.smtps)
    implicit:tell "tls"
    assert.matches("^220 ", implicit:tell "reply")
    for one, code in pairs { [peer] = "503", [implicit] = "502" } do -- where TLS is from the start it is not offered at all
      local ehlo = one:say "EHLO client.example.net"
      assert.matches("^250", ehlo)
      assert.is_nil(ehlo:find("STARTTLS", 1, true))
      assert.matches("^" .. code .. " 5.5.1 ", one:say "STARTTLS")
      assert.matches("^250 ", one:say "NOOP")
    end
  end)

  it("may come octet by octet", function()
    local house <close> = served.start { listen = BOTH, options = certs.tls }
    local peer <close> = client(house.port.smtp)
    peer:starttls " split"
    peer:envelope()
    local implicit <close> = client(house.port.smtps)
    assert.matches("^TLSv1", implicit:tell "tls split")
    assert.matches("^220 ", implicit:tell "reply")
  end)

  it("in one flight behind STARTTLS is none", function()
    local house <close> = served.start { options = certs.tls, hooks = HOOKS }
    local peer <close> = raw.session(house.port.smtp)
    peer:send("STARTTLS\r\n\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" .. ("\x5a"):rep(505))
    assert.matches("^554 5.5.1 [^\n]*\n$", (peer:rest()))
    assert.equal(0, house:count "secure")
  end)

  it("has one deadline in all, whatever comes meanwhile", function()
    local house <close> = served.start {
      listen = BOTH, options = certs.tls .. ', limits = { handshake_time = "300ms" }', hooks = HOOKS,
    }
    for _, way in ipairs { "smtp", "smtps" } do
      local peer <close> = raw.connect(house.port[way])
      if way == "smtp" then
        peer:read()
        peer:command "EHLO client.example.net"
        assert.matches("^220 ", peer:command "STARTTLS")
      end
      peer:send("\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03") -- 16 KiB are to come
      peer.sock:settimeout(0.01)
      local err
      local count = 0
      repeat -- an octet each 10 ms; a deadline that each of them moved would never come
        peer.sock:send("\x5a")
        _, err = peer.sock:receive(1)
        count = count + 1
      until err == "closed" or count > 2000
      assert.equal("closed", err)
    end
    house:expect "gone why=\"TLS handshake took too long\"" -- of the one that had a session
  end)

  it("that others do not end holds nobody up", function()
    local house <close> = served.start { listen = BOTH, options = certs.tls .. ", limits = { connections_per_address = 0 }" }
    local halves = {}
    for i = 1, 200 do
      halves[i] = raw.connect(house.port.smtps)
      halves[i]:send("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    end
    local peer <close> = client(house.port.smtps)
    peer:tell "tls"
    peer:tell "reply"
    peer:envelope()
    assert.matches("^354 ", peer:say "DATA")
    assert.matches("^250 ", peer:say "Subject: x\\r\\n\\r\\n.")
    assert.equal(1, #house:mail "bob")
    for _, half in ipairs(halves) do
      half:leave()
    end
  end)

  it("is not done with a peer there is no room for", function()
    local house <close> = served.start {
      listen = { "smtps://127.0.0.1:0" }, options = certs.tls .. ", limits = { connections_per_address = 1 }", hooks = HOOKS,
    }
    local first <close> = client(house.port.smtps)
    first:tell "tls"
    assert.matches("^220 ", first:tell "reply")
    for _ = 1, 3 do
      local peer <close> = raw.connect(house.port.smtps)
      assert.equal("", (peer:rest()))
    end
    assert.matches("^250", first:say "EHLO client.example.net")
    assert.equal(1, house:count " connect$")
    assert.equal(1, house:count " secure ")
    assert.matches("^221 ", first:say "QUIT")
    assert.matches("^end", first:tell "rest")
    first:tell "leave"
    house:expect "gone "
    local again <close> = client(house.port.smtps)
    again:tell "tls"
    assert.matches("^220 ", again:tell "reply")
  end)
end)

describe("the end of TLS", function()
  local house

  setup(function()
    house = served.start { listen = BOTH, options = certs.tls, hooks = HOOKS }
  end)

  teardown(function()
    house:close()
  end)

  -- In the middle of a message, all of it in one segment.
  for name, finish in pairs {
    ["by close_notify and octets in clear"] = { "notify", "flush lo.\\r\\n.\\r\\nQUIT\\r\\n" },
    ["by close_notify alone"] = { "notify", "flush" },
    ["by close_notify and the end of TCP"] = { "notify", "flush", "finish" },
    ["by the end of TCP without close_notify"] = { "flush", "finish" }, -- cut off, says RFC 8446 6.1
    ["by a record that is none"] = { "flush \\x17\\x03\\x03\\x00\\x05lo.\\r\\n.\\r\\n" },
    ["by a reset"] = { "flush", "abort" },
  } do
    for way, begin in pairs {
      DATA = function(peer)
        assert.matches("^354 ", peer:say "DATA")
        peer:tell "hold Subject: x\\r\\n\\r\\nHel"
      end,
      BDAT = function(peer)
        peer:tell "hold BDAT 22 LAST\\r\\nSubject: x\\r\\n\\r\\nHel"
      end,
    } do
      it(name .. " in the middle of " .. way .. " delivers nothing", function()
        local peer <close> = client(house.port.smtp)
        peer:starttls()
        peer:envelope()
        begin(peer)
        for _, command in ipairs(finish) do
          assert.equal("ok", peer:tell(command))
        end
        if finish[#finish] ~= "abort" then
          assert.matches("^end", peer:tell "rest")
          peer:tell "leave"
        end
        house:expect "gone why="
        assert.same({}, house:mail "bob")
        assert.equal(0, house:count "message accepted")
      end)
    end
  end

  it("between commands, and then commands in clear, is the end", function()
    local peer <close> = client(house.port.smtp)
    peer:starttls()
    assert.matches("^250", peer:say "EHLO client.example.net")
    peer:tell "notify"
    peer:tell "flush EHLO again.example.net\\r\\nMAIL FROM:<a@example.net>\\r\\n"
    assert.equal("end ", peer:tell "rest")
    peer:tell "leave"
    house:expect "gone why="
  end)

  it("behind the final dot lets the message be delivered, once", function()
    local own <close> = served.start { options = certs.tls, hooks = HOOKS }
    local peer <close> = client(own.port.smtp)
    peer:starttls()
    peer:envelope()
    assert.matches("^354 ", peer:say "DATA")
    for _, command in ipairs { "hold Subject: x\\r\\n\\r\\nHello.\\r\\n.\\r\\n", "notify", "flush MAIL FROM:<b@example.net>\\r\\n", "finish" } do
      assert.equal("ok", peer:tell(command))
    end
    peer:tell "rest"
    peer:tell "leave"
    own:expect "gone why="
    assert.matches("Hello", own:take "bob")
    assert.equal(1, own:count "message accepted")
  end)
end)

describe("what is not SMTP on a port in clear", function()
  local house

  setup(function()
    house = served.start { hooks = HOOKS }
  end)

  teardown(function()
    house:close()
  end)

  for name, octets in pairs {
    ["an HTTP request"] = "GET / HTTP/1.1\r\n",
    ["the start of one"] = "POST /",
    ["an HTTP/2 preface"] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ["a request to a proxy"] = "CONNECT mx.example.org:25 HTTP/1.1\r\n",
    ["the first two octets of a handshake"] = "\x16\x03",
  } do
    for way, before in pairs { ["behind the banner"] = false, ["behind EHLO"] = "EHLO client.example.net" } do
      it(name .. " is closed without a reply, " .. way, function()
        local peer <close> = raw.connect(house.port.smtp)
        peer:read()
        if before then
          assert.matches("^250", peer:command(before))
        end
        for octet in octets:gmatch "." do -- it does not wait for a line, nor for a segment
          if not peer.sock:send(octet) then
            break
          end
        end
        assert.equal("", (peer:rest()))
      end)
    end
  end
end)

if peers.openssl then
  describe("openssl s_client", function()
    it("may ask for new keys again and again, and is heard", function()
      local house <close> = served.start { listen = BOTH, options = certs.tls }
      local one <close> = process.start {
        peers.openssl, "s_client", "-connect", house.at.smtps, "-tls1_3", "-CAfile", certs.ca, "-crlf",
      }
      one:expect "^220 "
      for _ = 1, 20 do
        one:write "K\n"
        one:expect "KEYUPDATE"
        one:write "NOOP\n"
        one:expect "^250 "
      end
      one:write "QUIT\n" -- s_client's own command
      one:wait()
    end)
  end)
end
