local moonpost = require "moonpost"
local chain = require "moonpost.chain"
local wired = require "spec.support.wired"

describe("moonpost.chain", function()
  local function server(listen)
    return moonpost.server { hostname = "mx.example.org", listen = listen or { "smtp://127.0.0.1:25" },
      domains = { "example.org" } }
  end

  after_each(wired.release_log)

  local function fails(text, fn)
    local ok, err = pcall(fn)
    assert.is_false(ok)
    assert.matches("^spec/lua/chain_spec.lua:%d+: ", err)
    assert.matches(text, err)
  end

  describe("slots", function()
    it("take a hook once, and give it back", function()
      local s = server()
      local function fn() end
      s.on.rcpt = fn
      assert.equal(fn, s.on.rcpt)
      assert.is_nil(s.on.mail)
      fails("server.on.rcpt is set already, at spec/lua/chain_spec.lua:%d+", function() s.on.rcpt = function() end end)
      assert.equal(fn, s.on.rcpt)
    end)

    it("refuse a name that is no hook's, with the nearest", function()
      fails('there is no hook "recpt" %(did you mean "rcpt"%?%)', function() server().on.recpt = function() end end)
      fails('there is no hook "1"', function() server().on[1] = function() end end)
    end)

    it("refuse what is no function", function()
      fails("server.on.rcpt: a function expected, got a string", function() server().on.rcpt = "no" end)
      fails("a function expected, got a nil", function() server().on.rcpt = nil end)
    end)

    it("can be gone through", function()
      local s = server()
      s.on.rcpt, s.on.mail = function() end, function() end
      local names = {}
      for name, fn in pairs(s.on) do
        assert.is_function(fn)
        names[#names + 1] = name
      end
      table.sort(names)
      assert.same({ "mail", "rcpt" }, names)
    end)

    it("are closed once the server has started", function()
      local house = wired.new()
      fails("the server has started", function() house.server.on.rcpt = function() end end)
      fails("the server has started", function() house.server:use { rcpt = function() end } end)
    end)
  end)

  describe("plug-ins", function()
    it("are refused when a hook is misspelt, or there is none", function()
      fails('there is no hook "recpt" %(did you mean "rcpt"%?%)',
        function() server():use { recpt = function() end } end)
      fails("has no hooks", function() server():use { name = "empty" } end)
      fails("a table of hooks, not a function", function() server():use(print) end)
      fails("rcpt: a function expected, got a boolean", function() server():use { rcpt = true } end)
    end)

    it("may have other fields, and helpers that begin with _", function()
      server():use { name = "x", delay = 5, _helper = function() end, rcpt = function() end }
    end)

    it("may find their hooks by a metatable", function()
      local s = server()
      s:use(setmetatable({ name = "heir" }, { __index = { rcpt = function() end } }))
      assert.equal("rcpt", s:chains()[1].hook)
    end)

    it("refuse unknown options and listeners", function()
      fails('unknown option "listener" %(did you mean "listeners"%?%)', function()
        server():use({ rcpt = function() end }, { listener = "smtp" })
      end)
      fails('there is no listener "smpt" %(did you mean "smtp"%?%)', function()
        server():use({ rcpt = function() end }, { listeners = { "smpt" } })
      end)
    end)
  end)

  it("describes the chains in the order of events and of asking", function()
    local s = server { "smtp://127.0.0.1:25", "lmtp://127.0.0.1:24" }
    s:use({ name = "greylist", rcpt = function() end }, { listeners = { "smtp" } })
    s:use { mail = function() end, rcpt = function() end }
    s.on.rcpt = function() end
    local rows = s:chains()
    assert.same({ "mail", "rcpt" }, { rows[1].hook, rows[2].hook })
    assert.matches("^greylist %(spec/lua/chain_spec.lua:%d+%) on smtp$", rows[2].chain[1])
    assert.matches("^plug%-in 2 %(spec/lua/chain_spec.lua:%d+%)$", rows[2].chain[2])
    assert.matches("^on %(", rows[2].chain[3])
    assert.is_nil(rows[2].chain[4])
  end)

  it("is the hook itself when there is only one", function()
    local function fn() end
    assert.equal(fn, chain.build("rcpt", {}, { fn = fn, place = "x", name = "on" }).fn)
    assert.is_nil(chain.build("rcpt", {}, nil).fn)
  end)

  describe("asking", function()
    local asked

    local function note(name, ...)
      local verdict = table.pack(...)
      return function()
        asked[#asked + 1] = name
        return table.unpack(verdict, 1, verdict.n)
      end
    end

    local function rcpt(define, listener)
      asked = {}
      local house = wired.new({ domains = { "example.org" }, listen = { "smtp://127.0.0.1:25",
        "lmtp://127.0.0.1:24" } }, define)
      local peer = house:connect(nil, listener)
      peer:command((listener == "lmtp" and "LHLO" or "EHLO") .. " a.example")
      peer:command("MAIL FROM:<a@example.net>")
      return peer:command("RCPT TO:<bob@example.org>"), house
    end

    it("goes on to the next while nobody has an opinion", function()
      local reply = rcpt(function(s)
        s:use { rcpt = note("first") }
        s:use { rcpt = note("second", nil) }
        s.on.rcpt = note("slot")
      end)
      assert.equal("250 2.1.5 Recipient OK", reply)
      assert.same({ "first", "second", "slot" }, asked)
    end)

    it("ends with the first reply", function()
      local reply = rcpt(function(s)
        s:use { rcpt = note("first") }
        s:use { rcpt = note("second", 450, "4.7.1", "Greylisted") }
        s.on.rcpt = note("slot", 550, "No")
      end)
      assert.equal("450 4.7.1 Greylisted", reply)
      assert.same({ "first", "second" }, asked)
    end)

    it("ends with true, without an objection", function()
      local reply = rcpt(function(s)
        s:use { rcpt = note("first", true) }
        s.on.rcpt = note("slot", 550, "No")
      end)
      assert.equal("250 2.1.5 Recipient OK", reply)
      assert.same({ "first" }, asked)
    end)

    it("ends with a fault, which is 451, and names whose it was", function()
      local reply, house = rcpt(function(s)
        s:use { name = "sick", rcpt = note("first", nil, "database is down") }
        s.on.rcpt = note("slot")
      end)
      assert.equal("451 4.3.0 Temporary failure, please try again later", reply)
      assert.same({ "first" }, asked)
      assert.equal(1, #house:logged("hook failed", "database is down", "chain_spec.lua"))
    end)

    it("keeps a plug-in to its listeners", function()
      local function define(s)
        s:use({ rcpt = note("smtp only", 550, "No") }, { listeners = { "smtp" } })
        s.on.rcpt = note("slot")
      end
      assert.equal("550 5.0.0 No", (rcpt(define)))
      assert.equal("250 2.1.5 Recipient OK", (rcpt(define, "lmtp")))
      assert.same({ "slot" }, asked)
    end)

    it("keeps a lone plug-in to its listeners too", function()
      local function define(s)
        s:use({ rcpt = note("smtp only", 550, "No") }, { listeners = { "smtp" } })
      end
      assert.equal("550 5.0.0 No", (rcpt(define)))
      assert.equal("250 2.1.5 Recipient OK", (rcpt(define, "lmtp")))
    end)
  end)
end)
