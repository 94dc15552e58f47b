--- Commands to a queue as plain values, for the socket of a running server and for `moonpost queue` on a spool that nobody serves: a
--- request is a table with `what`, the answer a table, and rows come one by one on the way.
local suggest = require "moonpost.suggest"

local M = {}

local OCTETS = 8192 -- of a message, in one row
local REPLY_MOST = 2000 -- octets of a reply in a row

-- An error that a method of the queue raised, without the place where we called it.
local function said(err)
  return (tostring(err):gsub("^[^\n]-:%d+: ", ""):gsub("^queue:[%a_]+: ", ""))
end

-- Calls a method. Its answer, or nil and why.
local function call(queue, method, ...)
  local ok, answer, err = pcall(queue[method], queue, ...)
  if not ok then
    return nil, said(answer)
  elseif answer == nil then
    return nil, tostring(err)
  end
  return answer
end

-- A command that calls a method with members of the request.
local function caller(method, ...)
  local names = { ... }
  return function(queue, request)
    local args = {}
    for i, name in ipairs(names) do
      args[i] = request[name]
    end
    local answer, why = call(queue, method, table.unpack(args, 1, #names))
    return answer == true and {} or answer, why
  end
end

local commands = {
  hold = caller("hold", "filter"), release = caller("release", "filter"), retry = caller("retry", "filter"),
  remove = caller("remove", "filter"), redirect = caller("redirect", "filter", "to"),
  bounce = caller("bounce", "filter", "code", "enhanced", "text"),
  suspend = caller("suspend", "site"), resume = caller("resume", "site"), limit = caller("limit", "site", "limits"),
}

function commands.list(queue, request, emit)
  local count = 0
  local ok, why = call(queue, "each", request.filter, function(row)
    if row.reply and #row.reply > REPLY_MOST then
      row.reply = row.reply:sub(1, REPLY_MOST) .. "..."
    end
    count = count + 1
    emit(row)
  end)
  return ok and { count = count }, why
end

-- JSON has no octets: each of them is sent as the character of its number.
function commands.octets(queue, request, emit)
  local octets, why = call(queue, "octets", request.id)
  if not octets then
    return nil, why
  end
  for at = 1, #octets, OCTETS do
    emit { octets = octets:sub(at, at + OCTETS - 1):gsub("[\x80-\xff]", function(octet) return utf8.char(octet:byte()) end) }
  end
  return {}
end

function commands.stats(queue, request)
  return call(queue, "stats", request.quick and { quick = true } or nil)
end

function commands.check(queue)
  local aside, why = call(queue, "check")
  return aside and { aside = aside }, why
end

--- Carries a request out.
---@async
---@param queue moonpost.Queue
---@param request table what, filter?, id?, site?, ...
---@param emit fun(row: table) may wait
---@return table? answer
---@return string? why
function M.run(queue, request, emit)
  local command = type(request) == "table" and commands[request.what]
  if not command then
    local what = type(request) == "table" and tostring(request.what) or "a request"
    return nil, ("there is no command %q%s"):format(what, suggest.hint(what, commands))
  elseif request.filter ~= nil and type(request.filter) ~= "table" then
    return nil, "filter: a table expected"
  end
  request.filter = request.filter or {}
  return command(queue, request, emit)
end

return M
