-- Routes of a queue into Maildirs, files and programs.
local moonpost = require "moonpost"
local tmpdir = require "spec.support.tmpdir"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

-- Runs `fn(queue, told, dir)` on a real spool; `route` is made of the folder.
local function with(route, fn)
  local dir <close> = tmpdir.new()
  moonpost.run(function()
    local queue, told = moonpost.queue { spool = dir:join "spool", hostname = "mx.example.org", route = route(dir), retry = { "1h" } }, {}
    for _, name in ipairs { "delivered", "deferred", "bounced" } do
      queue.on[name] = function(record)
        if record.sender ~= "" then
          told[#told + 1] = record
        end
      end
    end
    local ok, err = pcall(fn, queue, told, dir)
    queue:stop(1)
    if not ok then
      error(err, 0)
    end
  end)
end

setup(function()
  moonpost.log.configure { level = "error" }
end)

teardown(function()
  moonpost.log.configure { level = "warn" }
end)

local function send(queue, told, to, text)
  assert(queue:send { from = "ann@example.net", to = to, message = text or "Subject: x\r\n\r\nHello.\r\n" })
  for _ = 1, 500 do
    if told[1] then
      return told[1]
    end
    moonpost.sleep(0.01)
  end
  error "nothing is told"
end

describe("a route", function()
  for name, route in pairs {
    ["maildir:PATH"] = function(dir) return "maildir:" .. dir:join "mail/%{mailbox}" end,
    ["{ maildir = PATH }"] = function(dir) return { maildir = dir:join "mail/%{mailbox}" } end,
  } do
    it(name .. " delivers into a Maildir", function()
      with(route, function(queue, told, dir)
        local record = send(queue, told, "Bob+x@example.org")
        assert.equal("delivered", record.event)
        local files = dir:list "mail/bob/new"
        assert.equal(1, #files)
        assert.equal("Return-Path: <ann@example.net>\nDelivered-To: Bob+x@example.org\nSubject: x\n\nHello.\n",
          read(dir:join("mail/bob/new/" .. files[1])))
        assert.equal(0, (queue._engine.store:count({})))
      end)
    end)
  end

  it("{ maildir = PATH } takes a large message", function()
    with(function(dir) return { maildir = dir:join "mail" } end, function(queue, told, dir)
      local text = "Subject: x\r\n\r\n" .. ("0123456789abcdef\r\n"):rep(60000)
      assert.equal("delivered", send(queue, told, "bob@example.org", text).event)
      local octets = read(dir:join("mail/new/" .. dir:list("mail/new")[1]))
      assert.is_true(octets:sub(-#text:gsub("\r\n", "\n")) == text:gsub("\r\n", "\n"))
    end)
  end)

  it("{ maildir = PATH } tries again what cannot be written, and refuses what has been there", function()
    with(function(dir)
      dir:write("file", "")
      return { maildir = dir:join "file/mail" }
    end, function(queue, told)
      local record = send(queue, told, "bob@example.org")
      assert.same({ "deferred", 451 }, { record.event, record.reply.code })
    end)
    with(function(dir) return { maildir = dir:join "mail" } end, function(queue, told)
      local record = send(queue, told, "bob@example.org", "Delivered-To: bob@example.org\r\n\r\nx\r\n")
      assert.same({ "bounced", 554, "5.4.6" }, { record.event, record.reply.code, record.reply.enhanced })
    end)
    with(function(dir) return { maildir = dir:join "mail/%{mailbox}" } end, function(queue, told)
      assert.same("bounced", send(queue, told, '"../../x"@example.org').event)
    end)
  end)

  it("{ pipe = ... } runs a program, and goes by how it ends", function()
    with(function(dir)
      return { pipe = { "/bin/sh", "-c", 'cat > "$1.tmp" && mv "$1.tmp" "$1" && test "$RECIPIENT" = bob@example.org', "sh", dir:join "got" } }
    end, function(queue, told, dir)
      assert.equal("delivered", send(queue, told, "bob@example.org").event)
      assert.matches("\nSubject: x\n\nHello%.\n$", read(dir:join "got"))
    end)
    for status, what in pairs { [75] = "deferred", [67] = "bounced", [1] = "deferred" } do
      with(function() return { pipe = { "/bin/sh", "-c", "exit " .. status } } end, function(queue, told)
        assert.equal(what, send(queue, told, "bob@example.org").event)
      end)
    end
  end)

  it("{ maildir = PATH } keeps every octet of a message whose lines are none", function()
    with(function(dir) return { maildir = dir:join "mail" } end, function(queue, told, dir)
      assert(queue:send { from = "ann@example.net", to = "bob@example.org", message = "A: b\r\n\r\nx\r\ny\nz", params = { body = "BINARYMIME" } })
      for _ = 1, 500 do
        if told[1] then
          break
        end
        moonpost.sleep(0.01)
      end
      assert.equal("delivered", told[1].event)
      assert.matches("\r\n\r\nx\r\ny\nz$", read(dir:join("mail/new/" .. dir:list("mail/new")[1])))
    end)
  end)

  it("is not left half way: a program has its own time", function()
    local dir <close> = tmpdir.new()
    moonpost.run(function()
      local queue = moonpost.queue {
        spool = dir:join "spool", hostname = "mx.example.org", call_time = "10ms", route = { pipe = { "/bin/sh", "-c", "sleep 0.2" } },
      }
      local told
      function queue.on.delivered() told = "delivered" end
      function queue.on.deferred() told = "deferred" end
      assert(queue:send { from = "", to = "bob@example.org", message = "A: b\r\n\r\n" })
      for _ = 1, 500 do
        if told then
          break
        end
        moonpost.sleep(0.01)
      end
      assert.equal("delivered", told)
      queue:stop(1)
    end)
  end)

  it("tells what is wrong with it", function()
    local hop = require "moonpost.queue.hop"
    for _, case in ipairs {
      { { maildir = 7 }, "maildir" }, { { maildir = "/x", file = "/y" }, "not both" }, { { maildir = "/x", mod = 384 }, 'did you mean "mode"?' },
      { "maildir:%{nosuch}", "nosuch" },
    } do
      local made, why = hop.read({ hostname = "mx", hops = { by_key = {}, count = 0 }, routes = {} }, case[1])
      assert.is_nil(made)
      assert.matches(case[2], why, 1, true)
    end
  end)
end)
