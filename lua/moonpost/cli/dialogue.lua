--- What `moonpost send -v` shows: the dialogue line by line, "> " what we said, "< " what the peer said, "* " what is to be
--- known about it. Secrets arrive as stars; of a body there is a count.
local M = {}

local LINE_MOST = 2000 -- octets held back for the end of a line

local marks = { sent = "> ", received = "< " }

local function escape(char)
  return ("\\x%02x"):format(char:byte())
end

--- Text of a peer as a terminal may get it: one line that shows what is in it and obeys nothing.
---@param text string
---@return string
function M.clean(text)
  text = text:gsub("%c", escape)
  if not utf8.len(text) then
    return (text:gsub("[\x80-\xff]", escape))
  end
  return (text:gsub("\xc2[\x80-\x9f]", function(control)
    return control:gsub(".", escape)
  end))
end

local function name_of(client)
  return client.ip and client.ip ~= client.host and ("%s [%s]"):format(client.host, client.ip) or client.host
end

--- One line about the TLS of a connection.
---@param tls table as in a row of moonpost.send
---@return string
function M.tls(tls)
  if not tls.used then
    return ("in clear (%s)"):format(tls.why or tls.policy or "TLS is not used")
  end
  local known = tls.verified and "verified" or "not verified" .. (tls.why and ": " .. tls.why or "")
  return ("%s, %s"):format(tls.version or "TLS", known)
end

local function flush(state, direction)
  local rest = state.partial[direction]
  if rest ~= "" then
    state.partial[direction] = ""
    state.write(marks[direction] .. M.clean(rest))
  end
end

local function flush_body(state)
  if state.body > 0 then
    state.write(("> [%d octets of the message]"):format(state.body))
    state.body = 0
  end
end

-- Whole lines of one direction; what is not whole yet waits for the rest, a secret's stars among it.
local function take(state, direction, octets)
  local text = state.partial[direction] .. octets
  local from = 1
  for line, after in text:gmatch("([^\n]*)\n()") do
    state.write(marks[direction] .. M.clean((line:gsub("\r$", ""))))
    from = after
  end
  state.partial[direction] = text:sub(from)
  if #state.partial[direction] > LINE_MOST then
    flush(state, direction)
  end
end

--- A `trace` that writes. Connections that speak at the same time are told apart by a line wherever another one goes on.
---@param write fun(line: string)
---@return fun(direction: "sent"|"received", octets: string, body: integer, client: table) trace
---@return fun() finish writes what is still held back
function M.new(write)
  local states, current = setmetatable({}, { __mode = "k" }), nil

  local function turn(client)
    local state = states[client]
    local fresh = not state
    if fresh then
      state = { partial = { sent = "", received = "" }, body = 0, tls = nil, write = write }
      states[client] = state
    end
    if current ~= state then
      if current then
        flush_body(current)
      end
      write(("* %s %s"):format(name_of(client), fresh and "is connected" or "goes on"))
      current = state
    end
    return state
  end

  local function trace(direction, octets, body, client)
    local state = turn(client)
    if client.tls and client.tls ~= state.tls then
      state.tls = client.tls
      write("* " .. M.clean(M.tls(client.tls)))
    end
    if body > 0 then
      state.body = state.body + body
      return
    end
    flush_body(state)
    take(state, direction, octets)
  end

  local function finish()
    for _, state in pairs(states) do
      flush_body(state)
      flush(state, "sent")
      flush(state, "received")
    end
  end

  return trace, finish
end

return M
