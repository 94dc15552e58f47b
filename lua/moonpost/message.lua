--- A received message: envelope, header, octets, and the plans that say what becomes of it.
local headers = require "moonpost.headers"
local perform = require "moonpost.perform"
local plan = require "moonpost.plan"
local recipient = require "moonpost.recipient"
local suggest = require "moonpost.suggest"

local M = {}

---@class moonpost.Message
local Message = {}
M.methods = Message

local CHUNK = 16384

-- ---- envelope -----------------------------------------------------------------------------------------------------

--- The recipients that the envelope has, in its order. Those that the `rcpt` hook saw are the same objects.
local function roots(self)
  local seen, list = self._seen, {}
  local envelope, session = self._core, self.session
  for index = 1, envelope:recipient_count() do
    local address, localpart, domain, class, params = envelope:recipient(index)
    local known = seen and seen[index]
    if not known or (known.original or known.address) ~= address then
      known = recipient.new(session, index, address, localpart, domain, class, params)
    end
    list[index] = known
  end
  return list
end

--- Those that are to be served: with every alias in place. A new list after each rewrite, so that a loop over one is
--- not disturbed.
local function recipients(self)
  if not self._list then
    self._roots = self._roots or roots(self)
    local list = {}
    for _, root in ipairs(self._roots) do
      recipient.flatten(root, list)
    end
    for _, one in ipairs(list) do
      if not one._message then
        one._message, one._plan = self, one._plan or self._base or nil
      end
    end
    self._list = list
  end
  return self._list
end
M.recipients = recipients

local lazy = {
  recipients = function(self)
    return table.move(recipients(self), 1, #recipients(self), 1, {})
  end,
  size = function(self)
    return self._core:size()
  end,
  id = function(self)
    return self._core:id()
  end,
  eight_bit = function(self)
    return (self._core:facts())
  end,
  repaired = function(self)
    return (select(2, self._core:facts()))
  end,
}

local kept = {
  sender = function(self)
    return recipient.sender(self.session._house, self._core:sender())
  end,
  params = function(self)
    return self.sender.params or false
  end,
  headers = function(self)
    return headers.new(self._core)
  end,
  meta = function()
    return {}
  end,
  time = function(self)
    return self.session._house.worker:time()
  end,
}

local Message_mt = { __name = "moonpost.Message", __metatable = "moonpost.Message" }

function Message_mt.__index(self, key)
  local found = Message[key]
  if found then
    return found
  elseif lazy[key] then
    return lazy[key](self)
  elseif kept[key] then
    local value = kept[key](self)
    rawset(self, key, value)
    return value
  end
end

---@param session moonpost.Session
---@param envelope moonpost.core.message
---@param seen? moonpost.Recipient[] of the rcpt hook
---@return moonpost.Message
function M.new(session, envelope, seen)
  return setmetatable({
    _core = envelope, session = session, _seen = seen,
    _roots = false, _list = false, -- recipients: made when somebody asks
    _base = false, -- the plan of those that nobody has asked for
    _sealed = false, -- the hook is over
    _tree = false, -- of its parts, once somebody has looked
    _running = 0, -- deliveries on their way; `_after` is what waits for them
  }, Message_mt)
end

--- Keeps the octets when the message has been answered: for a task that goes on with it. Without this they are freed
--- then, for the collector does not see how many there are.
function Message:keep()
  self._core:keep()
end

-- ---- octets -------------------------------------------------------------------------------------------------------

--- The message as it stands, edits in place.
---@return string? octets
---@return string? why
function Message:octets()
  return self._core:octets()
end

function Message_mt.__tostring(self)
  return assert(self._core:octets())
end

--- The same octets piece by piece: for chunk in message:chunks() do ... end. Do not edit the header meanwhile.
---@param most? integer octets of a piece
---@return fun(): string?
function Message:chunks(most)
  local octets, at = self._core, 0
  return function()
    local chunk = assert(octets:read(at, most or CHUNK))
    at = at + #chunk
    return chunk ~= "" and chunk or nil
  end
end

-- ---- header -------------------------------------------------------------------------------------------------------

--- C knows what may stand in a header; what it raises belongs to the caller's line.
local function edit(self, verb, method, ...)
  self._tree = false
  local ok, err = pcall(method, ...)
  if not ok then
    error(("message:%s: %s"):format(verb, tostring(err):gsub("^.-:%d+: ", "")), 3)
  end
end

--- Puts a field on top.
function Message:prepend(name, value)
  edit(self, "prepend", self._core.insert, self._core, 1, name, value)
end

--- Puts a field at the end of the header.
function Message:append(name, value)
  edit(self, "append", self._core.insert, self._core, self.headers:count() + 1, name, value)
end

-- A position in the header, or nil where a name is given.
local function position_of(self, verb, given, most)
  if math.type(given) ~= "integer" then
    return nil
  elseif given < 1 or given > most then
    error(("message:%s: position %d, of a header with %d fields"):format(verb, given, self.headers:count()), 3)
  end
  return given
end

--- Puts a field in front of the one at a position (as `headers:find` says it); one behind the last: at the end.
---@param position integer
function Message:insert(position, name, value)
  if not position_of(self, "insert", position, self.headers:count() + 1) then
    error("message:insert: a position expected", 2)
  end
  edit(self, "insert", self._core.insert, self._core, position, name, value)
end

--- Gives the first field of that name another value, and takes the others of that name away. Appends it when there is
--- none. With a position: gives the field that stands there another value.
---@param name string|integer
function Message:replace(name, value)
  local position = position_of(self, "replace", name, self.headers:count())
  if position then
    edit(self, "replace", self._core.replace, self._core, position, value)
    return
  end
  local at = self._core:find(name)
  if not at then
    edit(self, "replace", self._core.insert, self._core, self.headers:count() + 1, name, value)
    return
  end
  edit(self, "replace", self._core.replace, self._core, at, value)
  local more = self._core:find(name, at + 1)
  while more do
    self._core:remove(more)
    more = self._core:find(name, more)
  end
end

--- Takes away every field of that name; with a position, the one that stands there.
---@param name string|integer
---@return integer count how many there were
function Message:remove(name)
  self._tree = false
  local position = position_of(self, "remove", name, self.headers:count())
  if position then
    self._core:remove(position)
    return 1
  end
  local count, at = 0, self._core:find(name)
  while at do
    self._core:remove(at)
    count = count + 1
    at = self._core:find(name, at)
  end
  return count
end

-- ---- parts --------------------------------------------------------------------------------------------------------

--- The tree of its parts (RFC 2045), as its header stands now. The same one while the header is not edited and no limits are named.
---@param limits? { depth?: integer, parts?: integer, header?: integer, content?: integer }
---@return moonpost.mime.Tree? tree
---@return moonpost.Error? err kind "limit"
function Message:mime(limits)
  local tree, err = not limits and self._tree or nil, nil
  if not tree then
    tree, err = require("moonpost.mime").parse(self, limits)
    self._tree = tree or false
  end
  return tree, err
end

--- The best text/plain body as UTF-8.
---@return string? text
---@return moonpost.Error? err kind "mime": there is none; "limit"
function Message:text()
  local tree, err = self:mime()
  if not tree then
    return nil, err
  end
  return tree:text()
end

--- The best text/html body as UTF-8.
---@return string? html
---@return moonpost.Error? err kind "mime": there is none; "limit"
function Message:html()
  local tree, err = self:mime()
  if not tree then
    return nil, err
  end
  return tree:html()
end

--- The parts that are not its body.
---@return moonpost.mime.Part[]? parts
---@return moonpost.Error? err kind "limit"
function Message:attachments()
  local tree, err = self:mime()
  if not tree then
    return nil, err
  end
  return tree:attachments()
end

-- ---- plans --------------------------------------------------------------------------------------------------------

local function check_open(self, verb)
  if self._sealed then
    error(("message:%s: its hook is over, and its plans have run"):format(verb), 4)
  end
end

--- Writes a plan for each of `list`; nil = for all there are, without making their objects when nobody has asked for
--- them.
local function write(self, verb, list, disposition, why)
  if not disposition then
    error(("message:%s: %s"):format(verb, why), 3)
  end
  check_open(self, verb)
  if not list and not self._roots and not (self._seen and self._seen.planned) then
    self._base = disposition
    return
  end
  for _, one in ipairs(list or recipients(self)) do
    if one._result then
      error(("message:%s: %s has been served already"):format(verb, one.address), 3)
    end
    one._plan = disposition
  end
end

---@class moonpost.Selection the recipients that message:to() chose
local Selection = {}
M.selection = Selection
local Selection_mt = { __index = Selection, __name = "moonpost.Selection" }

function Selection:deliver(options)
  write(self._message, "deliver", self._list, plan.deliver(options, self._message.session._house))
end

function Selection:forward(options)
  write(self._message, "forward", self._list, plan.forward(options, self._message.session._house))
end

function Selection:enqueue(queue)
  write(self._message, "enqueue", self._list, plan.enqueue(queue, self._message.session._house))
end

function Selection:discard(reason)
  write(self._message, "discard", self._list, plan.discard(reason))
end

function Selection:refuse(code, enhanced, text)
  write(self._message, "refuse", self._list, plan.refuse(code, enhanced, text))
end

--- For every recipient: into a Maildir, a file, a program, to an LMTP server.
function Message:deliver(options)
  write(self, "deliver", nil, plan.deliver(options, self.session._house))
end

--- For every recipient: handed on to another server while the sender waits, whose reply becomes ours.
function Message:forward(options)
  write(self, "forward", nil, plan.forward(options, self.session._house))
end

--- For every recipient: kept in a queue (the server's when none is named), which delivers it or returns it to its sender. It is on disk before the
--- reply.
function Message:enqueue(queue)
  write(self, "enqueue", nil, plan.enqueue(queue, self.session._house))
end

--- For every recipient: thrown away, on purpose and by name.
function Message:discard(reason)
  write(self, "discard", nil, plan.discard(reason))
end

--- For every recipient: refused with this reply.
function Message:refuse(code, enhanced, text)
  write(self, "refuse", nil, plan.refuse(code, enhanced, text))
end

local classes = { ["local"] = true, relay = true }

--- Some of the recipients: "local", "relay", a recipient, or those for which a function returns something true.
---@param selector "local"|"relay"|moonpost.Recipient|fun(recipient: moonpost.Recipient): any
---@return moonpost.Selection
function Message:to(selector)
  local chosen = {}
  local all = recipients(self)
  if type(selector) == "string" and classes[selector] then
    for _, one in ipairs(all) do
      chosen[#chosen + 1] = one.class == selector and one or nil
    end
  elseif type(selector) == "function" then
    for _, one in ipairs(all) do
      chosen[#chosen + 1] = selector(one) and one or nil
    end
  elseif recipient.is(selector) then
    if selector._message ~= self then
      error(("message:to: %s is no recipient of this message"):format(selector.address), 2)
    end
    chosen[1] = selector
  elseif type(selector) == "string" then
    error(('message:to: "%s": "local" or "relay" expected%s'):format(selector, suggest.hint(selector, classes)), 2)
  else
    error(('message:to: "local", "relay", a recipient or a function expected, got a %s'):format(type(selector)), 2)
  end
  return setmetatable({ _message = self, _list = chosen }, Selection_mt)
end

--- Carries out the plans that have been written so far, now, and waits for their outcome.
---@async
---@return moonpost.Result[] rows one for each recipient
function Message:perform()
  check_open(self, "perform")
  return perform.now(self, recipients(self))
end

return M
