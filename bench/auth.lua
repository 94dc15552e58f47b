--- moonpost.auth.verify as an MX calls it, with answers from a table: SPF twice, the client's name, a signature by RSA-2048 and DMARC for messages of
--- 4 KB over a wire in memory, in this process. A session that discards without looking is beside it, so that the figure is that of the call.
local figures = require "bench.support.figures"
local moonpost = require "moonpost"

local ROUNDS, MESSAGES = 7, 1000

local pair = moonpost.dkim.keygen("rsa", 2048)
local zone = moonpost.dns.zone {
  ["example.net"] = { TXT = "v=spf1 include:_spf.example.net -all", MX = { { 10, "mail.example.net" } } },
  ["_spf.example.net"] = { TXT = "v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.0/24 ~all" },
  ["mail.example.net"] = { A = "203.0.113.9", TXT = "v=spf1 a -all" },
  ["9.113.0.203.in-addr.arpa"] = { PTR = "mail.example.net" },
  ["s1._domainkey.example.net"] = { TXT = pair.record },
  ["_dmarc.example.net"] = { TXT = "v=DMARC1; p=reject; rua=mailto:dmarc@example.net" },
}

local function message()
  local lines = {
    "From: Ann <ann@example.net>", "To: bob@example.org", "Subject: A letter of no weight", "Date: Thu, 1 Jan 2026 00:00:00 +0000",
    "Message-ID: <1@example.net>", "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "",
  }
  for i = #lines + 1, 60 do
    lines[i] = ("The quick brown fox jumps over the lazy dog, %03d times today. "):format(i)
  end
  lines[#lines + 1] = ""
  return assert(moonpost.dkim.sign(table.concat(lines, "\r\n"), { domain = "example.net", selector = "s1", key = pair.private }))
end

-- Seconds of one message through a wire.
local function time(wire, octets)
  local transaction = "MAIL FROM:<ann@example.net>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"
  local begun = os.clock()
  for _ = 1, MESSAGES do
    wire:send(transaction)
    local replies = wire:receive()
    wire:send(octets)
    local taken = ""
    while not taken:find "\n" do
      moonpost.step()
      taken = taken .. wire:receive()
    end
    assert(replies:find "354" and taken:find "^250", replies .. taken)
  end
  return (os.clock() - begun) / MESSAGES
end

local function open(look)
  local server = moonpost.server {
    hostname = "mx.example.org", domains = { "example.org" }, listen = "smtp://127.0.0.1:0", tls = false, limits = { messages = 0 },
  }
  function server.on.message(session, received)
    if look then
      look(session, received)
    end
    received:discard "bench"
  end
  assert(server:start { bindings = false })
  local wire = server:_wire { ip = "203.0.113.9" }
  wire:send("EHLO mail.example.net\r\n")
  assert(wire:receive():find "\n250 ", "no session")
  return wire
end

return function(row)
  moonpost.log.configure { level = "warn" }
  local octets = message() .. ".\r\n"
  local seen
  local with = open(function(session, received)
    seen = moonpost.auth.verify(session, received, { dns = zone })
    received:prepend("Authentication-Results", seen.header)
  end)
  local without = open()
  local rates, whole = {}, {}
  for round = 1, ROUNDS do
    local one = time(with, octets)
    rates[round], whole[round] = 1 / (one - time(without, octets)), 1 / one
  end
  assert(seen.dmarc.result == "pass" and seen.spf.result == "pass" and seen.dkim[1].result == "pass" and seen.iprev.result == "pass")
  row { what = "auth.verify, messages a second, answers from a table", value = figures.median(rates), unit = "/s", goal = 3000 }
  row { what = "the same with SMTP around it", value = figures.median(whole), unit = "/s" }
end
