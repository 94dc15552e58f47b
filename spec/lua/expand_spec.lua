local expand = require "moonpost.expand"

describe("moonpost.expand", function()
  local message = { id = "ID1", session = { user = "joe" }, time = 86400 * 365 }

  local function fill(template, recipient)
    return expand.fill(assert(expand.parse(template)), recipient, message)
  end

  local bob = { mailbox = "bob", localpart = "Bob+x", domain = "Example.ORG", detail = "x" }

  it("fills in every name", function()
    assert.equal("/m/bob/Bob+x/example.org/x", fill("/m/%{mailbox}/%{localpart}/%{domain}/%{detail}", bob))
    assert.equal("ID1-joe-1971-01-01", fill("%{id}-%{user}-%{date}", bob))
  end)

  it("leaves other text alone, and %% is a percent sign", function()
    assert.equal("/a/b%{mailbox}", fill("/a/b%%{mailbox}", bob))
    assert.equal("100% of %x", fill("100% of %x", bob))
    assert.equal("", fill("", bob))
  end)

  it("refuses a name that is not known, with the nearest", function()
    local parts, why = expand.parse("/m/%{mailbx}")
    assert.is_nil(parts)
    assert.matches('unknown name %%{mailbx} %(did you mean "mailbox"%?%)', why)
    assert.matches("without its }", select(2, expand.parse("/m/%{mailbox")))
  end)

  for name, value in pairs {
    ["a slash"] = "a/b", ["a parent folder"] = "..", ["a dot in front"] = ".ssh", ["a dash in front"] = "-rf",
      ["NUL"] = "a\0b",
    ["a line break"] = "a\nb", ["DEL"] = "a\127", ["a C1 control"] = "a\u{85}b", ["a whole path"] = "/etc/passwd",
  } do
    it("refuses a value with " .. name, function()
      for _, field in ipairs { "mailbox", "localpart", "detail" } do
        local text, kind = fill("/var/mail/%{" .. field .. "}", { [field] = value })
        assert.is_nil(text)
        assert.equal("refused", kind)
      end
    end)
  end

  it("does not let an empty value name the folder above", function()
    local text, kind, why = fill("/var/mail/%{detail}", { mailbox = "bob" })
    assert.is_nil(text)
    assert.equal("empty", kind)
    assert.matches("%%{detail} is empty", why)
    assert.equal("empty", select(2, fill("/var/mail/%{mailbox}", { mailbox = "" })))
  end)

  it("uses the default where a value is empty, but not where it is refused", function()
    assert.equal("/m/INBOX", fill("/m/%{detail:INBOX}", { mailbox = "bob" }))
    assert.equal("/m/x", fill("/m/%{detail:INBOX}", bob))
    assert.equal("refused", select(2, fill("/m/%{detail:INBOX}", { detail = "../x" })))
  end)

  it("does not expand what a peer wrote", function()
    assert.equal("/m/%{id}", fill("/m/%{mailbox}", { mailbox = "%{id}" }))
  end)

  it("keeps only so many templates", function()
    for i = 1, 1000 do
      assert.equal("/" .. i .. "/bob", fill("/" .. i .. "/%{mailbox}", bob))
    end
  end)
end)
