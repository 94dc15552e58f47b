--- A peer that sends octets as it is told and knows nothing of SMTP but where a reply ends. Waits are for octets or for the
--- end of the connection, under a deadline that raises.
---
---     local peer <close> = raw.connect(house.port.smtp)
---     peer:read()                                         -- "220 mx.example.org ESMTP"
---     assert.equal("250 2.1.0 Sender OK", peer:command("MAIL FROM:<a@example.net>"))
local process = require "spec.support.process"
local socket = require "socket"

local M = {}

local Peer = {}
local Peer_mt = { __index = Peer, __name = "spec.raw" }

local DEADLINE = 10 -- seconds, for each wait

--- Connects to a port of 127.0.0.1, or to a unix socket when `where` is a path.
---@param where integer|string
---@param how? { from?: string, ip?: string } the address to come from, the one to go to
function M.connect(where, how)
  how = how or {}
  local sock
  if type(where) == "string" then
    sock = require "socket.unix"()
    assert(sock:connect(where))
  else
    sock = assert(socket.tcp())
    if how.from then
      assert(sock:bind(how.from, 0))
    end
    assert(sock:connect(how.ip or "127.0.0.1", where))
  end
  sock:settimeout(DEADLINE * process.scale, "t")
  return setmetatable({ sock = sock }, Peer_mt)
end

--- A peer that has read the banner and said EHLO (or what `verb` says).
function M.session(where, how)
  local self = M.connect(where, how)
  self.banner = self:read()
  self.ehlo = self:command((how and how.verb or "EHLO") .. " client.example.net")
  return self
end

local function fail(self, what, err)
  error(("%s: %s; read so far: %q"):format(what, tostring(err), self.last or ""), 3)
end

--- One whole reply, with LF between its lines and none at the end.
function Peer:read()
  local lines = {}
  repeat
    local line, err, rest = self.sock:receive("*l")
    if not line then
      lines[#lines + 1] = rest
      self.last = table.concat(lines, "\n")
      fail(self, "no reply", err)
    end
    lines[#lines + 1] = line
  until not line:find("^%d%d%d%-")
  return table.concat(lines, "\n")
end

--- `count` replies.
function Peer:replies(count)
  local list = {}
  for i = 1, count do
    list[i] = self:read()
  end
  return table.unpack(list)
end

---@param octets string as they are
function Peer:send(octets)
  local ok, err = self.sock:send(octets)
  if not ok then
    fail(self, "cannot send", err)
  end
end

--- Lines, in one segment.
function Peer:lines(...)
  self:send(table.concat({ ... }, "\r\n") .. "\r\n")
end

--- A line, and the reply to it.
function Peer:command(...)
  self:lines(...)
  return self:read()
end

--- Envelope and DATA up to 354, each of which must be accepted.
function Peer:envelope(from, ...)
  local function ok(reply, class)
    if reply:sub(1, 1) ~= class then
      error("refused: " .. reply, 3)
    end
  end
  ok(self:command("MAIL FROM:<" .. from .. ">"), "2")
  for _, to in ipairs { ... } do
    ok(self:command("RCPT TO:<" .. to .. ">"), "2")
  end
  ok(self:command("DATA"), "3")
end

--- Says that nothing more will be sent, and goes on listening.
function Peer:finish()
  self.sock:shutdown("send")
end

--- Everything until the end of the connection, which must come.
---@return string rest with LF line ends
---@return string how "closed" or, after a reset, "reset"
function Peer:rest()
  local parts = {}
  while true do
    local octets, err, part = self.sock:receive(65536)
    parts[#parts + 1] = octets or part
    if not octets then
      local rest = table.concat(parts):gsub("\r\n", "\n")
      if err == "timeout" then
        self.last = rest
        fail(self, "the connection was not closed", err)
      end
      return rest, err == "closed" and "closed" or "reset"
    end
  end
end

--- Goes away without a word; with `abort`, by a reset.
function Peer:leave(abort)
  if abort then
    self.sock:setoption("linger", { on = true, timeout = 0 })
  end
  self.sock:close()
end

function Peer_mt:__close()
  self.sock:close()
end

return M
