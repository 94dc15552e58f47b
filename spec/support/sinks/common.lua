--- What the servers that take mail in specs have in common. Each file beside this one starts one, ready when it returns:
---
---     local sink <close> = require "spec.support.sinks.postfix" { auth = true }
---     sink.url          "smtp://127.0.0.1:40001"; some have sink.implicit ("smtps://..."), sink.lmtp and sink.unix too
---     sink.port, sink.host, sink.dir, sink:log()
---     sink:messages(1)  waits for as many; a list of { sender, recipients, octets }, in order of arrival
---
--- Servers that deliver into mailboxes give a message for each recipient. `octets` is the message as it was sent, without the
--- fields that the server put on top. The user is that of spec/peers/accounts.lua, the certificate that of certs.server.
local json = require "dkjson"
local process = require "spec.support.process"
local reach = require "spec.support.reach"
local tmpdir = require "spec.support.tmpdir"
local uv = require "luv"

local M = {}

local Sink = {}
local Sink_mt = { __index = Sink, __name = "spec.sink" }

local START = 30 -- seconds

--- A folder that other users may enter, for servers that do not stay root.
function M.folder()
  local dir = tmpdir.new()
  assert(uv.fs_chmod(dir.path, 493))
  return dir
end

local function id(database, name)
  for line in io.lines(database) do
    local entry, number = line:match("^([^:]+):[^:]*:(%d+):")
    if entry == name then
      return math.tointeger(tonumber(number))
    end
  end
  error(("no %s in %s"):format(name, database), 2)
end

--- Gives a file or folder to an account.
---@param path string
---@param user string
---@param group? string
function M.own(path, user, group)
  assert(uv.fs_chown(path, id("/etc/passwd", user), group and id("/etc/group", group) or -1))
end

M.id = id

--- Starts a server.
---@param self table name, dir; `list(self)` reads its messages; `heard`: a pattern of its output that tells of each message
---@param command table for process.start
---@param where? integer|string|(integer|string)[] to be reached before it is ready; else `ready(self)` waits
function M.start(self, command, where)
  self.host = "127.0.0.1"
  setmetatable(self, Sink_mt)
  self.process = process.start(command)
  self.pid = self.process.pid
  local ok, err = pcall(function()
    for _, place in ipairs(type(where) == "table" and where or { where }) do
      local reached = reach(place, START * process.scale, function()
        return self.process.code ~= nil
      end)
      assert(reached, ("%s does not answer at %s:\n%s"):format(self.name, place, self.process.output))
    end
    if self.ready then
      self:ready()
    end
  end)
  if not ok then
    self:close()
    error(err, 0)
  end
  return self
end

--- Everything it has said.
function Sink:log()
  self.process:poll()
  return self.process.output
end

--- Waits for a line of its log, like process:expect.
function Sink:expect(pattern, timeout)
  return self.process:expect(pattern, timeout)
end

--- The messages so far, when there are `count` of them at least.
---@param count? integer
---@param timeout? number seconds (20)
function Sink:messages(count, timeout)
  while self.heard and self.taken < (count or 0) do
    self.process:expect(self.heard, timeout or 20)
    self.taken = self.taken + 1
  end
  self.process:poll()
  local list = self:list()
  if #list < (count or 0) then
    error(("%s has %d messages, %d expected; it said:\n%s"):format(self.name, #list, count, self:log()), 2)
  end
  return list
end

--- The only message since the last call.
function Sink:take()
  self.given = (self.given or 0) + 1
  local list = self:messages(self.given)
  if #list ~= self.given then
    error(("%s has %d messages, %d expected"):format(self.name, #list, self.given), 2)
  end
  return list[self.given]
end

function Sink:close()
  if not self.process.code then
    local ok = pcall(self.process.stop, self.process)
    if not ok then
      self.process:kill("sigkill")
    end
  end
  if self.behind then
    self.behind:close()
  end
  self.dir:remove()
end

Sink_mt.__close = Sink.close

local function names(folder)
  local scan = uv.fs_scandir(folder)
  return function()
    return scan and uv.fs_scandir_next(scan)
  end
end

--- Files of folders, the oldest first. Those that were there at an earlier call keep their places: clocks of file systems are
--- coarse.
---@param self table
---@param ... string
---@return string[] paths
function M.oldest_first(self, ...)
  local files = self.files or {}
  self.files = files
  local new = {}
  for _, folder in ipairs { ... } do
    for name in names(folder) do
      local path = folder .. "/" .. name
      if not files[path] then
        local time = assert(uv.fs_stat(path)).mtime
        new[#new + 1] = { path = path, at = time.sec * 1000000000 + time.nsec }
      end
    end
  end
  table.sort(new, function(a, b)
    return a.at < b.at
  end)
  for _, file in ipairs(new) do
    files[file.path] = true
    files[#files + 1] = file.path
  end
  return files
end

function M.read(path)
  local file <close> = assert(io.open(path, "rb"))
  return (file:read("a"))
end

--- Parts a message in a mailbox from the fields that were put on top of it, the last of which is a Received.
---@param mail string
---@param wire? boolean it has the line ends of the wire already
---@return string octets
---@return string fields
function M.part(mail, wire)
  local from = mail:find("^Received:") or select(2, mail:find("\nReceived:", 1, true)) - #"Received:" + 1
  local to = mail:match("^[^\n]*\n()", from)
  while mail:find("^[ \t]", to) do
    to = mail:match("^[^\n]*\n()", to)
  end
  local octets = mail:sub(to)
  return wire and octets or octets:gsub("\n", "\r\n"), mail:sub(1, to - 1)
end

--- A list() for servers that deliver into self.maildirs, or into Maildirs in the folder self.mailboxes that are named after
--- recipients; self.wire when files have the line ends of the wire.
function M.list_maildirs(self)
  local list, folders = {}, self.maildirs or {}
  if self.mailboxes then
    for name in names(self.mailboxes) do
      folders[#folders + 1] = ("%s/%s/new"):format(self.mailboxes, name)
    end
  end
  for i, path in ipairs(M.oldest_first(self, table.unpack(folders))) do
    local octets, fields = M.part(M.read(path), self.wire)
    list[i] = {
      octets = octets,
      fields = fields,
      sender = fields:match("Return%-Path: <([^>\n]*)>"),
      recipients = {
        fields:match("X%-Original%-To: ([^\r\n]*)") or fields:match("Delivered%-To: ([^\r\n]*)") or path:match("([^/]+)/new/[^/]*$"),
      },
    }
  end
  return list
end

--- A list() and ready() for servers that say JSON on standard output: { "listening": { NAME: port } } first, then a line
--- for each message, whose octets are in `file`.
function M.list_spoken(self)
  local list = {}
  for _, line in ipairs(self.process.lines) do
    local said = line:find("^{") and json.decode(line)
    if said and said.file then
      said.octets = M.read(said.file)
      list[#list + 1] = said
    end
  end
  return list
end

M.spoken = '^{"file"'

function M.ready_spoken(self)
  local ports = json.decode((self.process:expect("^{\"listening\".*", START))).listening
  self.port, self.ports = ports.plain, ports
  self.url = "smtp://127.0.0.1:" .. ports.plain
  self.implicit = "smtps://127.0.0.1:" .. ports.implicit
  if ports.lmtp then
    self.lmtp = "lmtp://127.0.0.1:" .. ports.lmtp
  end
end

return M
