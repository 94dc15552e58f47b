-- Big and binary messages arrive octet by octet: 25 MB to every server, by DATA and by BDAT; every octet there is.
local certs = require "spec.support.certs"
local moonpost = require "moonpost"
local peers = require "spec.support.peers"
local uv = require "luv"

local FROM, TO = "alice@example.net", "bob@example.org"
local SIZE = 25000000

local root = uv.getuid() == 0

local big_one

-- 25 MB of lines of all lengths up to 76, some of dots, with octets over 127. The same in every run.
local function big()
  if big_one then
    return big_one
  end
  local lines, length, seed = { "Subject: big\r\n\r\n" }, 16, 42
  local alphabet = {}
  for i = 1, 200 do
    alphabet[i] = string.char(i < 190 and 32 + i % 95 or 128 + i % 128)
  end
  local text = table.concat(alphabet):rep(2)
  while length < SIZE do
    seed = (seed * 1103515245 + 12345) & 0x7fffffff
    local size = seed >> 8 & 0x3f
    local line = (seed & 0x700 == 0 and "." or "") .. text:sub(1 + (seed >> 16 & 0x7f), size + (seed >> 16 & 0x7f)) .. "\r\n"
    lines[#lines + 1] = line
    length = length + #line
  end
  big_one = table.concat(lines)
  return big_one
end

-- Every octet but CR and LF in lines, and dots where they hurt.
local function odd()
  local all = {}
  for i = 0, 255 do
    all[#all + 1] = i ~= 10 and i ~= 13 and string.char(i) or nil
  end
  all = table.concat(all)
  return "Subject: odd\r\n\r\n" .. (all .. "\r\n" .. all:rep(3) .. "\r\n.\r\n..\r\n...\r\n\r\n"):rep(300)
end

-- Without lines: every octet, lone CR and LF among them, and what would end a message.
local function binary()
  local all = {}
  for i = 0, 255 do
    all[#all + 1] = string.char(i)
  end
  return "Subject: binary\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    .. (table.concat(all) .. "\r\n.\r\n\n.\n\r.\r\r\n" .. table.concat(all):reverse()):rep(2000) .. "no line end"
end

local servers = {
  { name = "postfix", there = peers.postfix and root, chunks = true, nul = true },
  { name = "smtp_sink", there = peers.smtp_sink },
  { name = "smtp_server", there = peers.has_node_module("smtp-server"), nul = true },
  { name = "aiosmtpd", there = peers.python3, nul = true },
  { name = "dovecot", there = peers.dovecot and root, chunks = true },
  { name = "moonpost", there = true, chunks = true, binary = true },
}

teardown(function()
  big_one = nil
end)

for _, server in ipairs(servers) do
  describe("moonpost.send of much to " .. server.name, function()
    if not server.there then
      pending("is not there, or needs root")
      return
    end

    local sink

    setup(function()
      sink = require("spec.support.sinks." .. server.name) { options = "extensions = { BINARYMIME = true }" }
    end)

    teardown(function()
      sink:close()
    end)

    before_each(function()
      sink.given = #sink:messages()
    end)

    -- Sends and compares; gives the verbs that were said. BDAT is part of a body, of which a trace has a count alone.
    local function send(message, options)
      local verbs = {}
      options.url, options.tls = options.url or sink.url, options.tls or "none"
      function options.trace(direction, octets)
        if direction == "sent" then
          for verb in ("\n" .. octets):gmatch("\n(%u+)") do
            verbs[verb] = true
          end
        end
      end
      local mail = { from = FROM, to = TO, message = options.message or message, size = options.size, params = options.params }
      options.message, options.size, options.params = nil, nil, nil
      local client <close> = assert(moonpost.connect(options))
      assert(client:send(mail))
      local got = sink:take().octets
      assert.equal(#message, #got)
      assert.is_true(message == got) -- not assert.equal: it would print both
      return verbs
    end

    it("delivers 25 MB by DATA", function()
      local verbs = send(big(), { ignore = { "CHUNKING" } })
      assert.is_true(verbs.DATA)
    end)

    it("delivers 25 MB that an iterator gives", function()
      local message = big()
      send(message, {
        message = function()
          local at = 1
          return function()
            if at <= #message then
              at = at + 100001
              return message:sub(at - 100001, at - 1)
            end
          end
        end,
      })
    end)

    if server.chunks then
      it("delivers 25 MB by BDAT", function()
        local verbs = send(big(), {})
        assert.is_nil(verbs.DATA)
      end)
    end

    if server.nul then
      it("delivers every octet but lone CR and LF", function()
        send(odd(), { ignore = { "CHUNKING" } })
        if server.chunks then
          send(odd(), {})
        end
      end)
    end

    if server.binary then
      it("delivers what has no lines, as BINARYMIME", function()
        local verbs = send(binary(), { params = { body = "BINARYMIME" } })
        assert.is_nil(verbs.DATA)
      end)

      it("delivers 25 MB over TLS", function()
        local tls = { level = "verified", ca = certs.ca }
        send(big(), { tls = tls })
        send(big(), { tls = tls, ignore = { "CHUNKING" } })
      end)
    elseif not server.binary then
      it("refuses itself what has no lines", function()
        local result, err = moonpost.send {
          via = sink.url, tls = "none", from = FROM, to = TO, message = binary(), params = { body = "BINARYMIME" },
        }
        assert.is_nil(result)
        local row = err.recipients[1]
        assert.same({ "refused", true, "5.6.3" }, { row.state, row.own, row.reply.enhanced })
        assert.equal(sink.given, #sink:messages())
      end)
    end
  end)
end
