local certs = require "spec.support.certs"
local core = require "moonpost.core"
local dns = require "moonpost.dns"
local https = require "spec.support.https"
local moonpost = require "moonpost"
local mtasts = require "moonpost.mtasts"
local peers = require "spec.support.peers"
local task = require "moonpost.task"
local tmpdir = require "spec.support.tmpdir"
local wired = require "spec.support.wired"

local function text(mode, mx, max_age)
  return ("version: STSv1\nmode: %s\nmx: %s\nmax_age: %d\n"):format(mode or "enforce", mx or "mx.example.org", max_age or 604800)
end

-- A house with a clock that the spec turns, a zone that it changes, and a web server that is a function.
local function house(options)
  local self = { worker = core.virtual_worker(), fetched = 0, body = text(), id = "1" }
  self.worker:set_time(1700000000)
  local zone = setmetatable({}, getmetatable(dns.zone {}))
  function zone._ask(_, name, kind)
    assert(kind == "TXT")
    if self.id == "servfail" then
      return nil, "servfail"
    elseif name ~= "_mta-sts.example.org" or not self.id then
      return { ttl = 60, status = "insecure", name = name, nxdomain = true }
    end
    return { "v=STSv1; id=" .. self.id .. ";", ttl = 60, status = "insecure", name = name }
  end
  local given = {
    dns = zone,
    fetch = function(domain, url)
      assert.equal("https://mta-sts." .. domain .. "/.well-known/mta-sts.txt", url)
      self.fetched = self.fetched + 1
      if self.slow then
        task.sleep(self.slow)
      end
      return self.body, self.why
    end,
  }
  for name, value in pairs(options or {}) do
    given[name] = value
  end
  self.sts = mtasts.new(given)
  function self.start(_, fn)
    local ok, result = task.hook(self.worker, 1000, function(_, ...)
      self.late = table.pack(...)
    end, fn)
    assert(ok ~= false, result)
    return ok, result
  end
  function self.lookup(_, domain)
    local policy, why
    self:start(function()
      policy, why = self.sts:lookup(domain or "example.org")
    end)
    self.worker:advance(0)
    return policy, why
  end
  return self
end

describe("moonpost.mtasts", function()
  after_each(wired.release_log)

  it("has a policy where there is a record and a file", function()
    local h = house()
    local policy = assert(h:lookup())
    assert.same({ "enforce", "example.org", "1", 1700000000 }, { policy.mode, policy.domain, policy.id, policy.fetched })
    assert.is_true(policy:matches "mx.example.org")
  end)

  it("has none where there is no record, and does not ask for the file", function()
    local h = house()
    h.id = nil
    local policy, why = h:lookup()
    assert.is_nil(policy)
    assert.equal("there is no MTA-STS record", why)
    assert.equal(0, h.fetched)
  end)

  for _, name in ipairs { "", "[192.0.2.1]", "192.0.2.1", "a..b", "a/b", "..", "a\0b", ("a."):rep(200) } do
    it(("has none for %q"):format(name:sub(1, 20)), function()
      local h = house()
      assert.is_nil((h:lookup(name)))
      assert.equal(0, h.fetched)
    end)
  end

  it("looks at the file again when the id changes, and not before", function()
    local h = house()
    h:lookup()
    h.worker:advance(120)
    h.body = text("testing")
    assert.equal("enforce", h:lookup().mode)
    assert.equal(1, h.fetched)
    h.id = "2"
    local policy = h:lookup()
    assert.same({ "testing", "2", 2 }, { policy.mode, policy.id, h.fetched })
  end)

  it("looks at it again once a day, so that it does not run out", function()
    local h = house()
    h:lookup()
    for _ = 1, 20 do
      h.worker:advance(86400)
      assert.is_not_nil(h:lookup())
    end
    assert.equal(21, h.fetched)
  end)

  it("keeps a policy until it runs out when the file cannot be had", function()
    local h = house()
    h:lookup()
    h.body, h.why, h.id = nil, "status 503", "2"
    h.worker:advance(604800 - 10)
    local policy, why = h:lookup()
    assert.equal("enforce", policy.mode)
    assert.equal("status 503", why)
    h.worker:advance(20)
    policy, why = h:lookup()
    assert.is_nil(policy)
    assert.equal("status 503", why)
  end)

  -- Who can suppress an answer could otherwise take a policy away (10.2).
  it("keeps a policy when its record is gone or cannot be had", function()
    local h = house()
    h:lookup()
    for _, id in ipairs { "servfail", "" } do
      h.id = id
      local policy, why = h:lookup()
      assert.equal("enforce", policy.mode)
      assert.is_string(why)
    end
    h.id = nil
    assert.is_not_nil(h:lookup())
    h.worker:advance(604800)
    assert.is_nil((h:lookup()))
    assert.equal(1, h.fetched)
  end)

  it("does not replace a policy by a file that is none", function()
    local h = house()
    h:lookup()
    h.worker:advance(120)
    h.body, h.id = "<html>", "2"
    local policy, why = h:lookup()
    assert.equal("enforce", policy.mode)
    assert.matches("^the policy of example.org: ", why)
  end)

  it("does not ask again at once after a failure, whatever the record says", function()
    local h = house()
    h.body = nil
    for i = 1, 10 do
      h.id = tostring(i)
      assert.is_nil((h:lookup()))
    end
    assert.equal(1, h.fetched)
    h.worker:advance(301)
    h.body = text()
    assert.is_not_nil(h:lookup())
    assert.equal(2, h.fetched)
  end)

  it("gives a policy of no duration for the message that it was got for, and not a file for every message", function()
    local h = house()
    h.body = text("enforce", nil, 0)
    assert.is_not_nil(h:lookup())
    assert.is_nil((h:lookup()))
    assert.equal(1, h.fetched)
  end)

  it("asks once for who comes at the same time", function()
    local h = house()
    h.slow = 1
    local seen = {}
    for i = 1, 5 do
      h:start(function()
        seen[i] = h.sts:lookup "example.org"
      end)
    end
    h.worker:advance(2)
    assert.equal(5, #seen)
    assert.equal(1, h.fetched)
  end)

  it("gets the policy for the others when the first who asked is cancelled", function()
    local h = house()
    h.slow = 1
    local seen
    local _, first = h:start(function()
      h.sts:lookup "example.org"
    end)
    h:start(function()
      seen = h.sts:lookup "example.org"
    end)
    h.worker:advance(0.5)
    first:cancel()
    h.worker:advance(1)
    assert.equal("enforce", seen.mode)
    assert.equal(1, h.fetched)
  end)

  it("goes on when what gets the file raises", function()
    local h = house { fetch = function() error "broken" end }
    local policy, why = h:lookup()
    assert.is_nil(policy)
    assert.matches("broken", why)
    assert.is_nil((h:lookup()))
  end)

  it("forgets domains that nobody asks for, beyond a number of them", function()
    local h = house { domains = 10 }
    h:lookup()
    for i = 1, 100 do
      h:lookup(("d%d.example"):format(i))
    end
    local kept = h.sts.store
    local count = 0
    for _, half in ipairs { kept.young, kept.old } do
      for _ in pairs(half) do
        count = count + 1
      end
    end
    assert.is_true(count <= 10)
  end)

  describe("with a folder", function()
    it("has its policies after a restart, without asking for the file", function()
      local dir <close> = tmpdir.new()
      house({ folder = dir.path }):lookup()
      assert.same({ "example.org.sts" }, dir:list())
      local h = house { folder = dir.path }
      local policy = assert(h:lookup())
      assert.same({ "enforce", "1", 1700000000, 0 }, { policy.mode, policy.id, policy.fetched, h.fetched })
      h = house { folder = dir.path }
      h.id = "2"
      h:lookup()
      assert.equal(1, h.fetched)
    end)

    it("takes what another worker has got", function()
      local dir <close> = tmpdir.new()
      local a, b = house { folder = dir.path }, house { folder = dir.path }
      a:lookup()
      b:lookup()
      a.worker:advance(120)
      b.worker:advance(120)
      a.id, b.id, a.body = "2", "2", text("testing")
      a:lookup()
      assert.equal("testing", b:lookup().mode)
      assert.same({ 2, 0 }, { a.fetched, b.fetched })
    end)

    it("forgets what has run out", function()
      local dir <close> = tmpdir.new()
      house({ folder = dir.path }):lookup()
      local h = house { folder = dir.path }
      h.worker:advance(604800)
      h.body = nil
      assert.is_nil((h:lookup()))
    end)

    it("does not believe a file from a far future", function()
      local dir <close> = tmpdir.new()
      house({ folder = dir.path }):lookup()
      local h = house { folder = dir.path }
      h.worker:set_time(1600000000)
      h.body = nil
      assert.is_nil((h:lookup()))
    end)

    local whole
    for name, change in pairs {
      ["cut off"] = function(content) return content:sub(1, -5) end,
      ["empty"] = function() return "" end,
      ["of another domain"] = function(content) return content:gsub("domain: example.org", "domain: example.net") end,
      ["with NUL"] = function(content) return content:gsub("enforce", "enforc\0") end,
      ["of a megabyte"] = function(content) return content .. ("x"):rep(1000000) end,
      ["of another form"] = function(content) return content:gsub("form 1", "form 2") end,
    } do
      it("passes over a file that is " .. name, function()
        local dir <close> = tmpdir.new()
        house({ folder = dir.path }):lookup()
        whole = dir:read "example.org.sts"
        dir:write("example.org.sts", (change(whole)))
        local h = house { folder = dir.path }
        assert.equal("enforce", assert(h:lookup()).mode)
        assert.equal(1, h.fetched)
        assert.equal(whole, dir:read "example.org.sts")
      end)
    end

    it("says once that a folder cannot be written to, and goes on", function()
      local lines = wired.catch_log "warn"
      local h = house { folder = "/nonexistent/folder" }
      assert.is_not_nil(h:lookup())
      h.worker:advance(120)
      h.id = "2"
      assert.is_not_nil(h:lookup())
      assert.equal(1, #lines)
    end)
  end)

  describe("over HTTPS", function()
    local it = peers.python3 and peers.openssl and it or pending
    local web

    lazy_setup(function()
      web = https.start(certs.web)
    end)
    lazy_teardown(function()
      getmetatable(web).__close(web)
    end)

    local function lookup(options)
      local given = {
        dns = dns.zone { ["_mta-sts.example.org"] = { TXT = "v=STSv1; id=1;" }, ["mta-sts.example.org"] = { A = "127.0.0.1" } },
        connect_to = web.address, ca_file = certs.ca, timeout = 10,
      }
      for name, value in pairs(options or {}) do
        given[name] = value
      end
      return mtasts.new(given):lookup "example.org"
    end

    local function serve(status, headers, body)
      web:answer("mta-sts.example.org", "/.well-known/mta-sts.txt", status or "200 OK", headers or "Content-Type: text/plain",
        body or text())
    end

    it("gets the policy, in a plain script and in a task", function()
      serve()
      assert.equal("enforce", assert(lookup()).mode)
      serve(nil, "content-type: Text/Plain; charset=utf-8", text("testing"))
      assert.equal("testing", assert(moonpost.run(lookup)).mode)
    end)

    for name, case in pairs {
      ["a redirection"] = { "301 Moved", "Location: https://mta-sts.example.org/.well-known/mta-sts.txt" },
      ["another status"] = { "203 Other" },
      ["not found"] = { "404 Not Found" },
      ["a page"] = { nil, "Content-Type: text/html" },
      ["no type"] = { nil, "X-Nothing: x" },
      ["a type that begins the same"] = { nil, "Content-Type: text/plainer" },
      ["a file that is too long"] = { nil, nil, text() .. ("x: y\n"):rep(14000) },
      ["a megabyte"] = { nil, nil, ("x"):rep(1000000) },
      ["NUL"] = { nil, nil, "\0" .. text() },
    } do
      it("has none with " .. name, function()
        serve(case[1], case[2], case[3])
        local policy, why = lookup()
        assert.is_nil(policy)
        assert.is_string(why)
      end)
    end

    it("has none by a certificate that is not good", function()
      serve()
      local policy, why = lookup { ca_file = certs.stranger.certificate }
      assert.is_nil(policy)
      assert.matches("certificate", why)
      -- the name that counts is mta-sts.<domain>, whoever else the certificate is for
      local zone = dns.zone { ["_mta-sts.example.com"] = { TXT = "v=STSv1; id=1;" } }
      policy = mtasts.new({ dns = zone, connect_to = web.address, ca_file = certs.ca }):lookup "example.com"
      assert.is_nil(policy)
    end)

    it("has none from a server that says nothing", function()
      web:raw("mta-sts.example.org", "/.well-known/mta-sts.txt", "HANG")
      local policy, why = lookup { timeout = 0.3 }
      assert.is_nil(policy)
      assert.matches("timed out", why:lower())
    end)

    it("asks its own resolver for the policy host", function()
      local zone = { ["_mta-sts.example.org"] = { TXT = "v=STSv1; id=1;" } }
      local sts = mtasts.new { dns = dns.zone(zone), ca_file = certs.ca }
      local policy, why = sts:lookup "example.org"
      assert.is_nil(policy)
      assert.equal("mta-sts.example.org has no address", why)
      zone["mta-sts.example.org"] = "servfail"
      why = select(2, mtasts.new({ dns = dns.zone(zone), ca_file = certs.ca }):lookup "example.org")
      assert.matches("mta%-sts.example.org", why)
    end)
  end)

  it("raises for options that make no sense", function()
    for _, options in ipairs { { dns = {} }, { fetch = "x" }, { retry = "soon" }, { nothing = 1 } } do
      assert.is_false((pcall(mtasts.new, options)))
    end
    assert.is_false((pcall(mtasts.new, "x")))
  end)
end)
