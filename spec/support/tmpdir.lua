--- A folder that is gone, with all that is in it, when its variable goes out of scope.
---
---     local dir <close> = tmpdir.new()
---     dir:write("policy.lua", "return ...")
---     assert.same({ "a" }, dir:list("mail/new"))
local uv = require "luv"

local M = {}

local Dir = {}
local Dir_mt = { __index = Dir, __name = "spec.tmpdir" }

---@return table dir `dir.path` is absolute; tostring(dir) is the same
function M.new()
  local base = os.getenv("TMPDIR") or "/tmp"
  return setmetatable({ path = assert(uv.fs_mkdtemp(base .. "/moonpost-spec-XXXXXX")) }, Dir_mt)
end

--- The absolute path of something in it.
---@param ... string
function Dir:join(...)
  return table.concat({ self.path, ... }, "/")
end

--- Makes a folder and those above it.
---@return string path
function Dir:mkdir(name)
  local path = self.path
  for part in name:gmatch("[^/]+") do
    path = path .. "/" .. part
    local ok, err, code = uv.fs_mkdir(path, 448)
    assert(ok or code == "EEXIST", err)
  end
  return path
end

--- Writes a file, making its folder.
---@return string path
function Dir:write(name, content)
  if name:find("/") then
    self:mkdir(name:match("^(.*)/"))
  end
  local path = self:join(name)
  local file = assert(io.open(path, "wb"))
  assert(file:write(content))
  assert(file:close())
  return path
end

---@return string content
function Dir:read(name)
  local file <close> = assert(io.open(self:join(name), "rb"))
  return (file:read("a"))
end

--- Sorted names in a folder of it; none when there is no such folder.
---@return string[]
function Dir:list(name)
  local names = {}
  local scan = uv.fs_scandir(self:join(name or "."))
  while scan do
    local entry = uv.fs_scandir_next(scan)
    if not entry then
      break
    end
    names[#names + 1] = entry
  end
  table.sort(names)
  return names
end

local function remove(path)
  local scan = uv.fs_scandir(path)
  while scan do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then
      break
    end
    local entry = path .. "/" .. name
    if kind == "directory" then
      uv.fs_chmod(entry, 448)
      remove(entry)
    else
      uv.fs_unlink(entry)
    end
  end
  uv.fs_rmdir(path)
end

function Dir:remove()
  if self.path then
    uv.fs_chmod(self.path, 448)
    remove(self.path)
    self.path = nil
  end
end

Dir_mt.__close = Dir.remove

--- At the end of the state, where luv's requests are not freed any more.
function Dir_mt:__gc()
  if self.path then
    os.execute(("chmod -R u+rwX '%s'; rm -rf '%s'"):format(self.path, self.path))
  end
end

Dir_mt.__tostring = function(self)
  return self.path or "(removed)"
end

return M
