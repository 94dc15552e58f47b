--- ClamAV for every message: malware is refused.
---
---     server:use(require "moonpost.plugins.clamav" { address = "unix:/run/clamav/clamd.ctl", fail = "open" })
local clamav = require "moonpost.clamav"
local moonpost = require "moonpost"
local options_of = require "moonpost.options"

local schema = table.move(clamav.schema, 1, #clamav.schema, 1, {})
schema[#schema + 1] = {
  name = "fail", type = "choice", values = { "closed", "open" }, default = "closed", doc = "what becomes of what nobody could look at",
}
schema[#schema + 1] = { name = "large", type = "choice", values = { "pass", "refuse" }, default = "pass", doc = "of messages past `size`" }

---@class moonpost.ClamavPluginOptions: moonpost.clamav.Options
---@field fail? "closed"|"open" what becomes of a message that could not be looked at: 451 ("closed"), or it passes
---@field large? "pass"|"refuse" what becomes of one past `size`: it passes ("pass"), or 552

---@param given? moonpost.ClamavPluginOptions
---@return moonpost.Plugin
return function(given)
  local options, why = options_of.resolve(schema, given or {}, options_of.place(2))
  if not options then
    error("clamav: " .. why, 2)
  end
  local scanner = clamav.new { address = options.address, timeout = options.timeout, size = options.size }
  local plugin = { name = "clamav" }

  function plugin.message(session, message)
    local found, err = scanner:scan(message)
    if found and found.clean then
      return
    elseif found then
      moonpost.log.warn("malware found", { session = session.id, signature = found.signature })
      return 550, "5.7.1", ("Malware found: %s"):format(found.signature:gsub("[^%w._-]", "?"):sub(1, 100))
    elseif err.kind == "too_large" then
      if options.large == "refuse" then
        return 552, "5.3.4", "Too large to be examined"
      end
      return
    end
    moonpost.log.error("scanner failed", { scanner = "clamav", session = session.id, error = tostring(err) })
    if options.fail == "closed" then
      return 451, "4.7.1", "Cannot be examined now, please try again later"
    end
  end

  return plugin
end
