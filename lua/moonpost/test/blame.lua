--- Raises at the line of the test, however many of the kit's functions stand between.
local function is_kit(source)
  return source:find("moonpost/test%.lua$") or source:find("moonpost/test/[%w_]+%.lua$")
end

---@param text string
return function(text)
  local level = 2
  local info = debug.getinfo(level, "S")
  while info and (info.what == "C" or is_kit(info.source)) do
    level = level + 1
    info = debug.getinfo(level, "S")
  end
  error(text, info and level or 2)
end
