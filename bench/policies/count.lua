-- Takes every message and drops it; says when BENCH_COUNT of them have come.
local log = require("moonpost").log
local server = require "bench.policies.common" { tls = false, relay = { networks = { "127.0.0.0/8" } } }

local left = assert(tonumber(os.getenv("BENCH_COUNT")))

function server.on.message(_, message)
  left = left - 1
  if left == 0 then
    log.warn "all are here"
  end
  message:discard "bench"
end

return server
