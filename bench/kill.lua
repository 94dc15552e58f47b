--- A relay that is killed in the midst of its work five hundred times: what got 250 and never came out must be nothing. BENCH_KILLS sets how often.
local numbered = require "spec.support.numbered"

local ROUNDS = tonumber(os.getenv("BENCH_KILLS")) or 500

return function(row)
  local counts = numbered.kill_again_and_again(ROUNDS, function(round, accepted)
    if round % 50 == 0 then
      io.stderr:write(("kill -9: %d of %d rounds, %d messages accepted\n"):format(round, ROUNDS, accepted))
    end
  end)
  row {
    what = "how often one life of the relay delivers a message, at most", unit = "", goal = 1, most = true, value = counts.most,
  }
  row {
    what = ("messages lost in %d rounds of kill -9"):format(ROUNDS), unit = "", goal = 0, most = true, value = counts.lost,
    detail = ("%d accepted, %d arrived more than once"):format(counts.accepted, counts.twice),
  }
end
