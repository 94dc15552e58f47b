-- The 250 goes out when everything is synced that would be missed after a power failure: the body, the folder that names it, the log of the database.
local moonpost = require "moonpost"
local process = require "spec.support.process"
local served = require "spec.support.served"
local tmpdir = require "spec.support.tmpdir"

-- What stands between two acceptances: names of what was synced, in order.
local function trace(path)
  local rounds, round = {}, {}
  for line in io.lines(path) do
    if line:find "^accepted" then
      rounds[#rounds + 1], round = round, {}
    else
      round[#round + 1] = line:match "^synced .-/spool(/.*)$" or line:match "^synced .-/(spool)$"
    end
  end
  return rounds
end

local function place(list, pattern)
  for i, name in ipairs(list) do
    if name:find(pattern) then
      return i
    end
  end
end

describe("a queue's 250", function()
  it("comes after the syncs of body, folder and log have returned", function()
    local dir <close> = tmpdir.new()
    local shim = dir:join "synctrace.so"
    local made = process.run { "cc", "-shared", "-fPIC", "-O1", "-o", shim, "spec/support/synctrace.c", timeout = 60 }
    assert.equal(0, made.code, made.output)
    local house = served.start {
      dir = dir,
      env = {
        LD_PRELOAD = table.concat({ os.getenv "LD_PRELOAD" or shim, os.getenv "LD_PRELOAD" and shim }, ":"), SYNCTRACE = dir:join "trace",
        ASAN_OPTIONS = (os.getenv "ASAN_OPTIONS" or "") .. ":verify_asan_link_order=0",
      },
      options = 'relay = { networks = { "127.0.0.1" } }, queue = moonpost.queue { spool = "DIR/spool", route = "smtp://127.0.0.1:1" },',
      hooks = "function server.on.message(_, message) message:enqueue() end",
    }
    local client = assert(moonpost.connect { url = "smtp://" .. house.at.smtp, tls = "none" })
    for _, size in ipairs { 10, 300000, 10, 300000 } do
      assert(client:send { from = "", to = "bob@example.net", message = "Subject: x\r\n\r\n" .. ("y\r\n"):rep(size // 3) })
    end
    client:quit()
    house:stop()
    local rounds = trace(dir:join "trace")
    assert.equal(4, #rounds)
    for i, round in ipairs(rounds) do
      local log = place(round, "spool%.db%-wal")
      assert.is_number(log, table.concat(round, " "))
      if i % 2 == 0 then
        local body, folder = place(round, "^/bodies/#") or place(round, "%(deleted%)"), place(round, "^/bodies/%x%x$")
        assert.is_number(body, table.concat(round, " "))
        assert.is_true(body < folder and folder < log, table.concat(round, " "))
      end
    end
  end)
end)
