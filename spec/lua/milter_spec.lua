local moonpost = require "moonpost"
local ports = require "spec.support.ports"
local scripted = require "spec.support.scripted"
local wire = require "moonpost.milter.wire"
local wired = require "spec.support.wired"

local OCTETS = "Subject: hello\r\nX-Folded: a\r\n b\r\nX-A: 1\r\nX-A: 2\r\n\r\nfirst\r\nsecond\r\n"
local ALL = 0x1fffff

-- A filter that follows a script: `answers[letter]` is a packet or several, or a function of the data that gives them; "c" else. What it hears is
-- in `heard`, as "letter:data".
local function filter(answers, how)
  how = how or {}
  local heard = {}
  local function respond(peer, letter, data)
    local answer = answers[letter]
    if type(answer) == "function" then
      answer = answer(data)
    end
    if answer ~= false then
      peer:write(answer or wire.packet "c")
    end
  end
  return scripted.serve(function(peer, n)
    heard[#heard + 1] = "connection " .. n
    while true do
      local head = peer:read(4)
      if not head then
        return
      end
      local packet = assert(peer:read((string.unpack(">I4", head))))
      local letter, data = packet:sub(1, 1), packet:sub(2)
      if letter == "O" then
        heard.offer = table.pack(string.unpack(">I4I4I4", data))
        peer:write(how.negotiation or wire.packet("O", string.pack(">I4I4I4", how.version or 6, how.actions or 0x11, how.options or 0)))
      else
        heard[#heard + 1] = letter .. ":" .. data:gsub("%z", "|")
        if letter ~= "D" and letter ~= "A" and letter ~= "Q" and not (how.silent or ""):find(letter, 1, true) then
          respond(peer, letter, data)
        end
      end
    end
  end), heard
end

-- Says something on a server with the plug-in, and gives every reply: "MAIL 250 ...". `fn(client)` sends, or one message is sent.
local function run(options, fn, more, limits)
  wired.catch_log()
  local port = ports.free()
  local server = moonpost.server {
    hostname = "mx.example.org", listen = ("smtp://127.0.0.1:%d"):format(port), domains = "example.org", limits = limits,
  }
  server:use(require "moonpost.plugins.milter"(options))
  local seen = {}
  function server.on.message(_, message)
    seen[#seen + 1] = message:octets()
    if more then
      more(message)
    end
    message:discard "spec"
  end
  assert(server:start())
  local client <close>, err = moonpost.connect { host = "127.0.0.1", port = port, tls = "none", helo = "client.example" }
  local said
  if not client then
    said = tostring(err)
  elseif fn then
    said = fn(client)
  else
    local result, failed = client:send { from = "ann@example.net", to = "bob@example.org", message = OCTETS }
    said = tostring((result or failed).recipients[1].reply)
  end
  if client then
    client:close()
  end
  server:stop()
  return said, seen
end

local function send(client, to)
  local result, err = client:send { from = "ann@example.net", to = to or "bob@example.org", message = OCTETS }
  local list = {}
  for i, row in ipairs((result or err).recipients) do
    list[i] = tostring(row.reply):sub(1, 9)
  end
  return table.concat(list, ",")
end

local function without_macros(heard)
  local list = {}
  for _, one in ipairs(heard) do
    if one:sub(1, 1) ~= "D" then
      list[#list + 1] = one
    end
  end
  return list
end

describe("moonpost.milter", function()
  after_each(wired.release_log)

  it("takes every step of a session", function()
    local service <close>, heard = filter {}
    local said, seen = run { address = service.address, hostname = "mx.example.org" }
    assert.matches("^250 ", said)
    assert.equal(OCTETS, seen[1]:match("Subject.*$"))
    assert.same({ 6, 0x11, ALL & ~0x800 }, { table.unpack(heard.offer, 1, 3) })
    local port = table.concat(heard, "\n"):match("C:%[127%.0%.0%.1%]|4(..)127")
    assert.same({
      "connection 1", "C:[127.0.0.1]|4" .. port .. "127.0.0.1|", "H:client.example|", "M:<ann@example.net>|", "R:<bob@example.org>|", "T:",
      "L:Subject|hello|", "L:X-Folded|a\n b|", "L:X-A|1|", "L:X-A|2|", "N:", "B:first\r\nsecond\r\n", "E:", "Q:",
    }, without_macros(heard))
    local all = table.concat(heard, "\n")
    assert.matches("D:Cj|mx.example.org|{daemon_name}|", all, 1, true)
    assert.matches("D:M{mail_addr}|ann@example.net|", all, 1, true)
    assert.matches("D:R{rcpt_addr}|bob@example.org|", all, 1, true)
    assert.matches("D:Ei|", all, 1, true)
    assert.same({}, service.errors)
  end)

  it("leaves out the steps that a filter does not want, and does not wait for answers that it does not give", function()
    local service <close>, heard = filter({}, { options = 0x1 | 0x2 | 0x8 | 0x10 | 0x200 })
    assert.matches("^250 ", (run { address = service.address }))
    assert.same({ "connection 1", "M:<ann@example.net>|", "L:Subject|hello|", "L:X-Folded|a\n b|", "L:X-A|1|", "L:X-A|2|", "N:", "E:", "Q:" },
      without_macros(heard))
    local quiet <close>, told = filter({}, { options = ALL & ~0x7f & ~0x300 & ~0x800, silent = "CHMRTLNB" })
    assert.matches("^250 ", (run { address = quiet.address }))
    assert.equal(14, #without_macros(told))
    assert.equal("L:Subject| hello|", without_macros(told)[7]) -- as it stands, for who verifies signatures
  end)

  it("sends a body in pieces, until a filter has seen enough", function()
    local body = ("0123456789abcde\r\n"):rep(20000)
    local function sized(answers)
      local service <close>, heard = filter(answers)
      local said = run({ address = service.address }, function(client)
        local result = client:send { from = "ann@example.net", to = "bob@example.org", message = "Subject: x\r\n\r\n" .. body }
        return result and "sent"
      end)
      assert.equal("sent", said)
      local all, pieces = {}, 0
      for _, one in ipairs(heard) do
        if one:sub(1, 2) == "B:" then
          pieces = pieces + 1
          all[pieces] = one:sub(3)
          assert.is_true(#one <= 65537)
        end
      end
      return table.concat(all), pieces
    end
    assert.is_true(body == sized {})
    assert.equal(1, (select(2, sized { B = wire.packet "s" })))
  end)

  describe("answers", function()
    for what, case in pairs {
      ["a rejected connection"] = { "C", wire.packet "r", "554" },
      ["a connection that is to come again"] = { "C", wire.packet "t", "451" },
      ["a rejected sender"] = { "M", wire.packet "r", "^550 5%.7%.1 Refused" },
      ["a sender that is to come again"] = { "M", wire.packet "t", "^451 4%.7%.1 Please try again later" },
      ["a rejected recipient"] = { "R", wire.packet "r", "^550 5%.7%.1 Refused" },
      ["a rejected header"] = { "L", wire.packet "r", "^550 5%.7%.1 Refused" },
      ["a rejected body"] = { "B", wire.packet "r", "^550 5%.7%.1 Refused" },
      ["a rejected message"] = { "E", wire.packet "r", "^550 5%.7%.1 Refused" },
      ["a shutdown"] = { "E", wire.packet "4", "^451 4%.7%.1 " },
      ["a reply of its own"] = { "E", wire.packet("y", "552 5.3.4 Far too\rlarge\0"), "^552 5%.3%.4 Far too large" },
      ["a reply of several lines"] = { "E", wire.packet("y", "450-4.2.2 One\r\n450 4.2.2 Two\0"), "^450 4%.2%.2 One Two" },
      ["a reply without an enhanced code"] = { "R", wire.packet("y", "451 Later\0"), "^451 4%.7%.1 Later" },
      ["a reply with one of another class"] = { "R", wire.packet("y", "550 4.1.1 No\0"), "^550 5%.7%.1 No" },
      ["a reply after signs of progress"] = { "E", wire.packet "p" .. wire.packet "p" .. wire.packet "a", "^250 " },
    } do
      it("has " .. what, function()
        local service <close> = filter { [case[1]] = case[2] }
        assert.matches(case[3], (run { address = service.address }))
        assert.same({}, service.errors)
      end)
    end

    it("refuses one recipient of several", function()
      local service <close>, heard = filter { R = function(data) return wire.packet(data:find "eve" and "r" or "c") end }
      assert.equal("250 2.0.0,550 5.7.1", (run({ address = service.address }, function(client)
        return send(client, { "bob@example.org", "eve@example.org" })
      end)))
      assert.matches("R:<eve@example.org>|", table.concat(heard, "\n"), 1, true)
    end)

    it("looks no more at who is accepted: at a connection, or at a message", function()
      local service <close>, heard = filter { H = wire.packet "a" }
      assert.matches("^250 ", (run { address = service.address }))
      assert.equal("Q:", heard[#heard])
      assert.is_nil(table.concat(heard, "\n"):find("\nM:", 1, true))
      local other <close>, told = filter { M = function(data) return wire.packet(data:find "ann" and "a" or "c") end }
      run({ address = other.address }, function(client)
        send(client)
        client:send { from = "cat@example.net", to = "bob@example.org", message = OCTETS }
        return ""
      end)
      assert.same({ "connection 1", "M:<ann@example.net>|", "A:", "M:<cat@example.net>|", "R:<bob@example.org>|", "T:", "N:", "E:", "Q:" },
        (function()
          local list = {}
          for _, one in ipairs(without_macros(told)) do
            if not one:find "^[CHLB]:" then
              list[#list + 1] = one
            end
          end
          return list
        end)())
    end)

    it("discards", function()
      for _, letter in ipairs { "M", "R", "L", "E" } do
        local service <close> = filter { [letter] = wire.packet "d" }
        local said, seen = run { address = service.address }
        assert.matches("^250 ", said)
        assert.same({}, seen)
      end
    end)

    it("ends a transaction that nobody finished", function()
      local service <close>, heard = filter {}
      run({ address = service.address }, function(client)
        client:send { from = "ann@example.net", to = "nobody@elsewhere.example", message = OCTETS }
        return send(client)
      end)
      local order = {}
      for _, one in ipairs(without_macros(heard)) do
        order[#order + 1] = one:match("^[AMRE]:")
      end
      assert.equal("M:R:A:M:R:E:", table.concat(order))
    end)
  end)

  it("changes the header as a filter wants it", function()
    local u32 = function(n) return string.pack(">I4", n) end
    local service <close> = filter { E = table.concat {
      wire.packet("h", "X-Last\0one\n two\0"), wire.packet("i", u32(0) .. "X-First\0f\0"), wire.packet("m", u32(2) .. "x-a\0two\0"),
      wire.packet("m", u32(1) .. "Subject\0\0"), wire.packet("m", u32(1) .. "X-New\0n\0"), wire.packet("i", u32(99) .. "X-End\0e\0"),
      wire.packet("h", "X-Evil\0a\r\nBcc: x\0"), wire.packet("h", "Bad Name\0x\0"), wire.packet("m", u32(7) .. "X-A\0\0"), wire.packet "c",
    } }
    local said, seen = run { address = service.address }
    assert.matches("^250 ", said)
    local head = seen[1]:match("^(.-)\r\n\r\n"):gsub("Received:.-\r\n(%S)", "%1")
    assert.matches("^X%-First: f\r\n", head)
    assert.matches("X-Folded: a\r\n b\r\nX-A: 1\r\nX-A: two\r\nX-Last: one\r\n\ttwo\r\nX-New: n\r\nX-End: e\r\nX-Evil: a??Bcc: x", head, 1, true)
    assert.is_nil(head:find("Subject", 1, true))
  end)

  it("puts into quarantine where there is one", function()
    local service <close> = filter({ E = wire.packet("q", "looks\nodd\0") .. wire.packet "c" }, { actions = 0x31 })
    local reason
    assert.matches("^250 ", (run({
      address = service.address, quarantine = function(message, why) message.meta.why = why end,
    }, nil, function(message) reason = message.meta.why end)))
    assert.equal("looks?odd", reason)
  end)

  describe("is given up", function()
    for what, how in pairs {
      ["that wants to change what cannot be"] = { { actions = 0x02 } },
      ["that wants a quarantine where there is none"] = { { actions = 0x20 } },
      ["of an unknown version"] = { { version = 7 } },
      ["that wants what it was not offered"] = { { options = 0x800 } },
      ["that does not negotiate"] = { { negotiation = wire.packet "c" } },
      ["whose negotiation is short"] = { { negotiation = wire.packet("O", "abc") } },
      ["with a packet that is too large"] = { { negotiation = "\xff\xff\xff\xff" } },
      ["with an empty packet"] = { { negotiation = "\0\0\0\0" } },
      ["with an answer that there is not"] = { {}, { M = wire.packet "?" } },
      ["with a reply that is none"] = { {}, { M = wire.packet("y", "250 fine\0") } },
      ["with a change in the wrong place"] = { {}, { M = wire.packet("h", "X-A\0b\0") } },
      ["with a change that is cut off"] = { {}, { E = wire.packet("i", "ab") } },
      ["with a header field without an end"] = { {}, { E = wire.packet("h", "X-A") } },
      ["that adds megabytes"] = { {}, { E = wire.packet("h", "X-A\0" .. ("x"):rep(1000000) .. "\0"):rep(5) .. wire.packet "c" } },
      ["that says nothing"] = { {}, { M = false }, 0.1 },
      ["with progress for ever"] = { {}, { E = wire.packet("p"):rep(20000) } },
    } do
      it("a filter " .. what, function()
        local service <close> = filter(how[2] or {}, how[1])
        assert.matches("^451 4%.7%.1 Cannot be examined now", (run { address = service.address, timeout = how[3] or 20 }))
        assert.matches("^250 ", (run { address = service.address, timeout = how[3] or 20, fail = "open" }))
      end)
    end

    -- An answer that comes late would be taken for that to the next step.
    it("a filter whose step was cut by the time of a hook", function()
      local service <close>, heard = filter { E = false }
      assert.equal("451 4.3.0;250 2.0.0", (run({ address = service.address, fail = "open" }, function(client)
        return send(client) .. ";" .. send(client)
      end, nil, { message_time = 0.1 })))
      assert.matches("E:\nA:\nQ:$", table.concat(heard, "\n"))
    end)

    it("a filter that is not there", function()
      assert.matches("^451 4%.7%.1 Cannot be examined now", (run { address = "unix:/nowhere/at/all" }))
      assert.matches("^250 ", (run { address = "unix:/nowhere/at/all", fail = "open" }))
    end)
  end)

  it("is answered for by a function, in tests", function()
    local milter, heard = require "moonpost.milter", {}
    assert.is_nil(milter.use(function(letter, data, macros)
      heard[#heard + 1] = letter
      if letter == "R" and data:find "eve" then
        return { what = "reply", code = 550, enhanced = "5.1.1", text = "No eve" }
      elseif letter == "E" then
        assert(macros.i)
        return nil, { { what = "insert", at = 0, name = "X-Seen", value = "yes" } }
      end
    end))
    local head
    local house = wired.new({ domains = "example.org" }, function(server)
      server:use(require "moonpost.plugins.milter" { address = "127.0.0.1:1" })
      server.on.message = function(_, message)
        head = message.headers["X-Seen"]
        message:discard "spec"
      end
    end)
    local peer = house:session()
    peer:command "MAIL FROM:<ann@example.net>"
    assert.equal("550 5.1.1 No eve", peer:command "RCPT TO:<eve@example.org>")
    assert.matches("^250 ", peer:send("ann@example.net", "bob@example.org", OCTETS))
    milter.use(nil)
    assert.equal("yes", head)
    assert.equal("CHMRRTLLLLNBE", table.concat(heard))
    assert.error_matches(function() milter.use(7) end, "^milter%.use: a function expected")
  end)

  it("has a conversation for who wants to take the steps alone", function()
    local service <close>, heard = filter {}
    do
      local talk <close> = assert(moonpost.milter({ address = service.address }):open())
      assert.same({ what = "continue" }, talk:step("H", wire.texts("a\0b", 7), { x = "y\0z" }))
    end
    repeat
      moonpost.sleep(0.001)
    until heard[4]
    assert.equal("connection 1 D:Hx|y?z| H:a?b|7| Q:", table.concat(heard, " "))
  end)

  it("raises where it is misused", function()
    assert.error_matches(function() moonpost.milter {} end, "milter: address: one is needed")
    assert.error_matches(function() moonpost.milter { address = "inet:8891@localhost" } end, "milter: address")
    assert.error_matches(function() moonpost.milter { address = "a:1", quarantine = 1 } end, "milter: quarantine: a function expected")
    assert.error_matches(function() require "moonpost.plugins.milter" { address = "a:1", fail = "x" } end, "milter: fail")
  end)
end)
