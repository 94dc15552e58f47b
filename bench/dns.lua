--- Look-ups of mail exchangers a second: from a table, and through libunbound with a real name server behind it on loopback,
--- once from its cache and once asked for.
local dns = require "moonpost.dns"
local figures = require "bench.support.figures"
local nameserver = require "spec.support.nameserver"
local task = require "moonpost.task"
local core = require "moonpost.core"

local ROUNDS, LOOKUPS, TASKS = 5, 10000, 100

-- Look-ups a second, by a hundred tasks; `name(i)` is the ith name.
local function rate(names, name)
  local begun = core.time()
  task.run(function()
    local tasks, next_one = {}, 0
    for i = 1, TASKS do
      tasks[i] = task.spawn(function()
        while next_one < LOOKUPS do
          next_one = next_one + 1
          assert(#assert(names:mx(name(next_one))) == 2)
        end
      end)
    end
    for _, one in ipairs(tasks) do
      one:join()
    end
  end)
  return LOOKUPS / (core.time() - begun)
end

local function median(names, name)
  local rates = {}
  for round = 1, ROUNDS do
    rates[round] = rate(names, function(i)
      return name(i, round)
    end)
  end
  return figures.median(rates)
end

return function(row)
  local table_names = {}
  for i = 1, 1000 do
    table_names[("d%d.example.net"):format(i)] = { MX = { { 10, "a.example.net" }, { 20, "b.example.net" } } }
  end
  row { bench = "dns", what = "MX look-ups from a table", unit = "/s", goal = 10000,
    value = median(dns.zone(table_names), function(i)
      return ("d%d.example.net"):format(i % 1000 + 1)
    end) }
  if not nameserver.there then
    return
  end
  local server <close> = nameserver.start { ["example.net"] = { records = "* MX 10 a\n* MX 20 b\n" } }
  local names = dns.resolver(server:resolver())
  for i = 1, 1000 do
    assert(names:mx(("warm%d.example.net"):format(i)))
  end
  row { bench = "dns", what = "MX look-ups through libunbound, from its cache", unit = "/s", goal = 10000,
    value = median(names, function(i)
      return ("warm%d.example.net"):format(i % 1000 + 1)
    end) }
  row { bench = "dns", what = "MX look-ups through libunbound, each asked of a server on loopback", unit = "/s",
    value = median(names, function(i, round)
      return ("n%d-%d.example.net"):format(round, i)
    end) }
end
