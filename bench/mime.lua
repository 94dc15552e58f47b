--- Trees of messages that others collected (mime-stalwart of MOONPOST_DATA), made by moonpost.mime from Lua, against GMime called from C
--- (bench/mime.c). Both look at every part's type and disposition.
local data = require "spec.support.data"
local figures = require "bench.support.figures"
local mime = require "moonpost.mime"

local build = os.getenv("MOONPOST_BUILD") or "build"
local ROUNDS, SECONDS = 5, 1

local function collect(root)
  local paths, octets = {}, {}
  for _, folder in ipairs { "rfc", "malformed", "thirdparty" } do
    for _, name in ipairs(data.files(root .. "/" .. folder)) do
      if name:find "%.eml$" then
        local path = ("%s/%s/%s"):format(root, folder, name)
        paths[#paths + 1], octets[#octets + 1] = path, data.read(path)
      end
    end
  end
  return paths, octets
end

-- Microseconds of one round.
local function ours(list)
  local start, rounds, seen = os.clock(), 0, 0
  repeat
    for _, octets in ipairs(list) do
      local tree = assert(mime.parse(octets))
      for part in tree:each() do
        seen = seen + #part.type + (part.disposition and 1 or 0)
      end
    end
    rounds = rounds + 1
  until os.clock() - start > SECONDS
  assert(seen > 0)
  return (os.clock() - start) / rounds * 1e6
end

return function(row)
  local root = data.folder "mime-stalwart"
  if not root then
    return row { what = "trees of the shared messages against GMime from C", detail = "mime-stalwart is not in MOONPOST_DATA" }
  end
  local paths, list = collect(root)
  local mine, theirs = {}, {}
  for round = 1, ROUNDS do
    local pipe <close> = assert(io.popen(("%s/bench/bench_mime '%s'"):format(build, table.concat(paths, "' '"))))
    theirs[round] = tonumber(pipe:read("a"):match "us (%S+)")
    mine[round] = ours(list)
  end
  row {
    what = ("trees of %d messages, time against GMime from C"):format(#list), value = figures.ratio(mine, theirs), goal = 1.2, most = true,
    detail = ("%.0f us : %.0f us"):format(figures.median(mine), figures.median(theirs)),
  }
end
