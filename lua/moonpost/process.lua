--- What a policy may know of the process it is loaded in: which of its workers this is, and whether something is done.
local core = require "moonpost.core"

local M = {}

local id, count = core.place()

---@class moonpost.Worker
---@field id integer 1 to `count`: which thread of `moonpost serve --workers` this is; 1 in a plain script
---@field count integer
M.worker = { id = id, count = count }

--- Runs `fn` unless that has been done under this name, by any worker or generation of this process. When `fn` raises it
--- has not been done. Not for tasks that are to go on: those end with the generation that spawned them; let them run
--- where `moonpost.worker.id == 1`.
---@param name string
---@param fn fun(): any
---@return boolean done by this call
---@return any ... what fn returned
function M.once(name, fn)
  if type(name) ~= "string" or name == "" or #name > 255 then
    error("moonpost.once: a name of 1 to 255 octets expected", 2)
  elseif type(fn) ~= "function" then
    error("moonpost.once: a function expected", 2)
  elseif not core.once(name) then
    return false
  end
  local results = table.pack(pcall(fn))
  if not results[1] then
    core.once(name, true)
    error(results[2], 0)
  end
  return table.unpack(results, 1, results.n)
end

return M
