--- Postfix, the whole of it, from where ./dev unpacked it: STARTTLS on one port, TLS from the first octet on another, delivery
--- of everything for example.org into one Maildir. With `auth`, SASL by Dovecot. Its master runs as root only.
---
---     local sink <close> = require "spec.support.sinks.postfix" { auth = true, main = { "smtpd_recipient_limit = 3" } }
local accounts = require "spec.peers.accounts"
local certs = require "spec.support.certs"
local common = require "spec.support.sinks.common"
local peers = require "spec.support.peers"
local ports = require "spec.support.ports"
local uv = require "luv"

-- Accounts that every Debian has; Postfix wants them to differ.
local OWNER, GROUP, OTHERS = "mail", "daemon", "nobody"

local main = [[
compatibility_level = 3.6
maillog_file = /dev/stdout
queue_directory = %{dir}/queue
data_directory = %{dir}/data
daemon_directory = %{postfix}/usr/lib/postfix/sbin
command_directory = %{postfix}/usr/sbin
shlib_directory = %{postfix}/usr/lib/postfix
meta_directory = %{postfix}/etc/postfix
mail_owner = %{owner}
setgid_group = %{group}
default_privs = %{others}
import_environment = LD_LIBRARY_PATH MAIL_CONFIG LANG=C
myhostname = mx.example.org
inet_interfaces = 127.0.0.1
mynetworks =
local_header_rewrite_clients =
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
proxy_read_maps =
virtual_mailbox_domains = example.org
virtual_mailbox_maps = static:inbox/
virtual_mailbox_base = %{dir}/mail
virtual_uid_maps = static:%{uid}
virtual_gid_maps = static:%{gid}
virtual_mailbox_limit = 0
message_size_limit = 60000000
default_transport = discard
smtputf8_enable = yes
smtpd_tls_cert_file = %{certificate}
smtpd_tls_key_file = %{key}
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_sasl_authenticated_header = yes
]]

local sasl = [[
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = %{auth}
smtpd_sasl_tls_security_options = noanonymous
smtpd_tls_auth_only = yes
]]

local master = [[
127.0.0.1:%{plain} inet n - n - - smtpd
127.0.0.1:%{implicit} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
]]

-- Its log goes to /dev/stdout, which cannot be opened anew where it is a socket, as it is for our children: a pipe is put
-- between.
local piped = 'log=$1; shift; mkfifo "$log" && { cat "$log" & exec "$0" "$@" >"$log" 2>&1; }'

---@class spec.sinks.Postfix
---@field auth? boolean
---@field main? string[] more lines of main.cf
---@field master? string[] more lines of master.cf

---@param options? spec.sinks.Postfix
return function(options)
  options = options or {}
  local dir = common.folder()
  local behind = options.auth and require "spec.support.sinks.dovecot" { auth = true } or nil
  local values = {
    dir = dir.path, postfix = peers.postfix, owner = OWNER, group = GROUP, others = OTHERS,
    uid = common.id("/etc/passwd", OTHERS), gid = common.id("/etc/group", "nogroup"),
    certificate = certs.server.certificate, key = certs.server.key,
    plain = ports.free(), implicit = ports.free(), auth = behind and behind.auth,
  }
  local function fill(text)
    return (text:gsub("%%{(%l+)}", function(name)
      return tostring(assert(values[name], name))
    end))
  end
  local lines = fill(main .. (behind and sasl or "")) .. table.concat(options.main or {}, "\n") .. "\n"
  dir:write("conf/main.cf", lines)
  dir:write("conf/master.cf", fill(master) .. table.concat(options.master or {}, "\n") .. "\n")
  for name, mode in pairs {
    active = 448, bounce = 448, corrupt = 448, defer = 448, deferred = 448, flush = 448, hold = 448, incoming = 448,
    private = 448, saved = 448, trace = 448, maildrop = 472, public = 456,
  } do
    local path = dir:mkdir("queue/" .. name)
    common.own(path, OWNER, GROUP)
    assert(uv.fs_chmod(path, mode))
  end
  assert(uv.fs_chmod(dir:join("queue"), 493))
  assert(uv.fs_chmod(dir:mkdir("queue/pid"), 493))
  common.own(dir:mkdir("data"), OWNER)
  common.own(dir:mkdir("mail"), OTHERS)
  return common.start({
    name = "Postfix",
    dir = dir,
    behind = behind,
    port = values.plain,
    url = "smtp://127.0.0.1:" .. values.plain,
    implicit = "smtps://127.0.0.1:" .. values.implicit,
    ports = { plain = values.plain, implicit = values.implicit },
    mechanisms = behind and { "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256" } or {},
    user = accounts.user,
    maildirs = { dir:join("mail/inbox/new") },
    list = common.list_maildirs,
    heard = "postfix/virtual.* status=sent",
    taken = 0,
  }, {
    "sh", "-c", piped, peers.postfix_master, dir:join("log"), "-s", "-c", dir:join("conf"),
  }, { values.plain, values.implicit })
end
