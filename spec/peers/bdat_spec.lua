local raw = require "spec.support.raw"
local served = require "spec.support.served"

-- No peer of Debian's sends BDAT: this one is ours (RFC 3030).
describe("BDAT", function()
  local house

  setup(function()
    house = served.start {
      listen = { "smtp://127.0.0.1:0", "lmtp://127.0.0.1:0" },
      options = 'extensions = { "BINARYMIME" }, limits = { size = "100KB", overrun = "50KB" }',
      hooks = [[
        function server.on.rcpt(_, recipient)
          if recipient.mailbox == "nobody" then return 550, "5.1.1", "No such mailbox" end
        end
        function server.on.message(_, message)
          message:deliver { maildir = dir .. "/mail/%{mailbox}" }
          message:to(function(r) return r.mailbox == "full" end):refuse(452, "4.2.2", "Mailbox full")
        end
        function server.on.disconnect(_, why)
          log.info("gone", { why = why })
        end
      ]],
    }
  end)

  teardown(function()
    house:close()
  end)

  local function begin(params, way)
    local peer = raw.session(house.port[way or "smtp"], { verb = way == "lmtp" and "LHLO" or "EHLO" })
    assert.matches("250[ -]CHUNKING\n", peer.ehlo .. "\n")
    assert.matches("250[ -]BINARYMIME\n", peer.ehlo .. "\n")
    assert.matches("^250 ", peer:command("MAIL FROM:<a@example.net>" .. (params or "")))
    assert.matches("^250 ", peer:command("RCPT TO:<bob@example.org>"))
    return peer
  end

  local function chunk(octets, last)
    return ("BDAT %d%s\r\n%s"):format(#octets, last and " LAST" or "", octets)
  end

  local function stored()
    return (served.strip(house:octets("bob")))
  end

  it("puts chunks together, each answered", function()
    local peer <close> = begin()
    peer:send(chunk "Subject: chunks\r\n\r\none\r")
    assert.matches("^250 2", peer:read())
    peer:send(chunk "\n.\r\n..\r\n")
    assert.matches("^250 2", peer:read())
    peer:send(chunk("last\r\n", true))
    assert.matches("^250 2.0.0 Accepted", peer:read())
    assert.equal("Subject: chunks\n\none\n.\n..\nlast\n", stored())
    assert.matches("^250 ", peer:command("NOOP"))
  end)

  it("takes everything in one flight, commands behind the last chunk among it", function()
    local peer <close> = raw.session(house.port.smtp)
    peer:send("MAIL FROM:<a@example.net>\r\nRCPT TO:<bob@example.org>\r\n" .. chunk "Subject: x\r\n\r\n" .. chunk("", true)
      .. "MAIL FROM:<b@example.net>\r\nRCPT TO:<bob@example.org>\r\n" .. chunk("Subject: y\r\n\r\n", true) .. "QUIT\r\n")
    local codes = {}
    for i = 1, 8 do
      codes[i] = peer:read():sub(1, 3)
    end
    assert.same({ "250", "250", "250", "250", "250", "250", "250", "221" }, codes)
    local mails = house:mail("bob")
    assert.equal(2, #mails)
    for _, name in ipairs(house.dir:list("mail/bob/new")) do
      os.remove(house.dir:join("mail/bob/new", name))
    end
  end)

  it("carries octets of every kind as BINARYMIME", function()
    local octets = {}
    for i = 0, 255 do
      octets[#octets + 1] = string.char(i)
    end
    local body = table.concat(octets):rep(40) .. "\r.\r\n.\n\0\r\n.\r\n"
    local message = "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n" .. body
    local peer <close> = begin(" BODY=BINARYMIME")
    for at = 1, #message, 1000 do
      local part = message:sub(at, at + 999)
      peer:send(chunk(part, at + 999 >= #message))
      assert.matches("^250 2", peer:read())
    end
    assert.equal(message, stored())
  end)

  it("refuses NUL and bare line ends that are not BINARYMIME, at the end", function()
    for octets, reply in pairs { ["a\0b\r\n"] = "^550 5.6.0 ", ["a\nb\r\n"] = "^550 5.5.2 " } do
      local peer <close> = begin(" BODY=8BITMIME")
      peer:send(chunk("Subject: x\r\n\r\n" .. octets, true))
      assert.matches(reply, peer:read())
      assert.matches("^250 ", peer:command("NOOP"))
    end
    assert.same({}, house:mail("bob"))
  end)

  it("is not DATA when the body is BINARYMIME", function()
    local peer <close> = begin(" BODY=BINARYMIME")
    assert.matches("^503 5.5.1 ", peer:command("DATA"))
  end)

  it("consumes the octets of a chunk that it refuses: no recipient", function()
    local peer <close> = raw.session(house.port.smtp)
    peer:send("MAIL FROM:<a@example.net>\r\nRCPT TO:<nobody@example.org>\r\nBDAT 9 LAST\r\nQUIT\r\nabcNOOP\r\n")
    local first, second, third, fourth = peer:replies(4)
    assert.matches("^250 ", first)
    assert.matches("^550 5.1.1 ", second)
    assert.matches("^5[05][34] ", third)
    assert.matches("^250 ", fourth)
  end)

  it("refuses DATA after BDAT, and the transaction is over only by RSET", function()
    local peer <close> = begin()
    peer:send(chunk "Subject: x\r\n")
    assert.matches("^250 ", peer:read())
    assert.matches("^503 5.5.1 ", peer:command("DATA"))
    assert.matches("^250 ", peer:command("RSET"))
    assert.same({}, house:mail("bob"))
    assert.matches("^250 ", peer:command("MAIL FROM:<a@example.net>"))
    assert.matches("^250 ", peer:command("RCPT TO:<bob@example.org>"))
    peer:send(chunk("Subject: after\r\n\r\n", true))
    assert.matches("^250 ", peer:read())
    assert.equal("Subject: after\n\n", stored())
  end)

  it("accepts nothing of a peer that leaves between chunks", function()
    local peer = begin()
    peer:send(chunk "Subject: half\r\n\r\n")
    assert.matches("^250 ", peer:read())
    peer:leave()
    house:expect("gone ")
    assert.same({}, house:mail("bob"))
    assert.same({}, house.dir:list("mail/bob/tmp"))
  end)

  for _, argument in ipairs { "-1", "+1", "0x9", "18446744073709551616", "" } do
    it(("closes after BDAT %q: the octets cannot be counted"):format(argument), function()
      local peer <close> = begin()
      peer:send("BDAT " .. argument .. "\r\nNOOP\r\nQUIT\r\n")
      assert.matches("^501 5.5.4 [^\n]*\n$", (peer:rest()))
    end)
  end

  it("reads a chunk that is too large to its end, and says so", function()
    local peer <close> = begin()
    peer:send(chunk((("x"):rep(98) .. "\r\n"):rep(1200), true))
    assert.matches("^552 5.3.4 ", peer:read())
    assert.matches("^250 ", peer:command("NOOP"))
    assert.same({}, house:mail("bob"))
  end)

  it("closes when a chunk is so large that nobody would read to its end", function()
    local peer <close> = begin()
    peer:send("BDAT 2147483648\r\n")
    local ok = true
    while ok do -- until it has had enough
      ok = peer.sock:send(("x"):rep(65536))
    end
    local replies = peer:rest()
    assert.is_true(replies == "" or replies:find("^552 5.3.4 ") ~= nil or replies:find("^421 ") ~= nil, replies)
    assert.same({}, house:mail("bob"))
  end)

  it("has a reply for each recipient over LMTP", function()
    local peer <close> = begin(nil, "lmtp")
    assert.matches("^250 ", peer:command("RCPT TO:<full@example.org>"))
    peer:send(chunk("Subject: lmtp\r\n\r\n", true))
    local bob, full = peer:replies(2)
    assert.matches("^250 2", bob)
    assert.matches("^452 4.2.2 ", full)
    assert.equal("Subject: lmtp\n\n", stored())
  end)
end)
