--- A mailing list. Members write to gardeners@lists.example.org, and everybody else who is on it gets a message of their own:
---
--- - its return address names the member (VERP), so that a bounce says by itself whom it is about; it is signed, so that nobody can forge one. Who
---   bounces five times in a fortnight gets nothing for the rest of it;
--- - From becomes the list's where the author's domain asks for that by DMARC, for the list changes the subject, which breaks the author's signature;
--- - List- fields (RFC 2369, RFC 2919) say where it came from and how to leave;
--- - it is signed (DKIM) and sealed (ARC) with what was found out about the author.
---
---     openssl genpkey -algorithm ed25519 -out list.pem
---     LIST_KEY=list.pem LIST_SECRET=$(openssl rand -hex 16) moonpost serve examples/list.lua
---
--- At its start it says which record belongs into the DNS. It has to be the MX of its domain, for bounces come back to it.
local moonpost = require "moonpost"

local DOMAIN, SELECTOR = "lists.example.org", "list"
local BOUNCES, MEMORY = 5, "14d"

local key = assert(moonpost.dkim.key(os.getenv "LIST_KEY" or "list.pem"))
local secret = assert(os.getenv "LIST_SECRET", "LIST_SECRET is needed: sixteen characters or more")
moonpost.log.info("publish", { name = SELECTOR .. "._domainkey." .. DOMAIN, record = key:record() })

local lists = {
  gardeners = { title = "Gardeners", members = { "ann@example.net", "bob@example.com", "cat@example.com" } },
}

for name, list in pairs(lists) do
  list.name, list.address = name, ("%s@%s"):format(name, DOMAIN)
  list.on = {} -- it, by address
  for _, member in ipairs(list.members) do
    list.on[member:lower()] = member
  end
  list.returns = moonpost.srs { domain = DOMAIN, secrets = name .. secret } -- a list takes no bounce of another
end

local outbound = moonpost.queue { spool = "spool", route = os.getenv "NEXT" or "mx" }

local server = moonpost.server {
  hostname = DOMAIN,
  listen = "smtp://127.0.0.1:2525",
  domains = DOMAIN,
  queue = outbound,
  tls = "development",
  limits = { size = "1MB" },
}

local bounced = moonpost.shared "list-bounces" -- member: how often
local served = moonpost.shared "list-served" -- message and member: so that a second try sends nothing twice

-- ---- who is written to -------------------------------------------------------------------------------------------------

-- The list and the member that a return address is about.
local function returned(recipient)
  for _, list in pairs(lists) do
    local member = list.returns:reverse(recipient.address)
    if member then
      return list, member
    end
  end
end

function server.on.rcpt(_, recipient)
  if recipient.class == "local" and recipient.mailbox ~= "postmaster" and not lists[recipient.mailbox] and not returned(recipient) then
    return 550, "5.1.1", "No such list"
  end
end

-- ---- bounces -----------------------------------------------------------------------------------------------------------

-- One that says "delayed" is none (RFC 3464 2.3.3), nor is an answer of somebody on holiday, which has no sender either.
local function is_failure(message)
  local report = moonpost.reports.read(message)
  for _, one in ipairs(report and report.kind == "dsn" and report.recipients or {}) do
    if one.action == "failed" or report.guessed and not one.action then
      return true
    end
  end
  return false
end

local function count_bounce(list, member, message)
  if message.sender.address ~= "" or not list.on[member:lower()] or not is_failure(message) then
    return
  end
  local times = bounced:incr(list.name .. " " .. member:lower(), 1, MEMORY)
  moonpost.log.info("bounced", { list = list.name, member = member, times = times })
end

-- ---- letters to the list -----------------------------------------------------------------------------------------------

local function author(message)
  local list = message.headers:addresses "From"
  return list and list[1] or {}
end

-- A name in front of an address: as it came when it is one encoded word (RFC 2047), else in quotes, else the local part.
local function shown(message, one)
  local encoded = (message.headers:raw "From" or ""):match "^%s*(=%?[!-~]+%?=)%s*<"
  local name = one.name and one.name ~= "" and not one.name:find "[^ -~]" and one.name or one.address:match "^[^@]*"
  return encoded or ('"%s"'):format((name:gsub('[\\"]', "")))
end

-- Where DMARC would have the message refused, for the list is not the author's domain.
local function rewrite_author(list, message, found)
  if found.dmarc.policy == "none" then
    return
  end
  local one = author(message)
  if not message.headers["Reply-To"] then
    message:append("Reply-To", one.address)
  end
  message:replace("X-Original-From", one.address)
  message:replace("From", ("%s via %s <%s>"):format(shown(message, one), list.title, list.address))
end

local function dress(list, message, found)
  rewrite_author(list, message, found)
  local subject, tag = message.headers.subject or "", ("[%s]"):format(list.title)
  if not subject:find(tag, 1, true) then
    message:replace("Subject", ("%s %s"):format(tag, subject))
  end
  for _, name in ipairs { "List-Unsubscribe", "List-Unsubscribe-Post", "List-Help", "List-Subscribe", "List-Owner", "List-Archive" } do
    message:remove(name) -- another list's
  end
  message:replace("List-Id", ("%s <%s.%s>"):format(list.title, list.name, DOMAIN))
  message:replace("List-Post", ("<mailto:%s>"):format(list.address))
  message:replace("List-Unsubscribe", ("<mailto:postmaster@%s?subject=leave%%20%s>"):format(DOMAIN, list.name))
  message:replace("Precedence", "list")
  local sealing = { domain = DOMAIN, selector = SELECTOR, key = key }
  assert(moonpost.dkim.sign(message, sealing))
  sealing.results, sealing.chain = found.header, found.arc
  assert(moonpost.arc.seal(message, sealing))
end

-- To every member who is not away. Returns whether all of it is in the queue.
local function send(list, message)
  local id, all = message.headers["Message-ID"] or message.id, true
  local octets = assert(message:octets())
  for _, member in ipairs(list.members) do
    local away = (bounced:get(list.name .. " " .. member:lower()) or 0) >= BOUNCES
    local mark = ("%s %s %s"):format(list.name, member, id):sub(1, 500)
    if not away and not served:get(mark) then
      local back, err = list.returns:forward(member)
      local kept = back and outbound:send { sender = back, to = member, message = octets }
      if kept then
        served:set(mark, true, "7d")
      else
        moonpost.log.error("cannot be sent", { list = list.name, member = member, error = tostring(err) })
        all = all and not back -- an address that is too long will not get shorter
      end
    end
  end
  return all
end

local function why_not(list, message)
  local auto = message.headers["Auto-Submitted"] or "no"
  if (message.headers["List-Id"] or ""):find(("<%s.%s>"):format(list.name, DOMAIN), 1, true) or auto:lower() ~= "no" then
    return "5.4.6", "A list takes no letters of machines" -- its own among them
  elseif not list.on[(author(message).address or ""):lower()] then
    return "5.7.2", "Only members write to this list"
  end
end

-- ---- the policy --------------------------------------------------------------------------------------------------------

server:use(require "moonpost.plugins.auth" { enforce = true, quarantine = "reject" }) -- members are who they say they are

function server.on.message(_, message)
  local found = message.meta.auth
  message:to(function(one) return one.mailbox == "postmaster" end):deliver { maildir = "mail/postmaster" }
  local mine = {} -- the lists among the recipients
  for _, recipient in ipairs(message.recipients) do
    local list, bounce, member = lists[recipient.mailbox], returned(recipient)
    if bounce then
      count_bounce(bounce, member, message)
      message:to(recipient):discard "a bounce"
    elseif list then
      local enhanced, text = why_not(list, message)
      if enhanced then
        message:to(recipient):refuse(550, enhanced, text)
      else
        mine[#mine + 1] = { list, recipient }
      end
    end
  end
  if mine[2] then
    return 550, "5.5.3", "One list at a time, please"
  elseif mine[1] then
    local list, recipient = table.unpack(mine[1])
    if not found then
      return 550, "5.7.1", "Letters to lists come from outside"
    end
    dress(list, message, found)
    if not send(list, message) then
      return 451, "4.3.0", "Not everybody could be written to, please try again"
    end
    message:to(recipient):discard "sent to the members"
  end
end

return server
