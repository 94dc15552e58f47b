--- Delivery status notifications (RFC 3464, RFC 6533) as tables.
local fields = require "moonpost.reports.fields"
local trim = require "moonpost.trim"
local value = require "moonpost.mime.value"

local M = {}

local TEXT_MOST = 1 << 20

M.types = { ["message/delivery-status"] = true, ["message/global-delivery-status"] = true }

local first, typed = fields.first, fields.typed
local actions = { failed = true, delayed = true, delivered = true, relayed = true, expanded = true }

--- The enhanced status code in a text.
---@param text? string
---@return string?
function M.status(text)
  return text and text:match "%f[%d]([245]%.%d%d?%d?%.%d%d?%d?)%f[%D]"
end

--- The reply code that a server is quoted with.
---@param text? string
---@return integer?
function M.code(text)
  text = text and text:gsub("^[%w-]+%s*;%s*", "")
  local code = text and (text:match "^%D?([245][0-5]%d)[ -]" or text:match "^([245][0-5]%d)$" or text:match "said:%s*([245][0-5]%d)[ -]"
    or text:match "%f[%d]([245][0-5]%d)[ -]#?[245]%.%d+%.%d+" or text:match "%f[^%s<:(]([245][0-5]%d)[ -]%a")
  return code and math.tointeger(tonumber(code))
end

-- "<bob@example.org>" and "bob@example.org (Bob)" are seen too.
local function address(text)
  text = typed(text)
  if not text then
    return nil
  end
  local comment = text:find "%)$" and text:match "^([^(]*)%("
  local inner = text:match "<([^<>]*)>" or trim(comment or text)
  return inner ~= "" and inner or nil
end

local function time(text)
  return text and (value.date(text)) or nil
end

local function recipient(group)
  local diagnostic, kind = typed(first(group, "diagnostic-code"))
  local action = (first(group, "action") or ""):lower():match "%a+"
  return {
    address = address(first(group, "final-recipient")) or address(first(group, "original-recipient")),
    original = address(first(group, "original-recipient")),
    action = actions[action] and action or nil,
    status = M.status(first(group, "status")),
    diagnostic = diagnostic, diagnostic_type = kind,
    code = kind ~= "x-unix" and M.code(diagnostic) or nil,
    remote = (typed(first(group, "remote-mta"))),
    last_attempt = time(first(group, "last-attempt-date")),
    retry_until = time(first(group, "will-retry-until")),
    log_id = first(group, "final-log-id"),
  }
end

local function is_recipient(group)
  return group["final-recipient"] or group["original-recipient"] or group.action and group.status
end

--- Reads the groups of a message/delivery-status.
---@param text string
---@return table report
function M.parse(text)
  local report = { kind = "dsn", recipients = {} }
  for _, group in ipairs(fields.groups(text)) do
    if is_recipient(group) then
      table.insert(report.recipients, recipient(group))
    end
    report.reporting_mta = report.reporting_mta or (typed(first(group, "reporting-mta")))
    report.envelope_id = report.envelope_id or first(group, "original-envelope-id")
    report.received_from = report.received_from or (typed(first(group, "received-from-mta")))
    report.arrival = report.arrival or time(first(group, "arrival-date"))
  end
  return report
end

--- Reads the report in a tree of parts.
---@param tree moonpost.mime.Tree
---@return table? report nil when there is none
---@return moonpost.Error? err
function M.read(tree)
  local report
  for part in tree:each() do
    if not report and M.types[part.type] then
      local text, err = part:content(TEXT_MOST)
      if not text then
        return nil, err
      end
      report = M.parse(text)
      report.part = part
    end
  end
  return report
end

return M
