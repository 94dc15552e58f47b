--- One attempt at a next hop: its hosts in their order, until every recipient has an outcome.
---
--- Only what a peer says to MAIL, RCPT, DATA or the body is an outcome. Whatever happens before, a banner of 5xx, a TLS policy that
--- fails, credentials that are refused, sends the recipients to the next host, and when there is none, they are deferred (RFC 5321 5.1,
--- RFC 7672 2.1).
local client = require "moonpost.client"
local mail_of = require "moonpost.mail"

local M = {}

local enhanced_of = { dns = "4.4.3", connect = "4.4.1", tls = "4.7.5", auth = "4.7.0", timeout = "4.4.2", connection = "4.4.2" }

-- What recipients hear of a host that could not be spoken to: never final. A banner or EHLO of 4xx is what it said; a 5xx would look as if it were.
local function defer(rows, list, target, err)
  local heard = err.kind == "refused" and err.temporary and err.reply
  for _, at in ipairs(list) do
    local row = mail_of.row(rows[at].address, err.kind, 451, enhanced_of[err.kind] or "4.4.0", err.message)
    row.host, row.cause, row.tls, row.times = target.host, err, err.tls, err.times
    row.demanded = err.kind == "tls" and target.demanding or nil
    if heard then
      row.reply, row.own = heard, nil
    end
    rows[at] = row
  end
end

-- The part of a message that some of its recipients still need.
local function part(mail, list)
  if #list == #mail.to then
    return mail
  end
  local less = { to = {} }
  for name, value in pairs(mail) do
    less[name] = less[name] or value
  end
  for i, at in ipairs(list) do
    less.to[i] = mail.to[at]
  end
  return less
end

--- The connection ended before the message did, by itself or by 421: nobody has it, and somebody else may be asked.
---@param row moonpost.SendRow
---@return boolean
function M.unspoken(row)
  return row.state == "deferred" and (row.stage == "connection" or row.reply.code == 421 and row.stage ~= "body")
end

local function nobody_served(rows)
  for _, row in ipairs(rows) do
    if not M.unspoken(row) then
      return false
    end
  end
  return true
end

local lent_mt = {
  __close = function(lent)
    lent.provider:release(lent.one)
  end,
}

-- One transaction on a connection, which goes back whatever happens. True when it was a kept one that turned out to be closed.
local function once(provider, target, mail, fresh)
  local one, err = provider:lease(target, fresh)
  if not one then
    return nil, err
  end
  local lent = one.lent
  if not lent then
    lent = setmetatable({ provider = provider, one = one }, lent_mt)
    one.lent = lent
  end
  local _ <close> = lent
  local kept = one.messages > 0
  local rows = one:transact(mail)
  return rows, kept and not one.alive and nobody_served(rows)
end

-- What a kept connection that was closed meanwhile does is no failure of the host's.
local function transact(provider, target, mail)
  local rows, stale = once(provider, target, mail)
  if rows and stale then
    return once(provider, target, mail, true)
  end
  return rows, stale
end

--- The only host there is: its rows, for all recipients.
---@async
---@return moonpost.SendRow[]
function M.only(provider, target, mail)
  local rows, err = transact(provider, target, mail)
  if rows then
    return rows
  end
  local list = {}
  rows = {}
  for i, one in ipairs(mail.to) do
    rows[i], list[i] = { address = mail_of.address(one) }, i
  end
  defer(rows, list, target, err)
  return rows
end

--- Serves those of a message's recipients that `list` names (places in mail.to), and puts their rows into `rows`.
---@async
---@param provider table lease(target, fresh) and release(client)
---@param targets fun(i: integer): table? the i-th host's target; nil behind the last
---@param mail moonpost.Mail
---@param list integer[]
---@param rows moonpost.SendRow[]
function M.run(provider, targets, mail, list, rows)
  local i, left = 1, list
  while left[1] do
    local target = targets(i)
    if not target then
      return
    end
    local got, err = transact(provider, target, part(mail, left))
    if not got then
      defer(rows, left, target, err)
    else
      local rest = {}
      for at, row in ipairs(got) do
        rows[left[at]] = row
        if M.unspoken(row) then
          rest[#rest + 1] = left[at]
        end
      end
      left = rest
    end
    i = i + 1
  end
end

--- A provider that keeps nothing.
M.once = {}

function M.once.lease(_, target)
  return client.open(target)
end

function M.once.release(_, one)
  one:part()
end

return M
