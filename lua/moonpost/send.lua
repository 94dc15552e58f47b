--- moonpost.send: a message to wherever its recipients are, found by MX or through a smarthost, with an outcome for each.
---
---     assert(moonpost.send { from = "me@example.org", to = "you@example.net", subject = "Hi", text = "..." })
local attempt = require "moonpost.attempt"
local client_options = require "moonpost.client_options"
local exchange = require "moonpost.exchange"
local mail_of = require "moonpost.mail"
local options_of = require "moonpost.options"
local task = require "moonpost.task"

local M = {}

local DOMAINS_MOST = 20 -- at a time

local with_via = { via = true }
for name in pairs(mail_of.names) do
  with_via[name] = true
end

local function is_finder(value)
  return type(value) == "table" and (getmetatable(value) or {}).__name == "moonpost.mtasts.Finder"
end

--- Splits what a table says about connections from what it says about a message; checks the former.
---@param options table
---@param who string
---@param level integer
---@param others table[] fields that somebody else has taken out
---@return table settings
---@return table mail
local function settings_of(options, who, level, others)
  local own, mail = {}, {}
  local names = client_options.known()
  for name, value in pairs(options) do
    if mail_of.names[name] then
      mail[name] = value
    elseif name ~= "mtasts" then
      own[name] = value
    end
  end
  local settings, why = client_options.settings(own, options_of.place(level + 1))
  if not settings then
    local hint = why:match('^unknown option "([^".]*)"') -- of one in a table it has been said
    if hint then
      local both = {}
      for name in pairs(names) do
        both[name] = true
      end
      for name in pairs(mail_of.names) do
        both[name] = #others == 0 or nil
      end
      for _, field in ipairs(others) do
        both[field.name] = true
      end
      why = ('unknown option "%s"%s'):format(hint, require("moonpost.suggest").hint(hint, both))
    end
    error(("%s: %s"):format(who, why), level + 1)
  end
  local mtasts = options.mtasts
  if mtasts == nil or mtasts == false or is_finder(mtasts) then
    settings.mtasts = mtasts
  elseif type(mtasts) == "table" then
    local ok, finder = pcall(require("moonpost.mtasts").new, mtasts) -- what is wrong with it is our caller's too
    if not ok then
      error(("%s: %s"):format(who, finder), level + 1)
    end
    settings.mtasts = finder
  else
    error(("%s: mtasts: false, a table of options or a finder expected"):format(who), level + 1)
  end
  return settings, mail
end

--- What holds for every message of a pool.
---@param options table
---@param who string
---@param level integer
---@param others table[] fields that the pool has taken out
---@return table settings
function M.defaults(options, who, level, others)
  local settings, mail = settings_of(options, who, level + 1, others)
  local name = next(mail)
  if name then
    error(("%s: %s: messages are given to pool:send"):format(who, name), level + 1)
  end
  return settings
end

-- That of a pool's own URL is made once.
local function via_target(mail)
  local settings = mail.settings
  if mail.params and mail.params.requiretls then
    return client_options.target(settings, mail.hop, { requiretls = true })
  elseif mail.hop then
    return client_options.target(settings, mail.hop)
  end
  settings.target = settings.target or client_options.target(settings)
  return settings.target
end

-- A destination beside the pool's own.
local function hop_of(url, what, level)
  local hop, why = require("moonpost.destination").parse(url)
  if not hop then
    error(("%s: %s"):format(what, why), level + 1)
  elseif hop.user then
    error(what .. ": credentials are the pool's, not a message's", level + 1)
  end
  return hop
end

--- What a pool connects to when a script asks for a connection.
---@param settings table
---@param url? string nil: the pool's own
---@param level integer
---@return table target
function M.target(settings, url, level)
  local hop = url ~= nil and hop_of(url, "pool:lease", level + 1) or nil
  if not hop and not settings.to then
    error("pool:lease: a URL is needed, for the pool has none of its own", level + 1)
  end
  return via_target { settings = settings, hop = hop }
end

--- A message for a pool, checked.
---@param settings table
---@param mail table
---@param level integer
---@return moonpost.Mail prepared with `settings`, and `hop` where it has a destination of its own
function M.prepare(settings, mail, level)
  local hop = type(mail) == "table" and mail.via and hop_of(mail.via, "via", level + 1) or nil
  local prepared, why = mail_of.prepare(mail, hop and with_via or nil)
  if not prepared then
    error("send: " .. why, level + 1)
  end
  prepared.settings, prepared.hop = settings, hop
  return prepared
end

-- ---- by MX ---------------------------------------------------------------------------------------------------------

local function by_mx(provider, mail, domain, list, rows)
  local route, err = exchange.route(mail.settings, domain)
  if not route then
    for _, at in ipairs(list) do
      rows[at] = mail_of.row(rows[at].address, "route", err.code, err.enhanced, err.message)
      rows[at].cause = err
    end
    return
  end
  attempt.run(provider, exchange.targets(mail.settings, route, domain, mail.params and mail.params.requiretls), mail, list, rows)
end

-- The recipients by domain, in the order of the first of each.
local function domains(mail)
  local order, of = {}, {}
  for i, one in ipairs(mail.to) do
    local address = mail_of.address(one)
    local domain = (type(one) == "table" and one.ascii or address):match("@([^@]*)$"):lower()
    if not of[domain] then
      of[domain] = {}
      order[#order + 1] = domain
    end
    table.insert(of[domain], i)
  end
  return order, of
end

local tasks_mt = {
  __close = function(running)
    for _, one in ipairs(running) do
      one:cancel()
    end
  end,
}

-- Several domains at a time; a task each. Who gives up waiting for them gives them up.
local function everywhere(provider, mail, rows)
  local order, of = domains(mail)
  if not order[2] then
    by_mx(provider, mail, order[1], of[order[1]], rows)
    return
  end
  local next_one, running <close> = 1, setmetatable({}, tasks_mt)
  local function work()
    while order[next_one] do
      local domain = order[next_one]
      next_one = next_one + 1
      by_mx(provider, mail, domain, of[domain], rows)
    end
  end
  for i = 1, math.min(#order, DOMAINS_MOST) do
    running[i] = task.spawn(work)
  end
  for _, one in ipairs(running) do
    one:join()
  end
end

--- Sends what M.prepare made.
---@async
---@param provider table
---@param mail moonpost.Mail
---@return table? result
---@return moonpost.Error? err
function M.prepared(provider, mail)
  if mail.hop or mail.settings.to then
    return mail_of.outcome(attempt.only(provider, via_target(mail), mail))
  end
  local rows = {}
  for i, one in ipairs(mail.to) do
    rows[i] = { address = mail_of.address(one) }
  end
  everywhere(provider, mail, rows)
  return mail_of.outcome(rows)
end

--- pool:send
function M.through(pool, mail, level)
  return M.prepared(pool, M.prepare(pool._defaults, mail, level + 1))
end

--- moonpost.send { from =, to =, ..., via = }
---@async
---@param options table what mail_of.prepare and client_options.settings take
---@return table? result
---@return moonpost.Error? err
function M.send(options)
  if type(options) ~= "table" then
    error(("moonpost.send: a table expected, got a %s"):format(type(options)), 2)
  end
  local settings, mail = settings_of(options, "moonpost.send", 2, {})
  local prepared, why = mail_of.prepare(mail)
  if not prepared then
    error("moonpost.send: " .. why, 2)
  end
  prepared.settings = settings
  return M.prepared(attempt.once, prepared)
end

return M
