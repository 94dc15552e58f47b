-- Every message is kept in a spool, synced, before it is accepted; BENCH_NEXT is where it goes on.
local moonpost = require "moonpost"

local queue = moonpost.queue {
  spool = assert(os.getenv("BENCH_SPOOL")), route = assert(os.getenv("BENCH_NEXT")), hostname = "bench.example.org",
  site = { connections = tonumber(os.getenv("BENCH_CONNECTIONS")) or 20, per_connection = 0, pause = "1h" },
  retry = { "1h", expire = "5d", warn = false },
}

local server = require "bench.policies.common" { tls = false, relay = { networks = { "127.0.0.0/8" } }, queue = queue }

function server.on.message(_, message)
  message:enqueue()
end

return server
