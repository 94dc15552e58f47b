--- moonpost: an SMTP engine you script in Lua. Parts are loaded when they are first named, so that a script pays for
--- what it uses.
local M = {}

-- name = { module, field of it; the module itself when left out }
local parts = {
  server = { "moonpost.server", "new" },
  log = { "moonpost.log" },
  Reply = { "moonpost.reply" },
  Error = { "moonpost.error" },
  shared = { "moonpost.shared" },
  dns = { "moonpost.dns" },
  worker = { "moonpost.process", "worker" },
  once = { "moonpost.process", "once" },
  version = { "moonpost.core", "VERSION" },
  run = { "moonpost.task", "run" },
  spawn = { "moonpost.task", "spawn" },
  sleep = { "moonpost.task", "sleep" },
  connect = { "moonpost.client", "connect" },
  send = { "moonpost.send", "send" },
  pool = { "moonpost.pool", "new" },
  queue = { "moonpost.queue", "new" },
  http = { "moonpost.http" },
  schedule = { "moonpost.schedule", "new" },
  srs = { "moonpost.srs", "new" },
  report = { "moonpost.report" },
  reports = { "moonpost.reports" },
  spf = { "moonpost.spf" },
  iprev = { "moonpost.iprev" },
  links = { "moonpost.links" },
  dnsbl = { "moonpost.dnsbl", "new" },
  psl = { "moonpost.psl" },
  authres = { "moonpost.authres" },
  dmarc = { "moonpost.dmarc" },
  dkim = { "moonpost.dkim" },
  arc = { "moonpost.arc" },
  auth = { "moonpost.auth" },
  clamav = { "moonpost.clamav", "new" },
  milter = { "moonpost.milter", "new" },
  rspamd = { "moonpost.rspamd", "new" },
  mime = { "moonpost.mime" },
  message = { "moonpost.mime.build", "message" },
}

--- Runs `fn(...)`; when it has waited for more than `seconds` in all, its wait is given up. Without arguments: how many
--- seconds a loop of the program's own may wait before the next step(), nil = until poll_fd() is readable.
---@param seconds? number
---@param fn? function
---@return any ...
function M.timeout(seconds, fn, ...)
  if seconds == nil then
    return require("moonpost.core").worker():timeout()
  end
  return require("moonpost.task").timeout(seconds, fn, ...)
end

--- For programs with a loop of their own: readable when a step has work.
---@return integer fd
function M.poll_fd()
  return require("moonpost.core").worker():fd()
end

--- Does what can be done without waiting.
---@return boolean alive false when nothing is left to wait for
function M.step()
  return require("moonpost.core").worker():turn(false)
end

return setmetatable(M, {
  __index = function(self, name)
    local part = parts[name]
    if not part then
      return nil
    end
    local module = require(part[1])
    local value = part[2] and module[part[2]] or module
    rawset(self, name, value)
    return value
  end,
})
