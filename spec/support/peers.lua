--- Where the real clients are. ./dev test installs or unpacks them; a spec run by hand can ask what is there:
---
---     if not peers.swaks then pending("swaks is not installed") end
---
--- Under ./dev test all of them must be there, and one that is missing is a failure (peers_spec.lua).
local uv = require "luv"

local function executable(path)
  return path and uv.fs_access(path, "X") and path or nil
end

local function in_path(name)
  for folder in os.getenv("PATH"):gmatch("[^:]+") do
    local found = executable(folder .. "/" .. name)
    if found then
      return found
    end
  end
end

local top = uv.cwd()
local node_modules = top .. "/build/peers/node/node_modules"

local M = {
  swaks = in_path "swaks",
  curl = in_path "curl",
  python3 = executable "/usr/bin/python3" or in_path "python3",
  openssl = in_path "openssl",
  gsasl = in_path "gsasl",
  node = in_path "node",
  smtp_source = executable(top .. "/build/peers/bin/smtp-source"),
  smtp_sink = executable(top .. "/build/peers/bin/smtp-sink"),
  postfix = executable(top .. "/build/peers/bin/master") and top .. "/build/peers/postfix",
  postfix_master = executable(top .. "/build/peers/bin/master"),
  exim = executable(top .. "/build/peers/bin/exim4"),
  dovecot = executable(top .. "/build/peers/bin/doveconf") and top .. "/build/peers/dovecot",
  doveconf = executable(top .. "/build/peers/bin/doveconf"),
  dkimpy = in_path "dkimverify",
  opendkim = executable(top .. "/build/peers/bin/opendkim"),
  nsd = executable(top .. "/build/peers/bin/nsd"),
  ldns_keygen = executable(top .. "/build/peers/bin/ldns-keygen"),
  ldns_signzone = executable(top .. "/build/peers/bin/ldns-signzone"),
  --- Environment for `node`, so that require("nodemailer") works from any folder.
  node_env = { NODE_PATH = node_modules },
}

--- True when an npm package lies among the peers.
---@param name "nodemailer"|"smtp-server"|"Haraka"
function M.has_node_module(name)
  return M.node ~= nil and uv.fs_stat(node_modules .. "/" .. name .. "/package.json") ~= nil
end

return M
