local suggest = require "moonpost.suggest"

describe("moonpost.suggest", function()
  local known = { domains = true, hostname = true, listen = true, relay = true }

  it("finds a name with a letter missing, added, changed or swapped", function()
    assert.equal("domains", suggest.nearest("domain", known))
    assert.equal("listen", suggest.nearest("listenn", known))
    assert.equal("relay", suggest.nearest("relai", known))
    assert.equal("hostname", suggest.nearest("hosntame", known))
  end)

  it("looks at the strings of a list too", function()
    assert.equal("PLAIN", suggest.nearest("plain", { "LOGIN", "PLAIN" }))
  end)

  it("suggests nothing far away, too long, or of another type", function()
    assert.is_nil(suggest.nearest("colour", known))
    assert.is_nil(suggest.nearest(("domains"):rep(1000), known))
    assert.is_nil(suggest.nearest(1, known))
    assert.equal("", suggest.hint("colour", known))
  end)

  it("always suggests the same of two that are as near", function()
    for _ = 1, 20 do
      assert.equal("mat", suggest.nearest("rat", { mat = true, sat = true, vat = true }))
    end
  end)

  it("words the hint", function()
    assert.equal(' (did you mean "domains"?)', suggest.hint("domain", known))
  end)
end)
