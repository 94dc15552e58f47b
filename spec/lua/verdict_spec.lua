local moonpost = require "moonpost"
local wired = require "spec.support.wired"

local FAULT = "451 4.3.0 Temporary failure, please try again later"

describe("moonpost.verdict", function()
  after_each(wired.release_log)

  -- What the peer hears when the rcpt hook does this.
  local function rcpt(fn, address)
    local house = wired.new({ domains = { "example.org" } }, function(server) server.on.rcpt = fn end)
    local peer = house:session()
    peer:command("MAIL FROM:<a@example.net>")
    local reply = peer:command("RCPT TO:<" .. (address or "bob@example.org") .. ">")
    return reply, house, peer
  end

  local function returns(...)
    local values = table.pack(...)
    return function() return table.unpack(values, 1, values.n) end
  end

  describe("no objection", function()
    for name, fn in pairs { ["nothing"] = returns(), ["nil"] = returns(nil), ["nil twice"] = returns(nil, nil),
      ["true"] = returns(true) } do
      it("is " .. name, function()
        assert.equal("250 2.1.5 Recipient OK", (rcpt(fn)))
      end)
    end
  end)

  describe("a reply", function()
    for name, case in pairs {
      ["code and text"] = { returns(550, "No such mailbox"), "550 5.0.0 No such mailbox" },
      ["code, enhanced code and text"] = { returns(550, "5.1.1", "No such mailbox"), "550 5.1.1 No such mailbox" },
      ["code, nil and text"] = { returns(452, nil, "Later"), "452 4.0.0 Later" },
      ["a 2xx of the script's own"] = { returns(250, "2.1.5", "Ah, Bob"), "250 2.1.5 Ah, Bob" },
      ["several lines"] = { returns(550, "5.7.1", "one\ntwo"), "550-5.7.1 one\n550 5.7.1 two" },
      ["a Reply"] = { returns(moonpost.Reply(551, "5.1.6", "Moved")), "551 5.1.6 Moved" },
    } do
      it("may be " .. name, function()
        assert.equal(case[2], (rcpt(case[1])))
      end)
    end

    it("may be raised from deep inside a helper", function()
      local function check() error(moonpost.Reply(550, "5.7.1", "Not for you")) end
      local reply, house = rcpt(function() check() end)
      assert.equal("550 5.7.1 Not for you", reply)
      assert.equal(0, #house:logged("hook failed"))
      assert.equal(1, #house:logged('"refused"', "5.7.1", "bob@example.org"))
    end)

    it("may be raised after a wait", function()
      local reply, house, peer = rcpt(function()
        moonpost.sleep(5)
        error(moonpost.Reply(550, "5.7.1", "Thought about it"))
      end)
      assert.equal("", reply)
      house.worker:advance(5)
      assert.equal("550 5.7.1 Thought about it", peer:read())
    end)

    it("of 421 closes", function()
      local reply, _, peer = rcpt(returns(421, "4.7.0", "Go away"))
      assert.equal("421 4.7.0 Go away", reply)
      assert.is_true(peer:closed())
    end)
  end)

  describe("a fault", function()
    for name, fn in pairs {
      ["false"] = returns(false),
      ["nil and an error"] = returns(nil, "connection refused"),
      ["a string"] = returns("550 no"),
      ["a table"] = returns {},
      ["true and something"] = returns(true, "yes"),
      ["a code alone"] = returns(550),
      ["a code out of range"] = returns(999, "text"),
      ["a 3xx code"] = returns(354, "go on"),
      ["an enhanced code of another class"] = returns(550, "4.1.1", "text"),
      ["a text with a carriage return"] = returns(550, "5.1.1", "no\r\n250 yes"),
      ["a text with a NUL"] = returns(550, "5.1.1", "no\0"),
      ["a number for a text"] = returns(550, "5.1.1", 1),
      ["an error"] = function() error("boom") end,
      ["an error that is a table"] = function() error({}) end,
      ["an error that is nil"] = function() error() end,
    } do
      it("is " .. name .. ": 451 says nothing, the log says where", function()
        local reply, house, peer = rcpt(fn)
        assert.equal(FAULT, reply)
        local lines = house:logged("hook failed")
        assert.equal(1, #lines)
        assert.matches('"level":"error"', lines[1])
        assert.matches('"hook":"rcpt"', lines[1])
        assert.matches('"at":"spec/lua/verdict_spec.lua:%d+"', lines[1])
        assert.equal("250 2.0.0 OK", peer:command("NOOP"))
      end)
    end

    it("has its traceback in the log", function()
      local function deep() error("boom") end
      local _, house = rcpt(function() deep() end)
      assert.equal(1, #house:logged("boom", "stack traceback", "deep"))
    end)

    it("is a hook that takes too long", function()
      local reply, house, peer = rcpt(function() moonpost.sleep(1000) end)
      assert.equal("", reply)
      house.worker:advance(30)
      assert.equal(FAULT, peer:read())
      assert.equal(1, #house:logged("hook failed", "took longer than 30 s"))
    end)

    it("is 451 for every hook with a verdict", function()
      for _, case in ipairs {
        { "connect", {}, "451 " }, { "helo", { "EHLO a" }, "451 " }, { "mail", { "EHLO a", "MAIL FROM:<a@b.c>" },
          "451 4.3.0 " },
        { "data", { "EHLO a", "MAIL FROM:<a@b.c>", "RCPT TO:<bob@example.org>", "DATA" }, "451 4.3.0 " },
        { "message", { "EHLO a", "MAIL FROM:<a@b.c>", "RCPT TO:<bob@example.org>", "DATA", "\r\nx\r\n." },
          "451 4.3.0 " },
      } do
        local house = wired.new({ domains = { "example.org" } }, function(server)
          server.on[case[1]] = function() error("boom") end
        end)
        local peer = house:connect()
        local reply = peer.banner
        for _, line in ipairs(case[2]) do
          reply = peer:command(line)
        end
        assert.matches("^" .. case[3], reply)
      end
    end)
  end)

  it("lets no script answer 2xx to DATA", function()
    local house = wired.new({ domains = { "example.org" } }, function(server) server.on.data = returns(250, "Fine") end)
    local peer = house:session()
    peer:command("MAIL FROM:<a@b.c>")
    peer:command("RCPT TO:<bob@example.org>")
    assert.equal(FAULT, peer:command("DATA"))
    assert.equal(1, #house:logged("makes no sense before DATA"))
  end)

  describe("relaying", function()
    it("is not opened by true", function()
      assert.equal("550 5.7.1 Relaying denied", (rcpt(returns(true), "x@example.net")))
    end)

    it("is not opened by a 2xx reply either", function()
      assert.equal("550 5.7.1 Relaying denied", (rcpt(returns(250, "Fine"), "x@example.net")))
    end)

    it("is not opened by rewriting to a local address", function()
      assert.equal("550 5.7.1 Relaying denied", (rcpt(function(_, r) r:rewrite("bob@example.org") end,
        "x@example.net")))
    end)

    it("is opened by allow_relay, for that recipient alone", function()
      local _, _, peer = rcpt(function(_, r)
        if r.localpart == "x" then
          r:allow_relay()
        end
      end, "x@example.net")
      assert.equal("550 5.7.1 Relaying denied", peer:command("RCPT TO:<y@example.net>"))
      assert.equal("250 2.1.5 Recipient OK", peer:command("RCPT TO:<x@example.com>"))
    end)

    it("is not opened from another hook, or later", function()
      local kept
      local reply, house, peer = rcpt(function(_, r)
        kept = kept or r
        if r ~= kept then
          kept:allow_relay()
        end
      end)
      assert.equal("250 2.1.5 Recipient OK", reply)
      assert.equal(FAULT, peer:command("RCPT TO:<y@example.net>"))
      assert.equal(1, #house:logged("only the rcpt hook may say so"))
    end)
  end)

  -- RFC 5321 4.5.1
  describe("postmaster", function()
    for name, fn in pairs {
      ["a refusal"] = returns(550, "No"), ["a fault"] = returns(false), ["an error"] = function() error("boom") end,
      ["a raised reply"] = function() error(moonpost.Reply(550, "No")) end,
    } do
      it("of a local domain is reachable whatever the hook says: " .. name, function()
        assert.equal("250 2.1.5 Recipient OK", (rcpt(fn, "PostMaster@example.org")))
        local reply, house = rcpt(fn, "postmaster")
        assert.equal("250 2.1.5 Recipient OK", reply)
        assert.equal(1, #house:logged("postmaster is reachable"))
      end)
    end

    it("of another domain is nobody special", function()
      assert.equal("550 5.0.0 No", (rcpt(returns(550, "No"), "postmaster@example.net")))
    end)
  end)
end)
