-- The servers that take our mail are known to work by clients that are not ours.
local accounts = require "spec.peers.accounts"
local certs = require "spec.support.certs"
local clients = require "spec.peers.clients"
local peers = require "spec.support.peers"
local tmpdir = require "spec.support.tmpdir"
local uv = require "luv"

local MESSAGE = "Subject: self-check\r\nFrom: alice@example.net\r\n\r\n.dot\r\n..\r\n8-bit: \xe9\r\nlast\r\n"

local root = uv.getuid() == 0

local servers = {
  { name = "postfix", there = peers.postfix and root, options = { auth = true }, starttls = true, mailboxes = true },
  { name = "smtp_sink", there = peers.smtp_sink },
  { name = "smtp_server", there = peers.has_node_module("smtp-server"), starttls = true },
  { name = "aiosmtpd", there = peers.python3, starttls = true },
  { name = "dovecot", there = peers.dovecot and root, mailboxes = true },
  { name = "moonpost", there = true, starttls = true, mailboxes = true },
}

for _, server in ipairs(servers) do
  describe("spec.support.sinks." .. server.name, function()
    if not server.there then
      pending("is not there, or needs root")
      return
    end

    local sink, dir, file

    setup(function()
      dir = tmpdir.new()
      file = dir:write("message", MESSAGE)
      sink = require("spec.support.sinks." .. server.name)(server.options)
    end)

    teardown(function()
      sink:close()
      dir:remove()
    end)

    local function send(ask)
      ask.host, ask.ca, ask.file = sink.host, certs.ca, file
      ask.from, ask.to = ask.from or "alice@example.net", ask.to or { "bob@example.org" }
      local answer = clients.python(ask)
      assert.is_nil(answer.error, (answer.error or "") .. " " .. (answer.text or ""))
    end

    local function arrived(...)
      local message = sink:take()
      assert.equal("alice@example.net", message.sender)
      assert.same({ ... }, message.recipients)
      assert.equal(MESSAGE, message.octets)
      return message
    end

    local lmtp = server.name == "dovecot" and "lmtp" or nil

    it("takes a mail", function()
      send { port = sink.port, mode = lmtp }
      arrived("bob@example.org")
    end)

    it("takes one for two recipients", function()
      send { port = sink.port, mode = lmtp, to = { "bob@example.org", "carol@example.org" } }
      if not server.mailboxes then
        arrived("bob@example.org", "carol@example.org")
        return
      end
      local list, both = sink:messages(3), {}
      for i = 1, 2 do
        assert.equal(MESSAGE, list[i + 1].octets)
        both[i] = list[i + 1].recipients[1]
      end
      table.sort(both)
      assert.same({ "bob@example.org", "carol@example.org" }, both)
      sink.given = 3
    end)

    if server.starttls then
      it("speaks STARTTLS and TLS from the first octet, and its certificate is good", function()
        send { port = sink.port, mode = "starttls" }
        arrived("bob@example.org")
        send { port = math.tointeger(tonumber(sink.implicit:match(":(%d+)$"))), mode = "implicit" }
        arrived("bob@example.org")
      end)

      for _, mechanism in ipairs { "PLAIN", "LOGIN", "CRAM-MD5" } do
        it("authenticates by " .. mechanism .. " if it says so", function()
          local has = false
          for _, name in ipairs(sink.mechanisms) do
            has = has or name == mechanism
          end
          local ask = {
            host = sink.host, ca = certs.ca, file = file, port = sink.port, mode = "starttls", mech = mechanism,
            user = accounts.user, password = accounts.password, from = accounts.user, to = { "bob@example.org" },
          }
          if not has then
            assert.is_string(clients.python(ask).error)
            return
          end
          local answer = clients.python(ask)
          assert.is_nil(answer.error, (answer.error or "") .. " " .. (answer.text or ""))
          assert.equal(accounts.user, sink:take().sender)
          ask.password = "wrong"
          assert.equal("SMTPAuthenticationError", clients.python(ask).error)
        end)
      end
    end
  end)
end
