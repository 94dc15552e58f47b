--- The vectors of publicsuffix.org, judged by the list that comes with them.
local core = require "moonpost.core"
local data = require "spec.support.data"

-- { name or "", registrable domain or nil, line }
local function cases(path, read)
  local list = {}
  for line in data.read(path):gmatch("[^\n]+") do
    local name, domain = read(line)
    if name and not line:find("^%s*//") then
      list[#list + 1] = { name == "null" and "" or name, domain ~= "null" and domain or nil, line }
    end
  end
  return list
end

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

describe("psl", function()
  local folder = data.folder "psl"

  for file, read in pairs(files) do
    it("has the registrable domain of every name in " .. file, function()
      if not folder then
        return pending("no psl in MOONPOST_DATA")
      end
      local list = assert(core.psl(folder .. "/public_suffix_list.dat"))
      local all = cases(folder .. "/" .. file, read)
      assert.is_true(#all > 60)
      for _, case in ipairs(all) do
        assert.equal(case[2], list:registrable(case[1]), case[3])
      end
    end)
  end
end)
