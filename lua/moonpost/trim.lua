--- White space off both ends of what strangers wrote, in linear time: the pattern "^%s*(.-)%s*$" tries the end behind every character, which takes
--- seconds for a hundred thousand spaces.
---@param text string
---@return string
return function(text)
  local from = text:find "%S"
  return from and text:match(".*%S", from) or ""
end
