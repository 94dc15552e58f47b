--- A notifier: runs a command, and mails what it said when it fails. All well is no mail. For crontabs.
---
---     NOTIFY_TO=you@example.net lua5.4 examples/notifier.lua rsync -a /home backup:/home
---
--- NOTIFY_TO     who hears of it; several with commas between them
--- NOTIFY_FROM   in whose name; notifier@ this machine when left out
--- NOTIFY_VIA    the server that takes it, "submission://me:secret@smtp.example.org"; mail exchangers when left out
---
--- The exit status is that of the command. A notice that could not be sent is written to standard error.
local moonpost = require "moonpost"

local KEPT = 50000 -- octets of output, the last ones: that is where errors are

local to = {}
for address in (os.getenv "NOTIFY_TO" or ""):gmatch "[^,%s]+" do
  to[#to + 1] = address
end
if not (to[1] and arg[1]) then
  io.stderr:write "usage: NOTIFY_TO=ADDRESS[,ADDRESS]... notifier.lua COMMAND [ARGUMENT...]\n"
  os.exit(64)
end

local function first_line(path)
  local file <close> = io.open(path)
  return file and file:read "l"
end

local function quote(word) -- for the shell
  return "'" .. word:gsub("'", [['\'']]) .. "'"
end

local words = {}
for i, word in ipairs(arg) do
  words[i] = quote(word)
end

local began = os.time()
local command = assert(io.popen("exec " .. table.concat(words, " ") .. " 2>&1", "r"))
local said = ""
for chunk in command:lines(8192) do
  said = (said .. chunk):sub(-KEPT)
end
local ok, how, status = command:close()
if ok then
  os.exit(0)
end

if not utf8.len(said) then -- what is cut, or no text at all
  said = said:gsub("[\x80-\xff]", "?")
end
local host = first_line "/proc/sys/kernel/hostname" or "localhost"
local what = how == "signal" and "was ended by signal" or "failed with status"
local subject = ("%s: %s %s %d"):format(host, arg[1], what, status):gsub("%c", "?")
local text = ("%s\n%s %d after %d s. It said:\n\n%s"):format(table.concat(arg, " "), what, status, os.time() - began, said)

local result, err = moonpost.send {
  from = os.getenv "NOTIFY_FROM" or "notifier@" .. host,
  to = to, via = os.getenv "NOTIFY_VIA",
  subject = subject, text = text, headers = { "Auto-Submitted: auto-generated" }, -- nobody's holiday reply is wanted (RFC 3834)
}
for _, row in ipairs((result or err).recipients) do
  if not row.ok then
    io.stderr:write(("notifier: %s: %s\n"):format(row.address, row.reply))
  end
end
if err then
  io.stderr:write(subject, "\n", text, "\n")
end
os.exit(how == "signal" and 128 + status or status)
