--- Addresses of the envelope: senders, and recipients that can be rewritten.
local core = require "moonpost.core"
local plan = require "moonpost.plan"

local M = {}

---@class moonpost.Recipient
local Recipient = {}
M.methods = Recipient

--- Sets mailbox and detail. Quotes have been taken off before: "bob"@example.org is bob. Folding is of ASCII alone:
--- what other letters are the same is the policy's to say.
local function split(self)
  local house = rawget(self, "_house") or self._session._house
  local name, separator = self.localpart, house.separator
  local at = separator ~= "" and name:find(separator, 2, true)
  if at then
    rawset(self, "mailbox", name:sub(1, at - 1):lower())
    rawset(self, "detail", name:sub(at + #separator))
  else
    rawset(self, "mailbox", name:lower())
  end
end

local function lazy(methods)
  return function(self, key)
    if (key == "mailbox" or key == "detail") and not rawget(self, "mailbox") then
      split(self)
      return rawget(self, key)
    end
    return methods[key]
  end
end

local function show(self)
  return self.address
end

local Sender_mt = { __name = "moonpost.Sender", __metatable = "moonpost.Sender", __index = lazy {}, __tostring = show }
local Recipient_mt = {
  __name = "moonpost.Recipient", __metatable = "moonpost.Recipient", __index = lazy(Recipient), __tostring = show,
}

---@return moonpost.Sender
function M.sender(house, address, localpart, domain, params)
  local self = { address = address, localpart = localpart, domain = domain, _house = house }
  self.params = params -- seldom there: four fields take half the room of five
  return setmetatable(self, Sender_mt)
end

---@return moonpost.Recipient
function M.new(session, index, address, localpart, domain, class, params)
  return setmetatable({
    address = address, localpart = localpart, domain = domain, class = class, params = params, index = index,
    _session = session,
  }, Recipient_mt)
end

---@param value any
---@return boolean
function M.is(value)
  return type(value) == "table" and debug.getmetatable(value) == Recipient_mt
end

--- Lets this recipient be relayed whatever the relay rule says. Only from the `rcpt` hook, while it is asked about
--- this recipient.
function Recipient:allow_relay()
  local session = self._session
  if session._asking ~= self then
    error("recipient:allow_relay: only the rcpt hook may say so, of the recipient it is asked about", 2)
  end
  session._conn:allow_relay()
  if self.class == "none" then
    self.class = "relay"
  end
end

--- Hands the message on to another server for this recipient, while the sender waits. From the `rcpt` hook, which is asked early enough for the
--- next recipient to be sent into a transaction of its own: over SMTP one reply must do.
---@param options string|table URL, or options of a connection
function Recipient:forward(options)
  local session = self._session
  if session._asking ~= self then
    error("recipient:forward: only the rcpt hook may say so, of the recipient it is asked about; "
      .. "in the message hook it is message:to(recipient):forward(url)", 2)
  end
  local disposition, why = plan.forward(options, session._house)
  if not disposition then
    error("recipient:forward: " .. why, 2)
  end
  self._plan = disposition
  for _, more in ipairs(self._more or {}) do
    more._plan = disposition
  end
  session._rcpts.planned = true
end

local function addresses(...)
  local first = ...
  local list = type(first) == "table" and select("#", ...) == 1 and first or { ... }
  local out, seen = {}, {}
  for i, address in ipairs(list) do
    if type(address) ~= "string" then
      return nil, ("address %d is a %s"):format(i, type(address))
    end
    local localpart, domain = core.mailbox(address, true)
    if not localpart then
      return nil, ("%q is no address"):format(address)
    end
    if not seen[address] then
      seen[address] = true
      out[#out + 1] = { address, localpart, domain }
    end
  end
  if not out[1] then
    return nil, "at least one address is needed"
  end
  return out
end

local function become(self, target, original)
  self.original = original
  self.address, self.localpart, self.domain = target[1], target[2], target[3]
  self.class = self._session._house.is_local(target[3]) and "local" or "relay"
  rawset(self, "mailbox", nil)
  rawset(self, "detail", nil)
end

--- Puts another address, or several, in this one's place: an alias. `original` keeps what the peer said; the class is
--- that of the new domain. A plan that was made for the recipient holds for all of them.
---@param ... string|string[] addresses without angle brackets
function Recipient:rewrite(...)
  local targets, why = addresses(...)
  if not targets then
    error("recipient:rewrite: " .. why, 2)
  elseif self._result then
    error(("recipient:rewrite: %s has been served already"):format(self.address), 2)
  elseif self._message and self._message._sealed then
    error("recipient:rewrite: the message's hook is over", 2)
  end
  local original = self.original or self.address
  become(self, targets[1], original)
  for i = 2, #targets do
    local more = setmetatable({
      params = self.params, index = self.index, _session = self._session, _message = self._message, _plan = self._plan,
    }, Recipient_mt)
    become(more, targets[i], original)
    self._more = self._more or {}
    table.insert(self._more, more)
  end
  if self._message then
    self._message._list = nil
  end
end

--- A recipient and those it was rewritten to besides, in order, at the end of `list`.
---@param list moonpost.Recipient[]
function M.flatten(recipient, list)
  list[#list + 1] = recipient
  for _, more in ipairs(recipient._more or {}) do
    M.flatten(more, list)
  end
end

return M
