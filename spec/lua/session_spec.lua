local moonpost = require "moonpost"
local wired = require "spec.support.wired"

describe("moonpost.session", function()
  after_each(wired.release_log)

  local function inside(hook, fn, options)
    local seen = {}
    local house = wired.new(options or { domains = { "example.org" } }, function(server)
      server.on[hook] = function(session, ...) return fn(seen, session, ...) end
    end)
    return seen, house
  end

  it("knows the peer and the listener", function()
    local seen, house = inside("mail", function(seen, s)
      seen.facts = { s.ip, s.port, s.listener, s.protocol, s.helo, s.helo, s.esmtp, s.user, s.tls, s.unix, s.alive,
        s.may_relay }
    end, { relay = { networks = { "203.0.113.0/24" } } })
    house:session():command("MAIL FROM:<a@b.c>")
    assert.same({ "203.0.113.9", 40000, "smtp", "smtp", "client.example" }, { table.unpack(seen.facts, 1, 5) })
    assert.same({ true, false, true, true }, { seen.facts[7], seen.facts[10], seen.facts[11], seen.facts[12] })
    assert.is_nil(seen.facts[8])
    assert.is_nil(seen.facts[9])
  end)

  it("shows the helo hook the name and which verb it was", function()
    local seen, house = inside("helo", function(seen, _, name, esmtp) seen[#seen + 1] = { name, esmtp } end)
    local peer = house:session()
    peer:command("HELO other.example")
    assert.same({ { "client.example", true }, { "other.example", false } }, seen)
  end)

  it("tells HELO from EHLO", function()
    local seen, house = inside("mail", function(seen, s) seen[#seen + 1] = { s.helo, s.esmtp } end)
    local peer = house:connect()
    peer:command("HELO old.example")
    peer:command("MAIL FROM:<a@b.c>")
    assert.same({ { "old.example", false } }, seen)
  end)

  it("has a table for the script, one for each session", function()
    local seen, house = inside("mail", function(seen, s)
      s.data.count = (s.data.count or 0) + 1
      seen[#seen + 1] = s.data.count
    end)
    local one, two = house:session(), house:session()
    one:command("MAIL FROM:<a@b.c>")
    one:command("RSET")
    one:command("MAIL FROM:<a@b.c>")
    two:command("MAIL FROM:<a@b.c>")
    assert.same({ 1, 2, 1 }, seen)
  end)

  it("cannot be written to by mistake", function()
    local _, house = inside("connect", function(_, s) s.mailboxes = {} end)
    assert.matches("^451 ", house:connect().banner)
    assert.equal(1, #house:logged("session.mailboxes cannot be set; session.data is yours"))
  end)

  it("has an id of its own, and reads as text", function()
    local seen, house = inside("connect", function(seen, s) seen[#seen + 1] = { s.id, s.id, tostring(s) } end)
    house:connect()
    house:connect()
    assert.equal(seen[1][1], seen[1][2])
    assert.not_equal(seen[1][1], seen[2][1])
    assert.matches("^s%x+%-%x+$", seen[1][1])
    assert.matches("%[203.0.113.9%]:40000$", seen[1][3])
  end)

  it("tells hooks the transaction's sender with its parameters", function()
    local seen, house = inside("mail", function(seen, _, sender)
      seen[#seen + 1] = { sender.address, sender.localpart, sender.domain, sender.mailbox, sender.detail,
        tostring(sender) }
      seen.params = sender.params
    end)
    house:session():command("MAIL FROM:<Ann+x@Example.NET> SIZE=100 BODY=8BITMIME")
    assert.same({ "Ann+x@Example.NET", "Ann+x", "Example.NET", "ann", "x", "Ann+x@Example.NET" }, seen[1])
    assert.same({ size = 100, body = "8BITMIME" }, seen.params)
    seen.params = nil
    house:session():command("MAIL FROM:<>")
    assert.equal("", seen[2][1])
    assert.is_nil(seen.params)
  end)

  describe("close", function()
    it("refuses and closes, whatever was going on", function()
      local seen, house = inside("helo", function(_, s) s:close(421, "4.7.0", "Come back later") end)
      assert.same({}, seen)
      local peer = house:connect()
      assert.equal("421 4.7.0 Come back later", peer:command("EHLO a"):gsub("^421 Come", "421 4.7.0 Come"))
      assert.is_true(peer:closed())
    end)

    it("works from the reset hook, which has no verdict", function()
      local _, house = inside("reset", function(_, s) s:close(421, "4.7.0", "Enough") end)
      local peer = house:session()
      peer:command("MAIL FROM:<a@b.c>")
      assert.matches("421 4.7.0 Enough", peer:command("RSET"))
      assert.is_true(peer:closed())
    end)

    it("raises on what closes nothing", function()
      local seen, house = inside("helo", function(seen, s)
        seen.ok1, seen.err1 = pcall(s.close, s, 250, "Fine")
        seen.ok2 = pcall(s.close, s, "no")
        seen.ok3 = pcall(s.close, s, 421, "4.7.0", "a\r\nb")
      end)
      house:session()
      assert.same({ false, false, false }, { seen.ok1, seen.ok2, seen.ok3 })
      assert.matches("closed with 221, 4xx or 5xx, not with 250", seen.err1)
    end)
  end)

  describe("after the end", function()
    it("still knows the peer, and that it is gone", function()
      local kept
      local _, house = inside("mail", function(_, s) kept = s end)
      local peer = house:session()
      peer:command("MAIL FROM:<a@b.c>")
      peer:command("QUIT")
      house:settle()
      assert.is_false(kept.alive)
      assert.same({ "203.0.113.9", 40000, "client.example", "smtp" }, { kept.ip, kept.port, kept.helo, kept.listener })
      kept:close(421, "x") -- nobody is there to hear it
    end)
  end)

  describe("told-only hooks", function()
    it("hear of reset, quit and disconnect in order, and cannot refuse", function()
      local heard = {}
      local house = wired.new({ domains = { "example.org" } }, function(server)
        for _, name in ipairs { "reset", "quit", "disconnect" } do
          server.on[name] = function(_, why)
            heard[#heard + 1] = name .. (type(why) == "string" and why ~= "" and "!" or "")
            return 550, "No"
          end
        end
      end)
      local peer = house:session()
      peer:command("MAIL FROM:<a@b.c>")
      assert.equal("250 2.0.0 OK", peer:command("RSET"))
      assert.matches("^221 ", peer:command("QUIT"))
      house:settle()
      assert.same({ "reset", "quit", "disconnect!" }, heard)
    end)

    it("each run, even when one of them raises", function()
      local heard = {}
      local house = wired.new(nil, function(server)
        server:use { name = "bad", disconnect = function() error("boom") end }
        server:use { name = "slow", disconnect = function() moonpost.sleep(5) heard[#heard + 1] = "slow" end }
        server.on.disconnect = function(s) heard[#heard + 1] = s.ip end
      end)
      local peer = house:session()
      peer:command("QUIT")
      house:settle()
      assert.same({ "203.0.113.9" }, heard)
      assert.equal(1, #house:logged("hook failed", "boom", "disconnect"))
      house.worker:advance(5)
      assert.same({ "203.0.113.9", "slow" }, heard)
    end)
  end)

  describe("a peer that leaves", function()
    it("while a hook waits cancels the wait, and a pcall cannot swallow it", function()
      local trail = {}
      local house = wired.new({ domains = { "example.org" } }, function(server)
        server.on.rcpt = function()
          local closed <close> = setmetatable({}, { __close = function() trail[#trail + 1] = "closed" end })
          local _ = closed
          trail[#trail + 1] = select(2, pcall(moonpost.sleep, 10)).kind
          moonpost.sleep(10)
          trail[#trail + 1] = "never"
        end
        server.on.disconnect = function(s)
          trail[#trail + 1] = "disconnect"
          moonpost.sleep(1)
          trail[#trail + 1] = "not cancelled " .. s.ip
        end
      end)
      local peer = house:session()
      peer:command("MAIL FROM:<a@b.c>")
      assert.equal("", peer:command("RCPT TO:<bob@example.org>"))
      peer.wire:lose()
      house:settle()
      house.worker:advance(1)
      house:settle()
      table.sort(trail)
      assert.same({ "cancelled", "closed", "disconnect", "not cancelled 203.0.113.9" }, trail)
      assert.equal(0, #house:logged("hook failed"))
    end)
  end)
end)
