--- A server on loopback that replies as curl's test server does, and tells what it heard of each connection.
---
---     local server <close> = require "spec.support.sinks.scripted" {
---       commands = { AUTH = "334 go", MAIL = "501 not fine enough" }, capabilities = { "SIZE" }, mechanisms = { "PLAIN" },
---     }
---     server:heard()    { lines = { "EHLO client", ... }, upload = "as it came, with its dots" }, of the next connection
local common = require "spec.support.sinks.common"
local dkjson = require "dkjson"
local json = require "moonpost.json"

---@class spec.sinks.Script
---@field commands? table<string, string> replies, by a verb or by a whole line; line ends within are sent as they are
---@field capabilities? string[]
---@field mechanisms? string[]
---@field port? integer where to listen; any free one
---@field data? string the reply to VRFY, EXPN, HELP
---@field initial? boolean AUTH is expected with an initial response: one that comes behind an empty challenge is told as one line.
--- Otherwise an initial response is told, and answered, as a line of its own

---@param script? spec.sinks.Script
return function(script)
  script = script or {}
  local self = {
    name = "a scripted server",
    dir = common.folder(),
    ready = function(self)
      self.port = math.tointeger(tonumber((self.process:expect("^listening (%d+)"))))
      self.url = "smtp://127.0.0.1:" .. self.port
    end,
    heard = function(self)
      return dkjson.decode((self.process:expect('^{.*}$', 20)))
    end,
  }
  return common.start(self, {
    "lua5.4", "spec/support/sinks/scripted_serve.lua", json.encode {
      commands = next(script.commands or {}) and script.commands or { none = "" },
      capabilities = table.concat(script.capabilities or {}, "\n"),
      mechanisms = table.concat(script.mechanisms or {}, " "),
      data = script.data or "",
      port = script.port or 0,
      initial = script.initial or false,
    },
  })
end
