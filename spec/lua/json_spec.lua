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

describe("moonpost.json, reading", function()
  it("reads what another writer wrote", function()
    local value = {
      text = 'q " \\ / \n \t \7 \127 \u{e4} \u{1f319}', list = { 1, 2.5, true, "x", {} }, none = {}, deep = { a = { b = { c = -0.125 } } },
    }
    assert.same(value, json.decode(dkjson.encode(value)))
    assert.same(value, json.decode(json.encode(value)))
  end)

  it("knows every form of a value", function()
    for text, value in pairs {
      ["0"] = 0, ["-0"] = 0, ["-12"] = -12, ["1.5e3"] = 1500.0, ["1E-2"] = 0.01, ["9223372036854775807"] = math.maxinteger, ["true"] = true,
      ["false"] = false, ['""'] = "", [ [["\ud83c\udf19\u00e4\/\b"]] ] = "\u{1f319}\u{e4}/\b", [" \t\r\n7 "] = 7,
    } do
      assert.same({ value }, { json.decode(text) }, text)
    end
    assert.equal("integer", math.type(json.decode "3"))
    assert.equal("float", math.type(json.decode "3.0"))
    assert.same({}, { json.decode "null" })
    assert.same({ a = 1, c = { 1, nil, 3 } }, json.decode '{"a":1,"b":null,"c":[1,null,3]}')
  end)

  it("refuses everything else, and says where", function()
    for text, why in pairs {
      [""] = "octet 1: a value expected", ["01"] = "octet 1: a value expected", ["1."] = "octet 2: something behind", ["+1"] = "a value",
      ["[1,]"] = "octet 4: a value", ["[1"] = "octet 3: a comma or ]", ["{1:2}"] = "octet 2: a name", ['{"a" 1}'] = "octet 6: a colon",
      ['{"a":1,}'] = "octet 8: a name", ['"a'] = "without an end", ['"\n"'] = "control character", [ [["\x"]] ] = "no such escape",
      [ [["\u12"]] ] = "hexadecimal", [ [["\ud800"]] ] = "half a character", [ [["\udc00"]] ] = "half a character",
      ["nul"] = "a value",
      ["true1"] = "something behind", ["NaN"] = "a value", ["\xff"] = "not UTF-8", [("["):rep(100)] = "too deep",
      ["{} {}"] = "octet 4: something behind",
    } do
      local value, said = json.decode(text)
      assert.is_nil(value, text)
      assert.truthy(said and said:find(why, 1, true), text .. ": " .. tostring(said))
    end
  end)
end)
