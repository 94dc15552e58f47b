--- What DKIM and ARC judge and sign: a message or its octets, and the hash of its body.
local Error = require "moonpost.error"
local task = require "moonpost.task"

local M = {}

--- What C takes: a string, or the message's core. Raises at the line of whoever called the caller.
---@param message moonpost.Message|string
---@param who string "dkim.verify"
---@return moonpost.core.message|string source
function M.source(message, who)
  if type(message) == "string" then
    return message
  elseif type(message) == "table" and getmetatable(message) == "moonpost.Message" then
    return message._core
  end
  error(("%s: a message or its octets expected, got a %s"):format(who, type(message)), 3)
end

--- Hashes the body; a long one in the thread pool.
---@param box moonpost.core.dkim_hash|moonpost.core.dkim_verifier
---@param source moonpost.core.message|string
---@param who string "dkim", for errors
---@return fun(): true?, moonpost.Error? wait for the end of it
function M.feed(box, source, who)
  local wake, outcome
  local done, why, name = box:feed(source, task.worker(), function(...)
    outcome = table.pack(...)
    if wake then
      wake()
    end
  end)
  return function()
    if done == false then
      if not outcome then
        task.park(function(woken)
          wake = woken
        end, "the hash of a body")
      end
      done, why, name = table.unpack(outcome, 1, 3)
    end
    if done then
      return true
    end
    return nil, Error("system", ("%s: the body: %s"):format(who, why), { code = name, temporary = true })
  end
end

return M
