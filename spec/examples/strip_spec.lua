local mime = require "moonpost.mime"
local moonpost = require "moonpost"
local process = require "spec.support.process"
local test = require "moonpost.test"
local tmpdir = require "spec.support.tmpdir"

local function message(attachments)
  return assert(moonpost.message {
    from = "ann@example.net", to = "bob@example.org", subject = "Files", text = "See there.", attachments = attachments, date = 1767225600,
    id = "x@example.net",
  }):octets()
end

describe("examples/strip.lua", function()
  local function send(octets)
    local policy = test.load "examples/strip.lua"
    local reply = policy:session({ helo = "mail.example.net" }):send_message { from = "ann@example.net", to = "bob@example.org", data = octets }
    return reply, policy
  end

  it("takes programs out, and leaves everything else", function()
    local dir <close> = tmpdir.new()
    local here = process.run({ "pwd" }).out:gsub("\n", "")
    local p <close> = process.start { "sh", "-c", 'cd "$0" && exec "$@"', dir.path, process.moonpost, "serve", "--listen", "smtp://127.0.0.1:0",
      here .. "/examples/strip.lua" }
    local port = p:expect("listening on smtp://127.0.0.1:(%d+)")
    local octets = message {
      { content = "MZ", type = "application/octet-stream", filename = "Prize.EXE" },
      { content = "%PDF", type = "application/pdf", filename = "a.pdf" },
      { content = "x", type = "application/java-archive" },
    }
    assert(moonpost.run(moonpost.send, { from = "ann@example.net", to = "bob@example.org", message = octets, via = "smtp://127.0.0.1:" .. port }))
    p:expect("attachments removed", 10)
    local file = io.open(dir:join("mail/bob/new/" .. dir:list("mail/bob/new")[1]), "rb")
    local tree = assert(mime.parse((file:read("a"):gsub("\r?\n", "\r\n"))))
    file:close()
    local seen = {}
    for part in tree:each() do
      seen[#seen + 1] = part.type .. " " .. (part.filename or "-")
    end
    assert.same({ "multipart/mixed -", "text/plain -", "text/plain removed.txt", "application/pdf a.pdf", "text/plain removed.txt" }, seen)
    assert.matches("Prize%.EXE %(application/octet%-stream%)", tree:part(3):text())
    assert.equal("Prize.EXE, without a name", tree.root.headers:get "X-Removed")
    assert.equal("%PDF", tree:part(4):content())
    p:kill()
    assert.equal(0, p:wait())
  end)

  it("leaves messages without programs alone", function()
    local reply, policy = send(message { { content = "%PDF", type = "application/pdf", filename = "a.pdf" } })
    assert.equal(250, reply.code)
    assert.equal(0, #policy:logged "attachments removed")
  end)

  it("looks into messages that are forwarded", function()
    local inner = message { { content = "MZ", filename = "a.scr", type = "application/octet-stream" } }
    local reply, policy = send("From: ann@example.net\r\nContent-Type: message/rfc822\r\n\r\n" .. inner)
    assert.equal(250, reply.code)
    assert.equal(1, #policy:logged "attachments removed")
  end)

  it("refuses what is nested without end", function()
    local octets = {}
    for i = 1, 30 do
      octets[i] = ("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n"):format(i, i)
    end
    assert.equal("550 5.6.0", tostring((send(table.concat(octets) .. "\r\nx\r\n"))):sub(1, 9))
  end)
end)
