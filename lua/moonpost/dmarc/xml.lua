--- The XML of an aggregate report (RFC 7489 appendix C, RFC 9990 appendix A).
local M = {}

local NAMESPACE = "urn:ietf:params:xml:ns:dmarc-2.0"

local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&apos;" }

-- What XML cannot hold (control characters, what is no UTF-8) is a question mark.
local function escape(value)
  local text = tostring(value)
  if not utf8.len(text) then
    text = text:gsub("[\x80-\xff]", "?")
  end
  return (text:gsub("[%c\x7f]", "?"):gsub("\xef\xbf[\xbe\xbf]", "?"):gsub("[&<>\"']", entities))
end

-- A writer: element(name, text), open(name), close().
local function writer()
  local out, stack = { '<?xml version="1.0" encoding="UTF-8"?>\n' }, {}
  local self = {}
  local function indent()
    return ("  "):rep(#stack)
  end
  function self.element(name, value)
    if value ~= nil then
      out[#out + 1] = ("%s<%s>%s</%s>\n"):format(indent(), name, escape(value), name)
    end
  end
  function self.within(name, attributes, fill)
    out[#out + 1] = ("%s<%s%s>\n"):format(indent(), name, attributes)
    stack[#stack + 1] = name
    fill()
    stack[#stack] = nil
    out[#out + 1] = ("%s</%s>\n"):format(indent(), name)
  end
  function self.text()
    return table.concat(out)
  end
  return self
end

-- Results of RFC 8601 that the schema of the older report has no name for.
local dkim_results = { none = true, pass = true, fail = true, policy = true, neutral = true, temperror = true, permerror = true }
local spf_results = { none = true, neutral = true, pass = true, fail = true, softfail = true, temperror = true, permerror = true }

local function record(w, known, modern)
  local row = known.row
  w.within("record", "", function()
    w.within("row", "", function()
      w.element("source_ip", row.source_ip)
      w.element("count", known.count)
      w.within("policy_evaluated", "", function()
        local passes = modern and (row.dkim == "pass" or row.spf == "pass")
        w.element("disposition", passes and row.disposition == "none" and "pass" or row.disposition)
        w.element("dkim", row.dkim)
        w.element("spf", row.spf)
        if row.override then
          w.within("reason", "", function()
            w.element("type", row.override)
            w.element("comment", row.comment)
          end)
        end
      end)
    end)
    w.within("identifiers", "", function()
      w.element("envelope_to", row.envelope_to)
      w.element("envelope_from", row.envelope_from or not modern and "" or nil) -- the older schema demands it
      w.element("header_from", row.header_from)
    end)
    w.within("auth_results", "", function()
      for _, one in ipairs(row.signatures) do
        w.within("dkim", "", function()
          w.element("domain", one.domain)
          w.element("selector", one.selector)
          w.element("result", dkim_results[one.result] and one.result or "neutral")
        end)
      end
      -- The older schema demands one, so it is "none" where nothing was asked.
      local sender = row.sender or not modern and { domain = row.envelope_from or row.header_from, result = "none" }
      if sender then
        w.within("spf", "", function()
          w.element("domain", sender.domain)
          w.element("scope", (sender.scope == "helo" and not modern) and "helo" or "mfrom")
          w.element("result", spf_results[sender.result] and sender.result or "none")
        end)
      end
    end)
  end)
end

--- Writes a report.
---@param report table rows put together: record_domain, published, method, records of { row, count }
---@param given moonpost.dmarc.AggregateOptions
---@param id string
---@return string xml
function M.write(report, given, id)
  local w, published, modern = writer(), report.published, report.method == "walk"
  w.within("feedback", modern and (' xmlns="%s"'):format(NAMESPACE) or "", function()
    w.element("version", "1.0")
    w.within("report_metadata", "", function()
      w.element("org_name", given.organization)
      w.element("email", given.email)
      w.element("extra_contact_info", given.contact)
      w.element("report_id", id)
      w.within("date_range", "", function()
        w.element("begin", given.from // 1 | 0)
        w.element("end", given.to // 1 | 0)
      end)
      if report.left_out > 0 then
        w.element("error", ("%d more messages, of more rows than a report has"):format(report.left_out))
      end
    end)
    w.within("policy_published", "", function()
      w.element("domain", report.record_domain)
      if modern then
        w.element("discovery_method", "treewalk")
      end
      w.element("adkim", published.adkim)
      w.element("aspf", published.aspf)
      w.element("p", published.p)
      w.element("sp", published.sp or not modern and published.p or nil)
      w.element("np", published.np)
      if modern then
        w.element("testing", published.t)
      else
        w.element("pct", published.pct)
      end
      w.element("fo", published.fo)
    end)
    for _, known in ipairs(report.records) do
      record(w, known, modern)
    end
  end)
  return w.text()
end

return M
