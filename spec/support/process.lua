--- Real child processes for specs, over libuv's Lua binding: started, listened to line by line, stopped by their id.
--- Nothing here sleeps: every wait is for a line or for the end of the process, under a deadline that raises.
---
---     local server <close> = process.start { "build/moonpost", "serve", policy }
---     local port = server:expect("listening on [^ ]+:(%d+)")
---     local result = process.run { "swaks", "--server", "127.0.0.1:" .. port }
---     assert.equal(0, result.code, result.output)
local uv = require "luv"

local M = {}

local Process = {}
local Process_mt = { __index = Process, __name = "spec.process" }

--- Sanitizer builds are slower: ./dev test scales the deadlines.
M.scale = tonumber(os.getenv("MOONPOST_TIME_SCALE") or "") or 1

--- Not handed on to children: what belongs to the interpreter that runs the specs.
local dropped = {
  LD_PRELOAD = true,
  LUA_PATH = true, LUA_CPATH = true, LUA_PATH_5_4 = true, LUA_CPATH_5_4 = true, LUA_INIT = true,
}

local function environment(changes)
  local merged = uv.os_environ()
  for name in pairs(dropped) do
    merged[name] = nil
  end
  for name, value in pairs(changes or {}) do
    merged[name] = value or nil -- false takes one away
  end
  local list = {}
  for name, value in pairs(merged) do
    list[#list + 1] = name .. "=" .. value
  end
  return list
end

--- Turns the loop until `done()`; raises at the caller's caller after `seconds`, or at once when done() returns nil
--- and a reason, with what the child had written.
local function wait(self, seconds, what, done)
  seconds = (seconds or 10) * M.scale
  local late = false
  local timer = uv.new_timer()
  uv.update_time() -- the loop's clock stood still while the spec did something else
  timer:start(math.ceil(seconds * 1000), 0, function()
    late = true
  end)
  local ok, why = done()
  while not ok and not why and not late do
    uv.run("once")
    ok, why = done()
  end
  timer:close()
  uv.run("nowait") -- closed handles are freed in a turn of the loop; a state that is closed with some left crashes
  if not ok then
    why = why or ("%s did not happen in %g s"):format(what, seconds)
    error(("%s: %s; output so far:\n%s"):format(self.name, why, self.output:sub(-6000)), 3)
  end
end

local function take(self, which, chunk)
  self[which] = self[which] .. chunk
  self.output = self.output .. chunk
  local rest = self.partial[which] .. chunk
  local from = 1
  local to = rest:find("\n", from, true)
  while to do -- a pattern would look for the end of a long line from each of its octets
    self.lines[#self.lines + 1] = rest:sub(from, to - 1):gsub("\r$", "")
    from = to + 1
    to = rest:find("\n", from, true)
  end
  self.partial[which] = rest:sub(from)
end

local function reader(self, which, pipe)
  self.open = self.open + 1
  pipe:read_start(function(err, chunk)
    if chunk then
      take(self, which, chunk)
      return
    end
    if self.partial[which] ~= "" then -- a last line without a line end counts
      take(self, which, "\n")
    end
    self.open = self.open - 1
    assert(not err or err == "ECONNRESET", err)
    pipe:close()
  end)
end

---@class spec.process.Options
---@field env? table<string, string|false> changes to the environment
---@field cwd? string
---@field stdin? string all of its standard input; without it the pipe stays open for `write`

--- Starts a program (looked up in PATH). Raises when there is none.
---@param options spec.process.Options the list part is the command
---@return table process closable: stops it when it still runs
function M.start(options)
  local self = {
    name = options[1],
    out = "",    -- all of standard output so far
    err = "",    -- all of standard error so far
    output = "", -- both, in order of arrival
    lines = {},
    seen = 0,    -- lines that `expect` has consumed
    partial = { out = "", err = "" },
    open = 0,    -- pipes that have not ended
  }
  local stdin, stdout, stderr = uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false)
  local handle, pid = uv.spawn(options[1], {
    args = table.move(options, 2, #options, 1, {}),
    env = environment(options.env),
    cwd = options.cwd,
    stdio = { stdin, stdout, stderr },
  }, function(code, signal)
    self.code, self.signal = code, signal
    self.handle:close()
    if not self.stdin:is_closing() then
      self.stdin:close()
    end
  end)
  if not handle then
    stdin:close()
    stdout:close()
    stderr:close()
    uv.run("nowait")
    error(("cannot start %s: %s"):format(options[1], pid), 2)
  end
  self.handle, self.pid, self.stdin, self.pipes = handle, pid, stdin, { stdout, stderr }
  setmetatable(self, Process_mt) -- after its handles: finalizers run in the opposite order
  reader(self, "out", stdout)
  reader(self, "err", stderr)
  if options.stdin then
    if options.stdin ~= "" then -- to a child that has ended already even nothing at all is a broken pipe
      self:write(options.stdin)
    end
    self:finish()
  end
  return self
end

--- Runs a program to its end. Standard input is empty unless `stdin` is given.
---@param options spec.process.Options also `timeout` in seconds (10)
---@return table process with `code`, `signal`, `out`, `err`, `output`
function M.run(options)
  options.stdin = options.stdin or ""
  local self = M.start(options)
  local ok, err = pcall(self.wait, self, options.timeout)
  if not ok then
    self:kill("sigkill")
    self:wait(5)
    error(err, 2)
  end
  return self
end

--- Waits for a line, of either stream, that matches a Lua pattern; lines before it are consumed.
---@param pattern string
---@param timeout? number seconds (10)
---@return string ... its captures, or the line when the pattern has none
function Process:expect(pattern, timeout)
  local found
  wait(self, timeout, ("a line matching %q"):format(pattern), function()
    while not found and self.seen < #self.lines do
      self.seen = self.seen + 1
      local captures = table.pack(self.lines[self.seen]:match(pattern))
      if captures[1] then
        found = captures
      end
    end
    if not found and self.code and self.open == 0 then
      local how = ("ended (exit status %d, signal %d)"):format(self.code, self.signal)
      return nil, ("%s without a line matching %q"):format(how, pattern)
    end
    return found
  end)
  return table.unpack(found, 1, found.n)
end

--- Waits for the end of the process and of its output.
---@param timeout? number seconds (10)
---@return integer code exit status
---@return integer signal that ended it, or 0
function Process:wait(timeout)
  wait(self, timeout, "its end", function()
    return self.code and self.open == 0
  end)
  return self.code, self.signal
end

--- Takes what has arrived, without waiting: for a spec that turns a loop of its own meanwhile.
---@return boolean ended
function Process:poll()
  uv.run("nowait")
  return self.code ~= nil and self.open == 0
end

--- Writes to its standard input.
function Process:write(data)
  self.stdin:write(data)
end

--- Ends its standard input.
function Process:finish()
  self.stdin:shutdown(function()
    if not self.stdin:is_closing() then
      self.stdin:close()
    end
  end)
end

---@param signal? string "sigterm"
function Process:kill(signal)
  if not self.code then
    self.handle:kill(signal or "sigterm")
  end
end

--- Asks it to end and waits; one that does not obey is killed, and that raises.
---@param timeout? number seconds (10)
---@return integer code
---@return integer signal
function Process:stop(timeout)
  self:kill("sigterm")
  local ok, err = pcall(self.wait, self, timeout)
  if not ok then
    self:kill("sigkill")
    self:wait(5)
    error(err, 2)
  end
  return self.code, self.signal
end

function Process_mt:__close()
  if not self.code or self.open > 0 then
    self:stop()
  end
end

--- A process that a failed spec left behind must not outlive the run. While it lives, the loop refers to it: this is
--- called with the end of the Lua state.
function Process_mt:__gc()
  if not self.code then
    self.handle:kill("sigkill")
    for _, handle in ipairs { self.handle, self.stdin, table.unpack(self.pipes) } do
      if not handle:is_closing() then
        handle:close()
      end
    end
    uv.run("nowait")
  end
end

--- The moonpost of the build under test, found from any folder.
M.moonpost = assert(uv.fs_realpath(os.getenv("MOONPOST_BUILD") or "build")) .. "/moonpost"

return M
