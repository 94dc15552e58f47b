-- No hook but for messages, which are thrown away: no Lua runs for an idle session, or for the octets of a large one.
local server = require "bench.policies.common" { tls = false }

function server.on.message(_, message)
  message:discard("measured")
end

return server
