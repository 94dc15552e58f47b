-- moonpost.queue { attempts = ... }: each attempt as a line of JSON in a file.
local core = require "moonpost.core"
local dkjson = require "dkjson"
local moonpost = require "moonpost"
local served = require "spec.support.served"
local tmpdir = require "spec.support.tmpdir"

local function lines_of(path)
  local list = {}
  local file = io.open(path)
  for line in file and file:lines() or function() end do
    list[#list + 1] = line
  end
  if file then
    file:close()
  end
  return list
end

-- Until the file has so many lines.
local function await(path, count)
  for _ = 1, 400 do
    local list = lines_of(path)
    if #list >= count then
      return list
    end
    moonpost.sleep(0.01)
  end
  error(("%s has %d lines"):format(path, #lines_of(path)))
end

describe("core.journal", function()
  local function with(limit, keep, fn)
    local dir <close> = tmpdir.new()
    moonpost.run(function()
      local lost = {}
      local path = dir:join "log"
      local journal = assert(core.journal(core.worker(), path, limit, keep, function(count, why)
        lost[#lost + 1] = { count, why }
      end))
      fn(journal, path, lost, dir)
      journal:close()
    end)
  end

  it("#thread appends lines, in order", function()
    with(0, 0, function(journal, path)
      for i = 1, 1000 do
        journal:add("line " .. i)
      end
      local list = await(path, 1000)
      assert.same({ "line 1", "line 1000" }, { list[1], list[1000] })
    end)
  end)

  it("turns the file over at its limit and not before, and keeps so many", function()
    with(10, 2, function(journal, path)
      journal:add "12345678" -- 9 octets with its end
      await(path, 1)
      assert.same({}, lines_of(path .. ".1"))
      journal:add ""
      await(path .. ".1", 2)
      assert.same({}, lines_of(path))
      for i = 1, 3 do
        journal:add(("x"):rep(10) .. i)
        local found
        for _ = 1, 400 do
          found = lines_of(path .. ".1")[1] == ("x"):rep(10) .. i
          if found then
            break
          end
          moonpost.sleep(0.01)
        end
        assert.is_true(found)
      end
      assert.same({ ("x"):rep(10) .. "2" }, lines_of(path .. ".2"))
      assert.same({}, lines_of(path .. ".3"))
    end)
  end)

  it("opens a file anew that somebody has moved", function()
    with(0, 0, function(journal, path)
      journal:add "one"
      await(path, 1)
      assert(os.rename(path, path .. ".old"))
      journal:add "two"
      assert.same({ "two" }, await(path, 1))
      assert.same({ "one" }, lines_of(path .. ".old"))
      assert(os.remove(path))
      journal:add "three"
      assert.same({ "three" }, await(path, 1))
    end)
  end)

  it("goes on in a file that was moved where no other can be made in its place", function()
    with(0, 0, function(journal, path)
      journal:add "one"
      await(path, 1)
      assert(os.rename(path, path .. ".old"))
      assert(os.execute(("mkdir '%s'"):format(path)))
      journal:add "two"
      assert.same({ "one", "two" }, await(path .. ".old", 2))
    end)
  end)

  it("follows a file that another journal has turned over", function()
    with(10, 3, function(journal, path)
      local other = assert(core.journal(core.worker(), path, 0, 0, function() end))
      other:add "a"
      await(path, 1)
      journal:add "1234567890"
      await(path .. ".1", 2)
      other:add "b"
      assert.same({ "b" }, await(path, 1))
      assert.same({ "a", "1234567890" }, lines_of(path .. ".1"))
      other:close()
    end)
  end)

  it("#thread holds up nobody where files cannot be moved", function()
    local dir <close> = tmpdir.new()
    assert(os.execute(("mkdir -p '%s'"):format(dir:join "log.1/x"))) -- no file can take its place
    moonpost.run(function()
      local journals, path = {}, dir:join "log"
      for i = 1, 6 do -- more than the pool has threads
        journals[i] = assert(core.journal(core.worker(), path, 10, 1, function() end))
      end
      for round = 1, 2 do
        for _, journal in ipairs(journals) do
          journal:add "a line over the limit"
        end
        await(path, 6 * round)
      end
      for _, journal in ipairs(journals) do
        journal:close()
      end
    end)
  end)

  it("counts what a full disk cannot take", function()
    moonpost.run(function()
      local lost
      local journal = assert(core.journal(core.worker(), "/dev/full", 0, 0, function(count, why)
        lost = { count, why }
      end))
      journal:add "x"
      for _ = 1, 400 do
        if lost then
          break
        end
        moonpost.sleep(0.01)
      end
      assert.same({ 1, "No space left on device" }, lost)
      journal:close()
    end)
  end)
end)

describe("moonpost.queue { attempts = ... }", function()
  it("tells what is wrong with it", function()
    for _, case in ipairs {
      { 7, "attempts: a path or a table expected, got a number" }, { {}, "attempts: path is needed" },
      { { path = "x", kep = 3 }, 'did you mean "keep"?' }, { { path = "x", keep = 1001 }, "attempts.keep: 0 to 1000 expected" },
    } do
      local ok, why = pcall(moonpost.queue, { spool = "x", attempts = case[1] })
      assert.is_false(ok)
      assert.truthy(tostring(why):find(case[2], 1, true), tostring(why))
    end
  end)

  it("names a folder that is missing at the start", function()
    local ok, why = pcall(served.start, {
      options = 'queue = moonpost.queue { spool = "DIR/spool", attempts = "DIR/no/such/file" },',
    })
    assert.is_false(ok)
    assert.matches("attempts: .*/no/such/file: No such file or directory", tostring(why))
  end)

  it("has a line for each attempt, whatever a server says", function()
    local behind <close> = served.start {
      options = 'relay = { networks = { "127.0.0.1" } }',
      hooks = [[
        function server.on.rcpt(_, one)
          if one.address:find "^u4" then return 450, "4.2.0", 'Say "later" \\ now' end
          if one.address:find "^u5" then return 550, "5.1.1", "Nobody" end
        end
        function server.on.message(_, message) message:discard "test" end]],
    }
    local house <close> = served.start {
      options = ([[relay = { networks = { "127.0.0.1" } }, queue = moonpost.queue {
        spool = "DIR/spool", route = "smtp://%s", attempts = "DIR/attempts.jsonl" },]]):format(behind.at.smtp),
      hooks = "function server.on.message(_, message) message:enqueue() end",
    }
    assert(moonpost.send {
      from = "", to = { "u2@example.net", "u4@example.net", "u5@example.net" }, via = "smtp://" .. house.at.smtp, message = "Subject: x\r\n\r\ny\r\n",
    })
    local by = {}
    for _, line in ipairs(await(house.dir:join "attempts.jsonl", 3)) do
      local row = assert(dkjson.decode(line))
      by[row.recipient] = row
    end
    assert.same({ "delivered", 250, behind.at.smtp:match "^[^:]+" }, {
      by["u2@example.net"].event, by["u2@example.net"].code, by["u2@example.net"].ip,
    })
    assert.same({ "deferred", 450, "4.2.0", 1 }, {
      by["u4@example.net"].event, by["u4@example.net"].code, by["u4@example.net"].enhanced, by["u4@example.net"].attempts,
    })
    assert.matches('Say "later" \\ now', by["u4@example.net"].reply, 1, true)
    assert.is_true(by["u4@example.net"].due > by["u4@example.net"].time)
    assert.same({ "bounced", "rcpt" }, { by["u5@example.net"].event, by["u5@example.net"].stage })
    assert.is_true(by["u5@example.net"].seconds >= 0 and by["u5@example.net"].age >= 0)
  end)

  it("turns its file over, loses no line and keeps so many files", function()
    local behind <close> = served.start {
      options = 'relay = { networks = { "127.0.0.1" } }', hooks = [[function server.on.message(_, message) message:discard "test" end]],
    }
    local house <close> = served.start {
      options = ([[relay = { networks = { "127.0.0.1" } }, queue = moonpost.queue {
        spool = "DIR/spool", route = "smtp://%s", attempts = { path = "DIR/attempts", rotate = 600, keep = 3 } },]]):format(behind.at.smtp),
      hooks = "function server.on.message(_, message) message:enqueue() end",
    }
    local path, client <close> = house.dir:join "attempts", assert(moonpost.connect("smtp://" .. house.at.smtp))
    local function lines()
      local count, last = 0, nil
      for i = 3, 0, -1 do
        for _, line in ipairs(lines_of(i == 0 and path or path .. "." .. i)) do
          last = assert(dkjson.decode(line))
          count = count + 1
        end
      end
      return count, last
    end
    local function send(number)
      assert(client:send { from = "", to = ("u%d@example.net"):format(number), message = "Subject: x\r\n\r\ny\r\n" })
    end
    -- A line has some 400 octets, so every second one turns the file over.
    for number = 1, 4 do
      send(number)
      local count, last
      for _ = 1, 400 do
        count, last = lines()
        if count == number then
          break
        end
        moonpost.sleep(0.01)
      end
      assert.same({ number, ("u%d@example.net"):format(number) }, { count, last.recipient })
    end
    assert.equal(2, #await(path .. ".2", 2))
    assert.equal(2, #await(path .. ".1", 2))
    assert.same({}, lines_of(path .. ".3"))
    send(5)
    await(path, 1)
    assert(os.rename(path, path .. ".gone")) -- as logrotate does, and tells nobody
    send(6)
    assert.equal("u6@example.net", dkjson.decode(await(path, 1)[1]).recipient)
  end)

  it("tells how long each stage took, what a connection takes with its first message alone", function()
    local behind <close> = served.start {
      options = 'relay = { networks = { "127.0.0.1" } }, tls = "development"',
      hooks = [[
        function server.on.message(_, message)
          moonpost.sleep(0.05)
          message:discard "test"
        end]],
    }
    local house <close> = served.start {
      options = ([[relay = { networks = { "127.0.0.1" } }, queue = moonpost.queue {
        spool = "DIR/spool", attempts = "DIR/attempts", routes = { here = function() end },
        route = function(one)
          return one.domain == "dead.example" and "smtp://127.0.0.1:1" or one.domain == "here.example" and "lua:here" or "smtp://%s"
        end } ,]]):format(behind.at.smtp),
      hooks = "function server.on.message(_, message) message:enqueue() end",
    }
    local path = house.dir:join "attempts"
    local function attempt(to, count)
      assert(moonpost.send { from = "", to = to, via = "smtp://" .. house.at.smtp, message = "Subject: x\r\n\r\ny\r\n" })
      return assert(dkjson.decode(await(path, count)[count]))
    end
    local function stages(row)
      local list = {}
      for stage, ms in pairs(row.times) do
        assert.equal("integer", math.type(ms))
        assert.is_true(ms >= 0 and ms <= row.seconds * 1000 + 1, stage)
        list[#list + 1] = stage
      end
      table.sort(list)
      return list
    end
    local first = attempt("u1@example.net", 1)
    assert.same({ "banner", "connect", "ehlo", "message", "tls" }, stages(first))
    assert.is_true(first.times.message >= 50 and first.times.connect < 1000)
    assert.same({ true, "TLSv1.3" }, { first.tls.used, first.tls.version })
    assert.same({ "message" }, stages(attempt("u2@example.net", 2)))
    local dead = attempt("u3@dead.example", 3)
    assert.same({ "deferred", 0, { "connect" } }, { dead.event, dead.attempts, stages(dead) })
    assert.is_true(dead.due > dead.time + 20) -- when its site is asked again
    assert.same({ false, "string" }, { dead.tls.used, type(dead.tls.why) })
    assert.is_nil(attempt("u4@here.example", 4).times)
  end)
end)
