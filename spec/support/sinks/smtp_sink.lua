--- Postfix's smtp-sink: takes everything, or is unkind as its options say.
---
---     local sink <close> = require "spec.support.sinks.smtp_sink" { "-q", "data" }
---     { "-L", unix = true }  LMTP over a unix socket
local common = require "spec.support.sinks.common"
local peers = require "spec.support.peers"
local ports = require "spec.support.ports"
local uv = require "luv"

-- A dump has fields, then the message with LF, then an empty line.
local function list(self)
  local messages = {}
  for i, path in ipairs(common.oldest_first(self, self.dir:join("dump"))) do
    local octets, fields = common.part(common.read(path))
    local one = { octets = octets:sub(1, -3), fields = fields, recipients = {}, parameters = {} }
    one.sender, one.options = fields:match("\nX%-Mail%-Args: <([^>\n]*)> ?([^\n]*)")
    for recipient, parameters in fields:gmatch("\nX%-Rcpt%-Args: <([^>\n]*)> ?([^\n]*)") do
      one.recipients[#one.recipients + 1] = recipient
      one.parameters[#one.recipients] = parameters
    end
    messages[i] = one
  end
  return messages
end

---@param options? string[] smtp-sink's own; `unix`: at a unix socket; `dump = false`: messages are not kept
return function(options)
  options = options or {}
  local dir = common.folder()
  local command = table.move(options, 1, #options, 2, { peers.smtp_sink })
  local function say(...)
    for _, word in ipairs { ... } do
      command[#command + 1] = word
    end
  end
  uv.fs_chmod(dir:mkdir("dump"), 511)
  if options.dump ~= false then
    say("-d", dir:join("dump", "message."))
  end
  if uv.getuid() == 0 then -- it will not run as root
    say("-u", "nobody")
  end
  local self = { name = "smtp-sink", dir = dir, list = list }
  local scheme = "smtp"
  for _, word in ipairs(options) do
    scheme = word == "-L" and "lmtp" or scheme
  end
  if options.unix then
    self.path = dir:join("socket")
    self.url = scheme .. "://unix:" .. self.path
    say("unix:" .. self.path, "1000")
  else
    self.port = ports.free()
    self.url = scheme .. "://127.0.0.1:" .. self.port
    say("127.0.0.1:" .. self.port, "1000")
  end
  return common.start(self, command, self.path or self.port)
end
