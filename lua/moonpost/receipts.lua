--- What senders are told who want to hear that a message was delivered (NOTIFY=SUCCESS, RFC 3461 4.1), where we have delivered it ourselves, into
--- Maildirs, files and programs. Who hands it on to a queue or a server leaves it to them. The report goes by the server's queue, after the reply.
local forward = require "moonpost.forward"
local log = require "moonpost.log"
local message_of = require "moonpost.message"
local notices = require "moonpost.queue.notices"
local reply_of = require "moonpost.reply"
local task = require "moonpost.task"

local M = {}

local OCTETS_MOST = 262144 -- of a message whose header is returned; a larger one is told of without

local delivered = { maildir = true, file = true, pipe = true }

local function wanted(message)
  local list = {}
  for _, one in ipairs(message_of.recipients(message)) do
    local result, params = one._result, one.params
    if result and result.ok and delivered[result.disposition] and params and params.notify and params.notify.SUCCESS then
      list[#list + 1] = {
        kind = "delivered", address = one.address, notify = params.notify, orcpt = params.orcpt, orcpt_type = params.orcpt_type,
        reply = reply_of.heard(result.code, result.enhanced, result.text),
      }
    end
  end
  return list
end

--- Tells the sender of a message that was accepted, if that is wanted.
---@param queue moonpost.Queue
---@param message moonpost.Message
function M.send(queue, message)
  local list = message.sender.address ~= "" and wanted(message) or {}
  if not list[1] then
    return
  end
  local house = message.session._house
  local entry = {
    id = message.id, sender = message.sender.address, received = house.worker:time(), size = message.size,
    params = forward.mail(message, {}).params or {},
  }
  local octets = message.size <= OCTETS_MOST and message:octets() or ""
  task.spawn_on(house.worker, function()
    local ok, err = queue:start(house.worker, house.hostname)
    local mails = ok and notices.make(queue._engine, entry, octets, list) or {}
    if ok and mails[1] then
      ok, err = notices.keep(queue._engine, mails, {}, {})
      if not ok then
        notices.insist(queue._engine, entry, mails, err)
      end
    elseif not ok then
      log.event("error", "report lost", { "queue", queue.name, "message", entry.id, "why", tostring(err) })
    end
  end)
end

return M
