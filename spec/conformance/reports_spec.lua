-- Reports that stalwart's mail-auth collected, and what is in them.
local data = require "spec.support.data"
local json = require "moonpost.json"
local reports = require "moonpost.reports"
local suite = require "spec.support.suite"

local words = { MailFrom = "mfrom", BodyHash = "bodyhash" } -- as the reports themselves have them

-- Their words in ours: no capitals, and what is absent is absent.
local function word(value)
  if value == nil or value == "Unspecified" then
    return nil
  elseif words[value] then
    return words[value]
  end
  return (value:gsub("(%l)(%u)", "%1-%2"):lower())
end

local function plain(value)
  return type(value) ~= "userdata" and value or nil
end

-- How a field was folded is no part of what it says.
local function squeezed(value)
  return type(value) == "string" and value:gsub("%s+", "") or value
end

local function differ(expected, found, at)
  if type(expected) ~= "table" or type(found) ~= "table" then
    return squeezed(expected) ~= squeezed(found) and ("%s: %s, and not %s"):format(at, tostring(found), tostring(expected)) or nil
  end
  for _, side in ipairs { expected, found } do
    for key in pairs(side) do
      local wrong = differ(expected[key], found[key], at .. "." .. tostring(key))
      if wrong then
        return wrong
      end
    end
  end
end

local function map(list, fn)
  local made = {}
  for i, one in ipairs(list or {}) do
    made[i] = fn(one)
  end
  return made
end

local function text(value)
  value = plain(value)
  return value ~= "" and value or nil
end

local function path(value)
  value = text(value)
  return value and value:gsub("[<>]", "") or nil
end

local makers = {}

function makers.dmarc(of)
  local policy, facts = of.policy_published, of.report_metadata
  return {
    kind = "dmarc", version = plain(of.version) ~= 0 and plain(of.version) or nil, organization = text(facts.org_name), email = text(facts.email),
    extra_contact = text(facts.extra_contact_info), id = text(facts.report_id), from = facts.date_range.begin, to = facts.date_range["end"],
    errors = facts.error,
    policy = { domain = text(policy.domain), version = text(policy.version_published), adkim = word(plain(policy.adkim)),
      aspf = word(plain(policy.aspf)), p = word(policy.p), sp = word(policy.sp), testing = policy.testing, failure_options = text(policy.fo) },
    rows = map(of.record, function(one)
      local row = one.row
      return {
        source_ip = text(row.source_ip), count = row.count, disposition = word(row.policy_evaluated.disposition),
        dkim = word(row.policy_evaluated.dkim), spf = word(row.policy_evaluated.spf),
        reasons = map(row.policy_evaluated.reason, function(each)
          return { type = word(each.type_):gsub("-", "_"), comment = text(each.comment) }
        end),
        envelope_to = text(one.identifiers.envelope_to), envelope_from = text(one.identifiers.envelope_from),
        header_from = text(one.identifiers.header_from),
        auth = {
          dkim = map(one.auth_results.dkim, function(each)
            return { domain = text(each.domain), selector = text(each.selector), result = word(each.result), human_result = text(each.human_result) }
          end),
          spf = map(one.auth_results.spf, function(each)
            return { domain = text(each.domain), scope = word(each.scope), result = word(each.result), human_result = text(each.human_result) }
          end),
        },
        extensions = one.extensions,
      }
    end),
    extensions = of.extensions,
  }
end

local function strip_dmarc(report)
  report.part, report.message, report.headers = nil, nil, nil
  report.policy.percent, report.policy.np, report.policy.discovery = nil, nil, nil -- not in theirs
  return report
end

local policy_types = { sts = "sts", tlsa = "tlsa", ["no-policy-found"] = "no-policy-found" }

function makers.tls(of)
  local function seconds(value)
    local stamp = value:gsub("Z$", "")
    local year, month, day, hour, minute, second = stamp:match "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)"
    return os.time { year = year, month = month, day = day, hour = hour, min = minute, sec = second }
      - os.time { year = 1970, month = 1, day = 1, hour = 0 }
  end
  return {
    kind = "tls", organization = text(of["organization-name"]), contact = text(of["contact-info"]), id = text(of["report-id"]),
    from = seconds(of["date-range"]["start-datetime"]), to = seconds(of["date-range"]["end-datetime"]),
    policies = map(of.policies, function(one)
      local policy, sum = one.policy, one.summary
      return {
        type = policy_types[policy["policy-type"]] or policy["policy-type"], strings = plain(policy["policy-string"]) or {},
        domain = text(policy["policy-domain"]), mx = plain(policy["mx-host"]) or {},
        successful = sum["total-successful-session-count"], failed = sum["total-failure-session-count"],
        failures = map(plain(one["failure-details"]), function(each)
          return {
            result = each["result-type"], sending_ip = text(each["sending-mta-ip"]), mx = text(each["receiving-mx-hostname"]),
            helo = text(each["receiving-mx-helo"]), receiving_ip = text(each["receiving-ip"]), sessions = each["failed-session-count"],
            information = text(each["additional-information"]), reason = text(each["failure-reason-code"]),
          }
        end),
      }
    end),
  }
end

function makers.arf(of)
  return {
    kind = "arf", type = word(of.feedback_type), arrival = plain(of.arrival_date), authentication_results = of.authentication_results,
    incidents = of.incidents, envelope_id = text(of.original_envelope_id), mail_from = path(of.original_mail_from),
    recipients = { path(of.original_rcpt_to) }, domains = of.reported_domain, uris = of.reported_uri, reporting_mta = text(of.reporting_mta),
    source_ip = text(of.source_ip), user_agent = text(of.user_agent), version = of.version,
    source_port = of.source_port ~= 0 and of.source_port or nil, auth_failure = word(of.auth_failure), delivery_result = word(of.delivery_result),
    dkim_adsp_dns = text(of.dkim_adsp_dns), dkim_canonicalized_body = text(of.dkim_canonicalized_body),
    dkim_canonicalized_header = text(of.dkim_canonicalized_header), dkim_domain = text(of.dkim_domain), dkim_identity = text(of.dkim_identity),
    dkim_selector = text(of.dkim_selector), dkim_selector_dns = text(of.dkim_selector_dns), spf_dns = text(of.spf_dns),
    identity_alignment = word(of.identity_alignment), headers = text(of.headers),
  }
end

local function strip_arf(report)
  report.part, report.message = nil, nil
  report.headers = report.headers and report.headers:gsub("\r\n", "\n") or nil
  return report
end

local function without(report)
  report.part, report.message, report.headers = nil, nil, nil
  return report
end

local kinds = {
  { folder = "dmarc-feedback", make = makers.dmarc, strip = strip_dmarc },
  { folder = "tlsrpt", make = makers.tls, strip = without },
  { folder = "arf", make = makers.arf, strip = strip_arf },
}

suite.declare {
  name = "reports-stalwart",
  cases = function(folder)
    local list = {}
    for _, kind in ipairs(kinds) do
      local place = folder .. "/" .. kind.folder .. "/"
      for _, name in ipairs(data.files(folder .. "/" .. kind.folder)) do
        local stem = name:match "^(.*)%.json$"
        if stem then
          list[#list + 1] = {
            name = kind.folder .. "/" .. stem,
            check = function()
              local source
              for _, ending in ipairs { "eml", "xml", "json" } do
                local ok, octets = pcall(data.read, ("%s%s.%s"):format(place, stem, ending))
                source = source or ok and octets
              end
              local report = assert(reports.read(source:find "^[<{]" and source or (source:gsub("\r?\n", "\r\n"))))
              local wrong = differ(kind.make(json.decode(data.read(place .. name))), kind.strip(report), kind.folder)
              return wrong == nil, wrong
            end,
          }
        end
      end
    end
    return list
  end,
  differences = {
    ["dmarc-feedback/005"] = "sampled_out is a reason of RFC 7489, which the suite calls other: what a report says is told as it says it",
  },
}
