--- A `require` whose modules may wait while they are loaded. Lua's own calls them from C, which a wait cannot cross.
local task = require "moonpost.task"

local M = {}

local told -- fn(path) of M.watch
local house = debug.getinfo(1, "S").source:match("^@(.*)loader%.lua$") -- who replaces the house's own files starts it anew

local loading = {} -- name = { task =, waiting = { wake, ... } }

local ENOENT, ENOTDIR = 2, 20

-- Lua takes a file that cannot be opened for one that is not there. Returns why one of them could not be.
local function unreadable(name)
  for template in (package.path .. ";" .. package.cpath):gmatch("[^;]+") do
    local path = template:gsub("%?", (name:gsub("%.", "/"):gsub("%%", "%%%%")))
    local file, why, code = io.open(path, "r")
    if file then
      file:close()
    elseif code ~= ENOENT and code ~= ENOTDIR then
      return why
    end
  end
end

local function tell(path)
  if told and not (house and path:sub(1, #house) == house) then
    told(path)
  end
end

-- The file of a module, or every one in which it could have been.
local function tell_of(name)
  if not told or package.preload[name] then
    return
  end
  local path = package.searchpath(name, package.path)
  if path then
    tell(path)
    return
  end
  for template in package.path:gmatch("[^;]+") do
    tell((template:gsub("%?", (name:gsub("%.", "/"):gsub("%%", "%%%%")))))
  end
end

local function find(name)
  tell_of(name)
  local tried = {}
  for _, searcher in ipairs(package.searchers) do
    local ok, loader, extra = pcall(searcher, name)
    if not ok then -- found, and no Lua: said in one line that begins with who requires it, not with this file
      local why = tostring(loader):gsub("^.-:%d+: (error loading module)", "%1"):gsub("\n%s*", " ")
      error(why, 3)
    elseif type(loader) == "function" then
      return loader, extra
    elseif type(loader) == "string" then
      tried[#tried + 1] = "\n\t" .. loader
    end
  end
  local why = unreadable(name)
  if why then
    error(("module '%s': %s"):format(name, why), 3)
  end
  error(("module '%s' not found:%s"):format(name, table.concat(tried)), 3)
end

local Loading_mt = {
  -- However it ended: who waits for the module looks again, and loads it itself when it is not there.
  __close = function(self)
    loading[self.name] = nil
    for _, wake in ipairs(self.waiting) do
      self.worker:defer(wake)
    end
  end,
}

--- As Lua's. A module that another task is loading is waited for.
---@async
---@param name string
---@return any value
---@return any extra where it was found, when it has been loaded by this call
function M.require(name)
  local value = package.loaded[name]
  if value then
    return value
  end
  local current = task.current() or "main"
  while not package.loaded[name] do
    local other = loading[name]
    if not other then
      break
    elseif other.task == current then
      error(("module '%s' requires itself"):format(name), 2)
    end
    task.park(function(wake)
      table.insert(other.waiting, wake)
    end, ("module '%s'"):format(name))
  end
  if package.loaded[name] then
    return package.loaded[name]
  end
  local loader, extra = find(name)
  local mine <close> = setmetatable({ name = name, task = current, waiting = {}, worker = task.worker() }, Loading_mt)
  loading[name] = mine
  value = loader(name, extra)
  if value ~= nil then
    package.loaded[name] = value
  elseif package.loaded[name] == nil then
    package.loaded[name] = true
  end
  return package.loaded[name], extra
end

--- For states of our own.
function M.install()
  _G.require = M.require
end

--- For states of our own: fn is told of each source file that is asked for by require, dofile or loadfile, before it is read, be it there or not; the
--- house's own and those of modules in C are left out.
---@param fn fun(path: string)
function M.watch(fn)
  local first = told == nil
  told = fn
  if not first then
    return
  end
  for _, name in ipairs { "dofile", "loadfile" } do
    local original = _G[name]
    _G[name] = function(path, ...)
      if type(path) == "string" then
        tell(path)
      end
      return original(path, ...)
    end
  end
end

return M
