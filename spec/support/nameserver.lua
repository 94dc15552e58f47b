--- A real name server on loopback, with zones that are signed here and now.
---
---     local server <close> = nameserver.start { ["secure.example"] = { records = "@ MX 10 mx\nmx A 192.0.2.1\n", signed = true } }
---     local names = dns.resolver(server:resolver())
---
--- A zone: `records`, as in a zone file, its SOA and NS left out; `signed`: true, or "expired"; `change`: a function that may spoil
--- the text of the signed zone; `anchored = false`: nobody is given its key.
local peers = require "spec.support.peers"
local ports = require "spec.support.ports"
local process = require "spec.support.process"
local tmpdir = require "spec.support.tmpdir"

local M = {}

M.there = peers.nsd ~= nil and peers.ldns_signzone ~= nil and peers.ldns_keygen ~= nil

local Server = {}
local Server_mt = { __index = Server, __name = "spec.nameserver" }

local head = "$ORIGIN %s.\n$TTL 300\n@ IN SOA ns.invalid. host.invalid. 1 3600 600 86400 300\n@ IN NS ns.invalid.\n%s\n"

-- Without its limit of rates, which would answer a bench.
local head_of_config = [[
server:
  ip-address: 127.0.0.1@%d
  zonesdir: %q
  xfrdfile: %q
  zonelistfile: %q
  xfrdir: %q
  username: ""
  database: ""
  pidfile: ""
  server-count: 1
  rrl-ratelimit: 0
  verbosity: 1
remote-control:
  control-enable: no
]]

local function run(dir, ...)
  local result = process.run { cwd = dir.path, ... }
  assert(result.code == 0, result.output)
  return result
end

-- Dates of signatures: well before and well behind now, or all of them over.
local function dates(how)
  local now = os.time()
  local from, to = now - 86400, now + 30 * 86400
  if how == "expired" then
    from, to = now - 30 * 86400, now - 7 * 86400 -- a day over is tolerated
  end
  return os.date("!%Y%m%d%H%M%S", from), os.date("!%Y%m%d%H%M%S", to)
end

local function sign(dir, name, zone)
  local made = run(dir, peers.ldns_keygen, "-k", "-r", "/dev/urandom", "-a", "ECDSAP256SHA256", name)
  local key = made.out:match("%S+")
  local from, to = dates(zone.signed)
  run(dir, peers.ldns_signzone, "-i", from, "-e", to, "-f", name .. ".signed", name .. ".zone", key)
  if zone.change then
    local text = dir:read(name .. ".signed")
    local changed = zone.change(text)
    assert(changed ~= text, "nothing was changed")
    dir:write(name .. ".signed", changed)
  end
  return dir:read(key .. ".ds"):match("[^\n]+"), name .. ".signed"
end

--- Starts it, on a free port of 127.0.0.1, UDP and TCP.
---@param zones table<string, table>
---@return table server closable; `address`, `anchors` (DS records)
function M.start(zones)
  local dir = tmpdir.new()
  local self = setmetatable({ dir = dir, anchors = {}, zones = zones }, Server_mt)
  local port = ports.free()
  self.address = "127.0.0.1:" .. port
  local config = { head_of_config:format(port, dir.path, dir:join "xfrd.state", dir:join "zone.list", dir.path) }
  for name, zone in pairs(zones) do
    local file = name .. ".zone"
    dir:write(file, head:format(name, zone.records))
    if zone.signed then
      local anchor
      anchor, file = sign(dir, name, zone)
      if zone.anchored ~= false then
        table.insert(self.anchors, anchor)
      end
    end
    config[#config + 1] = ("zone:\n  name: %q\n  zonefile: %q"):format(name, file)
  end
  local path = dir:write("nsd.conf", table.concat(config, "\n") .. "\n")
  self.process = process.start { peers.nsd, "-d", "-c", path }
  self.process:expect "nsd started"
  return self
end

--- Options for dns.resolver: who serves the zones, and their keys.
---@param more? table
function Server:resolver(more)
  local options = { recursion = true, stubs = {}, trust_anchors = self.anchors, hosts = false }
  for name in pairs(self.zones) do
    options.stubs[name] = self.address
  end
  for key, value in pairs(more or {}) do
    options[key] = value
  end
  return options
end

function Server:stop()
  if self.process then
    self.process:stop()
    self.dir:remove()
    self.process = nil
  end
end

Server_mt.__close = Server.stop

return M
