local moonpost = require "moonpost"
local test = require "moonpost.test"

local function answer(policy, how)
  local peer = policy:session { ip = how.ip or "203.0.113.9", helo = "mail.example.net", listener = how.listener,
    auth = how.auth }
  peer:mail(how.from or "a@example.net")
  local reply = peer:rcpt(how.to or "bob@example.org")
  peer:disconnect()
  return reply
end

describe("examples/greylist.lua", function()
  local policy
  before_each(function()
    policy = test.load "examples/greylist.lua"
  end)

  it("asks a stranger to come back, and takes the mail when it does", function()
    local reply = answer(policy, {})
    assert.equal(450, reply.code)
    assert.equal("4.7.1", reply.enhanced)
    assert.equal("Greylisted, please try again in 1m", reply.text)
    policy:advance(30)
    assert.equal("Greylisted, please try again in 30s", answer(policy, {}).text)
    policy:advance(30)
    local peer = policy:session { ip = "203.0.113.9", helo = "mail.example.net" }
    assert.equal(250, peer:send_message({ from = "a@example.net", to = "bob@example.org" }).code)
    assert.equal(1, #policy.sent)
  end)

  it("lets who comes over LMTP pass", function()
    local peer = policy:session { listener = "lmtp", helo = "front.example.org" }
    assert.equal(250, peer:send_message({ from = "a@example.net", to = "bob@example.org" })[1].code)
  end)
end)

describe("moonpost.plugins.greylist", function()
  local function load(options, given, hooks)
    local policy = test.load(function()
      local all = { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25", domains = "example.org" }
      for key, value in pairs(given or {}) do
        all[key] = value
      end
      local server = moonpost.server(all)
      server:use(require "moonpost.plugins.greylist"(options))
      for name, hook in pairs(hooks or {}) do
        server.on[name] = hook
      end
      return server
    end)
    return policy
  end

  it("knows client network, sender and recipient together", function()
    local policy = load()
    answer(policy, {})
    policy:advance("5m")
    assert.equal(250, answer(policy, {}).code)
    assert.equal(250, answer(policy, { ip = "203.0.113.200", from = "A@EXAMPLE.net", to = "BOB@example.org" }).code)
    assert.equal(450, answer(policy, { ip = "203.0.114.9" }).code)
    assert.equal(450, answer(policy, { from = "b@example.net" }).code)
    assert.equal(450, answer(policy, { from = "" }).code)
    assert.equal(450, answer(policy, { to = "eve@example.org" }).code)
  end)

  it("takes a /64 of IPv6 for one client, however it is written", function()
    local policy = load()
    answer(policy, { ip = "2001:db8::1" })
    policy:advance("5m")
    assert.equal(250, answer(policy, { ip = "2001:db8:0:0:1:2:3:4" }).code)
    assert.equal(450, answer(policy, { ip = "2001:db8:0:1::1" }).code)
    answer(policy, { ip = "2001:db8:0:7:1:1:1:1" })
    policy:advance("5m")
    assert.equal(250, answer(policy, { ip = "2001:db8::7:2:2:2:2" }).code)
  end)

  it("forgets who does not come back in time, and who has not written for long", function()
    local policy = load { delay = "5m", window = "1h", keep = "2h" }
    answer(policy, {})
    policy:advance("1h")
    assert.equal(450, answer(policy, {}).code)
    policy:advance("5m")
    assert.equal(250, answer(policy, {}).code)
    policy:advance("90m")
    assert.equal(250, answer(policy, {}).code) -- known from its last mail on
    policy:advance("90m")
    assert.equal(250, answer(policy, {}).code)
    policy:advance("2h")
    assert.equal(450, answer(policy, {}).code)
  end)

  it("asks nobody to wait who may relay, is a user, or is exempt", function()
    local policy = load({ exempt = { "198.51.100.0/24", "2001:db8::/32" } },
      { relay = { networks = { "10.0.0.0/8" } }, auth_in_clear = true }, { auth = function()
        return true, { "*" }
      end })
    assert.equal(250, answer(policy, { ip = "10.1.2.3" }).code)
    assert.equal(250, answer(policy, { ip = "198.51.100.1" }).code)
    assert.equal(250, answer(policy, { ip = "2001:db8::1" }).code)
    assert.equal(250, answer(policy, { auth = { "PLAIN", "me", "any" } }).code)
    assert.equal(450, answer(policy, {}).code)
    assert.equal("5.7.1", answer(policy, { to = "bob@example.com" }).enhanced)
  end)

  it("refuses options that make no sense, at the policy's line", function()
    local greylist = require "moonpost.plugins.greylist"
    for text, options in pairs {
      ['greylist: unknown option "dealy" (did you mean "delay"?)'] = { dealy = 1 },
      ['greylist: exempt: "10.0.0.0/99" is no network'] = { exempt = "10.0.0.0/99" },
      ["greylist: delay: a duration"] = { delay = "soon" },
    } do
      local _, err = pcall(function()
        local plugin = greylist(options)
        return plugin
      end)
      assert.truthy(err:find("greylist_spec.lua:%d+: "), err)
      assert.truthy(err:find(text, 1, true), err)
    end
  end)
end)
