-- No hook but for messages: no Lua runs for an idle session.
local server = require "bench.policies.common" { tls = false }

function server.on.message(_, message)
  message:discard("measured")
end

return server
