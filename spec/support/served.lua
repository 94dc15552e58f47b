--- A moonpost that serves a policy on loopback, for specs that bring real peers. The policy is one file made of options and
--- hooks as text; ports are chosen by the system and read from the log.
---
---     local house <close> = served.start {
---       listen = { "smtp://127.0.0.1:0" },
---       options = [[ limits = { size = "1MB" } ]],
---       hooks = [[ function server.on.rcpt(session, recipient) log.info("rcpt", { to = recipient.address }) end ]],
---     }
---     house.port.smtp, house.at.smtp ("127.0.0.1:40001"), house:mail("bob"), house:expect("rcpt to=")
---
--- Mail goes to mail/NAME of house.dir unless the hooks have a message hook. What hooks log at info is seen by expect().
local process = require "spec.support.process"
local tmpdir = require "spec.support.tmpdir"

local M = {}

local House = {}
local House_mt = { __index = House, __name = "spec.house" }

local policy = [[
local moonpost = require "moonpost"
local log = moonpost.log
local dir = %q
local server = moonpost.server {
  hostname = "mx.example.org",
  listen = { %s },
  domains = { "example.org" },
  %s
}
%s
%s
return server
]]

local delivers = [[
function server.on.message(_, message)
  message:deliver { maildir = dir .. "/mail/%{mailbox}" }
end
]]

local function entries(list)
  local out = {}
  for i, entry in ipairs(list) do
    out[i] = entry:find("^{") and entry or ("%q"):format(entry)
  end
  return table.concat(out, ", ")
end

---@class spec.served.Options
---@field listen? string[] URLs, or the text of tables; { "smtp://127.0.0.1:0" }
---@field options? string further options of moonpost.server, as Lua text; DIR stands for the folder
---@field hooks? string Lua text; sees moonpost, log, server and dir
---@field args? string[] more arguments of `moonpost serve`
---@field wrap? string[] a command in front: { "prlimit", "--nofile=64" }
---@field env? table
---@field dir? table a tmpdir to use; it stays when the house is closed
---@field before? fun(dir: table) is called before the start, to fill the folder

--- Starts and waits until every endpoint is served.
---@param given? spec.served.Options
---@return table house closable: stops the server, which must end well
function M.start(given)
  given = given or {}
  local listen = given.listen or { "smtp://127.0.0.1:0" }
  local dir = given.dir or tmpdir.new()
  local self = setmetatable({ dir = dir, keep = given.dir ~= nil, port = {}, at = {} }, House_mt)
  if given.before then
    given.before(dir)
  end
  local hooks = given.hooks or ""
  local function place(text)
    return (text:gsub("DIR", function()
      return dir.path
    end))
  end
  local path = dir:write("policy.lua", policy:format(dir.path, place(entries(listen)), place(given.options or ""), hooks,
    hooks:find("server.on.message", 1, true) and "" or delivers))
  local command = { env = given.env }
  for _, part in ipairs(given.wrap or {}) do
    command[#command + 1] = part
  end
  for _, part in ipairs { process.moonpost, "serve", "--grace", "1s", table.unpack(given.args or {}) } do
    command[#command + 1] = part
  end
  command[#command + 1] = path
  self.process = process.start(command)
  local ok, err = pcall(function()
    for _ = 1, #listen do
      local where, name = self.process:expect("listening on %l+://(%S+) name=(%S+)", 30)
      self.at[name] = where
      self.port[name] = math.tointeger(tonumber(where:match(":(%d+)$")))
    end
  end)
  if not ok then
    self.process:kill("sigkill")
    error(err, 2)
  end
  return self
end

--- Waits for a line of the server's log; see process.lua.
function House:expect(pattern, timeout)
  return self.process:expect(pattern, timeout)
end

--- How many lines of the log match so far. What has been written before a reply that the spec has seen is among them.
function House:count(pattern)
  self.process:poll()
  local count = 0
  for _, line in ipairs(self.process.lines) do
    count = count + (line:find(pattern) and 1 or 0)
  end
  return count
end

--- The mails of a mailbox, in no order that means anything.
---@return string[]
function House:mail(name)
  local list = {}
  for i, file in ipairs(self.dir:list("mail/" .. name .. "/new")) do
    list[i] = self.dir:read("mail/" .. name .. "/new/" .. file)
  end
  return list
end

--- The only mail of a mailbox, which is then empty. Octet by octet.
---@return string
function House:octets(name)
  local files = self.dir:list("mail/" .. name .. "/new")
  assert(#files == 1, ("%d mails for %s, 1 expected; the server said:\n%s"):format(#files, name, self.process.output))
  local content = self.dir:read("mail/" .. name .. "/new/" .. files[1])
  assert(os.remove(self.dir:join("mail", name, "new", files[1])))
  return content
end

--- The same with LF between lines, for patterns.
---@return string
function House:take(name)
  return (self:octets(name):gsub("\r\n", "\n"))
end

--- The message as it was sent: without the fields that the server puts on top of it.
---@return string octets
---@return string fields
function M.strip(mail)
  local at = 1
  while true do
    local name = mail:match("^([%w-]+):", at)
    if name ~= "Return-Path" and name ~= "Delivered-To" and name ~= "Received" then
      return mail:sub(at), mail:sub(1, at - 1)
    end
    at = mail:match("^[^\n]*\n()", at)
    while mail:find("^[ \t]", at) do -- folded
      at = mail:match("^[^\n]*\n()", at)
    end
  end
end

--- Resident memory of the server.
---@return integer kilobytes
function House:memory()
  local file <close> = assert(io.open(("/proc/%d/status"):format(self.process.pid)))
  return math.tointeger(tonumber(file:read("a"):match("VmRSS:%s*(%d+) kB")))
end

--- Stops the server. It has to end by itself and well.
function House:stop(timeout)
  local code, signal = self.process:stop(timeout)
  assert(code == 0 and signal == 0, ("the server ended with status %d, signal %d:\n%s"):format(code, signal,
    self.process.output))
end

function House_mt:__close(err)
  local ok, why = true, nil
  if not self.process.code then
    ok, why = pcall(self.stop, self)
  end
  if not self.keep then
    self.dir:remove()
  end
  if not ok and not err then
    error(why, 0)
  end
end

--- The same for a teardown.
function House:close()
  House_mt.__close(self)
end

return M
