--- Handing a received message on while its sender waits: `message:forward(url)` and `message:deliver { lmtp = url }`.
---
--- A next hop is what such a plan says: where, how, and connections that are kept. Policies write their options anew for every message, so
--- those that say the same are the same hop, and a proxy keeps its connections.
local Error = require "moonpost.error"
local identity = require "moonpost.identity"
local mail_of = require "moonpost.mail"
local options_of = require "moonpost.options"
local suggest = require "moonpost.suggest"
local task = require "moonpost.task"

local M = {}

local HOPS_MOST = 256 -- then those that are known are forgotten; what is on its way goes on

--- What stands beside the options of moonpost.connect.
M.schema = {
  { name = "timeout", type = "duration", default = "5m", doc = "for all of it: the sender waits for ten minutes" },
  { name = "connections", type = "integer", default = 20, doc = "at a time" },
  { name = "per_connection", type = "integer", default = 100, doc = "messages; then it is closed. 0 = no limit" },
  { name = "idle", type = "duration", default = "30s", doc = "how long a connection is kept that nobody uses" },
}

-- ---- plans ---------------------------------------------------------------------------------------------------------

-- Our name as EHLO takes it.
local function helo_of(house)
  local name = house.hostname
  if name:find "[\x80-\xff]" then
    name = require("moonpost.core").dns_name(name) or name
  end
  return (name:gsub("%.$", ""))
end

-- Options of ours and of a connection, checked.
local function read(house, options)
  local own, others, mine = {}, {}, {}
  for _, field in ipairs(M.schema) do
    mine[field.name] = true
  end
  for name, value in pairs(options) do
    if mine[name] then
      own[name] = value
    else
      others[name] = value
    end
  end
  local settings_of = require "moonpost.client_options"
  local known = settings_of.known()
  for name in pairs(others) do
    if not known[name] then
      for field in pairs(known) do
        mine[field] = true
      end
      return nil, ("unknown option %q%s"):format(tostring(name), suggest.hint(name, mine))
    end
  end
  local values, why = options_of.resolve(M.schema, own, "")
  if not values then
    return nil, why
  elseif values.timeout == 0 then
    return nil, "timeout: more than 0 expected"
  elseif values.connections < 1 then
    return nil, "connections: at least 1"
  end
  others.helo = others.helo or helo_of(house)
  local settings
  settings, why = settings_of.settings(others, "")
  if not settings then
    return nil, why
  elseif not settings.to then
    return nil, "url, host or path is needed"
  end
  return { settings = settings, values = values }
end

local function make(house, kind, options)
  local url = options.url
  if type(url) == "string" and url:find("%{", 1, true) then
    return nil, "nothing is filled in in a URL; message:to(...) chooses recipients"
  end
  local hop, why = read(house, options)
  if not hop then
    return nil, why
  elseif kind == "lmtp" and hop.settings.to.protocol ~= "lmtp" then
    return nil, 'lmtp: "lmtp://host:24" or "lmtp://unix:/run/lmtp.sock" expected'
  end
  hop.url = require("moonpost.destination").show(hop.settings.to)
  return hop
end

--- The plan of handing on.
---@param house table of the server; its next hops are kept there
---@param kind "forward"|"lmtp"
---@param options any URL, or a table of options
---@return moonpost.Plan? plan
---@return string? why
function M.plan(house, kind, options)
  if type(options) == "string" then
    options = { url = options }
  elseif type(options) ~= "table" then
    return nil, ('a URL such as "smtp://relay.example.net:25", or a table of options expected, got a %s'):format(type(options))
  end
  local key = kind .. "\0" .. identity(options)
  local hops = house.hops
  if not hops then
    hops = { count = 0, by_key = {} }
    house.hops = hops
  end
  local plan = hops.by_key[key]
  if plan then
    return plan
  end
  local hop, why = make(house, kind, options)
  if not hop then
    return nil, why
  elseif hops.count >= HOPS_MOST then
    hops.count, hops.by_key = 0, {}
  end
  hops.count = hops.count + 1
  plan = { kind = kind, hop = hop, key = key }
  hops.by_key[key] = plan
  return plan
end

--- Says QUIT on the connections of a server that has stopped.
---@param house table
function M.close(house)
  for _, plan in pairs(house.hops and house.hops.by_key or {}) do
    if plan.hop.pool then
      plan.hop.pool:close()
    end
  end
  house.hops = nil
end

-- ---- what is handed on ---------------------------------------------------------------------------------------------

-- Parameters of MAIL go on, but for SIZE, which has changed. AUTH= is believed only of who has proved to be somebody (RFC 4954 5).
---@param message moonpost.Message
---@return table
function M.params(message)
  local params = {}
  for name, value in pairs(message.params or {}) do
    params[name] = value
  end
  params.size = nil
  if not message.session.user then
    params.auth = nil
  end
  return params
end

-- Parameters of RCPT go on; who was rewritten keeps the first address for reports (RFC 3461 4.2).
local function recipient_of(one)
  local params = one.params
  local original = one.original
  if original and not (params and params.orcpt) and not original:find "[\x80-\xff]" then
    params = { notify = params and params.notify, orcpt = original, orcpt_type = "rfc822" }
  end
  local ascii = require("moonpost.compose").ascii(one.address)
  if params or ascii then
    return { address = one.address, ascii = ascii, params = params }
  end
  return one.address
end

--- What is sent for a job: each address once, whatever number of recipients come to it.
---@param message moonpost.Message
---@param recipients moonpost.Recipient[]
---@return moonpost.Mail mail
---@return integer[] at place in mail.to of each recipient
function M.mail(message, recipients)
  local to, at, seen = {}, {}, {}
  for i, one in ipairs(recipients) do
    local place = seen[one.address]
    if not place then
      place = #to + 1
      to[place], seen[one.address] = recipient_of(one), place
    end
    at[i] = place
  end
  local from = message.sender.address
  return {
    from = from, from_ascii = require("moonpost.compose").ascii(from), to = to, params = M.params(message), body = message,
    received = true,
  }, at
end

-- ---- sending -------------------------------------------------------------------------------------------------------

local function attempt(hop, mail)
  local pool = hop.pool
  if not pool then
    local values = hop.values
    pool = require("moonpost.pool").new {
      connections = values.connections, per_connection = values.per_connection, idle = values.idle,
    }
    hop.pool, hop.target = pool, require("moonpost.client_options").target(hop.settings)
  end
  local target = hop.target
  if mail.params.requiretls then -- over a connection to a host that was verified, whatever the plan says (RFC 8689 4.2.1)
    target = hop.verified or require("moonpost.client_options").target(hop.settings, nil, { requiretls = true })
    hop.verified = target
  end
  return require("moonpost.attempt").only(pool, target, mail)
end

-- Rows for everybody, where there was no transaction.
local function failed(recipients, err)
  local rows = {}
  local late = Error.is(err) and err.kind == "timeout"
  for i, one in ipairs(recipients) do
    rows[i] = mail_of.row(one.address, "connection", 451, late and "4.4.2" or "4.3.0", tostring(err))
  end
  return rows
end

--- Hands the message on. `done({ rows = })` is called once, now or later, with a row for each recipient, in their order.
---@param message moonpost.Message
---@param plan moonpost.Plan
---@param recipients moonpost.Recipient[]
---@param done fun(outcome: { rows: moonpost.SendRow[] })
function M.send(message, plan, recipients, done)
  local mail, at = M.mail(message, recipients)
  local function finish(ok, got)
    if not ok then
      done { rows = failed(recipients, got) }
      return
    end
    local rows = {}
    for i, place in ipairs(at) do
      rows[i] = got[place]
    end
    done { rows = rows }
  end
  local hop = plan.hop
  local ok, got = task.hook(message.session._house.worker, hop.values.timeout, finish, attempt, hop, mail)
  if ok ~= nil then
    finish(ok, got)
  end
end

return M
