--- The Sender Rewriting Scheme: who forwards mail puts an address of its own into the envelope, so that SPF holds at the next hop, and a bounce
--- finds its way back through that address.
---
---     SRS0=hash=time=domain=local@us       an address as it came
---     SRS1=hash=host=rest@us               one that another forwarder, `host`, had rewritten before
---
--- The hash is ours alone to check: without it anybody could send through us to anybody.
local Error = require "moonpost.error"
local compose = require "moonpost.compose"
local core = require "moonpost.core"
local options = require "moonpost.options"

local M = {}

local LOCAL_MOST = 64 -- octets of a local part (RFC 5321 4.5.3.1.1)
local SECRET_LEAST = 16
local DAY = 86400
local DAYS = 1024 -- that two characters can tell apart
local AHEAD = 1 -- days that another machine's clock may be before ours

-- One case, and nothing but letters and digits: whoever folds the case of an address on its way takes nothing away.
local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

local function domain(name)
  return not core.dns_name((name:gsub("^%.", ""))) and ('"%s" is no domain'):format(name) or nil
end

local schema = {
  { name = "domain", type = "string", doc = "of the addresses that are made", check = domain },
  { name = "secrets", type = "strings", doc = "the first one signs, all of them are believed",
    check = function(list)
      for i, secret in ipairs(list) do
        if #secret < SECRET_LEAST then
          return ("secret %d: at least %d octets expected"):format(i, SECRET_LEAST)
        end
      end
      return not list[1] and "at least one secret expected" or nil
    end },
  { name = "own", type = "strings", default = {}, doc = "domains whose addresses are left alone; with a dot in front, all below one",
    check = function(list)
      for _, name in ipairs(list) do
        local why = domain(name)
        if why then
          return why
        end
      end
    end },
  { name = "expire", type = "duration", default = "21d", doc = "how long an address can be written to",
    check = function(seconds)
      return (seconds < DAY or seconds > 1000 * DAY) and "1 to 1000 days expected" or nil
    end },
  { name = "separator", type = "choice", values = { "=", "+", "-" }, default = "=", doc = "behind SRS0 and SRS1" },
  { name = "hash", type = "integer", default = 6, doc = "characters of the hash, five bits each",
    check = function(count)
      return (count < 4 or count > 20) and "4 to 20 expected" or nil
    end },
}

---@class moonpost.Srs
local Srs = {}
local Srs_mt = { __index = Srs, __name = "moonpost.Srs" }

function Srs_mt:__tostring() -- the secrets stay inside
  return "moonpost.Srs: " .. self.domain
end

local secrets_of = setmetatable({}, { __mode = "k" })

--- Mistakes raise at the caller's line.
---@param given moonpost.SrsOptions
---@return moonpost.Srs
function M.new(given)
  if type(given) ~= "table" then
    error(("moonpost.srs: a table of options expected, got a %s"):format(type(given)), 2)
  end
  local values, why = options.resolve(schema, given, options.place(2))
  if not values then
    -- what is wrong with a secret is told without it
    error("moonpost.srs: " .. (why:find "^secrets: a list" and "secrets: a list of strings expected" or why), 2)
  elseif not values.domain or not values.secrets then
    error(("moonpost.srs: %s is needed"):format(values.domain and "secrets" or "domain"), 2)
  end
  local own, below = { [core.dns_name(values.domain)] = true }, {}
  for _, name in ipairs(values.own) do
    local ascii = core.dns_name((name:gsub("^%.", "")))
    if name:find "^%." then
      below[#below + 1] = "." .. ascii
    else
      own[ascii] = true
    end
  end
  local self = setmetatable({
    domain = values.domain, expire = values.expire, separator = values.separator, hash = values.hash, _own = own, _below = below,
  }, Srs_mt)
  secrets_of[self] = values.secrets
  return self
end

local function fail(kind, message, ...)
  return nil, Error(kind, message:format(...), { temporary = false })
end

-- Five bits a character. What is signed is folded first, so that an address whose case was changed is still ours.
local function sign(secret, count, ...)
  local code = core.hmac(secret, table.concat({ ... }, "\0"):lower())
  local out, bits, held = {}, 0, 0
  for i = 1, #code do
    bits, held = bits << 8 | code:byte(i), held + 8
    while held >= 5 and #out < count do
      held = held - 5
      local at = bits >> held & 31
      out[#out + 1] = alphabet:sub(at + 1, at + 1)
    end
    bits = bits & 0xff
  end
  return table.concat(out)
end

-- Whether one of the secrets has signed this. Every octet is looked at, so that the time taken tells nothing.
local function signed(self, hash, ...)
  local found = false
  for _, secret in ipairs(secrets_of[self]) do
    local expected, differ = sign(secret, self.hash, ...), #hash ~ self.hash
    local given = hash:upper()
    for i = 1, self.hash do
      differ = differ | (given:byte(i) or 0) ~ expected:byte(i)
    end
    found = differ == 0 or found
  end
  return found
end

local function stamp(now)
  local day = now // DAY % DAYS | 0
  return alphabet:sub(day // 32 + 1, day // 32 + 1) .. alphabet:sub(day % 32 + 1, day % 32 + 1)
end

-- Days since a stamp, negative when it is of tomorrow; nil when it is none.
local function age(text, now)
  local high = alphabet:find(text:sub(1, 1):upper(), 1, true)
  local low = alphabet:find(text:sub(2, 2):upper(), 1, true)
  if #text ~= 2 or not high or not low then
    return nil
  end
  local days = (now // DAY - ((high - 1) * 32 + low - 1)) % DAYS | 0
  return days >= DAYS - AHEAD and days - DAYS or days
end

local function is_own(self, name)
  local ascii = core.dns_name(name)
  if not ascii then
    return false -- an address literal
  elseif self._own[ascii] then
    return true
  end
  for _, suffix in ipairs(self._below) do
    if #ascii > #suffix and ascii:sub(-#suffix) == suffix then
      return true
    end
  end
  return false
end

-- A local part as an address has it: in quotes where it is no dot-string (RFC 5321 4.1.2).
local function written(localpart)
  if localpart:find("^[%w!#$%%&'*+/=?^_`{|}~.\x80-\xff-]+$") and not localpart:find "^%." and not localpart:find "%.$"
    and not localpart:find("..", 1, true) then
    return localpart
  end
  return '"' .. localpart:gsub('[\\"]', "\\%0") .. '"'
end

local function address(localpart, name)
  local text = written(localpart)
  if #text > LOCAL_MOST then
    return fail("too_long", "the local part has %d octets, %d more than an address may have (RFC 5321 4.5.3.1.1)", #text,
      #text - LOCAL_MOST)
  end
  return text .. "@" .. name
end

-- "SRS0" or "SRS1" and what follows, separator included.
local function rewritten(localpart)
  local kind, rest = localpart:match "^([Ss][Rr][Ss][01])([=+-].*)$"
  if kind then
    return kind:upper(), rest
  end
end

--- The reverse-path to forward a message with. The null sender and senders of our own domains stay as they are.
---@param sender string without angle brackets; "" is the null sender
---@param now? number seconds since 1970
---@return string? address
---@return moonpost.Error? err kind "invalid" or "too_long": it cannot be rewritten
function Srs:forward(sender, now)
  if type(sender) ~= "string" then
    error(("srs:forward: an address expected, got a %s"):format(type(sender)), 2)
  elseif sender == "" then
    return sender
  end
  local localpart, name = core.mailbox(compose.ascii(sender) or sender, true)
  if not name then
    return fail("invalid", "this is no address")
  elseif is_own(self, name) then
    return sender
  end
  local secret, separator = secrets_of[self][1], self.separator
  local kind, rest = rewritten(localpart)
  if kind == "SRS1" then
    -- The forwarder in front of us had it from another one, whom alone the bounce has to reach.
    local host, inner = rest:match "^.[^=]+=([^=]+)=([=+-].+)$"
    if host and core.dns_name(host) then
      return address(("SRS1%s%s=%s=%s"):format(separator, sign(secret, self.hash, host, inner), host, inner), self.domain)
    end
  elseif kind == "SRS0" and rest:find "^.[^=]+=[^=]+=[^=]+=." then
    return address(("SRS1%s%s=%s=%s"):format(separator, sign(secret, self.hash, name, rest), name, rest), self.domain)
  end
  local day = stamp(now or core.time())
  local hash = sign(secret, self.hash, day, name, localpart)
  return address(("SRS0%s%s=%s=%s=%s"):format(separator, hash, day, name, localpart), self.domain)
end

--- Whether an address looks as if it were ours to reverse; forged ones do too.
---@param recipient string
---@return boolean
function Srs:matches(recipient)
  local localpart, name = core.mailbox(recipient, true)
  return name ~= nil and rewritten(localpart) ~= nil and core.dns_name(name) == core.dns_name(self.domain)
end

--- Where a message to one of these addresses goes on to.
---@param recipient string without angle brackets
---@param now? number seconds since 1970
---@return string? address of the sender it was made of; of the first forwarder, where there were several
---@return moonpost.Error? err kind "other": no address of this kind, or not of our domain; "malformed", "forged", "expired"
function Srs:reverse(recipient, now)
  if type(recipient) ~= "string" then
    error(("srs:reverse: an address expected, got a %s"):format(type(recipient)), 2)
  elseif not self:matches(recipient) then
    return fail("other", "this is no rewritten address of %s", self.domain)
  end
  local kind, rest = rewritten((core.mailbox(recipient, true)))
  if kind == "SRS1" then
    local hash, host, inner = rest:match "^.([^=]+)=([^=]+)=([=+-].+)$"
    if not hash then
      return fail("malformed", "this rewritten address is not whole")
    elseif not signed(self, hash, host, inner) then
      return fail("forged", "this rewritten address was not made here")
    end
    return address("SRS0" .. inner, host)
  end
  local hash, day, name, localpart = rest:match "^.([^=]+)=([^=]+)=([^=]+)=(.+)$"
  if not hash then
    return fail("malformed", "this rewritten address is not whole")
  elseif not signed(self, hash, day, name, localpart) then
    return fail("forged", "this rewritten address was not made here")
  end
  local days = age(day, now or core.time())
  if not days or days * DAY > self.expire then
    return fail("expired", "this rewritten address was good for %d days", self.expire // DAY)
  end
  return address(localpart, name)
end

return M
