--- An MX for one domain: listed mailboxes, aliases, and subaddresses that are folders.
---
---     moonpost serve examples/mx.lua
---     swaks --server 127.0.0.1:2525 --to bob+lists@example.org
---
--- Mail for bob lies in ./mail/bob, a Maildir; mail for bob+lists in its folder .lists. In life it would listen on
--- smtp://0.0.0.0:25, have a certificate, and write below /var/mail.
local moonpost = require "moonpost"

local server = moonpost.server {
  hostname = "mx.example.org",
  listen = "smtp://127.0.0.1:2525",
  domains = "example.org",
  tls = "development",
}

local mailboxes = {
  alice = {},
  bob = { lists = true, receipts = true }, -- the folders that strangers may write to
}

local aliases = {
  postmaster = "alice@example.org", -- must be somebody (RFC 5321 4.5.1)
  abuse = "alice@example.org",
  team = { "alice@example.org", "bob@example.org" },
}

function server.on.rcpt(_, recipient)
  if recipient.class ~= "local" then
    return -- not our domain: refused, whatever we say
  end
  local alias = aliases[recipient.mailbox]
  if alias then
    recipient:rewrite(alias)
  elseif not mailboxes[recipient.mailbox] then
    return 550, "5.1.1", "No such mailbox"
  end
end

local function has_folder(recipient)
  local folders = mailboxes[recipient.mailbox]
  return folders and recipient.detail and folders[recipient.detail:lower()]
end

function server.on.message(_, message)
  message:deliver { maildir = "mail/%{mailbox}" }
  message:to(has_folder):deliver { maildir = "mail/%{mailbox}/.%{detail}" }
end

return server
