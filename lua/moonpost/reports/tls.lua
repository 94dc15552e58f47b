--- Reports about TLS (RFC 8460) as tables: how often others could reach a domain's servers as its policies want it.
local json = require "moonpost.json"

local M = {}

local function days(year, month, day)
  year = month <= 2 and year - 1 or year
  local era = year // 400
  local of_era = year - era * 400
  local of_year = (153 * (month + (month > 2 and -3 or 9)) + 2) // 5 + day - 1
  return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
end

-- RFC 3339, as seconds since 1970.
local function time(text)
  if type(text) ~= "string" then
    return nil
  end
  local year, month, day, hour, minute, second, zone = text:match "^(%d%d%d%d)-(%d%d)-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)%.?%d*(.*)$"
  if not year then
    return nil
  end
  local sign, hours, minutes = zone:match "^([+-])(%d%d):?(%d%d)$"
  local offset = sign and (hours * 60 + minutes) * 60 * (sign == "-" and -1 or 1) or 0
  return math.tointeger(days(tonumber(year), tonumber(month), tonumber(day)) * 86400 + hour * 3600 + minute * 60 + second - offset)
end

local function text(value)
  return type(value) == "string" and value or nil
end

local function whole(value)
  return type(value) == "number" and math.tointeger(value) or nil
end

local function texts(value)
  local list = {}
  for _, one in ipairs(type(value) == "table" and value or { value }) do
    list[#list + 1] = text(one)
  end
  return list
end

local function object(value)
  return type(value) == "table" and value or {}
end

local function failure(one)
  one = object(one)
  return {
    result = text(one["result-type"]), sending_ip = text(one["sending-mta-ip"]), mx = text(one["receiving-mx-hostname"]),
    helo = text(one["receiving-mx-helo"]), receiving_ip = text(one["receiving-ip"]), sessions = whole(one["failed-session-count"]),
    information = text(one["additional-information"]), reason = text(one["failure-reason-code"]),
  }
end

local function policy(one)
  one = object(one)
  local about, sum = object(one.policy), object(one.summary)
  local list = {}
  for i, each in ipairs(object(one["failure-details"])) do
    list[i] = failure(each)
  end
  return {
    type = text(about["policy-type"]), strings = texts(about["policy-string"]), domain = text(about["policy-domain"]),
    mx = texts(about["mx-host"]), successful = whole(sum["total-successful-session-count"]), failed = whole(sum["total-failure-session-count"]),
    failures = list,
  }
end

--- Reads a document.
---@param octets string JSON
---@return table? report nil when it is none
---@return string? why
function M.parse(octets)
  local document, why = json.decode(octets)
  if document == nil then
    return nil, why
  elseif type(document) ~= "table" or type(document["policies"]) ~= "table" or type(document["date-range"]) ~= "table" then
    return nil, "it is about something else"
  end
  local report = {
    kind = "tls", organization = text(document["organization-name"]), contact = text(document["contact-info"]), id = text(document["report-id"]),
    from = time(document["date-range"]["start-datetime"]), to = time(document["date-range"]["end-datetime"]), policies = {},
  }
  for i, one in ipairs(document.policies) do
    report.policies[i] = policy(one)
  end
  return report
end

return M
