--- The Lua in our documents, found and run. A block says by its first line how it is meant:
---
---     ```lua             a policy (it returns a server, which is loaded by moonpost.test) or a script, which is run
---     ```lua fragment    a piece of a policy: compiled only
---     ```lua spec        what stands in a busted file: compiled only, for it speaks of files that are not there
local M = {}

local function lines_of(path)
  local file = assert(io.open(path, "r"))
  local list = {}
  for line in file:lines() do
    list[#list + 1] = line
  end
  file:close()
  return list
end

--- README.md and every page under docs/.
---@return string[]
function M.pages()
  local pages = { "README.md", "CHANGELOG.md" }
  local listing = assert(io.popen("ls docs/*.md examples/*.md 2>/dev/null"))
  for path in listing:lines() do
    pages[#pages + 1] = path
  end
  listing:close()
  return pages
end

---@class spec.DocBlock
---@field path string
---@field line integer of its first line of Lua
---@field language string "lua", "sh", ...
---@field mark string what stands behind the language: "", "fragment", "spec"
---@field text string

--- Every fenced block of a page.
---@param path string
---@return spec.DocBlock[]
function M.blocks(path)
  local blocks, open = {}, nil
  for number, line in ipairs(lines_of(path)) do
    local info = line:match("^%s*```%s*(.-)%s*$")
    if open and info == "" then
      open.text = table.concat(open, "\n") .. "\n"
      blocks[#blocks + 1], open = open, nil
    elseif open then
      open[#open + 1] = line
    elseif info then
      open = { path = path, line = number + 1, language = info:match("^%S*"), mark = info:match("^%S*%s*(.*)$") }
    end
  end
  assert(not open, ("%s:%d: the block does not end"):format(path, open and open.line or 0))
  return blocks
end

--- The blocks of Lua in a page.
---@param path string
---@return spec.DocBlock[]
function M.lua(path)
  local found = {}
  for _, block in ipairs(M.blocks(path)) do
    found[#found + 1] = block.language == "lua" and block or nil
  end
  return found
end

--- A block as a chunk whose errors name the page and its line.
---@param block spec.DocBlock
---@param env? table its globals
---@return function? chunk
---@return string? why
function M.compile(block, env)
  return load(("\n"):rep(block.line - 1) .. block.text, "@" .. block.path, "t", env or _G)
end

return M
