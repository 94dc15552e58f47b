local process = require "spec.support.process"
local raw = require "spec.support.raw"
local served = require "spec.support.served"
local socket = require "socket"

local HOOKS = [[
  function server.on.disconnect(_, why) log.info("gone", { why = why }) end
]]

local function limited(limits, more)
  return served.start { options = ("limits = { %s }, %s"):format(limits, more or ""), hooks = HOOKS }
end

-- Sends octet by octet, each when 10 ms have passed without an answer, until there is one.
local function trickle(peer, octet)
  peer.sock:settimeout(0.01)
  local got, err, part
  repeat
    peer.sock:send(octet)
    got, err, part = peer.sock:receive("*l")
    got = got or part ~= "" and part or nil
  until got or err == "closed"
  return got
end

describe("a peer that is silent", function()
  it("after the banner, in a command and in AUTH is told 421 and closed", function()
    local house <close> = limited('command_time = "200ms", line_time = "200ms"', 'mechanisms = { "PLAIN" }, auth_in_clear = true')
    for name, begin in pairs {
      ["after the banner"] = function() end,
      ["behind EHLO"] = function(peer) peer:command("EHLO client.example.net") end,
      ["in a command"] = function(peer) peer:send("EHLO cli") end,
      ["in AUTH"] = function(peer)
        peer:command("EHLO client.example.net")
        assert.matches("^334 ", peer:command("AUTH PLAIN"))
      end,
      ["in a transaction"] = function(peer)
        peer:command("EHLO client.example.net")
        peer:command("MAIL FROM:<a@example.net>")
      end,
    } do
      local peer <close> = raw.connect(house.port.smtp)
      peer:read()
      begin(peer)
      assert.matches("^421 [^\n]*\n$", (peer:rest()), name)
      peer:leave()
      house:expect("gone why=")
    end
  end)

  it("in a message is told 421 and closed, and nothing is accepted", function()
    local house <close> = limited 'data_time = "200ms"'
    for _, chunked in ipairs { false, true } do
      local peer <close> = raw.session(house.port.smtp)
      if chunked then
        peer:command("MAIL FROM:<a@example.net>")
        peer:command("RCPT TO:<bob@example.org>")
        peer:send("BDAT 100 LAST\r\nSubject: half")
      else
        peer:envelope("a@example.net", "bob@example.org")
        peer:send("Subject: half\r\n")
      end
      assert.matches("^421 4.4.2 [^\n]*\n$", (peer:rest()))
    end
    assert.same({}, house:mail("bob"))
  end)

  it("in front of the PROXY header is closed without a word", function()
    local house <close> = limited('handshake_time = "200ms"', 'proxy = { "127.0.0.1" }')
    for _, octets in ipairs { "", "PROXY TCP4 203.", "\r\n\r\n\0\r\nQUIT\n" } do
      local peer <close> = raw.connect(house.port.smtp)
      peer:send(octets)
      assert.equal("", (peer:rest()))
    end
  end)
end)

describe("a peer that is slow", function()
  it("is cut in a command that never ends, whatever comes meanwhile", function()
    local house <close> = limited 'line_time = "300ms"'
    local peer <close> = raw.session(house.port.smtp)
    assert.matches("^421 4.4.2 ", trickle(peer, "x"))
  end)

  it("is cut when its session has taken too long, between two commands", function()
    local house <close> = limited 'session_time = "300ms", idle_commands = 100000'
    local peer <close> = raw.session(house.port.smtp)
    local reply
    repeat
      reply = trickle(peer, "NOOP\r\n")
    until not reply or reply:find("^4")
    assert.matches("^421 4.4.2 ", reply)
  end)
end)

describe("a peer that does not read its replies", function()
  -- Commands until the kernels' buffers and ours are full; what is sent last may not be taken any more.
  local function pour(peer, commands)
    peer.sock:settimeout(0.2)
    local block = commands:rep(65536 // #commands)
    local total, stalled = 0, 0
    repeat
      local sent, err, last = peer.sock:send(block)
      total = total + (sent or last or 0)
      stalled = err == "timeout" and (last or 0) == 0 and stalled + 1 or 0
    until err == "closed" or stalled > 1
    return total
  end

  it("is not heard any longer, holds no memory to speak of, and ends by its deadline", function()
    local house <close> = limited 'write = "64KB", idle_commands = 100000000, command_time = "500ms"'
    local peer <close> = raw.session(house.port.smtp)
    local before = house:memory()
    local total = pour(peer, "HELP\r\n")
    assert.is_true(total < 64 * 1024 * 1024)
    house:expect("gone why=", 20)
    local most = process.scale == 1 and 8 or 64 -- MB; a sanitizer keeps what is freed
    assert.is_true(house:memory() - before < most * 1024)
    local other <close> = raw.session(house.port.smtp)
    assert.matches("^221 ", other:command("QUIT"))
  end)

  it("does not hold up anybody else", function()
    local house <close> = limited 'idle_commands = 100000000'
    local peer <close> = raw.session(house.port.smtp)
    pour(peer, "NOOP\r\n")
    local begin = socket.gettime()
    local other <close> = raw.session(house.port.smtp)
    other:envelope("a@example.net", "bob@example.org")
    assert.matches("^250 ", other:command("Subject: x", "", "."))
    assert.is_true(socket.gettime() - begin < 5)
  end)
end)
