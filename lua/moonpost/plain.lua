--- Plain values as text, to be handed from one Lua state to another: strings, numbers, booleans, and tables of them.
local M = {}

local DEPTH_MOST = 32

local scalars = { string = true, number = true, boolean = true, ["nil"] = true }

local function write(out, value, depth)
  if scalars[type(value)] then
    out[#out + 1] = ("%q"):format(value)
    return
  elseif type(value) ~= "table" or depth > DEPTH_MOST then
    error(("plain: a %s cannot be handed over"):format(type(value)), 0)
  end
  out[#out + 1] = "{"
  for key, item in pairs(value) do
    out[#out + 1] = "["
    write(out, key, depth + 1)
    out[#out + 1] = "]="
    write(out, item, depth + 1)
    out[#out + 1] = ","
  end
  out[#out + 1] = "}"
end

---@param value any
---@return string
function M.encode(value)
  local out = {}
  write(out, value, 1)
  return table.concat(out)
end

--- What encode() made. Never for text from elsewhere.
---@param text string
---@return any
function M.decode(text)
  return assert(load("return " .. text, "=plain", "t", {}))()
end

return M
