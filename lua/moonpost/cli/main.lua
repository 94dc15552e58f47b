--- `moonpost COMMAND ...`. Exit status: 0 fine, 1 a policy, a start or the work failed, 2 the command line is wrong; a command
--- that mail programs start has those of sysexits(3), and says so by `misuse`.
local arguments = require "moonpost.cli.arguments"
local core = require "moonpost.core"
local suggest = require "moonpost.suggest"

local M = {}

local commands = { "serve", "check", "send", "queue", "passwd" }

local usage = [[
usage: moonpost COMMAND [ARGUMENT...]

  serve POLICY.lua      serve mail as the policy says, until SIGTERM or SIGINT; SIGHUP loads the policy anew
  check POLICY.lua      load a policy, say what is wrong with it or what it comes to
  send ...              send a message, and say what became of it for each recipient
  queue COMMAND         look into a queue, and change it, whether a server runs or not
  passwd [USER]         turn a password into a line for a file of users
  help [COMMAND]        this text, or all about a command

  --version, --help

A policy is a Lua file that returns a server:

  local moonpost = require "moonpost"
  local server = moonpost.server {
    listen  = { "smtp://127.0.0.1:2525" },
    domains = { "example.org" },
  }
  function server.on.message(session, message)
    message:deliver { maildir = "mail/%{mailbox}" }
  end
  return server
]]

local function command_of(name)
  for _, known in ipairs(commands) do
    if known == name then
      return require("moonpost.cli." .. name)
    end
  end
end

local function complain(text, hint, status)
  io.stderr:write(("moonpost: %s\n%s"):format(text, hint and hint .. "\n" or ""))
  return status or 2
end

local function help_of(command)
  return ("usage: moonpost %s\n\n%s\n\n%s\n"):format(command.usage, command.help, arguments.describe(command.options))
end

local function help(name)
  if not name then
    io.stdout:write(usage)
    return 0
  end
  local command = command_of(name)
  if not command then
    return complain(("there is no command %q%s"):format(name, suggest.hint(name, commands)))
  end
  io.stdout:write(help_of(command))
  return 0
end

--- Runs a command line.
---@param args string[]
---@return integer code exit status
function M.run(args)
  local name = args[1]
  local rest = table.move(args, 2, #args, 1, {})
  if not name then
    io.stderr:write(usage)
    return 2
  elseif name == "--version" or name == "version" then
    print("moonpost " .. core.VERSION)
    return 0
  elseif name == "--help" or name == "-h" then
    return help()
  elseif name == "help" then
    return help(rest[1])
  end
  local command = command_of(name)
  if not command then
    local what = name:find("^%-") and "unknown option" or "there is no command"
    local known = { "serve", "check", "send", "queue", "passwd", "help", "--version", "--help" }
    return complain(("%s %q%s"):format(what, name, suggest.hint(name, known)), "`moonpost help` lists the commands")
  end
  local values, why = arguments.parse(rest, command)
  if not values then
    local hint = ("usage: moonpost %s\n`moonpost help %s` explains"):format(command.usage, name)
    return complain(("%s: %s"):format(name, why), hint, command.misuse)
  elseif values.help then
    return help(name)
  end
  return command.run(values)
end

return M
