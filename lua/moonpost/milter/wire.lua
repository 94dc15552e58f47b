--- The milter protocol, version 6, as a mail server speaks it: packets of a length (4 octets), a command (1), and data. Nothing here waits.
local M = {}

M.PACKET_MOST = 1 << 20 -- octets of an answer
M.BODY_MOST = 65535 -- of one piece of a body

-- What a filter may ask to be done (SMFIF_).
M.actions = { add_headers = 0x01, change_headers = 0x10, quarantine = 0x20 }

-- What a filter may ask to be left out: steps, and its answers to steps (SMFIP_). The letter is the step's command.
local no_step = { C = 0x01, H = 0x02, M = 0x04, R = 0x08, B = 0x10, L = 0x20, N = 0x40, T = 0x200 }
local no_reply = { L = 0x80, C = 0x1000, H = 0x2000, M = 0x4000, R = 0x8000, T = 0x10000, N = 0x40000, B = 0x80000 }
local SKIP, NO_UNKNOWN, NO_REPLY_UNKNOWN, LEADING_SPACE = 0x400, 0x100, 0x20000, 0x100000

local function all_of(set)
  local sum = 0
  for _, bit in pairs(set) do
    sum = sum | bit
  end
  return sum
end

local protocol = all_of(no_step) | all_of(no_reply) | SKIP | NO_UNKNOWN | NO_REPLY_UNKNOWN | LEADING_SPACE

--- A packet.
---@param command string one letter
---@param data? string
---@return string
function M.packet(command, data)
  return string.pack(">s4", command .. (data or ""))
end

-- A text as the protocol has it. A NUL would end it early, and be read as the next one.
local function text(value)
  return (tostring(value):gsub("%z", "?")) .. "\0"
end

--- Several texts.
---@return string
function M.texts(...)
  local out = {}
  for i = 1, select("#", ...) do
    out[i] = text((select(i, ...)))
  end
  return table.concat(out)
end

--- What a filter is offered.
---@param actions integer
---@return string packet
function M.offer(actions)
  return M.packet("O", string.pack(">I4I4I4", 6, actions, protocol))
end

--- A choice that leaves nothing out.
M.everything = { steps = {}, silent = {}, leading_space = false }
for letter in pairs(no_step) do
  M.everything.steps[letter] = true
end

--- What it chose of that.
---@param data string of its packet "O"
---@param actions integer that were offered
---@return { steps: table<string, boolean>, silent: table<string, boolean>, leading_space: boolean }? chosen
---@return string? why
function M.chosen(data, actions)
  if #data < 12 then
    return nil, "a short negotiation"
  end
  local version, wanted, options = string.unpack(">I4I4I4", data)
  if version < 2 or version > 6 then
    return nil, ("version %d of the protocol"):format(version)
  elseif wanted & ~actions ~= 0 then
    return nil, ("it wants to change what cannot be changed (0x%x)"):format(wanted & ~actions)
  elseif options & ~protocol ~= 0 then
    return nil, ("it wants what it was not offered (0x%x)"):format(options & ~protocol)
  end
  local chosen = { steps = {}, silent = {}, leading_space = options & LEADING_SPACE ~= 0 }
  for letter, bit in pairs(no_step) do
    chosen.steps[letter] = options & bit == 0
  end
  for letter, bit in pairs(no_reply) do
    chosen.silent[letter] = options & bit ~= 0
  end
  chosen.steps.E = true
  chosen.steps.T = chosen.steps.T and version >= 4
  return chosen
end

--- Macros for a step.
---@param step string
---@param macros table<string, any>
---@return string packet
function M.macros(step, macros)
  local names, out = {}, { step }
  for name in pairs(macros) do
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    out[#out + 1] = text(name) .. text(macros[name])
  end
  return M.packet("D", table.concat(out))
end

--- The peer of a session.
---@param name string
---@param ip? string nil: a unix socket
---@param port? integer
---@return string data of packet "C"
function M.peer(name, ip, port)
  if not ip then
    return text(name) .. "L" .. string.pack(">I2", 0) .. text "local"
  end
  local is_v6 = ip:find(":", 1, true)
  return text(name) .. (is_v6 and "6" or "4") .. string.pack(">I2", port or 0) .. text(is_v6 and "IPv6:" .. ip or ip)
end

-- The text of a reply, "550 5.7.1 no" or lines of "550-5.7.1 no": code, enhanced code, text.
local function reply(data)
  data = data:gsub("%z.*$", "")
  local code = data:match("^[45]%d%d%f[^%d]")
  if not code then
    return nil
  end
  local enhanced, lines = nil, {}
  for line in data:gmatch("[^\r\n]+") do
    local rest = line:match("^" .. code .. "[ -]?(.*)$") or line
    local class, more = rest:match("^(%d%.%d%d?%d?%.%d%d?%d?)%f[^%d]%s*(.*)$")
    if class then
      enhanced, rest = enhanced or class, more
    end
    lines[#lines + 1] = rest:gsub("[^\x20-\x7e]", "?"):sub(1, 400)
  end
  if enhanced and enhanced:sub(1, 1) ~= code:sub(1, 1) then
    enhanced = nil
  end
  return { what = "reply", code = math.tointeger(tonumber(code)), enhanced = enhanced, text = table.concat(lines, " "):sub(1, 400) }
end

local verdicts = { a = "accept", c = "continue", d = "discard", r = "reject", t = "tempfail", s = "skip", ["4"] = "tempfail", f = "tempfail" }

local changes = {
  h = function(data)
    local name, value = data:match("^([^%z]*)%z([^%z]*)%z")
    return name and { what = "add", name = name, value = value }
  end,
  i = function(data)
    local name, value = data:match("^([^%z]*)%z([^%z]*)%z", 5)
    return name and { what = "insert", at = (string.unpack(">I4", data)), name = name, value = value }
  end,
  m = function(data)
    local name, value = data:match("^([^%z]*)%z([^%z]*)%z", 5)
    return name and { what = "change", at = (string.unpack(">I4", data)), name = name, value = value }
  end,
  q = function(data)
    local reason = data:match("^([^%z]*)%z")
    return reason and { what = "quarantine", reason = reason:gsub("%c", "?"):sub(1, 400) }
  end,
}

--- Answers that are changes: more of them come, and the verdict last.
M.changes = { add = true, insert = true, change = true, quarantine = true }

--- Reads an answer.
---@param letter string
---@param data string
---@return table? answer `what` is "continue", "accept", "discard", "reject", "tempfail", "skip", "reply", "progress", or a change
function M.answer(letter, data)
  if verdicts[letter] then
    return { what = verdicts[letter] }
  elseif letter == "p" then
    return { what = "progress" }
  elseif letter == "y" then
    return reply(data)
  elseif changes[letter] then
    return changes[letter](data) or nil
  end
end

return M
