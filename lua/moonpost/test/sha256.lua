--- SHA-256, HMAC and PBKDF2 (FIPS 180-4, RFC 2104, RFC 8018) in Lua, for the test kit's SCRAM client alone: slow,
--- and not constant in time.
local M = {}

-- The fractional parts of the square and cube roots of the first primes.
local initial, constants = {}, {}
do
  local function fraction(x)
    return math.floor(x % 1 * 4294967296)
  end
  local n = 2
  while #constants < 64 do
    local prime = true
    for d = 2, math.floor(math.sqrt(n)) do
      prime = prime and n % d ~= 0
    end
    if prime then
      constants[#constants + 1] = fraction(n ^ (1 / 3))
      initial[#initial + 1] = #initial < 8 and fraction(math.sqrt(n)) or nil
    end
    n = n + 1
  end
end

local function compress(state, block)
  local w = table.pack(string.unpack(">I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4", block))
  for i = 17, 64 do
    local x, y = w[i - 15], w[i - 2]
    x, y = x << 32 | x, y << 32 | y -- doubled, a shift is a rotation
    w[i] = w[i - 16] + w[i - 7] + ((x >> 7 ~ x >> 18 ~ (x & 0xffffffff) >> 3) & 0xffffffff)
      + ((y >> 17 ~ y >> 19 ~ (y & 0xffffffff) >> 10) & 0xffffffff) & 0xffffffff
  end
  local a, b, c, d, e, f, g, h = table.unpack(state)
  for i = 1, 64 do
    local x, y = e << 32 | e, a << 32 | a
    local t = h + ((x >> 6 ~ x >> 11 ~ x >> 25) & 0xffffffff) + (g ~ e & (f ~ g)) + constants[i] + w[i]
    local u = ((y >> 2 ~ y >> 13 ~ y >> 22) & 0xffffffff) + (a & b | c & (a | b))
    h, g, f, e = g, f, e, d + t & 0xffffffff
    d, c, b, a = c, b, a, t + u & 0xffffffff
  end
  local out = { a, b, c, d, e, f, g, h }
  for i = 1, 8 do
    out[i] = out[i] + state[i] & 0xffffffff
  end
  return out
end

-- Goes on from a state after `before` octets.
local function finish(state, text, before)
  local length = before + #text
  text = text .. "\128" .. ("\0"):rep(-(#text + 9) % 64) .. string.pack(">I8", length * 8)
  for at = 1, #text, 64 do
    state = compress(state, text:sub(at, at + 63))
  end
  return string.pack(">I4I4I4I4I4I4I4I4", table.unpack(state))
end

---@param text string
---@return string digest 32 octets
function M.digest(text)
  return finish(initial, text, 0)
end

-- A function that computes the HMAC of texts under one key.
local function keyed(key)
  if #key > 64 then
    key = M.digest(key)
  end
  key = key .. ("\0"):rep(64 - #key)
  local inner = compress(initial, (key:gsub(".", function(c)
    return string.char(c:byte() ~ 0x36)
  end)))
  local outer = compress(initial, (key:gsub(".", function(c)
    return string.char(c:byte() ~ 0x5c)
  end)))
  return function(text)
    return finish(outer, finish(inner, text, 64), 64)
  end
end

---@return string mac 32 octets
function M.hmac(key, text)
  return keyed(key)(text)
end

--- The first block of PBKDF2, which is all that SCRAM needs.
---@param password string
---@param salt string
---@param rounds integer
---@return string key 32 octets
function M.pbkdf2(password, salt, rounds)
  local mac = keyed(password)
  local last = mac(salt .. "\0\0\0\1")
  local a, b, c, d = string.unpack("=I8I8I8I8", last)
  for _ = 2, rounds do
    last = mac(last)
    local p, q, r, s = string.unpack("=I8I8I8I8", last)
    a, b, c, d = a ~ p, b ~ q, c ~ r, d ~ s
  end
  return string.pack("=I8I8I8I8", a, b, c, d)
end

return M
