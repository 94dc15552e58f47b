local json = require "moonpost.json"
local dkjson = require "dkjson"

describe("moonpost.json", function()
  it("writes what another parser reads back", function()
    local value = {
      text = 'quote " backslash \\ newline \n tab \t bell \7 delete \127 umlaut \u{e4} \u{1f319}', list = { 1, 2.5,
        true, "x" },
      nested = { deep = { deeper = "y" } }, [3] = "number key",
    }
    local back = assert(dkjson.decode(json.encode(value)))
    assert.equal(value.text, back.text)
    assert.same(value.list, back.list)
    assert.same(value.nested, back.nested)
    assert.equal("number key", back["3"])
  end)

  it("writes octets that are no text as \\xNN", function()
    assert.equal([[a\xff\x80b]], dkjson.decode(json.encode("a\xff\x80b")))
  end)

  it("never fails: what has no form in JSON becomes a string or null", function()
    assert.equal("null", json.encode(0 / 0))
    assert.equal("null", json.encode(math.huge))
    assert.matches('^"function: ', json.encode(print))
    local loop = {}
    loop.loop = loop
    assert.is_table(dkjson.decode(json.encode(loop)))
    assert.equal('"told"', json.encode(setmetatable({}, { __tostring = function() return "told" end })))
  end)

  it("sorts keys and keeps numbers whole", function()
    assert.equal('{"a":1,"b":12345678901234,"c":0.5}', json.encode { c = 0.5, a = 1, b = 12345678901234 })
    assert.equal("{}", json.encode {})
  end)
end)
