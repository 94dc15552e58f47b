--- A value as one text, equal where two say the same: policies write their options anew for every message.
local DEPTH_MOST = 6 -- tables inside tables, in options

local function write(value, out, depth)
  if type(value) == "table" and getmetatable(value) == nil and depth <= DEPTH_MOST then
    local names, of = {}, {}
    for name in pairs(value) do
      local shown = ("%s %s"):format(type(name), tostring(name))
      names[#names + 1], of[shown] = shown, name
    end
    table.sort(names)
    out[#out + 1] = "{"
    for _, shown in ipairs(names) do
      out[#out + 1] = ("%q"):format(shown)
      write(value[of[shown]], out, depth + 1)
    end
    out[#out + 1] = "}"
  elseif type(value) == "string" then
    out[#out + 1] = ("%q"):format(value)
  elseif type(value) == "table" or type(value) == "function" or type(value) == "userdata" then
    out[#out + 1] = ("%p"):format(value)
  else
    out[#out + 1] = tostring(value)
  end
end

---@param value any options
---@return string
return function(value)
  local out = {}
  write(value, out, 1)
  return table.concat(out, "\0")
end
