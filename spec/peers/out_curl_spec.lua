-- curl's own test cases for its SMTP client, with ours in curl's place: the lines it says, the body as it goes over the wire,
-- and whether it succeeds.
local curl_cases = require "spec.peers.curl_cases"
local data = require "spec.support.data"
local moonpost = require "moonpost"
local ports = require "spec.support.ports"
local scripted = require "spec.support.sinks.scripted"

-- What is not ours to do.
local skipped = {
  ["1320"] = "an HTTP proxy", ["906"] = "NTLM", ["936"] = "NTLM", ["934"] = "DIGEST-MD5", ["942"] = "EXTERNAL",
  ["944"] = "EXTERNAL", ["960"] = "of a curl without IDN",
}

local function repaired(upload)
  return (upload:gsub("\r?\n", "\r\n"))
end

-- Where ours does not do as curl, and why. What is here stands in the place of the case's.
local otherwise = {
  ["646"] = { why = "lone LF is repaired", upload = repaired },
  ["900"] = {
    why = "lone LF is repaired",
    upload = function(upload)
      return (upload:gsub("\n\r\n%.\r\n$", "\r\n.\r\n"))
    end,
  },
  ["918"] = {
    why = "those who are not refused are served",
    upload = function(_, run)
      return run.upload .. ".\r\n"
    end,
    protocol = function(protocol)
      return (protocol:gsub("QUIT", "RCPT TO:<recipient.three@example.com>\r\nRCPT TO:<sTrAnGe>\r\n"
        .. "RCPT TO:<recipient.five@example.com>\r\nDATA\r\nQUIT"))
    end,
  },
  ["938"] = {
    why = "who it acts for is said when it is given",
    change = function(run)
      run.authzid = run.user
    end,
  },
  ["940"] = {
    why = "with credentials that cannot be used nothing is sent",
    ok = false,
    protocol = function()
      return "EHLO 940\r\n"
    end,
    upload = function()
      return nil
    end,
  },
  ["956"] = {
    why = "what the server cannot carry is refused here",
    protocol = function()
      return "EHLO 956\r\nQUIT\r\n"
    end,
  },
  ["966"] = {
    why = "a domain stays as it is where SMTPUTF8 is said",
    protocol = function(protocol)
      return (protocol:gsub("xn%-%-4cab6c", "\xc3\xa5\xc3\xa4\xc3\xb6"))
    end,
  },
}

local function login(run)
  if not run.user then
    return nil
  end
  return {
    user = run.user, password = not run.token and run.password or nil, token = run.token, authzid = run.authzid,
    mechanisms = run.mechanism and { run.mechanism } or nil,
    in_clear = { "PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER" },
  }
end

-- What is sent, whatever its addresses look like.
local function send(client, run)
  for _, address in ipairs { run.from, table.unpack(run.to) } do
    if not address:find("@", 1, true) then -- client:send would not have it
      return client:transact { from = run.from, to = run.to, body = run.upload }
    end
  end
  local good, result, err = pcall(client.send, client, { from = run.from, to = run.to, message = run.upload })
  if not good then
    return {} -- nothing was: an address that may not be written
  end
  return (result or err).recipients
end

-- One URL of the command line. True when it succeeds as curl would say.
local function perform(run)
  local client, err = moonpost.connect {
    url = "smtp://" .. run.host, helo = run.ehlo, tls = run.ssl and "opportunistic" or "none", auth = login(run),
  }
  if not client then
    return false, tostring(err)
  end
  local _ <close> = client
  local ok
  if run.upload then
    local served, rows = 0, send(client, run)
    for _, row in ipairs(rows) do
      served = served + (row.ok and 1 or 0)
    end
    ok = served > 0 and (run.allowfails or served == #rows)
  else
    local reply
    if run.nobody then
      reply = client:rset()
    elseif run.to[1] then
      reply = run.request and client:raw(run.request .. " " .. run.to[1]) or client:vrfy(run.to[1])
    else
      reply = client:raw "HELP"
    end
    ok = reply.ok or reply.code == 553 -- an ambiguous name is an answer too
  end
  client:quit()
  return ok
end

describe("curl's cases", function()
  local folder = data.folder "smtp-client-curl"
  if not folder then
    pending("no smtp-client-curl in MOONPOST_DATA")
    return
  end

  for _, name in ipairs(data.files(folder)) do
    local number = name:match("^test(%d+)$")
    if number then
      local port = ports.free()
      local case = curl_cases.parse(data.read(folder .. "/" .. name), {
        TESTNUMBER = number, SMTPPORT = tostring(port), PROXYPORT = "1", HOSTIP = "127.0.0.1", LOGDIR = "log", SRCDIR = "src",
        VERSION = "8",
      })
      local other = otherwise[number] or {}
      local check = skipped[number] and pending or it
      local note = skipped[number] or other.why

      check(("%s: %s%s"):format(number, case.name, note and (" (%s)"):format(note) or ""), function()
        local server <close> = scripted {
          commands = case.replies.commands, capabilities = case.replies.capabilities, mechanisms = case.replies.mechanisms,
          data = case.replies.data, initial = case.runs[1].initial, port = port,
        }
        local ok, lines, upload = true, {}, nil
        for _, run in ipairs(case.runs) do
          if other.change then
            other.change(run)
          end
          ok = perform(run) and ok
          local heard = server:heard()
          table.move(heard.lines, 1, #heard.lines, #lines + 1, lines)
          upload = heard.upload
        end
        local function expected(what)
          if other[what] then
            return other[what](case[what], case.runs[1])
          end
          return case[what]
        end
        assert.equal(expected "protocol", table.concat(lines, "\r\n") .. "\r\n")
        assert.is_true(expected "upload" == upload, "the body differs") -- some are long
        if other.ok ~= nil then
          assert.equal(other.ok, ok)
        else
          assert.equal(case.errorcode == 0, ok)
        end
      end)
    end
  end
end)
