--- rspamd: what it makes of a message, asked by HTTP (POST /checkv2).
---
---     local rspamd = moonpost.rspamd { url = "http://127.0.0.1:11333" }
---     local found, err = rspamd:check(session, message)
---     if found and found.action == "reject" then return 550, "5.7.1", "Spam" end
local Error = require "moonpost.error"
local http = require "moonpost.http"
local json = require "moonpost.json"
local options_of = require "moonpost.options"

local M = {}

M.schema = {
  { name = "url", type = "string", default = "http://127.0.0.1:11333", check = function(value)
    return not value:find("^https?://[^%s%c/?#]+/?$") and "http://host:port expected" or nil
  end },
  { name = "password", type = "string", null = true },
  { name = "timeout", type = "duration", default = "10s" },
  { name = "size", type = "size", default = "10MB" },
  { name = "settings", type = "string", null = true },
}

---@class moonpost.rspamd.Client
local Client = {}
M.methods = Client
local Client_mt = { __index = Client, __name = "moonpost.rspamd.Client" }

--- A client. Nothing is connected before something is asked.
---@param given? moonpost.rspamd.Options
---@return moonpost.rspamd.Client
function M.new(given)
  if given ~= nil and type(given) ~= "table" then
    error("rspamd: a table of options expected", 2)
  end
  local values, why = options_of.resolve(M.schema, given or {}, options_of.place(1))
  if not values then
    error("rspamd: " .. why, 2)
  end
  values.url = values.url:gsub("/$", "")
  return setmetatable(values, Client_mt)
end

-- A value for a header: what a peer wrote ends no line.
local function line(value)
  return value and (tostring(value):gsub("%c", "?")) or nil
end

local function headers_of(self, session, message)
  local recipients = {}
  for i, recipient in ipairs(message.recipients) do
    recipients[i] = line(recipient.original or recipient.address)
  end
  local tls = session.tls
  return {
    From = line(message.sender.address), Rcpt = recipients, IP = session.ip, Helo = line(session.helo), User = line(session.user),
    ["Queue-Id"] = line(message.id), Password = self.password, ["Settings-ID"] = self.settings,
    ["TLS-Version"] = tls and line(tls.version) or nil, ["TLS-Cipher"] = tls and line(tls.cipher) or nil,
    ["Content-Type"] = "message/rfc822",
  }
end

local function read_answer(self, response)
  if response.status ~= 200 then
    return nil, Error("scanner", ("%s: it answered %d"):format(self.url, response.status), { temporary = true })
  end
  local found = json.decode(response.body)
  if type(found) ~= "table" or type(found.action) ~= "string" then
    return nil, Error("protocol", ("%s: its answer makes no sense"):format(self.url), { temporary = true })
  end
  local said = type(found.messages) == "table" and found.messages.smtp_message or nil
  return {
    action = found.action, score = tonumber(found.score) or 0, required = tonumber(found.required_score),
    symbols = type(found.symbols) == "table" and found.symbols or {}, text = type(said) == "string" and line(said) or nil,
    subject = type(found.subject) == "string" and found.subject or nil, skipped = found.is_skipped == true, answer = found,
  }
end

--- Asks about a message. Waits without blocking, `timeout` at most.
---@async
---@param session moonpost.Session
---@param message moonpost.Message
---@return moonpost.rspamd.Found? found
---@return moonpost.Error? err kind "too_large" (past `size`), "scanner", "protocol", or that of a request
function Client:check(session, message)
  if type(session) ~= "table" or type(message) ~= "table" then
    error("rspamd:check: a session and a message expected", 2)
  elseif message.size > self.size then
    return nil, Error("too_large", ("%d octets, and %d are looked at"):format(message.size, self.size))
  end
  local octets, why = message:octets()
  if not octets then
    return nil, Error("message", why)
  end
  local response, err = http.request {
    url = self.url .. "/checkv2", insecure = true, method = "POST", headers = headers_of(self, session, message), body = octets,
    timeout = self.timeout, connect_timeout = self.timeout,
  }
  if not response then
    return nil, err
  end
  return read_answer(self, response)
end

-- ---- what it wants done to the header ------------------------------------------------------------------------------

-- "v", { value = "v", order = 0 }, or a list of those.
local function values_of(wanted)
  if type(wanted) ~= "table" or wanted.value ~= nil then
    wanted = { wanted }
  end
  local list = {}
  for _, one in ipairs(wanted) do
    local order = type(one) == "table" and math.tointeger(one.order) or nil
    local value = type(one) == "table" and one.value or one
    if type(value) == "string" or type(value) == "number" then
      list[#list + 1] = { value = tostring(value), order = order }
    end
  end
  return list
end

-- Runs of white space with a line break become folding as it is written here; other control characters "?".
local function folded(value)
  return (value:gsub("[^\r\n\t\x20-\x7e\x80-\xff]", "?"):gsub("\r?\n[ \t]+", "\0"):gsub("[\r\n]", "?"):gsub("%z", "\r\n\t"))
end

local function remove(message, name, which)
  local envelope = message._core
  if which == 0 then
    message:remove(name)
    return
  end
  local places, at = {}, envelope:find(name)
  while at do
    places[#places + 1] = at
    at = envelope:find(name, at + 1)
  end
  at = places[which > 0 and which or #places + 1 + which]
  if at then
    envelope:remove(at)
  end
end

local function sorted(set)
  local names = {}
  for name in pairs(type(set) == "table" and set or {}) do
    if type(name) == "string" then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return names
end

--- Changes the header as the answer wants it: fields that go, fields that come, and a subject. What cannot stand in a header is left out.
---@param message moonpost.Message
---@param found moonpost.rspamd.Found
function Client.apply(_, message, found)
  local milter = type(found.answer.milter) == "table" and found.answer.milter or {}
  for _, name in ipairs(sorted(milter.remove_headers)) do
    for _, which in ipairs(type(milter.remove_headers[name]) == "table" and milter.remove_headers[name] or { milter.remove_headers[name] }) do
      remove(message, name, math.tointeger(which) or 0)
    end
  end
  for _, name in ipairs(sorted(milter.add_headers)) do
    for _, one in ipairs(values_of(milter.add_headers[name])) do
      local count = message.headers:count()
      -- Order counts from the top, or from the end below zero; without one a field goes to the end.
      local at = not one.order and count + 1 or one.order >= 0 and one.order + 1 or count + 2 + one.order
      pcall(message._core.insert, message._core, math.max(1, math.min(at, count + 1)), name, folded(one.value))
    end
  end
  if found.action == "rewrite subject" and found.subject then
    pcall(message.replace, message, "Subject", folded(found.subject))
  end
end

return M
