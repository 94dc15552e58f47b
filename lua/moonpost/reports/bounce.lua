--- Bounces in no form that a program was meant to read: those of qmail, Exim, old Sendmails and others that write for people. A guess.
local dsn = require "moonpost.reports.dsn"
local trim = require "moonpost.trim"

local M = {}

local TEXT_MOST = 256 << 10 -- octets that are looked through
local RECIPIENTS_MOST = 1000
local REASON_LINES = 6
local LINE_MOST = 1000 -- octets of a line that are looked at (RFC 5322 2.1.1)
local HEADER_MOST = 20000 -- of X-Failed-Recipients

local senders = { "^mailer%-daemon", "^postmaster", "^mail%-daemon", "^maildaemon" }
local subjects = {
  "undeliver", "returned mail", "delivery fail", "failure notice", "delivery status", "mail delivery", "delivery notification",
  "non%-delivery", "delayed mail", "warning: message",
  "could not be delivered", "delivery problem", "delivery report", "returned to sender", "mail system error",
}

-- What says that the lines behind an address, or before it, are a reason and not a conversation.
local complaints = {
  "unknown", "not found", "does not exist", "doesn't exist", "no such", "rejected", "refused", "denied", "quota", "full", "disabled",
  "unavailable", "could not", "couldn't", "cannot", "can't", "failed", "failure", "timed out", "error", "expired", "undeliverable", "blocked",
  "not listed", "not allowed", "permanent", "too large", "exceed", "unrouteable",
}

local function has(text, list)
  text = text:lower()
  for _, pattern in ipairs(list) do
    if text:find(pattern) then
      return true
    end
  end
  return false
end

-- Whether a program of the mail system wrote this: it comes from nobody, and says that something failed.
local function is_bounce(headers)
  local from = headers:addresses "From"
  local address = from and from[1] and from[1].address or headers:get "From" or ""
  local path = (headers:get "Return-Path" or ""):match "^%s*<(.-)>"
  local automatic = (headers:get "Auto-Submitted" or ""):lower():find "^auto%-" ~= nil
  local machine = path == "" or automatic or has(address:gsub("^%s*<?", ""), senders)
  return headers:get "X-Failed-Recipients" ~= nil or machine and has(headers:get "Subject" or "", subjects)
end

local ADDRESS = "[%w!#$%%&'*+/=?^_`{|}~.\x80-\xff-]+@[%w.\x80-\xff-]*[%w\x80-\xff]"

local function add(list, known, address, reason)
  local key = address:lower()
  local one = known[key]
  if not one and #list < RECIPIENTS_MOST then
    one = { address = address, action = "failed" }
    known[key], list[#list + 1] = one, one
  end
  if one and not one.diagnostic and reason and reason ~= "" then
    one.diagnostic, one.status, one.code = reason, dsn.status(reason), dsn.code(reason)
    local class = one.status and one.status:sub(1, 1) or one.code and tostring(one.code):sub(1, 1)
    one.action = class == "4" and "delayed" or "failed"
  end
end

-- The lines of the paragraph that `at` is in, from there on.
local function paragraph(lines, at)
  local list = {}
  for i = at, math.min(at + REASON_LINES, #lines) do
    if lines[i]:find "^%s*$" then
      break
    end
    list[#list + 1] = trim(lines[i])
  end
  return table.concat(list, " ")
end

-- Where the message that came back begins.
local function is_copy(line)
  return line:find "^%-%-%-+ .*[Mm]essage" or line:find "^%-%-%- Below this line" or line:find "^%-%-%-+ This is a copy"
    or line:find "[Oo]riginal message follows" or line:find "^Return%-[Pp]ath:" or line:find "^Received:"
end

local function lines_of(text)
  local lines = {}
  for line in (text:gsub("\r", "") .. "\n"):gmatch "([^\n]*)\n" do
    if is_copy(line) then
      break
    end
    lines[#lines + 1] = line:sub(1, LINE_MOST)
  end
  return lines
end

-- An address at the beginning of a line, and the reason: behind a colon, or in what follows.
local function scan(lines, list, known)
  for i, line in ipairs(lines) do
    local address, rest = line:match("^[%s>]*<?(" .. ADDRESS .. ")>?%s*(.*)$")
    if address then
      rest = rest:gsub("^%b()", ""):gsub("^[:.%s]+", "")
      local reason = trim(rest .. " " .. paragraph(lines, i + 1))
      if has(reason, complaints) or dsn.code(reason) or dsn.status(reason) then
        add(list, known, address, reason)
      end
    end
  end
end

-- An address in a sentence that complains, where no line began with one.
local function scan_sentences(lines, list, known)
  for i, line in ipairs(lines) do
    local address = line:match("<(" .. ADDRESS .. ")>") or line:match("%f[%w](" .. ADDRESS .. ")")
    if address and has(line, complaints) then
      add(list, known, address, paragraph(lines, i))
    end
  end
end

-- The text that people are shown; of a multipart whose parts are not there, all of it.
local function text_of(tree)
  local text = tree:text()
  if text then
    return text:sub(1, TEXT_MOST)
  end
  local list, size = {}, 0
  for octets in tree.root:raw() do
    list[#list + 1], size = octets, size + #octets
    if size >= TEXT_MOST then
      break
    end
  end
  return table.concat(list):sub(1, TEXT_MOST)
end

-- The groups of a report for programs that lost its part of the message.
local function astray(lines)
  for i, line in ipairs(lines) do
    if line:find "^Reporting%-MTA:" or line:find "^Final%-Recipient:" then
      local report = dsn.parse(table.concat(lines, "\n", i))
      return report.recipients[1] and report or nil
    end
  end
end

--- Guesses what a bounce says.
---@param tree moonpost.mime.Tree
---@return table? report `guessed`; nil when it is none
function M.read(tree)
  local headers = tree.root.headers
  if not is_bounce(headers) then
    return nil
  end
  local list, known = {}, {}
  local lines = lines_of(text_of(tree))
  local report = astray(lines)
  if report then
    report.guessed = true
    return report
  end
  scan(lines, list, known)
  for word in (headers:get "X-Failed-Recipients" or ""):sub(1, HEADER_MOST):gmatch "[^%s,;<>]+" do
    if word:find("^" .. ADDRESS .. "$") then
      add(list, known, word, nil)
    end
  end
  if not list[1] then
    scan_sentences(lines, list, known)
  end
  if not list[1] then
    return nil
  end
  return { kind = "dsn", guessed = true, recipients = list }
end

return M
