-- ARC by the suite of ValiMail: chains that are judged, and sets that are made.
local arc = require "moonpost.arc"
local data = require "spec.support.data"
local dns = require "moonpost.dns"
local suite = require "spec.support.suite"

local has_yaml, yaml = pcall(require, "lyaml")

local function crlf(text)
  return (text:gsub("\r?\n", "\r\n"))
end

-- Every test of a file, with the document that it stands in.
local function tests(path, fn)
  for _, document in ipairs(yaml.load(data.read(path), { all = true })) do
    if type(document) == "table" and document.tests then
      local names = {}
      for name in pairs(document.tests) do
        names[#names + 1] = name
      end
      table.sort(names)
      for _, name in ipairs(names) do
        fn(name, document.tests[name], document)
      end
    end
  end
end

local function zone_of(document)
  local zone = {}
  for name, text in pairs(document["txt-records"]) do
    zone[name] = { TXT = (text:gsub("%s+$", ""):gsub("\n", "")) }
  end
  return dns.zone(zone)
end

if not has_yaml then
  describe("arc-valimail", function()
    pending "needs lyaml"
  end)
  return
end

suite.declare {
  name = "arc-valimail",
  cases = function(folder)
    local list = {}
    tests(folder .. "/arc-draft-validation-tests.yml", function(name, test, document)
      -- An empty cv is a chain that came in broken: the source wants nothing told of it, and RFC 8617 5.2 says fail.
      local expected = test.cv ~= yaml.null and test.cv and test.cv ~= "" and test.cv:lower() or "fail"
      list[#list + 1] = {
        name = name,
        check = function()
          local found = assert(arc.verify(crlf(test.message or ""), { dns = zone_of(document), time = 1500000000 }))
          return found.result == expected, ("%s (%s) instead of %s"):format(found.result, found.reason, expected)
        end,
      }
    end)
    return list
  end,
}

local function tags(text)
  local list = {}
  for tag, value in text:gmatch "(%w+)%s*=([^;]*)" do
    list[tag] = value:gsub("%s+", "")
  end
  return list
end

local function field_of(octets, name)
  local header = octets:gsub("\r\n\r\n.*", "\r\n"):gsub("\r\n([ \t])", "%1")
  return ("\r\n" .. header):match("\r\n" .. name:gsub("-", "%%-") .. ":([^\r]*)")
end

-- What differs between a field of ours and the one that is expected: tag by tag, and white space counts nowhere.
local function differs(octets, name, expected)
  local got = field_of(octets, name)
  if name == "ARC-Authentication-Results" then
    local ours, theirs = got:gsub("%s+", ""), expected:gsub("%s+", "")
    return ours ~= theirs and ("%s: %s"):format(name, ours) or nil
  end
  local ours, theirs = tags(got), tags(expected)
  for tag, value in pairs(theirs) do
    if ours[tag] ~= value then
      return ("%s: %s=%s"):format(name, tag, ours[tag])
    end
  end
  for tag in pairs(ours) do
    if not theirs[tag] then
      return ("%s: %s= is too much"):format(name, tag)
    end
  end
end

suite.declare {
  name = "arc-valimail sign",
  folder = "arc-valimail",
  cases = function(folder)
    local list = {}
    tests(folder .. "/arc-draft-sign-tests.yml", function(name, test, document)
      list[#list + 1] = {
        name = name,
        check = function()
          local headers = {}
          for header in test["sig-headers"]:gmatch "[^:%s]+" do
            headers[#headers + 1] = header
          end
          local before = crlf(test.message)
          local octets = assert(arc.seal(before, {
            domain = document.domain, selector = document.sel, headers = headers, time = math.tointeger(tonumber(test.t)),
            key = "-----BEGIN RSA PRIVATE KEY-----\n" .. document.privatekey .. "-----END RSA PRIVATE KEY-----\n",
            authserv_id = test["srv-id"], dns = zone_of(document),
          }))
          if not test.AS or not test.AS:find "%S" then
            return octets == before, "a set too much"
          end
          local why = differs(octets, "ARC-Seal", test.AS) or differs(octets, "ARC-Message-Signature", test.AMS)
            or differs(octets, "ARC-Authentication-Results", test.AAR)
          return why == nil, why
        end,
      }
    end)
    return list
  end,
}
