-- The examples that send, as people start them: scripts, against our own server.
local ports = require "spec.support.ports"
local process = require "spec.support.process"
local served = require "spec.support.served"
local tmpdir = require "spec.support.tmpdir"
local uv = require "luv"

local top = uv.cwd()
local build = assert(uv.fs_realpath(os.getenv "MOONPOST_BUILD" or "build"))

-- A script with the library of the build under test.
local function run(env, name, ...)
  env.LUA_PATH = ("%s/lua/?.lua;%s/lua/?/init.lua;;"):format(top, top)
  env.LUA_CPATH = build .. "/lib/?.so;;"
  local lua = io.open(build .. "/lua") and build .. "/lua" or "lua5.4"
  return process.run { lua, top .. "/examples/" .. name, env = env, timeout = 30, ... }
end

local house, dir

setup(function()
  dir = tmpdir.new()
  house = served.start {
    listen = { "smtp://127.0.0.1:0" },
    hooks = [[
      local busy = true
      function server.on.rcpt(session, recipient)
        if recipient.localpart == "nobody" then
          return 550, "5.1.1", "No such mailbox"
        elseif recipient.localpart == "later" and busy then
          busy = false
          return 450, "4.2.1", "Not now"
        end
      end
    ]],
  }
end)

teardown(function()
  house:close()
  dir:remove()
end)

describe("examples/notifier.lua", function()
  local function notify(...)
    return run({
      NOTIFY_TO = "ops@example.org, nobody@example.org", NOTIFY_FROM = "cron@example.net", NOTIFY_VIA = "smtp://" .. house.at.smtp,
    }, "notifier.lua", ...)
  end

  it("says nothing when all is well", function()
    local result = notify("echo", "fine")
    assert.same({ 0, "" }, { result.code, result.output })
    assert.equal(0, #house:mail "ops")
  end)

  it("mails that there is no such command", function()
    assert.equal(127, notify("/nowhere/command").code)
    assert.matches("failed with status 127", house:take "ops", 1, true)
  end)

  it("mails what a command that fails has said, and ends as it did", function()
    local result = notify("sh", "-c", "echo 'it''s late'; echo \"$1\" >&2; printf 'caf\\351\\n'; exit 3", "x", "a 'word' of $HOME")
    assert.equal(3, result.code, result.output)
    local mail = house:take "ops"
    assert.matches("\nFrom: cron@example.net\nTo: ops@example.org, nobody@example.org\nSubject: [^\n]+: sh failed with status 3\n", mail)
    assert.matches("\nAuto-Submitted: auto-generated\n", mail, 1, true)
    assert.matches("It said:\n\nits late\na 'word' of $HOME\ncaf?\n", mail, 1, true)
    assert.matches("^notifier: nobody@example%.org: 550 5%.1%.1 No such mailbox\n", result.err)
  end)

  it("mails the end of what was said at length", function()
    local result = notify("sh", "-c", "yes line | head -n 20000; echo the end; kill -9 $$")
    assert.equal(137, result.code, result.output:sub(-500))
    local mail = house:take "ops"
    assert.matches("was ended by signal 9 after", mail, 1, true)
    assert.matches("\nthe end\n$", mail)
    assert.is_true(#mail < 52000)
  end)

  it("writes to standard error what it cannot send", function()
    local result = run({ NOTIFY_TO = "ops@example.org", NOTIFY_VIA = "smtp://127.0.0.1:" .. ports.free() }, "notifier.lua", "false")
    assert.equal(1, result.code)
    assert.matches("notifier: ops@example%.org: 451 4%.4%.1 .*\nfalse\nfailed with status 1 after", result.err)
  end)

  it("explains itself", function()
    assert.equal(64, run({ NOTIFY_TO = "ops@example.org" }, "notifier.lua").code)
    assert.equal(64, run({ NOTIFY_TO = false }, "notifier.lua", "true").code)
  end)
end)

describe("examples/mailing.lua", function()
  local people, done

  before_each(function()
    people = dir:write("people.csv", table.concat({
      "address,name,day", "ann@example.org,Ann,Monday", 'bob@example.org,"Bob ""the"" Builder, Jr.",Tuesday', "",
      "nobody@example.org,Nobody,never", "later@example.org,Lässig,später", "ann@example.org,Ann,again", "no address,X,Y",
    }, "\r\n") .. "\r\n")
    done = dir:join "done.csv"
    os.remove(done)
  end)

  local function mail_all(letter)
    return run({ MAIL_FROM = "news@example.net", MAIL_VIA = "smtp://" .. house.at.smtp }, "mailing.lua",
      letter or top .. "/examples/mailing.txt", people, done)
  end

  it("writes to everybody once, and again only to those who were deferred", function()
    local first = mail_all()
    assert.equal(75, first.code, first.output)
    assert.matches("\n2 delivered, 2 refused, 1 to try again\n$", first.out)
    assert.matches("later@example.org: deferred: 450 4.2.1 Not now\n", first.out, 1, true)
    assert.matches('no address: refused: .*"no address" is no address', first.out)
    assert.matches("\nSubject: News for Ann\n.*\n\nDear Ann,\n\nthe next meeting is on Monday%. Do come%.\n$", house:take "ann")
    assert.matches('\nDear Bob "the" Builder, Jr.,\n', house:take "bob", 1, true)
    local written = dir:read "done.csv"
    assert.matches('"ann@example.org","delivered","250 2.', written, 1, true)
    assert.matches('"nobody@example.org","refused","550 5.1.1 No such mailbox"\n', written, 1, true)
    assert.is_nil(written:find("later", 1, true))

    local second = mail_all()
    assert.equal(0, second.code, second.output)
    assert.equal("1 delivered, 0 refused, 0 to try again\n", second.out)
    assert.matches("Subject: =?UTF-8?B?", house:take "later", 1, true)
    assert.same({ 0, 0 }, { #house:mail "ann", #house:mail "bob" })
  end)

  it("sends nothing when a letter speaks of a column that is not there", function()
    local result = mail_all(dir:write("letter", "Hi\n\nDear {nmae}\n"))
    assert.not_equal(0, result.code)
    assert.matches("letter: no column {nmae}", result.err, 1, true)
    assert.equal(0, #house:mail "ann")
  end)

  it("explains itself", function()
    assert.equal(64, run({ MAIL_FROM = "news@example.net" }, "mailing.lua").code)
  end)
end)
