--- The sending half: a script with a pool against smtp-source and nodemailer, round trips for a message, large bodies against a
--- bare copy and `openssl s_client`.
local certs = require "spec.support.certs"
local figures = require "bench.support.figures"
local moonpost = require "moonpost"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local subject = require "bench.support.subject"

local ROUNDS, CONNECTIONS, SIZE = 5, 20, 4096
local BIG, BIGS = 50000000, 5

-- Runs a command; seconds in all, and of processor time; and the seconds that it says itself.
local function timed(...)
  local result = process.run { timeout = 120, peers.python3, "bench/clients/timed.py", ... }
  assert(result.code == 0, result.output)
  local took, used = result.out:match("([%d.]+) ([%d.]+)\n$")
  return tonumber(took), tonumber(used), tonumber(result.out:match("^([%d.]+)\n"))
end

local senders = {}

-- Each sends `count` messages to a port: messages a second, and microseconds of processor time for one.
function senders.moonpost(port, count)
  local _, used, took = timed("lua5.4", "bench/clients/send.lua", "smtp://127.0.0.1:" .. port, tostring(count),
    tostring(CONNECTIONS), tostring(SIZE))
  return count / took, used / count * 1e6
end

function senders.source(port, count)
  local took, used = timed(peers.smtp_source, "-d", "-s", tostring(CONNECTIONS), "-l", tostring(SIZE), "-m", tostring(count),
    "-f", "bench@example.com", "-t", "user@example.org", "127.0.0.1:" .. port)
  return count / took, used / count * 1e6
end

function senders.nodemailer(port, count)
  local _, used, took = timed("env", "NODE_PATH=" .. peers.node_env.NODE_PATH, peers.node, "bench/clients/nodemailer.js",
    tostring(port), tostring(count), tostring(CONNECTIONS), tostring(SIZE))
  return count / took, used / count * 1e6
end

-- Takes turns: rates and costs by name, a number for each round.
local function measure(server, counts, rounds)
  local rates, costs = {}, {}
  for name, count in pairs(counts) do
    senders[name](server.port, count // 4)
    rates[name], costs[name] = {}, {}
  end
  for round = 1, rounds do
    for name, count in pairs(counts) do
      rates[name][round], costs[name][round] = senders[name](server.port, count)
    end
  end
  return rates, costs
end

local function versus(format, one, other)
  return (format .. " : " .. format):format(figures.median(one), figures.median(other))
end

local function pool_rows(row)
  local sink <close> = assert(subject.sink(), "smtp-sink is needed")
  local rates, costs = measure(sink, { moonpost = 40000, source = 40000, nodemailer = 4000 }, ROUNDS)
  row {
    what = "messages a second to smtp-sink, against smtp-source", value = figures.ratio(rates.moonpost, rates.source), goal = 1.5,
    detail = versus("%.0f/s", rates.moonpost, rates.source) .. "; CPU " .. versus("%.1f us", costs.moonpost, costs.source),
  }
  row {
    what = "the same, against nodemailer's pool", value = figures.ratio(rates.moonpost, rates.nodemailer), goal = 10,
    detail = versus("%.0f/s", rates.moonpost, rates.nodemailer) .. "; CPU " .. versus("%.1f us", costs.moonpost, costs.nodemailer),
  }
  sink:stop()
  local ours <close> = subject.moonpost("plain")
  rates, costs = measure(ours, { moonpost = 20000, source = 20000 }, ROUNDS)
  row {
    what = "CPU of the client per message to our server, against smtp-source", value = figures.ratio(costs.moonpost, costs.source),
    goal = 0.5, most = true,
    detail = versus("%.1f us", costs.moonpost, costs.source) .. "; " .. versus("%.0f/s", rates.moonpost, rates.source),
  }
end

-- Round trips: how often the client waits for what it said, from one message's reply to the next one's.
local function trip_rows(row)
  local ours <close> = subject.moonpost("plain")
  local trips, before = 0, "received"
  local client <close> = assert(moonpost.connect {
    url = "smtp://127.0.0.1:" .. ours.port, tls = "none",
    trace = function(direction)
      trips = trips + (direction == "received" and before == "sent" and 1 or 0)
      before = direction
    end,
  })
  local mail = { from = "bench@example.com", to = "user@example.org", message = "Subject: trips\r\n\r\n" .. ("x\r\n"):rep(1000) }
  assert(client:send(mail))
  trips = 0
  for _ = 1, 100 do
    assert(client:send(mail))
  end
  row { what = "round trips for a message on a connection, after the first", value = trips / 100, unit = "", goal = 2, most = true }
end

-- Megabytes a second of each body, the median, as the server has them.
local function pace(server, count, ...)
  local client = process.run { timeout = 120, ... }
  assert(client.code == 0, client.output)
  local list = server:seconds(count)
  for i, seconds in ipairs(list) do
    list[i] = BIG / 1e6 / seconds
  end
  return figures.median(list)
end

local function body_rows(row)
  local server <close> = subject.take()
  local ours, bare = {}, {}
  for round = 1, ROUNDS do
    local singles = {}
    for i = 1, BIGS do
      singles[i] = pace(server, 1, peers.python3, "bench/clients/said.py", tostring(BIG), tostring(server.port))
    end
    bare[round] = figures.median(singles)
    ours[round] = pace(server, BIGS, "lua5.4", "bench/clients/body.lua", "smtp://127.0.0.1:" .. server.port, tostring(BIG),
      tostring(BIGS))
  end
  row {
    what = "a body of 50 MB against a bare TCP copy", value = figures.ratio(ours, bare), goal = 0.8,
    detail = versus("%.0f MB/s", ours, bare),
  }
  server:stop()

  local secure <close> = subject.take(certs.server)
  ours, bare = {}, {}
  for round = 1, ROUNDS do
    local singles = {}
    for i = 1, BIGS do
      singles[i] = pace(secure, 1, "sh", "-c", '"$1" bench/clients/said.py "$2" | openssl s_client -quiet -connect "127.0.0.1:$3"',
        "sh", peers.python3, tostring(BIG), tostring(secure.port))
    end
    bare[round] = figures.median(singles)
    ours[round] = pace(secure, BIGS, "lua5.4", "bench/clients/body.lua", "smtps://127.0.0.1:" .. secure.port, tostring(BIG),
      tostring(BIGS))
  end
  row {
    what = "the same over TLS, against openssl s_client", value = figures.ratio(ours, bare), goal = 0.8,
    detail = versus("%.0f MB/s", ours, bare),
  }
end

return function(row)
  pool_rows(row)
  trip_rows(row)
  body_rows(row)
end
