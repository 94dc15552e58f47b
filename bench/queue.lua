--- Mail through a queue, every message synced before its 250: accepted, accepted and handed on, and how long the reply to the final dot takes;
--- against Postfix, and where nothing is handed on against Exim. All of them keep their spools on the same disk.
local figures = require "bench.support.figures"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local subject = require "bench.support.subject"
local tmpdir = require "spec.support.tmpdir"
local uv = require "luv"

local ROUNDS = 3
local NOBODY = "smtp://127.0.0.1:1"
local postfix_main = {
  "mynetworks = 127.0.0.0/8", "smtpd_relay_restrictions = permit_mynetworks, reject", "smtpd_recipient_restrictions =", "default_transport = smtp",
  "default_process_limit = 250", "smtpd_client_connection_count_limit = 0", "smtpd_client_connection_rate_limit = 0",
  "smtpd_peername_lookup = no", "smtp_dns_support_level = disabled", "in_flow_delay = 0", "smtpd_tls_security_level = none",
  "initial_destination_concurrency = 20", "default_destination_concurrency_limit = 20",
  "qmgr_message_active_limit = 20000", "message_size_limit = 60000000",
}
local smtp_client = { "smtp unix - - n - - smtp", "retry unix - - n - - error", "scache unix - - n - 1 scache" }

local function postfix(more)
  local main = table.move(postfix_main, 1, #postfix_main, 1, {})
  table.move(more, 1, #more, #main + 1, main)
  return require "spec.support.sinks.postfix" { main = main, master = smtp_client }
end

-- Messages a second that a port takes.
local function take(port, connections, messages, size)
  local began = figures.now()
  local source = process.run {
    peers.smtp_source, "-d", "-s", tostring(connections), "-l", tostring(size), "-m", tostring(messages), "-f", "bench@example.com", "-t",
    "user@example.net", "127.0.0.1:" .. port, timeout = 100,
  }
  assert(source.code == 0, source.output)
  return messages / (figures.now() - began)
end

-- The same of a peer: now and then one of 200 connections to Postfix hears nothing more, and such a round does not count.
local function try(rates, ...)
  local ok, rate = pcall(take, ...)
  if ok then
    rates[#rates + 1] = rate
  else
    io.stderr:write("a round of a peer did not end: ", tostring(rate):match("[^\n]*"), "\n")
  end
end

local function dots(port, connections, messages)
  local run = process.run {
    peers.python3, "bench/clients/dot.py", "127.0.0.1:" .. port, tostring(connections), tostring(messages), "4096", timeout = 300,
  }
  assert(run.code == 0, run.output)
  return { p50 = tonumber(run.out:match "p50 (%S+)"), p99 = tonumber(run.out:match "p99 (%S+)") }
end

local function ours(env)
  local dir = tmpdir.new()
  env.BENCH_SPOOL = dir:join "spool"
  local one = subject.moonpost("queue", env)
  one.dir = dir
  return one
end

local function stop(one)
  one:stop()
  one.dir:remove()
end

-- ---- accepted ------------------------------------------------------------------------------------------------------

local function accepting(row)
  for _, connections in ipairs { 20, 200 } do
    local rates = { ours = {}, postfix = {}, exim = {} }
    for round = 1, ROUNDS do
      local house = ours { BENCH_NEXT = NOBODY }
      rates.ours[round] = take(house.port, connections, 20000, 4096)
      stop(house)
      if peers.postfix and uv.getuid() == 0 then
        local sink <close> = postfix { "defer_transports = smtp" }
        try(rates.postfix, sink.port, connections, 1500, 4096)
      end
      local exim = subject.exim()
      if exim then
        try(rates.exim, exim.port, connections, 3000, 4096)
        exim:stop()
      end
    end
    for name, goal in pairs { postfix = 15, exim = 5 } do
      if rates[name][1] then
        row {
          what = ("messages kept a second, %d connections, against %s"):format(connections, name), goal = goal,
          value = figures.ratio(rates.ours, rates[name]),
          detail = ("%.0f/s : %.0f/s"):format(figures.median(rates.ours), figures.median(rates[name])),
        }
      end
    end
  end
end

-- ---- accepted and handed on ----------------------------------------------------------------------------------------

-- A sink that counts what comes.
local function counted(count)
  return subject.moonpost("count", { BENCH_COUNT = tostring(count) })
end

-- Messages a second until the last one is behind the relay.
local function relay(make, messages, size, connections)
  local sink = counted(messages)
  local house, finish = make(sink.port)
  local began = figures.now()
  local source = process.start {
    peers.smtp_source, "-d", "-s", tostring(connections), "-l", tostring(size), "-m", tostring(messages), "-f", "bench@example.com", "-t",
    "user@example.net", "127.0.0.1:" .. house.port,
  }
  sink.process:expect("all are here", 300)
  local rate = messages / (figures.now() - began)
  source:wait(10)
  finish()
  sink:stop()
  return rate
end

local function by_us(port)
  local house = ours { BENCH_NEXT = "smtp://127.0.0.1:" .. port }
  return house, function()
    stop(house)
  end
end

local function by_postfix(port)
  local sink = postfix { "relayhost = [127.0.0.1]:" .. port }
  return sink, function()
    sink:close()
  end
end

local function relaying(row)
  local rates = { ours = {}, postfix = {}, large = {} }
  for round = 1, ROUNDS do
    rates.ours[round] = relay(by_us, 10000, 4096, 20)
    if peers.postfix and uv.getuid() == 0 then
      rates.postfix[round] = relay(by_postfix, 1500, 4096, 20)
    end
    rates.large[round] = relay(by_us, 3000, 102400, 20)
  end
  if rates.postfix[1] then
    row {
      what = "messages relayed a second, against Postfix", goal = 10, value = figures.ratio(rates.ours, rates.postfix),
      detail = ("%.0f/s : %.0f/s"):format(figures.median(rates.ours), figures.median(rates.postfix)),
    }
  end
  row { what = "messages of 100 KB relayed a second", unit = "/s", goal = 1120, value = figures.median(rates.large) }
end

-- ---- the reply to the final dot ------------------------------------------------------------------------------------

local function waiting(row)
  for _, connections in ipairs { 1, 20 } do
    local house = ours { BENCH_NEXT = NOBODY }
    local mine, theirs = dots(house.port, connections, 300 * connections), nil
    stop(house)
    if peers.postfix and uv.getuid() == 0 then
      local sink <close> = postfix { "defer_transports = smtp" }
      theirs = dots(sink.port, connections, 30 * connections)
    end
    for _, which in ipairs { "p50", "p99" } do
      row {
        what = ("reply to the final dot, %d connections, %s"):format(connections, which), unit = "ms", value = mine[which],
        detail = theirs and ("Postfix %.1f ms"):format(theirs[which]) or nil,
      }
    end
  end
end

return function(row)
  accepting(row)
  relaying(row)
  waiting(row)
end
