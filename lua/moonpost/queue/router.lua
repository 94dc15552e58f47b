--- Where claimed deliveries go: the policy is asked, mail exchangers are looked up, and jobs are put to their sites, or left to the worker who
--- has the site.
local Error = require "moonpost.error"
local carry = require "moonpost.queue.carry"
local exchange = require "moonpost.exchange"
local hop_of = require "moonpost.queue.hop"
local log = require "moonpost.log"
local reply_of = require "moonpost.reply"
local settle = require "moonpost.queue.settle"

local M = {}

local FOREIGN_MOST = 10000 -- domains that are known to be another worker's
local LATER = 60 -- seconds until a delivery is tried again that the policy could not route, or that a full site would have no room for

-- Where a delivery goes. A policy that fails is a fault of ours: later.
local function ask(engine, one)
  local queue = engine.queue
  local route = queue.route
  if type(route) ~= "function" then
    return hop_of.read(queue, route)
  end
  local ok, answer, enhanced, text = pcall(route, one)
  if not ok then
    if reply_of.is(answer) and answer.code >= 400 then
      return hop_of.read(queue, answer.code, answer.enhanced, answer.text)
    elseif type(answer) == "table" and not Error.is(answer) then
      error(answer, 0) -- its time is over
    end
    return nil, tostring(answer)
  elseif answer == nil and Error.is(enhanced) then
    return nil, tostring(enhanced)
  end
  return hop_of.read(queue, answer, enhanced, text)
end

-- From here on a job ends its claims itself.
local function placed(job)
  for _, one in ipairs(job.deliveries) do
    one.placed = true
  end
end

-- What is said in the place of a site: outcomes without a transaction.
local function without(engine, job, outcomes)
  placed(job)
  engine:settle(job, outcomes)
end

-- The hosts of a route, as what they are together: domains that share them are of one site.
local function hosts_of(route)
  local hosts = {}
  for i, host in ipairs(route) do
    hosts[i] = host.host
  end
  table.sort(hosts)
  return table.concat(hosts, " ")
end

-- Which worker has a site, by what it is called: whoever routes comes to the same.
local function owner_of(engine, name)
  local sum = 0
  for i = 1, #name do
    sum = (sum * 31 + name:byte(i)) % 1000003
  end
  return sum % engine.places + 1
end

-- Gives a job to the worker who has its site: from now on the domain is named to him.
local function hand_over(engine, job, owner)
  local domain = job.domain
  if not engine._foreign[domain] then
    if engine._foreign_count >= FOREIGN_MOST then
      engine._foreign, engine._foreign_count = {}, 0
    end
    engine._foreign[domain] = true
    engine._foreign_count = engine._foreign_count + 1
  end
  placed(job)
  engine.store:give(domain, owner)
  engine:put_back(job.deliveries)
end

local function failed(job, err)
  local list = {}
  for i in ipairs(job.deliveries) do
    list[i] = { state = err.code < 500 and "deferred" or "refused", reply = reply_of.heard(err.code, err.enhanced, err.message) }
  end
  return list
end

-- A job in parts of as many recipients as a transaction may have.
local function parts_of(job, most)
  local list = job.deliveries
  if #list <= most then
    return { job }
  end
  local parts = {}
  for first = 1, #list, most do
    local part = {}
    for name, value in pairs(job) do
      part[name] = value
    end
    part.deliveries = table.move(list, first, math.min(first + most - 1, #list), 1, {})
    parts[#parts + 1] = part
  end
  return parts
end

-- Puts a job where its hop leads.
local function place(engine, job, routes)
  local hop = job.hop
  if engine.stopping then
    placed(job)
    return engine:put_back(job.deliveries)
  elseif hop.kind == "reply" then
    return without(engine, job, carry.say(job))
  elseif hop.kind == "call" then
    job.call = true
    placed(job)
    return engine:site("call\0" .. hop.key, hop.show):add(job)
  end
  local hosts
  if hop.kind == "to" then
    hosts = hop.show
  else
    local known = routes[hop.key]
    if not known then
      local route, err = exchange.route(hop.settings, job.domain)
      known = { route = route, err = err }
      routes[hop.key] = known
    end
    if not known.route then
      return without(engine, job, failed(job, known.err))
    end
    job.route = known.route
    if engine.stopping then -- while the answer came
      placed(job)
      return engine:put_back(job.deliveries)
    end
    hosts = hosts_of(known.route)
  end
  local owner = engine.places > 1 and owner_of(engine, hosts) or engine.place
  if owner ~= engine.place then
    return hand_over(engine, job, owner)
  end
  local at = hop.kind == "to" and engine:site(hop.key, hop.show) or engine:site(hop.key .. "\0" .. hosts, job.route[1].host)
  engine:lead(job.domain, at)
  settle.routed(engine, job, at)
  placed(job)
  for _, part in ipairs(parts_of(job, at.limits.recipients)) do
    local again = at:closed()
    if again then
      engine:back(part, again, at)
    else
      at:add(part)
    end
  end
  if at:full() then
    engine.store:sleep(job.domain, LATER) -- woken when half of what waits is gone
    at.asleep = true
  end
end

-- Deliveries with one message and one hop are one job.
local function jobs_of(engine, list, octets)
  local jobs, by_key = {}, {}
  for _, one in ipairs(list) do
    local hop, why = ask(engine, one)
    if not hop then
      log.event("error", "route failed", { "queue", engine.queue.name, "message", one.message.id, "to", one.address, "why", why })
      engine:put_back({ one }, LATER)
    else
      local key = ("%s\0%s\0%s"):format(one.message.id, hop.kind == "to" and "" or one.domain, hop.key)
      local job = hop.kind ~= "reply" and by_key[key]
      if job then
        table.insert(job.deliveries, one)
      else
        job = { message = one.message, deliveries = { one }, hop = hop, domain = one.domain, octets = octets }
        by_key[key] = job
        jobs[#jobs + 1] = job
      end
    end
  end
  return jobs
end

--- Routes deliveries of one domain, or of one message that has just come. What fails before a delivery is `placed` is the caller's.
---@async
---@param engine moonpost.queue.Engine
---@param list moonpost.queue.Delivery[] claimed
---@param octets? string of the message, when it has just come
function M.route(engine, list, octets)
  local routes = {} -- by domain and hop, of this batch
  for _, job in ipairs(jobs_of(engine, list, octets)) do
    routes[job.domain] = routes[job.domain] or {}
    place(engine, job, routes[job.domain])
  end
end

return M
