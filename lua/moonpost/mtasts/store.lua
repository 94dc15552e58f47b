--- What is known of domains: in memory, up to a number of them, and policies in a folder as well, so that they survive a restart. A file is
--- written beside its place and moved there. The folder may be shared by workers and processes.
local log = require "moonpost.log"
local policies = require "moonpost.mtasts.policy"

local M = {}

local FORM = "moonpost MTA-STS policy, form 1\ndomain: %s\nid: %s\nfetched: %d\nsize: %d\n\n%s"
local NAME_MOST = 220 -- octets of a domain that may be a file's name, with room for more

local Store = {}
local Store_mt = { __index = Store, __name = "moonpost.mtasts.Store" }

---@param folder? string
---@param most integer domains in memory
function M.new(folder, most)
  return setmetatable({ folder = folder, most = math.max(1, most // 2), young = {}, count = 0, old = {} }, Store_mt)
end

local function path_of(self, domain)
  return self.folder and #domain <= NAME_MOST and ("%s/%s.sts"):format(self.folder, domain) or nil
end

--- The policy that lies in the folder, when there is one and it is whole.
---@return moonpost.mtasts.Policy?
function Store:load(domain)
  local path = path_of(self, domain)
  local file = path and io.open(path, "rb")
  if not file then
    return nil
  end
  local content = file:read(policies.TEXT_MOST + 1024) or ""
  file:close()
  local owner, id, fetched, size, text = content:match("^moonpost MTA%-STS policy, form 1\n"
    .. "domain: ([^\n]+)\nid: (%w+)\nfetched: (%d+)\nsize: (%d+)\n\n(.*)$")
  local policy = owner == domain and #text == tonumber(size) and policies.parse(text) or nil
  if policy then
    policy.domain, policy.id, policy.fetched = domain, id, tonumber(fetched)
  end
  return policy
end

local function write(path, content)
  local beside = ("%s.%016x"):format(path, math.random(0))
  local file, why = io.open(beside, "wb")
  if not file then
    return nil, why
  end
  local ok
  ok, why = file:write(content)
  local closed, why_not = file:close()
  if ok and closed then
    ok, why = os.rename(beside, path)
    if ok then
      return true
    end
  end
  os.remove(beside)
  return nil, why or why_not
end

--- Puts a policy into the folder. A folder that cannot be written to costs a line in the log, not the policy.
function Store:save(policy, text)
  local path = path_of(self, policy.domain)
  if not path then
    return
  end
  local ok, why = write(path, FORM:format(policy.domain, policy.id, policy.fetched // 1 | 0, #text, text))
  if not ok and not self.complained then
    self.complained = true
    log.warn("an MTA-STS policy cannot be kept on disk", { error = why })
  end
end

--- What is known of a domain, for the caller to fill in: { policy?, retry_at?, why? }.
---@return table
function Store:entry(domain)
  local entry = self.young[domain]
  if entry then
    return entry
  end
  entry = self.old[domain] or { policy = self:load(domain) }
  if self.count >= self.most then -- two halves: what nobody asked for since the last change is forgotten
    self.old, self.young, self.count = self.young, {}, 0
  end
  self.young[domain] = entry
  self.count = self.count + 1
  return entry
end

return M
