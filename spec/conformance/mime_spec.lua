-- Messages and header fields with the parse that mail-parser (stalwartlabs) expects: the tree of parts, decoded bodies, which of them is the body.
local data = require "spec.support.data"
local json = require "moonpost.json"
local mime = require "moonpost.mime"
local suite = require "spec.support.suite"
local value = require "moonpost.mime.value"

local BOUNDARY = "a delimiter is its whole line (RFC 2046 5.1.1: boundary, transport padding, CRLF), not the beginning of one"
local OUTER = "a delimiter of the multipart around it ends the one inside (RFC 2046 5.1.2)"
local FIRST = "of two Content-Type fields the first counts, as everywhere here"
local SAME = "two multiparts with one boundary: which of them goes on is anybody's guess; no part is lost"
local COMMENT = "a comment is no part of a name (RFC 5322 3.2.2), and a phrase goes before it"
local URL = "a URL of a List- field (RFC 2369) is no address"
local NO_SEMICOLON = "parameters with no semicolon between them: where a value ends is a guess"
local JUNK = "what matches no grammar in RFC 2045 is read as far as it makes sense"
local WORD = "nothing is put between what stands beside an encoded word (RFC 2047 6.2)"
local LETTER = "letters as zones mean little (RFC 5322 4.3); GLib reads them as RFC 822 had them"
local CODED = "of base64 what can be decoded is decoded (RFC 2045 6.8: other characters are ignored)"

local argued = {
  ["rfc/000"] = CODED, ["thirdparty/002"] = CODED,
  ["malformed/000"] = "a part without an empty line is one of a header alone",
  ["malformed/001"] = BOUNDARY, ["malformed/004"] = BOUNDARY, ["malformed/016"] = BOUNDARY,
  ["malformed/009"] = OUTER, ["malformed/011"] = OUTER, ["malformed/012"] = OUTER,
  ["malformed/003"] = SAME, ["malformed/006"] = SAME, ["malformed/008"] = SAME,
  ["malformed/019"] = "octets that were damaged at random: every delimiter begins a part, so that none is lost",
  ["thirdparty/005"] = "text in front of a delimiter makes it none (RFC 2046 5.1.1: it begins a line); a CR inside of UTF-16 is a character",
  ["thirdparty/015"] = OUTER .. ", the header of a message too",
  ["malformed/007"] = "a delimiter in a header without an empty line begins the first part all the same",
  ["malformed/020"] = FIRST, ["malformed/021"] = FIRST,
  ["malformed/022"] = "a message/rfc822 without a header is a message with a body",
}

-- ---- comparing ----------------------------------------------------------------------------------------------------

local function shown(any)
  if type(any) ~= "table" then
    return ("%q"):format(tostring(any))
  end
  local names, out = {}, {}
  for name in pairs(any) do
    names[#names + 1] = name
  end
  table.sort(names, function(a, b)
    return tostring(a) < tostring(b)
  end)
  for i, name in ipairs(names) do
    out[i] = tostring(name) .. "=" .. shown(any[name])
  end
  return "{" .. table.concat(out, ",") .. "}"
end

local function octets_of(list)
  local out = {}
  for at = 1, #list, 4096 do
    out[#out + 1] = string.char(table.unpack(list, at, math.min(at + 4095, #list)))
  end
  return table.concat(out)
end

-- The parts of one message, those of messages inside left out.
local function flat(root)
  local list = {}
  local function walk(part)
    list[#list + 1] = part
    for _, child in ipairs(part.kind == "multipart" and part.children or {}) do
      walk(child)
    end
  end
  walk(root)
  return list
end

local function same(where, what, want, got)
  if shown(want) ~= shown(got) then
    error(("%s: %s: expected %s, got %s"):format(where, what, shown(want):sub(1, 200), shown(got):sub(1, 200)), 0)
  end
end

local compare

local function compare_part(want, part, number, where)
  local kind, body = next(want.body)
  if kind == "Multipart" then
    local children = {}
    for i, child in ipairs(part.children) do
      children[i] = number[child]
    end
    same(where, "parts inside", body, children)
  elseif kind == "Message" then
    compare(body, assert(part:message()), where)
  elseif kind == "Text" or kind == "Html" then
    same(where, part.type, body, part.kind == "leaf" and part:text())
  else
    same(where, part.type, octets_of(body), part.kind == "leaf" and part:content())
  end
end

function compare(want, root, where)
  local list, number = flat(root), {}
  same(where, "count of parts", #want.parts, #list)
  for i, part in ipairs(list) do
    number[part] = i - 1
  end
  for i, part in ipairs(list) do
    compare_part(want.parts[i], part, number, where .. "/" .. i - 1)
  end
  if root.depth > 1 then
    return
  end
  for _, name in ipairs { "text", "html", "attachments" } do
    local chosen = {}
    for i, part in ipairs(name == "attachments" and root._tree:attachments() or root._tree:body(name)) do
      chosen[i] = number[part]
    end
    same(where, name, want[name == "attachments" and name or name .. "_body"], chosen)
  end
end

-- ---- header fields ------------------------------------------------------------------------------------------------

-- Vectors end with the line break of the field, and some go on with what is no part of it.
local function field_of(header)
  return (header:gsub("\r?\n([^ \t].*)$", "", 1):gsub("\r?\n[ \t]*$", ""))
end

local function mailboxes(list)
  local out = {}
  for i, one in ipairs(list or {}) do
    out[i] = { name = one.name, address = one.address }
  end
  return out
end

local readers = {
  unstructured = function(header)
    return value.text(header)
  end,
  date = function(header)
    local time, zone = value.date(header)
    local when = time and os.date("!*t", time + zone * 60)
    return when and { when.year, when.month, when.day, when.hour, when.min, when.sec, zone }
  end,
  content_type = function(header)
    local type, parameters = value.parameters(header)
    return type and { type, parameters }
  end,
  address = function(header)
    return value.addresses(header)
  end,
  id = function(header)
    local list = value.ids(header)
    return list[1] and list or nil
  end,
  list = function(header)
    return value.list(header)
  end,
}

local meanings = {
  date = function(want)
    return { want.year, want.month, want.day, want.hour, want.minute, want.second,
      (want.tz_hour * 60 + want.tz_minute) * (want.tz_before_gmt and -1 or 1) }
  end,
  content_type = function(want)
    local parameters = {}
    for _, one in ipairs(want.attributes or {}) do
      if not one[1]:find("-language$") then -- which language a value is in (RFC 2231 5) is not told
        parameters[one[1]] = one[2]
      end
    end
    return { want.c_type .. (want.c_subtype and "/" .. want.c_subtype or ""), parameters }
  end,
  address = function(want)
    local out = mailboxes(want.List)
    for _, group in ipairs(want.Group or {}) do
      if group.name then
        out[#out + 1] = { group = group.name, members = mailboxes(group.addresses) }
      else -- those that stand between groups
        table.move(mailboxes(group.addresses), 1, #group.addresses, #out + 1, out)
      end
    end
    return out
  end,
}

local NO_TYPE = "what is no token is no type (RFC 2045 5.1)"
local UNQUOTED = "a quoted string that never ends, or white space in it that was folded: runs of it may be one space"
local reasons = {
  unstructured = { [22] = WORD, [23] = WORD, [28] = WORD, [29] = WORD,
    [25] = WORD, [26] = WORD, [27] = WORD },
  date = {
    [13] = "numbers alone are no date; nobody can tell month from day", [15] = "of a date whose comment does not end the day is read",
    [31] = LETTER, [32] = LETTER,
  },
  content_type = {
    [24] = NO_SEMICOLON, [31] = NO_SEMICOLON, [32] = NO_SEMICOLON, [35] = "white space between encoded words is no text (RFC 2047 6.2)",
    [47] = JUNK, [48] = NO_TYPE, [49] = NO_TYPE, [55] = NO_TYPE, [56] = UNQUOTED, [57] = UNQUOTED, [58] = UNQUOTED, [59] = NO_TYPE,
    [60] = "NUL is a space", [62] = JUNK, [77] = NO_TYPE, [78] = NO_TYPE, [79] = NO_TYPE,
  },
  address = {
    [9] = COMMENT, [10] = "a fold stands between a backslash and what it quotes: unfolded, the comment ends early, and no address follows",
    [11] = COMMENT, [12] = COMMENT, [14] = "a route is no part of an address, nor is white space around its dots (RFC 5322 4.4)",
    [15] = COMMENT, [23] = COMMENT,
    [34] = "white space at both ends of a name means nothing", [56] = COMMENT, [57] = COMMENT,
    [38] = URL, [39] = URL, [40] = URL, [41] = URL, [42] = URL,
    [43] = "NO (RFC 2369 3.4) is no address either", [44] = URL, [45] = URL, [46] = URL, [47] = URL, [48] = URL,
  },
}

suite.declare {
  name = "mime-stalwart headers",
  folder = "mime-stalwart",
  cases = function(folder)
    local list = {}
    for _, name in ipairs { "unstructured", "date", "content_type", "address", "id", "list" } do
      for number, case in ipairs((assert(json.decode(data.read(folder .. "/headers/" .. name .. ".json"))))) do
        list[#list + 1] = {
          name = ("%s %d"):format(name, number),
          difference = reasons[name] and reasons[name][number],
          check = function()
            local want = case.expected
            if want and meanings[name] then
              want = meanings[name](want)
            end
            return pcall(same, case.header, "value", want, readers[name](field_of(case.header)))
          end,
        }
      end
    end
    return list
  end,
}

-- The octets of a message with line ends of its own, or CRLF.
local function octets_with(folder, name, ends)
  local octets = data.read(folder .. "/" .. name .. ".eml"):gsub("\r\n", "\n")
  return ends == "" and octets or (octets:gsub("\n", "\r\n"))
end

local function messages(folder)
  local list = {}
  for _, group in ipairs { "rfc", "malformed", "thirdparty" } do
    for _, file in ipairs(data.files(folder .. "/" .. group)) do
      local number = file:match("^(%d+)%.eml$")
      for _, ends in ipairs(number and { "", ".crlf" } or {}) do
        list[#list + 1] = { name = group .. "/" .. number, ends = ends }
      end
    end
  end
  return list
end

suite.declare {
  name = "mime-stalwart",
  cases = function(folder)
    local list = {}
    for i, one in ipairs(messages(folder)) do
      list[i] = {
        name = one.name .. one.ends,
        difference = argued[one.name .. one.ends] or argued[one.name],
        check = function()
          local tree = assert(mime.parse(octets_with(folder, one.name, one.ends)))
          local want = assert(json.decode(data.read(("%s/%s%s.json"):format(folder, one.name, one.ends))))
          return pcall(compare, want, tree.root, one.name)
        end,
      }
    end
    return list
  end,
}

local folder = data.folder "mime-stalwart"
describe("messages of others", function()
  local it = folder and it or pending

  it("are written back octet for octet, whatever they are", function()
    for _, one in ipairs(messages(folder)) do
      local octets = octets_with(folder, one.name, one.ends)
      assert.equal(octets, assert(mime.parse(octets)):octets(), one.name .. one.ends)
    end
  end)
end)
