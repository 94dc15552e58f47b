local curl_cases = require "spec.peers.curl_cases"
local data = require "spec.support.data"
local peers = require "spec.support.peers"
local ports = require "spec.support.ports"
local process = require "spec.support.process"
local scripted = require "spec.support.sinks.scripted"
local tmpdir = require "spec.support.tmpdir"

local CASE = [==[
<?xml version="1.0" encoding="US-ASCII"?>
<testcase>
# a comment
<info>
<keywords>
SMTP
SASL AUTH PLAIN
</keywords>
</info>
<reply>
<servercmd>
CAPA SIZE 8BITMIME
AUTH PLAIN LOGIN
REPLY "AUTH PLAIN" 334 go\r\n
REPLY %b64[%00user%00secret]b64% 235 Authenticated
</servercmd>
<data crlf="yes">
250-one
250 two
</data>
</reply>
<client>
<features>
SSL
!win32
</features>
<name>
a case with everything
</name>
<file name="%LOGDIR/mail" crlf="headers" nonewline="yes">
From: a
X-Odd: %hex[%c3%b6]hex%%repeat[3 x ab]%

body
</file>
<stdin crlf="yes">
.
</stdin>
<command>
smtp://%HOSTIP:%SMTPPORT/%TESTNUMBER001 --mail-rcpt a@b --mail-rcpt 'c d@e' -u user:secret --sasl-ir -T %LOGDIR/mail -:
'smtp://who;AUTH=EXTERNAL@%HOSTIP:%SMTPPORT/2' --mail-from x@y --login-options "AUTH=PLAIN" -T -
</command>
</client>
<verify>
<protocol crlf="yes">
EHLO %TESTNUMBER
MAIL FROM:%LTx@y%GT
</protocol>
<upload>
..%CR
.%CR
</upload>
<errorcode>
55
</errorcode>
</verify>
</testcase>
]==]

local VARIABLES = {
  TESTNUMBER = "900", SMTPPORT = "4001", PROXYPORT = "4002", HOSTIP = "127.0.0.1", LOGDIR = "log", SRCDIR = "source", VERSION = "8",
}

describe("spec.peers.curl_cases", function()
  local case = curl_cases.parse(CASE, VARIABLES)

  it("reads name, keywords, features and the error code", function()
    assert.equal("a case with everything", case.name)
    assert.same({ "SMTP", "SASL AUTH PLAIN" }, case.keywords)
    assert.same({ "SSL", "!win32" }, case.features)
    assert.equal(55, case.errorcode)
  end)

  it("reads what the server is to say", function()
    assert.same({
      commands = { ["AUTH PLAIN"] = "334 go\r\n", ["AHVzZXIAc2VjcmV0"] = "235 Authenticated" },
      capabilities = { "SIZE", "8BITMIME" }, mechanisms = { "PLAIN", "LOGIN" }, data = "250-one\r\n250 two\r\n",
    }, case.replies)
  end)

  it("reads each URL of the command line with its options", function()
    local first, second = case.runs[1], case.runs[2]
    assert.equal(2, #case.runs)
    assert.same({ "a@b", "c d@e" }, first.to)
    assert.same({ "127.0.0.1:4001", "900001", "user", "secret", true }, {
      first.host, first.ehlo, first.user, first.password, first.initial,
    })
    assert.equal("From: a\r\nX-Odd: \xc3\xb6ababab\r\n\r\nbody", first.upload)
    assert.same({ "2", "who", "PLAIN", "x@y", ".\r\n" }, {
      second.ehlo, second.user, second.mechanism, second.from, second.upload,
    })
  end)

  it("reads what the client is to say", function()
    assert.equal("EHLO 900\r\nMAIL FROM:<x@y>\r\n", case.protocol)
    assert.equal("..\r\n.\r\n", case.upload)
    assert.equal(".\r\n", curl_cases.unstuffed(case.upload))
    assert.equal("a\r\n.\r\n..b\r\n", curl_cases.unstuffed("a\r\n..\r\n...b\r\n.\r\n"))
  end)
end)

describe("curl's own cases", function()
  local folder = data.folder "smtp-client-curl"
  if not folder then
    pending("no smtp-client-curl in MOONPOST_DATA")
    return
  end

  local numbers = {}
  for _, name in ipairs(data.files(folder)) do
    numbers[#numbers + 1] = name:match("^test(%d+)$")
  end

  local function read(number, changes)
    local variables = { TESTNUMBER = number }
    for name, value in pairs(VARIABLES) do
      variables[name] = changes and changes[name] or variables[name] or value
    end
    return curl_cases.parse(data.read(folder .. "/test" .. number), variables)
  end

  it("are read, all 47", function()
    assert.equal(47, #numbers)
    for _, number in ipairs(numbers) do
      local case = read(number)
      assert.matches("^EHLO ", case.protocol, 1)
      for _, run in ipairs(case.runs) do
        assert.matches("^" .. number, run.ehlo)
        if case.upload then
          assert.is_string(run.upload, number)
          assert.equal(case.upload:gsub("\r\n%.\r\n$", "", 1):gsub("\n%.%.", "\n."):gsub("^%.%.", "."),
            (run.upload:gsub("\r\n$", "", 1)), number)
        end
      end
      for _, section in ipairs { case.protocol, case.upload or "", case.replies.data or "" } do
        assert.is_nil(section:find("%%%u"), number)
      end
    end
  end)

  -- The scripted server is known to be as curl's own: curl passes its cases against it.
  for _, number in ipairs { "902", "904", "910", "912", "914", "918", "922", "924", "930", "932", "948", "952", "954" } do
    local check = peers.curl and it or pending

    check("are passed by curl itself: " .. number, function()
      local dir <close> = tmpdir.new()
      local port = ports.free()
      local case = read(number, { SMTPPORT = tostring(port), LOGDIR = dir.path })
      local server <close> = scripted {
        commands = case.replies.commands, capabilities = case.replies.capabilities, mechanisms = case.replies.mechanisms,
        data = case.replies.data, initial = case.runs[1].initial, port = port,
      }
      for name, content in pairs(case.files) do
        dir:write(name:sub(#dir.path + 2), content)
      end
      local run = case.runs[1]
      local command = { peers.curl, "-s", run.url, "--max-time", "10", stdin = run.file == "-" and run.upload or "" }
      local function say(option, value)
        if value then
          table.insert(command, option)
          table.insert(command, value ~= true and value or nil)
        end
      end
      for _, to in ipairs(run.to) do
        say("--mail-rcpt", to)
      end
      say("--mail-from", run.from)
      say("-T", run.file)
      say("-u", run.login)
      say("--oauth2-bearer", run.token)
      say("--sasl-ir", run.initial)
      say("--sasl-authzid", run.authzid)
      say("-X", run.request)
      say("-I", run.nobody)
      local result = process.run(command)
      assert.equal(case.errorcode, result.code, result.output)
      local heard = server:heard()
      assert.equal(case.protocol, table.concat(heard.lines, "\r\n") .. "\r\n")
      assert.equal(case.upload, heard.upload)
    end)
  end
end)
