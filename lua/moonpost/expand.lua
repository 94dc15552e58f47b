--- %{name} in the paths and arguments of a disposition. What a peer chose, its address first of all, may end up in a
--- file's name, so a value is refused when it could name anything but one plain entry of a folder.
---
---     %{mailbox} %{localpart} %{domain} %{detail} %{id} %{user} %{date}
---     %{detail:INBOX}     what follows the colon stands where the value is empty
---     %%                  a percent sign
local suggest = require "moonpost.suggest"

local M = {}

--- What may be named, and where it comes from. `date` is of the day, in UTC.
---@type table<string, fun(recipient: moonpost.Recipient, message: moonpost.Message): string?>
M.names = {
  mailbox = function(recipient)
    return recipient.mailbox
  end,
  localpart = function(recipient)
    return recipient.localpart
  end,
  domain = function(recipient)
    return recipient.domain and recipient.domain:lower()
  end,
  detail = function(recipient)
    return recipient.detail
  end,
  id = function(_, message)
    return message.id
  end,
  user = function(_, message)
    return message.session.user
  end,
  date = function(_, message)
    return os.date("!%Y-%m-%d", math.floor(message.time))
  end,
}

--- Why a value may not stand in a path, or nil when it may.
---@param value string
---@return string? why
function M.refusal(value)
  if value:find("/", 1, true) then
    return "a slash"
  elseif value:find("%c") or value:find("\xc2[\x80-\x9f]") then
    return "a control character"
  elseif value:find("^[.-]") then
    return "a dot or a dash in front"
  end
  return nil
end

local compiled, count = {}, 0
local COMPILED_MOST = 256

--- A template taken apart: literal text at odd places, `{ name, default }` at even ones.
---@param template string
---@return table? parts
---@return string? why
function M.parse(template)
  local known = compiled[template]
  if known then
    return known
  end
  local parts, literal, at = {}, "", 1
  while true do
    local from = template:find("%", at, true)
    if not from then
      break
    end
    literal = literal .. template:sub(at, from - 1)
    local following = template:sub(from + 1, from + 1)
    if following == "{" then
      local close = template:find("}", from, true)
      if not close then
        return nil, ("%q: a %%{ without its }"):format(template)
      end
      local name, default = template:sub(from + 2, close - 1):match("^([^:]*):?(.*)$")
      if not M.names[name] then
        return nil, ("%q: unknown name %%{%s}%s"):format(template, name, suggest.hint(name, M.names))
      end
      parts[#parts + 1] = literal
      parts[#parts + 1] = { name, default }
      literal, at = "", close + 1
    else
      literal = literal .. "%"
      at = following == "%" and from + 2 or from + 1
    end
  end
  parts[#parts + 1] = literal .. template:sub(at)
  if count >= COMPILED_MOST then -- templates that are made anew for each message must not stay for ever
    compiled, count = {}, 0
  end
  compiled[template], count = parts, count + 1
  return parts
end

--- Fills in a template for one recipient.
---@param parts table of parse()
---@return string? text
---@return "refused"|"empty"? kind whose fault: the address's, or the policy's that names what is not there
---@return string? why
function M.fill(parts, recipient, message)
  if #parts == 1 then
    return parts[1]
  end
  local out = {}
  for i, part in ipairs(parts) do
    if i % 2 == 1 then
      out[i] = part
    else
      local name, value = part[1], M.names[part[1]](recipient, message)
      local why = value and M.refusal(value)
      if why then
        return nil, "refused", ("%%{%s} is %q, with %s"):format(name, value, why)
      elseif value and value ~= "" then
        out[i] = value
      elseif part[2] ~= "" then
        out[i] = part[2]
      else
        return nil, "empty", ("%%{%s} is empty and has no default"):format(name)
      end
    end
  end
  return table.concat(out)
end

return M
