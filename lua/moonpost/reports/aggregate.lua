--- Aggregate reports of DMARC (RFC 7489 appendix C, RFC 9990) as tables: what others saw of mail in a domain's name.
local trim = require "moonpost.trim"

local M = {}

local DEPTH_MOST = 32
local ELEMENTS_MOST = 500000

local function child(element, name)
  for _, one in ipairs(element or {}) do
    if one.name == name then
      return one
    end
  end
end

local function text(element, name)
  local one = child(element, name)
  local found = one and trim(one.text)
  return found ~= "" and found or nil
end

local function word(element, name)
  local found = text(element, name)
  return found and found:lower()
end

local function number(element, name)
  local found = text(element, name)
  return found and tonumber(found)
end

local function whole(element, name)
  local found = number(element, name)
  return found and math.tointeger(found)
end

local function all(element, name, read)
  local list = {}
  for _, one in ipairs(element or {}) do
    if one.name == name then
      list[#list + 1] = read(one)
    end
  end
  return list
end

local function extensions(element)
  local list = {}
  for _, holder in ipairs(element) do
    if holder.name == "extensions" then
      for _, one in ipairs(holder) do
        local of = one.attributes or {}
        list[#list + 1] = { name = of.name or one.name, definition = of.definition }
      end
    end
  end
  return list
end

local function dkim(one)
  return { domain = text(one, "domain"), selector = text(one, "selector"), result = word(one, "result"), human_result = text(one, "human_result") }
end

local function spf(one)
  return { domain = text(one, "domain"), scope = word(one, "scope"), result = word(one, "result"), human_result = text(one, "human_result") }
end

local function reason(one)
  return { type = word(one, "type"), comment = text(one, "comment") }
end

local function record(one)
  local row, names, results = child(one, "row"), child(one, "identifiers"), child(one, "auth_results")
  local evaluated = child(row, "policy_evaluated")
  return {
    source_ip = text(row, "source_ip"), count = whole(row, "count"),
    disposition = word(evaluated, "disposition"), dkim = word(evaluated, "dkim"), spf = word(evaluated, "spf"),
    reasons = all(evaluated, "reason", reason),
    envelope_to = text(names, "envelope_to"), envelope_from = text(names, "envelope_from"), header_from = text(names, "header_from"),
    auth = { dkim = all(results, "dkim", dkim), spf = all(results, "spf", spf) },
    extensions = extensions(one),
  }
end

local alignments = { r = "relaxed", s = "strict" }

local function policy(one)
  local testing = word(one, "testing") or word(one, "t")
  return {
    domain = text(one, "domain"), version = text(one, "version_published"),
    adkim = alignments[word(one, "adkim")], aspf = alignments[word(one, "aspf")],
    p = word(one, "p"), sp = word(one, "sp"), np = word(one, "np"), percent = whole(one, "pct"), failure_options = text(one, "fo"),
    testing = testing == "y", discovery = word(one, "discovery_method"),
  }
end

--- Reads a document.
---@param octets string XML
---@return table? report nil when it is none
---@return string? why
function M.parse(octets)
  local document, why = require "moonpost.xml_core".parse(octets, DEPTH_MOST, ELEMENTS_MOST)
  if not document then
    return nil, why
  elseif document.name ~= "feedback" then
    return nil, "it is a document about something else"
  end
  local facts = child(document, "report_metadata")
  local range = child(facts, "date_range")
  return {
    kind = "dmarc", version = number(document, "version"),
    organization = text(facts, "org_name"), email = text(facts, "email"), extra_contact = text(facts, "extra_contact_info"),
    id = text(facts, "report_id"), from = whole(range, "begin"), to = whole(range, "end"),
    errors = all(facts, "error", function(one)
      return trim(one.text)
    end),
    policy = policy(child(document, "policy_published")),
    rows = all(document, "record", record),
    extensions = extensions(document),
  }
end

return M
