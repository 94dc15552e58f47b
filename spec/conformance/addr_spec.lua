--- The addresses of is_email(): what is valid in SMTP is a Mailbox (RFC 5321 4.1.2) to us, and nothing else is. What is valid in header fields
--- alone (comments, folding, obsolete forms) has no place in an envelope.
local core = require "moonpost.core"
local data = require "spec.support.data"
local suite = require "spec.support.suite"

local entities = { amp = "&", lt = "<", gt = ">", quot = '"', apos = "'" }

-- XML text; control characters are written as their pictures, U+2400 and following.
local function plain(text)
  return (text:gsub("&(#?)(x?)(%w+);", function(numeric, hex, name)
    if numeric == "" then
      return entities[name]
    end
    return utf8.char(tonumber(name, hex == "x" and 16 or 10))
  end):gsub("\xe2\x90([\x80-\xa0])", function(octet)
    return string.char(octet:byte() - 0x80)
  end))
end

local function mailbox_valid(category)
  return category == "ISEMAIL_VALID_CATEGORY" or category == "ISEMAIL_DNSWARN" or category == "ISEMAIL_RFC5321"
end

local function read(path)
  local list = {}
  for id, body in data.read(path):gmatch '<test id="(%d+)">(.-)</test>' do
    local address = plain(body:match "<address>(.-)</address>" or "")
    local category, diagnosis = body:match "<category>(.-)</category>", body:match "<diagnosis>(.-)</diagnosis>"
    list[#list + 1] = {
      name = ("%s %s"):format(id, address), id = id, diagnosis = diagnosis,
      check = function()
        local taken = core.mailbox(address, false) ~= nil
        return taken == mailbox_valid(category), ("%s, %s: we say %s"):format(category, diagnosis, taken and "valid" or "invalid")
      end,
    }
  end
  return list
end

suite.declare {
  name = "addr-isemail",
  cases = function(folder)
    return read(folder .. "/tests.xml")
  end,
}

local one_group = 'RFC 5321 4.1.3: "::" stands for at least two groups'

suite.declare {
  name = "addr-isemail original",
  folder = "addr-isemail",
  cases = function(folder)
    return read(folder .. "/tests-original.xml")
  end,
  differences = {
    ["38 first.last@[IPv5:::12.34.56.78]"] = "a General-address-literal by the grammar; whether its tag is registered is no matter of syntax",
    ["39 first.last@[IPv6:1111:2222:3333::4444:5555:12.34.56.78]"] = one_group,
    ["45 first.last@[IPv6:1111:2222:3333::4444:5555:6666:7777]"] = one_group,
    ["230 first.last@[IPv6:::a2:a3:a4:b1:b2:b3:b4]"] = one_group,
    ["231 first.last@[IPv6:a1:a2:a3:a4:b1:b2:b3::]"] = one_group,
    ["252 first.last@[IPv6:::a2:a3:a4:b1:ffff:11.22.33.44]"] = one_group,
    ["254 first.last@[IPv6:a1:a2:a3:a4:b1::11.22.33.44]"] = one_group,
  },
}
