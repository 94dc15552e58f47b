--- The index of a typical header block of 8 KB (bench/headers.c).
local figures = require "bench.support.figures"

local build = os.getenv("MOONPOST_BUILD") or "build"
local ROUNDS = 5

return function(row)
  local lists = { index_gb_s = {}, end_gb_s = {}, find_ns = {} }
  for round = 1, ROUNDS do
    local pipe <close> = assert(io.popen(build .. "/bench/bench_headers"))
    for key, value in pipe:read("a"):gmatch "(%S+) (%S+)\n" do
      if lists[key] then
        lists[key][round] = tonumber(value)
      end
    end
  end
  row { what = "index of 8 KB of header", unit = "GB/s", value = figures.median(lists.index_gb_s), goal = 1,
    detail = ("the block's end %.1f GB/s, a field by name %.0f ns"):format(figures.median(lists.end_gb_s), figures.median(lists.find_ns)) }
end
