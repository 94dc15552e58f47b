local compose = require "moonpost.compose"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local tmpdir = require "spec.support.tmpdir"

local function header(octets, name)
  local block = ("\r\n" .. octets:match("^(.-\r\n)\r\n")):gsub("\r\n[ \t]+", " ")
  return block:match("\r\n" .. name:gsub("%-", "%%-") .. ": ([^\r]*)\r\n")
end

describe("moonpost.compose", function()
  it("makes a message of a few words", function()
    local octets = assert(compose.message {
      from = "Ann Lee <ann@example.org>", to = { "bob@example.net", '"Lee, Cy" <cy@example.net>' }, subject = "Hi", text = "one\ntwo",
      date = 0,
    })
    assert.equal("Ann Lee <ann@example.org>", header(octets, "From"))
    assert.equal('bob@example.net, "Lee, Cy" <cy@example.net>', header(octets, "To"))
    assert.equal("Hi", header(octets, "Subject"))
    assert.equal("Thu, 1 Jan 1970 00:00:00 +0000", header(octets, "Date"))
    assert.matches("^<[%x.]+@example%.org>$", header(octets, "Message-ID"))
    assert.equal("7bit", header(octets, "Content-Transfer-Encoding"))
    assert.equal("one\r\ntwo\r\n", octets:match("\r\n\r\n(.*)$"))
    assert.is_nil(octets:gsub("\r\n", ""):find("[\r\n]"))
  end)

  it("gives each message an id of its own", function()
    local seen = {}
    for _ = 1, 1000 do
      local id = header(compose.message { from = "a@example.org", text = "" }, "Message-ID")
      assert.is_nil(seen[id])
      seen[id] = true
    end
  end)

  it("says what a field looks like that is none", function()
    for _, field in ipairs { "no colon", 5, {} } do
      local octets, why = compose.message { from = "a@example.org", to = "b@example.org", headers = { field } }
      assert.is_nil(octets)
      assert.matches('headers: "Name: value" expected, got "', why, 1, true)
    end
  end)

  it("lets headers stand in place of what it would add, in their order", function()
    local octets = assert(compose.message {
      from = "a@example.org", subject = "not this", text = "x",
      headers = { "Subject: this", { "X-One", "1" }, { "X-Two", "2" }, { "Message-Id", "<mine@example.org>" } },
    })
    assert.equal("this", header(octets, "Subject"))
    assert.equal("<mine@example.org>", header(octets, "Message-Id"))
    assert.is_nil(header(octets, "Message-ID"))
    assert.truthy(octets:find("X-One: 1\r\nX-Two: 2\r\n", 1, true))
  end)

  it("refuses what would break out of the header", function()
    for _, wrong in ipairs {
      { subject = "a\r\nBcc: x@example.org" }, { subject = "a\nb" }, { subject = 5 }, { from = "a@example.org\r\nX: y" },
      { to = "a@example.org\0" }, { to = "nobody" }, { to = 5 }, { headers = { { "X\r\n", "y" } } },
      { headers = { "no colon" } }, { headers = { { "X", "a\rb" } } }, { headers = { { "X", "\xff" } } }, { text = "\xff" },
      { text = 5 }, { subject = "\xff" }, { cc = { "b@example.org", false } }, { headers = { { "X", ("y"):rep(999) } } },
    } do
      wrong.from = wrong.from or "a@example.org"
      local octets, why = compose.message(wrong)
      assert.is_nil(octets, octets)
      assert.is_nil(why:find("[\r\n]"), why)
    end
  end)

  -- Python's email package reads what we wrote: words, addresses and text come back as they were given.
  it("is read by Python as it was meant", function()
    local subject = ("Grüße aus Köln, "):rep(12) .. "雪が降る =?not a word?="
    local text = "Ärger\n.\n..\nFrom here\ntrailing space \ntab\t\n" .. ("langeß"):rep(300) .. "\n=3D\n\n雪\n"
    local folder = tmpdir.new()
    local octets = assert(compose.message {
      from = "Jürgen Müller <juergen@example.org>", to = { "Ann, the first <ann@example.org>" }, subject = subject, text = text,
    })
    for line in octets:gmatch("[^\r\n]+") do
      assert.is_true(#line <= 78, line)
      assert.is_nil(line:find("[\x80-\xff]"))
    end
    folder:write("m", octets)
    folder:write("subject", subject)
    folder:write("text", text)
    folder:write("p.py", [[
import email, email.policy, sys
m = email.message_from_binary_file(open(sys.argv[1] + "/m", "rb"), policy=email.policy.default)
assert not m.defects, m.defects
assert m["subject"] == open(sys.argv[1] + "/subject", encoding="utf-8").read(), m["subject"]
assert m.get_content() == open(sys.argv[1] + "/text", encoding="utf-8").read(), m.get_content()
a = m["from"].addresses[0]
assert (a.display_name, a.addr_spec) == ("Jürgen Müller", "juergen@example.org"), a
a = m["to"].addresses[0]
assert (a.display_name, a.addr_spec) == ("Ann, the first", "ann@example.org"), a
]])
    local run = process.run { peers.python3, folder:join("p.py"), folder.path, timeout = 20 }
    folder:remove()
    assert.equal(0, run.code, run.output)
  end)

  -- What was left of a line used to be copied for each 75 octets of it: a text of 60 MB without line breaks kept a sender busy for hours.
  it("folds a text that is one line of megabytes", function()
    local text = ("0123456789 =\xc3\xbc"):rep(300000)
    local body, encoding = compose.body(text)
    assert.equal("quoted-printable", encoding)
    for line in body:gmatch("([^\n]*)\r\n") do
      assert.is_true(#line <= 76)
    end
    local back = body:gsub("=\r\n", ""):gsub("=(%x%x)", function(hex)
      return string.char(tonumber(hex, 16))
    end)
    assert.is_true(back == text .. "\r\n")
  end)
end)
