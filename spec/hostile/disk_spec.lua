local process = require "spec.support.process"
local raw = require "spec.support.raw"
local served = require "spec.support.served"
local tmpdir = require "spec.support.tmpdir"
local uv = require "luv"

local HEAD = "Subject: room needed\r\n\r\n"

local function body(size)
  return HEAD .. (("x"):rep(98) .. "\r\n"):rep(size // 100)
end

-- Sends one message and returns the reply to its end.
local function send(peer, octets, ...)
  peer:envelope("a@example.net", ...)
  peer:send(octets .. ".\r\n")
  return peer:read()
end

-- Nothing of a message that was refused may be left, and new must never show a part of one.
local function nothing_in(house, name)
  assert.same({}, house.dir:list(name .. "/new"))
  assert.same({}, house.dir:list(name .. "/tmp"))
end

describe("a full disk", function()
  -- A disk of 1 MB, where that may be mounted.
  local disk

  setup(function()
    local dir = tmpdir.new()
    local mounted = process.run { "mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", dir:mkdir("small") }
    disk = { dir = dir, mounted = mounted.code == 0, why = mounted.output }
  end)

  teardown(function()
    if disk.mounted then
      assert.equal(0, process.run({ "umount", "-l", disk.dir:join("small") }).code)
    end
    disk.dir:remove()
  end)

  after_each(function()
    process.run { "sh", "-c", 'rm -rf "$0"/small/*', disk.dir.path }
  end)

  local function fill(leave)
    local stat = assert(uv.fs_statfs(disk.dir:join("small")))
    disk.dir:write("small/filler", ("z"):rep(stat.bavail * stat.bsize - leave))
  end

  local function room()
    os.remove(disk.dir:join("small/filler"))
  end

  it("refuses a delivery with 452, leaves no half message, and takes the next one when there is room", function()
    if not disk.mounted then
      pending("no file system can be mounted: " .. disk.why)
      return
    end
    local house <close> = served.start {
      dir = disk.dir, hooks = [[
        function server.on.message(_, message)
          message:deliver { maildir = dir .. "/small/%{mailbox}" }
        end
      ]],
    }
    local peer <close> = raw.session(house.port.smtp)
    assert.matches("^250 ", send(peer, body(1000), "bob@example.org")) -- its folders are there now
    assert.equal(1, #disk.dir:list("small/bob/new"))
    os.remove(disk.dir:join("small/bob/new", disk.dir:list("small/bob/new")[1]))

    fill(64 * 1024)
    assert.matches("^452 4.3.1 ", send(peer, body(200 * 1024), "bob@example.org"))
    nothing_in(house, "small/bob")
    assert.matches("^250 ", send(peer, body(1000), "bob@example.org")) -- a small one fits
    assert.equal(1, #disk.dir:list("small/bob/new"))

    room()
    assert.matches("^250 ", send(peer, body(200 * 1024), "bob@example.org"))
    assert.equal(2, #disk.dir:list("small/bob/new"))
    assert.same({}, disk.dir:list("small/bob/tmp"))

    -- a new mailbox needs folders, and there is not a block left for one
    fill(0)
    assert.matches("^45[12] 4", send(peer, body(1000), "carol@example.org"))
    room()
    assert.matches("^250 ", send(peer, body(1000), "carol@example.org"))
    assert.equal(1, #disk.dir:list("small/carol/new"))
  end)

  it("does not let one message into a file in part", function()
    if not disk.mounted then
      pending("no file system can be mounted: " .. disk.why)
      return
    end
    local house <close> = served.start {
      dir = disk.dir, hooks = [[
        function server.on.message(_, message)
          message:deliver { file = dir .. "/small/mbox", mbox = true }
        end
      ]],
    }
    local peer <close> = raw.session(house.port.smtp)
    assert.matches("^250 ", send(peer, body(1000), "bob@example.org"))
    local before = disk.dir:read("small/mbox")
    fill(64 * 1024)
    assert.matches("^452 4.3.1 ", send(peer, body(200 * 1024), "bob@example.org"))
    assert.equal(before, disk.dir:read("small/mbox"))
    room()
    assert.matches("^250 ", send(peer, body(200 * 1024), "bob@example.org"))
    assert.equal(before, disk.dir:read("small/mbox"):sub(1, #before))
  end)

  it("is told to who sends more than memory and disk hold, at the end, and the next message works", function()
    if not disk.mounted then
      pending("no file system can be mounted: " .. disk.why)
      return
    end
    local house <close> = served.start {
      dir = disk.dir, env = { TMPDIR = disk.dir:join("small") },
      hooks = [[
        function server.on.message(_, message)
          message:deliver { maildir = dir .. "/mail/%{mailbox}" }
        end
      ]],
    }
    local peer <close> = raw.session(house.port.smtp)
    fill(200 * 1024)
    assert.matches("^452 4.3.1 ", send(peer, body(900 * 1024), "bob@example.org"))
    nothing_in(house, "mail/bob")
    assert.matches("^250 ", send(peer, body(100 * 1024), "bob@example.org"))
    room()
    assert.matches("^250 ", send(peer, body(600 * 1024), "bob@example.org"))
    assert.equal(2, #house:mail("bob"))
  end)
end)

-- The same without rights to mount: files that may not grow.
describe("files that may not grow past a limit", function()
  it("refuse a delivery, leave no half message, and do not end the server", function()
    local house <close> = served.start {
      wrap = { "prlimit", "--fsize=300000:300000" },
      hooks = [[
        function server.on.message(_, message)
          -- as long as the file that holds it meanwhile, and the fields on top
          message:deliver { maildir = dir .. "/mail/%{mailbox}", line_end = "crlf" }
        end
      ]],
    }
    local peer <close> = raw.session(house.port.smtp)
    assert.matches("^45[12] 4.3", send(peer, body(299900), "bob@example.org", "carol@example.org"))
    nothing_in(house, "mail/bob")
    nothing_in(house, "mail/carol")
    assert.matches("^45[12] 4.3", send(peer, body(600000), "bob@example.org")) -- not even the file that holds it meanwhile
    nothing_in(house, "mail/bob")
    assert.matches("^250 ", send(peer, body(1000), "bob@example.org"))
    assert.equal(1, #house:mail("bob"))
  end)
end)

describe("a disk that holds a queue, when it is nearly full,", function()
  it("takes no more with 452, delivers what is there, and takes new mail then", function()
    local dir <close> = tmpdir.new()
    local mounted = process.run { "mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "none", dir:mkdir("small") }
    if mounted.code ~= 0 then
      pending("no file system can be mounted: " .. mounted.output)
      return
    end
    local port = require("spec.support.ports").free()
    local house = served.start {
      options = 'relay = { networks = { "127.0.0.1" } }',
      hooks = ([[
        local queue = moonpost.queue {
          spool = %q, route = "smtp://127.0.0.1:%d", site = { pause = "1s" },
        }
        function server.on.message(_, message) message:enqueue(queue) end
      ]]):format(dir:join("small/spool"), port),
    }
    local peer <close> = raw.session(house.port.smtp)
    local taken = 0
    local reply
    repeat
      reply = send(peer, body(200000), "bob@elsewhere.example")
      taken = taken + (reply:find("^250") and 1 or 0)
    until not reply:find("^250")
    assert.matches("^452 4%.3%.1 ", reply)
    assert.is_true(taken > 2)
    assert.equal(0, house:count("spool failed"))
    local sink <close> = served.start {
      listen = { ("smtp://127.0.0.1:%d"):format(port) }, options = 'relay = { networks = { "127.0.0.1" } }',
      hooks = 'function server.on.message(_, message) log.info("got", { id = message.id }) message:discard "test" end',
    }
    for _ = 1, taken do
      sink:expect("got id=", 60)
    end
    for _ = 1, taken do
      house:expect("info  delivered", 10)
    end
    assert.matches("^250 ", send(peer, body(200000), "bob@elsewhere.example"))
    peer:leave()
    house:stop()
    process.run { "umount", "-l", dir:join("small") }
  end)
end)
