--- Attempts written down: each is one line of JSON in a file, which may be turned over when it is long. What a full disk cannot take is lost
--- and counted; mail does not wait for it.
local core = require "moonpost.core"
local json = require "moonpost.json"
local log = require "moonpost.log"
local options_of = require "moonpost.options"

local M = {}

local schema = {
  { name = "path", type = "string", doc = "of the file" },
  { name = "rotate", type = "size", default = "100MB", doc = "from which it becomes path.1; 0: never" },
  { name = "keep", type = "integer", default = 7, doc = "files behind a number", check = function(n)
    return (n < 0 or n > 1000) and "0 to 1000 expected" or nil
  end },
}

--- Reads the option `attempts`: a path, or { path =, rotate =, keep = }.
---@param given any
---@param at string
---@return table? settings
---@return string? why
function M.read(given, at)
  if type(given) == "string" then
    given = { path = given }
  elseif type(given) ~= "table" then
    return nil, ("attempts: a path or a table expected, got a %s"):format(type(given))
  end
  local values, why = options_of.resolve(schema, given, at, "attempts.")
  if values and (not values.path or values.path == "") then
    return nil, "attempts: path is needed"
  end
  return values, not values and why or nil
end

--- Opens the file.
---@param queue moonpost.Queue
---@param settings table
---@param worker moonpost.core.worker
---@return moonpost.core.journal? journal
---@return string? why
function M.open(queue, settings, worker)
  local journal, why = core.journal(worker, settings.path, settings.rotate, settings.keep, function(lost, reason)
    log.event("error", "attempts lost", { "queue", queue.name, "file", settings.path, "lines", lost, "why", reason })
  end)
  return journal, not journal and "attempts: " .. tostring(why) or nil
end

local function tls_of(tls)
  return tls and { used = tls.used, why = tls.why, version = tls.version, cipher = tls.cipher, verified = tls.verified, how = tls.how } or nil
end

-- Seconds as people write them: clocks count milliseconds, and sums of them have digits behind that mean nothing.
local function seconds_of(value)
  return value and math.floor(value * 1000 + 0.5) / 1000
end

--- Writes an attempt down.
---@param journal moonpost.core.journal
---@param record table as hooks of the queue are told
function M.add(journal, record)
  local reply = record.reply
  journal:add(json.encode {
    time = seconds_of(record.time), event = record.event, queue = record.queue, message = record.message, sender = record.sender,
    recipient = record.recipient, domain = record.domain, tenant = record.tenant, site = record.site, via = record.via, host = record.host,
    ip = record.ip, tls = tls_of(record.tls), stage = record.stage, code = reply and reply.code, enhanced = reply and reply.enhanced,
    reply = reply and tostring(reply), attempts = record.attempts, due = record.event == "deferred" and seconds_of(record.due) or nil,
    age = seconds_of(record.age), seconds = seconds_of(record.seconds), times = record.times,
  })
end

return M
