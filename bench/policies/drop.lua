-- Every stage has a hook, and every message is thrown away.
local server = require "bench.policies.common" { tls = false }

function server.on.connect() end

function server.on.helo() end

function server.on.mail() end

function server.on.rcpt() end

function server.on.message(_, message)
  message:discard("measured")
end

return server
