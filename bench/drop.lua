--- Accept and drop: 4 KB messages over 20 sessions that stay open, hooks in Lua on every stage, against peers that do the
--- same. One subject at a time is loaded, in turns.
local figures = require "bench.support.figures"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local subject = require "bench.support.subject"

local ROUNDS = 5

-- One run of Postfix's source: processor time of the subject per message in microseconds, and messages a second.
local function load(one, messages)
  local cpu, now = figures.cpu(one.pid), figures.now()
  local source = process.run {
    peers.smtp_source, "-d", "-s", "20", "-l", "4096", "-m", tostring(messages), "-f", "bench@example.com", "-t",
    "user@example.org", "127.0.0.1:" .. one.port, timeout = 120,
  }
  local seconds = figures.now() - now
  assert(source.code == 0, source.output)
  return (figures.cpu(one.pid) - cpu) / messages * 1e6, messages / seconds
end

local function measure(subjects, rounds)
  local costs, rates = {}, {}
  for i, one in ipairs(subjects) do
    load(one, one.messages // 4) -- what is made once is made here
    costs[i], rates[i] = {}, {}
  end
  for round = 1, rounds do
    for i, one in ipairs(subjects) do
      costs[i][round], rates[i][round] = load(one, one.messages)
    end
  end
  return costs, rates
end

local function against(name)
  return ("messages a second against %s"):format(name)
end

return function(row)
  local subjects = {}
  local function add(one, messages)
    if one then
      one.messages = messages
      subjects[#subjects + 1] = one
    end
    return one
  end
  local _ <close> = add(subject.moonpost("drop"), 20000)
  local sink <close> = add(subject.sink(), 20000)
  local floor <close> = add(subject.floor(), 20000)
  local costs, rates = measure(subjects, ROUNDS)
  local function microseconds(i)
    return ("%.1f us"):format(figures.median(costs[i]))
  end
  local function rate(i)
    return ("%.0f/s"):format(figures.median(rates[i]))
  end
  row {
    what = "CPU of the server per message against smtp-sink", value = figures.ratio(costs[1], costs[2]), goal = 0.65,
    most = true, detail = microseconds(1) .. " : " .. microseconds(2),
  }
  row {
    what = against "smtp-sink", value = figures.ratio(rates[1], rates[2]), goal = 1, detail = rate(1) .. " : " .. rate(2),
  }
  row {
    what = "the same of a loop that only reads and answers", value = figures.ratio(costs[3], costs[2]),
    detail = microseconds(3) .. " : " .. microseconds(2),
  }
  sink:stop()
  floor:stop()
  subjects[2], subjects[3] = nil, nil

  local chatty <close> = add(subject.moonpost("drop", { BENCH_LOG = "info" }), 20000)
  costs = measure(subjects, 3)
  row {
    what = "the same, with a log line for each message, against without", value = figures.ratio(costs[2], costs[1]),
    detail = microseconds(2) .. " : " .. microseconds(1),
  }
  chatty:stop()
  subjects[2] = nil

  for _, peer in ipairs { { subject.node, 5, 5000 }, { subject.haraka, 10, 1000 } } do
    local other <close> = add(peer[1](), peer[3])
    if other then
      costs, rates = measure(subjects, 3)
      row {
        what = against(other.name), value = figures.ratio(rates[1], rates[2]), goal = peer[2],
        detail = ("%s : %s; CPU %s : %s"):format(rate(1), rate(2), microseconds(1), microseconds(2)),
      }
      subjects[2] = nil
    end
  end
end
