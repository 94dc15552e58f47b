--- Feedback about abuse and failed authentication (RFC 5965, RFC 6591, RFC 6652) as tables.
local fields = require "moonpost.reports.fields"
local value = require "moonpost.mime.value"

local M = {}

local TEXT_MOST = 1 << 20

local function text(given)
  return given
end

-- base64 that is folded.
local function packed(given)
  return (given:gsub("%s+", ""))
end

local function lower(given)
  return given:lower()
end

local function path(given)
  return given:match "^<(.*)>$" or given
end

local function number(given)
  return math.tointeger(tonumber(given:match "^%d+"))
end

-- An address of a host; behind it a comment is seen.
local function host(given)
  return given:match "^[%x:.]+" or given
end

local function mta(given)
  return (fields.typed(given))
end

local function date(given)
  return (value.date(given))
end

-- field = { key, reader, many }
local known = {
  ["feedback-type"] = { "type", lower }, ["user-agent"] = { "user_agent", text }, version = { "version", number },
  ["original-envelope-id"] = { "envelope_id", text }, ["original-mail-from"] = { "mail_from", path },
  ["original-rcpt-to"] = { "recipients", path, true }, ["arrival-date"] = { "arrival", date }, ["received-date"] = { "arrival", date },
  ["reporting-mta"] = { "reporting_mta", mta }, ["source-ip"] = { "source_ip", host }, ["source-port"] = { "source_port", number },
  incidents = { "incidents", number }, ["authentication-results"] = { "authentication_results", text, true },
  ["reported-domain"] = { "domains", text, true }, ["reported-uri"] = { "uris", text, true },
  ["auth-failure"] = { "auth_failure", lower }, ["delivery-result"] = { "delivery_result", lower },
  ["identity-alignment"] = { "identity_alignment", lower }, ["dkim-adsp-dns"] = { "dkim_adsp_dns", text },
  ["dkim-canonicalized-body"] = { "dkim_canonicalized_body", packed }, ["dkim-canonicalized-header"] = { "dkim_canonicalized_header", packed },
  ["dkim-domain"] = { "dkim_domain", text }, ["dkim-identity"] = { "dkim_identity", text }, ["dkim-selector"] = { "dkim_selector", text },
  ["dkim-selector-dns"] = { "dkim_selector_dns", text }, ["spf-dns"] = { "spf_dns", text },
}

--- Reads the fields of a message/feedback-report.
---@param octets string
---@return table report
function M.parse(octets)
  local report = { kind = "arf", incidents = 1, recipients = {}, authentication_results = {}, domains = {}, uris = {} }
  for _, group in ipairs(fields.groups(octets)) do
    for name, values in pairs(group) do
      local row = known[name]
      if row and row[3] then
        for _, one in ipairs(values) do
          table.insert(report[row[1]], row[2](one))
        end
      elseif row then
        report[row[1]] = row[2](values[1])
      end
    end
  end
  return report
end

--- Reads the report in a tree of parts.
---@param tree moonpost.mime.Tree
---@return table? report nil when there is none
---@return moonpost.Error? err
function M.read(tree)
  for part in tree:each() do
    if part.type == "message/feedback-report" then
      local octets, err = part:content(TEXT_MOST)
      if not octets then
        return nil, err
      end
      local report = M.parse(octets)
      report.part = part
      return report
    end
  end
end

return M
