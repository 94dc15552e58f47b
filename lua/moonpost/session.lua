--- One peer's conversation, as hooks see it. Facts are asked of C when they are read; they are kept when the peer
--- leaves.
local core = require "moonpost.core"
local log = require "moonpost.log"
local reply = require "moonpost.reply"

local M = {}

---@class moonpost.Session
local Session = {}
M.methods = Session

--- Facts of csrc/bind/conn.c that a script may read.
M.facts = {
  ip = true, port = true, local_ip = true, local_port = true, unix = true, uid = true, pid = true, listener = true,
    protocol = true,
  helo = true, esmtp = true, user = true, mechanism = true, with = true, early_talker = true, errors = true,
    may_relay = true,
  proxied = true, tls = true,
}
local facts = M.facts

local lazy = {}

--- A table of the script's own, for the session's life.
function lazy.data(self)
  local data = {}
  rawset(self, "data", data)
  return data
end

-- No other worker, and no generation before or after this one, gives the same ids: their lines stand in one log.
local prefix = ("s%x%06x-"):format((core.place()), math.floor(core.time() * 1000) & 0xffffff)
local count = 0

--- A name for log lines.
function lazy.id(self)
  count = count + 1
  local id = ("%s%x"):format(prefix, count)
  rawset(self, "id", id)
  return id
end

--- Whether the peer is there.
function lazy.alive(self)
  return self._conn:alive()
end

local Session_mt = { __name = "moonpost.Session", __metatable = "moonpost.Session" }

function Session_mt.__index(self, key)
  local method = Session[key]
  if method then
    return method
  elseif facts[key] then
    local kept = self._facts
    if kept then
      return kept[key]
    end
    return self._conn:fact(key)
  end
  local make = lazy[key]
  return make and make(self)
end

function Session_mt.__newindex(_, key)
  error(("session.%s cannot be set; session.data is yours"):format(tostring(key)), 2)
end

function Session_mt.__tostring(self)
  local ip = self.ip
  return ip and ("%s [%s]:%s"):format(self.id, ip, tostring(self.port)) or self.id .. " [local]"
end

--- The object behind a connection. The fields are there from the start, so that the table never grows: a session
--- costs what it costs.
---@param conn moonpost.core.conn
---@param house table what the sessions of a server share
---@return moonpost.Session
function M.new(conn, house)
  return setmetatable({
    _conn = conn, _house = house,
    _finish = false, -- how a hook that waited comes back
    _task = false, _chain = false, _arg = false, -- of the hook that waits
    _rcpts = false, -- recipients of the transaction, when there is a rcpt hook
    _asking = false, -- the recipient that is being asked about
    _entry = false, -- which of several hooks runs
    _facts = false, -- after the end
    _said = 0, -- log lines about refusals and faults
    data = nil, id = nil,
  }, Session_mt)
end

local LINES_MOST = 50

--- Whether one more line about a refusal or a fault may be written about this session: a peer that is refused for ever
--- must not fill a disk. The line at its end has the counts.
---@param self moonpost.Session
---@return boolean
function M.may_say(self)
  local said = self._said + 1
  rawset(self, "_said", said)
  if said == LINES_MOST then
    log.event("info", "refusals and faults of this session are only counted from here on", {
      "session", self.id, "peer", self.ip or "local", "listener", self.listener,
    })
  end
  return said < LINES_MOST
end

--- The session's line at its end.
---@param self moonpost.Session
---@param why? string
function M.tell(self, why)
  local tally, tls, user = self._conn:tally(), self.tls, self.user
  local list = {
    "session", self.id, "peer", self.ip or "local", "listener", self.listener, "tls", tls and tls.version or "none",
  }
  local function add(key, value)
    list[#list + 1], list[#list + 2] = key, value
  end
  if self.helo then
    add("helo", self.helo)
  end
  if user then
    add("user", user)
  end
  add("messages", tally.messages)
  add("messages_refused", tally.messages_refused)
  add("recipients", tally.recipients)
  add("recipients_refused", tally.recipients_refused)
  add("bad_commands", tally.bad)
  add("octets", tally.octets)
  add("seconds", tally.ms / 1000)
  add("why", why or "")
  log.event("info", "session", list)
end

--- Keeps what is known of the peer, for tasks that outlive the connection.
function M.keep(self)
  self._facts = self._conn:facts() or {}
end

--- Tells the peer why and closes, whatever was going on: session:close(421, "4.7.0", "Come back later").
---@param code integer 421, another 4xx or 5xx, or 221
---@param enhanced? string may be left out
---@param text? string
function Session:close(code, enhanced, text)
  local number, checked, words = reply.normal(code, enhanced, text)
  if not number then
    error("session:close: " .. checked, 2)
  elseif number < 400 and number ~= 221 then
    error(("session:close: a session is closed with 221, 4xx or 5xx, not with %d"):format(number), 2)
  end
  self._conn:close(number, checked, words)
end

return M
