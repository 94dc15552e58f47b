--- Our own server: STARTTLS, TLS from the first octet, LMTP over TCP and over a unix socket, every mechanism, BINARYMIME.
---
---     local sink <close> = require "spec.support.sinks.moonpost" { options = 'limits = { recipients = 3 }', hooks = "..." }
local accounts = require "spec.peers.accounts"
local common = require "spec.support.sinks.common"
local served = require "spec.support.served"

local Sink = {}
local Sink_mt = { __name = "spec.sinks.moonpost" }

-- What the other servers have by common.start this one has by its house.
function Sink_mt.__index(self, name)
  return Sink[name] or rawget(self, "house")[name]
end

function Sink:messages(count)
  local list = common.list_maildirs(self)
  if #list < (count or 0) then
    error(("moonpost has %d messages, %d expected; it said:\n%s"):format(#list, count, self:log()), 2)
  end
  return list
end

function Sink:take()
  self.given = (self.given or 0) + 1
  local list = self:messages(self.given)
  assert(#list == self.given, "more than one message")
  return list[self.given]
end

function Sink:log()
  self.house.process:poll()
  return self.house.process.output
end

function Sink:close()
  self.house:close()
end

Sink_mt.__close = Sink.close

---@param options? { options?: string, hooks?: string }
return function(options)
  options = options or {}
  local house = served.start {
    listen = {
      "smtp://127.0.0.1:0", "smtps://127.0.0.1:0", "lmtp://127.0.0.1:0", '{ "lmtp://unix:DIR/lmtp.sock", name = "socket" }',
    },
    options = accounts.options .. (options.options and ", " .. options.options or ""),
    hooks = accounts.hooks .. (options.hooks or "") .. [[
      function server.on.message(_, message)
        message:deliver { maildir = dir .. "/inbox/%{mailbox}", line_end = "crlf" }
      end
    ]],
  }
  return setmetatable({
    name = "moonpost",
    house = house,
    host = "127.0.0.1",
    port = house.port.smtp,
    url = "smtp://" .. house.at.smtp,
    implicit = "smtps://" .. house.at.smtps,
    lmtp = "lmtp://" .. house.at.lmtp,
    unix = "lmtp://" .. house.at.socket,
    path = house.at.socket:gsub("^unix:", ""),
    mailboxes = house.dir:join("inbox"),
    wire = true,
    mechanisms = {
      "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "XOAUTH2",
      "OAUTHBEARER",
    },
  }, Sink_mt)
end
