--- Dovecot from where ./dev unpacked it: LMTP over TCP and over a unix socket into a Maildir for each address. With `auth` it serves nothing
--- but a socket for Postfix, at sink.auth, that knows the user of spec/peers/accounts.lua. It runs as root only.
local accounts = require "spec.peers.accounts"
local common = require "spec.support.sinks.common"
local peers = require "spec.support.peers"
local ports = require "spec.support.ports"
local uv = require "luv"

-- Accounts that every Debian has.
local OWNER, OTHERS = "mail", "nobody"

local config = [[
base_dir = %{dir}/run
state_dir = %{dir}/run
libexec_dir = %{dovecot}/usr/lib/dovecot
mail_plugin_dir = %{dovecot}/usr/lib/dovecot/modules
import_environment = LD_LIBRARY_PATH
default_internal_user = %{owner}
default_internal_group = %{owner}
default_login_user = %{others}
log_path = /dev/stderr
ssl = no
hostname = mx.example.org
first_valid_uid = 1
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
auth_failure_delay = 0 secs
disable_plaintext_auth = no
protocols = %{protocols}
mail_location = maildir:%{dir}/mail/%u
passdb {
  driver = passwd-file
  args = username_format=%u %{dir}/users
}
userdb {
  driver = static
  args = uid=%{owner} gid=%{owner} home=%{dir}/mail/%u allow_all_users=yes
}
service auth {
  unix_listener postfix {
    mode = 0666
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service stats {
  unix_listener stats-writer {
    mode = 0666
  }
}
]]

local lmtp = [[
service lmtp {
  chroot =
  user = %{owner}
  inet_listener lmtp {
    address = 127.0.0.1
    port = %{port}
  }
  unix_listener lmtp {
    mode = 0666
  }
}
]]

---@param options? { auth?: boolean }
return function(options)
  options = options or {}
  local dir = common.folder()
  local port = ports.free()
  local values = {
    dir = dir.path, dovecot = peers.dovecot, owner = OWNER, others = OTHERS, port = port,
    protocols = options.auth and "" or "lmtp",
  }
  local file = dir:write("dovecot.conf", ((config .. (options.auth and "" or lmtp)):gsub("%%{(%l+)}", values)))
  assert(uv.fs_chmod(dir:write("users", ("%s:{PLAIN}%s\n"):format(accounts.user, accounts.password)), 420))
  assert(uv.fs_chmod(dir:mkdir("run"), 493))
  assert(uv.fs_symlink(peers.dovecot .. "/usr/lib/dovecot/modules", dir:join("run/modules"))) -- see ./dev, unpack_dovecot
  common.own(dir:mkdir("mail"), OWNER)
  local self = {
    name = "Dovecot",
    dir = dir,
    mailboxes = dir:join("mail"),
    list = common.list_maildirs,
    auth = dir:join("run/postfix"),
  }
  if not options.auth then
    self.port = port
    self.url = "lmtp://127.0.0.1:" .. port
    self.path = dir:join("run/lmtp")
    self.unix = "lmtp://unix:" .. self.path
  end
  -- dovecot itself would start a doveconf at a path that is compiled in
  return common.start(self, {
    peers.doveconf, "-f", "service=master", "-c", file, "-m", "master", "-e", peers.dovecot .. "/usr/sbin/dovecot", "-F", "-c",
    file,
  }, options.auth and self.auth or { port, self.path })
end
