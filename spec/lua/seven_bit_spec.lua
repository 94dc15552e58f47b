-- 8-bit messages for servers that take none (RFC 6152 3).
local convert = require "moonpost.mime.seven_bit"
local mime = require "moonpost.mime"

local function crlf(text)
  return (text:gsub("\n", "\r\n"))
end

local MIXED = crlf [[
Subject: x
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b
Content-Transfer-Encoding: 8bit

Preamble.
--b
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit
X-Odd:  y

This is mostly ASCII, and a little Gr\xc3\xbc\xc3\x9fe = 5.
--b
content-type:text/plain

plain
--b
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Subject: inside

\xe4\xf6\xfc
--b
Content-Type: image/png
Content-Transfer-Encoding: binary

\x89PNG\x01
--b--
Epilogue.
]]:gsub("\\x(%x%x)", function(digits)
  return string.char(tonumber(digits, 16))
end)

describe("conversion to 7 bits", function()
  it("encodes the parts that need it, and leaves the others as they are", function()
    local octets = assert(convert(MIXED))
    assert.is_nil(octets:find "[\x80-\xff]")
    local before, after = assert(mime.parse(MIXED)), assert(mime.parse(octets))
    assert.equal(before:count(), after:count())
    for i = 1, before:count() do
      local one, other = before:part(i), after:part(i)
      assert.equal(one.type, other.type)
      if one.kind == "leaf" then
        assert.equal(one:content(), other:content(), i)
      end
    end
    assert.same({ "7bit", "quoted-printable", "7bit", "base64", "base64" }, {
      after.root.encoding, after:part(2).encoding, after:part(4).encoding, after:part(5).encoding, after:part(6).encoding,
    })
    assert.matches("X%-Odd:  y\r\n", octets)
    assert.truthy(octets:find("--b\r\ncontent-type:text/plain\r\n\r\nplain\r\n--b\r\n", 1, true))
    assert.truthy(octets:find("\r\nEpilogue.\r\n", 1, true) and octets:find("\r\n\r\nPreamble.\r\n", 1, true))
  end)

  it("makes MIME of what was none", function()
    local octets = assert(convert("Subject: x\r\n\r\ncaf\xe9, and so on\r\n"))
    assert.equal("Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
      .. "Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=E9, and so on\r\n", octets)
  end)

  it("leaves what is 7-bit", function()
    local octets = "Subject: x\r\n\r\nplain\r\n"
    assert.equal(octets, convert(octets))
  end)

  it("says what it cannot do", function()
    for octets, why in pairs {
      ["Subject: \xfc\r\n\r\nx\r\n"] = "header",
      ["Content-Transfer-Encoding: base64\r\n\r\n\xfc\r\n"] = "encoding is broken",
      ["Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xfc\r\n--b--\r\n"] = "signature",
      ["Content-Type: multipart/mixed; boundary=b\r\n\r\n\xfc\r\n--b\r\n\r\nx\r\n--b--\r\n"] = "outside of its parts",
    } do
      local made, reason = convert(octets)
      assert.is_nil(made)
      assert.matches(why, reason)
    end
  end)
end)
