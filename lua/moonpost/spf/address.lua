--- Addresses of clients, compared bit by bit. An IPv4 address in IPv6's clothes is IPv4 (RFC 7208 5).
local core = require "moonpost.core"

local M = {}

--- The bits of an address as hexadecimal digits: 8 of IPv4, 32 of IPv6; nil when it is none.
---@param ip string
---@return string? digits
function M.digits(ip)
  local reverse = core.dns_reverse(ip)
  if not reverse then
    return nil
  end
  local a, b, c, d = reverse:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)%.in%-addr%.arpa$"
  if a then
    return ("%02x%02x%02x%02x"):format(d, c, b, a)
  end
  return (reverse:sub(1, 63):reverse():gsub("%.", ""))
end

--- Whether the first `bits` bits are the same. Never of different families.
---@param one string digits
---@param other string digits
---@param bits integer
---@return boolean
function M.same(one, other, bits)
  local whole, rest = bits // 4, bits % 4
  if #one ~= #other or one:sub(1, whole) ~= other:sub(1, whole) then
    return false
  elseif rest == 0 then
    return true
  end
  local a, b = tonumber(one:sub(whole + 1, whole + 1), 16), tonumber(other:sub(whole + 1, whole + 1), 16)
  return (a ~ b) >> (4 - rest) == 0
end

--- The address as people write it.
---@param ip string
---@return string? text
---@return string? digits
function M.read(ip)
  local digits = M.digits(ip)
  if digits and #digits == 8 then
    local octets = {}
    for pair in digits:gmatch "%x%x" do
      octets[#octets + 1] = tonumber(pair, 16)
    end
    return table.concat(octets, "."), digits
  end
  return digits and ip:lower(), digits
end

--- With dots between the parts: "192.0.2.1", "2.0.0.1.0.D.B.8..." (RFC 7208 7.3).
---@param text string
---@param digits string
---@return string
function M.dotted(text, digits)
  return #digits == 8 and text or (digits:upper():gsub("%x", "%0."):sub(1, -2))
end

return M
