--- rspamd for every message: its action becomes the reply, and its fields go into the header.
---
---     server:use(require "moonpost.plugins.rspamd" { url = "http://127.0.0.1:11333", fail = "open" }, { listeners = { "smtp" } })
local moonpost = require "moonpost"
local options_of = require "moonpost.options"
local rspamd = require "moonpost.rspamd"

local schema = table.move(rspamd.schema, 1, #rspamd.schema, 1, {})
schema[#schema + 1] = {
  name = "fail", type = "choice", values = { "closed", "open" }, default = "closed", doc = "what becomes of what nobody could look at",
}

---@class moonpost.RspamdPluginOptions: moonpost.rspamd.Options
---@field fail? "closed"|"open" what becomes of a message that rspamd did not look at: 451 ("closed"), or it passes

-- A reply's text: what comes from a service is one short line of ASCII.
local function text_of(found, otherwise)
  local text = (found.text or otherwise):gsub("[^\x20-\x7e]", "?"):sub(1, 400)
  return text:find("%S") and text or otherwise
end

---@param given? moonpost.RspamdPluginOptions
---@return moonpost.Plugin
return function(given)
  local options, why = options_of.resolve(schema, given or {}, options_of.place(2))
  if not options then
    error("rspamd: " .. why, 2)
  end
  local fail = options.fail
  options.fail = nil
  local client = rspamd.new(options)
  local plugin = { name = "rspamd" }

  function plugin.message(session, message)
    local found, err = client:check(session, message)
    if not found and err.kind == "too_large" then
      return -- spam is small
    elseif not found then
      moonpost.log.error("scanner failed", { scanner = "rspamd", session = session.id, error = tostring(err) })
      if fail == "closed" then
        return 451, "4.7.1", "Cannot be examined now, please try again later"
      end
      return
    end
    moonpost.log.info("scanned", { scanner = "rspamd", session = session.id, action = found.action, score = found.score })
    if found.action == "reject" then
      return 550, "5.7.1", text_of(found, "Refused as spam")
    elseif found.action == "soft reject" or found.action == "greylist" then
      return 451, "4.7.1", text_of(found, "Please try again later")
    end
    client:apply(message, found)
    if found.action == "add header" or found.action == "rewrite subject" then
      message:replace("X-Spam", "Yes")
    else
      message:remove "X-Spam"
    end
  end

  return plugin
end
