--- The arguments of one command: options in any order, `--name VALUE` or `--name=VALUE`, and operands. Of an option that
--- is given twice the last one counts.
local suggest = require "moonpost.suggest"

local M = {}

---@class moonpost.cli.Option
---@field name string without the dashes
---@field short? string one letter; of switches
---@field value? string what stands for its value in the help; nil = a switch
---@field doc string
---@field many? boolean may be given again; the result is a list
---@field parse? fun(text: string): any, string?, string? the value; or nil and what was expected; or nil, nil and what is wrong

local function by_name(options)
  local known = {}
  for _, option in ipairs(options) do
    known[option.name] = option
  end
  return known
end

-- "-v" is "--verbose".
local function long(options, arg)
  for _, option in ipairs(options) do
    if option.short and arg == "-" .. option.short then
      return "--" .. option.name
    end
  end
  return arg
end

local function unknown(name, known)
  local dashed = {}
  for each in pairs(known) do
    dashed["--" .. each] = true
  end
  return ("unknown option %s%s"):format(name, suggest.hint(name, dashed):gsub('"', ""))
end

local function store(values, option, text)
  local value, expected, wrong = (option.parse or tostring)(text)
  if wrong then
    return ("--%s: %s"):format(option.name, wrong)
  elseif value == nil then
    return ("--%s: %s expected, got %q"):format(option.name, expected, text)
  end
  if option.many then
    values[option.name] = values[option.name] or {}
    table.insert(values[option.name], value)
  else
    values[option.name] = value
  end
end

--- Reads `args` by a command's `options` and `operands` (names; one that ends with "?" may be missing, the last one may end with "*": a list).
---@param args string[]
---@param command { options: moonpost.cli.Option[], operands: string[] }
---@return table? values by name, operands too
---@return string? why
function M.parse(args, command)
  local known, values, operands = by_name(command.options), {}, {}
  local i, only_operands = 1, false
  while i <= #args do
    local arg = only_operands and args[i] or long(command.options, args[i])
    local name, text = arg:match("^%-%-([^=]+)=(.*)$")
    name = name or arg:match("^%-%-(.+)$")
    local option = name and known[name]
    if only_operands or arg == "-" or not arg:find("^%-") then
      operands[#operands + 1] = arg
    elseif arg == "--" then
      only_operands = true
    elseif arg == "-h" or name == "help" then
      return { help = true }
    elseif not option then
      return nil, unknown(name and "--" .. name or arg, known)
    elseif not option.value then
      if text then
        return nil, ("--%s takes no value"):format(name)
      end
      values[name] = true
    else
      if not text then
        i = i + 1
        text = args[i]
      end
      if not text then
        return nil, ("--%s needs a value: --%s %s"):format(name, name, option.value)
      end
      local why = store(values, option, text)
      if why then
        return nil, why
      end
    end
    i = i + 1
  end
  for k, operand in ipairs(command.operands) do
    local operand_name, optional = operand:match("^(.-)([?*]?)$")
    if optional == "*" then
      values[operand_name] = table.move(operands, k, #operands, 1, {})
      return values
    elseif not operands[k] and optional == "" then
      return nil, operand_name .. " is missing"
    end
    values[operand_name] = operands[k]
  end
  if #operands > #command.operands then
    return nil, ("unexpected argument %q"):format(operands[#command.operands + 1])
  end
  return values
end

--- The options as the help shows them.
---@param options moonpost.cli.Option[]
---@return string
function M.describe(options)
  local lines, width = {}, 0
  for _, option in ipairs(options) do
    width = math.max(width, #option.name + (option.value and #option.value + 1 or 0) + (option.short and 4 or 0))
  end
  for i, option in ipairs(options) do
    local left = (option.short and "-" .. option.short .. ", " or "") .. "--" .. option.name .. (option.value and " " .. option.value or "")
    local doc = option.doc:gsub("\n", "\n" .. (" "):rep(width + 6))
    lines[i] = ("  %s%s  %s"):format(left, (" "):rep(width + 2 - #left), doc)
  end
  return table.concat(lines, "\n")
end

return M
