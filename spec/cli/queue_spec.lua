-- moonpost queue as people and programs start it, to a server that runs and to a spool that nobody serves.
local dkjson = require "dkjson"
local moonpost = require "moonpost"
local process = require "spec.support.process"
local served = require "spec.support.served"
local tmpdir = require "spec.support.tmpdir"

local NOBODY = "127.0.0.1:1" -- where nobody listens

local hooks = ([[
  local queue = moonpost.queue {
    spool = dir .. "/spool", route = "smtp://%s", site = { connections = 2, pause = "1h" }, retry = { "1h", expire = "2d" },
  }
  function server.on.message(_, message) message:enqueue(queue) end
]]):format(NOBODY)

local dir

local function serve(args)
  return served.start { dir = dir, args = args, options = 'relay = { networks = { "127.0.0.1" } }', hooks = hooks }
end

-- Arguments, and `house`: its log is read meanwhile.
local function queue(options)
  local command = { process.moonpost, "queue", timeout = 30, env = options.env }
  table.move(options, 1, #options, 3, command)
  if not options.env then
    table.move({ "--spool", dir:join "spool" }, 1, 2, #command + 1, command)
  end
  return process.run(command)
end

-- What it says, on success.
local function says(...)
  local result = queue { ... }
  assert.equal(0, result.code, result.output)
  return result.out
end

local function rows(...)
  local list = {}
  for line in says("ls", "--json", ...):gmatch "[^\n]+" do
    list[#list + 1] = assert(dkjson.decode(line))
  end
  return list
end

local function send(house, from, to, text)
  assert(moonpost.send { from = from, to = to, via = "smtp://" .. house.at.smtp, message = text or "Subject: Hi\r\n\r\nHello.\r\n" })
end

-- Until none is on its way any more.
local function settled(count)
  for _ = 1, 200 do
    local list, busy = rows(), false
    for _, row in ipairs(list) do
      busy = busy or row.state == "busy"
    end
    if #list == count and not busy then
      return list
    end
    moonpost.sleep(0.05)
  end
  error "deliveries stay on their way"
end

local function commands(with)
  it("lists, shows and gives out" .. with, function()
    local out = says "ls"
    assert.matches("^ID +AGE +SIZE +NEXT +TRIES +FROM %-> TO\n", out)
    assert.matches("ann@example%.net %-> bob@one%.example\n", out)
    local list = rows()
    assert.equal(3, #list)
    assert.equal("bob@one.example", list[1].recipient)
    local details = says("show", list[1].id)
    assert.matches("\nfrom +ann@example%.net\nto +bob@one%.example\n", details)
    assert.matches("\nexpires +%d%d%d%d%-", details)
    local octets = says("cat", list[3].id)
    assert.matches("^Received: ", octets)
    assert.matches("\r\n\r\nGr\xfc\xdfe \xc3\xbc\1.\r\n$", octets)
  end)

  it("finds by filters, and says when it finds nothing" .. with, function()
    assert.equal(1, #rows("--to", "bob@one.example"))
    assert.equal(2, #rows("--to", "*@two.example"))
    assert.equal(2, #rows("--from", "*@example.net"))
    assert.equal(1, #rows("--from", "<>"))
    assert.equal(2, #rows("--domain", "two.example"))
    assert.equal(0, #rows("--older", "1h"))
    assert.equal(3, #rows("--younger", "1h"))
    assert.equal(2, #rows("--most", "2"))
    assert.equal("nothing\n", says("ls", "--held"))
    local result = queue { "ls", "nosuch" }
    assert.same({ 1, "nothing\n" }, { result.code, result.out })
    for _, command in ipairs { "show", "cat" } do
      result = queue { command, "nosuch" }
      assert.same({ 1, "moonpost: queue: nosuch: there is no such message\n" }, { result.code, result.err })
    end
  end)

  it("holds, releases, sends elsewhere" .. with, function()
    local id = rows()[1].id
    assert.equal("1 held\n", says("hold", id))
    assert.equal("held", rows("--held")[1].state)
    assert.equal("1 released\n", says("release", id))
    assert.equal('{"busy":0,"changed":1}\n', says("redirect", "eve@three.example", id, "--json"))
    assert.equal("eve@three.example", settled(3)[1].recipient)
    assert.equal("1 redirected\n", says("redirect", "bob@one.example", "--domain", "three.example"))
    assert.equal("bob@one.example", settled(3)[1].recipient)
  end)

  it("says what is in it" .. with, function()
    local out = says "stats"
    assert.matches("^3 messages, 3 deliveries: %d wait, %d on their way, 0 held\n", out)
    assert.matches("\ntwo%.example +2\n?", out)
    local stats = assert(dkjson.decode(says("stats", "--json")))
    assert.same({ 3, 2 }, { stats.messages, stats.domains["two.example"] })
    out = says("top", "--once")
    assert.matches("^moonpost queue  %d%d:%d%d:%d%d   %d wait for 2 domains", out)
    assert.not_matches("\27", out)
  end)

  it("looks at the whole spool" .. with, function()
    assert.equal("fine\n", says "check")
    assert.equal('{"aside":0}\n', says("check", "--json"))
  end)

  it("tells what is wrong with what it is asked for" .. with, function()
    for _, case in ipairs {
      { "hold", "hold: IDs, filters or --all are needed" },
      { "redirect", "nobody", "x", "an address expected" },
      { "bounce", "--all", "--code", "450", "a code of 500 to 599 expected" },
      { "cat", "cat: one ID expected" },
    } do
      local words = table.move(case, 1, #case - 1, 1, {})
      local result = queue(words)
      assert.equal(1, result.code)
      assert.matches(case[#case], result.err, 1, true)
    end
  end)
end

describe("moonpost queue", function()
  describe("to a server that runs", function()
    local house
    setup(function()
      dir = tmpdir.new()
      house = serve()
      send(house, "ann@example.net", "bob@one.example")
      send(house, "ann@example.net", "bob@two.example")
      send(house, "", "carl@two.example", "Subject: x\r\n\r\nGr\xfc\xdfe \xc3\xbc\1.\r\n")
      settled(3)
    end)
    teardown(function()
      house:stop()
      assert.equal(0, house:count(" error "))
      dir:remove()
    end)

    commands ""

    it("has a socket for its own user alone", function()
      local pipe <close> = assert(io.popen(("stat -c %%a '%s'"):format(dir:join "spool/control")))
      assert.equal("600", pipe:read "l")
    end)

    it("tries now, which ends the pause of the site", function()
      local before = rows()[1]
      assert.equal("127.0.0.1:1", (before.site:gsub("^smtp://", "")))
      local stats = dkjson.decode(says("stats", "--json"))
      assert.equal("paused", stats.sites[1].state)
      assert.matches(" paused +0  ann@example%.net %-> bob@one%.example\n +again in %w+: 451 4%.4%.1 127%.0%.0%.1", says("ls", before.id))
      local tried = house:count("deferred")
      assert.equal("3 tried now\n", says("retry", "--all"))
      for _ = 1, 200 do
        if house:count("deferred") > tried then
          break
        end
        moonpost.sleep(0.05)
      end
      assert.is_true(house:count("deferred") > tried)
      settled(3)
    end)

    it("suspends a site, resumes it, and limits it", function()
      local site = dkjson.decode(says("stats", "--json")).sites[1].name
      assert.equal(site .. " suspended\n", says("suspend", site))
      for _ = 1, 200 do
        if dkjson.decode(says("stats", "--json")).sites[1].state == "held" then
          break
        end
      end
      assert.matches(" suspend ", says "stats", 1, true)
      assert.matches("\nstate +suspend\n", says("show", settled(3)[1].id)) -- it is due, and does not go
      assert.equal(site .. " resumed\n", says("resume", site))
      assert.equal(site .. " limited\n", says("limit", site, "connections=5", "pause=1h"))
      local result = queue { "limit", site, "conections=5" }
      assert.matches('did you mean "connections"?', result.err, 1, true)
      local slip = site:sub(1, -2)
      assert.equal(('%s suspended, which has no mail at the moment (did you mean "%s"?)\n'):format(slip, site), says("suspend", slip))
      assert.matches("resumed, which has no mail", says("resume", slip), 1, true)
      settled(3)
    end)

    it("keeps its socket across a reload", function()
      house.process:kill("sighup")
      house:expect("policy loaded")
      assert.equal(3, #rows())
      house.process:kill("sighup")
      assert.equal(3, #rows())
      house:expect("policy loaded")
    end)

    -- Whoever may open the socket may say what he likes.
    it("hears rubbish, long lines and half requests without harm", function()
      for _, text in ipairs {
        "rubbish\n", "{}\n", "[1]\n", "null\n", '{"what":"list","filter":7}\n', '{"what":"list","filter":{"nosuch":1}}\n', '{"what":"exec"}\n',
        ("x"):rep(70000), '{"what":"li', "\0\255\n", ('{"what":"list"}\n'):rep(3000), ("["):rep(60000) .. "\n",
      } do
        local script = ([[
          local moonpost, core = require "moonpost", require "moonpost.core"
          local task = require "moonpost.task"
          task.run(function()
            local worker = task.worker()
            local stream
            for _ = 1, 100 do -- it may be between two generations
              stream = stream or task.park(function(up) worker:dial({ to = { { path = %q } } }, up) end)
              if not stream then task.sleep(0.05) end
            end
            local lines, wake, said = nil, nil, {}
            lines = worker:lines(stream, function(what, text)
              if what == "line" then said[#said + 1] = text end
              if what ~= "drained" and wake then local up = wake; wake = nil; up(what) end
            end)
            lines:say(%q)
            task.timeout(0.2, function() task.park(function(up) wake = up end) end)
            print(said[1] or "")
          end)]]):format(dir:join "spool/control", text)
        local path = dir:write("rubbish.lua", ("package.path, package.cpath = %q, %q\n"):format(package.path, package.cpath) .. script)
        local result = process.run { arg[-1] or "lua5.4", path, timeout = 20 }
        assert.equal(0, result.code, result.output)
        house.process:poll()
      end
      assert.equal(3, #rows())
    end)

    it("returns to the sender, and forgets", function()
      local id = rows("--domain", "one.example")[1].id
      assert.equal("1 returned\n", says("bounce", id, "--text", "Not wanted"))
      house:expect("bounced")
      local list = settled(3)
      assert.equal("ann@example.net", list[3].recipient)
      assert.equal("", list[3].sender)
      assert.matches("Not wanted", says("cat", list[3].id), 1, true)
      assert.equal("3 removed\n", says("rm", "--all"))
      assert.equal("nothing\n", says "ls")
    end)
  end)

  describe("to a spool that nobody serves", function()
    setup(function()
      dir = tmpdir.new()
      local house = serve()
      send(house, "ann@example.net", "bob@one.example")
      send(house, "ann@example.net", "bob@two.example")
      send(house, "", "carl@two.example", "Subject: x\r\n\r\nGr\xfc\xdfe \xc3\xbc\1.\r\n")
      settled(3)
      house:stop()
    end)
    teardown(function()
      dir:remove()
    end)

    commands ", alone"

    it("is found by its environment too", function()
      local result = queue { "ls", "--json", env = { MOONPOST_SPOOL = dir:join "spool" } }
      assert.equal(0, result.code, result.output)
      result = queue { "ls", env = { MOONPOST_SPOOL = false } }
      assert.same({ 2, "moonpost: queue: which one? --spool FOLDER, or MOONPOST_SPOOL, is needed\n" }, { result.code, result.err })
    end)

    it("sets aside what is damaged, and says so", function()
      local id = rows()[1].id
      local sql = ("DELETE FROM content WHERE seq = (SELECT seq FROM message WHERE id = '%s')"):format(id)
      local script = dir:write("damage.py",
        ("import sqlite3\nd = sqlite3.connect(%q)\nd.execute(%q)\nd.commit()\n"):format(dir:join "spool/spool.db", sql))
      assert.equal(0, process.run({ "python3", script, timeout = 20 }).code)
      local result = queue { "check" }
      assert.same({ 1, "damaged, and set aside: 1\n" }, { result.code, result.out })
      assert.equal("fine\n", says "check")
      assert.equal(1, queue({ "show", id }).code)
    end)

    it("says of a site that no server runs", function()
      local result = queue { "suspend", "mx.example.net" }
      assert.matches("no server runs", result.err, 1, true)
    end)

    it("returns to the sender: the report is there for the next server", function()
      local left = #rows("--from", "*@example.net")
      assert.equal(left .. " returned\n", says("bounce", "--from", "*@example.net"))
      assert.equal("ann@example.net", rows("--from", "<>", "--domain", "example.net")[1].recipient)
    end)
  end)

  it("names who has a spool that does not answer", function()
    dir = tmpdir.new()
    local script = dir:write("hold.lua", ([[
      package.path, package.cpath = %q, %q
      local core = require "moonpost.core"
      local spool = assert(core.spool(core.worker(), %q))
      print "open"
      io.stdout:flush()
      io.read()]]):format(package.path, package.cpath, dir:join "spool"))
    local holder = process.start { arg[-1] or "lua5.4", script }
    holder:expect "open"
    local result = queue { "ls" }
    assert.equal(1, result.code)
    assert.matches(("in use by process %d on .*; it does not answer at "):format(holder.pid), result.err)
    holder:kill "sigkill"
    dir:remove()
  end)

  it("shows no control character of a peer", function()
    local view = require "moonpost.cli.queue_view"
    local row = {
      id = "m1", number = 1, sender = "a\27[31m@example.net", recipient = "b\u{202e}@example.net", age = 11520, size = 49152, due = 0, attempts = 3,
      received = 0, expires = 0, state = "due", reply = "450 4.2.0 \27]0;x\7later\r\nmore", site = "\155x", host = "mx\1",
    }
    for _, text in ipairs { view.row(row, 0), view.details(row, 0) } do
      assert.not_matches("[\0-\9\11-\31\127]", text)
      assert.not_matches("\u{202e}", text, 1, true)
    end
    assert.matches("^m1 +3h12m +48K +due +3  ", view.row(row, 0))
  end)

  it("says that a spool may not be opened, rather than that it is not there", function()
    local folder <close> = tmpdir.new()
    assert(os.execute(("ln -s spool.db '%s'"):format(folder:join "spool.db"))) -- whoever runs the specs may perhaps read everything
    local result = process.run { process.moonpost, "queue", "ls", "--spool", folder.path, timeout = 10 }
    assert.equal(1, result.code)
    assert.matches("spool.db: Too many levels of symbolic links", result.err, 1, true)
  end)

  it("draws no frames without a pause", function()
    local result = process.run { process.moonpost, "queue", "top", "--every", "0", "--spool", "x", timeout = 10 }
    assert.equal(2, result.code)
    assert.matches('--every: at least 100ms expected, got "0"', result.err, 1, true)
  end)

  it("says where there is no spool", function()
    local result = process.run { process.moonpost, "queue", "ls", "--spool", "/nonexistent", timeout = 10 }
    assert.same({ 1, "moonpost: queue: /nonexistent: there is no spool here\n" }, { result.code, result.err })
  end)
end)
