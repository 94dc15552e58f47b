-- Our client delivers to servers that are not ours, and to ours: octet by octet, to many recipients and to some that are refused,
-- to addresses in UTF-8, over LMTP; and hears of each recipient. TLS and AUTH are in out_tls_spec.lua.
local moonpost = require "moonpost"
local peers = require "spec.support.peers"
local uv = require "luv"

local MESSAGE = "Subject: out\r\nFrom: alice@example.net\r\n\r\n.dot\r\n..\r\n.\r\n8-bit: \xc3\xa9\r\n"
local FROM, TO = "alice@example.net", "bob@example.org"

local root = uv.getuid() == 0

local servers = {
  {
    name = "postfix", there = peers.postfix and root, mailboxes = true, utf8 = true,
    refused = "somebody@elsewhere.example", code = 554,
  },
  { name = "smtp_sink", there = peers.smtp_sink },
  {
    name = "smtp_server", there = peers.has_node_module("smtp-server"), utf8 = true, refused = "nobody@example.org",
    code = 550, mechanisms = { "PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2" },
  },
  {
    name = "aiosmtpd", there = peers.python3, utf8 = true, refused = "nobody@example.org", code = 550,
  },
  { name = "dovecot", there = peers.dovecot and root, mailboxes = true },
  {
    name = "moonpost", there = true, mailboxes = true, utf8 = true, refused = "somebody@elsewhere.example",
    code = 550,
  },
}

local function send(options)
  options.from, options.to = options.from or FROM, options.to or TO
  options.message = options.message or MESSAGE
  return moonpost.send(options)
end

for _, server in ipairs(servers) do
  describe("moonpost.send to " .. server.name, function()
    if not server.there then
      pending("is not there, or needs root")
      return
    end

    local sink

    setup(function()
      sink = require("spec.support.sinks." .. server.name)(server.options)
    end)

    teardown(function()
      sink:close()
    end)

    before_each(function()
      sink.given = #sink:messages()
    end)

    -- What arrived since the last call, to these recipients: one message, or one for each of them where they are mailboxes.
    local function arrived(...)
      local to, got = { ... }, {}
      local before = sink.given
      local count = server.mailboxes and #to or 1
      local list = sink:messages(before + count)
      assert.equal(before + count, #list)
      sink.given = #list
      for i = before + 1, #list do
        assert.equal(FROM, list[i].sender)
        assert.equal(MESSAGE, list[i].octets)
        for _, recipient in ipairs(list[i].recipients) do
          got[#got + 1] = recipient
        end
      end
      table.sort(got)
      assert.same(to, got)
      return list[#list]
    end

    it("delivers", function()
      local result = assert(send { via = sink.url, tls = "none" })
      assert.same({ TO, true, "delivered" }, {
        result.recipients[1].address, result.recipients[1].ok, result.recipients[1].state,
      })
      assert.equal(250, result.recipients[1].reply.code)
      assert.is_false(result.recipients[1].tls.used)
      arrived(TO)
    end)

    it("delivers several messages over one connection", function()
      local client <close> = assert(moonpost.connect { url = sink.url, tls = "none" })
      for _ = 1, 3 do
        assert(client:send { from = FROM, to = TO, message = MESSAGE })
        arrived(TO)
      end
      assert.equal(3, client.messages)
      assert.equal(221, client:quit().code)
    end)

    it("delivers without PIPELINING and CHUNKING", function()
      assert(send { via = sink.url, tls = "none", ignore = { "PIPELINING", "CHUNKING" } })
      arrived(TO)
    end)

    it("converts what the server cannot carry: 8 bits without 8BITMIME", function()
      local mime = require "moonpost.mime"
      assert(send { via = sink.url, tls = "none", ignore = { "8BITMIME" } })
      local octets = sink:take().octets
      assert.is_nil(octets:find "[\x80-\xff]")
      local sent = MESSAGE:match "\r\n\r\n(.*)$"
      assert.equal(sent, assert(mime.parse(octets)).root:content())
    end)

    it("delivers to many recipients", function()
      local to = {}
      for i = 1, 40 do
        to[i] = ("user%02d@example.org"):format(i)
      end
      local result = assert(send { via = sink.url, tls = "none", to = to })
      assert.equal(40, #result.recipients)
      arrived(table.unpack(to))
    end)

    it("delivers what an iterator gives, piece by piece", function()
      assert(send {
        via = sink.url, tls = "none",
        message = function()
          return MESSAGE:gmatch "."
        end,
      })
      arrived(TO)
    end)

    if server.refused then
      it("tells of a recipient that is refused, and delivers to the others", function()
        local result, err = send { via = sink.url, tls = "none", to = { "ann@example.org", server.refused, TO } }
        assert.is_nil(result)
        local rows = err.recipients
        assert.same({ true, false, true }, { rows[1].ok, rows[2].ok, rows[3].ok })
        assert.same({ "rcpt", server.code, "refused" }, {
          rows[2].stage, rows[2].reply.code, rows[2].state,
        })
        arrived("ann@example.org", TO)
      end)

      it("leaves the connection fit for more when everybody was refused", function()
        local client <close> = assert(moonpost.connect { url = sink.url, tls = "none" })
        local result, err = client:send { from = FROM, to = server.refused, message = MESSAGE }
        assert.is_nil(result)
        assert.equal(server.code, err.recipients[1].reply.code)
        assert(client:send { from = FROM, to = TO, message = MESSAGE })
        arrived(TO)
      end)
    end

    if server.utf8 then
      it("delivers from and to addresses in UTF-8", function()
        local to = "j\xc3\xbcrgen@example.org"
        assert(send { via = sink.url, tls = "none", from = "fran\xc3\xa7ois@example.net", to = to })
        local list = sink:messages(sink.given + 1)
        sink.given = #list
        assert.equal("fran\xc3\xa7ois@example.net", list[#list].sender)
        assert.same({ to }, list[#list].recipients)
        assert.equal(MESSAGE, list[#list].octets)
      end)
    else
      it("refuses itself what the server cannot carry: an address in UTF-8", function()
        local result, err = send { via = sink.url, tls = "none", to = "j\xc3\xbcrgen@example.org" }
        assert.is_nil(result)
        local row = err.recipients[1]
        assert.same({ "refused", true, "5.6.7" }, { row.state, row.own, row.reply.enhanced })
        assert.equal(sink.given, #sink:messages())
      end)
    end
  end)
end

local lmtp = {
  { name = "dovecot", there = peers.dovecot and root, ways = { "url", "unix" } },
  { name = "moonpost", there = true, ways = { "lmtp", "unix" } },
  { name = "aiosmtpd", there = peers.python3, ways = { "lmtp" }, together = true },
  { name = "smtp_server", there = peers.has_node_module("smtp-server"), ways = { "lmtp" }, together = true },
  { name = "smtp_sink", there = peers.smtp_sink, ways = { "url" }, options = { "-L" }, together = true },
  { name = "smtp_sink", there = peers.smtp_sink, ways = { "url" }, options = { "-L", unix = true }, together = true },
}

for _, server in ipairs(lmtp) do
  describe("moonpost.send over LMTP to " .. server.name, function()
    if not server.there then
      pending("is not there, or needs root")
      return
    end

    local sink

    setup(function()
      sink = require("spec.support.sinks." .. server.name)(server.options)
    end)

    teardown(function()
      sink:close()
    end)

    for _, way in ipairs(server.ways) do
      it("delivers, and hears of each recipient: " .. way .. (server.options and server.options.unix and " at a socket" or ""),
        function()
        local to = { "ann@example.org", "bob@example.org" }
        local result = assert(send { via = sink[way], tls = "none", to = to })
        assert.same({ true, true }, { result.recipients[1].ok, result.recipients[2].ok })
        local before = sink.given or 0
        local list = sink:messages(before + (server.together and 1 or 2))
        sink.given = #list
        local got = {}
        for i = before + 1, #list do
          assert.equal(MESSAGE, list[i].octets)
          for _, recipient in ipairs(list[i].recipients) do
            got[#got + 1] = recipient
          end
        end
        table.sort(got)
        assert.same(to, got)
      end)
    end
  end)
end
