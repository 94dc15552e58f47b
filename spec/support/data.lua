--- Test data that is not part of the project: MOONPOST_DATA, or ../shared/data. What is missing makes specs pending.
---
---     local folder = data.folder "smtp-client-curl"
---     if not folder then pending("no smtp-client-curl in MOONPOST_DATA") end
local uv = require "luv"

local M = {}

--- The absolute path of one of its folders, or nil.
---@param name string
---@return string?
function M.folder(name)
  local root = os.getenv("MOONPOST_DATA")
  if not root or root == "" then
    root = "../shared/data"
  end
  local path = uv.fs_realpath(root .. "/" .. name)
  return path and uv.fs_stat(path).type == "directory" and path or nil
end

--- Sorted names of the files in a folder.
---@return string[]
function M.files(folder)
  local list = {}
  local scan = assert(uv.fs_scandir(folder))
  for name in function() return uv.fs_scandir_next(scan) end do
    list[#list + 1] = name
  end
  table.sort(list)
  return list
end

---@return string
function M.read(path)
  local file <close> = assert(io.open(path, "rb"))
  return (file:read("a"))
end

return M
