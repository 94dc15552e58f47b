local core = require "moonpost.core"
local credentials = require "moonpost.credentials"
local moonpost = require "moonpost"
local wired = require "spec.support.wired"

local function base64(text)
  local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  return (text:gsub("..?.?", function(chunk)
    local a, b, c = chunk:byte(1, 3)
    local n = a << 16 | (b or 0) << 8 | (c or 0)
    local out = ""
    for i = 0, #chunk do
      local at = n >> (18 - 6 * i) & 63
      out = out .. alphabet:sub(at + 1, at + 1)
    end
    return out .. ("="):rep(3 - #chunk)
  end))
end

describe("moonpost.credentials", function()
  after_each(wired.release_log)

  local FAULT = "454 4.7.0 Temporary authentication failure"

  local function house(define, domains)
    return wired.new({
      domains = domains or { "example.org", "example.com", ".sub.example" }, relay = { authenticated = true },
        auth_in_clear = true,
      limits = { auth_delay = 0 }, listen = { { "smtp://127.0.0.1:25" } },
    }, define)
  end

  local function plain(peer, user, password)
    return peer:command("AUTH PLAIN " .. base64("\0" .. user .. "\0" .. password))
  end

  local accounts = {
    joe = { password = "sesame" },
    ["ann@example.org"] = { password = "sesame" },
    bot = { password = "sesame", senders = { "@example.com", "news@example.org" } },
    mute = { password = "sesame", senders = {} },
    boss = { password = "sesame", senders = "*" },
    scram = { scram = core.password("SCRAM-SHA-256", "sesame") },
  }

  local function with_accounts(server)
    server.on.credentials = function(_, user) return accounts[user] end
  end

  it("lets a user in whose password is known, and nobody else", function()
    local h = house(with_accounts)
    assert.matches("^235 ", plain(h:session(), "joe", "sesame"))
    assert.matches("^535 ", plain(h:session(), "joe", "wrong"))
    assert.matches("^535 ", plain(h:session(), "nobody", "sesame"))
  end)

  it("serves PLAIN from a SCRAM string", function()
    local h = house(with_accounts)
    assert.matches("^235 ", plain(h:session(), "scram", "sesame"))
    assert.matches("^535 ", plain(h:session(), "scram", "wrong"))
  end)

  it("announces PLAIN and LOGIN when passwords can be checked, and bearer tokens when there is a token hook", function()
    assert.is_nil(house():session().ehlo:find("AUTH", 1, true))
    assert.matches("AUTH PLAIN LOGIN", house(with_accounts):session().ehlo)
    local tokens = house(function(server) server.on.token = function() return true end end):session().ehlo
    assert.matches("AUTH XOAUTH2 OAUTHBEARER", tokens)
  end)

  describe("senders", function()
    local here = { hostname = "mx.example.org", domains = { "example.org", ".sub.example" } }

    it("are the user's own address, when the name is one", function()
      assert.same({ "ann@example.net" }, credentials.senders(nil, "ann@example.net", here))
    end)

    it("are the name at each of our domains, when it is none", function()
      assert.same({ "joe@mx.example.org", "joe@example.org" }, credentials.senders(nil, "joe", here))
    end)

    it("are any, when every domain is ours", function()
      assert.same({ "*" }, credentials.senders(nil, "joe", { hostname = "x", domains = { "*" } }))
    end)

    it("are what the hook says", function()
      assert.same({ "a@b", "@c", "*" }, credentials.senders({ "a@b", "@c", "*" }, "joe", here))
      assert.same({ "@c" }, credentials.senders("@c", "joe", here))
      assert.same({}, credentials.senders({}, "joe", here))
    end)

    for name, bad in pairs {
      ["a name alone"] = { "joe" }, ["a space"] = { "joe @b" }, ["a number"] = { 7 },
        ["nothing behind the sign"] = { "joe@" },
      ["true"] = true, ["a control character"] = { "a\0@b" },
    } do
      it("are not " .. name, function()
        local list, why = credentials.senders(bad, "joe", here)
        assert.is_nil(list)
        assert.matches("senders", why)
      end)
    end

    it("are enforced: 553 for what is somebody else's", function()
      local function may(user, address)
        local peer = house(with_accounts):session()
        assert.matches("^235 ", plain(peer, user, "sesame"))
        return peer:command("MAIL FROM:<" .. address .. ">"):sub(1, 9)
      end
      assert.equal("250 2.1.0", may("joe", "joe@example.org"))
      assert.equal("250 2.1.0", may("joe", "joe@EXAMPLE.com"))
      assert.equal("553 5.7.1", may("joe", "boss@example.org"))
      assert.equal("553 5.7.1", may("joe", "joe@example.net"))
      assert.equal("250 2.1.0", may("ann@example.org", "ann@example.org"))
      assert.equal("553 5.7.1", may("ann@example.org", "joe@example.org"))
      assert.equal("250 2.1.0", may("bot", "anything@example.com"))
      assert.equal("250 2.1.0", may("bot", "news@example.org"))
      assert.equal("553 5.7.1", may("bot", "bot@example.org"))
      assert.equal("250 2.1.0", may("boss", "x@anywhere.example"))
      assert.equal("553 5.7.1", may("mute", "mute@example.org"))
      assert.equal("250 2.1.0", may("mute", "")) -- the null reverse-path is always one's own
    end)
  end)

  describe("the auth hook", function()
    it("decides by itself, with the password", function()
      local seen
      local h = house(function(server)
        server.on.auth = function(session, user, password, mechanism)
          seen = { session.ip, user, password, mechanism }
          return password == "open", { "@example.org" }
        end
      end)
      assert.matches("^235 ", plain(h:session(), "any", "open"))
      assert.same({ "203.0.113.9", "any", "open", "PLAIN" }, seen)
    end)

    it("refuses with false or nil", function()
      for _, value in ipairs { false, "nil" } do
        local h = house(function(server)
          server.on.auth = function()
            if value == false then
              return false
            end
          end
        end)
        assert.matches("^535 ", plain(h:session(), "any", "x"))
        assert.equal(0, #h:logged("hook failed"))
      end
    end)

    it("is asked when the credentials hook knows nothing", function()
      local h = house(function(server)
        with_accounts(server)
        server.on.auth = function(_, user, password) return user == "ldap" and password == "x" end
      end)
      assert.matches("^235 ", plain(h:session(), "ldap", "x"))
      assert.matches("^235 ", plain(h:session(), "joe", "sesame"))
      assert.matches("^535 ", plain(h:session(), "joe", "x"))
    end)

    it("may say which reply", function()
      local h = house(function(server)
        server.on.auth = function() return 525, "5.7.13", "Account disabled" end
      end)
      assert.equal("525 5.7.13 Account disabled", plain(h:session(), "any", "x"))
    end)

    it("may wait", function()
      local h = house(function(server)
        server.on.auth = function()
          moonpost.sleep(2)
          return true
        end
      end)
      local peer = h:session()
      assert.equal("", plain(peer, "any", "x"))
      h.worker:advance(2)
      assert.matches("^235 ", peer:read())
    end)
  end)

  it("tokens are the token hook's to judge", function()
    local seen
    local h = house(function(server)
      server.on.token = function(_, user, token, mechanism)
        seen = { user, token, mechanism }
        return token == "good"
      end
    end)
    local function bearer(token)
      return h:session():command("AUTH XOAUTH2 " .. base64("user=joe@example.org\1auth=Bearer " .. token .. "\1\1"))
    end
    assert.matches("^235 ", bearer("good"))
    assert.same({ "joe@example.org", "good", "XOAUTH2" }, seen)
    assert.not_matches("^235", bearer("bad"))
  end)

  describe("a fault is 454, so that a client keeps its password:", function()
    for name, fn in pairs {
      ["an error"] = function() error("boom") end,
      ["nil and an error"] = function() return nil, "database is down" end,
      ["true from the credentials hook"] = function() return true end,
      ["false"] = function() return false end,
      ["a table with nothing to check"] = function() return { senders = "*" } end,
      ["an unknown field"] = function() return { pasword = "x" } end,
      ["a password that is no string"] = function() return { password = 7 } end,
      ["a SCRAM string that is none"] = function() return { scram = "$6$x" } end,
      ["senders that are none"] = function() return { password = "x", senders = { "joe" } } end,
      ["a 2xx reply"] = function() return 235, "2.7.0", "Fine" end,
    } do
      it(name, function()
        local h = house(function(server) server.on.credentials = fn end)
        assert.equal(FAULT, plain(h:session(), "joe", "sesame"))
        assert.equal(1, #h:logged("hook failed", '"hook":"credentials"'))
      end)
    end

    for name, fn in pairs {
      ["nil and an error"] = function() return nil, "LDAP is down" end,
      ["a string"] = function() return "yes" end,
      ["senders that are none"] = function() return true, { "joe" } end,
      ["a raised 2xx"] = function() error(moonpost.Reply(235, "2.7.0", "Fine")) end,
      ["an error"] = function() error("boom") end,
    } do
      it(name .. " from the auth hook", function()
        local h = house(function(server) server.on.auth = fn end)
        assert.equal(FAULT, plain(h:session(), "joe", "sesame"))
      end)
    end

    it("and no password gets into the log", function()
      local h = house(function(server) server.on.auth = function() error("boom") end end)
      plain(h:session(), "joe", "hunter2")
      assert.equal(0, #h:logged("hunter2"))
    end)
  end)
end)
