--- Rows of a queue as people read them. Whatever a peer said is escaped: a terminal obeys nobody.
local log = require "moonpost.log"

local M = {}

local units = { { 86400, "d" }, { 3600, "h" }, { 60, "m" } }

--- "3h12m", "45s", "2d4h".
---@param seconds number
---@return string
function M.age(seconds)
  seconds = math.max(0, math.floor(seconds + 0.5))
  for i, unit in ipairs(units) do
    if seconds >= unit[1] then
      local whole, rest = seconds // unit[1], seconds % unit[1]
      local smaller = units[i + 1] or { 1, "s" }
      rest = rest // smaller[1]
      return ("%d%s%s"):format(whole, unit[2], rest > 0 and ("%d%s"):format(rest, smaller[2]) or "")
    end
  end
  return ("%ds"):format(seconds)
end

--- "812", "48K", "3.1M".
---@param octets integer
---@return string
function M.size(octets)
  if octets < 1000 then
    return ("%d"):format(octets)
  end
  local size, unit = octets / 1024, "K"
  for _, larger in ipairs { "M", "G", "T" } do
    if size < 999.5 then
      break
    end
    size, unit = size / 1024, larger
  end
  return (size < 9.95 and "%.1f%s" or "%.0f%s"):format(size, unit)
end

local function address(text)
  return text == "" and "<>" or log.clean(text)
end

-- The states of a site, as people call them.
local site_states = { held = "suspend" }

-- What a delivery waits for.
local function state(row, now, quiet)
  if row.state == "waiting" then
    return "in " .. M.age(row.due - now)
  elseif row.state == "due" and quiet then
    return site_states[quiet.state] or quiet.state
  end
  return row.state
end

-- Why a site is asked for nothing.
local function reason(at, now)
  return (at.again and ("again in %s: "):format(M.age(at.again - now)) or "") .. log.clean(at.why or "")
end

M.heading = ("%-20s %6s %5s %9s %5s  %s"):format("ID", "AGE", "SIZE", "NEXT", "TRIES", "FROM -> TO")

--- One delivery, with the last reply, or why nothing is asked of its site, in a line of its own.
---@param row table
---@param now number
---@param sites? table<string, table> by name those that are paused or suspended, as of queue:stats
---@return string
function M.row(row, now, sites)
  local quiet = row.state == "due" and sites and sites[row.site]
  local line = ("%-20s %6s %5s %9s %5d  %s -> %s"):format(log.clean(row.id), M.age(row.age), M.size(row.size), state(row, now, quiet), row.attempts,
    address(row.sender), address(row.recipient))
  local reply = quiet and reason(quiet, now) or row.reply and log.clean(row.reply) or ""
  return reply ~= "" and line .. "\n" .. (" "):rep(21) .. reply or line
end

local function date(seconds)
  return seconds and seconds < 1e11 and os.date("%Y-%m-%d %H:%M:%S", math.floor(seconds)) or "never"
end

--- Everything about a delivery.
---@param row table
---@param now number
---@param sites? table<string, table> as of M.row
---@return string
function M.details(row, now, sites)
  local out, quiet = {}, row.state == "due" and sites and sites[row.site]
  local function add(name, value)
    if value ~= nil and value ~= "" then
      out[#out + 1] = ("%-10s %s"):format(name, log.clean(tostring(value)))
    end
  end
  add("id", row.id .. "/" .. row.number)
  add("from", address(row.sender))
  add("to", row.recipient)
  add("state", state(row, now, quiet))
  add("because", quiet and reason(quiet, now))
  add("size", ("%d octets"):format(row.size))
  add("received", ("%s (%s ago)"):format(date(row.received), M.age(row.age)))
  add("due", date(row.due))
  add("expires", date(row.expires))
  add("tries", row.attempts)
  add("site", row.site)
  add("host", row.host)
  add("tenant", row.tenant)
  add("priority", row.priority ~= 0 and row.priority or nil)
  add("reply", row.reply)
  return table.concat(out, "\n")
end

local function busiest(domains, most)
  local list = {}
  for name, waiting in pairs(domains or {}) do
    list[#list + 1] = { name, waiting }
  end
  table.sort(list, function(a, b)
    return a[2] > b[2] or a[2] == b[2] and a[1] < b[1]
  end)
  return table.move(list, 1, math.min(most, #list), 1, {})
end

local function sites_of(stats, now, most)
  local lines = { ("%-32s %8s %7s %8s  %s"):format("SITE", "STATE", "ACTIVE", "WAITING", "WHY") }
  local list = table.move(stats.sites or {}, 1, #(stats.sites or {}), 1, {})
  table.sort(list, function(a, b)
    local more, less = a.active + a.waiting, b.active + b.waiting
    return more > less or more == less and a.name < b.name
  end)
  for i = 1, math.min(most, #list) do
    local at = list[i]
    lines[#lines + 1] = ("%-32s %8s %7d %8d  %s"):format(log.clean(at.name), site_states[at.state] or at.state, at.active, at.waiting,
      reason(at, now))
  end
  return lines
end

--- What is in the queue.
---@param stats table
---@param now number
---@return string
function M.stats(stats, now)
  local out = {
    ("%d messages, %d deliveries: %d wait, %d on their way, %d held"):format(stats.messages, stats.deliveries,
      math.max(0, stats.states.waiting - stats.states.busy), stats.states.busy, stats.states.held),
  }
  local spool = stats.spool
  out[#out + 1] = ("since the spool was opened: %d messages kept, %d delivered, %d tried later, %d bounced, %d expired, %d removed"):format(
    spool.puts or 0, spool.delivered or 0, spool.rescheduled or 0, spool.bounced or 0, spool.expired or 0, spool.removed or 0)
  if spool.failing then
    out[#out + 1] = "the disk fails: nothing is taken until it answers"
  end
  local domains = busiest(stats.domains, 20)
  if domains[1] then
    out[#out + 1] = ("\n%-32s %8s"):format("DOMAIN", "WAITING")
  end
  for _, each in ipairs(domains) do
    out[#out + 1] = ("%-32s %8d"):format(log.clean(each[1]), each[2])
  end
  if stats.sites and stats.sites[1] then
    out[#out + 1] = "\n" .. table.concat(sites_of(stats, now, 50), "\n")
  end
  return table.concat(out, "\n")
end

--- One frame of `top`.
---@param stats table quick ones
---@param before? table those of the frame before
---@param seconds number between the two
---@param now number
---@param lines integer of the terminal
---@return string
function M.frame(stats, before, seconds, now, lines)
  local function rate(name)
    local was = before and before.spool[name] or stats.spool[name] or 0
    return ((stats.spool[name] or 0) - was) / seconds
  end
  local out = {
    ("moonpost queue  %s   %d wait for %d domains, %d on their way"):format(os.date("%H:%M:%S", math.floor(now)),
      math.max(0, stats.states.waiting - stats.states.busy), stats.spool.domains, stats.states.busy),
    ("a second: %.1f in, %.1f delivered, %.1f later, %.1f bounced; %.1f commits"):format(rate "puts", rate "delivered", rate "rescheduled",
      rate "bounced", rate "commits"),
    "",
  }
  local room = math.max(4, lines - #out - 3)
  local domains = busiest(stats.domains, room // 3)
  table.move(sites_of(stats, now, room - #domains), 1, room, #out + 1, out)
  out[#out + 1] = ("\n%-32s %8s"):format("DOMAIN", "WAITING")
  for _, each in ipairs(domains) do
    out[#out + 1] = ("%-32s %8d"):format(log.clean(each[1]), each[2])
  end
  return table.concat(out, "\n")
end

return M
