--- Greylisting: a client, sender and recipient that have not been seen together are told to try again later. All workers
--- know the same of it (moonpost.shared), and reloading forgets nothing; a restart does.
---
---     server:use(require "moonpost.plugins.greylist" { delay = "5m" }, { listeners = { "smtp" } })
local core = require "moonpost.core"
local moonpost = require "moonpost"
local options_of = require "moonpost.options"
local task = require "moonpost.task"
local units = require "moonpost.units"

local schema = {
  { name = "delay", type = "duration", default = "5m", doc = "how long a stranger has to wait" },
  { name = "window", type = "duration", default = "2d", doc = "when it does not come back within this time it is one again" },
  { name = "keep", type = "duration", default = "35d", doc = "how long who came back is known, from its last mail on" },
  {
    name = "exempt", type = "strings", default = {}, doc = "networks that are never asked to wait",
    check = function(list)
      for _, network in ipairs(list) do
        if core.in_network("0.0.0.0", network) == nil and core.in_network("::", network) == nil then
          return ('"%s" is no network'):format(network)
        end
      end
    end,
  },
  { name = "name", type = "string", default = "greylist", doc = "of the table in moonpost.shared" },
  { name = "entries", type = "integer", default = 200000, doc = "what is remembered at most" },
}

-- Big senders come back from another address of the same pool: the network counts, /24 and /64.
local function network_of(ip)
  local v4 = ip:match("^(%d+%.%d+%.%d+)%.%d+$")
  if v4 then
    return v4
  end
  local front, back = ip:match("^(.-)::(.*)$")
  local groups, behind = {}, {}
  for group in (front or ip):gmatch("%x+") do
    groups[#groups + 1] = group
  end
  for group in (back or ""):gmatch("%x+") do
    behind[#behind + 1] = group
  end
  for _ = #groups + #behind + 1, 8 do -- what :: stands for
    groups[#groups + 1] = "0"
  end
  table.move(behind, 1, #behind, #groups + 1, groups)
  return table.concat(groups, ":", 1, 4)
end

---@class moonpost.GreylistOptions
---@field delay? moonpost.Duration how long a stranger has to wait: "5m"
---@field window? moonpost.Duration when it does not come back within this time it is a stranger again: "2d"
---@field keep? moonpost.Duration how long who came back is known: "35d"
---@field exempt? string[]|string networks that are never asked to wait
---@field name? string of the table in moonpost.shared: "greylist"
---@field entries? integer what is remembered at most

---@param given? moonpost.GreylistOptions
---@return moonpost.Plugin
return function(given)
  local options, why = options_of.resolve(schema, given or {}, options_of.place(2))
  if not options then
    error("greylist: " .. why, 2)
  end
  local known = moonpost.shared(options.name, { entries = options.entries })
  local senders = setmetatable({}, { __mode = "k" }) -- of the transactions that are open
  local plugin = { name = "greylist" }

  local function is_exempt(session)
    if session.user or session.may_relay or not session.ip then
      return true
    end
    for _, network in ipairs(options.exempt) do
      if core.in_network(session.ip, network) then
        return true
      end
    end
    return false
  end

  function plugin.mail(session, sender)
    senders[session] = sender.address:lower()
  end

  function plugin.rcpt(session, recipient)
    if recipient.class ~= "local" or is_exempt(session) then
      return
    end
    local key = table.concat({ network_of(session.ip), senders[session] or "", recipient.address:lower() }, "\0")
    local now = task.worker():now()
    if known:add(key, now, options.window) then
      return 450, "4.7.1", ("Greylisted, please try again in %s"):format(units.show_duration(options.delay))
    end
    local first = known:get(key)
    local left = type(first) == "number" and first + options.delay - now or 0
    if left > 0 then
      return 450, "4.7.1", ("Greylisted, please try again in %s"):format(units.show_duration(math.ceil(left)))
    end
    known:set(key, true, options.keep)
  end

  return plugin
end
