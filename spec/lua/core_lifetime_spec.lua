-- What the handles of moonpost.core hold on to, and what is left when Lua raises in the middle. Sanitizer builds see most of it.
local core = require "moonpost.core"
local process = require "spec.support.process"
local tmpdir = require "spec.support.tmpdir"
local uv = require "luv"

local UPTO_DATA = "HELO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.org>\r\nDATA\r\n"

local function service(worker, dispatch)
  local made = worker:service {
    hostname = "mx.example.org", domains = { "example.org" }, session = function(conn) return conn end, dispatch = dispatch,
  }
  made:hooks { "connect", "message" }
  return made
end

describe("moonpost.core: lifetimes", function()
  -- A service that failed half way was killed when it was collected by turning its loop until it was gone. Inside a turn, where a server is
  -- made anew by a hook, a loop cannot be turned: the collector never came back.
  it("collects a service that was never finished, inside a turn of its loop", function()
    local worker, collected = core.virtual_worker(), false
    worker:defer(function()
      assert.is_false(pcall(worker.service, worker, { hostname = "mx.example.org", domains = { {} } }))
      collectgarbage()
      collectgarbage()
      collected = true
    end)
    worker:turn(false)
    assert.is_true(collected)
  end)

  -- Nothing held the worker but the script's own variable. Its end freed connections and blocks of messages that handles still named.
  it("keeps the worker while a connection or a message of it is held", function()
    local conn, message
    local function play()
      local worker = core.virtual_worker()
      local wire = service(worker, function(kind, session, arg)
        conn = session
        if kind == "message" then
          message = arg
          message:keep()
          return core.PENDING
        end
      end):wire({ early = "tolerate" }, {})
      wire:send(UPTO_DATA .. "hello\r\n.\r\n")
      worker:turn(false)
    end
    play()
    collectgarbage()
    collectgarbage()
    assert.is_true(conn:alive())
    assert.equal("hello\r\n", message:octets())
    message:close()
  end)

  -- Who is told of a line, or that the other end is gone, may close the conversation and forget it. Its box was looked at again after that.
  it("survives a conversation in lines that is closed and collected by who hears of it", function()
    for _, case in ipairs { { "one\ntwo\n", { "line" } }, { "one", { "end" } } } do
      local dir <close> = tmpdir.new()
      local worker, heard, kept = core.worker(), {}, nil
      local binding = assert(core.bind { path = dir:join "control", mode = 384 })
      local listener = assert(worker:listen_lines(binding, function(lines)
        kept = lines
        return function(what)
          heard[#heard + 1] = what
          kept:close()
          kept = nil
          collectgarbage()
          collectgarbage()
        end
      end))
      local pipe = uv.new_pipe()
      pipe:connect(dir:join "control")
      while pipe:is_writable() ~= true do
        uv.run "nowait"
      end
      pipe:write(case[1])
      pipe:shutdown()
      for _ = 1, 1000 do
        uv.run "nowait"
        worker:turn(false)
        if #heard > 0 then
          break
        end
      end
      pipe:close()
      uv.run "nowait"
      listener:close()
      assert.same(case[2], heard)
    end
  end)

  it("survives a spool that is closed and collected by who reads its log", function()
    local dir <close> = tmpdir.new()
    local worker, heard = core.virtual_worker(), {}
    assert(core.spool(worker, dir:join "spool")):close()
    dir:write("spool/bodies/00/orphan", "x")
    local spool = assert(core.spool(worker, dir:join "spool"))
    spool:logged(function(line)
      heard[#heard + 1] = line
      spool:close()
      spool = nil
      collectgarbage()
      collectgarbage()
    end)
    for _ = 1, 10 do
      worker:turn(false)
    end
    assert.equal(1, #heard)
    assert.matches("removed 1 files", heard[1], 1, true)
  end)

  -- Who is told of lost lines found the journal idle: a second line began a second batch while the first was on its way, and close() freed it under
  -- whoever told.
  it("takes lines, or its end, from who is told that a journal lost some", function()
    for _, closes in ipairs { true, false } do
      local worker, told, journal = core.virtual_worker(), 0, nil
      journal = assert(core.journal(worker, "/dev/full", 0, 0, function()
        told = told + 1
        if closes then
          journal:close()
        elseif told == 1 then
          journal:add "two"
          journal:add "three"
        end
      end))
      journal:add "one"
      for _ = 1, 10 do
        worker:turn(told < (closes and 1 or 2))
      end
      assert.equal(closes and 1 or 2, told)
    end
  end)

  it("keeps the worker of a journal, of a spool, and of a message that was made", function()
    local dir <close> = tmpdir.new()
    local message = assert(core.virtual_worker():message("A: b\r\n\r\nc\r\n", "a@example.net", "b@example.org", "1", 0, false, print))
    local journal = assert(core.journal(core.virtual_worker(), dir:join "log", 0, 0, function() end))
    local spool = assert(core.spool(core.virtual_worker(), dir:join "spool"))
    collectgarbage()
    collectgarbage()
    assert.equal("A: b\r\n\r\nc\r\n", message:octets())
    message:close()
    journal:add "one"
    spool:check(function() end)
    journal:close()
    spool:close()
  end)

  -- The end of any worker made the state forget the deliveries of all its workers: their tasks waited for ever.
  it("reports a delivery after another worker is gone", function()
    local worker, outcome = core.virtual_worker(), nil
    local wire = service(worker, function(kind, _, message)
      if kind == "message" then
        message:file(worker, { path = "/nowhere/at/all" }, function(told) outcome = told end)
        return 250
      end
    end):wire({ early = "tolerate" }, {})
    wire:send(UPTO_DATA .. "hello\r\n.\r\n")
    core.virtual_worker()
    collectgarbage()
    collectgarbage()
    worker:turn(false)
    assert.equal("NOTFOUND", outcome and outcome.error)
  end)

  -- os.exit closes the state first, and the worker waited for its services with turns that cannot be had inside of one.
  it("lets a callback end the process with os.exit(code, true)", function()
    local program = [[
      local core = require "moonpost.core"
      local worker = core.worker()
      local made = worker:service { hostname = "mx", domains = {}, session = function() end, dispatch = function() end }
      worker:defer(function() os.exit(7, true) end)
      worker:run()
    ]]
    local dir <close> = tmpdir.new()
    local run = process.run {
      uv.exepath(), dir:write("exit.lua", program), env = { LUA_CPATH = package.cpath, ASAN_OPTIONS = "detect_leaks=0" }, timeout = 20,
    }
    assert.equal(7, run.code, run.output)
  end)

  -- What was raised went to the terminal as it was: whoever got a header field quoted in an error could write lines of the log.
  it("writes an error that nobody catches as one line without control characters", function()
    local program = [[
      local core = require "moonpost.core"
      local worker = core.worker()
      worker:defer(function() error("one\27[2Jtwo\r\nthree", 0) end)
      worker:turn(true)
    ]]
    local dir <close> = tmpdir.new()
    local run = process.run {
      uv.exepath(), dir:write("raise.lua", program), env = { LUA_CPATH = package.cpath, ASAN_OPTIONS = "detect_leaks=0" }, timeout = 20,
    }
    assert.equal("moonpost: error outside every task: one?[2Jtwo??three\n", run.err)
  end)

  -- The head of an edited message stood in C memory while Lua was asked for a string, and stayed there when the state's ceiling said no.
  it("leaves nothing behind when the memory ceiling refuses a message's octets", function()
    local worker, refused = core.virtual_worker(), 0
    local wire = service(worker, function(kind, _, message)
      if kind ~= "message" then
        return
      end
      message:replace(1, "edited")
      collectgarbage()
      core.memory(math.floor(collectgarbage("count") * 1024) + 20000)
      for _, call in ipairs { message.octets, function() return message:field(2) end } do
        local ok, err = pcall(call, message)
        refused = refused + (not ok and err == "not enough memory" and 1 or 0)
      end
      core.memory(0)
      return 250
    end):wire({ early = "tolerate" }, {})
    local line = " " .. ("x"):rep(900) .. "\r\n"
    wire:send(UPTO_DATA .. "Subject: x\r\nX-Long: x\r\n" .. line:rep(100) .. "\r\nhello\r\n.\r\n")
    assert.equal(2, refused)
    assert.truthy(wire:receive():find("250 ", 1, true))
  end)
end)
