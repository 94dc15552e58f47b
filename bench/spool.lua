--- The spool by itself (bench/spool.c): messages kept a second, bodies in files against the bare disk, and what a million messages that wait
--- cost: to start with, in memory, and for each claim and reschedule against a thousand.
local figures = require "bench.support.figures"

local build = os.getenv("MOONPOST_BUILD") or "build"
local folder = build .. "/bench/spool"
local ROUNDS, MILLION, DOMAINS = 5, 1000000, 50000

-- What the program says, by name.
local function run(what, name, ...)
  local command = ("%s/bench/bench_spool %s %s/%s %s"):format(build, what, folder, name, table.concat({ ... }, " "))
  local pipe <close> = assert(io.popen(command))
  local said = {}
  for line in pipe:lines() do
    local key, value = line:match("^(%S+) (%S+)$")
    said[key] = tonumber(value)
  end
  return said
end

local function remove(name)
  assert(os.execute(("rm -rf '%s/%s'"):format(folder, name)))
end

local function median(measure)
  local values = {}
  for round = 1, ROUNDS do
    values[round] = measure()
  end
  return figures.median(values)
end

return function(row)
  assert(os.execute("mkdir -p " .. folder))
  for _, pair in ipairs { { 1, 1000 }, { 20, 10000 }, { 200, 20000 } } do
    local clients, messages = table.unpack(pair)
    row { what = ("messages of 4 KB kept, synced, %d at a time"):format(clients), unit = "/s", value = median(function()
      remove "put"
      return run("put", "put", clients, messages).rate
    end) }
  end
  local speed = {}
  row { what = "bodies of 100 KB in files, against the bare disk", goal = 0.5, value = median(function()
    remove "bodies"
    local bare = run("bare", "", 16, 1000).mb_s
    speed[#speed + 1] = run("bodies", "bodies", 16, 1000).mb_s
    return speed[#speed] / bare
  end), detail = ("%.0f MB/s"):format(figures.median(speed)) }

  remove "few"
  remove "many"
  run("fill", "few", 1000, 50)
  run("fill", "many", MILLION, DOMAINS)
  local memory = 0
  row { what = "a million messages wait: from start to first claim", unit = "ms", goal = 2000, most = true, value = median(function()
    local said = run("start", "many")
    memory = math.max(memory, said.mb)
    return said.ms
  end) }
  row { what = "a million messages wait: resident memory", unit = "MB", goal = 100, most = true, value = memory }
  local wall, cpu = {}, {}
  for round = 1, ROUNDS do
    local few, many = run("turn", "few", 20, 5000), run("turn", "many", 20, 5000)
    wall[round], cpu[round] = many.wall / few.wall, many.cpu / few.cpu
  end
  row { what = "claim and reschedule among a million, against a thousand", goal = 2, most = true, value = figures.median(wall),
    detail = ("processor time %.1f x"):format(figures.median(cpu)) }
  assert(os.execute("rm -rf " .. folder))
end
