--- One job of a site: a message for some of its recipients, in one transaction, and what becomes of each.
---
--- Only what a peer says to MAIL, RCPT, DATA or the body is an outcome. What happens before is the site's: it pauses, and the message has
--- had no attempt. What happens to this message alone is its own affair, lest one message keep all others from a site: a connection that ends
--- under it, and TLS that it, or its domain, asks for where others ask for less.
local attempt = require "moonpost.attempt"
local client_options = require "moonpost.client_options"
local Error = require "moonpost.error"
local exchange = require "moonpost.exchange"
local reply_of = require "moonpost.reply"
local task = require "moonpost.task"

local M = {}

local STREAMED = 262144 -- octets of a message that does not come into memory whole

local about_the_message = { mail = true, rcpt = true, data = true, body = true } -- stages of which an outcome is final, or an attempt

---@class moonpost.queue.Job
---@field message moonpost.queue.Entry
---@field deliveries moonpost.queue.Delivery[]
---@field hop moonpost.queue.Hop
---@field domain string
---@field route? moonpost.Route by MX
---@field octets? string of a message that has just come

---@class moonpost.queue.Outcome
---@field state "delivered"|"refused"|"deferred"|"site" "site": nobody there could be spoken to
---@field reply moonpost.Reply
---@field row? moonpost.SendRow
---@field aside? boolean it says nothing of the site, good or bad

-- Parameters of MAIL as they go on: what time has passed is taken off (RFC 2852 4.1.2), what was held has been held.
local function params_of(message, now)
  local params = {}
  for name, value in pairs(message.params) do
    params[name] = value
  end
  params.holdfor, params.holduntil, params.holduntil_time = nil, nil, nil
  if params.by then
    params.by = math.floor(params.by - (now - message.received))
  end
  return next(params) and params or nil
end

local function recipient_of(one)
  local local_part = one.address:match("^(.*)@[^@]*$") or one.address
  local ascii = one.address:find("[\x80-\xff]") and not local_part:find("[\x80-\xff]") and local_part .. "@" .. one.domain or nil
  if one.params or ascii then
    return { address = one.address, ascii = ascii, params = one.params }
  end
  return one.address
end

local function mail_for(job, octets, now)
  local message, to = job.message, {}
  for i, one in ipairs(job.deliveries) do
    to[i] = recipient_of(one)
  end
  return {
    from = message.sender, from_ascii = require("moonpost.compose").ascii(message.sender), to = to,
    params = params_of(message, now), body = octets, settings = job.hop.settings,
  }
end

-- The rows of a transaction with the first host that can be spoken to.
local function send(job, site, octets, now)
  local mail = mail_for(job, octets, now)
  local requiretls = mail.params and mail.params.requiretls
  if job.hop.kind == "to" then
    local settings = job.hop.settings
    local target = requiretls and client_options.target(settings, nil, { requiretls = true }) or job.hop.target
    if not target then
      target = client_options.target(settings)
      job.hop.target = target
    end
    return attempt.only(site.pool, target, mail)
  end
  local rows, list = {}, {}
  for i, one in ipairs(job.deliveries) do
    rows[i], list[i] = { address = one.address }, i
  end
  attempt.run(site.pool, exchange.targets(job.hop.settings, job.route, job.domain, requiretls), mail, list, rows)
  return rows
end

local function outcome_of(row, requiretls)
  local state, aside = row.state, nil
  if row.ok then
    state = "delivered"
  elseif state ~= "refused" then
    local before = row.own and not about_the_message[row.stage]
    -- Without a cause there was a connection, and the transaction had begun.
    aside = before and (not row.cause or row.stage == "tls" and (requiretls or row.demanded)) and true or nil
    state = before and not aside and "site" or "deferred"
  end
  return { state = state, reply = row.reply, row = row, aside = aside }
end

local function all(job, state, reply)
  local list = {}
  for i in ipairs(job.deliveries) do
    list[i] = { state = state, reply = reply }
  end
  return list
end

-- The octets of a message, or, when they are many, what gives them piece by piece, once for each attempt.
local function body_of(store, message)
  if message.size <= STREAMED then
    return store:octets(message.id)
  end
  return function()
    return store:chunks(message.id)
  end
end

--- Sends.
---@async
---@param store table
---@param job moonpost.queue.Job
---@param site moonpost.queue.Site
---@param now number
---@return moonpost.queue.Outcome[] outcomes one for each delivery
function M.send(store, job, site, now)
  local octets, err = job.octets, nil
  if not octets then
    octets, err = body_of(store, job.message)
  end
  if not octets then
    error(("the message cannot be read: %s"):format(tostring(err)), 0) -- it says nothing of the site, and is no attempt
  end
  local rows = send(job, site, octets, now)
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = outcome_of(row, job.message.params.requiretls)
  end
  return list
end

local DELIVERED = reply_of.heard(250, "2.0.0", "Delivered")

-- What a function of Lua says: nothing or true, a reply, an error.
local function said(ok, code, enhanced, text)
  if not ok then
    if reply_of.is(code) then
      return { state = code.code < 300 and "delivered" or code.code < 500 and "deferred" or "refused", reply = code }
    end
    return { state = "deferred", reply = reply_of.heard(451, "4.3.0", "The policy failed"), fault = tostring(code) }
  elseif code == nil and enhanced == nil or code == true then
    return { state = "delivered", reply = DELIVERED }
  end
  local number, checked, words = reply_of.normal(code, enhanced, text)
  if not number then
    local what = Error.is(enhanced) and tostring(enhanced) or checked
    return { state = "deferred", reply = reply_of.heard(451, "4.3.0", "The policy failed"), fault = what }
  end
  return { state = number < 300 and "delivered" or number < 500 and "deferred" or "refused", reply = reply_of.heard(number, checked, words) }
end

--- Calls a function of Lua for each delivery, in turn.
---@async
---@param store table
---@param job moonpost.queue.Job
---@param seconds number for each
---@return moonpost.queue.Outcome[] outcomes
function M.call(store, job, seconds)
  local list = {}
  for i, one in ipairs(job.deliveries) do
    local function octets()
      return job.octets or store:octets(job.message.id)
    end
    list[i] = said(pcall(function()
      local code, enhanced, text
      if job.hop.patient then
        code, enhanced, text = job.hop.call(one, octets)
      else
        code, enhanced, text = task.timeout(seconds, job.hop.call, one, octets)
      end
      if Error.is(enhanced) and code == nil then
        error(enhanced, 0)
      end
      return code, enhanced, text
    end))
  end
  return list
end

--- What `route` said in the place of a way.
---@param job moonpost.queue.Job
---@return moonpost.queue.Outcome[] outcomes
function M.say(job)
  local reply = job.hop.reply
  return all(job, reply.code < 500 and "deferred" or "refused", reply)
end

return M
