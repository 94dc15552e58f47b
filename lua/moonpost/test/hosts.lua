--- The servers that a test puts into the policy's network: by name, by address or by socket.
local blame = require "moonpost.test.blame"
local core = require "moonpost.core"
local dns = require "moonpost.dns"
local script = require "moonpost.test.script"

local M = {}

local NETWORK = "198.51.100.%d" -- documentation addresses (RFC 5737): what a name gets that the test gives none
local MOST = 254

local function server_of(name, value)
  if script.is(value) then
    return value
  elseif type(value) == "table" then
    return script.new(value)
  end
  blame(("servers: %s: test.server { ... } expected, got a %s"):format(tostring(name), type(value)))
end

local function has_address(entry)
  return type(entry) ~= "table" or entry.A ~= nil or entry.AAAA ~= nil or entry.CNAME ~= nil
end

local function list(value)
  return type(value) == "table" and value or { value }
end

--- Servers by address or socket, and the names with those that the servers need.
---@param servers table<string, table>
---@param names table of moonpost.dns.zone
---@return table<string, table> by_place
---@return table names
function M.arrange(servers, names)
  local by_place, zone, order = {}, {}, {}
  for name, entry in pairs(names) do
    zone[name] = entry
  end
  for name in pairs(servers) do
    if type(name) ~= "string" then
      blame("servers: a table of names and servers expected")
    end
    order[#order + 1] = name
  end
  table.sort(order)
  if #order > MOST then
    blame(("servers: at most %d"):format(MOST))
  end
  for i, name in ipairs(order) do
    local server = server_of(name, servers[name])
    local path = name:match("^unix:(.+)$") or name:match("^/.*$")
    if path then
      by_place[path] = server
    elseif core.dns_reverse(name) then
      by_place[name] = server
    elseif zone[name] == nil or not has_address(zone[name]) then
      local ip = NETWORK:format(i)
      local entry = { A = ip }
      for field, value in pairs(zone[name] or {}) do
        entry[field] = value
      end
      zone[name], by_place[ip] = entry, server
    elseif type(zone[name]) == "table" then
      for _, ip in ipairs(list(zone[name].A)) do
        by_place[ip] = server
      end
      for _, ip in ipairs(list(zone[name].AAAA)) do
        by_place[ip] = server
      end
    end
  end
  return by_place, zone
end

--- The resolver of a test's names. Raises at the test's line.
---@param names table
---@param who string
function M.resolver(names, who)
  local ok, source = pcall(dns.zone, names)
  if not ok then
    blame(("%s: %s"):format(who, tostring(source):gsub("^.-dns%.zone: ", "dns: ")))
  end
  return source
end

return M
