local recipient = require "moonpost.recipient"

describe("moonpost.recipient", function()
  local house, relayed

  local function new(address, localpart, domain, class)
    local session = {
      _house = house,
      _conn = { allow_relay = function() relayed = true end },
    }
    local one = recipient.new(session, 1, address, localpart, domain, class or "local")
    session._asking = one
    return one, session
  end

  before_each(function()
    relayed = false
    house = { separator = "+", is_local = function(domain) return domain:lower() == "example.org" end }
  end)

  it("folds the mailbox and strips the detail, and leaves the rest as received", function()
    local one = new("Bob+News@Example.ORG", "Bob+News", "Example.ORG")
    assert.same({ "bob", "News", "Bob+News", "Example.ORG", "Bob+News@Example.ORG" },
      { one.mailbox, one.detail, one.localpart, one.domain, one.address })
    assert.equal("Bob+News@Example.ORG", tostring(one))
  end)

  it("has no detail where there is none", function()
    local one = new("bob@example.org", "bob", "example.org")
    assert.is_nil(one.detail)
    assert.equal("bob", one.mailbox)
    assert.is_nil(one.detail)
  end)

  it("leaves a separator in front alone, and cuts at the first", function()
    assert.equal("+bob", new("+bob@example.org", "+bob", "example.org").mailbox)
    local one = new("bob+a+b@example.org", "bob+a+b", "example.org")
    assert.same({ "bob", "a+b" }, { one.mailbox, one.detail })
    one = new("bob+@example.org", "bob+", "example.org")
    assert.same({ "bob", "" }, { one.mailbox, one.detail })
  end)

  it("takes another separator, or none", function()
    house.separator = "--"
    assert.equal("bob", new("bob--x@example.org", "bob--x", "example.org").mailbox)
    house.separator = ""
    assert.equal("bob+x", new("bob+x@example.org", "bob+x", "example.org").mailbox)
  end)

  -- RFC 5321 4.1.2: the quoted form of a name is the same name, so a policy that looks a mailbox up must see it
  it("is the same mailbox quoted and unquoted", function()
    local one = new('"Bob+x"@example.org', "Bob+x", "example.org")
    assert.same({ "bob", "x" }, { one.mailbox, one.detail })
  end)

  it("has the parameters of RCPT", function()
    local one = recipient.new({ _house = house }, 2, "a@b", "a", "b", "relay", { orcpt = "x@y" })
    assert.same({ "x@y", 2, "relay" }, { one.params.orcpt, one.index, one.class })
  end)

  it("can be rewritten to one address: the original is kept, the class is that of the new domain", function()
    local one = new("sales@example.org", "sales", "example.org")
    assert.equal("sales", one.mailbox)
    one:rewrite("Bob+orders@example.net")
    assert.same({ "Bob+orders@example.net", "bob", "orders", "relay", "sales@example.org" },
      { one.address, one.mailbox, one.detail, one.class, one.original })
    one:rewrite("ann@example.org")
    assert.same({ "ann", "local", "sales@example.org" }, { one.mailbox, one.class, one.original })
    assert.is_nil(one.detail)
  end)

  it("can be rewritten to many, each once", function()
    local one = new("team@example.org", "team", "example.org")
    one:rewrite("ann@example.org", "bob@example.net", "ann@example.org")
    local list = {}
    recipient.flatten(one, list)
    assert.equal(2, #list)
    assert.same({ "ann@example.org", "local", "team@example.org" }, { list[1].address, list[1].class,
      list[1].original })
    assert.same({ "bob@example.net", "relay", "team@example.org" }, { list[2].address, list[2].class,
      list[2].original })
    assert.equal(list[1].index, list[2].index)
  end)

  it("takes a list, and aliases of aliases", function()
    local one = new("all@example.org", "all", "example.org")
    one:rewrite { "team@example.org", "ann@example.org" }
    one:rewrite { "bob@example.org", "cid@example.org" }
    local list, addresses = {}, {}
    recipient.flatten(one, list)
    for i, each in ipairs(list) do
      addresses[i] = each.address
      assert.equal("all@example.org", each.original)
    end
    table.sort(addresses)
    assert.same({ "ann@example.org", "bob@example.org", "cid@example.org" }, addresses)
  end)

  for name, bad in pairs {
    ["no address"] = {}, ["an empty list"] = { {} }, ["a name alone"] = { "bob" },
      ["brackets"] = { "<bob@example.org>" },
    ["a line break"] = { "bob@example.org\r\nDATA" }, ["a number"] = { 7 }, ["a space"] = { "bob @example.org" },
  } do
    it("refuses to be rewritten to " .. name .. ", at the caller's line", function()
      local one = new("a@example.org", "a", "example.org")
      local ok, err = pcall(function() one:rewrite(table.unpack(bad)) end)
      assert.is_false(ok)
      assert.matches("recipient_spec.lua:%d+: recipient:rewrite: ", err)
      assert.equal("a@example.org", one.address)
    end)
  end

  it("may be relayed only when its own hook says so", function()
    local one, session = new("x@example.net", "x", "example.net", "none")
    one:allow_relay()
    assert.is_true(relayed)
    assert.equal("relay", one.class)
    relayed, session._asking = false, false
    assert.has_error(function() one:allow_relay() end)
    assert.is_false(relayed)
  end)

  it("tells its own from other tables", function()
    assert.is_true(recipient.is(new("a@example.org", "a", "example.org")))
    assert.is_false(recipient.is { address = "a@example.org" })
    assert.is_false(recipient.is("a@example.org"))
  end)
end)
