-- As plain, with TLS: the certificate is made by whoever measures.
local server = require "bench.policies.common" { tls = { certificate = os.getenv("BENCH_PEM") } }

function server.on.message(_, message)
  message:discard("measured")
end

return server
