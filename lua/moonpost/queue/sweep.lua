--- What a queue forgets now and then: sites that have nothing to do, and which domains went to a site. A queue sees many of both in a year.
local M = {}

local SWEEP = 60 -- seconds between two looks
local LED_MOST = 10000 -- domains that are known to go to one site; whoever sends names as many as he likes

--- Whether it is time to look.
---@param engine moonpost.queue.Engine
---@return boolean
function M.is_time(engine)
  return engine.worker:now() - engine._swept >= SWEEP
end

local function forget_domains(engine, at)
  for domain in pairs(at.domains) do
    engine._ways[domain] = nil
  end
  at.domains, at.led = {}, 0
end

-- Whether nobody has to be told what becomes of a site: none of its domains sleeps because of it.
local function goes_well(at)
  return at.state == "open" and at.failures == 0 and not at.asleep
end

--- Looks, when it is time.
---@param engine moonpost.queue.Engine
function M.look(engine)
  if not M.is_time(engine) then
    return
  end
  local now = engine.worker:now()
  engine._swept = now
  for key, at in pairs(engine.sites) do
    if at.led > LED_MOST and goes_well(at) then
      forget_domains(engine, at) -- those that still come are known again with their next delivery
    end
    if at:idle() then
      at.since = at.since or now
      if now - at.since > at.limits.idle then
        at:close()
        engine.sites[key] = nil
        forget_domains(engine, at)
      end
    else
      at.since = nil
    end
  end
end

return M
