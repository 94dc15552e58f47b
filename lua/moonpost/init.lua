--- moonpost: an SMTP engine you script in Lua. Parts are loaded when they are first named, so that a script pays for
--- what it uses.
local M = {}

local parts = {
  server = function()
    return require("moonpost.server").new
  end,
  log = function()
    return require "moonpost.log"
  end,
  Reply = function()
    return require "moonpost.reply"
  end,
  Error = function()
    return require "moonpost.error"
  end,
  worker = function()
    return require("moonpost.process").worker
  end,
  once = function()
    return require("moonpost.process").once
  end,
  shared = function()
    return require "moonpost.shared"
  end,
  version = function()
    return require("moonpost.core").VERSION
  end,
  run = function()
    return require("moonpost.task").run
  end,
  spawn = function()
    return require("moonpost.task").spawn
  end,
  sleep = function()
    return require("moonpost.task").sleep
  end,
  timeout = function()
    return require("moonpost.task").timeout
  end,
}
M.parts = nil

return setmetatable(M, {
  __index = function(self, name)
    local load = parts[name]
    local value = load and load()
    rawset(self, name, value)
    return value
  end,
})
