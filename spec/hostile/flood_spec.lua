local process = require "spec.support.process"
local raw = require "spec.support.raw"
local served = require "spec.support.served"
local socket = require "socket"

-- Octets without end. Each flood is ended by a limit, and what the server holds meanwhile stays small.
describe("a flood", function()
  local MB = 1000000
  local MAIL, RCPT = "MAIL FROM:<a@example.net>", "RCPT TO:<bob@example.org>"

  local UNANSWERED = 10000 -- commands: whoever lets a megabyte of replies lie is cut off without a word (limits.write)

  -- Sends `block` again and again, and hears what is said meanwhile, until the server closes. Returns the last line. `answered`: each line of it has
  -- a reply.
  local function pour(peer, block, most, answered)
    local asked, heard, lines = 0, 0, select(2, block:gsub("\n", ""))
    peer.sock:settimeout(0)
    local deadline = socket.gettime() + 60 * process.scale
    local said, sent, at = "", 0, 1
    while true do
      local err
      if not answered or at > 1 or asked - heard < UNANSWERED then
        local n, part
        n, err, part = peer.sock:send(block, at)
        local upto = n or part or at - 1
        asked = asked + (at == 1 and upto >= at and lines or 0)
        sent = sent + upto - at + 1
        at = upto < #block and upto + 1 or 1
      end
      local got, why, rest
      repeat -- all there is: an end of the connection with octets unread takes the last reply with it
        got, why, rest = peer.sock:receive(65536)
        said = (said .. (got or rest)):sub(-400)
        heard = heard + (answered and select(2, (got or rest):gsub("\n", "")) or 0)
      until not got
      if why == "closed" or err == "closed" then
        break
      end
      assert(sent < most, "nobody ends this")
      assert(socket.gettime() < deadline, "nothing moves any more")
      if err == "timeout" and why == "timeout" then
        socket.select({ peer.sock }, { peer.sock }, 1)
      elseif not err and why == "timeout" and answered and asked - heard >= UNANSWERED then
        socket.select({ peer.sock }, nil, 1)
      end
    end
    peer.sock:settimeout(10 * process.scale, "t")
    said = said .. peer:rest()
    return said:match("([^\r\n]*)\r?\n$") or ("no line at the end of %q"):format(said)
  end

  local function peak(house)
    local file <close> = assert(io.open(("/proc/%d/status"):format(house.process.pid)))
    return math.tointeger(tonumber(file:read("a"):match("VmHWM:%s*(%d+) kB")))
  end

  for _, flood in ipairs {
    { "a line without end", {}, ("x"):rep(65536), "^421 4%.4%.2 " },
    { "NOOP", {}, ("NOOP\r\n"):rep(10000), "^421 4%.7%.0 .*Too many errors$" },
    { "a header without a body", { MAIL, RCPT, "DATA" }, ("X-Field: some value of a field\r\n"):rep(2000),
      "^421 4%.3%.4 .*Message far too big$" },
    { "recipients", { MAIL }, (RCPT .. "\r\n"):rep(1000), "^421 4%.4%.2 ", answered = true },
    { "recipients that are refused", { MAIL }, ("RCPT TO:<bob@example.com>\r\n"):rep(1000),
      "^421 4%.7%.0 .*Too many recipients were refused$" },
    { "chunks of one octet", { MAIL .. " BODY=BINARYMIME", RCPT }, ("BDAT 1\r\nx"):rep(10000),
      "^421 4%.7%.0 .*Too many errors$", size = "100KB" },
    { "empty chunks", { MAIL, RCPT }, ("BDAT 0\r\n"):rep(1000), "^421 4%.4%.2 ", answered = true },
    { "a chunk of all octets that can be counted", { MAIL, RCPT, "BDAT 0" }, ("x"):rep(65536),
      "^421 4%.3%.4 .*Message far too big$", first = "BDAT 18446744073709551615 LAST\r\n" },
    { "transactions", {}, (MAIL .. "\r\nRSET\r\n"):rep(1000), "^421 4%.7%.0 .*Too many messages in one session$" },
  } do
    local name, commands, block, reply = table.unpack(flood)
    it("of " .. name .. " is ended by a limit and takes no memory to speak of", function()
      local house <close> = served.start {
        options = ('limits = { size = %q, session_time = "2s", line_time = "1s" }, extensions = { "BINARYMIME" },')
          :format(flood.size or "5MB"),
        hooks = [[
          function server.on.connect()
            log.configure { level = "warn" } -- a log that nobody reads meanwhile would hold the server up
          end
        ]],
      }
      local peer <close> = raw.session(house.port.smtp)
      for _, command in ipairs(commands) do
        assert.matches("^[23]", peer:command(command))
      end
      local before = house:memory()
      peer:send(flood.first or "")
      assert.matches(reply, pour(peer, block, 20000 * MB, flood.answered))
      local most = process.scale == 1 and 12 or 500 -- MB; a sanitizer keeps 256 MB of what is freed
      assert.is_true(peak(house) - before < most * 1024)
      local other <close> = raw.session(house.port.smtp)
      other:envelope("a@example.net", "bob@example.org")
      assert.matches("^250 ", other:command("Subject: x", "", "."))
    end)
  end
end)
