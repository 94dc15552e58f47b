--- Files whose change is waited for. What is watched are the folders they are in, so that a file which is put in
--- another's place (as editors write) and one that is not there yet are seen; whether an event meant one of the files, its
--- mark says.
local core = require "moonpost.core"
local log = require "moonpost.log"

local M = {}

local QUIET = 0.1 -- seconds: who writes one file often writes another
local FILES_MOST = 4096
local LINKS_MOST = 16

---@class moonpost.cli.Watched
local Watched = {}
Watched.__index = Watched

-- Adds the folders in which something has to happen before `path` leads to another file: its own, that of each link on the way, and, where the way
-- ends early, the one in which it ends.
local function places(path, into, links)
  local at = path:find("^/") and "/" or "."
  local parts = {}
  for part in path:gmatch("[^/]+") do
    parts[#parts + 1] = part
  end
  for i, part in ipairs(parts) do
    local here = at == "/" and "/" .. part or at .. "/" .. part
    local target = core.link_target(here)
    if target then
      into[at] = true
      if links < LINKS_MOST then
        local rest = table.concat({ target:find("^/") and target or at .. "/" .. target, table.unpack(parts, i + 1) }, "/")
        places(rest, into, links + 1)
      end
      return
    elseif i == #parts then
      break
    end
    local _, is_folder = core.file_mark(here)
    if is_folder ~= true then
      break
    end
    at = here
  end
  into[at] = true
end

local function close(self, path)
  self.folders[path].handle:close()
  self.folders[path] = nil
end

-- Watches what there is to be watched by now. A folder that was removed and made anew is another one.
local function refresh(self)
  local wanted = {}
  for path in pairs(self.files) do
    places(path, wanted, 0)
  end
  for path, folder in pairs(self.folders) do
    if not wanted[path] or core.file_mark(path) ~= folder.mark then
      close(self, path)
    end
  end
  for path in pairs(wanted) do
    local mark = not self.folders[path] and core.file_mark(path)
    if mark then
      local handle, why = self.worker:folder(path, function()
        self:look()
      end)
      self.folders[path] = handle and { handle = handle, mark = mark }
      if not handle and not self.told[path] then
        self.told[path] = true
        log.event("warn", "a folder cannot be watched", { "folder", path, "why", why })
      end
    end
  end
end

local function differing(files)
  local differ = {}
  for path, mark in pairs(files) do
    local now = core.file_mark(path) or false
    if now ~= mark then
      differ[path] = now
    end
  end
  return differ
end

local function same(one, other)
  for path, mark in pairs(one) do
    if other[path] ~= mark then
      return false
    end
  end
  return true
end

local function check(self)
  self.timer = nil
  refresh(self)
  local before, now = self.differ, differing(self.files)
  self.differ = now
  if not next(now) then
    return
  elseif not before or not same(now, before) or not same(before, now) then -- it goes on
    self:look()
    return
  end
  local names = {}
  for path in pairs(now) do
    names[#names + 1] = path
  end
  table.sort(names)
  self.differ = nil
  self.changed(names)
end

--- Something may have happened: looks at the files when that is over. In a folder where much happens this is no more
--- often than every tenth of a second.
function Watched:look()
  if not self.timer and not self.held then
    self.timer = self.worker:timer(QUIET, function()
      check(self)
    end)
  end
end

--- The files are being read anew: what changes is told after `learn`.
function Watched:hold()
  self.held = true
  if self.timer then
    self.timer:cancel()
    self.timer = nil
  end
end

local function put(self, path, mark)
  if self.files[path] == nil then
    if self.count >= FILES_MOST then
      if not self.full then
        log.event("warn", "not all files are watched", { "most", FILES_MOST })
      end
      self.full = true
      return
    end
    self.count = self.count + 1
  end
  self.files[path] = mark
end

--- What has been read, and how it looked before.
---@param files? table<string, string|false>
---@param only boolean nothing else matters any more; else the others are watched as they are now
function Watched:learn(files, only)
  local before = self.files
  self.files, self.count, self.full, self.held, self.differ = {}, 0, nil, nil, nil
  for path, mark in pairs(files or {}) do
    put(self, path, mark)
  end
  for path in pairs(only and {} or before) do
    if self.files[path] == nil then
      put(self, path, core.file_mark(path) or false)
    end
  end
  refresh(self)
  self:look() -- it may have changed while it was read
end

--- One more.
---@param path string
---@param mark string|false
function Watched:add(path, mark)
  if self.files[path] == nil then
    put(self, path, mark)
    refresh(self)
    self:look()
  end
end

--- Watches nothing any more.
function Watched:close()
  self:hold()
  for path in pairs(self.folders) do
    close(self, path)
  end
end

--- Watches nothing yet.
---@param worker moonpost.core.worker
---@param changed fun(paths: string[]) some of the files have changed, and nothing more for a moment
---@return moonpost.cli.Watched
function M.new(worker, changed)
  return setmetatable({ worker = worker, changed = changed, files = {}, folders = {}, told = {}, count = 0 }, Watched)
end

return M
