--- Python's aiosmtpd: STARTTLS, TLS from the first octet, LMTP over TCP, AUTH PLAIN and LOGIN, SMTPUTF8.
local accounts = require "spec.peers.accounts"
local certs = require "spec.support.certs"
local common = require "spec.support.sinks.common"
local json = require "moonpost.json"
local peers = require "spec.support.peers"

return function()
  local dir = common.folder()
  return common.start({
    name = "aiosmtpd",
    dir = dir,
    list = common.list_spoken,
    ready = common.ready_spoken,
    heard = common.spoken,
    taken = 0,
    mechanisms = { "PLAIN", "LOGIN" },
  }, {
    peers.python3, "-W", "ignore", "spec/support/sinks/aiosmtpd_serve.py", json.encode {
      folder = dir:mkdir("mail"), certificate = certs.server.certificate, key = certs.server.key, user = accounts.user,
      password = accounts.password,
    },
  })
end
