-- The examples as people start them: by the command line, on a real port.
local process = require "spec.support.process"
local socket = require "socket"
local tmpdir = require "spec.support.tmpdir"
local uv = require "luv"

local top = uv.cwd()

local function serve(dir, name, scheme)
  return process.start {
    process.moonpost, "serve", "--log-level", "info", "--grace", "1s", "--listen", scheme .. "://127.0.0.1:0",
    top .. "/examples/" .. name .. ".lua", cwd = dir.path,
    env = { PWD = dir.path, XDG_STATE_HOME = dir:join "state" },
  }
end

local function talk(port, lines)
  local peer = assert(socket.connect("127.0.0.1", port))
  peer:settimeout(10 * process.scale)
  local replies = {}
  local function read()
    repeat
      local line = assert(peer:receive "*l")
      replies[#replies + 1] = line
    until line:find("^%d%d%d ")
  end
  read()
  for _, line in ipairs(lines) do
    assert(peer:send(line .. "\r\n"))
    read()
  end
  peer:close()
  return replies
end

local function mail(to)
  return { "EHLO client.example", "MAIL FROM:<a@example.net>", ("RCPT TO:<%s>"):format(to), "DATA",
    "Subject: Hi\r\n\r\nHello.\r\n.", "QUIT" }
end

local function offer(to)
  return { "EHLO client.example", "MAIL FROM:<a@example.net>", ("RCPT TO:<%s>"):format(to), "QUIT" }
end

local cases = {
  catchall = { scheme = "smtp", to = "anybody@example.com", at = "mail/new" },
  mx = { scheme = "smtp", to = "bob+lists@example.org", at = "mail/bob/.lists/new" },
  submission = { scheme = "submission" },
  greylist = { scheme = "smtp", to = "bob@example.org", reply = "^450 4%.7%.1 Greylisted" },
  tickets = { scheme = "smtp", to = "support@example.org", at = "tickets" },
  proxy = { scheme = "smtp", to = "bob@example.org", reply = "^250 2%.1%.5" },
  tempfail = { scheme = "smtp", to = "450-4.2.2-Mailbox_full@example.org", reply = "^450 4%.2%.2 Mailbox full$" },
}

for name, case in pairs(cases) do
  describe(("examples/%s.lua"):format(name), function()
    it("passes moonpost check", function()
      local dir <close> = tmpdir.new()
      local result = process.run { process.moonpost, "check", top .. "/examples/" .. name .. ".lua", cwd = dir.path,
        env = { XDG_STATE_HOME = dir:join "state" } }
      assert.equal(0, result.code, result.output)
    end)

    it("is served", function()
      local dir <close> = tmpdir.new()
      local server <close> = serve(dir, name, case.scheme)
      local port = server:expect("listening on %l+://127%.0%.0%.1:(%d+)", 30)
      local replies = talk(port, case.at and mail(case.to) or case.to and offer(case.to) or { "EHLO a", "QUIT" })
      assert.matches("^220 ", replies[1])
      assert.matches("^221 ", replies[#replies])
      if case.at then
        assert.equal(1, #dir:list(case.at), server.output)
      end
      local said = not case.reply
      for _, reply in ipairs(replies) do
        said = said or reply:find(case.reply) ~= nil
      end
      assert.is_true(said, table.concat(replies, "\n"))
      assert.equal(0, (server:stop()))
    end)
  end)
end

describe("examples/catchall.lua", function()
  it("shows one line for a message, and says hello once however many workers there are", function()
    local dir <close> = tmpdir.new()
    local server <close> = process.start {
      process.moonpost, "serve", "--workers", "2", "--log-level", "info", "--listen", "smtp://127.0.0.1:0",
      top .. "/examples/catchall.lua", cwd = dir.path, env = { XDG_STATE_HOME = dir:join "state" },
    }
    local port = server:expect("listening on smtp://127%.0%.0%.1:(%d+)", 30)
    talk(port, mail "you@example.org")
    server:expect("^%d%d:%d%d:%d%d  a@example%.net %-> you@example%.org  Hi  %(%d+ octets%)  mail/new/")
    assert.equal(0, (server:stop()))
    local _, hellos = server.output:gsub("Taking any mail", "")
    assert.equal(1, hellos)
  end)
end)
