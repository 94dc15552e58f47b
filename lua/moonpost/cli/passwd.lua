--- moonpost passwd: a password as what a file of users keeps of it.
local core = require "moonpost.core"

local M = {}

M.usage = "passwd [--scheme SCHEME] [USER]"
M.help = [[
Asks for a password (on the terminal, twice; else the first line of standard input) and prints what a server needs to
know of it: a salted hash from which the password cannot be read back, and with which PLAIN, LOGIN and SCRAM work. With
USER the line is "USER:HASH"; append it to the file that your policy reads.]]

local schemes = { ["scram-sha-256"] = "SCRAM-SHA-256", ["scram-sha-1"] = "SCRAM-SHA-1" }

M.options = {
  {
    name = "scheme", value = "SCHEME", doc = "scram-sha-256 (the default) or scram-sha-1",
    parse = function(text)
      return schemes[text:lower()], "scram-sha-256 or scram-sha-1"
    end,
  },
}
M.operands = { "USER?" }

local function ask()
  local first, why = core.read_secret("Password: ")
  if first == false then -- no terminal
    local line = io.read("l")
    return line and line:gsub("\r$", ""), "standard input is empty"
  elseif first and first ~= core.read_secret("Once more: ") then
    return nil, "these were two different passwords"
  end
  return first, why
end

local function complain(why)
  io.stderr:write("moonpost: passwd: ", why, "\n")
  return 1
end

function M.run(args)
  if args.USER and args.USER:find("[:%c%s]") then
    return complain("a user name has no colon and no white space")
  end
  local password, why = ask()
  if not password then
    return complain(why)
  end
  local hash
  hash, why = core.password(args.scheme or "SCRAM-SHA-256", password)
  if not hash then
    return complain(why)
  end
  print(args.USER and args.USER .. ":" .. hash or hash)
  return 0
end

return M
