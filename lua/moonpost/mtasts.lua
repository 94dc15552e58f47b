--- MTA-STS (RFC 8461): which mail exchangers are a domain's own, and that TLS to them is to be verified; found by a TXT record and
--- HTTPS, and kept.
---
---     local sts = mtasts.new { folder = "/var/lib/moonpost/mta-sts" }
---     local policy, why = sts:lookup "example.net"
---     if policy and policy.mode == "enforce" and not policy:matches(host) then ... end
local core = require "moonpost.core"
local dns = require "moonpost.dns"
local lookups = require "moonpost.dns.lookups"
local options = require "moonpost.options"
local policies = require "moonpost.mtasts.policy"
local store = require "moonpost.mtasts.store"
local task = require "moonpost.task"

local M = {}

M.parse = policies.parse

local DAY = 86400
local AGAIN = 60 -- seconds after which a policy may be got anew, whatever its id and its age are

local function check_fetch(value)
  return type(value) ~= "function" and "a function expected" or nil
end

M.schema = {
  { name = "dns", type = "any", check = function(value)
    return not lookups.is_source(value) and "what dns.resolver or dns.zone returned is expected" or nil
  end },
  { name = "folder", type = "string", null = true },
  { name = "timeout", type = "duration", default = "60s" },
  { name = "retry", type = "duration", default = "5m" },
  { name = "domains", type = "integer", default = 10000 },
  { name = "ca_file", type = "string", null = true },
  { name = "connect_to", type = "string", null = true },
  { name = "fetch", type = "any", null = true, check = check_fetch },
}

---@class moonpost.mtasts.Options
---@field dns? moonpost.dns.Resolver whom to ask
---@field folder? string where policies survive a restart; it has to be there
---@field timeout? moonpost.Duration for a policy file; "60s"
---@field retry? moonpost.Duration how long a failed attempt is not repeated; "5m"
---@field domains? integer of how many domains something is known in memory; 10000
---@field ca_file? string authorities for policy hosts, instead of the system's
---@field connect_to? string "host:port" of the web server, whatever the policy host's name says: for tests
---@field fetch? fun(domain: string, url: string): string?, string? gets the policy file in another way: its text, or nil and why

---@class moonpost.mtasts.Finder
local Finder = {}
local Finder_mt = { __index = Finder, __name = "moonpost.mtasts.Finder" }

--- A finder with a cache of its own.
---@param given? moonpost.mtasts.Options
---@return moonpost.mtasts.Finder
function M.new(given)
  if given ~= nil and type(given) ~= "table" then
    error("mtasts.new: a table of options expected", 2)
  end
  local values, why = options.resolve(M.schema, given or {}, options.place(1))
  if not values then
    error("mtasts.new: " .. why, 2)
  end
  values.store = store.new(values.folder, values.domains)
  values.flights = {} -- by domain: the task that gets its policy
  return setmetatable(values, Finder_mt)
end

local function is_plain_text(response)
  local kind = response.headers["content-type"] or ""
  return kind:lower():find("^text/plain%s*$") ~= nil or kind:lower():find("^text/plain%s*;") ~= nil
end

-- No redirection, 200 alone, plain text, nothing longer than a policy may be (3.3).
local function fetch(self, domain, url)
  local host = "mta-sts." .. domain
  local addresses, err
  if not self.connect_to then
    addresses, err = (self.dns or dns.default()):addresses(host)
    if not addresses then
      return nil, err.message
    elseif #addresses == 0 then
      return nil, host .. " has no address"
    end
  end
  local response
  response, err = require("moonpost.http").request {
    url = url, addresses = addresses, timeout = self.timeout, connect_timeout = self.timeout, max_size = policies.TEXT_MOST,
    ca_file = self.ca_file, connect_to = self.connect_to,
  }
  if not response then
    return nil, err.message
  elseif response.status ~= 200 then
    return nil, ("%s: status %d"):format(url, response.status)
  elseif not is_plain_text(response) then
    return nil, ("%s: it is not text/plain"):format(url)
  end
  return response.body
end

-- Gets the policy under `id` into the entry, or says there why not, and when it may be tried again.
local function refresh(self, domain, id, entry)
  local url = ("https://mta-sts.%s/.well-known/mta-sts.txt"):format(domain)
  local text, why, policy
  if self.fetch then
    text, why = self.fetch(domain, url)
  else
    text, why = fetch(self, domain, url)
  end
  if text then
    policy, why = policies.parse(text)
    why = why and ("the policy of %s: %s"):format(domain, why)
  end
  local now = task.worker():time()
  if not policy then
    entry.why, entry.retry_at = tostring(why or "there is no policy file"), now + self.retry
    return
  end
  policy.domain, policy.id, policy.fetched = domain, id, now
  entry.policy, entry.why, entry.retry_at = policy, nil, now + math.min(self.retry, AGAIN)
  self.store:save(policy, text)
end

-- One at a time for each domain; who comes meanwhile waits for the same.
local function refresh_once(self, domain, id, entry)
  local flight = self.flights[domain]
  if not flight then
    flight = task.spawn(function()
      local ok, why = pcall(refresh, self, domain, id, entry)
      self.flights[domain] = nil
      if not ok then
        entry.why, entry.retry_at = tostring(why), task.worker():time() + self.retry
      end
    end)
    self.flights[domain] = flight
  end
  flight:join()
end

local function is_fresh(policy, now)
  -- a clock that was set back does not make a policy last longer than it said
  return policy and now < policy.fetched + policy.max_age and now >= policy.fetched - DAY
end

-- The same policy is looked at again once a day, and before it runs out, so that it does not run out while the web server is down (3.3).
local function is_due(policy, id, now)
  return not policy or policy.id ~= id or now >= policy.fetched + math.min(DAY, policy.max_age // 2)
end

local function current(entry, now)
  if not is_fresh(entry.policy, now) then
    entry.policy = nil
  end
  return entry.policy
end

--- The policy of a domain: as it is now, or as it was while it may be kept. Nil where there is none; that it cannot be found out is no error, for
--- whoever can prevent that could do so before (10.2).
---@async
---@param domain string the domain of the recipients, or of the relay that was named for them
---@return moonpost.mtasts.Policy? policy
---@return string? why there is none, or why it could not be looked at again
function Finder:lookup(domain)
  local ascii = core.dns_name(domain)
  if not ascii or ascii:find("[^%w.-]") or not ascii:find("%a") then
    return nil, "this is no domain name"
  end
  local entry = self.store:entry(ascii)
  local answer, err = (self.dns or dns.default()):txt("_mta-sts." .. ascii)
  local id, why
  if answer then
    id, why = policies.id(answer)
  else
    why = err.message
  end
  local now = task.worker():time()
  local policy = current(entry, now)
  if id and is_due(policy, id, now) and now >= (entry.retry_at or 0) then
    local kept = self.store:load(ascii) -- another worker may have been here
    if is_fresh(kept, now) and not is_due(kept, id, now) then
      entry.policy, entry.why = kept, nil
    else
      refresh_once(self, ascii, id, entry)
    end
    policy = entry.policy -- whatever its age: it is good for the message that it was got for
  end
  return policy, why or entry.why
end

return M
