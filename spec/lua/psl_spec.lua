local moonpost = require "moonpost"
local tmpdir = require "spec.support.tmpdir"

local psl = moonpost.psl

describe("moonpost.psl", function()
  it("has the registrable domain of a name", function()
    assert.equal("example.com", psl.registrable "mail.example.com")
    assert.equal("example.co.uk", psl.registrable "a.b.Example.co.uk.")
    assert.equal("bücher.example", psl.registrable "a.BÜCHER.example")
  end)

  for _, name in ipairs { "", ".", "com", "co.uk", ".example.com", "a..example.com", "192.0.2.1", "[192.0.2.1]:25 ", "a b.example.com" } do
    it(('has none of "%s"'):format(name), function()
      assert.is_nil(psl.registrable(name))
    end)
  end

  it("asks another list, for as long as it is used", function()
    local folder <close> = tmpdir.new()
    folder:write("list.dat", "// ours\nexample.com\n")
    local list = assert(psl.load(folder:join "list.dat"))
    assert.equal("a.example.com", list:registrable "b.a.example.com")
    assert.is_nil(psl.use(list))
    assert.equal("a.example.com", psl.registrable "b.a.example.com")
    assert.equal(list, psl.use(nil))
    assert.equal("example.com", psl.registrable "b.a.example.com")
  end)

  it("says why a file is no list", function()
    local list, why = psl.load "/nowhere/list.dat"
    assert.is_nil(list)
    assert.equal("/nowhere/list.dat: not found", why)
    local folder <close> = tmpdir.new()
    folder:write("empty.dat", "")
    assert.matches("no list of public suffixes", select(2, psl.load(folder:join "empty.dat")))
  end)

  it("raises where it is misused", function()
    assert.error_matches(function() psl.registrable(nil) end, "^psl%.registrable: a name expected, got a nil")
    assert.error_matches(function() psl.load(nil) end, "^psl%.load: a path expected, got a nil")
    assert.error_matches(function() psl.use {} end, "^psl%.use: what psl%.load returned is expected")
    assert.is_false(psl.is_list(io.stdout))
    assert.is_true(psl.is_list(psl.default()))
  end)
end)
