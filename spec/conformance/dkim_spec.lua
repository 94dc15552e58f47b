-- DKIM by the messages of others: dkimpy's tests and a collection of stalwart's.
local data = require "spec.support.data"
local dkim = require "moonpost.dkim"
local dns = require "moonpost.dns"
local suite = require "spec.support.suite"

local NOW = 1667843664 -- when the signature with an end was made

local function crlf(text)
  return (text:gsub("\r?\n", "\r\n"))
end

local function verify(octets, zone)
  return assert(dkim.verify(octets, { dns = dns.zone(zone), time = NOW }))
end

local function told(list)
  local words = {}
  for i, one in ipairs(list) do
    words[i] = ("%s (%s)"):format(one.result, one.reason or one.algorithm)
  end
  return #words > 0 and table.concat(words, ", ") or "no signature"
end

local function all(list, result, count)
  for _, one in ipairs(list) do
    if one.result ~= result then
      return false, told(list)
    end
  end
  return #list == count, told(list)
end

suite.declare {
  name = "dkim-stalwart",
  cases = function(folder)
    local list = {}
    for _, name in ipairs(data.files(folder)) do
      if name:find "^%d+%.txt$" then
        list[#list + 1] = {
          name = name,
          check = function()
            local records, message = data.read(folder .. "/" .. name):match "^(.-)\r?\n\r?\n(.*)$"
            local zone = {}
            for owner, text in records:gmatch "(%S+) ([^\r\n]+)" do
              zone[owner] = { TXT = text }
            end
            local found = verify(crlf(message), zone)
            return all(found, "pass", #found > 0 and #found or 1)
          end,
        }
      end
    end
    return list
  end,
}

-- The keys of the suite have lost their armour.
local function armoured(text)
  return "-----BEGIN RSA PRIVATE KEY-----\n" .. text:gsub("%-%-%-%-%-[^\n]+%-%-%-%-%-\n?", "") .. "-----END RSA PRIVATE KEY-----\n"
end

suite.declare {
  name = "dkim-dkimpy",
  cases = function(folder)
    local list = {}
    local function read(name)
      return (data.read(folder .. "/" .. name):gsub("%s+$", ""))
    end
    local function message(name)
      return crlf(data.read(folder .. "/" .. name))
    end
    local function case(name, check)
      list[#list + 1] = { name = name, check = check }
    end
    local brisbane = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

    local function signed(form, name)
      return assert(dkim.sign(message(name or "test.message"), {
        domain = "example.com", selector = "test", key = armoured(data.read(folder .. "/test.private")), canonicalization = form, time = NOW,
      }))
    end
    local function zone(record)
      return { ["test._domainkey.example.com"] = { TXT = read(record) } }
    end

    case("rfc6376.signed.msg", function()
      return all(verify(message "rfc6376.signed.msg", {
        ["test._domainkey.football.example.com"] = { TXT = read "test.txt" },
        ["brisbane._domainkey.football.example.com"] = { TXT = brisbane },
      }), "pass", 2)
    end)
    case("ed25519test2.msg", function()
      return all(verify(message "ed25519test2.msg", { ["sed._domainkey.test.ex"] = { TXT = read "eximtest.dns" } }), "pass", 1)
    end)
    for _, form in ipairs { "simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed" } do
      for _, record in ipairs { "test.txt", "test2.txt" } do
        case(("test.message, %s, %s"):format(form, record), function()
          return all(verify(signed(form), zone(record)), "pass", 1)
        end)
      end
      case(("test.message, %s, further fields"):format(form), function()
        local octets = signed(form)
        if all(verify("X-New: field\r\n" .. octets, zone "test.txt"), "pass", 1) then
          for _, other in ipairs { "From: eve@example.net\r\n" .. octets, (octets:gsub("\r\n\r\n", "\r\nFrom: eve@example.net%0", 1)) } do
            local ok, why = all(verify(other, zone "test.txt"), "fail", 1)
            if not ok then
              return false, why
            end
          end
          return true
        end
      end)
    end
    for _, record in ipairs { "test_bad.txt", "badversion.txt", "badk.txt", "test_tlsrpt.txt" } do
      case("test.message, " .. record, function()
        return all(verify(signed "relaxed/relaxed", zone(record)), "permerror", 1)
      end)
    end
    case("ed25519test.msg", function()
      local octets = assert(dkim.sign(message "ed25519test.msg", {
        domain = "example.net", selector = "test", key = read "ed25519test.key", time = NOW,
      }))
      return all(verify(octets, { ["test._domainkey.example.net"] = { TXT = read "ed25519test.dns" } }), "pass", 1)
    end)
    case("rfc6376.msg", function()
      local octets = assert(dkim.sign(message "rfc6376.msg", {
        domain = "football.example.com", selector = "brisbane", key = read "rfc8032_7_1.key", time = NOW,
      }))
      return all(verify(octets, { ["brisbane._domainkey.football.example.com"] = { TXT = brisbane } }), "pass", 1)
    end)
    case("test_extra.message", function()
      return all(verify(signed("relaxed/relaxed", "test_extra.message"), zone "test.txt"), "pass", 1)
    end)
    case("test_nofrom.message", function()
      local octets, err = dkim.sign(message "test_nofrom.message", {
        domain = "example.com", selector = "test", key = armoured(data.read(folder .. "/test.private")),
      })
      return octets == nil and err.kind == "message", tostring(err)
    end)
    return list
  end,
}
