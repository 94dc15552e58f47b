-- Bounces that Sisimai collected: what reports for programs say has to be found, and what is no report has to be called so.
local data = require "spec.support.data"
local json = require "moonpost.json"
local reports = require "moonpost.reports"
local suite = require "spec.support.suite"

local function crlf(text)
  return (text:gsub("\r?\n", "\r\n"))
end

-- Whether a value of a field of that name holds what is expected: else it is the suite's own conclusion.
local function holds(octets, name, pattern)
  for value in octets:gsub("\r\n[ \t]+", " "):gmatch("\n" .. name .. ":([^\r\n]*)") do
    if value:find(pattern) then
      return true
    end
  end
  return false
end

local function check_recipients(octets, report, expected)
  if report.guessed then
    return true -- no form that says anything of itself
  elseif #report.recipients ~= #expected then
    return false, ("%d recipients, and not %d"):format(#report.recipients, #expected)
  end
  for i, one in ipairs(expected) do
    local found = report.recipients[i]
    local status, code = one.status, one.replycode
    local said = holds(octets, "Status", "%f[%d]" .. status:gsub("%.", "%%.") .. "%f[%D]") and not status:find "^%d%.0%.9"
    if said and found.status ~= status then
      return false, ("status %s, and not %s"):format(tostring(found.status), status)
    elseif code ~= "" and holds(octets, "Diagnostic%-Code", "%f[%d]" .. code .. "%f[%D]") and tostring(found.code) ~= code then
      return false, ("code %s, and not %s"):format(tostring(found.code), code)
    end
  end
  return true
end

suite.declare {
  name = "dsn-sisimai",
  cases = function(folder)
    local expected, list = json.decode(data.read(folder .. "/expected.json")), {}
    for _, sub in ipairs { "eml", "not-bounce" } do
      for _, name in ipairs(data.files(folder .. "/" .. sub)) do
        if name:find "%.eml$" then
          list[#list + 1] = {
            name = name,
            check = function()
              local octets = crlf(data.read(("%s/%s/%s"):format(folder, sub, name)))
              local report, err = reports.read(octets)
              if sub == "not-bounce" then
                return report == nil and err.kind == "report", report and report.kind
              elseif not report then
                return not octets:lower():find("message/delivery-status", 1, true) or octets:find("\n%-+\r\nFrom MAILER") ~= nil, tostring(err)
              end
              return not expected[name] or check_recipients(octets, report, expected[name])
            end,
          }
        end
      end
    end
    return list
  end,
  differences = {
    ["lhost-postfix-64.eml"] = "the report names no recipient; the suite takes one from the returned message",
    ["rfc3464-28.eml"] = "two mails in one file",
  },
}
