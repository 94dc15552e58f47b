--- Who may be told (RFC 7489 7.1, RFC 9990 4): a domain can ask for reports to be sent elsewhere, and elsewhere has to agree.
local core = require "moonpost.core"
local find = require "moonpost.dmarc.find"
local records = require "moonpost.dmarc.record"

local M = {}

-- Whether the two are one owner's, as far as anybody knows.
local function is_same(a, b, list)
  return a == b or find.organization(a, list) == find.organization(b, list)
end

-- The addresses that the record of agreement names instead, on the host that agreed alone.
local function instead(address, record, kind)
  for _, other in ipairs(record[kind]) do
    if other.scheme == "mailto" and other.domain == address.domain then
      return { uri = other.uri, scheme = other.scheme, address = other.address, domain = other.domain, limit = other.limit or address.limit }
    end
  end
  return record[kind][1] == nil and address or nil
end

local function judge(address, question, kind)
  if question.kind then
    return nil, ("%s: %s"):format(question[1], question.kind), true
  end
  for _, text in ipairs(question.answer) do
    local record = records.parse(text)
    if record then
      local chosen = instead(address, record, kind)
      if chosen then
        return chosen
      end
      return nil, ("%s names an address elsewhere"):format(question[1])
    end
  end
  return nil, ("%s does not agree to it"):format(address.domain)
end

--- The addresses of a record that reports may be sent to, and those that they may not.
---@param domain string where the record is, A-labels
---@param addresses moonpost.dmarc.Address[]
---@param kind "rua"|"ruf"
---@param source moonpost.dns.Resolver
---@param list moonpost.psl.List
---@return moonpost.dmarc.Address[] agreed
---@return { uri: string, why: string, temporary?: boolean }[] others
function M.of(domain, addresses, kind, source, list)
  local agreed, others, questions, waiting = {}, {}, {}, {}
  for _, address in ipairs(addresses) do
    if address.scheme ~= "mailto" then
      others[#others + 1] = { uri = address.uri, why = "only mail is sent" }
    elseif is_same(address.domain, domain, list) then
      agreed[#agreed + 1] = address
    else
      local name = core.dns_name(("%s._report._dmarc.%s"):format(domain, address.domain))
      if name then
        questions[#questions + 1] = { name, "TXT" }
        waiting[#questions] = address
      else
        others[#others + 1] = { uri = address.uri, why = "the name to ask is too long" }
      end
    end
  end
  if questions[1] then
    source:_ask_all(questions)
  end
  for i, question in ipairs(questions) do
    local address, why, temporary = judge(waiting[i], question, kind)
    if address then
      agreed[#agreed + 1] = address
    else
      others[#others + 1] = { uri = waiting[i].uri, why = why, temporary = temporary }
    end
  end
  return agreed, others
end

return M
