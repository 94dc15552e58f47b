-- Large messages, thrown away: what is measured is their way to us.
local server = require "bench.policies.common" { tls = false, limits = { body_memory = os.getenv("BENCH_BODY_MEMORY") } }

function server.on.message(_, message)
  message:discard("measured")
end

return server
