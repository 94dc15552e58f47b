--- What was found about a message as results of Authentication-Results (RFC 8601 2.7).
local dmarc = require "moonpost.dmarc"

local M = {}

local function spf(found, property, value)
  return { method = "spf", result = found.result, reason = found.problem, properties = { { property, value } } }
end

local function dkim(one)
  local properties = {}
  for _, pair in ipairs {
    { "header.d", one.domain }, { "header.i", one.identity }, { "header.s", one.selector }, { "header.a", one.algorithm },
    { "header.b", one.signature },
  } do
    if pair[2] then
      properties[#properties + 1] = pair
    end
  end
  return { method = "dkim", result = one.result, reason = one.reason, properties = properties }
end

-- RFC 8617 8.1, 10.2.
local function arc(chain)
  local properties, newest = nil, chain.sets[chain.instance]
  if chain.result == "pass" then
    properties = { { "header.oldest-pass", tostring(chain.oldest_pass) }, { "header.d", newest.domain }, { "header.s", newest.selector } }
  end
  return {
    method = "arc", result = chain.result, comment = newest and ("i=%d"):format(chain.instance) or nil, reason = chain.reason,
    properties = properties,
  }
end

--- The results of a message, in the order in which they are written.
---@param found moonpost.auth.Found
---@param sender string the reverse-path
---@param helo string
---@return moonpost.authres.Result[]
function M.results(found, sender, helo)
  local list = {}
  local function add(one)
    list[#list + 1] = one
  end
  if found.ip then
    add { method = "iprev", result = found.iprev.result, comment = found.iprev.name, reason = found.iprev.problem,
      properties = { { "policy.iprev", found.ip } } }
    if sender ~= "" then
      add(spf(found.spf, "smtp.mailfrom", sender))
    end
    if helo ~= "" then
      add(spf(found.helo, "smtp.helo", helo))
    end
  end
  for _, one in ipairs(found.dkim) do
    add(dkim(one))
  end
  if not found.dkim[1] then
    add { method = "dkim", result = "none" }
  end
  if found.arc.result ~= "none" then
    add(arc(found.arc))
  end
  local verdict = dmarc.authres(found.dmarc)
  if not found.from then
    verdict.properties = nil -- nobody is named
  end
  if found.override then
    verdict.comment = ("p=%s dis=none, sealed by %s"):format(found.dmarc.policy, found.override.domain)
  end
  add(verdict)
  return list
end

return M
