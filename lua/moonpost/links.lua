--- Where the links of a message lead: the hosts of the URLs that its text and its HTML show (RFC 3986 3.2.2), for lists of domains (RFC 5782). Read
--- as mail readers and browsers do, not as the grammar would have it: who wants a link to be followed and not to be found writes it just so.
---
---     for _, one in ipairs(links.find(message:html())) do print(one.host, one.domain) end
local core = require "moonpost.core"
local psl = require "moonpost.psl"

local M = {}

local TEXT_MOST = 1 << 20 -- octets that are looked through
local LINKS_MOST = 50
local NAME_MOST = 1024 -- octets of a host as it is written: each may be the reference &#xx; of one

local named = { amp = "&", period = ".", sol = "/", colon = ":", commat = "@", lt = "<", gt = ">", quot = '"', num = "#", bsol = "\\" }

-- Character references of HTML, of what can stand in a URL's first part.
local function plain(html)
  return (html:gsub("&(#?[xX]?)(%w+);?", function(mark, name)
    if mark == "" then
      return named[name]
    end
    local code = tonumber(name, #mark == 2 and 16 or 10)
    return code and code > 0 and code < 0x110000 and (code < 0xd800 or code > 0xdfff) and utf8.char(code) or nil
  end))
end

-- One number of an address as inet_aton and browsers read it: decimal, octal, hexadecimal.
local function number(text)
  if text:find "^0[xX]%x*$" then
    return tonumber(text:sub(3) == "" and "0" or text:sub(3), 16)
  elseif text:find "^0[0-7]+$" then
    return tonumber(text, 8)
  end
  return text:find "^%d+$" and tonumber(text, 10) or nil
end

-- "0x7f.1" is 127.0.0.1: the last number fills what is left.
local function loose_address(host)
  local numbers = {}
  for part in (host .. "."):gmatch "([^.]*)%." do
    local value = #part <= 14 and number(part)
    if not value or #numbers == 4 then
      return nil
    end
    numbers[#numbers + 1] = value
  end
  local sum = table.remove(numbers)
  if not sum or sum >= 1 << 8 * (4 - #numbers) then
    return nil
  end
  for i, value in ipairs(numbers) do
    if value > 255 then
      return nil
    end
    sum = sum | value << 8 * (4 - i)
  end
  return ("%d.%d.%d.%d"):format(sum >> 24, sum >> 16 & 255, sum >> 8 & 255, sum & 255)
end

local function name_of(text)
  local name = core.dns_name((text:gsub("%.+$", "")))
  return name and not name:find "[^%w._-]" and name or nil
end

-- The host of an authority, as an address or a name in A-labels.
local function host_of(authority)
  authority = authority:gsub("[\t\r\n]", ""):gsub("^.*@", "")
  local literal = authority:match "^%[([%x:.]+)%]"
  if literal then
    return core.dns_reverse(literal) and { host = literal:lower(), address = literal:lower() } or nil
  end
  local host = authority:match("^[%w%%._\x80-\xff-]*"):gsub("%%(%x%x)", function(digits)
    return string.char(tonumber(digits, 16))
  end)
  -- punctuation that is not ASCII may stand right behind a link
  host = name_of(host) or name_of(host:match "^[%w._-]*")
  if not host then
    return nil
  end
  local address = loose_address(host)
  if address then
    return { host = host, address = address }
  end
  local domain = host:find(".", 1, true) and psl.registrable(host)
  return domain and { host = host, domain = domain } or nil
end

local function add(found, authority)
  local one = #authority <= NAME_MOST and host_of(authority)
  local key = one and (one.address or one.domain)
  if not one or found.seen[key] then
    return
  end
  found.seen[key] = true
  if #found.list < LINKS_MOST then
    table.insert(found.list, one)
  else
    found.list.more = found.list.more + 1
  end
end

-- What begins a host, and what ends it. Browsers take "\" for "/", and any number of either; "href" may name no scheme.
local beginnings = {
  "[hHfF][tT][tT]?[pP][sS]?:[/\\]+()", "[=\"'(%s][/\\][/\\]+()", "%f[%w][mM][aA][iI][lL][tT][oO]:()", "%f[%w@/.-]()[wW][wW][wW]%d?%.",
}

--- The links of a text: the first one to each domain and to each address. At most 50, in the first megabyte.
---@param text string UTF-8
---@param html? boolean with character references
---@return moonpost.Links list each has `host`, and `domain`, the registrable one, or `address`; `more`: how many others there are
function M.find(text, html)
  if type(text) ~= "string" then
    error(("links.find: a string expected, got a %s"):format(type(text)), 2)
  end
  text = text:sub(1, TEXT_MOST)
  text = html and plain(text) or text
  local found = { list = { more = 0 }, seen = {} }
  local starts = {}
  for _, pattern in ipairs(beginnings) do
    for at in text:gmatch(pattern) do
      starts[#starts + 1] = at
    end
  end
  table.sort(starts)
  for _, at in ipairs(starts) do
    add(found, (text:sub(at, at + NAME_MOST):match "^[^/\\?#\"'<>%s]*"))
  end
  return found.list
end

--- The links of a message: of its text and of its HTML. Where one of them cannot be read, those of the other.
---@param message moonpost.Message
---@return moonpost.Links list
function M.of(message)
  if (type(message) ~= "table" and type(message) ~= "userdata") or not message.text or not message.html then
    error(("links.of: a message expected, got a %s"):format(type(message)), 2)
  end
  local text, html = message:text(), message:html()
  return M.find((text or "") .. "\n" .. (html and plain(html) or ""))
end

return M
