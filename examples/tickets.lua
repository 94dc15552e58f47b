--- Ticket intake: mail to support@ goes to a program, with the ticket's number as its argument. A new ticket's number is
--- put into the subject, "[#T01234] The printer is on fire"; an answer that has it in its subject belongs to that ticket.
---
---     moonpost serve examples/tickets.lua
---     swaks --server 127.0.0.1:2525 --to support@example.org --header "Subject: The printer is on fire"
---
--- The program here is examples/intake.sh, which keeps a folder for each ticket in ./tickets. It says how it went by its
--- exit status (sysexits.h): 0 it has the mail, 75 try again later, 65 and 67 the mail goes back to its sender.
local moonpost = require "moonpost"

local path = ... -- of this file
local here = os.getenv "PWD" or "."
local folder = path and path:match("^(.*)/") or "."
if folder:sub(1, 1) ~= "/" then
  folder = here .. "/" .. folder -- programs are started in /
end

local server = moonpost.server {
  hostname = "tickets.example.org",
  listen = "smtp://127.0.0.1:2525",
  domains = "example.org",
  limits = { size = "10MB" },
}

function server.on.rcpt(_, recipient)
  if recipient.class == "local" and recipient.mailbox ~= "support" then
    return 550, "5.1.1", "Write to support@example.org"
  end
end

local function ticket_of(message)
  local subject = message.headers.subject or "(no subject)"
  local known = subject:match("%[#(T%w+)%]")
  if known and #known <= 32 then
    return known
  end
  local new = "T" .. message.id
  message:replace("Subject", ("[#%s] %s"):format(new, subject))
  return new
end

function server.on.message(_, message)
  local automatic = message.headers["auto-submitted"] or "no"
  if automatic:lower() ~= "no" then -- "I am on holiday" opens no ticket, and starts no endless conversation (RFC 3834)
    message:discard("automatic reply")
    return
  end
  message:deliver {
    pipe = { "/bin/sh", folder .. "/intake.sh", ticket_of(message) },
    env = { TICKETS = here .. "/tickets" },
    timeout = "30s",
  }
end

return server
