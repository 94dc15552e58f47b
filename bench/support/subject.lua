--- The servers that are measured, each a process on a loopback port: ours with a policy of bench/policies, and peers.
local peers = require "spec.support.peers"
local ports = require "spec.support.ports"
local process = require "spec.support.process"
local socket = require "socket"
local tmpdir = require "spec.support.tmpdir"
local uv = require "luv"

local M = {}

local Subject = {}
local Subject_mt = { __index = Subject, __name = "bench.subject" }

local top = uv.cwd()
local WAIT = 20 -- seconds for a server to come up

--- Turns the loop until somebody answers at the port. Some peers say nothing when they are ready.
local function reachable(self)
  local late = uv.hrtime() + WAIT * 1000000000
  local again = uv.new_timer()
  again:start(10, 10, function() end)
  local up
  repeat
    uv.run("once")
    local connection = assert(socket.tcp())
    connection:settimeout(1)
    up = connection:connect("127.0.0.1", self.port)
    connection:close()
  until up or self.process.code or uv.hrtime() > late
  again:close()
  uv.run("nowait")
  return up
end

local function start(name, port, command, folder)
  local self = setmetatable({ name = name, port = port, folder = folder, process = process.start(command) }, Subject_mt)
  self.pid = self.process.pid
  if not reachable(self) then
    local output = self.process.output
    self:stop()
    error(("%s does not answer on port %d:\n%s"):format(name, port, output), 0)
  end
  return self
end

--- Our server, serving a policy of this folder.
---@param policy string "drop"
---@param env? table<string, string>
function M.moonpost(policy, env)
  local port = ports.free()
  local all = { BENCH_PORT = tostring(port) }
  for name, value in pairs(env or {}) do
    all[name] = value
  end
  return start("moonpost", port, {
    process.moonpost, "serve", "--log-level", all.BENCH_LOG or "warn", ("bench/policies/%s.lua"):format(policy), env = all,
  })
end

--- Who reads everything and keeps nothing, and knows no protocol.
function M.bare()
  local port = ports.free()
  return start("bare copy", port, { peers.python3, "bench/peers/sink.py", tostring(port) })
end

--- A server that takes messages at the pace of a bare copy, and says how long each took: subject:seconds(count).
---@param pair? { certificate: string, key: string } TLS from the first octet
function M.take(pair)
  local port = ports.free()
  return start("take", port, {
    peers.python3, "bench/peers/take.py", tostring(port), pair and pair.certificate, pair and pair.key,
  })
end

--- What the kernel takes of the same sessions: a loop that reads and answers.
function M.floor()
  local port, folder = ports.free(), tmpdir.new()
  local program = folder:join("floor")
  local made = process.run { "cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-o", program, "bench/peers/floor.c", timeout = 60 }
  assert(made.code == 0, made.output)
  return start("floor", port, { program, tostring(port) }, folder)
end

--- Postfix's sink: one process, an event loop in C, that checks nothing.
function M.sink()
  if not peers.smtp_sink then
    return nil
  end
  local port = ports.free()
  local command = { peers.smtp_sink, "127.0.0.1:" .. port, "1000" }
  if uv.getuid() == 0 then -- it will not run as root
    table.insert(command, 2, "-u")
    table.insert(command, 3, "nobody")
  end
  return start("smtp-sink", port, command)
end

--- The npm package smtp-server.
function M.node()
  if not peers.has_node_module("smtp-server") then
    return nil
  end
  local port = ports.free()
  return start("smtp-server (npm)", port, {
    peers.node, "bench/peers/smtp-server.js", tostring(port), env = peers.node_env,
  })
end

--- Haraka in one process with a plug-in that takes every recipient and drops every message.
function M.haraka()
  if not peers.has_node_module("Haraka") then
    return nil
  end
  local port, folder = ports.free(), tmpdir.new()
  local package = top .. "/build/peers/node/node_modules/Haraka"
  local function copy(name, from)
    local file <close> = assert(io.open(from .. "/" .. name, "rb"))
    folder:write(name, (file:read("a"):gsub("@PORT@", tostring(port))))
  end
  for _, name in ipairs { "plugins/drop.js", "config/plugins", "config/smtp.ini", "config/log.ini", "config/me" } do
    copy(name, "bench/peers/haraka")
  end
  copy("config/connection.ini", package) -- it does not start without
  return start("Haraka", port, { peers.node, package .. "/bin/haraka", "-c", folder.path, env = peers.node_env }, folder)
end

--- What take.py says of the next messages.
---@param count integer
---@return number[]
function Subject:seconds(count)
  local list = {}
  for i = 1, count do
    list[i] = tonumber(self.process:expect("^([%d.]+)$", 60))
  end
  return list
end

function Subject:stop()
  if self.name == "Haraka" then
    self.process:kill("sigkill") -- it would say goodbye to idle connections for half a minute
    self.process:wait()
  else
    self.process:stop()
  end
  if self.folder then
    self.folder:remove()
  end
end

Subject_mt.__close = Subject.stop

--- Exim, which keeps everything in its queue and delivers nothing. Its packaged binary wants an account of its own, which is shown to it in a mount
--- namespace; so it needs root.
function M.exim()
  if not peers.exim or uv.getuid() ~= 0 then
    return nil
  end
  local port, folder = ports.free(), tmpdir.new()
  folder:mkdir("spool")
  folder:mkdir("log")
  local passwd, group = assert(io.open("/etc/passwd")):read("a"), assert(io.open("/etc/group")):read("a")
  folder:write("passwd", passwd .. "Debian-exim:x:1:1::/nonexistent:/usr/sbin/nologin\n")
  folder:write("group", group .. "Debian-exim:x:1:\n")
  folder:write("exim.conf", ([[
primary_hostname = bench.example.org
spool_directory = %s/spool
log_file_path = %s/log/%%slog
daemon_smtp_ports = %d
local_interfaces = 127.0.0.1
queue_only
smtp_accept_max = 500
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_accept_queue = 0
smtp_connect_backlog = 200
rfc1413_query_timeout = 0s
host_lookup =
acl_smtp_rcpt = ok
acl_smtp_data = ok
tls_advertise_hosts =
begin acl
ok:
  accept
begin routers
all:
  driver = accept
  transport = drop
begin transports
drop:
  driver = appendfile
  file = /dev/null
]]):format(folder.path, folder.path, port))
  assert(os.execute(("chown -R 1:1 '%s' && chmod 755 '%s' && chown root '%s/exim.conf'"):format(folder.path, folder.path, folder.path)))
  return start("Exim", port, {
    "unshare", "-m", "sh", "-c", 'mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/group" /etc/group && exec "$@"', folder.path, peers.exim,
    "-C", folder:join("exim.conf"), "-bdf", "-oX", tostring(port),
  }, folder)
end

return M
