--- One user for the specs of AUTH: who "user" is, in every form that a mechanism may ask for.
local M = {}

M.user, M.password, M.token = "user@example.org", "correct horse", "ya29.token-of-the-user"

--- Hooks for served.start: credentials, tokens, and a log line for the sender's user.
M.hooks = ([[
local user, password, token = %q, %q, %q
function server.on.credentials(_, name)
  if name == user then return { password = password } end
end
function server.on.token(_, name, given)
  return given == token and (name == user or name == "")
end
function server.on.mail(session, sender)
  log.info("mail", { from = sender.address, user = session.user or "nobody", by = session.mechanism or "nothing" })
end
]]):format(M.user, M.password, M.token)

--- Every mechanism there is.
M.mechanisms = [[mechanisms = { "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256",
  "SCRAM-SHA-256-PLUS", "XOAUTH2", "OAUTHBEARER" }]]

--- Options for served.start: TLS and every mechanism, and a bad password is answered without delay.
M.options = require("spec.support.certs").tls .. ", " .. M.mechanisms .. ', relay = { authenticated = true }, limits = { auth_delay = 0 }'

return M
