--- ClamAV: whether something is known malware, asked of clamd (INSTREAM, clamd(8)).
---
---     local scanner = moonpost.clamav { address = "unix:/run/clamav/clamd.ctl" }
---     local found, err = scanner:scan(message)
---     if found and not found.clean then return 550, "5.7.1", "Malware: " .. found.signature end
local channel = require "moonpost.channel"
local Error = require "moonpost.error"
local options_of = require "moonpost.options"
local task = require "moonpost.task"

local M = {}

local ANSWER_MOST = 4096

local instead ---@type (fun(octets: string): moonpost.clamav.Found?, any)? who answers in the place of clamd

local function check_address(value)
  local place, why = channel.place(value)
  return not place and why or nil
end

M.schema = {
  { name = "address", type = "string", default = "unix:/run/clamav/clamd.ctl", check = check_address },
  { name = "timeout", type = "duration", default = "30s" },
  { name = "size", type = "size", default = "25MB" },
}

---@class moonpost.clamav.Scanner
local Scanner = {}
M.methods = Scanner
local Scanner_mt = { __index = Scanner, __name = "moonpost.clamav.Scanner" }

--- A scanner. A connection is made for each thing that is looked at, as clamd wants it.
---@param given? moonpost.clamav.Options
---@return moonpost.clamav.Scanner
function M.new(given)
  if given ~= nil and type(given) ~= "table" then
    error("clamav: a table of options expected", 2)
  end
  local values, why = options_of.resolve(M.schema, given or {}, options_of.place(1))
  if not values then
    error("clamav: " .. why, 2)
  end
  values.place = channel.place(values.address)
  return setmetatable(values, Scanner_mt)
end

local function read_answer(self, text)
  text = text:gsub("%c", "?")
  local said = text:match("^stream: (.*)$") or text
  local signature = said:match("^(.+) FOUND$")
  if said == "OK" then
    return { clean = true }
  elseif signature then
    return { clean = false, signature = signature }
  elseif said:find("size limit exceeded", 1, true) then
    return nil, Error("too_large", ("%s: %s"):format(self.place.shown, said))
  end
  return nil, Error("scanner", ("%s: %s"):format(self.place.shown, said), { temporary = true })
end

local function converse(self, pieces)
  local line <close>, err = channel.connect(self.place)
  if not line then
    return nil, err
  end
  local ok
  ok, err = line:write "zINSTREAM\0"
  for piece in pieces do
    if ok and #piece > 0 then -- an empty one would be the end
      ok, err = line:write(string.pack(">s4", piece))
    end
  end
  if ok then
    ok, err = line:write "\0\0\0\0"
  end
  -- Where it takes no more it has said why.
  local text, gone = line:read_to("\0", ANSWER_MOST)
  if not text then
    return nil, ok and gone or err
  end
  return read_answer(self, text)
end

local function single(text)
  return function()
    local piece = text
    text = nil
    return piece
  end
end

local function pretended(pieces)
  local all = {}
  for piece in pieces do
    all[#all + 1] = piece
  end
  local found, why = instead(table.concat(all))
  if found then
    return found
  end
  return nil, Error.is(why) and why or Error(why or "connect", ("clamav: %s"):format(why or "nobody answers"))
end

local function pieces_of(thing)
  if type(thing) == "string" then
    return single(thing), #thing
  elseif type(thing) == "function" then
    return thing, 0
  elseif type(thing) == "table" and thing.chunks then
    return thing:chunks(65536), thing.size or 0
  end
end

--- Looks at something. Waits without blocking, `timeout` at most.
---@async
---@param thing moonpost.Message|string|fun(): string? a message, octets, or a function that gives one piece after the other
---@return moonpost.clamav.Found? found
---@return moonpost.Error? err kind "too_large" (past `size`, or clamd's StreamMaxLength), "connect", "closed", "timeout", "protocol" or "scanner"
function Scanner:scan(thing)
  local pieces, size = pieces_of(thing)
  if not pieces then
    error(("scanner:scan: a message, a string or a function expected, got a %s"):format(type(thing)), 2)
  elseif size > self.size then
    return nil, Error("too_large", ("%d octets, and %d are looked at"):format(size, self.size))
  end
  if instead then
    return pretended(pieces)
  end
  return task.timeout(self.timeout, converse, self, pieces)
end

--- Lets a function answer in the place of clamd, for tests. It is given the octets, and returns a table with `clean` and `signature`, or nil and the
--- kind of error.
---@param fn? fun(octets: string): moonpost.clamav.Found?, any nil: clamd
---@return (fun(octets: string): moonpost.clamav.Found?, any)? former
function M.use(fn)
  if fn ~= nil and type(fn) ~= "function" then
    error("clamav.use: a function expected", 2)
  end
  local former = instead
  instead = fn
  return former
end

return M
