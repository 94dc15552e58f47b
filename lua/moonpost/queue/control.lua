--- The socket in the folder of a spool by which `moonpost queue`, or any other program of the same user, speaks to the process that serves it.
---
--- A request is one line of JSON, `{"what":"list","filter":{"domain":"example.net"}}`; the answer is lines of JSON, `{"row":...}` as many as
--- there are, then `{"ok":true,"answer":...}` or `{"ok":false,"error":"..."}`. One request of a connection is carried out at a time; others wait.
local commands = require "moonpost.queue.commands"
local core = require "moonpost.core"
local json = require "moonpost.json"
local log = require "moonpost.log"
local task = require "moonpost.task"

local M = {}

M.NAME = "control"

local OWNER_ONLY = 384 -- 0600
local AGAIN = 0.25 -- seconds until the socket is tried again that an older generation still has
local PATH_MOST = 107 -- octets of a socket's path
local PEERS_MOST = 64

---@class moonpost.queue.Control
local Control = {}
local Control_mt = { __index = Control, __name = "moonpost.queue.Control" }

-- Ends a conversation; what was said still goes.
local function leave(self, peer)
  local lines = self.peers[peer]
  if lines then
    self.peers[peer] = nil
    self.count = self.count - 1
    peer.open = false
    lines:close()
  end
  local wake = peer.wake
  peer.wake = nil
  if wake then
    wake()
  end
end

-- One end of a conversation.
local function converse(self, lines)
  local peer = { open = true, wake = nil }
  local function say(value)
    local text = json.encode(value) .. "\n"
    while peer.open do
      local taken = lines:say(text)
      if taken then
        return true
      elseif taken == nil then
        peer.open = false
      else
        task.park(function(wake)
          peer.wake = wake
        end, "who asked to read")
      end
    end
    error("nobody reads the answer", 0)
  end
  local function answer(text)
    local request, why = json.decode(text)
    local made
    if request ~= nil then
      made, why = commands.run(self.queue, request, function(row)
        say { row = row }
      end)
    end
    say(made and { ok = true, answer = made } or { ok = false, error = why or "a request is an object" })
  end
  return function(what, text)
    if what == "line" then
      lines:stop()
      task.spawn_on(self.worker, function()
        local ok, err = pcall(answer, text)
        if not ok and peer.open then
          log.event("error", "control failed", { "queue", self.queue.name, "why", tostring(err) })
          leave(self, peer)
        elseif ok then
          lines:start()
        end
      end)
      return
    end
    if what == "end" then
      return leave(self, peer)
    end
    local wake = peer.wake -- "drained"
    peer.wake = nil
    if wake then
      wake()
    end
  end, peer
end

local function listen(self)
  self.timer = nil
  if #self.path > PATH_MOST then
    log.event("warn", "no control socket", { "queue", self.queue.name, "why", "the path of the spool is too long for a socket" })
    return
  end
  local binding, why, name = core.bind({ path = self.path, mode = OWNER_ONLY })
  if not binding and name == "INUSE" and not self.closed then -- of an older generation, which is about to let go of it
    self.timer = self.worker:timer(AGAIN, function()
      listen(self)
    end)
    return
  elseif not binding then
    log.event("warn", "no control socket", { "queue", self.queue.name, "why", why })
    return
  end
  self.binding = binding
  self.listener, why = self.worker:listen_lines(binding, function(lines)
    local hear, peer = converse(self, lines)
    self.peers[peer] = lines
    self.count = self.count + 1
    if self.count > PEERS_MOST then
      lines:say(json.encode { ok = false, error = "too many are asking" } .. "\n")
      self.worker:defer(function()
        leave(self, peer)
      end)
    end
    return hear
  end)
  if not self.listener then
    log.event("warn", "no control socket", { "queue", self.queue.name, "why", why })
  end
end

--- Listens in the folder of a queue's spool. What goes wrong is logged: mail does not depend on it.
---@param queue moonpost.Queue
---@param worker moonpost.core.worker
---@return moonpost.queue.Control
function M.open(queue, worker)
  local self = setmetatable({ queue = queue, worker = worker, path = queue.spool .. "/" .. M.NAME, peers = {}, count = 0 }, Control_mt)
  listen(self)
  return self
end

--- Listens no more, and ends conversations.
function Control:close()
  self.closed = true
  if self.timer then
    self.timer:cancel()
  end
  if self.listener then
    self.listener:close()
  end
  if self.binding then
    self.binding:close()
  end
  while next(self.peers) do
    leave(self, (next(self.peers)))
  end
end

return M
