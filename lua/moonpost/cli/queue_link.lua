--- What `moonpost queue` speaks to: the server that has the spool, by its socket, or the spool itself when nobody has it.
local Error = require "moonpost.error"
local commands = require "moonpost.queue.commands"
local control = require "moonpost.queue.control"
local json = require "moonpost.json"
local task = require "moonpost.task"

local M = {}

local PATIENCE = 3 -- seconds for a server that starts, or loads its policy anew, to open its socket

---@class moonpost.cli.QueueLink
---@field running boolean a server has the spool
---@field ask fun(request: table, emit?: fun(row: table)): table?, string?, boolean? the last: nothing was heard of it, for the server went
---@field close fun()

-- To a running server.
local function by_socket(worker, stream)
  local inbox, wake, over = {}, nil, nil
  local lines = worker:lines(stream, function(what, text)
    if what == "line" then
      inbox[#inbox + 1] = text
    elseif what == "end" then
      over = text
    end
    if wake and what ~= "drained" then
      local up = wake
      wake = nil
      up()
    end
  end)
  local function next_line()
    while not inbox[1] do
      if over then
        return nil
      end
      task.park(function(up)
        wake = up
      end, "the server")
    end
    return table.remove(inbox, 1)
  end
  return {
    running = true,
    ask = function(request, emit)
      if not lines:say(json.encode(request) .. "\n") then
        return nil, "the server has gone", true
      end
      local heard = false
      while true do
        local text = next_line()
        local said = text and json.decode(text)
        if type(said) ~= "table" then
          return nil, text and "the server says what is not understood" or "the server has gone in the middle of its answer", not text and not heard
        elseif said.row then
          heard = true
          emit(said.row)
        else
          return said.ok and (said.answer or {}) or nil, said.error
        end
      end
    end,
    close = function()
      lines:close()
    end,
  }
end

local function connect(worker, path)
  return task.park(function(up)
    worker:dial({ to = { { path = path } } }, up)
  end, "a connection to the server")
end

-- To the spool itself.
local function by_spool(folder)
  local queue = require("moonpost.queue").new { spool = folder }
  local ok, err = queue:_open()
  if not ok then
    return nil, err
  end
  return {
    running = false,
    ask = function(request, emit)
      return commands.run(queue, request, emit)
    end,
    close = function()
      queue:stop()
    end,
  }
end

local ENOENT, ENOTDIR = 2, 20

-- Why there is no spool in a folder, or none that we may open; nil when there is one.
local function missing(folder)
  local file, why, errno = io.open(folder .. "/spool.db", "rb")
  if file then
    file:close()
    return nil
  end
  return (errno == ENOENT or errno == ENOTDIR) and folder .. ": there is no spool here" or why
end

local reads = { list = true, stats = true, octets = true, check = true }

-- A server that loads its policy anew lets go of its socket, and of who has just come: what only looks is asked again.
local function patient(folder, open, link)
  local self = { running = link.running }
  function self.ask(request, emit)
    local give_up = task.worker():now() + PATIENCE
    local answer, why, gone = link.ask(request, emit)
    while gone and reads[request.what] and task.worker():now() < give_up do
      link.close()
      task.sleep(0.1)
      local again = open(folder)
      if not again then
        break
      end
      link, self.running = again, again.running
      answer, why, gone = link.ask(request, emit)
    end
    return answer, why
  end
  function self.close()
    link.close()
  end
  return self
end

local function open(folder)
  local why = missing(folder)
  if why then
    return nil, why
  end
  local worker, path = task.worker(), folder .. "/" .. control.NAME
  local give_up = worker:now() + PATIENCE
  while true do
    local stream = #path <= 107 and connect(worker, path)
    if stream then
      return by_socket(worker, stream)
    end
    local link, err = by_spool(folder)
    if link then
      return link
    elseif not (Error.is(err) and err.error == "INUSE") then
      return nil, tostring(err.message or err)
    elseif worker:now() >= give_up then
      return nil, ("%s; it does not answer at %s"):format(err.message, path)
    end
    task.sleep(0.1)
  end
end

--- Speaks to whoever has the spool.
---@async
---@param folder string
---@return moonpost.cli.QueueLink? link
---@return string? why
function M.open(folder)
  local link, why = open(folder)
  return link and patient(folder, open, link), why
end

return M
