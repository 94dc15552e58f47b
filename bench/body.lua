--- Messages of 50 MB: how much of the throughput of a bare TCP copy over loopback is left when the copy is a message.
local figures = require "bench.support.figures"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local subject = require "bench.support.subject"

local ROUNDS, COUNT, SIZE = 5, 5, 50000000

-- Megabytes a second, the median of COUNT messages.
local function throughput(one, size, way)
  local client = process.run {
    peers.python3, "bench/clients/body.py", tostring(one.port), tostring(size), tostring(COUNT), way, timeout = 120,
  }
  assert(client.code == 0, client.output)
  local rates = {}
  for seconds in client.out:gmatch("[%d.]+") do
    rates[#rates + 1] = size / 1e6 / tonumber(seconds)
  end
  return figures.median(rates)
end

return function(row)
  local bare <close> = subject.bare()
  local ours <close> = subject.moonpost("plain")
  local copies, messages = {}, {}
  for round = 1, ROUNDS do
    copies[round] = throughput(bare, SIZE, "bare")
    messages[round] = throughput(ours, SIZE)
  end
  row {
    what = "a message of 50 MB against a bare TCP copy", value = figures.ratio(messages, copies), goal = 0.8,
    detail = ("%.0f MB/s : %.0f MB/s"):format(figures.median(messages), figures.median(copies)),
  }
end
