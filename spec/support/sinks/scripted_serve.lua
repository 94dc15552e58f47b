--- The server of scripted.lua, one connection after the other. Replies and checks are those of curl's test server: addresses
--- must be plain ASCII mailboxes with a top-level domain, unless SMTPUTF8 is announced.
local json = require "dkjson"
local socket = require "socket"

local ask = json.decode(arg[1])

local function mailbox(path, utf8)
  local pattern = utf8 and "^<[%w._%%+\x80-\xff-]+@[%w.\x80-\xff-]+%.[%a\x80-\xff][%a\x80-\xff]+>$"
    or "^<[%w._%%+-]+@[%w.-]+%.%a%a+>$"
  return path == "<>" or path:find(pattern) ~= nil
end

local usual = {}

local function hello(extended)
  local lines = { "localhost at your service" }
  if extended then
    for capability in ask.capabilities:gmatch("[^\n]+") do
      lines[#lines + 1] = capability
    end
    if ask.mechanisms ~= "" then
      lines[#lines + 1] = "AUTH " .. ask.mechanisms
    end
  end
  for i, line in ipairs(lines) do
    lines[i] = (i < #lines and "250-" or "250 ") .. line
  end
  return table.concat(lines, "\r\n")
end

local utf8_known = ("\n" .. ask.capabilities .. "\n"):find("\nSMTPUTF8\n", 1, true) ~= nil

function usual.EHLO()
  return hello(true)
end

function usual.HELO()
  return hello(false)
end

function usual.MAIL(rest)
  return mailbox(rest:match("^FROM:(%S*)") or "", utf8_known) and "250 Sender OK" or "501 Invalid address"
end

function usual.RCPT(rest)
  local path = rest:match("^TO:(%S*)") or ""
  return path ~= "<>" and mailbox(path, utf8_known) and "250 Recipient OK" or "501 Invalid address"
end

local function told()
  return ask.data ~= "" and ask.data:gsub("\r\n$", "") or nil
end

function usual.VRFY(rest)
  if rest:find("[\x80-\xff]") and not utf8_known then
    return "501 Invalid address"
  end
  return told() or "252 I'll try to deliver it"
end

function usual.EXPN()
  return told() or "550 No such list"
end

function usual.HELP()
  return told() or "214 Ask somebody else"
end

local function constant(reply)
  return function()
    return reply
  end
end

usual.RSET, usual.NOOP, usual.QUIT = constant "250 Resetting", constant "250 OK", constant "221 bye"
usual.DATA = constant "354 Show me the mail"

local function body(peer)
  local lines = {}
  repeat
    local line = peer:receive("*l")
    lines[#lines + 1] = line
  until not line or line == "."
  return table.concat(lines, "\r\n") .. "\r\n"
end

--- The command lines that one line of the peer stands for, in the form that the script knows; asks for the rest of AUTH.
local function parted(peer, line)
  local mechanism, initial = line:match("^(AUTH %S+) ?(.*)$")
  if not mechanism then
    return { line }
  end
  local challenged = (ask.commands.AUTH or ask.commands[mechanism] or ""):find("^334") ~= nil
  if initial == "" and ask.initial then
    peer:send("334 \r\n")
    return { mechanism .. " " .. (peer:receive("*l") or "") }
  elseif initial ~= "" and not ask.initial and challenged then
    return { mechanism, initial }
  end
  return { line }
end

local function serve(peer)
  local heard = { lines = {} }
  peer:send("220 localhost ESMTP\r\n")
  local open = true
  while open do
    local line = peer:receive("*l")
    if not line then
      break
    end
    local reply
    for _, one in ipairs(parted(peer, line)) do
      table.insert(heard.lines, one)
      local verb, rest = one:match("^(%S+) ?(.*)$")
      verb = verb or ""
      local known = usual[verb:upper()]
      reply = ask.commands[one] or ask.commands[one:match("^AUTH %S+") or ""] or ask.commands[verb]
        or ask.commands[verb:upper()] or (known and known(rest)) or "500 Unrecognized command"
    end
    peer:send(reply .. "\r\n")
    if reply:find("^354") and line == "DATA" then
      heard.upload = body(peer)
      peer:send("250 OK, data received!\r\n")
    end
    open = not line:upper():find("^QUIT")
  end
  peer:close()
  print(json.encode { lines = setmetatable(heard.lines, { __jsontype = "array" }), upload = heard.upload })
end

io.stdout:setvbuf("line")
local listener = assert(socket.bind("127.0.0.1", ask.port))
print("listening " .. select(2, listener:getsockname()))
while true do
  local peer = listener:accept()
  peer:settimeout(60)
  serve(peer)
end
