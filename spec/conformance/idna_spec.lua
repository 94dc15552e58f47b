--- Names of people's languages: the vectors of UTS 46, and those of Punycode (RFC 3492), as far as they are labels.
local core = require "moonpost.core"
local data = require "spec.support.data"
local json = require "moonpost.json"

local function unescape(text)
  text = text == '""' and "" or text
  return (text:gsub("\\u(%x%x%x%x)", function(hex)
    return utf8.char(tonumber(hex, 16))
  end):gsub("\\x{(%x+)}", function(hex)
    return utf8.char(tonumber(hex, 16))
  end))
end

-- { source, unicode, ascii, status of both, line }: an empty column means the one before it.
local function rows(path)
  local list = {}
  for line in data.read(path):gmatch("[^\n]+") do
    local column = {}
    for field in (line:gsub("#.*$", "") .. ";"):gmatch("%s*([^;]-)%s*;") do
      column[#column + 1] = field
    end
    if column[5] then
      local source = unescape(column[1])
      local unicode = column[2] == "" and source or unescape(column[2])
      local status = column[3] == "" and "[]" or column[3]
      list[#list + 1] = {
        source = source, unicode = unicode, ascii = column[4] == "" and unicode or unescape(column[4]),
        status = column[5] == "" and status or column[5], line = line,
      }
    end
  end
  return list
end

-- Status codes that belong to checks which the file's head and its README let an implementation leave out, and why we do.
local left_out = {
  U1 = "ASCII names are asked for as they are given: _25._tcp.mx.example is one (UseSTD3ASCIIRules)",
  V2 = "the same (CheckHyphens)", V3 = "the same (CheckHyphens)",
  A4_2 = "a dot at the end is dropped (VerifyDnsLength)",
  B1 = "CheckBidi", B2 = "CheckBidi", B3 = "CheckBidi", B4 = "CheckBidi", B5 = "CheckBidi", B6 = "CheckBidi",
}

-- Why an answer may be another one than the file's; nil when it may not.
local function argue(row, ascii, unicode)
  if ascii and unicode and row.status ~= "[]" then
    for code in row.status:gmatch("[%w_]+") do
      if not left_out[code] then
        return nil
      end
    end
    return "left out"
  elseif not (ascii and unicode) then
    -- "Implementations may be more strict": libidn2 refuses what IDNA2008 does, symbols and letters younger than its tables among it
    return row.unicode:find("[\x80-\xff]") and "stricter" or nil
  end
  -- Unicode 15.1 gave the capital sharp s another small letter.
  return row.source:find("\u{1E9E}", 1, true) and ascii == row.ascii:gsub("xn%-%-fa%-hia", "fass") and "older tables" or nil
end

describe("idna", function()
  local folder = data.folder "idna"

  it("has the names of IdnaTestV2.txt, or a reason for each difference", function()
    if not folder then
      return pending("no idna in MOONPOST_DATA")
    end
    local all, passed, reasons = rows(folder .. "/IdnaTestV2.txt"), 0, {}
    assert.is_true(#all > 6000)
    for _, row in ipairs(all) do
      local ascii = core.dns_name(row.source)
      local unicode = ascii and core.dns_unicode(ascii)
      local right
      if row.status == "[]" then
        right = ascii == row.ascii and unicode == row.unicode
      else
        right = not (ascii and unicode)
      end
      if right then
        passed = passed + 1
      else
        local why = assert(argue(row, ascii, unicode), row.line)
        reasons[why] = (reasons[why] or 0) + 1
      end
    end
    assert.is_true(passed >= 6159, passed)
    assert.is_true((reasons.stricter or 0) <= 120)
    assert.is_true((reasons["left out"] or 0) <= 110)
    assert.is_true((reasons["older tables"] or 0) <= 2)
  end)

  it("has the Punycode of every label", function()
    if not folder then
      return pending("no idna in MOONPOST_DATA")
    end
    -- Punycode, and no names: a heart, a sentence with spaces, a question with its mark, what has 70 octets.
    local argued = {
      ["4can8av2009b"] = true, ["Willst du die Blthe des frhen, die Frchte des spteren Jahres-x9e96lkal"] = true,
      egbpdaj6bu4bxfgehfvwxn = true, ["989aomsvi5e83db1d2a355cv1e0vak1dwrv93d5xbh15a0dt30a5jpsd879ccm6fea98c"] = true,
    }
    local labels = 0
    for _, case in ipairs((assert(json.decode(data.read(folder .. "/punycode_tests.json"))))) do
      if case.decoded:find "[\x80-\xff]" then
        local ascii = "xn--" .. case.encoded:lower() -- letters of both cases come out small
        local got = core.dns_name(case.decoded)
        if got then
          labels = labels + 1
          assert.equal(ascii, got)
          assert.equal(ascii, core.dns_name(assert(core.dns_unicode(ascii))))
        else
          assert.is_true(argued[case.encoded], case.encoded)
        end
      end
    end
    assert.equal(18, labels)
  end)

  it("refuses what is longer than any label, and does not overflow", function()
    if not folder then
      return pending("no idna in MOONPOST_DATA")
    end
    for _, case in ipairs((assert(json.decode(data.read(folder .. "/bad_punycode_tests.json"))))) do
      assert.is_nil(core.dns_name(case.decoded))
      assert.is_nil(core.dns_unicode(case.decoded))
    end
  end)
end)
