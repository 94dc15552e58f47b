--- opendkim signs what passes a server of ours: every octet that it signs went through the milter protocol and back.
local moonpost = require "moonpost"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local served = require "spec.support.served"
local tmpdir = require "spec.support.tmpdir"

local it = peers.opendkim and peers.openssl and it or pending

local MESSAGE = table.concat({
  "From:  Ann Lee <ann@example.net>", "To: bob@example.org", "Subject: folded", "\tand   \t spaced", "Date: Mon, 23 Nov 2026 15:00:00 +0000", "",
  ".dot", ("0123456789abcde\r\n"):rep(9000) .. "end", "", "", "",
}, "\r\n")

local function openssl(...)
  local done = process.run { "openssl", ... }
  assert.equal(0, done.code, done.output)
  return done.out
end

-- The field of that name as it stands in a header, with its line end.
local function field(head, name)
  local text = ("\r\n" .. head):match("\r\n(" .. name .. ":.-\r\n)%f[^\r\n \t]")
  return assert(text, name)
end

-- The octets that the signature is of, header and canonicalisation "simple" (RFC 6376 3.4.1, 3.7).
local function signed(head, signature)
  local out = {}
  for name in signature:match("h=([%w:%-]+);"):gmatch("[^:]+") do
    out[#out + 1] = field(head, name:gsub("%-", "%%-"))
  end
  out[#out + 1] = signature:gsub("(;[ \t\r\n]*b=)[^;]*$", "%1"):gsub("\r\n$", "")
  return table.concat(out)
end

describe("the milter plug-in and opendkim", function()
  it("make signatures that hold, octet for octet", function()
    local dir <close> = tmpdir.new()
    openssl("genrsa", "-out", dir:join "key.pem", "2048")
    openssl("rsa", "-in", dir:join "key.pem", "-pubout", "-out", dir:join "public.pem")
    dir:write("opendkim.conf", table.concat({
      "Domain example.net", "Selector s1", "KeyFile " .. dir:join "key.pem", "Mode s", "Socket local:" .. dir:join "socket", "Syslog no",
      "RequireSafeKeys false", "InternalHosts 127.0.0.1", "Canonicalization simple/simple", "",
    }, "\n"))
    local filter <close> = process.start { peers.opendkim, "-f", "-x", dir:join "opendkim.conf" }
    local address = "unix:" .. dir:join "socket"
    local talk
    for _ = 1, 500 * process.scale do -- it does not say when it is ready
      talk = moonpost.milter({ address = address }):open()
      if talk then
        break
      end
      assert(not filter:poll(), filter.output)
      moonpost.sleep(0.02)
    end
    assert(talk, filter.output)
    talk:close()

    local house <close> = served.start {
      hooks = ([[
server:use(require "moonpost.plugins.milter" { address = %q, hostname = "mx.example.org" })
function server.on.message(_, message)
  message:deliver { file = dir .. "/message.eml", line_end = "crlf" }
end
]]):format(address),
    }
    assert(moonpost.send { via = "smtp://" .. house.at.smtp, from = "ann@example.net", to = "bob@example.org", message = MESSAGE })
    local octets = house.dir:read "message.eml"
    local head, body = octets:match("^(.-\r\n)\r\n(.*)$")
    local signature = field(head, "DKIM%-Signature")
    assert.matches("d=example.net; s=s1;", signature:gsub("%s+", " "), 1, true)
    assert.is_true(head:find("DKIM-Signature:", 1, true) < head:find("\r\nFrom:", 1, true))

    dir:write("body", (body:gsub("[\r\n]+$", "") .. "\r\n"))
    openssl("dgst", "-sha256", "-binary", "-out", dir:join "hash", dir:join "body")
    assert.equal(openssl("base64", "-in", dir:join "hash"):gsub("%s", ""), (signature:match("bh=([^;]+);"):gsub("%s", "")))

    dir:write("signed", signed(head, signature))
    dir:write("b64", signature:match("[;%s]b=([^;]+)$"):gsub("%s", "") .. "\n")
    openssl("base64", "-d", "-A", "-in", dir:join "b64", "-out", dir:join "signature")
    assert.matches("Verified OK",
      openssl("dgst", "-sha256", "-verify", dir:join "public.pem", "-signature", dir:join "signature", dir:join "signed"))
  end)
end)
