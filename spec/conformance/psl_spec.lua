--- The vectors of publicsuffix.org, judged by the list that comes with them.
local core = require "moonpost.core"
local data = require "spec.support.data"
local suite = require "spec.support.suite"

local files = {
  ["tests.txt"] = function(line)
    return line:match("^(%S+)%s+(%S+)$")
  end,
  ["test_psl.txt"] = function(line)
    local name, domain = line:match("^checkPublicSuffix%((.-), (.-)%);$")
    if name then
      return name:gsub("'", ""), (domain:gsub("'", ""))
    end
  end,
}

suite.declare {
  name = "psl",
  cases = function(folder)
    local list = assert(core.psl(folder .. "/public_suffix_list.dat"))
    local cases = {}
    for file, read in pairs(files) do
      for line in data.read(folder .. "/" .. file):gmatch("[^\n]+") do
        local name, domain = read(line)
        if name and not line:find("^%s*//") then
          cases[#cases + 1] = {
            name = file .. ": " .. line,
            check = function()
              local got = list:registrable(name == "null" and "" or name)
              return got == (domain ~= "null" and domain or nil), "got " .. tostring(got)
            end,
          }
        end
      end
    end
    return cases
  end,
}
