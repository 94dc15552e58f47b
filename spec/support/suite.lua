--- Suites that nobody here wrote, run case by case. A file spec/conformance/NAME_spec.lua declares one or more:
---
---     local suite = require "spec.support.suite"
---
---     suite.declare {
---       name = "psl",                                -- a folder of MOONPOST_DATA, and the name on the line
---       cases = function(folder)                     -- a list; called once, when the file is loaded and the folder is there
---         return { { name = "example.com", check = function() return domain == "example.com", "got " .. domain end } }
---       end,
---       differences = { ["www.example.com"] = "why we differ" },
---     }
---
--- Every case is a spec of its own: it fails when we differ without a reason, and when we agree where a reason says that we differ. A last
--- spec holds the figures against the table of docs/conformance.md. Without the folder the suite is one pending spec. `./dev conformance` prints
--- what a suite comes to, in a line, and below it the reasons.
local busted = require "busted" -- what is required does not see the words of spec files
local data = require "spec.support.data"

local M = {}

---@class spec.Case
---@field name string
---@field check fun(): boolean?, string? whether we agree, and if not, what we say instead; an error is a difference too
---@field difference? string why we differ, in the place of an entry in `differences`

---@class spec.Suite
---@field name string of the line; "arc-valimail sign" when a folder holds several suites
---@field folder? string in MOONPOST_DATA; `name` when left out
---@field cases fun(folder: string): spec.Case[]
---@field differences? table<string, string> reasons by name of the case

-- Reasons in the order in which they came up, with the names of their cases.
local function by_reason(argued)
  local list, known = {}, {}
  for _, item in ipairs(argued) do
    local group = known[item.reason]
    if not group then
      group = { reason = item.reason }
      known[item.reason] = group
      list[#list + 1] = group
    end
    group[#group + 1] = item.name
  end
  return list
end

--- What a suite came to, as text.
---@param tally { name: string, passed: integer, total: integer, argued: table[], failed: table[] }
---@return string
function M.summary(tally)
  local lines = { ("%s %d/%d"):format(tally.name, tally.passed, tally.total) }
  for _, group in ipairs(by_reason(tally.argued)) do
    lines[#lines + 1] = ("  %d: %s (%s)"):format(#group, group.reason, table.concat(group, ", "))
  end
  for _, item in ipairs(tally.failed) do
    lines[#lines + 1] = ("  NOT EXPLAINED: %s: %s"):format(item.name, item.reason)
  end
  return table.concat(lines, "\n") .. "\n"
end

-- MOONPOST_CONFORMANCE: the file that ./dev conformance shows at the end.
local function tell(text)
  local path = os.getenv "MOONPOST_CONFORMANCE"
  if path and path ~= "" then
    local file <close> = assert(io.open(path, "a"))
    assert(file:write(text))
  end
end

local function readable(name)
  return (name:gsub("[%c\x80-\xff]", function(octet)
    return ("\\x%02X"):format(octet:byte())
  end))
end

--- Runs one case, and counts it.
---@param case spec.Case
---@param reason? string why we differ
---@param tally table
---@return string? wrong what is wrong about that
function M.judge(case, reason, tally)
  local ok, agreed, why = xpcall(case.check, debug.traceback)
  if not ok then
    agreed, why = false, agreed
  end
  tally.total = tally.total + 1
  local name = readable(case.name)
  if agreed then
    tally.passed = tally.passed + 1
    if not reason then
      return nil
    end
    why = "agrees, though a reason says that it differs: " .. reason
  elseif reason and ok then
    table.insert(tally.argued, { name = name, reason = reason })
    return nil
  end
  why = tostring(why or "differs")
  table.insert(tally.failed, { name = name, reason = readable(why:match "^[^\n]*") })
  return why
end

-- What the table of the page says.
local function documented(name)
  for row in data.read("docs/conformance.md"):gmatch "[^\n]+" do
    local suite, passed = row:match "^| `([^`]+)` | [^|]+ | (%d+/%d+) |"
    if suite == name then
      return passed
    end
  end
end

--- Declares a suite: in a file of busted's, outside of any `it`.
---@param given spec.Suite
function M.declare(given)
  busted.describe(given.name, function()
    local folder = data.folder(given.folder or given.name)
    if not folder then
      tell(("%s pending: not in MOONPOST_DATA\n"):format(given.name))
      busted.pending(("no %s in MOONPOST_DATA"):format(given.folder or given.name))
      return
    end
    local reasons = given.differences or {}
    local tally = { name = given.name, passed = 0, total = 0, argued = {}, failed = {} }
    local names = {}
    for _, case in ipairs(given.cases(folder)) do
      names[case.name] = true
      busted.it(readable(case.name), function()
        local wrong = M.judge(case, case.difference or reasons[case.name], tally)
        assert(not wrong, wrong)
      end)
    end
    for name in pairs(reasons) do
      assert(names[name], ("%s: a reason for %q, which is no case"):format(given.name, name))
    end
    assert(next(names), given.name .. " has no cases")
    busted.it("comes to what docs/conformance.md says", function()
      local row, came = documented(given.name), ("%d/%d"):format(tally.passed, tally.total)
      assert(row == came, ("it came to %s, and the table has %s"):format(came, row or "no such row"))
    end)
    busted.teardown(function()
      if tally.total > 0 then
        tell(M.summary(tally))
      end
    end)
  end)
end

return M
