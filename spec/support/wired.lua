--- A server on a virtual worker, spoken to over wires: no socket, a clock that the spec turns.
---
---     local house = wired.new({ domains = { "example.org" } }, function(server) function server.on.rcpt() ... end end)
---     local peer = house:connect()
---     assert.equal("250 2.1.0 Sender OK", peer:command("MAIL FROM:<a@example.net>"))
local core = require "moonpost.core"
local log = require "moonpost.log"
local moonpost = require "moonpost"

local M = {}

local House = {}
House.__index = House
local Peer = {}
Peer.__index = Peer

--- Catches the log; `lines` are JSON, so that they can be looked at by field.
function M.catch_log(level)
  local lines = {}
  log.configure {
    level = level or "debug", format = "json", output = function(line)
      lines[#lines + 1] = line
    end,
  }
  return lines
end

function M.release_log()
  log.configure { level = "info", format = "text", output = "stderr" }
end

--- `options` of moonpost.server; hostname and listen have defaults. `define` gets the server before it starts, `how`
--- is for server:start.
function M.new(options, define, how)
  local given = { hostname = "mx.example.org", listen = { "smtp://127.0.0.1:25" } }
  for key, value in pairs(options or {}) do
    given[key] = value
  end
  local self = setmetatable({ lines = M.catch_log(), worker = core.virtual_worker() }, House)
  self.server = moonpost.server(given)
  if define then
    define(self.server, self)
  end
  local with = { worker = self.worker }
  for key, value in pairs(how or {}) do
    with[key] = value
  end
  assert(self.server:start(with))
  return self
end

--- Lets everything happen that can without time passing.
function House:settle()
  for _ = 1, 8 do
    self.worker:turn(false)
  end
end

--- A peer that has read the banner.
function House:connect(peer, listener)
  local wire = self.server:_wire(peer or { ip = "203.0.113.9", port = 40000 }, listener)
  local one = setmetatable({ house = self, wire = wire }, Peer)
  one.banner = one:read()
  return one
end

--- A peer that has said EHLO (or LHLO).
function House:session(peer, listener)
  local one = self:connect(peer, listener)
  one.ehlo = one:command((self.server.listeners[1].endpoint.protocol == "lmtp" and "LHLO" or "EHLO")
    .. " client.example")
  return one
end

--- The log lines that contain all of the given texts.
function House:logged(...)
  local found = {}
  for _, line in ipairs(self.lines) do
    local all = true
    for _, text in ipairs { ... } do
      all = all and line:find(text, 1, true) ~= nil
    end
    if all then
      found[#found + 1] = line
    end
  end
  return found
end

--- What has been written, with LF between lines and none at the end; "" when nothing was.
function Peer:read()
  self.house:settle()
  return (self.wire:receive():gsub("\r\n", "\n"):gsub("\n$", ""))
end

function Peer:command(...)
  self.wire:send(table.concat({ ... }, "\r\n") .. "\r\n")
  return self:read()
end

--- A whole message; returns the reply behind the final dot (and all replies before it).
function Peer:send(from, to, octets)
  local before = { self:command("MAIL FROM:<" .. from .. ">") }
  for _, address in ipairs(type(to) == "table" and to or { to }) do
    before[#before + 1] = self:command("RCPT TO:<" .. address .. ">")
  end
  before[#before + 1] = self:command("DATA")
  return self:command(octets or "Subject: test\r\n\r\nHello.", "."), before
end

function Peer:closed()
  self.house:settle()
  return self.wire:closed()
end

return M
