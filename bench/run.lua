-- lua5.4 bench/run.lua [NAME...] [--json]: measures, and prints a row for each figure. `./dev bench` builds, brings the
-- peers and calls this. What the rows mean is in bench/README.md.
package.path = "./?.lua;lua/?.lua;lua/?/init.lua;" .. package.path
local build = os.getenv("MOONPOST_BUILD") or "build"
package.cpath = build .. "/lib/?.so;" .. package.cpath

local names = { "drop", "idle", "hook", "body", "maildir", "dns", "send", "spool", "queue", "kill", "headers", "mime", "dkim", "auth" }

local function usage()
  io.stderr:write("usage: bench/run.lua [--json] [", table.concat(names, "|"), "]...\n")
  os.exit(2)
end

local wanted, json = {}, false
for _, word in ipairs(arg) do
  if word == "--json" then
    json = true
  elseif table.concat(names, " "):find(word, 1, true) and package.searchpath("bench." .. word, package.path) then
    wanted[#wanted + 1] = word
  else
    usage()
  end
end

local function number(value)
  return ("%.3g"):format(value)
end

local function met(row)
  if not row.goal then
    return ""
  elseif row.most and row.value <= row.goal or not row.most and row.value >= row.goal then
    return "met"
  end
  return "short"
end

local function print_row(row)
  local goal = row.goal and ("%s %s"):format(row.most and "<=" or ">=", number(row.goal)) or ""
  print(("%-8s %-62s %7s %-3s %-8s %-6s %s"):format(row.bench, row.what, number(row.value), row.unit or "x", goal, met(row),
    row.detail or ""))
end

local function print_json(row)
  local encode = require("moonpost.json").encode
  row.met = row.goal and met(row) == "met" or nil
  local fields = {}
  for _, key in ipairs { "bench", "what", "value", "unit", "goal", "most", "met", "detail" } do
    if row[key] ~= nil then
      fields[#fields + 1] = encode(key) .. ":" .. encode(row[key])
    end
  end
  print("{" .. table.concat(fields, ",") .. "}")
end

io.stdout:setvbuf("line")
for _, name in ipairs(#wanted > 0 and wanted or names) do
  --- A bench is a function: `row` takes { what =, value =, unit =, goal =, most =, detail = }. Without `unit` a value is a
  --- ratio, without `goal` it is there to be known; `most`: the goal is a ceiling.
  require("bench." .. name)(function(row)
    row.bench = name
    row.unit = row.unit or "x"
    if json then
      print_json(row)
    else
      print_row(row)
    end
  end)
end
