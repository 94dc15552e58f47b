-- docs/limits.md against lua/moonpost/schema.lua, row by row, and against a server that each limit is broken on.
local moonpost = require "moonpost"
local options = require "moonpost.options"
local schema = require "moonpost.schema"
local wired = require "spec.support.wired"

local PAGE = "docs/limits.md"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

-- Rows `| a | b | ...` whose first cell is code, of the tables of a page.
local function rows()
  local list, by_name = {}, {}
  for line in read(PAGE):gmatch("[^\n]+") do
    local cells = {}
    for cell in line:gmatch("|%s*([^|]-)%s*%f[|]") do
      cells[#cells + 1] = cell
    end
    local name = cells[1] and cells[1]:match("^`([%w_]+)`$")
    if name then
      assert(not by_name[name], "twice in " .. PAGE .. ": " .. name)
      local row = { name = name, default = cells[2], what = cells[3], reply = cells[4], spec = cells[5] }
      list[#list + 1], by_name[name] = row, row
    end
  end
  return list, by_name
end

local function defaults()
  local server = moonpost.server { listen = "smtp://127.0.0.1:25" }
  local values = {}
  for _, row in ipairs(server:describe()) do
    local name = row.option:match("^limits%.(.+)$")
    if name then
      values[name] = row.value
    end
  end
  return values
end

describe("docs/limits.md", function()
  local list, by_name = rows()

  it("has a row for every limit, in the order of the schema, and no other", function()
    local known, written = {}, {}
    for i, field in ipairs(schema.limits) do
      known[i] = field.name
    end
    for i, row in ipairs(list) do
      written[i] = row.name
    end
    assert.same(known, written)
  end)

  for name, value in pairs(defaults()) do
    it("gives the default of " .. name, function()
      assert.equal("`" .. value .. "`", by_name[name].default)
    end)
  end

  for _, field in ipairs(schema.limits) do
    it("gives the reply of " .. field.name .. " as the schema does", function()
      local written = by_name[field.name].reply
      assert.equal(field.reply, written:match("^`(.*)`$") or written)
    end)
  end

  for _, row in ipairs(list) do
    it("names a spec of " .. row.name .. " that speaks of it", function()
      local path = row.spec:match("^`(.*)`$")
      local text = read(path)
      local c
      for _, field in ipairs(schema.limits) do
        c = c or field.name == row.name and field.c
      end
      assert.truthy(text:find("%f[%w_]" .. row.name .. "%f[^%w_]") or c and text:find("%f[%w_]" .. c .. "%f[^%w_]"),
        path .. " does not speak of " .. row.name)
    end)
  end
end)

-- ---- each limit, broken -------------------------------------------------------------------------------------------

local function house(limits, more, define)
  local given = { domains = { "example.org" }, limits = limits }
  for key, value in pairs(more or {}) do
    given[key] = value
  end
  return wired.new(given, define or function(server)
    function server.on.message(_, message)
      message:discard("test")
    end
  end)
end

local function advance(one, seconds)
  one.worker:advance(seconds)
  one:settle()
end

-- The last line of what was said.
local function last(text)
  return text:match("([^\n]*)$")
end

local function envelope(peer)
  peer:command("MAIL FROM:<bob@example.net>")
  peer:command("RCPT TO:<alice@example.org>")
  assert(peer:command("DATA"):find("^354"))
end

-- name -> the reply that breaking the limit brings; "closed" for none.
local break_limit = {}

function break_limit.size()
  return house({ size = 100 }):session():command("MAIL FROM:<bob@example.net> SIZE=101")
end

function break_limit.overrun()
  local peer = house({ size = 100, overrun = 50 }):session()
  envelope(peer)
  return peer:command(("x"):rep(70), ("x"):rep(70), ("x"):rep(70))
end

-- Peers that stop in the middle: no body is near its own limit.
function break_limit.bodies()
  local one, peer = house { bodies = "1MiB" }, nil
  for _ = 1, 66 do
    peer = one:session()
    envelope(peer)
    peer.wire:send(("x"):rep(70) .. "\r\n")
  end
  return peer:command(".")
end

function break_limit.recipients()
  local peer = house({ recipients = 2 }):session()
  peer:command("MAIL FROM:<bob@example.net>")
  peer:command("RCPT TO:<a@example.org>")
  assert.equal("250 2.1.5 Recipient OK", peer:command("RCPT TO:<b@example.org>"))
  return peer:command("RCPT TO:<c@example.org>")
end

function break_limit.messages()
  local peer = house({ messages = 1 }):session()
  peer:send("bob@example.net", "alice@example.org")
  return peer:command("MAIL FROM:<bob@example.net>")
end

function break_limit.errors()
  local peer = house({ errors = 2 }):session()
  assert.truthy(peer:command("XYZZY"):find("^500"))
  return peer:command("XYZZY")
end

function break_limit.refused_recipients()
  local peer = house({ refused_recipients = 2 }, nil, function(server)
    function server.on.rcpt()
      return 550, "5.1.1", "No such user"
    end
  end):session()
  peer:command("MAIL FROM:<bob@example.net>")
  for i = 1, 2 do
    assert.equal("550 5.1.1 No such user", peer:command(("RCPT TO:<user%d@example.org>"):format(i)))
  end
  return peer:command("RCPT TO:<user3@example.org>")
end

local function with_password(server)
  function server.on.credentials()
    return { password = "right" }
  end
end

function break_limit.auth_failures()
  local one = house({ auth_failures = 1, auth_delay = 0 }, { auth_in_clear = true }, with_password)
  local reply = one:session():command("AUTH PLAIN AGEAYg==")
  one:settle()
  return reply
end

function break_limit.idle_commands()
  local peer = house({ idle_commands = 2, errors = 1 }):session()
  peer:command("NOOP")
  assert.equal("250 2.0.0 OK", peer:command("NOOP"))
  return peer:command("NOOP")
end

function break_limit.envelope()
  local peer = house({ envelope = "16KiB", recipients = 1000 }):session()
  peer:command("MAIL FROM:<bob@example.net>")
  local reply
  for i = 1, 400 do
    reply = peer:command(("RCPT TO:<%s%d@example.org>"):format(("a"):rep(40), i))
    if not reply:find("^250") then
      break
    end
  end
  return reply
end

function break_limit.line()
  local peer = house({ line = 100 }, { long_lines = "refuse" }):session()
  return (peer:send("bob@example.net", "alice@example.org", "Subject: x\r\n\r\n" .. ("x"):rep(101)))
end

function break_limit.header()
  local peer = house({ header = 1000 }):session()
  return (peer:send("bob@example.net", "alice@example.org", ("Subject: x\r\n"):rep(100) .. "\r\nx"))
end

function break_limit.fields()
  local one = house { fields = 3 }
  assert.matches("^250 ", one:session():send("bob@example.net", "alice@example.org", ("X: y\r\n"):rep(3) .. "\r\nx"))
  return (one:session():send("bob@example.net", "alice@example.org", ("X: y\r\n"):rep(4) .. "\r\nx"))
end

function break_limit.hops()
  local peer = house({ hops = 2 }):session()
  return (peer:send("bob@example.net", "alice@example.org", ("Received: x\r\n"):rep(3) .. "\r\nx"))
end

function break_limit.command_time()
  local one = house { command_time = 10 }
  local peer = one:session()
  advance(one, 11)
  return peer:read()
end

function break_limit.line_time()
  local one = house { line_time = 5 }
  local peer = one:session()
  peer.wire:send("NOO")
  advance(one, 6)
  return peer:read()
end

function break_limit.data_time()
  local one = house { data_time = 5 }
  local peer = one:session()
  envelope(peer)
  advance(one, 6)
  return peer:read()
end

function break_limit.data_rate()
  local one = house { data_rate = 100 }
  local peer = one:session()
  envelope(peer)
  for _ = 1, 40 do
    peer.wire:send("x")
    advance(one, 1)
  end
  return peer:read()
end

function break_limit.session_time()
  local one = house { session_time = 60, command_time = 100 }
  local peer = one:session()
  advance(one, 61)
  return peer:command("MAIL FROM:<bob@example.net>")
end

function break_limit.handshake_time()
  local one = house({ handshake_time = 5 }, { proxy = { "203.0.113.0/24" } })
  local peer = one:connect()
  advance(one, 6)
  return peer:closed() and "closed" .. peer:read() or "open"
end

function break_limit.auth_delay()
  local one = house({ auth_delay = 2 }, { auth_in_clear = true }, with_password)
  local peer = one:session()
  assert.equal("", peer:command("AUTH PLAIN AGEAYg=="))
  advance(one, 2)
  return peer:read()
end

function break_limit.greet_delay()
  local one = house { greet_delay = 2 }
  local peer = one:connect()
  assert.equal("", peer.banner)
  return peer:command("EHLO too.early.example")
end

function break_limit.hold()
  local peer = house({ hold = "1d" }, { extensions = { "FUTURERELEASE" } }):session()
  return peer:command("MAIL FROM:<bob@example.net> HOLDFOR=86401")
end

function break_limit.by()
  local peer = house({ by = 60 }, { extensions = { "DELIVERBY" } }):session()
  assert.truthy(peer.ehlo:find("DELIVERBY 60", 1, true))
  return peer:command("MAIL FROM:<bob@example.net> BY=59;R")
end

function break_limit.connections()
  local one = house { connections = 1 }
  one:connect()
  return one:connect({ ip = "198.51.100.7" }).banner
end

function break_limit.connections_per_address()
  local one = house { connections_per_address = 1 }
  one:connect()
  assert.truthy(one:connect({ ip = "198.51.100.7" }).banner:find("^220"))
  return one:connect().banner
end

-- Peers that talk on while a hook waits: sixteen of them hold a megabyte.
function break_limit.buffers()
  local one = house({ buffers = "1MiB", hook_time = "1h" }, nil, function(server)
    function server.on.mail()
      moonpost.sleep(600)
    end
  end)
  for _ = 1, 17 do
    local peer = one:session()
    peer:command("MAIL FROM:<bob@example.net>")
    peer.wire:send(("NOOP\r\n"):rep(12000))
  end
  return one:connect().banner
end

function break_limit.hook_time()
  local one = house({ hook_time = 5 }, nil, function(server)
    function server.on.mail()
      moonpost.sleep(60)
    end
  end)
  local peer = one:session()
  assert.equal("", peer:command("MAIL FROM:<bob@example.net>"))
  advance(one, 6)
  return peer:read()
end

function break_limit.message_time()
  local one = house({ message_time = 5 }, nil, function(server)
    function server.on.message(_, message)
      message:discard("test")
      moonpost.sleep(60)
    end
  end)
  local peer = one:session()
  assert.equal("", (peer:send("bob@example.net", "alice@example.org")))
  advance(one, 6)
  return peer:read()
end

-- What shows no reply, or needs a socket or the time of the day: these have a spec of their own, which the page names.
local elsewhere = { scram_iterations = true, write = true, body_memory = true, cpu_time = true, memory = true }

describe("a limit that is broken", function()
  after_each(wired.release_log)

  for _, field in ipairs(schema.limits) do
    if break_limit[field.name] then
      it(("answers as documented: limits.%s, %s"):format(field.name, field.reply), function()
        local reply = last(break_limit[field.name]())
        if field.reply == "closed" then
          assert.equal("closed", reply)
        else
          assert.equal(field.reply, reply:match("^(%d%d%d %d%.%d+%.%d+)") or reply:match("^%d%d%d") or reply)
        end
      end)
    else
      it("is held elsewhere: limits." .. field.name, function()
        assert.is_true(elsewhere[field.name])
      end)
    end
  end

  it("is told to a client of SCRAM: limits.scram_iterations", function()
    local one = house({ scram_iterations = 5000 }, { auth_in_clear = true, mechanisms = { "SCRAM-SHA-256" } },
      with_password)
    local first = one:session():command("AUTH SCRAM-SHA-256 biwsbj1hLHI9YWJj"):match("^334 (%S+)$")
    assert.truthy(first)
    one:settle()
    local alphabet, bits, octets = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", "", {}
    for char in first:gmatch("[%w+/]") do
      local n = alphabet:find(char, 1, true) - 1
      for i = 5, 0, -1 do
        bits = bits .. (n >> i & 1)
      end
    end
    for octet in bits:gmatch("%d%d%d%d%d%d%d%d") do
      octets[#octets + 1] = string.char(tonumber(octet, 2))
    end
    assert.truthy(table.concat(octets):find("i=5000$"))
  end)

  it("refuses numbers that make no sense, by the option's name", function()
    for name, value in pairs { recipients = 0, envelope = 100, line = 10, data_time = 0, scram_iterations = 0 } do
      local ok, why = pcall(moonpost.server, { listen = "smtp://127.0.0.1:25", limits = { [name] = value } })
      assert.is_false(ok)
      assert.truthy(why:find("limits." .. name .. ": at least", 1, true), why)
    end
  end)

  it("shows its default as it would be written in a policy", function()
    for _, field in ipairs(schema.limits) do
      local value = field.default
      if type(value) == "string" then
        local parsed = assert((field.type == "size" and require("moonpost.units").size
          or require("moonpost.units").duration)(value))
        assert.equal(value, options.show(parsed, field))
      end
    end
  end)
end)
