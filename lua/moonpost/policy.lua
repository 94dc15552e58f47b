--- A policy file: a Lua chunk that returns moonpost.server { ... }. Modules beside it can be required.
local Error = require "moonpost.error"
local log = require "moonpost.log"
local server_of = require "moonpost.server"
local task = require "moonpost.task"

local M = {}

--- Seconds of CPU time for a policy's own code while it is loaded, before it waits or is done.
M.CPU_MOST = 10

--- Seconds for all of it, its waits included.
M.LOADING_MOST = 60

---@class moonpost.PolicySettings what the command line says; it has the last word
---@field path string
---@field listen? string[] endpoints instead of those of the policy
---@field grace? number seconds
---@field watch? boolean which files are read is told: those of inspections in their reports, those of workers by core.tell
---@field made? true a development certificate was made by who inspected the policy
---@field untouched? boolean nothing is written, a development certificate that is missing neither
---@field log? { level?: string, format?: string }

-- Servers are described with the command line's listeners in the place of their own.
local function override(settings)
  if not settings.listen then
    return
  end
  local new = server_of.new
  server_of.new = function(given)
    local changed = {}
    for key, value in pairs(type(given) == "table" and given or {}) do
      changed[key] = value
    end
    changed.listen = settings.listen
    return new(changed) -- a tail call: mistakes are reported where the policy made them
  end
end

local function relabel(server, settings, line)
  for _, row in ipairs(server._rows) do
    if row.source == "?" then -- `return moonpost.server { ... }` is a tail call, whose line only `traced` knows
      row.source = ("%s:%d"):format(settings.path, line)
    end
    if settings.listen and row.option:find("^listen") then
      row.source = "--listen"
    elseif settings.grace and row.option == "grace" then
      row.value, row.source = require("moonpost.options").show(settings.grace, { type = "duration" }), "--grace"
    end
  end
  if settings.grace then
    server.options.grace = settings.grace
  end
end

--- One line: what was raised, with the file when it names none.
---@param path string
---@param err any
---@param line? integer where the policy was when it was raised
---@return string
function M.reason(path, err, line)
  local meta = type(err) == "table" and getmetatable(err)
  if type(err) == "table" and not (meta and meta.__tostring) then
    err = "a table was raised, and no text"
  end
  local text = tostring(err):match("^[^\n]*"):gsub("not found:$", "not found") -- the places looked at would follow
  local tail, rest = text:match("^%.%.%.([^:]*)(:%d+: .*)") -- how Lua shortens a long path
  if tail and path:sub(-#tail) == tail then
    return path .. rest
  end
  if text:find(path, 1, true) or text:find("^[^%s:]+%.lua:%d+:") then
    return text
  end
  return line and ("%s:%d: %s"):format(path, line, text) or ("%s: %s"):format(path, text)
end

-- Runs the chunk and keeps the line it is at: a tail call leaves no trace of it on the stack.
local function traced(chunk, path)
  local source, line = "@" .. path, 1
  debug.sethook(function(_, at)
    if debug.getinfo(2, "S").source == source then
      line = at
    end
  end, "l")
  local ok, server = pcall(chunk, path)
  debug.sethook()
  return ok, server, line
end

--- Calls fn(...), which loads the policy at `path`, and gives it up when it waits for too long.
---@async
---@param path string
---@param fn fun(...): any, string? a result, or nil and why
---@return any result
---@return string? why
function M.in_time(path, fn, ...)
  local result, why = task.timeout(M.LOADING_MOST, fn, ...)
  if result == nil and Error.is(why) and why.kind == "timeout" then
    return nil, ("%s: not loaded within %d seconds: what does it wait for?"):format(path, M.LOADING_MOST)
  end
  return result, why
end

--- Runs a policy. In a task it may wait.
---@async
---@param settings moonpost.PolicySettings
---@return moonpost.Server? server
---@return string? why one line, with file and line
---@return true? unread its file cannot be read
function M.load(settings)
  local path = settings.path
  local folder = path:match("^(.*)/[^/]*$") or "."
  package.path = ("%s/?.lua;%s/?/init.lua;%s"):format(folder, folder, package.path)
  local file, missing = io.open(path, "r")
  local readable = file and file:read(0) -- a folder can be opened, not read
  if file then
    file:close()
  end
  if not readable and missing then
    return nil, missing, true
  end
  local chunk, why = loadfile(path, "t")
  if not chunk then
    return nil, M.reason(path, why)
  end
  require("moonpost.certificates").made_for_us = settings.made
  override(settings)
  log.configure(settings.log or {})
  local ok, server, line = traced(chunk, path)
  log.configure(settings.log or {})
  if not ok then
    return nil, M.reason(path, server, line)
  elseif type(server) ~= "table" or (getmetatable(server) or {}).__name ~= "moonpost.Server" then
    return nil, ("%s: a policy returns moonpost.server { ... }; this one returns %s")
      :format(path, server == nil and "nothing" or "a " .. type(server))
  end
  local clash = package.loaded["moonpost.queue"] and require("moonpost.queue").clash(task.worker())
  if clash then
    return nil, clash
  end
  relabel(server, settings, line)
  return server
end

return M
