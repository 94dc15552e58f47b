--- What a call into Lua and back costs: the time of pipelined RCPT over a wire in memory with a hook, less that without.
--- In this process, with no socket.
local core = require "moonpost.core"
local figures = require "bench.support.figures"
local moonpost = require "moonpost"

local ROUNDS, TRANSACTIONS, RECIPIENTS = 9, 200, 100

local commands = { "MAIL FROM:<bench@example.com>\r\n" }
for i = 1, RECIPIENTS do
  commands[i + 1] = ("RCPT TO:<user%02d@example.org>\r\n"):format(i % 100)
end
commands[#commands + 1] = "RSET\r\n"
local transaction = table.concat(commands)

-- Microseconds of one RCPT.
local function time(wire)
  local begun = os.clock()
  for _ = 1, TRANSACTIONS do
    wire:send(transaction)
    local replies = wire:receive()
    assert(replies:find("\n250 2.0.0 OK\r\n$"), replies)
  end
  return (os.clock() - begun) / TRANSACTIONS / RECIPIENTS * 1e6
end

local function greet(wire)
  wire:send("EHLO bench.example.com\r\n")
  assert(wire:receive():find("\n250 "), "no session")
  return wire
end

-- The difference of two wires, measured in turns.
local function difference(with, without)
  local differences = {}
  for round = 1, ROUNDS do
    differences[round] = time(with) - time(without)
  end
  return figures.median(differences)
end

-- The module in C alone.
local function bare(hooks, called)
  local service = assert(core.worker():service {
    hostname = "bench.example.org", domains = { "example.org" }, dispatch = called, session = function()
      return {}
    end,
  })
  service:hooks(hooks)
  return greet(service:wire({ name = "bench", messages = 0 }, { ip = "127.0.0.1" }))
end

-- A server with sessions, recipients, tasks and verdicts.
local function whole(hook)
  local server = moonpost.server {
    hostname = "bench.example.org", domains = { "example.org" }, listen = "smtp://127.0.0.1:0", tls = false,
    limits = { messages = 0 },
  }
  if hook then
    server.on.rcpt = hook
  end
  assert(server:start { bindings = false })
  return greet(server:_wire { ip = "127.0.0.1" })
end

return function(row)
  moonpost.log.configure { level = "warn" }
  local calls = 0
  local function called()
    calls = calls + 1
  end
  row {
    what = "a hook call from C and back", value = difference(bare({ "rcpt" }, called), bare({}, called)), unit = "us",
    goal = 0.6, most = true, detail = "RCPT with its six arguments, a function that counts",
  }
  row {
    what = "the same through server.on: recipient, task, verdict", value = difference(whole(called), whole()), unit = "us",
  }
  assert(calls == 2 * ROUNDS * TRANSACTIONS * RECIPIENTS)
end
