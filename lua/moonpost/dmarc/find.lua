--- Where the record for a domain is, and what its organizational domain is: by the public suffix list (RFC 7489 3.2, 6.6.3), or by a walk up
--- the tree of the DNS (RFC 9989 4.10). All questions are asked at once.
local core = require "moonpost.core"
local records = require "moonpost.dmarc.record"

local M = {}

local LABELS_MOST = 8 -- names that a walk asks for (RFC 9989 4.10)

local function labels(name)
  local list = {}
  for label in name:gmatch("[^.]+") do
    list[#list + 1] = label
  end
  return list
end

--- The names that a walk from `domain` asks for, from the bottom up.
---@param domain string
---@return string[]
function M.path(domain)
  local all = labels(domain)
  local list = { domain }
  for from = math.max(2, #all - LABELS_MOST + 2), #all do
    list[#list + 1] = table.concat(all, ".", from)
  end
  return list
end

--- Asks for the records of several domains. `of[domain]` has `record`, `several`, or `failed`.
---@param source moonpost.dns.Resolver
---@param domains string[] perhaps with repetitions
---@param known? table<string, table> what an earlier call returned: those are not asked for again
---@return table<string, table>
function M.ask(source, domains, known)
  local questions, of = {}, known or {}
  for _, domain in ipairs(domains) do
    if not of[domain] then
      of[domain] = {}
      local name = core.dns_name("_dmarc." .. domain) -- nil: there cannot be such a name
      if name then
        questions[#questions + 1] = { name, "TXT", domain = domain }
      end
    end
  end
  if questions[1] then
    source:_ask_all(questions)
  end
  for _, question in ipairs(questions) do
    local found = of[question.domain]
    found.failed = question.kind
    for _, text in ipairs(question.answer or {}) do
      local record = records.is(text) and records.parse(text)
      if record and found.record then
        found.several = true
      elseif record then
        found.record = record
      end
    end
    if found.several then
      found.record = nil
    end
  end
  return of
end

--- By the public suffix list.
---@param domain string A-labels
---@param list moonpost.psl.List
---@return string
function M.organization(domain, list)
  return list:registrable(domain) or domain -- a public suffix that sends mail is its own
end

--- Follows a walk (RFC 9989 4.10.2).
---@param domain string
---@param of table<string, table> what `ask` returned for its path
---@return string? organization nil: a question failed
---@return string? psd the public suffix above it that published a record
function M.walk(domain, of)
  local last
  for _, name in ipairs(M.path(domain)) do
    local found = of[name]
    local psd = found.record and found.record.psd
    if found.failed then
      return nil
    elseif psd == "n" or psd == "y" and name == domain then
      return name
    elseif psd == "y" then
      local all = labels(domain)
      return table.concat(all, ".", math.max(1, #all - #labels(name))), name
    elseif psd then
      last = name
    end
  end
  return last or domain
end

return M
