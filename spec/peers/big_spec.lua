local certs = require "spec.support.certs"
local clients = require "spec.peers.clients"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local served = require "spec.support.served"

local SIZE = 25 * 1000 * 1000

-- Lines of every length with dots where they hurt, and octets of every kind but CR, LF and NUL; the same in every run.
local function message()
  local random = 1
  local function next_number(most)
    random = (random * 1103515245 + 12345) % 2147483648
    return random // 65536 % most
  end
  local lines = {}
  for i = 1, 1200 do
    local octets = { ({ "", ".", "..", "From ", "\xff" })[next_number(5) + 1] }
    for k = 1, next_number(200) do
      local octet = next_number(253) + 1
      octets[k + 1] = string.char(octet == 10 and 254 or octet == 13 and 255 or octet)
    end
    lines[i] = table.concat(octets)
  end
  local block = table.concat(lines, "\r\n") .. "\r\n"
  local head = "Subject: large\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
  local count = (SIZE - #head) // #block
  local rest = SIZE - #head - count * #block
  local filler = (("y"):rep(70) .. "\r\n"):rep(rest // 72 + 1):sub(1, rest - 2):gsub("\r$", "z")
  return head .. block:rep(count) .. filler .. "\r\n"
end

describe("a message of 25 MB", function()
  local house, octets, on_disk

  setup(function()
    octets = message()
    assert(#octets == SIZE)
    on_disk = octets:gsub("\r\n", "\n")
    house = served.start {
      listen = { "smtp://127.0.0.1:0", "smtps://127.0.0.1:0", "lmtp://unix:DIR/lmtp.sock" }, options = certs.tls,
    }
    house.dir:write("large.eml", octets)
  end)

  teardown(function()
    house:close()
  end)

  -- Not assert.equal: what differs would be printed.
  local function arrived(name)
    local stored, fields = served.strip(house:octets(name))
    assert.equal(#on_disk, #stored)
    assert.is_true(stored == on_disk)
    assert.matches("^Return%-Path: <a@example.net>\nDelivered%-To: " .. name .. "@example.org\nReceived: from ", fields)
    assert.is_nil(fields:find("\r", 1, true))
    assert.is_true(#fields < 500)
    assert.same({}, house.dir:list("mail/" .. name .. "/tmp"))
  end

  if peers.python3 then
    it("arrives as it was sent by smtplib", function()
      local answer = clients.python {
        host = "127.0.0.1", port = house.port.smtp, from = "a@example.net", to = { "bob@example.org" },
        file = house.dir:join("large.eml"), options = { "BODY=8BITMIME" },
      }
      assert.is_nil(answer.error, answer.text)
      arrived "bob"
    end)
  end

  if peers.curl then
    it("arrives as it was sent by curl over TLS", function()
      local result = process.run {
        peers.curl, "-sS", "--url", ("smtps://mx.example.org:%d/client.example.net"):format(house.port.smtps),
        "--resolve", ("mx.example.org:%d:127.0.0.1"):format(house.port.smtps), "--cacert", certs.ca,
        "-T", house.dir:join("large.eml"), "--mail-from", "a@example.net", "--mail-rcpt", "carol@example.org",
        timeout = 60,
      }
      assert.equal(0, result.code, result.output)
      arrived "carol"
    end)
  end

  if peers.has_node_module("nodemailer") then
    it("arrives as it was sent by nodemailer over STARTTLS", function()
      local answer = clients.node {
        transport = {
          host = "127.0.0.1", port = house.port.smtp, name = "client.example.net", requireTLS = true,
          tls = { servername = "mx.example.org" },
        },
        ca = certs.ca,
        mails = { { envelope = { from = "a@example.net", to = { "dave@example.org" } }, file = house.dir:join("large.eml") } },
      }[1]
      assert.is_nil(answer.error, answer.response)
      arrived "dave"
    end)
  end

  it("arrives as it was sent in chunks, to two over LMTP", function()
    local peer <close> = raw.session(house.dir:join("lmtp.sock"), { verb = "LHLO" })
    peer:command("MAIL FROM:<a@example.net> BODY=8BITMIME")
    peer:command("RCPT TO:<erin@example.org>")
    peer:command("RCPT TO:<frank@example.org>")
    local most = 1000003
    for at = 1, SIZE, most do
      local part = octets:sub(at, at + most - 1)
      local last = at + most > SIZE
      peer:send(("BDAT %d%s\r\n"):format(#part, last and " LAST" or ""))
      peer:send(part)
      assert.matches("^250 ", peer:read())
    end
    assert.matches("^250 ", peer:read()) -- of the second recipient
    arrived "erin"
    arrived "frank"
  end)
end)
