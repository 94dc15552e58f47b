-- Every message is written into a Maildir and synced before it is accepted.
local server = require "bench.policies.common" { tls = false }

function server.on.message(_, message)
  message:deliver { maildir = os.getenv("BENCH_MAILDIR") .. "/%{mailbox}" }
end

return server
