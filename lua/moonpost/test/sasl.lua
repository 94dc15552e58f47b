--- The client's side of AUTH, as far as a test needs it: PLAIN, LOGIN, XOAUTH2, OAUTHBEARER, SCRAM-SHA-256.
local sha256 = require "moonpost.test.sha256"
local suggest = require "moonpost.suggest"

local M = {}

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

---@param octets string
---@return string
function M.encode(octets)
  local out = {}
  for at = 1, #octets, 3 do
    local a, b, c = octets:byte(at, at + 2)
    local bits = a << 16 | (b or 0) << 8 | (c or 0)
    for i = 0, 3 do
      local index = (bits >> 18 - 6 * i & 63) + 1
      out[#out + 1] = (i == 2 and not b or i == 3 and not c) and "=" or alphabet:sub(index, index)
    end
  end
  return table.concat(out)
end

---@param text string
---@return string
function M.decode(text)
  local bits, count, out = 0, 0, {}
  for char in text:gmatch("[%w+/]") do
    bits = bits << 6 | alphabet:find(char, 1, true) - 1
    count = count + 6
    if count >= 8 then
      count = count - 8
      out[#out + 1] = string.char(bits >> count & 255)
    end
  end
  return table.concat(out)
end

--- Each makes a function that is given the server's challenge (none at first) and returns what to say, plain; nil at
--- first = the mechanism lets the server begin.
local mechanisms = {}

function mechanisms.PLAIN(user, password, authzid)
  return function()
    return ("%s\0%s\0%s"):format(authzid or "", user, password)
  end
end

function mechanisms.LOGIN(user, password)
  local answers = { user, password }
  return function(challenge)
    return challenge and table.remove(answers, 1) or nil
  end
end

function mechanisms.XOAUTH2(user, token)
  return function(challenge)
    return challenge and "" or ("user=%s\1auth=Bearer %s\1\1"):format(user, token)
  end
end

function mechanisms.OAUTHBEARER(user, token)
  return function(challenge)
    return challenge and "\1" or ("n,a=%s,\1auth=Bearer %s\1\1"):format(user, token)
  end
end

local function xor(a, b)
  local out = {}
  for i = 1, #a do
    out[i] = string.char(a:byte(i) ~ b:byte(i))
  end
  return table.concat(out)
end

-- RFC 5802, 7677. `binding` is the channel's, for -PLUS.
local function scram(user, password, authzid, binding)
  local gs2 = ("%s,%s,"):format(binding and "p=tls-exporter" or "n", authzid and "a=" .. authzid or "")
  local first = ("n=%s,r=%s"):format(user:gsub("=", "=3D"):gsub(",", "=2C"), "rOprNGfwEbeRWgbNEkqO")
  local signature
  return function(challenge)
    if not challenge then
      return gs2 .. first
    elseif signature then
      -- the server proves that it knows the password too; one that does not gets no empty answer
      return challenge == "v=" .. M.encode(signature) and "" or "*"
    end
    local nonce, salt, rounds = challenge:match("^r=([^,]+),s=([^,]+),i=(%d+)")
    if not nonce then
      return "*"
    end
    local final = ("c=%s,r=%s"):format(M.encode(gs2 .. (binding or "")), nonce)
    local auth = ("%s,%s,%s"):format(first, challenge, final)
    local salted = sha256.pbkdf2(password, M.decode(salt), tonumber(rounds))
    local client = sha256.hmac(salted, "Client Key")
    local proof = xor(client, sha256.hmac(sha256.digest(client), auth))
    signature = sha256.hmac(sha256.hmac(salted, "Server Key"), auth)
    return ("%s,p=%s"):format(final, M.encode(proof))
  end
end

mechanisms["SCRAM-SHA-256"] = function(user, password, authzid)
  return scram(user, password, authzid)
end

mechanisms["SCRAM-SHA-256-PLUS"] = function(user, password, authzid, peer)
  return scram(user, password, authzid, peer.tls and peer.tls.exporter or "")
end

--- A client: a function from challenges to answers, both in base64.
---@param mechanism string
---@param peer moonpost.test.Peer
---@return (fun(challenge?: string): string?)? client
---@return string? why
function M.client(mechanism, user, secret, authzid, peer)
  local make = mechanisms[mechanism]
  if not make then
    return nil, ("%s is no mechanism that the test's peer speaks%s; peer:raw says AUTH by hand"):format(
      tostring(mechanism), suggest.hint(mechanism, mechanisms))
  elseif type(user) ~= "string" or type(secret) ~= "string" then
    return nil, "a user and a password or token expected"
  end
  local step = make(user, secret, authzid, peer)
  return function(challenge)
    local answer = step(challenge and M.decode(challenge))
    return answer and (answer == "*" and "*" or M.encode(answer))
  end
end

return M
