local dkim = require "moonpost.dkim"
local dns = require "moonpost.dns"
local moonpost = require "moonpost"
local test = require "moonpost.test"
local tmpdir = require "spec.support.tmpdir"

describe("moonpost.plugins.dkim", function()
  local dir, pair, pair_net, zone

  setup(function()
    dir = tmpdir.new()
    pair, pair_net = dkim.keygen "ed25519", dkim.keygen("rsa", 1024)
    dir:write("example.org.pem", pair.private)
    dir:write("broken.example.pem", "no key")
    zone = {
      ["2026._domainkey.example.org"] = { TXT = pair.record }, ["net._domainkey.example.net"] = { TXT = pair_net.record },
      ["also._domainkey.example.net"] = { TXT = pair.record },
    }
  end)

  teardown(function()
    dir:remove()
  end)

  -- What a message by `from` comes to: the reply, and who signed.
  local function send(options, from, how)
    local seen
    local policy = test.load(function()
      local server = moonpost.server {
        hostname = "relay.example.org", listen = "smtp://127.0.0.1:25", relay = { networks = { "10.0.0.0/8" } }, domains = "example.org",
      }
      server:use(require "moonpost.plugins.dkim"(options))
      function server.on.message(_, message)
        seen = assert(message:octets())
        message:discard "spec"
      end
      return server
    end)
    local reply = policy:session({ ip = how and how.ip or "10.1.2.3", helo = "laptop.example.org" }):send_message {
      from = "bounces@example.org", to = "bob@example.org", data = (from and "From: " .. from .. "\r\n" or "") .. "Subject: x\r\n\r\nHello.\r\n",
    }
    local words = {}
    for _, one in ipairs(seen and assert(dkim.verify(seen, { dns = dns.zone(zone) })) or {}) do
      words[#words + 1] = ("%s/%s %s"):format(one.selector, one.domain, one.result)
    end
    return table.concat(words, ", "), reply, policy
  end

  local function folder(more)
    local options = { selector = "2026", key = dir:join "%{domain}.pem" }
    for name, value in pairs(more or {}) do
      options[name] = value
    end
    return options
  end

  it("signs with the key of the author's domain", function()
    assert.equal("2026/example.org pass", (send(folder(), "Ann <ann@Example.ORG>")))
  end)

  it("signs for domains below that of a key, and for none that belongs to others", function()
    assert.equal("2026/example.org pass", (send(folder(), "ann@deep.lists.example.org")))
    assert.equal("", (send(folder(), "ann@example.com")))
    assert.equal("", (send(folder(), "ann@org")))
  end)

  it("signs more than once, and for who is named", function()
    local options = { domains = { ["example.net"] = {
      { selector = "net", key = pair_net.private }, { selector = "also", key = pair.private, canonicalization = "simple" },
    } } }
    assert.equal("net/example.net pass, also/example.net pass", (send(options, "ann@example.net")))
    assert.equal("2026/example.org pass", (send({ domains = { "example.org" }, selector = "2026", key = pair.private }, "ann@example.org")))
  end)

  it("signs for all others by one domain", function()
    assert.equal("2026/example.org pass", (send(folder { fallback = "example.org" }, "ann@example.com")))
  end)

  it("signs mail of ours alone, unless it is told otherwise", function()
    assert.equal("", (send(folder(), "ann@example.org", { ip = "203.0.113.9" })))
    assert.equal("2026/example.org pass", (send(folder { sessions = "all" }, "ann@example.org", { ip = "203.0.113.9" })))
  end)

  it("lets pass what it cannot sign, or refuses it", function()
    assert.equal(250, select(2, send(folder(), nil)).code)
    local _, reply = send(folder { missing = "refuse" }, "ann@example.com")
    assert.equal("550 5.7.1 There is no key to sign for example.com", tostring(reply))
    _, reply = send(folder { missing = "refuse" }, nil)
    assert.matches("^550 5%.7%.1 Cannot be signed: ", tostring(reply))
  end)

  it("signs for the envelope's sender alone, where that is asked for", function()
    assert.equal("2026/example.org pass", (send(folder { author = "sender" }, "Bounces <Bounces@example.org>")))
    for _, from in ipairs { "ann@example.org", "bounces@example.org, ann@example.org", "x: bounces@example.org;" } do
      assert.equal("", (send(folder { author = "sender" }, from)), from)
    end
    local _, reply = send(folder { author = "sender", missing = "refuse" }, "ann@example.org")
    assert.equal("550 5.7.1 Cannot be signed: From is not the sender", tostring(reply))
  end)

  it("sends nothing unsigned when a key cannot be read", function()
    local _, reply, policy = send(folder(), "ann@broken.example")
    assert.equal("451 4.3.0", tostring(reply):sub(1, 9))
    assert.equal("broken.example", policy:logged("not signed")[1].fields.domain)
  end)

  it("looks for no file by a name that is none", function()
    for _, from in ipairs { "ann@../../etc/passwd", "ann@a/b", "<ann@%{domain}>" } do
      assert.equal("", (send(folder(), from)))
    end
  end)

  it("has no key for a name that could name other files, or none", function()
    for _, from in ipairs { "ann@a%c.example", "ann@a%1.example", "ann@a.b/c", "ann@" .. ("a23456789."):rep(25) .. "abc" } do
      local signed, reply = send(folder { missing = "refuse" }, from)
      assert.equal("", signed)
      assert.matches("^550 5.7.1 There is no key", reply)
    end
  end)

  it("refuses options that make no sense, at the policy's line", function()
    local plugin = require "moonpost.plugins.dkim"
    for text, options in pairs {
      ["dkim: key or domains are needed"] = {},
      ["dkim: selector: missing"] = { key = "/etc/%{domain}.pem" },
      ["%{name}: only %{domain} is known"] = { key = "/etc/%{name}.pem", selector = "x" },
      ["domains: example.org: dkim: /nowhere"] = { domains = { ["example.org"] = { selector = "x", key = "/nowhere" } } },
      ["domains: example.org: "] = { domains = { ["example.org"] = { selector = "x", kez = "/nowhere" } } },
      ['"a b" is no domain'] = { fallback = "a b", key = "x", selector = "x" },
      ["missing"] = { missing = "drop", key = "x", selector = "x" },
      ["key: without %{domain} in it there have to be domains"] = { key = "/etc/mail/key.pem", selector = "x" },
      ["headers: From has to be among them"] = { headers = { "To" }, oversign = false, key = "/etc/%{domain}.pem", selector = "x" },
      ["canonicalization: one of"] = { canonicalization = "loose", key = "/etc/%{domain}.pem", selector = "x" },
      ['headers: "a:b" is no name'] = { headers = { "a:b" }, key = "/etc/%{domain}.pem", selector = "x" },
      ["expires: it is too long"] = { expires = 1e15, key = "/etc/%{domain}.pem", selector = "x" },
    } do
      local _, err = pcall(function()
        local made = plugin(options)
        return made
      end)
      assert.matches("^spec/lua/dkim_plugin_spec.lua:%d+: dkim: ", err)
      assert.truthy(err:find(text, 1, true), err)
    end
  end)
end)
