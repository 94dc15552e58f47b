local channel = require "moonpost.channel"
local core = require "moonpost.core"
local scripted = require "spec.support.scripted"
local task = require "moonpost.task"

local function connect(service)
  return assert(channel.connect(assert(channel.place(service.address))))
end

describe("moonpost.channel", function()
  for text, want in pairs {
    ["unix:/run/x.sock"] = { path = "/run/x.sock" }, ["127.0.0.1:3310"] = { host = "127.0.0.1", port = 3310 },
    ["[::1]:1"] = { host = "::1", port = 1 }, ["scanner.example.org:65535"] = { host = "scanner.example.org", port = 65535 },
  } do
    it("knows the place " .. text, function()
      want.shown = text
      assert.same(want, channel.place(text))
    end)
  end

  for _, text in ipairs { "", "x", "x:", ":1", "x:0", "x:65536", "unix:x", "unix:/" .. ("x"):rep(107), "unix:/a\nb", "a b:1", "::1:25", "x:1e3" } do
    it("knows no place " .. text:sub(1, 20):gsub("%c", "?"), function()
      local place, why = channel.place(text)
      assert.is_nil(place)
      assert.is_nil(why:find("%c"))
    end)
  end

  it("reads what is written, by count and up to a mark", function()
    local service <close> = scripted.serve(function(peer)
      assert(peer:read(3) == "abc")
      peer:write "one\0two\0"
      peer:write "three"
    end)
    local line <close> = connect(service)
    assert.is_true(line:write "abc")
    assert.equal("one", line:read_to("\0", 3))
    assert.equal("t", line:read(1))
    assert.equal("wo", line:read_to("\0", 100))
    assert.equal("three", line:read(5))
    local text, err = line:read(1)
    assert.is_nil(text)
    assert.equal("closed", err.kind)
    assert.same({}, service.errors)
  end)

  it("carries megabytes, though nobody reads for a while", function()
    local big = ("0123456789abcdef"):rep(1 << 18) -- 4 MiB
    local echoed
    local service <close> = scripted.serve(function(peer)
      echoed = assert(peer:read(#big))
      assert(peer:write(echoed))
      peer:read(1)
    end)
    local line <close> = connect(service)
    assert.is_true(line:write(big))
    assert.is_true(big == assert(line:read(#big)))
    assert.is_true(big == echoed)
  end)

  it("waits while the peer takes no more, and hears that it is gone", function()
    local service <close> = scripted.serve(function(peer)
      peer.lines:stop()
      task.sleep(0.05)
    end)
    local line <close> = connect(service)
    local ok, err
    for _ = 1, 200 do
      ok, err = line:write(("x"):rep(1 << 18))
      if not ok then
        break
      end
    end
    assert.is_nil(ok)
    assert.equal("closed", err.kind)
    assert.is_false(line:is_open())
  end)

  it("reads no more of an answer than is wanted", function()
    local service <close> = scripted.serve(function(peer)
      peer:write(("x"):rep(5000))
      peer:read(1)
    end)
    local line <close> = connect(service)
    local text, err = line:read_to("\n", 4000)
    assert.is_nil(text)
    assert.equal("protocol", err.kind)
  end)

  it("is given up with the time that it has", function()
    local service <close> = scripted.serve(function(peer)
      peer:read(1)
    end)
    local begin = core.worker():now()
    local text, err = task.timeout(0.05, function()
      local line <close> = connect(service)
      return line:read(1)
    end)
    assert.is_nil(text)
    assert.equal("timeout", err.kind)
    assert.is_true(core.worker():now() - begin < 5)
  end)

  it("says where nobody is", function()
    local line, err = channel.connect(channel.place "unix:/nowhere/at/all")
    assert.is_nil(line)
    assert.equal("connect", err.kind)
    assert.matches("^unix:/nowhere/at/all: ", err.message)
  end)
end)
