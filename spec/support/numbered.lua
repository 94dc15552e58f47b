--- Numbered mail through a relay with a queue, counted behind it; and the relay killed again and again. For the specs of the queue, and for
--- `./dev bench kill`.
local moonpost = require "moonpost"
local served = require "spec.support.served"
local tmpdir = require "spec.support.tmpdir"

local M = {}

--- `name`: what it says in EHLO.
function M.relay(dir, behind, more, args, name)
  return served.start {
    dir = dir, args = args, options = 'relay = { networks = { "127.0.0.1" } }',
    hooks = ([[
      local queue = moonpost.queue {
        hostname = %q, spool = dir .. "/spool", route = "smtp://%s", site = { connections = 5, pause = "1s" }, retry = { "1s", expire = "1h" },
      }
      function server.on.message(_, message) message:enqueue(queue) end
      %s]]):format(name or "relay.example.net", behind, more or ""),
  }
end

function M.sink()
  return served.start {
    options = 'relay = { networks = { "127.0.0.1" } }',
    hooks = [[
      function server.on.message(session, message)
        log.info("got", { number = message.headers:get "X-Number", from = message.sender.address, by = session.helo })
        message:discard "test"
      end
    ]],
  }
end

function M.numbers(house)
  house.process:poll()
  local seen, count = {}, 0
  for _, line in ipairs(house.process.lines) do
    local number = line:match("got .-number=(%d+)")
    if number then
      seen[tonumber(number)] = (seen[tonumber(number)] or 0) + 1
      count = count + 1
    end
  end
  return seen, count
end

--- Numbered messages from `from` on, ten at a time, until nobody takes them any more or there have been `most`. Returns those with 250.
function M.send(house, behind, from, most)
  local taken, next_number = {}, from
  local function work()
    local client = moonpost.connect { url = "smtp://" .. house.at.smtp, tls = "none", timeouts = { final = "20s" } }
    while client and next_number < from + most do
      house.process:poll() -- or their logs would fill their pipes, and they would wait for us
      behind.process:poll()
      local number = next_number
      next_number = next_number + 1
      local ok = client:send {
        from = "a@example.net", to = "bob@elsewhere.example",
        message = ("X-Number: %d\r\nSubject: x\r\n\r\n%s\r\n"):format(number, ("y"):rep(70)),
      }
      if not ok then
        break
      end
      taken[#taken + 1] = number
      if house.doomed and #taken >= house.doomed and not house.killed then
        house.killed = true
        house.process:kill("sigkill")
      end
    end
    if client then
      client:close()
    end
  end
  moonpost.run(function()
    local tasks = {}
    for i = 1, 10 do
      tasks[i] = moonpost.spawn(work)
    end
    for _, one in ipairs(tasks) do
      one:join()
    end
  end)
  return taken, next_number
end

function M.until_there(house, behind, taken, seconds)
  local late = os.time() + seconds
  while true do
    local seen = M.numbers(behind)
    local missing
    for _, number in ipairs(taken) do
      missing = missing or not seen[number] and number
    end
    if not missing then
      return seen
    end
    assert(os.time() < late, ("number %d has not arrived"):format(missing))
    house.process:poll()
    moonpost.sleep(0.01)
  end
end

-- How often a number arrived from one life of the relay, at most.
local function most_of_one_life(behind)
  local lives, most = {}, 0
  for _, line in ipairs(behind.process.lines) do
    local number, life = line:match "got .*number=(%d+)", line:match "by=(%S+)"
    local key = number and ("%s from %s"):format(number, life)
    if key then
      lives[key] = (lives[key] or 0) + 1
      most = math.max(most, lives[key])
    end
  end
  return most
end

--- Kills a relay in the midst of its work, `rounds` times, on one spool.
---@param rounds integer
---@param told? fun(round: integer, accepted: integer) after each
---@return { accepted: integer, arrived: integer, lost: integer, twice: integer, most: integer } counts
---  lost: got 250 and did not come out; twice: came out more than once, for a kill fell between the sink's 250 and the relay's note of it; most: how
---  often a message came out of one life of the relay, at most: more than once would be our fault
function M.kill_again_and_again(rounds, told)
  local behind <close> = M.sink()
  local dir <close> = tmpdir.new()
  local all, number = {}, 1
  local function live(round)
    return M.relay(dir, behind.at.smtp, nil, nil, ("life-%d.example.net"):format(round))
  end
  for round = 1, rounds do
    local house = live(round)
    house.doomed = math.random(1, 60)
    local taken
    taken, number = M.send(house, behind, number, 200)
    table.move(taken, 1, #taken, #all + 1, all)
    if not house.killed then
      house.process:kill("sigkill")
    end
    house.process:wait(10)
    assert(house:count(" error ") == 0, ("round %d: the relay has logged an error"):format(round))
    if told then
      told(round, #all)
    end
  end
  local house = live(rounds + 1)
  pcall(M.until_there, house, behind, all, 30) -- what is missing then is counted
  house:stop()
  local seen, arrived = M.numbers(behind)
  local counts = { accepted = #all, arrived = arrived, lost = 0, twice = 0, most = most_of_one_life(behind) }
  for _, one in ipairs(all) do
    counts.lost = counts.lost + (seen[one] and 0 or 1)
  end
  for _, times in pairs(seen) do
    counts.twice = counts.twice + (times > 1 and 1 or 0)
  end
  return counts
end

return M
