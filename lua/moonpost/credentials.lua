--- The hooks that decide who somebody is: `credentials` (what is known of a user), `auth` (is this the password) and
--- `token`. A fault here is 454, so that a client keeps its password and tries again.
local core = require "moonpost.core"
local log = require "moonpost.log"
local suggest = require "moonpost.suggest"
local verdict = require "moonpost.verdict"

local M = {}

local known = { password = true, hash = true, scram = true, senders = true }

--- The addresses that a user may send as. What is not said: the user's name, when it is an address; else that name at
--- each of our domains; any, when every domain is ours.
---@param senders any string, list of strings or nil
---@param user string
---@param house table
---@return string[]? list
---@return string? why
function M.senders(senders, user, house)
  if senders == nil then
    if user:find("@", 2, true) then
      return { user }
    end
    local list = { user .. "@" .. house.hostname }
    for _, domain in ipairs(house.domains) do
      if domain == "*" then
        return { "*" }
      elseif domain:sub(1, 1) ~= "." then
        list[#list + 1] = user .. "@" .. domain
      end
    end
    return list
  elseif type(senders) == "string" then
    senders = { senders }
  elseif type(senders) ~= "table" then
    return nil, ("senders: a list of addresses expected, got a %s"):format(type(senders))
  end
  local list = {}
  for i, item in ipairs(senders) do
    if type(item) ~= "string" or not (item == "*" or item:find("^@[^@%s%c]+$") or core.mailbox(item, true)) then
      return nil, ('senders: %s: "a@b", "@domain" or "*" expected'):format(tostring(item))
    end
    list[i] = item
  end
  return list
end

local function strings(from, to)
  for _, name in ipairs { "password", "hash" } do
    if from[name] ~= nil and type(from[name]) ~= "string" then
      return ("%s is a %s, not a string"):format(name, type(from[name]))
    end
    to[name] = from[name]
  end
  local list = type(from.scram) == "table" and from.scram or { from.scram }
  for _, text in ipairs(list) do
    local kind = type(text) == "string" and text:match("^SCRAM%-SHA%-(%d+)%$%d+:.+%$.+:.+$")
    if kind == "1" then
      to.scram_sha1 = text
    elseif kind == "256" then
      to.scram_sha256 = text
    else
      return 'scram: "SCRAM-SHA-256$4096:salt$stored:server" expected (RFC 5803)'
    end
  end
end

--- A table that a credentials hook returned, for C.
---@return table? credentials
---@return string? why
function M.read(given, user, house)
  for key in pairs(given) do
    if not known[key] then
      return nil, ("credentials: unknown field %q%s"):format(tostring(key), suggest.hint(key, known))
    end
  end
  local out = {}
  local why = strings(given, out)
  if why then
    return nil, "credentials: " .. why
  elseif not next(out) then
    return nil, "credentials: password, hash or scram is needed"
  end
  out.senders, why = M.senders(given.senders, user, house)
  if not out.senders then
    return nil, why
  end
  return out
end

local function fault(session, of, user, why)
  verdict.fault(session, of, { address = user }, why)
  return table.unpack(verdict.AUTH_FAULT)
end

--- What the credentials chain said. `of.fallback`: an auth hook is there to be asked when nothing is known.
function M.settle(session, of, user, a, b, c)
  if a == nil and b == nil then
    return of.fallback and "ask" or nil
  elseif type(a) == "table" and getmetatable(a) == nil and b == nil then
    local read, why = M.read(a, user, session._house)
    if not read then
      return fault(session, of, user, why)
    end
    return read
  elseif a == true then
    return fault(session, of, user,
      "the hook returned true: what is known of the user was asked, not whether a proof is good")
  end
  local code, enhanced, text, nonsense = verdict.read(a, b, c)
  if nonsense or code < 400 then
    return fault(session, of, user, nonsense or "the hook returned a 2xx reply: a table expected")
  end
  verdict.refused(session, of, { address = user }, code, enhanced, text)
  return code, enhanced, text
end

--- What an auth or token chain said: true [, senders] lets the user in, nil and false do not.
function M.proved(session, of, user, a, b, c)
  if (a == nil or a == false) and b == nil then
    return nil
  elseif a == true then
    local list, why = M.senders(b, user, session._house)
    if not list then
      return fault(session, of, user, why)
    end
    return true, list
  end
  local code, enhanced, text, nonsense = verdict.read(a, b, c)
  if nonsense or code < 400 then
    return fault(session, of, user, nonsense or "the hook returned a 2xx reply: true expected")
  end
  verdict.refused(session, of, { address = user }, code, enhanced, text)
  return code, enhanced, text
end

--- A raised error of any of them.
function M.raised(session, of, user, err)
  local code, enhanced, text = verdict.raised(session, of, { address = user }, err)
  if code == verdict.FAULT[1] and text == verdict.FAULT[3] then
    return table.unpack(verdict.AUTH_FAULT)
  elseif code and code < 400 then
    log.event("error", "a 2xx reply was raised where a user was asked about", { "hook", of.kind, "user", user })
    return table.unpack(verdict.AUTH_FAULT)
  end
  return code, enhanced, text
end

return M
