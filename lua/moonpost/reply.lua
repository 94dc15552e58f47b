--- A reply as a value: what a hook returns as `code [, enhanced], text`, or raises from deep inside a helper:
---
---     error(moonpost.Reply(550, "5.1.1", "No such mailbox"))
local core = require "moonpost.core"

local Reply = {}
Reply.__index = Reply
Reply.__name = "moonpost.Reply"

--- One line, of however many the peer said.
function Reply:__tostring()
  local text = self.text:gsub("\n", " / ")
  return self.enhanced and ("%d %s %s"):format(self.code, self.enhanced, text) or ("%d %s"):format(self.code, text)
end

local M = {}

--- Brings `code, text`, `code, enhanced, text` and `code, nil, text` into one form. What is missing of the enhanced
--- code is "other or undefined" of the code's class (RFC 3463).
---@param code any
---@param enhanced any
---@param text any
---@return integer? code nil when this is no reply
---@return string enhanced_or_why
---@return string? text
function M.normal(code, enhanced, text)
  if text == nil and type(enhanced) == "string" and not enhanced:find("^%d%.%d+%.%d+$") then
    enhanced, text = nil, enhanced
  end
  local number = type(code) == "number" and math.tointeger(code)
  if not number then
    return nil, ("a reply starts with a code, not with %s"):format(type(code) == "number" and code or type(code))
  elseif number < 200 or number > 599 or number // 100 == 3 then
    return nil, ("%d is no code of a verdict: 2xx, 4xx and 5xx are"):format(number)
  elseif enhanced ~= nil and type(enhanced) ~= "string" then
    return nil, ("an enhanced code is a string, not a %s"):format(type(enhanced))
  elseif text == nil then
    return nil, ("%d without a text"):format(number)
  elseif type(text) ~= "string" then
    return nil, ("the text of a reply is a string, not a %s"):format(type(text))
  end
  enhanced = enhanced or (number // 100) .. ".0.0"
  local why = core.check_reply(number, enhanced, text)
  if why then
    return nil, ("%s: %d %s"):format(why, number, enhanced)
  end
  return number, enhanced, text
end

--- Raises at the caller's line when the reply could not go on the wire.
---@param code integer
---@param enhanced? string may be left out
---@param text string
---@return moonpost.Reply
function M.new(code, enhanced, text)
  local number, checked, words = M.normal(code, enhanced, text)
  if not number then
    error("moonpost.Reply: " .. checked, 2)
  end
  return setmetatable({ code = number, enhanced = checked, text = words }, Reply)
end

--- What a peer said, or we in its place. It was checked where it was read.
---@param code integer
---@param enhanced string? nil: it said none
---@param text string
---@return moonpost.Reply
function M.heard(code, enhanced, text)
  return setmetatable({ code = code, enhanced = enhanced, text = text }, Reply)
end

--- The reply that tostring() wrote; nil when it is none.
---@param text string
---@return moonpost.Reply?
function M.parse(text)
  local code, rest = text:match("^(%d%d%d) (.*)$")
  if not code then
    return nil
  end
  local enhanced, words = rest:match("^(%d%.%d+%.%d+) (.*)$")
  return M.heard(math.tointeger(tonumber(code)), enhanced, words or rest)
end

---@param value any
---@return boolean
function M.is(value)
  return getmetatable(value) == Reply
end

return setmetatable(M, {
  __call = function(_, ...)
    local number, enhanced, text = M.normal(...)
    if not number then
      error("moonpost.Reply: " .. enhanced, 2)
    end
    return setmetatable({ code = number, enhanced = enhanced, text = text }, Reply)
  end,
})
