--- What stands in the place of the network on a worker without one: servers by address, for tests. On others nothing of this runs.
local task = require "moonpost.task"

local M = {}

local networks = setmetatable({}, { __mode = "k" }) -- by worker: { [address or path] = server }

--- Puts servers where a worker's connections find them.
---@param worker moonpost.core.worker
---@param servers table<string, table> by IP address or socket path
function M.install(worker, servers)
  networks[worker] = servers
end

--- Connects to the first of `list` that answers.
---@async
---@return moonpost.core.stream? stream
---@return integer|string which_or_why
---@return table|string? line_or_error
function M.dial(worker, target, list)
  local servers, whys = networks[worker] or {}, {}
  for i, at in ipairs(list) do
    local place = at.path or at.ip
    local server = servers[place]
    if server and not server.connect then
      local stream, wire = worker:memory_stream { ip = at.ip, port = at.port, unix = at.path ~= nil }
      local session = server:accept()
      session.tls = target.to.implicit
      return stream, i, { wire = wire, session = session, worker = worker, facts = server.tls }
    elseif server and server.connect == "timeout" then
      task.sleep(target.connect)
      whys[i] = place .. ": no answer"
    else
      whys[i] = place .. ": Connection refused"
    end
  end
  return nil, table.concat(whys, "; "), "SYSTEM"
end

--- TLS is believed from here on. What a session's facts would be: good, unless the server's `tls` says otherwise.
---@param client moonpost.Client
---@return table
function M.secured(client)
  local line = client._wire
  local facts = { version = "TLSv1.3", cipher = "TLS_AES_256_GCM_SHA384", verified = true, how = "names", resumed = false, names = {} }
  for name, value in pairs(type(line.facts) == "table" and line.facts or {}) do
    facts[name] = value
  end
  if not facts.verified then
    facts.how, facts.why = "none", facts.why or "self-signed certificate"
  end
  if not line.session.tls then
    line.session:tls_done()
  end
  return facts
end

local function act(line, action)
  if action.octets then
    line.wire:send(action.octets)
  end
  if action.close then
    line.wire:eof()
  end
end

--- Moves octets both ways until nothing moves without time passing.
---@param client moonpost.Client
function M.pump(client)
  local line = client._wire
  if not line or line.busy then
    return
  end
  line.busy = true
  local moved
  repeat
    moved = false
    local octets = line.wire:receive()
    if octets ~= "" then
      line.session:feed(octets)
      moved = true
    end
    local action = not line.waiting and line.session:take()
    if action and action.after > 0 then
      line.waiting = line.worker:timer(action.after, function()
        line.waiting = nil
        act(line, action)
        M.pump(client)
      end)
    elseif action then
      act(line, action)
      moved = true
    end
  until not moved
  line.busy = false
end

return M
