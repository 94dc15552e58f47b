--- The nearest known name to one that is not known, for error messages.
local M = {}

--- Edit distance with neighbouring letters swapped counting once (optimal string alignment).
local function distance(a, b)
  local before, row = {}, {}
  for j = 0, #b do
    row[j] = j
  end
  for i = 1, #a do
    local last = before
    before, row = row, { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local cost = math.min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        cost = math.min(cost, last[j - 2] + 1)
      end
      row[j] = cost
    end
  end
  return row[#b]
end

-- What others call it.
local kin = {
  attachments = "message", body = "text", cafile = "ca", cert = "certificate", html = "message", keyfile = "key", pass = "password", relay = "via",
  server = "host", smarthost = "via", username = "user",
}

--- The name that was probably meant, or nil when none is near. Names over 40 octets are not compared.
---@param name any
---@param known table<any, any> its keys, and the strings in its list part, are the names
---@return string?
function M.nearest(name, known)
  if type(name) ~= "string" or #name > 40 then
    return nil
  end
  if kin[name] and known[kin[name]] ~= nil then
    return kin[name]
  end
  local best, least
  for key, value in pairs(known) do
    local candidate = type(key) == "string" and key or value
    if type(candidate) == "string" and #candidate <= 40 then
      local d = distance(name:lower(), candidate:lower())
      if not least or d < least or (d == least and candidate < best) then
        best, least = candidate, d
      end
    end
  end
  if least and least <= math.max(1, #name // 3) then
    return best
  end
  return nil
end

--- ' (did you mean "x"?)' or an empty string: to be put behind "unknown thing".
---@return string
function M.hint(name, known)
  local nearest = M.nearest(name, known)
  return nearest and (' (did you mean "%s"?)'):format(nearest) or ""
end

return M
