--- The machine's part of a report: message/delivery-status (RFC 3464), message/global-delivery-status (RFC 6533).
local compose = require "moonpost.compose"
local text = require "moonpost.report.text"

local M = {}

local WORDS_MOST = 1000 -- octets of what a server said
local VALUE_MOST = 800

-- What a status begins with, by kind; and which one says nothing more (RFC 3463).
local class_of = { failed = "5", delayed = "4", delivered = "2", relayed = "2", expanded = "2" }

--- The status of a recipient: what is given, or said by the server, where it can be true.
---@param kind string
---@param recipient table
---@return string
function M.status(kind, recipient)
  local reply = recipient.reply
  local heard = reply and reply.enhanced
  local class = class_of[kind]
  for _, status in ipairs { recipient.status or false, heard or false } do
    local first, rest = tostring(status):match "^([245])(%.%d%d?%d?%.%d%d?%d?)$"
    -- who waited for long enough has failed without anybody saying 5xx
    if first and (first == class or kind == "failed" and first == "4") then
      return first .. rest
    elseif first == "5" and kind == "delayed" then
      return class .. rest
    end
  end
  return recipient.expired and "4.4.7" or class .. ".0.0"
end

--- What the server said, in one clean line; nil when nobody said anything.
---@param recipient table
---@return string?
function M.words(recipient)
  local reply = recipient.reply
  if not reply then
    return nil
  elseif type(reply) == "string" then
    return text.clean(reply, WORDS_MOST)
  end
  local enhanced = reply.enhanced and reply.enhanced .. " " or ""
  return text.clean(("%s %s%s"):format(reply.code or "", enhanced, reply.text or ""):gsub("^ ", ""), WORDS_MOST)
end

--- A host's name or address as it may be repeated; nil when it is something else, a path of ours for instance.
---@param host any
---@return string?
function M.host(host)
  if type(host) == "string" and #host <= 255 and host:find "^[%w\x80-\xff._:%[%]-]+$" then
    return text.clean(host)
  end
end

-- "type; address", as far as ASCII has to do.
local function typed(kind, address, global)
  address = text.clean(address, VALUE_MOST)
  if not address:find "[\x80-\xff]" then
    return ("%s; %s"):format(kind, kind == "utf-8" and not global and text.xtext(address) or address)
  elseif global then
    return "utf-8; " .. address
  end
  local ascii = compose.ascii(address)
  return ascii and "rfc822; " .. ascii or "utf-8; " .. text.xtext(address)
end

local function original(recipient, global)
  local kind = (recipient.orcpt_type or "rfc822"):lower()
  if not recipient.orcpt or recipient.orcpt == "" or not kind:find "^[%w][%w-]*$" or #kind > 64 then
    return nil
  end
  return typed(kind, kind == "utf-8" and text.unxtext(recipient.orcpt) or recipient.orcpt, global)
end

--- The part's octets.
---@param notice table kind, message, recipients, host, now
---@param global boolean characters beyond ASCII may stand in it
---@return string
function M.part(notice, global)
  local out = {}
  local function add(name, value)
    if value then
      value = global and value or text.ascii(value)
      out[#out + 1] = text.field(name, value)
    end
  end
  local function date(name, time)
    add(name, type(time) == "number" and compose.date(time) or nil)
  end
  local message, kind = notice.message, notice.kind
  add("Reporting-MTA", "dns; " .. notice.host)
  add("Original-Envelope-Id", message.envid and message.envid ~= "" and text.clean(message.envid, VALUE_MOST) or nil)
  local from = M.host(message.received_from)
  add("Received-From-MTA", from and "dns; " .. from or nil)
  date("Arrival-Date", message.received)
  date("Deliver-By-Date", message.deadline) -- RFC 2852 5
  for _, recipient in ipairs(notice.recipients) do
    out[#out + 1] = ""
    add("Original-Recipient", original(recipient, global))
    add("Final-Recipient", typed("rfc822", recipient.address, global))
    add("Action", kind)
    add("Status", M.status(kind, recipient))
    local host = not recipient.own and M.host(recipient.host)
    add("Remote-MTA", host and "dns; " .. host or nil)
    local words = M.words(recipient)
    add("Diagnostic-Code", words and (recipient.own and "x-moonpost; " or "smtp; ") .. words or nil)
    date("Last-Attempt-Date", recipient.attempted)
    local id = recipient.log_id or message.id
    add("Final-Log-ID", id and text.clean(tostring(id), VALUE_MOST) or nil)
    date("Will-Retry-Until", kind == "delayed" and recipient.will_retry_until or nil)
  end
  return table.concat(out, "\r\n") .. "\r\n"
end

return M
