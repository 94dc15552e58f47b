--- The `tls` option: files named by the policy, or a development certificate of our own.
local core = require "moonpost.core"
local log = require "moonpost.log"
local options = require "moonpost.options"
local schema = require "moonpost.schema"

local M = {}

local TLS = "certificate of our own, or none"

local pair = {
  { name = "certificate", type = "string" },
  { name = "key", type = "string" },
}

--- Checks the option. What it makes is for M.config; nothing is read or written yet.
---@param given any what the policy says
---@param at string where it says so
---@return table|string|nil tls "development", false, a table, or nil when the policy says nothing
---@return table[]|string|nil rows_or_why rows for describe(), or why the option is wrong (then the first result is nil)
function M.check(given, at)
  if given == nil then
    return nil, { { option = "tls", value = "none", source = "default", doc = TLS } }
  elseif given == false or given == "development" then
    return given, { { option = "tls", value = options.show(given), source = at, doc = TLS } }
  elseif type(given) ~= "table" then
    return nil, 'tls: a table, "development" or false expected'
  end
  local values, rows = options.resolve(schema.tls, given, at, "tls.")
  if not values then
    return nil, rows
  elseif not values.certificate then
    return nil, "tls.certificate: a file is needed"
  elseif values.client ~= "off" and not values.client_ca then
    return nil, ('tls.client: "%s" needs tls.client_ca'):format(values.client)
  end
  local certs = { { certificate = values.certificate, key = values.key } }
  local names = {}
  for name in pairs(values.sni) do
    names[#names + 1] = name
  end
  table.sort(names, function(a, b)
    return tostring(a) < tostring(b)
  end)
  for _, name in ipairs(names) do
    local entry = values.sni[name]
    local files, why
    if type(name) == "string" and type(entry) == "table" then
      files, why = options.resolve(pair, entry, at)
    end
    if not files or not files.certificate then
      return nil, ("tls.sni[%q]: %s"):format(tostring(name), files and "a certificate is needed" or why
        or "a table expected")
    end
    certs[#certs + 1] = { name = name, certificate = files.certificate, key = files.key }
  end
  values.certs = certs
  for _, row in ipairs(rows) do
    if row.option == "tls.sni" and names[1] then
      row.value = "{ " .. table.concat(names, ", ") .. " }"
    end
  end
  return values, rows
end

--- Where a development certificate lives: with the user's state, else in the folder the server is started in.
---@return string folder
function M.folder()
  local state = os.getenv("XDG_STATE_HOME")
  return state and state:find("^/") and state .. "/moonpost" or ".moonpost"
end

--- Where the two files of a development certificate are, or will be.
---@return string certificate
---@return string key
function M.development_files()
  local folder = M.folder()
  return folder .. "/development.pem", folder .. "/development.key"
end

--- Whether TLS is spoken with a development certificate.
---@param tls table|string|false|nil of M.check
---@param needed boolean a listener insists on TLS
---@return boolean
function M.is_development(tls, needed)
  return tls == "development" or (tls == nil and needed)
end

--- What the state that inspects a policy has done, in silence, and the state that serves it says.
M.made = nil ---@type true? the last development certificate that was asked for was not there before
M.made_for_us = nil ---@type true? it was made a moment ago

local function development(hostname)
  local certificate, key = M.development_files()
  local made, why = core.selfsigned(certificate, key, hostname)
  if made == nil then
    return nil, "tls: no development certificate: " .. why
  end
  M.made = made or nil
  if core.place() == 1 then -- once is enough for all workers
    local fresh = made or M.made_for_us
    M.made_for_us = nil
    log.warn(fresh and "made a development certificate" or "using a development certificate",
      { certificate = certificate, hint = "no client trusts it: set tls = { certificate =, key = }" })
  end
  return { certs = { { certificate = certificate, key = key } }, min_version = "1.2", client = "off", tickets = true }
end

--- The configuration for C: nil when there is no TLS.
---@param tls table|string|false|nil of M.check
---@param needed boolean a listener insists on TLS
---@param hostname string
---@return table? config
---@return string? why there is none, when there should be one
function M.config(tls, needed, hostname)
  if type(tls) == "table" then
    return {
      certs = tls.certs, min_version = tls.min_version, ciphers = tls.ciphers, ciphersuites = tls.ciphersuites,
      client = tls.client, client_ca = tls.client_ca, tickets = tls.tickets,
    }
  elseif M.is_development(tls, needed) then
    return development(hostname)
  end
  return nil
end

return M
