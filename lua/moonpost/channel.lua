--- Octets to and from a service, for protocols that Lua speaks: whoever reads or writes waits, nothing else does.
---
---     local channel <close> = assert(channel.connect(channel.place "unix:/run/clamav/clamd.ctl"))
---     assert(channel:write "zPING\0")
---     print(channel:read_to("\0", 100))
local core = require "moonpost.core"
local dns = require "moonpost.dns"
local Error = require "moonpost.error"
local task = require "moonpost.task"

local M = {}

local PIECE = 65536 -- octets of one write
local HELD_MOST = 262144 -- of what has come and nobody has read; the peer waits then

---@class moonpost.Channel
local Channel = {}
local Channel_mt = { __index = Channel, __name = "moonpost.Channel" }

--- Where a service is: "unix:/run/x.sock", "127.0.0.1:3310", "[::1]:3310", "scanner.example.org:3310".
---@param text any
---@return { path?: string, host?: string, port?: integer, shown: string }? place
---@return string? why
function M.place(text)
  if type(text) ~= "string" then
    return nil, ("an address expected, got a %s"):format(type(text))
  end
  local path = text:match("^unix:(/.*)$")
  if path then
    if path:find("%c") or #path > 107 then
      return nil, "a socket's path has at most 107 octets and no control characters"
    end
    return { path = path, shown = text }
  end
  local host, port = text:match("^%[([%x:.]+)%]:(%d+)$")
  if not host then
    host, port = text:match("^([^:]+):(%d+)$")
  end
  port = port and #port <= 5 and tonumber(port)
  if not port or port < 1 or port > 65535 or not core.dns_name(host) and not core.dns_reverse(host) then
    return nil, ('"unix:/path" or "host:port" expected, got "%s"'):format(text:gsub("%c", "?"))
  end
  return { host = host, port = port, shown = text }
end

local function targets(place)
  if place.path then
    return { { path = place.path } }
  end
  local addresses, err = dns.default():addresses(place.host)
  if not addresses then
    return nil, err
  end
  local list = {}
  for i, ip in ipairs(addresses) do
    list[i] = { ip = ip, port = place.port }
  end
  return list[1] and list or nil, Error("connect", ("%s: it has no address"):format(place.shown))
end

local function wake(self)
  local up = self.up
  self.up = nil
  if up then
    up()
  end
end

local function wait(self, what)
  task.park(function(up)
    self.up = up
    return function()
      self.up = nil
    end
  end, what)
end

-- A channel, and the function that hears of its octets.
local function make(shown)
  local self = setmetatable({ shown = shown, pieces = {}, at = 1, held = 0 }, Channel_mt)
  return self, function(what, text)
    if what == "octets" then
      self.pieces[#self.pieces + 1] = text
      self.held = self.held + #text
      if self.held > HELD_MOST and self.lines then
        self.lines:stop()
        self.stopped = true
      end
    elseif what == "end" then
      self.over = text
    end
    wake(self)
  end
end

--- Connects.
---@async
---@param place table of `place`
---@return moonpost.Channel? channel
---@return moonpost.Error? err kind "connect", or that of a look-up
function M.connect(place)
  local worker = task.worker()
  if worker:is_virtual() then
    return nil, Error("connect", ("%s: there is no network in a test"):format(place.shown))
  end
  local to, err = targets(place)
  if not to then
    return nil, err
  end
  local stream, why = task.park(function(up)
    local dial, reason = worker:dial({ to = to }, up)
    if not dial then
      return up(nil, reason)
    end
    return function()
      dial:cancel()
    end
  end, "a connection to " .. place.shown)
  if not stream then
    return nil, Error("connect", ("%s: %s"):format(place.shown, tostring(why):gsub("%c", "?")))
  end
  local self, hear = make(place.shown)
  self.lines = worker:lines(stream, hear, true)
  return self
end

--- Waits on a binding for who connects: `serve(channel)` runs in a task for each.
---@param worker moonpost.core.worker
---@param binding moonpost.core.binding
---@param serve fun(channel: moonpost.Channel)
---@return moonpost.core.lines_listener? listener
---@return string? why
function M.listen(worker, binding, serve)
  return worker:listen_lines(binding, function(lines)
    local self, hear = make("who asks")
    self.lines = lines
    task.spawn_on(worker, function()
      local channel <close> = self
      serve(channel)
    end)
    return hear
  end, true)
end

local function gone(self)
  return Error("closed", ("%s: %s"):format(self.shown, self.over or "closed"))
end

--- Sends octets; waits while the peer takes no more.
---@async
---@param octets string
---@return boolean? ok
---@return moonpost.Error? err of kind "closed"
function Channel:write(octets)
  for from = 1, #octets, PIECE do
    local piece = #octets <= PIECE and octets or octets:sub(from, from + PIECE - 1)
    while true do
      local taken = not self.over and self.lines and self.lines:say(piece)
      if taken then
        break
      elseif taken == nil or self.over or not self.lines then
        return nil, gone(self)
      end
      wait(self, self.shown)
    end
  end
  return true
end

-- All that has come as one piece, of which the octets before `self.at` are read. Small reads copy nothing but what they want.
local function gather(self)
  if self.pieces[2] then
    self.pieces[1] = self.pieces[1]:sub(self.at)
    self.pieces, self.at = { table.concat(self.pieces) }, 1
  end
  return self.pieces[1] or ""
end

local function take(self, count)
  local all, from = gather(self), self.at
  self.held = self.held - count
  self.at = from + count
  if self.held == 0 then
    self.pieces, self.at = {}, 1
  end
  if self.stopped and self.held <= HELD_MOST and not self.over then
    self.stopped = false
    self.lines:start()
  end
  return all:sub(from, from + count - 1)
end

-- Waits for more than `held` octets. They may be there at once, where the peer had to wait.
local function more(self, held)
  if self.stopped then
    self.stopped = false
    self.lines:start()
  end
  if self.held == held and not self.over then
    wait(self, self.shown)
  end
end

--- Reads so many octets.
---@async
---@param count integer
---@return string? octets
---@return moonpost.Error? err of kind "closed"
function Channel:read(count)
  while self.held < count do
    if self.over or not self.lines then
      return nil, gone(self)
    end
    more(self, self.held)
  end
  return take(self, count)
end

--- Reads up to a mark, which is not part of the result.
---@async
---@param mark string one octet
---@param most integer octets before it
---@return string? octets
---@return moonpost.Error? err of kind "closed" or "protocol"
function Channel:read_to(mark, most)
  local looked = 0 -- octets in which there is none
  while true do
    local all = gather(self)
    local at = all:find(mark, self.at + looked, true)
    local before = at and at - self.at or self.held
    if at and before <= most then
      return take(self, before + 1):sub(1, -2)
    elseif before > most then
      return nil, Error("protocol", ("%s: more than %d octets of an answer"):format(self.shown, most))
    elseif self.over or not self.lines then
      return nil, gone(self)
    end
    looked = before
    more(self, before)
  end
end

--- Whether the peer is there, as far as anybody knows.
---@return boolean
function Channel:is_open()
  return self.lines ~= nil and not self.over
end

--- What was written still goes.
function Channel:close()
  local lines = self.lines
  if lines then
    self.lines = nil
    self.over = self.over or "closed"
    lines:close()
    wake(self)
  end
end

Channel_mt.__close = Channel.close

return M
