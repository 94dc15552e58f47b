--- The look-ups, for whatever can be asked. A source has
---   source:_ask(name, type)      the answer, or nil, kind, why
---   source:_ask_all(questions)   { name, type } each; puts the answer into question.answer, or question.kind and question.why
--- where `name` has been through core.dns_name, and answers are tables that the asker may keep.
local core = require "moonpost.core"
local Error = require "moonpost.error"
local task = require "moonpost.task"

local M = {}

local ADDRESSES_MOST = 32 -- who owns a name chooses how many there are

local messages = {
  servfail = "no server could answer",
  bogus = "its signatures do not hold",
  timeout = "no answer in time",
}

---@param name string
---@param type string
---@param kind string
---@param why? string
---@return moonpost.Error
function M.failure(name, type, kind, why)
  if not why or why == "" then
    why = messages[kind]
  elseif kind == "bogus" then
    why = "bogus: " .. why
  end
  return Error(kind, ("%s %s: %s"):format(name, type, why), { name = name, type = type, temporary = true })
end

--- Asks questions together; what has no answer in time is a "timeout". What has one by then counts, so that nobody whose server is slow keeps an
--- answer of another's away.
---@async
---@param source moonpost.dns.Resolver
---@param questions table[]
---@param seconds? number nil: as long as the source waits
function M.ask_within(source, questions, seconds)
  if not questions[1] then
    return
  elseif not seconds then
    return source:_ask_all(questions)
  end
  task.timeout(seconds, source._ask_all, source, questions)
  for _, question in ipairs(questions) do
    if not question.answer and not question.kind then
      question.kind = "timeout"
    end
  end
end

--- Whether a value is what dns.resolver and dns.zone return.
---@param value any
---@return boolean
function M.is_source(value)
  return type(value) == "table" and (getmetatable(value) or {}).__name == "moonpost.dns.Resolver"
end

local function no_name(name)
  local shown = name:sub(1, 80):gsub("%c", "?")
  return nil, Error("name", ('"%s" is no domain name'):format(shown), { name = name, temporary = false })
end

--- A name as the DNS knows it.
---@param name string
---@return string? ascii
---@return moonpost.Error? err
function M.to_ascii(name)
  local ascii = core.dns_name(name)
  if ascii then
    return ascii
  end
  return no_name(name)
end

--- A name as people read it.
---@param name string
---@return string? unicode
---@return moonpost.Error? err
function M.to_unicode(name)
  local unicode = core.dns_unicode(name)
  if unicode then
    return unicode
  end
  return no_name(name)
end

local function check(name, who)
  if type(name) ~= "string" then
    error(("dns.%s: a name expected, got %s"):format(who, type(name)), 3)
  end
end

local function ask(source, name, kind)
  local ascii, bad = M.to_ascii(name)
  if not ascii then
    return nil, bad
  end
  local answer, what, why = source:_ask(ascii, kind)
  if answer then
    return answer
  end
  return nil, M.failure(ascii, kind, what, why)
end

local Lookups = {}
M.methods = Lookups

local function by_preference(a, b)
  if a.preference ~= b.preference then
    return a.preference < b.preference
  end
  return a.host < b.host
end

function Lookups:mx(name)
  check(name, "mx")
  local answer, err = ask(self, name, "MX")
  if answer then
    table.sort(answer, by_preference)
  end
  return answer, err
end

for method, kind in pairs { a = "A", aaaa = "AAAA", txt = "TXT", tlsa = "TLSA", cname = "CNAME" } do
  Lookups[method] = function(self, name)
    check(name, method)
    return ask(self, name, kind)
  end
end

function Lookups:ptr(ip)
  check(ip, "ptr")
  return ask(self, core.dns_reverse(ip) or ip, "PTR")
end

local function literal(ip)
  return { ip, ttl = 0, status = "insecure", name = ip }
end

-- Both families by turns, IPv6 first (RFC 8305 4).
local function interleave(v6, v4)
  local list = {}
  for i = 1, math.max(#v6, #v4) do
    list[#list + 1] = v6[i]
    list[#list + 1] = v4[i]
  end
  for i = #list, ADDRESSES_MOST + 1, -1 do
    list[i] = nil
  end
  return list
end

local function both(v6, v4)
  local answer = interleave(v6, v4)
  answer.ttl = math.min(v6.ttl, v4.ttl)
  answer.status = v6.status == "secure" and v4.status == "secure" and "secure" or "insecure"
  answer.name = v4.name
  if #answer == 0 then
    answer.nxdomain = v6.nxdomain and v4.nxdomain
    answer.nodata = not answer.nxdomain or nil
  end
  return answer
end

local function one(answer, failed)
  local list = interleave(answer, {})
  list.ttl, list.status, list.name = answer.ttl, answer.status, answer.name
  list.partial = failed
  return list
end

local function failed(question)
  return question.kind and M.failure(question[1], question[2], question.kind, question.why)
end

local function settle(q6, q4)
  local err6, err4 = failed(q6), failed(q4)
  if not err6 and not err4 then
    return both(q6.answer, q4.answer)
  elseif not err6 and #q6.answer > 0 then
    return one(q6.answer, err4)
  elseif not err4 and #q4.answer > 0 then
    return one(q4.answer, err6)
  end
  -- With nothing from one family and no answer about the other, nobody knows whether there is an address.
  return nil, err4 or err6
end

-- At once, or nil when it has to be asked.
local function known(source, host, ascii)
  if core.dns_reverse(host) then
    return literal(host)
  end
  return source._host and source:_host(ascii)
end

function Lookups:addresses(host)
  check(host, "addresses")
  local results = self:_addresses_of { host }
  return results[1].answer, results[1].err
end

--- Addresses of several hosts, all asked at once: { answer =, err = } for each.
function Lookups:_addresses_of(hosts)
  local results, questions = {}, {}
  for i, host in ipairs(hosts) do
    local result = {}
    results[i] = result
    local ascii, bad = host, nil
    if not core.dns_reverse(host) then
      ascii, bad = M.to_ascii(host)
    end
    result.err = bad
    result.answer = not bad and known(self, host, ascii) or nil
    if not bad and not result.answer then
      result.v6, result.v4 = { ascii, "AAAA" }, { ascii, "A" }
      questions[#questions + 1] = result.v6
      questions[#questions + 1] = result.v4
    end
  end
  if #questions > 0 then
    self:_ask_all(questions)
  end
  for _, result in ipairs(results) do
    if result.v6 then
      result.answer, result.err = settle(result.v6, result.v4)
    end
  end
  return results
end

return M
