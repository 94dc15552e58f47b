--- A milter, asked at each step of a session as Postfix and Sendmail ask it.
---
---     server:use(require "moonpost.plugins.milter" { address = "unix:/run/opendkim/opendkim.sock", fail = "open" })
local milter = require "moonpost.milter"
local moonpost = require "moonpost"
local options_of = require "moonpost.options"
local wire = require "moonpost.milter.wire"

local schema = table.move(milter.schema, 1, #milter.schema, 1, {})
schema[#schema + 1] = {
  name = "fail", type = "choice", values = { "closed", "open" }, default = "closed", doc = "what becomes of mail while the filter does not answer",
}
schema[#schema + 1] = { name = "hostname", type = "string", default = "localhost", doc = "our name, which filters know as the macro j" }
schema[#schema + 1] = { name = "name", type = "string", default = "milter", doc = "in chains and log lines" }

---@class moonpost.MilterPluginOptions: moonpost.milter.Options
---@field fail? "closed"|"open" what becomes of mail while the filter does not answer: 451 ("closed"), or it passes
---@field hostname? string our name, which filters know as the macro j
---@field name? string in chains and log lines: "milter"

local function angle(address)
  return "<" .. address .. ">"
end

local function drop_nothing(set)
  local list = {}
  for name, value in pairs(set) do
    if value then
      list[name] = tostring(value)
    end
  end
  return list
end

---@param given moonpost.MilterPluginOptions
---@return moonpost.Plugin
return function(given)
  local options, why = options_of.resolve(schema, given or {}, options_of.place(2))
  if not options then
    error("milter: " .. why, 2)
  end
  local fail, name, hostname = options.fail, options.name, options.hostname
  local filter = milter.new { address = options.address, timeout = options.timeout, quarantine = options.quarantine }
  local states = setmetatable({}, { __mode = "k" }) -- by session: { talk, broken, passed, discard, gone }
  local plugin = { name = name }

  local function leave(state)
    local talk = state.talk
    state.talk = nil
    if talk then
      talk:close()
    end
  end

  -- The filter is not asked any more: what that means is `fail`'s to say, at the next step that has a say.
  local function lost(session, state, err)
    moonpost.log.error("scanner failed", { scanner = name, session = session.id, error = tostring(err) })
    leave(state)
    state.broken = fail == "closed"
  end

  -- The reply that an answer stands for; nil: none. `final` is the code of a refusal.
  local function verdict(state, answer, final)
    if answer.what == "reply" then
      return answer.code, answer.enhanced or (answer.code < 500 and "4.7.1" or "5.7.1"), answer.text ~= "" and answer.text or "Refused"
    elseif answer.what == "reject" then
      return final, "5.7.1", "Refused"
    elseif answer.what == "tempfail" then
      return 451, "4.7.1", "Please try again later"
    elseif answer.what == "discard" then
      state.discard = true
    end
  end

  local function unavailable()
    return 451, "4.7.1", "Cannot be examined now, please try again later"
  end

  -- A step before there is a message. Whoever is accepted is not looked at any more.
  local function step(session, letter, data, macros, final)
    local state = states[session]
    if not state then
      return
    elseif state.broken then
      if letter ~= "C" and letter ~= "H" then
        return unavailable()
      end
      return
    elseif not state.talk or state.passed or state.discard then
      return
    end
    local answer, err = state.talk:step(letter, data, macros)
    if not answer then
      lost(session, state, err)
      if state.broken and letter ~= "C" and letter ~= "H" then
        return unavailable()
      end
      return
    elseif answer.what == "accept" then
      if letter == "C" or letter == "H" then
        leave(state)
      else
        state.passed = true
      end
    end
    return verdict(state, answer, final)
  end

  function plugin.connect(session)
    local state = {}
    states[session] = state
    local err
    state.talk, err = filter:open()
    if not state.talk then
      return lost(session, state, err)
    end
    local name_of = session.ip and ("[%s]"):format(session.ip) or "localhost"
    return step(session, "C", wire.peer(name_of, session.ip, session.port), { j = hostname, ["{daemon_name}"] = session.listener }, 554)
  end

  function plugin.helo(session, said)
    local tls = session.tls or {}
    return step(session, "H", wire.texts(said), drop_nothing { ["{tls_version}"] = tls.version, ["{cipher}"] = tls.cipher }, 550)
  end

  function plugin.mail(session, sender)
    local state = states[session]
    if state then
      state.passed, state.discard = false, false
    end
    if state and state.talk then
      local ok, err = state.talk:abort() -- of one that nobody finished
      if not ok then
        lost(session, state, err)
      end
    end
    local macros = drop_nothing {
      ["{auth_authen}"] = session.user, ["{auth_type}"] = session.user and session.mechanism, ["{mail_addr}"] = sender.address,
    }
    return step(session, "M", wire.texts(angle(sender.address)), macros, 550)
  end

  function plugin.rcpt(session, recipient)
    return step(session, "R", wire.texts(angle(recipient.address)), { ["{rcpt_addr}"] = recipient.address }, 550)
  end

  function plugin.data(session)
    return step(session, "T", nil, { i = session.id }, 550)
  end

  local function examine(session, message)
    local state = states[session]
    if not state then
      return
    elseif state.broken then
      return unavailable()
    elseif state.discard then
      message:discard(name)
      return true
    elseif not state.talk or state.passed then
      return
    end
    local answer, changes = state.talk:message(message, { i = message.id })
    if not answer then
      lost(session, state, changes)
      if state.broken then
        return unavailable()
      end
      return
    end
    local code, enhanced, text = verdict(state, answer, 550)
    if code then
      return code, enhanced, text
    elseif state.discard then
      state.discard = false
      message:discard(name)
      return true
    end
    milter.apply(message, changes)
    for _, change in ipairs(changes) do
      if change.what == "quarantine" then
        filter.quarantine(message, change.reason)
      end
    end
  end

  -- A message that is complete is finished, though its sender is gone.
  function plugin.message(session, message)
    local code, enhanced, text = examine(session, message)
    local state = states[session]
    if state and state.gone then
      leave(state)
    end
    return code, enhanced, text
  end

  function plugin.disconnect(session)
    local state = states[session]
    if state and state.talk and state.talk.busy then
      state.gone = true
    elseif state then
      leave(state)
    end
  end

  return plugin
end
