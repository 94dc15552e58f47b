--- What `route` answers, checked: where a delivery goes next.
---
---     "mx"                                             by the domain's mail exchangers
---     "smtp://user:secret@relay.example.net:587"       a smarthost, an LMTP server, a unix socket
---     { "mx", tls = "required", source = ... }         either of them with options of moonpost.connect
---     { url = "lmtp://unix:/run/lists.sock", ... }
---     { maildir = "/var/mail/%{mailbox}" }             a Maildir, or { file = ... }, { pipe = { "/usr/bin/procmail" } }: as of message:deliver
---     "maildir:/var/mail/%{mailbox}"                   the same
---     function(delivery) ... end                       a function of Lua, which answers like a hook: nothing = delivered
---     "lua:name"                                       the same, one of the queue's `routes`
---     550, "5.1.1", "No such mailbox"                  a bounce; 4xx: later
local client_options = require "moonpost.client_options"
local deposit = require "moonpost.queue.deposit"
local destination = require "moonpost.destination"
local identity = require "moonpost.identity"
local options_of = require "moonpost.options"
local reply_of = require "moonpost.reply"
local suggest = require "moonpost.suggest"

local M = {}

local KEPT_MOST = 4096 -- hops that are known again by what they say

---@class moonpost.queue.Hop
---@field kind "mx"|"to"|"call"|"reply"
---@field key string equal where they say the same
---@field show string for people, without credentials
---@field settings? table of connections
---@field call? function
---@field patient? boolean `call_time` does not end it
---@field reply? moonpost.Reply

local function connection(queue, options, key)
  local by_mx = options[1]
  local given = {}
  for name, value in pairs(options) do
    if name ~= 1 then
      given[name] = value
    end
  end
  if by_mx ~= nil and by_mx ~= "mx" then
    return nil, ('the first of a table is "mx", or nothing beside url; not %s'):format(type(by_mx) == "string" and '"' .. by_mx .. '"'
      or type(by_mx))
  end
  given.helo = given.helo or queue.hostname
  given.dns = given.dns or queue.dns
  local settings, why = client_options.settings(given, "route")
  if not settings then
    return nil, why
  elseif by_mx and settings.to then
    return nil, '"mx", or a URL; not both'
  elseif not by_mx and not settings.to then
    return nil, 'url = "smtp://...", or "mx" as the first of the table is needed'
  end
  settings.mtasts = nil
  return {
    kind = settings.to and "to" or "mx", key = key, settings = settings, show = settings.to and destination.show(settings.to) or "mx",
  }
end

local function named(queue, text)
  local name = text:sub(5)
  local call = queue.routes[name]
  if not call then
    return nil, ('"%s": there is no such function among `routes`%s'):format(text, suggest.hint(name, queue.routes))
  end
  return { kind = "call", key = text, show = text, call = call }
end

local function deposited(queue, options, key)
  local call, show = deposit.call(queue, options)
  if not call then
    return nil, show
  end
  return { kind = "call", key = key, show = show, call = call, patient = true } -- it has an end of its own, and is not to be left half way
end

local function make(queue, answer, key)
  if answer == "mx" then
    return connection(queue, { "mx" }, key)
  elseif type(answer) == "string" and answer:find("^lua:") then
    return named(queue, answer)
  elseif type(answer) == "string" and answer:find("^maildir:") then
    return deposited(queue, { maildir = answer:sub(9) }, key)
  elseif type(answer) == "table" and (answer.maildir ~= nil or answer.file ~= nil or answer.pipe ~= nil) then
    return deposited(queue, answer, key)
  elseif type(answer) == "string" then
    return connection(queue, { url = answer }, key)
  elseif type(answer) == "function" then
    return { kind = "call", key = key, show = options_of.place_of(answer), call = answer }
  end
  return connection(queue, answer, key)
end

--- Reads what the function `route` returned.
---@param queue table hostname, dns, routes, and `hops`, where what it makes is kept
---@return moonpost.queue.Hop? hop
---@return string? why
function M.read(queue, answer, enhanced, text)
  if type(answer) == "number" then
    local code, checked, words = reply_of.normal(answer, enhanced, text)
    if not code then
      return nil, checked
    elseif code < 400 then
      return nil, ("%d refuses nothing: a 4xx or 5xx code is needed"):format(code)
    end
    return { kind = "reply", key = "reply", show = "reply", reply = reply_of.heard(code, checked, words) }
  elseif type(answer) ~= "string" and type(answer) ~= "table" and type(answer) ~= "function" then
    return nil, ('"mx", a URL, a table, a function or a reply expected, got %s'):format(answer == nil and "nothing" or "a " .. type(answer))
  end
  local key = type(answer) == "string" and answer or identity(answer)
  local hops = queue.hops
  if hops.by_key[key] then
    return hops.by_key[key]
  end
  local hop, why = make(queue, answer, key)
  if not hop then
    return nil, why
  elseif hops.count >= KEPT_MOST then
    hops.by_key, hops.count = {}, 0
  end
  hops.by_key[key], hops.count = hop, hops.count + 1
  return hop
end

return M
