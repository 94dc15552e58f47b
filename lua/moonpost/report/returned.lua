--- The third part of a report: the message that it is about, or its header alone (RFC 3461 4.3, RFC 6522 3).
local compose = require "moonpost.compose"
local trim = require "moonpost.trim"

local VALUE_MOST = 10000 -- octets of a field that is folded; nobody is shown more

local M = {}

local LINE_MOST = 998

-- As on the wire: every line ends with CRLF.
local function lines(octets)
  if octets:find("\n", 1, true) and not octets:find("\r", 1, true) then
    return (octets:gsub("\n", "\r\n"))
  end
  return octets
end

-- Whether there is nothing but ASCII: as many characters as octets, which is counted faster than a pattern finds.
local function is_ascii(octets)
  return utf8.len(octets) == #octets
end

-- Whether no part that is neither base64 nor binary could carry this: NUL, a lone CR or LF, a line too long.
local function is_binary(octets)
  if octets:find("\0", 1, true) then
    return true
  end
  local from, cr = 1, octets:find("\r", 1, true)
  while true do
    local lf = octets:find("\n", from, true)
    local stop = lf and lf - 1 or #octets + 1 -- where the CR has to be, and where the line ends
    if cr and cr < stop or lf and cr ~= stop or stop - from > LINE_MOST then
      return true
    elseif not lf then
      return cr ~= nil
    end
    from, cr = lf + 1, octets:find("\r", lf + 1, true)
  end
end

-- The header without the blank line, cut between fields where it is too long.
local function header(head, most)
  head = lines(head or ""):gsub("^[\r\n]+", ""):gsub("[\r\n]+$", "")
  if head == "" then
    return ""
  end
  head = head .. "\r\n"
  if #head <= most then
    return head, false
  end
  local cut
  for at in head:sub(1, most):gmatch "\r\n()[^ \t\r\n]" do
    cut = at
  end
  return cut and head:sub(1, cut - 1) or "", true
end

-- The body, or nil when it is longer than that, or cannot be read to its end.
local function read(body, most)
  if type(body) == "string" then
    return #body <= most and body or nil
  elseif body == nil then
    return ""
  end
  local pieces, size = {}, 0
  local chunks = body()
  while true do
    local chunk, why = chunks()
    if not chunk then
      return not why and table.concat(pieces) or nil -- half a message is none
    end
    size = size + #chunk
    if size > most then
      return nil
    end
    pieces[#pieces + 1] = chunk
  end
end

-- The whole message, where it can be returned.
local function whole(message, head, of)
  if message.size and message.size > of.limit or #head > of.limit then
    return nil
  end
  local body = read(message.body, of.limit - #head - 2)
  if not body then
    return nil
  end
  local octets = head .. "\r\n" .. lines(body)
  if is_binary(octets) then
    return nil
  elseif not is_ascii(head) then
    if of.global and utf8.len(head) then
      return { type = "message/global", encoding = "8bit", octets = octets }
    end
    return nil -- what message/rfc822 cannot hold
  elseif is_ascii(body) then
    return { type = "message/rfc822", encoding = "7bit", octets = octets }
  elseif of.eight_bit then
    return { type = "message/rfc822", encoding = "8bit", octets = octets }
  end
end

---@class moonpost.Returned
---@field what "message"|"header"|"nothing"
---@field type? string
---@field encoding? string
---@field octets? string
---@field cut? boolean fields at the end of the header were left out

--- What is returned of a message.
---@param message table
---@param of { full: boolean, limit: integer, global: boolean, eight_bit: boolean }
---@return moonpost.Returned
function M.part(message, of)
  local head, cut = header(message.head, of.limit)
  if head == "" then
    return { what = "nothing" }
  end
  local part = of.full and not cut and whole(message, head, of)
  if part then
    part.what = "message"
    return part
  elseif of.global and not is_ascii(head) and utf8.len(head) and not is_binary(head) then
    return { what = "header", type = "message/global-headers", encoding = "8bit", octets = head, cut = cut }
  end
  local octets, encoding = compose.body(head)
  local charset = octets ~= head and utf8.len(head) and "; charset=utf-8" or ""
  return { what = "header", type = "text/rfc822-headers" .. charset, encoding = encoding, octets = octets, cut = cut }
end

--- The value of a header's first field of that name, unfolded; not cleaned.
---@param head string?
---@param name string
---@return string?
function M.value(head, name)
  local value
  head = "\n" .. (head or ""):gsub("\r\n", "\n")
  local low, want = head:lower(), "\n" .. name:lower() .. ":"
  local at = low:find(want, 1, true)
  if at then
    value = head:match("^([^\n]*)", at + #want)
    local from = at + #want + #value
    while #value < VALUE_MOST and head:find("^\n[ \t]", from) do
      local more = head:match("^\n([^\n]*)", from)
      value, from = value .. more, from + 1 + #more
    end
  end
  return value and trim(value) or nil
end

return M
