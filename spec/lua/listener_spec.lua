local listener = require "moonpost.listener"
local options = require "moonpost.options"
local schema = require "moonpost.schema"

describe("moonpost.listener", function()
  local server = options.resolve(schema.session, {}, "p.lua:1")

  local function config(entry, facts, ways)
    local one = assert(listener.new(entry, ways or server, "p.lua:1"))
    return listener.config(one, { size = 10 }, facts or { tls = true, mechanisms = { "PLAIN" }, xclient = false })
  end

  it("offers STARTTLS and AUTH on smtp, and demands neither", function()
    local c = config "smtp://127.0.0.1"
    assert.same({ "smtp", "starttls", false, false }, { c.protocol, c.tls, c.tls_required, c.auth_required })
    assert.same({ "PLAIN" }, c.mechanisms)
    assert.equal("smtp", c.name)
    assert.equal(10, c.size)
  end)

  it("has no TLS without a certificate", function()
    assert.equal("none", config("smtp://127.0.0.1", { tls = false, mechanisms = {} }).tls)
  end)

  it("demands TLS and AUTH on submission, unless told otherwise by name", function()
    local c = config "submission://127.0.0.1"
    assert.same({ "starttls", true, true, false }, { c.tls, c.tls_required, c.auth_required, c.auth_in_clear })
    c = config { "submission://127.0.0.1", tls = "optional", auth = "optional", auth_in_clear = true }
    assert.same({ false, false, true }, { c.tls_required, c.auth_required, c.auth_in_clear })
  end)

  it("speaks TLS from the first octet on smtps and submissions", function()
    for _, scheme in ipairs { "smtps", "submissions" } do
      local c = config(scheme .. "://127.0.0.1")
      assert.same({ "implicit", true }, { c.tls, c.tls_required })
      assert.equal(scheme, c.name)
    end
    local one, why = listener.new({ "smtps://127.0.0.1", tls = "off" }, server)
    assert.is_nil(one)
    assert.matches("TLS from the first octet", why)
  end)

  it("turns TLS and AUTH off", function()
    local c = config { "smtp://127.0.0.1", tls = "off", auth = "off" }
    assert.same({ "none", false, {} }, { c.tls, c.tls_required, c.mechanisms })
  end)

  it("overrides the server's ways", function()
    local ways = options.resolve(schema.session, { lax = { "space" }, early = "tolerate" }, "p.lua:1")
    local c = config("smtp://127.0.0.1", nil, ways)
    assert.same({ { "space" }, "tolerate", "trusted" }, { c.lax, c.early, c.bare })
    c = config({ "smtp://127.0.0.1", lax = "dots", early = "refuse", bare = "repair", long_lines = "refuse" }, nil,
      ways)
    assert.same({ { "dots" }, "refuse", "repair", "refuse" }, { c.lax, c.early, c.bare, c.long_lines })
  end)

  it("takes networks of proxies, tolerance of injection and a profile of priorities from the server or itself", function()
    local ways = options.resolve(schema.session, { proxy = "10.0.0.0/8", priority_profile = "MIXER" }, "p.lua:1")
    local c = config("smtp://127.0.0.1", nil, ways)
    assert.same({ { "10.0.0.0/8" }, false, "MIXER" }, { c.proxy, c.tolerate_injection, c.priority_profile })
    c = config({ "smtp://127.0.0.1", proxy = {}, tolerate_injection = true, priority_profile = "NSEP" }, nil, ways)
    assert.same({ {}, true, "NSEP" }, { c.proxy, c.tolerate_injection, c.priority_profile })
    for entry, why in pairs {
      [{ "lmtp://unix:/x", proxy = "10.0.0.0/8" }] = "proxy: who connects to a unix socket has no address",
      [{ "smtp://", proxy = "here" }] = 'proxy: "here" is no network',
      [{ "smtp://", priority_profile = "A B" }] = "priority_profile: a word of printable ASCII",
    } do
      local one, said = listener.new(entry, ways, "p.lua:1")
      assert.is_nil(one)
      assert.matches(why, said, 1, true)
    end
  end)

  it("announces what promises a queue, and BINARYMIME, only when asked", function()
    local function has(c, name)
      for _, each in ipairs(c.extensions) do
        if each == name then
          return true
        end
      end
      return false
    end
    local c = config "smtp://127.0.0.1"
    for _, name in ipairs { "DSN", "DELIVERBY", "FUTURERELEASE", "MT-PRIORITY", "REQUIRETLS", "BINARYMIME",
      "XCLIENT" } do
      assert.is_false(has(c, name))
    end
    c = config { "smtp://127.0.0.1", extensions = { "DSN", CHUNKING = false } }
    assert.is_true(has(c, "DSN"))
    assert.is_false(has(c, "CHUNKING"))
    assert.is_true(has(c, "PIPELINING"))
    assert.is_true(has(config("smtp://127.0.0.1", { tls = true, mechanisms = {}, xclient = true }), "XCLIENT"))
  end)

  it("reads the mode of a unix socket", function()
    assert.equal(432, listener.new({ "lmtp://unix:/run/x", mode = "0660" }, server).mode)
    assert.matches("only unix sockets", select(2, listener.new({ "smtp://127.0.0.1", mode = "0660" }, server)))
    assert.matches("0660", select(2, listener.new({ "lmtp://unix:/run/x", mode = "rw" }, server)))
  end)

  it("takes a name", function()
    assert.equal("inside", config({ url = "smtp://127.0.0.1", name = "inside" }).name)
  end)

  for name, case in pairs {
    ["an unknown option"] = { { "smtp://127.0.0.1", nmae = "x" }, 'unknown option "nmae" %(did you mean "name"%?%)' },
    ["no URL"] = { { name = "x" }, "without a URL" },
    ["a number"] = { 25, "a URL or a table expected" },
    ["an unknown extension"] = { { "smtp://127.0.0.1", extensions = { "DNS" } },
      'unknown name "DNS" %(did you mean "DSN"' },
    ["an extension without the one it needs"] = { { "smtp://127.0.0.1", extensions = { ["8BITMIME"] = false } },
      "SMTPUTF8 needs 8BITMIME" },
    ["an extension that is neither on nor off"] = { { "smtp://127.0.0.1", extensions = { DSN = 1 } }, "true or false" },
    ["an unknown laxity"] = { { "smtp://127.0.0.1", lax = "spaces" }, 'unknown name "spaces" %(did you mean "space"' },
    ["an unknown mechanism"] = { { "smtp://127.0.0.1", mechanisms = "PLIAN" },
      'unknown name "PLIAN" %(did you mean "PLAIN"' },
  } do
    it("refuses " .. name, function()
      local one, why = listener.new(case[1], server)
      assert.is_nil(one)
      assert.matches(case[2], why)
    end)
  end

  it("takes mechanisms in any case", function()
    assert.same({ "SCRAM-SHA-256" }, config({ "smtp://127.0.0.1", mechanisms = "scram-sha-256" }).mechanisms)
  end)
end)
