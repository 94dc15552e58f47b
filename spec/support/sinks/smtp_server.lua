--- npm's smtp-server: STARTTLS, TLS from the first octet, LMTP over TCP, AUTH PLAIN, LOGIN, CRAM-MD5 and XOAUTH2, SMTPUTF8.
local accounts = require "spec.peers.accounts"
local certs = require "spec.support.certs"
local common = require "spec.support.sinks.common"
local json = require "moonpost.json"
local peers = require "spec.support.peers"

return function()
  local dir = common.folder()
  return common.start({
    name = "smtp-server",
    dir = dir,
    list = common.list_spoken,
    ready = common.ready_spoken,
    heard = common.spoken,
    taken = 0,
    mechanisms = { "PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2" },
  }, {
    peers.node, "spec/support/sinks/smtp_server_serve.js", json.encode {
      folder = dir:mkdir("mail"), certificate = certs.server.certificate, key = certs.server.key, user = accounts.user,
      password = accounts.password, token = accounts.token,
    }, env = peers.node_env,
  })
end
