--- The domains of a From field (RFC 5322 3.4, 3.6.2), in one pass and whatever a peer wrote there: what a reader might take for the author's address
--- counts as one.
local core = require "moonpost.core"

local M = {}

local OCTETS_MOST = 65536

-- Behind a comment that starts at `at`, perhaps with others inside; behind the end when it is not closed.
local function past_comment(text, at)
  local depth = 0
  while true do
    local found = text:find("[()\\]", at)
    if not found then
      return #text + 1
    end
    local octet = text:byte(found)
    at = found + (octet == 92 and 2 or 1)
    depth = depth + (octet == 40 and 1 or octet == 41 and -1 or 0)
    if depth == 0 then
      return at
    end
  end
end

-- Behind a quoted string that starts at `at`.
local function past_string(text, at)
  while true do
    local found = text:find('["\\]', at + 1)
    if not found then
      return #text + 1
    elseif text:byte(found) == 34 then
      return found + 1
    end
    at = found + 1
  end
end

local function add(domains, spec)
  local at = spec:find("@[^@]*$")
  local domain = at and core.dns_name((spec:sub(at + 1):gsub("%s", "")))
  if at and domain and not domain:find("[%[%]]") then
    domains[#domains + 1] = domain
  elseif spec:find("%S") then
    domains.odd = true
  end
end

--- Adds the domains of one value, in order and with repetitions; `domains.odd` tells that there is an author without a domain.
---@param text string
---@param domains string[]
local function scan(text, domains)
  local at, piece, angle, seen = 1, {}, false, false
  local function finish()
    if not seen then -- an address in angle brackets makes a display name of what stands around it
      add(domains, table.concat(piece))
    end
    piece, seen = {}, false
  end
  while true do
    local found = text:find('[()<>",:;]', at)
    piece[#piece + 1] = text:sub(at, found and found - 1)
    if not found then
      break
    end
    local octet = text:sub(found, found)
    at = found + 1
    if octet == "(" then
      at = past_comment(text, found)
    elseif octet == '"' then
      at = past_string(text, found)
      piece[#piece + 1] = "x" -- what is quoted hides no sign of ours
    elseif octet == "<" then
      piece, angle = {}, true
    elseif octet == ">" then
      add(domains, table.concat(piece))
      piece, angle, seen = {}, false, true
    elseif octet == ":" then
      piece = {} -- the name of a group, or a route (RFC 5322 4.4)
    elseif not angle or octet == ";" then
      finish()
    end
  end
  finish()
end

--- The one domain that the authors of a message have, in A-labels.
---@param values string[] of its From fields
---@return string? domain
---@return string? why there is none, or more than one
function M.domain(values)
  local domains, octets = {}, 0
  for _, value in ipairs(values) do
    octets = octets + #value
    if octets > OCTETS_MOST then
      return nil, "its From field is too long"
    end
    scan(value, domains)
  end
  for _, domain in ipairs(domains) do
    if domain ~= domains[1] then
      return nil, "its From field has several domains"
    end
  end
  if domains.odd or not domains[1] then
    return nil, values[1] and "its From field has an author without a domain" or "it has no From field"
  elseif values[2] then
    return nil, "it has several From fields"
  end
  return domains[1]
end

return M
