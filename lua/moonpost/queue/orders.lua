--- What people have said of a site while the process runs: that it is suspended, that it is to be tried again, other limits. A site is one worker's;
--- orders are for all of them, so they stand in a table that workers and generations share, and end with the process.
local plain = require "moonpost.plain"
local shared = require "moonpost.shared"
local task = require "moonpost.task"

local M = {}

local ORDERS = "orders"

local function table_of(queue)
  queue._orders = queue._orders or shared.open("moonpost.queue " .. queue.spool:sub(-200), { memory = "1MiB", entries = 256 })
  return queue._orders
end

--- Everything that has been said, by the name of the site; and its text, which is another one when something was said.
---@param queue moonpost.Queue
---@return table<string, { suspended?: boolean, resumed?: number, limits?: table }>
---@return string text
function M.all(queue)
  local text = table_of(queue):get(ORDERS) or ""
  if text ~= queue._orders_text then
    queue._orders_text, queue._orders_known = text, text ~= "" and plain.decode(text) or {}
  end
  return queue._orders_known, text
end

--- What has been said of a site.
---@param queue moonpost.Queue
---@param name string
---@return { suspended?: boolean, resumed?: number, limits?: table }
function M.of(queue, name)
  return M.all(queue)[name] or {}
end

--- Says something of a site, by `fn(order)`; the caller tells the workers.
---@param queue moonpost.Queue
---@param name string
---@param fn fun(order: table)
function M.say(queue, name, fn)
  local all = plain.decode(plain.encode(M.all(queue)))
  local order = all[name] or {}
  fn(order)
  all[name] = next(order) and order or nil
  table_of(queue):set(ORDERS, plain.encode(all))
end

-- ---- how sites are ---------------------------------------------------------------------------------------------------

local ASK = "ask" -- when somebody wanted to know
local FRESH = 3 -- seconds for which what a worker has said of its sites stands
local PUBLISHED_MOST = 200 -- sites of a worker, those with most to do first

-- The sites of a worker.
local function own(engine)
  local list = {}
  for _, at in pairs(engine.sites) do
    list[#list + 1] = {
      name = at.name, state = at.state, active = at:active(), waiting = at:waiting(), failures = at.failures, why = at.why,
      again = at.state == "paused" and engine.worker:time() + at.again - engine.worker:now() or nil,
    }
  end
  table.sort(list, function(a, b)
    local more, less = a.active + a.waiting, b.active + b.waiting
    return more > less or more == less and a.name < b.name
  end)
  return table.move(list, 1, math.min(#list, PUBLISHED_MOST), 1, {})
end

--- Says how the sites of this worker are, where another one wants to know.
---@param engine moonpost.queue.Engine
function M.publish(engine)
  if engine.places > 1 then
    local asked = table_of(engine.queue):get(ASK)
    if asked and asked ~= engine.published then
      engine.published = asked
      table_of(engine.queue):set("sites " .. engine.place, plain.encode { asked = asked, sites = own(engine) }, FRESH)
    end
  end
end

--- The sites of all workers, as far as they say so in time.
---@async
---@param engine moonpost.queue.Engine
---@return table[] sites name, state, active, waiting, failures, why, again
function M.sites(engine)
  local all = own(engine)
  if engine.places == 1 then
    return all
  end
  local shares = table_of(engine.queue)
  local stamp = engine.worker:now()
  shares:set(ASK, stamp, FRESH)
  engine.store:tell()
  local missing
  for _ = 1, 20 do
    missing = 0
    for place = 1, engine.places do
      local text = place ~= engine.place and shares:get("sites " .. place)
      local said = text and plain.decode(text)
      if place ~= engine.place and not (said and said.asked >= stamp) then
        missing = missing + 1
      end
    end
    if missing == 0 then
      break
    end
    task.sleep(0.01)
  end
  for place = 1, engine.places do
    local text = place ~= engine.place and shares:get("sites " .. place)
    for _, each in ipairs(text and plain.decode(text).sites or {}) do
      all[#all + 1] = each
    end
  end
  table.sort(all, function(a, b)
    return a.name < b.name
  end)
  return all
end

return M
