--- Messages a second into a Maildir, each synced with its folder before it is accepted. There is no peer for it yet.
local figures = require "bench.support.figures"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local subject = require "bench.support.subject"
local tmpdir = require "spec.support.tmpdir"

local MESSAGES, ROUNDS = 2000, 3

return function(row)
  local folder <close> = tmpdir.new()
  local one <close> = subject.moonpost("maildir", { BENCH_MAILDIR = folder.path })
  local rates, costs = {}, {}
  for round = 1, ROUNDS do
    local begun, cpu = figures.now(), figures.cpu(one.pid)
    local source = process.run {
      peers.smtp_source, "-d", "-s", "20", "-l", "4096", "-m", tostring(MESSAGES), "-f", "bench@example.com", "-t",
      "user@example.org", "127.0.0.1:" .. one.port, timeout = 300,
    }
    assert(source.code == 0, source.output)
    rates[round] = MESSAGES / (figures.now() - begun)
    costs[round] = (figures.cpu(one.pid) - cpu) / MESSAGES * 1e6
  end
  assert(#folder:list("user/new") == ROUNDS * MESSAGES, "messages are missing")
  row {
    what = "messages into a Maildir, synced", value = figures.median(rates), unit = "/s",
    detail = ("CPU %.0f us each; the disk decides"):format(figures.median(costs)),
  }
end
