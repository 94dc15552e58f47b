--- Loads a policy's file as if nothing had been loaded before: globals of its own, and modules of its own. Modules
--- beside the policy, or found by a relative path, are its own; moonpost's and installed ones are shared.
local M = {}

local function is_own(file, folder)
  return file:sub(1, 1) ~= "/" or file:sub(1, #folder + 1) == folder .. "/"
end

-- A `require` that keeps what it loads to itself.
local function new_require(env, folder, loaded)
  local path = ("%s/?.lua;%s/?/init.lua;"):format(folder, folder)
  return function(name)
    if loaded[name] ~= nil then
      return loaded[name]
    elseif name == "moonpost" or name:find("^moonpost%.") then
      return require(name)
    end
    local file = package.searchpath(name, path .. package.path)
    if not file or not is_own(file, folder) then
      return require(name)
    end
    local chunk, why = loadfile(file, "t", env)
    if not chunk then
      error(("error loading module '%s': %s"):format(name, why), 2)
    end
    local value = chunk(name, file)
    if loaded[name] == nil then
      loaded[name] = value == nil and true or value
    end
    return loaded[name], file
  end
end

local function new_env(folder, modules)
  local loaded = {}
  for name, module in pairs(modules) do
    loaded[name] = module
  end
  local env = setmetatable({}, { __index = _G })
  env._G = env
  env.require = new_require(env, folder, loaded)
  env.package = setmetatable({ loaded = setmetatable(loaded, { __index = package.loaded }) }, { __index = package })
  env.load = function(chunk, name, mode, its_env)
    return load(chunk, name, mode, its_env or env)
  end
  env.loadfile = function(file, mode, its_env)
    return loadfile(file, mode, its_env or env)
  end
  env.dofile = function(file)
    return assert(loadfile(file, "t", env))()
  end
  return env
end

--- The chunk of a policy's file; raises with file and line what is wrong with it.
---@param file string
---@param modules table<string, any> what `require` returns instead of looking for it
---@return function
function M.load(file, modules)
  local folder = file:match("^(.*)/[^/]*$") or "."
  local chunk, why = loadfile(file, "t", new_env(folder, modules))
  if not chunk then
    error(why, 0)
  end
  return chunk
end

return M
