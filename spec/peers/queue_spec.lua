-- A relay with a queue between real clients and a real server, and what it does when it is killed.
local moonpost = require "moonpost"
local numbered = require "spec.support.numbered"
local served = require "spec.support.served"
local tmpdir = require "spec.support.tmpdir"

local relay, send, sink, until_there = numbered.relay, numbered.send, numbered.sink, numbered.until_there

describe("a relay with a queue", function()
  it("#thread hands everything on, once, and is empty then", function()
    local behind <close> = sink()
    local dir <close> = tmpdir.new()
    local house = relay(dir, behind.at.smtp)
    local taken = send(house, behind, 1, 200)
    assert.equal(200, #taken)
    local seen = until_there(house, behind, taken, 20)
    for number, times in pairs(seen) do
      assert.equal(1, times, number)
    end
    house:stop()
    assert.equal(200, house:count("info  delivered"))
    house:stop()
    assert.equal(200, house:count("info  delivered"))
  end)

  it("keeps what hooks made of envelope, header and body, across kill -9", function()
    local port = require("spec.support.ports").free()
    local dir <close> = tmpdir.new()
    local function house(behind)
      return served.start {
        dir = dir, options = 'relay = { networks = { "127.0.0.1" } }',
        hooks = ([[
          local queue = moonpost.queue {
            hostname = "relay.example.net", spool = dir .. "/spool", route = "smtp://%s", site = { pause = "1s" }, retry = { "1s", expire = "1h" },
          }
          function server.on.message(_, message)
            message.sender.address = "bounces@example.org"
            for _, recipient in ipairs(message.recipients) do
              recipient:rewrite("first@elsewhere.example", "second@elsewhere.example")
            end
            message.tenant = "blue"
            message:prepend("X-First", "1")
            message:append("X-Last", "2")
            message:replace("Subject", "Changed")
            message:remove("X-Gone")
            local tree = message:mime()
            assert(tree.root:replace { text = "Another body." })
            assert(tree:apply())
            message:enqueue(queue)
          end
          local loaded = queue:list {}
          for _, row in ipairs(loaded) do log.info("kept", { tenant = row.tenant, sender = row.sender }) end
        ]]):format(behind),
      }
    end
    local first = house("127.0.0.1:" .. port) -- nobody listens there yet
    local client = assert(moonpost.connect { url = "smtp://" .. first.at.smtp, tls = "none" })
    assert(client:send { from = "a@example.net", to = "bob@elsewhere.example",
      message = "From: a@example.net\r\nsubject:  Old \r\nX-Gone: x\r\nx-odd:y\r\n\r\nOld body.\r\n" })
    client:close()
    first.process:kill("sigkill")
    first.process:wait()
    local behind <close> = served.start {
      listen = { "smtp://127.0.0.1:" .. port }, options = 'relay = { networks = { "127.0.0.1" } }',
      hooks = [[
        function server.on.message(_, message)
          local to = {}
          for i, one in ipairs(message.recipients) do to[i] = one.address end
          table.sort(to)
          local names = {}
          for name in message.headers:each() do names[#names + 1] = name end
          log.info("got", { from = message.sender.address, to = table.concat(to, "+"), names = table.concat(names, ","),
            subject = message.headers.subject, body = message:text():gsub("%s+$", "") })
          message:discard "test"
        end
      ]],
    }
    local second = house(behind.at.smtp)
    assert.matches("kept sender=bounces@example.org tenant=blue", second.process.output)
    behind:expect("got body=\"Another body.\" from=bounces@example.org "
      .. "names=Received,X%-First,From,subject,x%-odd,X%-Last,MIME%-Version,Content%-Type,"
      .. "Content%-Transfer%-Encoding subject=Changed to=first@elsewhere.example%+second@elsewhere.example", 20)
    second:stop()
  end)

  it("loses nothing that it accepted when it is killed, again and again", function()
    local counts = numbered.kill_again_and_again(50)
    assert.same({ lost = 0, most = 1 }, { lost = counts.lost, most = counts.most })
    assert.is_true(counts.accepted > 100 and counts.arrived >= counts.accepted)
  end)

  it("goes on across reloads: a newer policy delivers what an older one took", function()
    local behind <close> = sink()
    local dir <close> = tmpdir.new()
    local house = relay(dir, behind.at.smtp, nil, { "--grace", "20s" }) -- past it a delivery is given up, and may be made twice
    local all, number = {}, 1
    for _ = 1, 3 do
      house.process:kill("sighup")
      local taken
      taken, number = send(house, behind, number, 60)
      assert.equal(60, #taken)
      table.move(taken, 1, #taken, #all + 1, all)
      house:expect("policy loaded")
    end
    local seen = until_there(house, behind, all, 20)
    for _, one in ipairs(all) do
      assert.equal(1, seen[one], one)
    end
    house:stop()
  end)

  it("takes mail with several workers, and hands each message on once", function()
    local behind <close> = sink()
    local dir <close> = tmpdir.new()
    local house = relay(dir, behind.at.smtp, nil, { "--workers", "3" })
    local taken = send(house, behind, 1, 100)
    assert.equal(100, #taken)
    local seen = until_there(house, behind, taken, 20)
    for number, times in pairs(seen) do
      assert.equal(1, times, number)
    end
    house:stop()
  end)

  -- The limits of a site need no lock, for it is one worker's.
  it("#thread gives each site to one of several workers, who keeps to its limits", function()
    local behind <close> = served.start {
      options = 'relay = { networks = { "127.0.0.1" } }',
      hooks = [[
        local open = {}
        function server.on.helo(session) open[session] = true; local n = 0; for _ in pairs(open) do n = n + 1 end; log.info("open", { n = n }) end
        function server.on.disconnect(session) open[session] = nil end
        function server.on.message(_, message)
          log.info("got", { number = message.headers:get "X-Number" })
          message:discard "test"
        end
      ]],
    }
    local dir <close> = tmpdir.new()
    local port = behind.at.smtp:match ":(%d+)$"
    local house = served.start {
      dir = dir, args = { "--workers", "3" }, options = 'relay = { networks = { "127.0.0.1" } }',
      hooks = ([[
        local ways = { "127.0.0.1", "localhost", "LOCALHOST" }
        local queue = moonpost.queue {
          spool = dir .. "/spool", site = { connections = 2, pause = "1s" },
          route = function(one) return "smtp://" .. ways[tonumber(one.domain:match("^d(%%d)"))] .. ":%s" end,
        }
        function queue.on.delivered(record) log.info("by", { site = record.site, worker = moonpost.worker.id }) end
        function server.on.message(_, message)
          message:enqueue(queue)
        end
      ]]):format(port),
    }
    local taken = {}
    moonpost.run(function()
      local tasks = {}
      for i = 1, 8 do
        tasks[i] = moonpost.spawn(function()
          local client = assert(moonpost.connect { url = "smtp://" .. house.at.smtp, tls = "none" })
          for j = 1, 30 do
            local number = i * 100 + j
            assert(client:send {
              from = "a@example.net", to = ("bob@d%d.example"):format(number % 3 + 1),
              message = ("X-Number: %d\r\n\r\nx\r\n"):format(number),
            })
            taken[#taken + 1] = number
            house.process:poll()
            behind.process:poll()
          end
          client:quit()
        end)
      end
      for _, one in ipairs(tasks) do
        one:join()
      end
    end)
    local seen = until_there(house, behind, taken, 20)
    for number, times in pairs(seen) do
      assert.equal(1, times, number)
    end
    house:stop()
    local by, sites = {}, 0
    for _, line in ipairs(house.process.lines) do
      local site, worker = line:match("  by .-site=(%S+).-worker=(%d+)")
      if site then
        sites = sites + (by[site] and 0 or 1)
        by[site] = by[site] or worker
        assert.equal(by[site], worker, site)
      end
    end
    assert.equal(3, sites)
    for _, line in ipairs(behind.process.lines) do
      local open = line:match(" open .-n=(%d+)")
      assert.is_true(not open or tonumber(open) <= 6, line)
    end
  end)

  it("finishes what is on its way when it is told to stop, and keeps the rest", function()
    local dir <close> = tmpdir.new()
    local behind = sink()
    local at = behind.at.smtp
    behind:stop()
    local house = relay(dir, at)
    local taken = send(house, behind, 1, 50)
    assert.equal(50, #taken)
    house:expect("deferred")
    house:stop()
    local again <close> = served.start {
      listen = { "smtp://" .. at }, options = 'relay = { networks = { "127.0.0.1" } }',
      hooks = 'function server.on.message(_, message) log.info("got", { number = message.headers:get "X-Number" }) message:discard "test" end',
    }
    house = relay(dir, at)
    until_there(house, again, taken, 20)
    house:stop()
  end)

  -- Large bodies are files of the spool, written and read in pieces.
  it("#thread keeps a large message across a crash, hands it on as it came, and leaves no file", function()
    local dir <close> = tmpdir.new()
    local lines = {}
    for i = 1, 30000 do
      lines[i] = ("%s%d %s\r\n"):format(i % 7 == 0 and "." or "", i, ("z\xc3\xbc"):rep(i % 40))
    end
    local text = "X-Number: 1\r\nSubject: x\r\n\r\n" .. table.concat(lines)
    local nobody = sink()
    local at = nobody.at.smtp
    nobody:stop()
    local house = relay(dir, at)
    local client = assert(moonpost.connect { url = "smtp://" .. house.at.smtp, tls = "none" })
    assert(client:send {
      from = "a@example.net", to = { "bob@elsewhere.example", "eve@elsewhere.example" }, message = text, params = { body = "8BITMIME" },
    })
    client:quit()
    local function files()
      local pipe <close> = assert(io.popen(("find '%s/spool/bodies' -type f | wc -l"):format(dir.path)))
      return pipe:read "n"
    end
    assert.equal(1, files())
    house.process:kill("sigkill")
    house.process:wait()
    local behind <close> = served.start {
      options = 'relay = { networks = { "127.0.0.1" } }',
      hooks = [[
        function server.on.message(_, message)
          local file = assert(io.open(dir .. "/got", "wb"))
          file:write(message:octets())
          file:close()
          log.info("got", { number = #message.recipients })
          message:discard "test"
        end
      ]],
    }
    house = relay(dir, behind.at.smtp)
    behind:expect("got .-number=2", 20)
    local got <close> = assert(io.open(behind.dir:join "got", "rb"))
    local octets = got:read "a"
    assert.is_true(octets:sub(-#text) == text)
    assert.matches("^Received: ", octets)
    for _ = 1, 100 do
      if files() == 0 then
        break
      end
      moonpost.sleep(0.05)
    end
    assert.equal(0, files())
    house:stop()
  end)

  it("returns to its sender what is refused", function()
    local behind <close> = served.start {
      options = 'relay = { networks = { "127.0.0.1" } }',
      hooks = [[
        function server.on.rcpt(_, recipient)
          if recipient.localpart == "bob" then return 550, "5.1.1", "No such user" end
        end
        function server.on.message(_, message)
          log.info("report", { to = message.recipients[1].address, from = "<" .. message.sender.address .. ">" })
          log.info("says", { status = message:octets():match "Status: ([%d.]+)" })
          message:discard "test"
        end
      ]],
    }
    local dir <close> = tmpdir.new()
    local house = relay(dir, behind.at.smtp)
    assert.equal(1, #send(house, behind, 1, 1))
    behind:expect("report .*to=a@example.net")
    behind:expect("says status=5.1.1")
    house:stop()
  end)
end)
