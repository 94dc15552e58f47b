--- Names of people's languages: the vectors of UTS 46, and those of Punycode (RFC 3492), as far as they are labels.
local core = require "moonpost.core"
local data = require "spec.support.data"
local json = require "moonpost.json"
local suite = require "spec.support.suite"

local function unescape(text)
  text = text == '""' and "" or text
  return (text:gsub("\\u(%x%x%x%x)", function(hex)
    return utf8.char(tonumber(hex, 16))
  end):gsub("\\x{(%x+)}", function(hex)
    return utf8.char(tonumber(hex, 16))
  end))
end

-- An empty column means the one before it.
local function rows(path)
  local list, number = {}, 0
  for line in data.read(path):gmatch("([^\n]*)\n") do
    number = number + 1
    local column = {}
    for field in (line:gsub("#.*$", "") .. ";"):gmatch("%s*([^;]-)%s*;") do
      column[#column + 1] = field
    end
    if column[5] then
      local source = unescape(column[1])
      local unicode = column[2] == "" and source or unescape(column[2])
      local status = column[3] == "" and "[]" or column[3]
      list[#list + 1] = {
        name = "line " .. number, source = source, unicode = unicode, ascii = column[4] == "" and unicode or unescape(column[4]),
        status = column[5] == "" and status or column[5],
      }
    end
  end
  return list
end

-- Status codes of checks that the head of the file and its README let an implementation leave out, and why we do.
local left_out = {
  U1 = "ASCII names are asked for as they are given, as _25._tcp.mx.example has to be (UseSTD3ASCIIRules, CheckHyphens)",
  A4_2 = "a dot at the end is dropped (VerifyDnsLength)", B1 = "CheckBidi: libidn2 looks at labels, not at whole names",
}
left_out.V2, left_out.V3 = left_out.U1, left_out.U1
for i = 2, 6 do
  left_out["B" .. i] = left_out.B1
end

-- Why an answer may be another one than the file's; nil when it may not.
local function argue(row, ascii, unicode)
  if unicode and row.status ~= "[]" then
    local why
    for code in row.status:gmatch("[%w_]+") do
      if not left_out[code] then
        return nil
      end
      why = why or left_out[code]
    end
    return why
  elseif not unicode then
    return row.unicode:find("[\x80-\xff]")
      and "stricter, as the file allows: libidn2 refuses what IDNA2008 does, symbols and letters that are younger than its tables" or nil
  end
  return row.source:find("\u{1E9E}", 1, true) and ascii == row.ascii:gsub("xn%-%-fa%-hia", "fass")
    and "the capital sharp s has another small letter since Unicode 15.1" or nil
end

suite.declare {
  name = "idna",
  cases = function(folder)
    local cases = {}
    for i, row in ipairs(rows(folder .. "/IdnaTestV2.txt")) do
      local ascii = core.dns_name(row.source)
      local unicode = ascii and core.dns_unicode(ascii)
      local right = not unicode
      if row.status == "[]" then
        right = ascii == row.ascii and unicode == row.unicode
      end
      cases[i] = {
        name = row.name, difference = not right and argue(row, ascii, unicode) or nil,
        check = function()
          return right, ("got %s and %s"):format(ascii, unicode)
        end,
      }
    end
    return cases
  end,
}

local no_label = "Punycode, and no label of a name: spaces, marks, ASCII alone, or more than 63 octets"

suite.declare {
  name = "idna punycode", folder = "idna",
  cases = function(folder)
    local cases = {}
    for i, given in ipairs((assert(json.decode(data.read(folder .. "/punycode_tests.json"))))) do
      if i > 1 then -- the first one is a credit
        local want = "xn--" .. given.encoded:lower() -- letters of both cases come out small
        cases[#cases + 1] = {
          name = given.encoded,
          check = function()
            local ascii = core.dns_name(given.decoded)
            local back = core.dns_unicode(want)
            return ascii == want and back and core.dns_name(back) == want, ("got %s and %s"):format(ascii, back)
          end,
        }
      end
    end
    for i, given in ipairs((assert(json.decode(data.read(folder .. "/bad_punycode_tests.json"))))) do
      cases[#cases + 1] = {
        name = "too long " .. i,
        check = function()
          return core.dns_name(given.decoded) == nil and core.dns_unicode(given.decoded) == nil
        end,
      }
    end
    return cases
  end,
  differences = {
    ["4can8av2009b"] = no_label, ["Bach-"] = no_label, ["-> $1.00 <--"] = no_label, egbpdaj6bu4bxfgehfvwxn = no_label,
    ["Willst du die Blthe des frhen, die Frchte des spteren Jahres-x9e96lkal"] = no_label,
    ["989aomsvi5e83db1d2a355cv1e0vak1dwrv93d5xbh15a0dt30a5jpsd879ccm6fea98c"] = no_label,
  },
}
