--- Replies of a server, as a test looks at them.
local M = {}

---@class moonpost.test.Reply
local Reply = {}
Reply.__index = Reply
Reply.__name = "moonpost.test.Reply"

--- The lines as they came.
function Reply:__tostring()
  return table.concat(self.lines, "\n")
end

--- Makes a reply of its lines, CRLF taken off.
---@param lines string[]
---@return moonpost.test.Reply
function M.new(lines)
  local code = math.tointeger(tonumber(lines[1]:sub(1, 3)))
  local enhanced, text = nil, {}
  for i, line in ipairs(lines) do
    local words = line:sub(5)
    local status, rest = words:match("^([245]%.%d+%.%d+) ?(.*)$")
    if status then
      enhanced = enhanced or status
      words = rest
    end
    text[i] = words
  end
  return setmetatable({
    code = code, class = code // 100, enhanced = enhanced, text = table.concat(text, "\n"), lines = lines,
  }, Reply)
end

---@param value any
---@return boolean
function M.is(value)
  return getmetatable(value) == Reply
end

--- Takes whole replies from what a server has written.
---@param octets string
---@param into moonpost.test.Reply[] they are put at its end
---@return string rest what is no whole reply yet
function M.read(octets, into)
  local lines, at, taken = {}, 1, 1
  while true do
    local stop = octets:find("\r\n", at, true)
    if not stop then
      return octets:sub(taken)
    end
    local line = octets:sub(at, stop - 1)
    lines[#lines + 1] = line
    at = stop + 2
    if not line:find("^%d%d%d%-") then
      into[#into + 1] = M.new(lines)
      lines, taken = {}, at
    end
  end
end

return M
