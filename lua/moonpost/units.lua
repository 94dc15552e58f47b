--- Durations, sizes and rates as people write them. Each parser returns a number, or nil and what was expected.
local M = {}

local seconds_in = { ms = 0.001, s = 1, m = 60, h = 3600, d = 86400, w = 604800 }

--- KB, MB and GB are powers of 1000, KiB, MiB and GiB of 1024.
local octets_in = {
  b = 1,
  k = 1000, kb = 1000, kib = 1024,
  m = 1000 ^ 2, mb = 1000 ^ 2, mib = 1024 ^ 2,
  g = 1000 ^ 3, gb = 1000 ^ 3, gib = 1024 ^ 3,
}

local function finite(n)
  return n == n and n >= 0 and n < math.huge
end

local duration_wanted = 'a duration such as "5m", "1h30m" or a number of seconds'

--- "500ms", "30", "30s", "5m", "1h30m", "2d", or seconds as a number.
---@param value any
---@return number? seconds
---@return string? expected
function M.duration(value)
  if type(value) == "number" and finite(value) then
    return value
  end
  if type(value) ~= "string" then
    return nil, duration_wanted
  end
  if value:find("^%d+%.?%d*$") then
    return tonumber(value)
  end
  local total, at = 0, 1
  while at <= #value do
    local number, unit, after = value:match("^(%d+%.?%d*)(%a+)()", at)
    local factor = unit and seconds_in[unit]
    if not factor then
      return nil, duration_wanted
    end
    total = total + tonumber(number) * factor
    at = after
  end
  if at == 1 or not finite(total) then
    return nil, duration_wanted
  end
  return total
end

local size_wanted = 'a size such as "50MB", "64KiB" or a number of octets'

--- "50MB", "64KiB", or octets as a number.
---@param value any
---@return integer? octets
---@return string? expected
function M.size(value)
  local octets
  if type(value) == "number" then
    octets = value
  elseif type(value) == "string" then
    local number, unit = value:match("^(%d+%.?%d*)%s?(%a*)$")
    local factor = number and (unit == "" and 1 or octets_in[unit:lower()])
    octets = factor and tonumber(number) * factor
  end
  if not octets or not finite(octets) or octets >= 2 ^ 62 then
    return nil, size_wanted
  end
  return math.tointeger(octets) or math.floor(octets)
end

---@class moonpost.Rate
---@field count number
---@field seconds number in how many seconds

local rate_wanted = 'a rate such as "1000/h" or "5/s"'

--- "1000/h", "10/30s".
---@param value any
---@return moonpost.Rate? rate
---@return string? expected
function M.rate(value)
  if type(value) ~= "string" then
    return nil, rate_wanted
  end
  local count, unit = value:match("^(%d+)/(%w+)$")
  local seconds = unit and (seconds_in[unit] or M.duration(unit))
  if not seconds or seconds <= 0 then
    return nil, rate_wanted
  end
  return { count = tonumber(count), seconds = seconds }
end

local function number(n)
  return (("%.3f"):format(n):gsub("%.?0+$", ""))
end

--- The shortest way to write a duration: 5400 is "1h30m".
---@param seconds number
---@return string
function M.show_duration(seconds)
  if seconds == 0 then
    return "0"
  elseif seconds < 1 then
    return number(seconds * 1000) .. "ms"
  end
  local out = ""
  for _, unit in ipairs { "d", "h", "m" } do
    local whole = math.floor(seconds / seconds_in[unit])
    if whole > 0 then
      out = out .. whole .. unit
      seconds = seconds - whole * seconds_in[unit]
    end
  end
  return seconds > 0 and out .. number(seconds) .. "s" or out
end

--- 50000000 is "50MB", 65536 is "64KiB", 1234 stays "1234".
---@param octets integer
---@return string
function M.show_size(octets)
  for _, unit in ipairs { "GB", "GiB", "MB", "MiB", "KB", "KiB" } do
    local factor = math.tointeger(octets_in[unit:lower()])
    if octets >= factor and octets % factor == 0 then
      return octets // factor .. unit
    end
  end
  return tostring(octets)
end

---@param rate moonpost.Rate
---@return string
function M.show_rate(rate)
  for unit, seconds in pairs(seconds_in) do
    if seconds == rate.seconds then
      return number(rate.count) .. "/" .. unit
    end
  end
  return number(rate.count) .. "/" .. M.show_duration(rate.seconds)
end

return M
