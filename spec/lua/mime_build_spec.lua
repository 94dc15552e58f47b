-- Messages that are built, read by somebody else: Python's email package.
local json = require "moonpost.json"
local mime = require "moonpost.mime"
local moonpost = require "moonpost"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local tmpdir = require "spec.support.tmpdir"

-- What Python makes of a message: fields decoded, and the parts as [type, charset, file name, disposition, id, base64 of the content].
local READER = [==[
import base64, email, email.policy, json, sys
message = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
def shape(part):
    if part.is_multipart():
        return [part.get_content_type(), [shape(one) for one in part.iter_parts()]]
    return [part.get_content_type(), part.get_content_charset(), part.get_filename(), part.get_content_disposition(),
            part["content-id"], base64.b64encode(part.get_payload(decode=True)).decode()]
print(json.dumps({"fields": [[name, str(value)] for name, value in message.items()], "parts": shape(message),
                  "defects": [str(one) for part in message.walk() for one in part.defects]}))
]==]

local b64 = require "moonpost.compose".base64

local function read(octets)
  local result = process.run { peers.python3, "-c", READER, stdin = octets, timeout = 60 }
  assert.equal(0, result.code, result.output)
  local found = assert(json.decode(result.out))
  assert.same({}, found.defects)
  found.field = {}
  for _, pair in ipairs(found.fields) do
    found.field[pair[1]] = pair[2]
  end
  return found
end

local function build(of)
  of.from, of.to = of.from or "a@example.org", of.to or "b@example.net"
  local made = assert(moonpost.message(of))
  local octets = made:octets()
  assert.equal(made:size(), #octets)
  for line in octets:gmatch "([^\n]*)\n" do
    assert.is_true(#line <= 999 and line:sub(-1) == "\r" and not line:sub(1, -2):find "\r", line)
  end
  return octets, made
end

local function types(part)
  local list = {}
  for _, child in ipairs(type(part[2]) == "table" and part[2] or {}) do
    list[#list + 1] = types(child)
  end
  return part[1] .. (list[1] and "(" .. table.concat(list, " ") .. ")" or "")
end

describe("moonpost.message", function()
  local it = peers.python3 and it or pending

  it("has every field as others read it, beyond ASCII too", function()
    local found = read((build {
      from = "J\u{f6}rg M\u{fc}ller <joerg@example.org>", to = { "Ann <ann@example.net>", "\u{65e5}\u{672c} <nihon@example.net>" },
      cc = '"Doe, John" <john@example.net>', bcc = "secret@example.net", reply_to = "replies@example.org",
      subject = "Gr\u{fc}\u{df}e " .. ("\u{4f60}\u{597d}"):rep(60), text = "Hi", headers = { "X-Mood: fr\u{f6}hlich" },
      date = 1767225600, id = "abc@example.org",
    }))
    assert.same({
      From = "J\u{f6}rg M\u{fc}ller <joerg@example.org>", Cc = '"Doe, John" <john@example.net>', ["Reply-To"] = "replies@example.org",
      Subject = "Gr\u{fc}\u{df}e " .. ("\u{4f60}\u{597d}"):rep(60), ["X-Mood"] = "fr\u{f6}hlich", ["Message-ID"] = "<abc@example.org>",
      To = "Ann <ann@example.net>, \u{65e5}\u{672c} <nihon@example.net>",
    }, {
      From = found.field.From, Cc = found.field.Cc, ["Reply-To"] = found.field["Reply-To"], Subject = found.field.Subject,
      ["X-Mood"] = found.field["X-Mood"], ["Message-ID"] = found.field["Message-ID"], To = found.field.To,
    })
    assert.matches("^Thu, 0?1 Jan 2026 00:00:00 [+-]0000$", found.field.Date)
    assert.is_nil(found.field.Bcc)
  end)

  it("writes texts of all kinds in an encoding that carries them", function()
    for name, text in pairs {
      plain = "Hello.\nThere.\n", umlauts = "Gr\u{fc}\u{df}e\n", chinese = ("\u{4f60}\u{597d}"):rep(500) .. "\n", long = ("x"):rep(5000) .. "\n",
      spaces = "trailing  \nand tabs\t\n", dots = ".\n..\n", from = "From me\n", equals = "a=b=3D\n", empty = "",
    } do
      local found = read((build { text = text }))
      assert.equal("text/plain", found.parts[1])
      local want = text:gsub("\n", "\r\n")
      local mimed = assert(mime.parse((build { text = text })))
      assert.equal((want:gsub("%s+$", "")), (mimed:text():gsub("%s+$", "")), name)
      local charset = text:find "[\x80-\xff]" and "utf-8" or nil
      assert.is_true(charset == nil or found.parts[2] == charset, name)
      local content = require("moonpost.mime").parse("Content-Transfer-Encoding: base64\r\n\r\n" .. found.parts[6] .. "\r\n").root:content()
      assert.equal((want:gsub("\r", ""):gsub("%s+$", "")), (content:gsub("\r", ""):gsub("%s+$", "")), name)
    end
  end)

  it("nests texts, pictures, files and invitations as readers expect", function()
    for want, of in pairs {
      ["text/plain"] = { text = "x" }, ["text/html"] = { html = "<p>x" },
      ["multipart/alternative(text/plain text/html)"] = { text = "x", html = "<p>x" },
      ["multipart/related(text/html image/png)"] = { html = "<p>x", inline = { { content = "PNG", type = "image/png", filename = "p.png" } } },
      ["multipart/alternative(text/plain multipart/related(text/html image/png))"] =
        { text = "x", html = "<p>x", inline = { { content = "PNG", type = "image/png", filename = "p.png" } } },
      ["multipart/mixed(text/plain application/pdf)"] = { text = "x", attachments = { { content = "%PDF", type = "application/pdf" } } },
      ["multipart/mixed(multipart/alternative(text/plain multipart/related(text/html image/png)) application/pdf)"] = {
        text = "x", html = "<p>x", inline = { { content = "PNG", type = "image/png", filename = "p.png" } },
        attachments = { { content = "%PDF", type = "application/pdf" } },
      },
      ["multipart/alternative(text/plain text/calendar)"] = { text = "x", calendar = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n" },
      ["application/pdf"] = { attachments = { { content = "%PDF", type = "application/pdf" } } },
    } do
      assert.equal(want, types(read((build(of))).parts))
    end
  end)

  it("attaches octets, texts and files, with names beyond ASCII", function()
    local dir <close> = tmpdir.new()
    local octets = {}
    for i = 0, 255 do
      octets[i + 1] = string.char(i)
    end
    octets = table.concat(octets):rep(300)
    dir:write("all.bin", octets)
    local found = read((build {
      text = "x",
      attachments = {
        dir:join "all.bin", { content = octets, type = "application/x-all", filename = "r\u{e9}sum\u{e9} \u{4f60}.bin" },
        { text = "Gr\u{fc}\u{df}e", filename = 'quo"te;semi.txt' },
      },
    }))
    local parts = found.parts[2]
    assert.same({ "all.bin", "attachment", b64(octets) }, { parts[2][3], parts[2][4], parts[2][6] })
    assert.same({ "application/x-all", "r\u{e9}sum\u{e9} \u{4f60}.bin", b64(octets) }, { parts[3][1], parts[3][3], parts[3][6] })
    assert.same({ "text/plain", 'quo"te;semi.txt', b64 "Gr\u{fc}\u{df}e" }, { parts[4][1], parts[4][3], parts[4][6]:sub(1, #b64 "Gr\u{fc}\u{df}e") })
  end)

  it("shows pictures by their ids", function()
    local found = read((build {
      html = '<img src="cid:p.png">', inline = { { content = "PNG", type = "image/png", filename = "p.png" } },
    }))
    local picture = found.parts[2][2]
    assert.same({ "inline", "<p.png>" }, { picture[4], picture[5] })
  end)

  it("reads a large file piece by piece, and not into memory", function()
    local dir <close> = tmpdir.new()
    dir:write("large.bin", ("0123456789abcdef"):rep(1 << 20)) -- 16 MB
    local _, made = build { text = "x", attachments = { dir:join "large.bin" } }
    collectgarbage()
    local before, most, size, count = collectgarbage "count", 0, 0, 0
    for chunk in made:chunks() do
      size, count = size + #chunk, count + 1
      if count % 100 == 0 then
        collectgarbage() -- what is held, and not what is left lying about
        most = math.max(most, collectgarbage "count")
      end
    end
    assert.is_true(count > 200)
    assert.equal(made:size(), size)
    assert.is_true(most - before < 1024, ("%.0f KB"):format(most - before))
  end)

  it("is what others send", function()
    local test = require "moonpost.test"
    local got
    local policy = test.load(function()
      local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25", domains = "example.org" }
      function server.on.message(_, message)
        got = { message:text(), message.headers:text "Subject" }
        message:discard "spec"
      end
      return server
    end)
    local octets = build { subject = "Gr\u{fc}\u{df}e", text = "Hi" }
    policy:session({ helo = "mail.example.com" }):send_message { from = "a@example.com", to = "b@example.org", data = octets }
    assert.same({ "Hi", "Gr\u{fc}\u{df}e" }, { (got[1]:gsub("%s+$", "")), got[2] })
  end)

  it("refuses what no message can have", function()
    for want, of in pairs {
      ['unknown option "sbject"'] = { sbject = "x" },
      ["text: a string of UTF%-8"] = { text = "\xff" },
      ["inline: there is no html"] = { text = "x", inline = { { content = "x" } } },
      ["attachments: entry 1: "] = { text = "x", attachments = { { filename = "x" } } },
      ["attachments: a list expected"] = { text = "x", attachments = 7 },
      ["calendar: "] = { calendar = 7 },
      ['calendar: unknown name "metod" %(did you mean "method"'] = { calendar = { text = "x", metod = "CANCEL" } },
      ['bcc: "eve" is no address; its domain is missing'] = { bcc = { "eve" } },
      ["attachments: entry 1: charset: text is UTF%-8"] = { attachments = { { text = "x", charset = "latin1" } } },
      ["attachments: entry 1: only one of text, content and path"] = { attachments = { { text = "x", path = "x" } } },
      ["headers: "] = { headers = { "X-A: b\r\nX-C: d" } },
      ["[Ss]ubject"] = { subject = "a\r\nBcc: eve@example.net" },
    } do
      of.from, of.to = "a@example.org", "b@example.net"
      local _, err = pcall(function()
        local made = moonpost.message(of)
        return made
      end)
      assert.matches("mime_build_spec.lua:%d+: moonpost%.message: ", tostring(err))
      assert.matches(want, tostring(err))
    end
    local made, err = moonpost.message { from = "a@example.org", to = "b@example.net", text = "x", attachments = { "/nowhere/at/all" } }
    assert.is_nil(made)
    assert.matches("/nowhere/at/all", tostring(err))
  end)
end)
