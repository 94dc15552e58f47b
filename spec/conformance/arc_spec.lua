-- ARC by ValiMail's suite: chains that are judged, and sets that are made.
local arc = require "moonpost.arc"
local authres = require "moonpost.authres"
local core = require "moonpost.core"
local data = require "spec.support.data"
local dns = require "moonpost.dns"
local suite = require "spec.support.suite"

local function documents(folder, name)
  return require "lyaml".load(data.read(folder .. "/" .. name), { all = true })
end

local function crlf(text)
  return (text:gsub("\r?\n", "\r\n"))
end

local function zone_of(document)
  local zone = {}
  for name, text in pairs(document["txt-records"] or {}) do
    zone[name] = { TXT = text }
  end
  return dns.zone(zone)
end

-- Every test of every document; `check(document, test)`.
local function cases(folder, name, check)
  local list = {}
  for _, document in ipairs(documents(folder, name)) do
    for key, test in pairs(document.tests) do
      list[#list + 1] = {
        name = key,
        check = function()
          return check(document, test)
        end,
      }
    end
  end
  table.sort(list, function(a, b)
    return a.name < b.name
  end)
  return list
end

suite.declare {
  name = "arc-valimail",
  cases = function(folder)
    return cases(folder, "arc-draft-validation-tests.yml", function(document, test)
      local want = tostring(test.cv or ""):lower()
      want = want == "" and "fail" or want -- it comes with cv=fail
      local found = assert(arc.verify(crlf(test.message), { dns = zone_of(document), time = 1500000000 }))
      return found.result == want, ("%s (%s), and not %s"):format(found.result, found.reason or "-", want)
    end)
  end,
}

-- A list of tags without white space, which is nobody's concern here.
local function squeezed(text)
  local tags = assert(core.dkim_tags(text:gsub("%s+$", "")))
  for name, value in pairs(tags) do
    tags[name] = value:gsub("%s+", "")
  end
  return tags
end

local function same(expected, actual)
  for _, tags in ipairs { expected, actual } do
    for name in pairs(tags) do
      if expected[name] ~= actual[name] then
        return false, ("%s=%s, and not %s"):format(name, tostring(actual[name]), tostring(expected[name]))
      end
    end
  end
  return true
end

local made = { AS = "arc-seal", AMS = "arc-message-signature", AAR = "arc-authentication-results" }

-- The results of whoever seals, of all fields that have its name, as one text; and what they say of the chain.
local function results_of(message, server)
  local list, chain = {}, nil
  for _, field in ipairs(core.arc_fields(message, false)) do
    local read = field.name == "authentication-results" and authres.parse(field.value)
    if read and read.id == server then
      list[#list + 1] = field.value:gsub("^[^;]*;%s*", "")
      for _, one in ipairs(read.results) do
        chain = one.method == "arc" and one.result or chain
      end
    end
  end
  return list[1] and ("%s; %s"):format(server, table.concat(list, "; ")), chain
end

suite.declare {
  name = "arc-valimail sign",
  folder = "arc-valimail",
  cases = function(folder)
    return cases(folder, "arc-draft-sign-tests.yml", function(document, test)
      local message = crlf(test.message)
      local results, chain = results_of(message, test["srv-id"])
      local octets = results and assert(arc.seal(message, {
        domain = document.domain, selector = document.sel, chain = chain, results = results, time = test.t, dns = zone_of(document),
        headers = (function()
          local names = {}
          for name in test["sig-headers"]:gmatch "[^:%s]+" do
            names[#names + 1] = name
          end
          return names
        end)(),
        key = "-----BEGIN RSA PRIVATE KEY-----\n" .. document.privatekey .. "-----END RSA PRIVATE KEY-----\n",
      })) or message
      local fields = core.arc_fields(octets:sub(1, #octets - #message), false)
      for what, name in pairs(made) do
        local found
        for _, field in ipairs(fields) do
          found = field.name == name and field.value or found
        end
        local expected = test[what] or ""
        if expected:gsub("%s", "") == "" or not found then
          if found or expected:gsub("%s", "") ~= "" then
            return false, ("%s: %s, and not %s"):format(what, tostring(found), expected)
          end
        elseif what == "AAR" then
          if expected:gsub("%s", "") ~= found:gsub("%s", "") then
            return false, ("AAR: %s, and not %s"):format(found, expected)
          end
        else
          local ok, why = same(squeezed(expected), squeezed(found))
          if not ok then
            return false, what .. ": " .. why
          end
        end
      end
      return true
    end)
  end,
}
