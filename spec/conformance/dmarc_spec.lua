--- The functional cases of rspamd: SPF, DKIM and DMARC of whole messages, over a DNS of their own.
local core = require "moonpost.core"
local data = require "spec.support.data"
local json = require "moonpost.json"
local moonpost = require "moonpost"
local suite = require "spec.support.suite"
local wired = require "spec.support.wired"

local has_spf, spf = pcall(require, "moonpost.spf")
local has_dkim, dkim = pcall(require, "moonpost.dkim")

-- The suite's DNS as a zone: what is not in it does not exist.
local function zone_of(records)
  local zone = {}
  for _, record in ipairs(records) do
    local name = record.name:lower()
    if record.rcode == "timeout" or record.rcode == "servfail" then
      local entry = zone[name] or {}
      entry.fail = entry.fail or {}
      entry.fail[record.type] = record.rcode
      zone[name] = entry
    elseif record.rcode == "norec" then
      zone[name] = zone[name] or {}
    elseif record.data then
      zone[name] = zone[name] or {}
      zone[name][record.type] = record.data
    end
  end
  return moonpost.dns.zone(zone)
end

local function judge(case, octets, list)
  local verdict, err
  local house = wired.new({ domains = "example.org" }, function(server)
    server.on.message = function(session, message)
      local ok
      ok, err = pcall(function()
        local domain, why = moonpost.dmarc.author(message)
        assert(domain, why)
        local sender = case.ip and spf.check { ip = session.ip, mailfrom = message.sender.address, helo = session.helo }
        verdict = moonpost.dmarc.check { from_domain = domain, spf = sender or nil, dkim = dkim.verify(message), psl = list }
      end)
      message:discard "spec"
      return not ok and 451 or nil
    end
  end)
  local peer = house:session { ip = case.ip or "127.0.0.1", port = 40000 }
  local reply = peer:send(case.from or "", "bob@example.org", octets)
  assert(verdict, err or reply)
  if verdict.result == "fail" then
    return "fail, disposition " .. verdict.disposition
  end
  return verdict.result
end

if not (has_spf and has_dkim) then
  describe("dmarc-rspamd", function()
    pending "needs moonpost.spf and moonpost.dkim"
  end)
  return
end

suite.declare {
  name = "dmarc-rspamd",
  cases = function(folder)
    local lists, cases = data.folder "psl", {}
    local zone = zone_of((assert(json.decode(data.read(folder .. "/dns.json")))))
    local list = lists and assert(core.psl(lists .. "/public_suffix_list.dat")) or nil
    for i, given in ipairs((assert(json.decode(data.read(folder .. "/cases.json"))))) do
      cases[i] = {
        name = given.name,
        check = function()
          local former = moonpost.dns.use(zone)
          local octets = data.read(folder .. "/messages/" .. given.file):gsub("\r?\n", "\r\n")
          local ok, got = pcall(judge, given, octets, list)
          moonpost.dns.use(former)
          wired.release_log()
          return ok and got == given.expect[1], "got " .. tostring(got)
        end,
      }
    end
    return cases
  end,
}
