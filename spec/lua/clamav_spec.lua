local moonpost = require "moonpost"
local ports = require "spec.support.ports"
local scripted = require "spec.support.scripted"
local wired = require "spec.support.wired"

-- What clamd hears of one thing: its octets.
local function hear(peer)
  assert(peer:read(10) == "zINSTREAM\0", "no INSTREAM")
  local all = {}
  while true do
    local size = string.unpack(">I4", assert(peer:read(4)))
    if size == 0 then
      return table.concat(all)
    end
    all[#all + 1] = assert(peer:read(size))
  end
end

local function answering(answer)
  local heard = {}
  return scripted.serve(function(peer, n)
    heard[n] = hear(peer)
    peer:write(type(answer) == "function" and answer(heard[n]) or answer)
  end), heard
end

describe("moonpost.clamav", function()
  after_each(wired.release_log)

  it("says that something is clean, or what it is", function()
    local service <close>, heard = answering(function(octets)
      return octets:find("EVIL", 1, true) and "stream: Eicar-Test-Signature FOUND\0" or "stream: OK\0"
    end)
    local scanner = moonpost.clamav { address = service.address }
    assert.same({ clean = true }, scanner:scan "hello")
    assert.same({ clean = false, signature = "Eicar-Test-Signature" }, scanner:scan "so EVIL")
    assert.same({ clean = true }, scanner:scan "")
    local pieces = { "a", "", ("b"):rep(200000), "c" }
    assert.same({ clean = true }, scanner:scan(function() return table.remove(pieces, 1) end))
    assert.same({ "hello", "so EVIL", "", "a" .. ("b"):rep(200000) .. "c" }, heard)
    assert.same({}, service.errors)
  end)

  for answer, kind in pairs {
    ["INSTREAM size limit exceeded. ERROR\0"] = "too_large", ["stream: cannot read ERROR\0"] = "scanner", ["what\n?\0"] = "scanner",
    ["OK"] = "closed", [("x"):rep(5000)] = "protocol",
  } do
    it(("takes %s for an error"):format(answer:sub(1, 30):gsub("%c", "?")), function()
      local service <close> = answering(answer)
      local found, err = moonpost.clamav({ address = service.address }):scan "hello"
      assert.is_nil(found)
      assert.equal(kind, err.kind)
      assert.is_nil(err.message:find("%c"))
    end)
  end

  it("hears why clamd takes no more", function()
    local service <close> = scripted.serve(function(peer)
      peer:read(20)
      peer:write "INSTREAM size limit exceeded. ERROR\0"
    end)
    local left = 400
    local found, err = moonpost.clamav({ address = service.address, size = "1GB" }):scan(function()
      left = left - 1
      return left > 0 and ("x"):rep(65536) or nil
    end)
    assert.is_nil(found)
    assert.is_true(err.kind == "too_large" or err.kind == "closed")
  end)

  it("does not send what is too large", function()
    local service <close> = answering "stream: OK\0"
    local found, err = moonpost.clamav({ address = service.address, size = 4 }):scan "hello"
    assert.is_nil(found)
    assert.equal("too_large", err.kind)
    assert.equal(0, service.count)
  end)

  it("waits for so long, and no longer", function()
    local service <close> = scripted.serve(function(peer)
      peer:read(1 << 20)
    end)
    local found, err = moonpost.clamav({ address = service.address, timeout = 0.05 }):scan "hello"
    assert.is_nil(found)
    assert.equal("timeout", err.kind)
  end)

  it("is answered for by a function, in tests", function()
    local clamav = require "moonpost.clamav"
    assert.is_nil(clamav.use(function(octets)
      if octets == "nobody" then
        return nil, "timeout"
      end
      return { clean = octets ~= "EVIL", signature = octets == "EVIL" and "X" or nil }
    end))
    assert.same({ clean = false, signature = "X" }, moonpost.clamav():scan "EVIL")
    assert.is_true(moonpost.clamav():scan("hello").clean)
    assert.equal("timeout", select(2, moonpost.clamav():scan "nobody").kind)
    assert.is_function(clamav.use(nil))
    assert.error_matches(function() clamav.use(7) end, "^clamav%.use: a function expected")
  end)

  it("raises where it is misused", function()
    assert.error_matches(function() moonpost.clamav { adress = "x" } end, 'clamav: .*"adress"')
    assert.error_matches(function() moonpost.clamav { address = "x" } end, "clamav: address")
    assert.error_matches(function() moonpost.clamav "x" end, "clamav: a table of options expected")
    assert.error_matches(function() moonpost.clamav():scan(7) end, "^scanner:scan: a message, a string or a function expected, got a number")
  end)

  describe("as a plug-in", function()
    local EVIL, PLAIN = "Subject: a\r\n\r\nEVIL\r\n", "Subject: a\r\n\r\nhello\r\n"

    -- What a server on this loop says to a message.
    local function reply(options, octets)
      wired.catch_log()
      local port = ports.free()
      local server = moonpost.server { hostname = "mx.example.org", listen = ("smtp://127.0.0.1:%d"):format(port), domains = "example.org" }
      server:use(require "moonpost.plugins.clamav"(options))
      function server.on.message(_, message)
        message:discard "spec"
      end
      assert(server:start())
      local client <close> = assert(moonpost.connect { host = "127.0.0.1", port = port, tls = "none" })
      local result, err = client:send { from = "a@example.net", to = "bob@example.org", message = octets }
      client:close()
      server:stop()
      return tostring((result or err).recipients[1].reply)
    end

    it("refuses malware, and lets the rest pass", function()
      local service <close>, heard = answering(function(octets)
        return octets:find("EVIL", 1, true) and "stream: Win.Test(x)\r FOUND\0" or "stream: OK\0"
      end)
      assert.matches("^550 5%.7%.1 Malware found: Win%.Test%?x%?%?$", reply({ address = service.address }, EVIL))
      assert.matches("^250 ", reply({ address = service.address }, PLAIN))
      assert.matches("Subject: a\r\n\r\nEVIL\r\n$", heard[1])
    end)

    it("says try again where nobody answers, or lets pass what it is told to", function()
      assert.matches("^451 4%.7%.1 Cannot be examined now", reply({ address = "unix:/nowhere/at/all" }, EVIL))
      assert.matches("^250 ", reply({ address = "unix:/nowhere/at/all", fail = "open" }, EVIL))
    end)

    it("lets what is too large pass, or refuses it", function()
      assert.matches("^250 ", reply({ address = "unix:/nowhere/at/all", size = 10 }, EVIL))
      assert.matches("^552 5%.3%.4 ", reply({ address = "unix:/nowhere/at/all", size = 10, large = "refuse" }, EVIL))
    end)

    it("names an option that there is not", function()
      assert.error_matches(function() require "moonpost.plugins.clamav" { fail = "ajar" } end, "clamav: fail")
    end)
  end)
end)
