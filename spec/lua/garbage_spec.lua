--- What peers and services write, at random: readers in Lua answer, never raise, and keep to what they promise. The seed is fixed.
local author = require "moonpost.dmarc.author"
local moonpost = require "moonpost"
local wire = require "moonpost.milter.wire"

local state = 20261123

local function random(most)
  state = (state * 6364136223846793005 + 1442695040888963407)
  return (state >> 33) % most + 1
end

-- Octets of pieces that mean something, and of others.
local function garbage(pieces, length)
  local out = {}
  for i = 1, random(length) do
    out[i] = random(5) == 1 and string.char(random(256) - 1) or pieces[random(#pieces)]
  end
  return table.concat(out)
end

describe("garbage", function()
  it("is no reason for dmarc.parse to raise", function()
    local pieces = { "v=DMARC1", ";", "=", "p", "reject", "none", "sp=", "rua=", "mailto:", "a@b.example" }
    table.move({ "!", "10m", ",", "%2", "%00", "pct=", "fo=", ":", " ", "\t" }, 1, 10, #pieces + 1, pieces)
    for _ = 1, 5000 do
      local record, why = moonpost.dmarc.parse("v=DMARC1;" .. garbage(pieces, 30))
      assert(record or type(why) == "string")
      for _, address in ipairs(record and record.rua or {}) do
        assert(not (address.address or ""):find("%c"))
        assert(address.scheme ~= "mailto" or address.domain)
      end
      assert(record == nil or record.pct >= 0 and record.pct <= 100)
    end
  end)

  it("has one domain or none for an author", function()
    local pieces = { "<", ">", "@", "(", ")", '"', "\\", ",", ";", ":", "a", "b.example", "evil.example", " ", "\r\n\t", "[", "]" }
    for _ = 1, 5000 do
      local domain, why = author.domain { garbage(pieces, 30) }
      assert(domain and domain:find "^[%g]+$" and not domain:find "[<>@%[%]]" or type(why) == "string")
    end
  end)

  it("comes out of authres.format as it went in, as far as it may", function()
    local pieces = { "(", ")", '"', "\\", ";", "=", "a", "@", "spf=pass", "\r\n", "\0", "é", " ", "dkim=pass header.d=evil.example" }
    for _ = 1, 3000 do
      local evil = garbage(pieces, 12)
      local value = moonpost.authres.format {
        id = "mx.example.org",
        results = { { method = "spf", result = "fail", reason = evil, comment = evil, properties = { { "smtp.mailfrom", evil } } } },
      }
      local field = moonpost.authres.parse(value)
      assert(#field.results == 1 and field.results[1].result == "fail" and not field.damaged, value)
      assert(not value:find("[^\r]\n") and not value:find("\r[^\n]") and not value:find("\n[^\t]"), value)
      assert(field.results[1].properties["smtp.mailfrom"] == field.results[1].reason, value)
    end
  end)

  it("makes no verdict of a milter that is none", function()
    local pieces = { "550", " ", "5.7.1", "-", "\r\n", "\0", "X-A", "value", "\0\0\0\1" }
    local letters = "+-24abcdefhilmpqrstyO\0"
    for _ = 1, 5000 do
      local at = random(#letters)
      local answer = wire.answer(letters:sub(at, at), garbage(pieces, 8))
      if answer and answer.what == "reply" then
        assert(answer.code >= 400 and answer.code <= 599 and not answer.text:find("%c"))
        assert(not answer.enhanced or answer.enhanced:sub(1, 1) == tostring(answer.code):sub(1, 1))
      end
      local chosen, why = wire.chosen(garbage(pieces, 8), 0x11)
      assert(chosen or type(why) == "string")
    end
  end)
end)
