local process = require "spec.support.process"
local tmpdir = require "spec.support.tmpdir"

local function check(dir, ...)
  local args = { process.moonpost, "check", ... }
  args.cwd = dir.path
  return process.run(args)
end

local policy = [[
local moonpost = require "moonpost"
local server = moonpost.server {
  hostname = "mx.example.org",
  listen = { "smtp://127.0.0.1:2525", { "lmtp://unix:/tmp/x.sock", name = "local" } },
  limits = { size = "10MB" },
}
server:use { name = "greylist", rcpt = function() end }
function server.on.rcpt() end
function server.on.message(_, message) message:discard("test") end
return server
]]

describe("moonpost check", function()
  it("prints listeners, hooks in their order and every option with its source", function()
    local dir <close> = tmpdir.new()
    dir:write("policy.lua", policy)
    local result = check(dir, "policy.lua")
    assert.equal(0, result.code)
    assert.equal("", result.err)
    assert.matches("^policy.lua: fine\n", result.out)
    assert.matches('smtp://127.0.0.1:2525 +name "smtp" +tls none: no certificate +auth none: no hook checks\n', result.out)
    assert.matches('lmtp://unix:/tmp/x.sock +name "local"', result.out)
    assert.matches("rcpt +greylist %(policy.lua:7%), then on %(policy.lua:8%)", result.out)
    assert.matches('hostname +"mx.example.org" +policy.lua:2\n', result.out)
    assert.matches("limits.size +10MB +policy.lua:2\n", result.out)
    assert.matches("limits.recipients +100 +default\n", result.out)
  end)

  it("prints the same as JSON", function()
    local dir <close> = tmpdir.new()
    dir:write("policy.lua", policy)
    local result = check(dir, "--json", "policy.lua")
    assert.equal(0, result.code)
    assert.matches('^{.*"ok":true.*}\n$', result.out)
    assert.matches('"hooks":[{"chain":["greylist (policy.lua:7)","on (policy.lua:8)"],"hook":"rcpt"}', result.out, 1, true)
    assert.matches('"option":"limits.size","source":"policy.lua:2","value":"10MB"', result.out, 1, true)
    assert.matches('"url":"lmtp://unix:/tmp/x.sock"', result.out, 1, true)
    dir:write("broken.lua", "return nil")
    result = check(dir, "--json", "broken.lua")
    assert.equal(1, result.code)
    assert.matches('"ok":false', result.out, 1, true)
  end)

  it("says that --listen takes the place of what the policy says", function()
    local dir <close> = tmpdir.new()
    dir:write("policy.lua", policy)
    local result = check(dir, "--listen", "submission://127.0.0.1:5870", "--json", "policy.lua")
    assert.equal(1, result.code) -- submission demands AUTH, and this policy checks nobody
    assert.matches("submission://127.0.0.1:5870 demands AUTH", result.err, 1, true)
    result = check(dir, "--listen", "smtp://127.0.0.1:2600", "--json", "policy.lua")
    assert.equal(0, result.code)
    assert.matches('"option":"listen[1]","source":"--listen"', result.out, 1, true)
    assert.is_nil(result.out:find("2525", 1, true))
  end)

  describe("tells what serving comes to", function()
    local function listeners(options, hooks)
      local dir <close> = tmpdir.new()
      dir:write("policy.lua", ([[
        local server = require("moonpost").server { hostname = "mx.example.org", %s }
        %s
        return server]]):format(options, hooks or ""))
      local result = check(dir, "policy.lua")
      assert.same({ "policy.lua" }, dir:list()) -- nothing was made
      return result
    end
    local auth = "function server.on.auth() return true end"

    it("of TLS that nothing asks for, and AUTH without it", function()
      local out = listeners('listen = { "smtp://127.0.0.1:2525", { "smtp://127.0.0.1:2526", auth_in_clear = true } }',
        auth).out
      assert.matches("2525 +name \"smtp\" +tls none: no certificate +auth none: no TLS, and auth_in_clear is false\n",
        out)
      assert.matches("2526 +name \"smtp\" +tls none: no certificate +auth optional: PLAIN LOGIN\n", out)
      assert.matches("\n  tls +none +default\n", out)
      assert.matches("\n  listen%[2%]%.auth_in_clear +true +policy.lua:1\n", out)
      assert.matches('\n  mechanisms +{ "PLAIN", "LOGIN" } +default, by the hooks that are set\n', out)
    end)

    it("of a development certificate, which it does not make", function()
      local out = listeners([[listen = { "smtp://127.0.0.1:2525", "submission://127.0.0.1:5870",
        { "smtps://127.0.0.1:4650", mechanisms = "plain" }, { "smtp://127.0.0.1:2526", tls = "off", auth = "off" } }]],
        auth).out
      assert.matches("smtp://127.0.0.1:2525 +name \"smtp\" +tls optional +auth optional: PLAIN LOGIN under TLS\n", out)
      assert.matches("5870 +name \"submission\" +tls required +auth required: PLAIN LOGIN under TLS\n", out)
      assert.matches("4650 +name \"smtps\" +tls implicit +auth optional: PLAIN\n", out)
      assert.matches("2526 +name \"smtp\" +tls none: turned off +auth none: turned off\n", out)
      assert.matches('\n  tls +"development" +submission://127.0.0.1:5870 demands TLS\n', out)
      assert.matches('\n  tls.certificate +"[^"]*development.pem" +made when it is missing\n', out)
    end)

    it("of what is announced", function()
      local out = listeners([[listen = { "smtp://127.0.0.1:2525", { "smtp://127.0.0.1:2526",
        extensions = { STARTTLS = false } } }, tls = "development", extensions = { "DSN", AUTH = false }]], auth).out
      assert.matches("2525 +name \"smtp\" +tls optional +auth none: it is not announced\n", out)
      assert.matches("2526 +name \"smtp\" +tls none: STARTTLS is not announced", out)
      assert.matches("\n  extensions +8BITMIME CHUNKING DSN [^\n]*STARTTLS +policy.lua:1\n", out)
    end)

    it("of a listener where nobody could be let in", function()
      local result = listeners('listen = { { "submission://127.0.0.1:5870", tls = "optional" } }', auth)
      assert.equal(1, result.code)
      assert.matches("submission://127.0.0.1:5870 demands AUTH, and nobody could: no TLS, and auth_in_clear is false",
        result.err, 1, true)
    end)
  end)

  it("knows the line of options that a tail call leaves no trace of", function()
    local dir <close> = tmpdir.new()
    dir:write("policy.lua",
      'return require("moonpost").server { listen = "smtp://127.0.0.1:1", hostname = "mx.example.org" }')
    assert.matches('hostname +"mx.example.org" +policy.lua:1\n', check(dir, "policy.lua").out)
  end)

  it("requires what lies beside the policy, from wherever it is started", function()
    local dir <close> = tmpdir.new()
    dir:write("etc/policy.lua", 'require "mailboxes"\n' .. policy)
    dir:write("etc/mailboxes.lua", "return {}")
    assert.equal(0, check(dir, "etc/policy.lua").code)
  end)

  it("calls no hook and binds nothing", function()
    local dir <close> = tmpdir.new()
    dir:write("policy.lua", [[
      local server = require("moonpost").server { listen = { "lmtp://unix:]] .. dir:join("socket") .. [[" } }
      function server.on.start() io.open("]] .. dir:join("started") .. [[", "w"):close() end
      function server.on.message(_, message) message:discard("test") end
      return server]])
    assert.equal(0, check(dir, "policy.lua").code)
    assert.same({ "policy.lua" }, dir:list())
  end)

  it("waits as long as the policy does while it is loaded", function()
    local dir <close> = tmpdir.new()
    dir:write("policy.lua", 'require("moonpost").sleep(0.01)\n' .. policy)
    assert.equal(0, check(dir, "policy.lua").code)
  end)

  local server = 'local _ = require("moonpost").server '
  local wrong = {
    { "a syntax error", "local x = = 1", "policy.lua:1: unexpected symbol near '='" },
    { "an unknown option", "\n" .. server .. '{ listen = "smtp://127.0.0.1:1", limts = {} }',
      'policy.lua:2: moonpost.server: unknown option "limts" (did you mean "limits"?)' },
    { "a wrong value", server .. '{ listen = "smtp://127.0.0.1:1", limits = { size = "big" } }',
      "policy.lua:1: moonpost.server: limits.size: a size" },
    { "no listener", server .. "{}", "policy.lua:1: moonpost.server: listen" },
    { "a hook that does not exist",
      'local s = require("moonpost").server { listen = "smtp://127.0.0.1:1" }\nfunction s.on.recpt() end',
      'policy.lua:2: server.on: there is no hook "recpt" (did you mean "rcpt"?)' },
    { "an error of its own", "local t = nil\nt.x = 1", "policy.lua:2: attempt to index a nil value (local 't')" },
    { "a raised table", "error(setmetatable({}, { __tostring = function() return 'no database' end }))",
      "policy.lua:1: no database" },
    { "a raised table without a text", "error({})", "policy.lua:1: a table was raised, and no text" },
    { "an error without a place", "error('no database', 0)", "policy.lua:1: no database" },
    { "nothing returned", "local x = 1", "policy.lua: a policy returns moonpost.server { ... }; this one returns nothing" },
    { "os.exit", "os.exit(0)", "policy.lua:1: os.exit: a policy cannot end the process that loads it" },
    { "something else returned", "return {}",
      "policy.lua: a policy returns moonpost.server { ... }; this one returns a table" },
    { "a missing module", 'require "nothing.there"', "policy.lua:1: module 'nothing.there' not found\n" },
    { "a module that is no Lua", 'require "broken"',
      "policy.lua:1: error loading module 'broken' from file './broken.lua': ./broken.lua:1: unexpected symbol near '='" },
    { "a module that cannot be read", 'require "knot"', "policy.lua:1: module 'knot': ./knot.lua: Too many levels of" },
    { "a missing certificate",
      'return require("moonpost").server { listen = "smtp://127.0.0.1:1", tls = { certificate = "absent.pem" } }',
      "policy.lua: absent.pem: no such file or directory" },
    { "two queues on one spool",
      'local queue = require("moonpost").queue\nqueue { spool = "there" }\nqueue { spool = "there/" }\n'
        .. 'return require("moonpost").server { listen = "smtp://127.0.0.1:1" }',
      'policy.lua:3: moonpost.queue: spool: "there/" is that of the queue at policy.lua:2 already' },
    { "precompiled code", string.dump(load "return 1"), "policy.lua: attempt to load a binary chunk" },
  }
  for _, row in ipairs(wrong) do
    it("tells of " .. row[1] .. " in one line, with status 1", function()
      local dir <close> = tmpdir.new()
      dir:write("policy.lua", row[2])
      dir:write("broken.lua", "local x = = 1")
      assert(os.execute(("ln -s knot.lua '%s/knot.lua'"):format(dir.path)))
      local result = check(dir, "policy.lua")
      assert.equal(1, result.code)
      assert.equal("", result.out)
      assert.matches("moonpost: " .. row[3], result.err, 1, true)
      assert.equal(1, select(2, result.err:gsub("\n", "")))
    end)
  end

  it("tells of a policy that is not there, and of a folder", function()
    local dir <close> = tmpdir.new()
    local result = check(dir, "absent.lua")
    assert.equal(1, result.code)
    assert.equal("moonpost: absent.lua: No such file or directory\n", result.err)
    dir:mkdir("folder")
    result = check(dir, "folder")
    assert.equal(1, result.code)
    assert.matches("^moonpost: [^\n]*folder[^\n]*\n$", result.err)
  end)

  it("gives up on a policy that does not come to an end, with its line, pcall or not", function()
    local core = require "moonpost.core"
    local plain = require "moonpost.plain"
    local dir <close> = tmpdir.new()
    for _, code in ipairs { "while true do end", "while true do pcall(function() while true do end end) end" } do
      local path = dir:write("policy.lua", "local x = 1\n" .. code)
      local worker, result, why = core.worker(), nil, nil
      core.fresh("spec.support.hasty", "run", plain.encode { path = path }, function(...)
        result, why = ...
        worker:stop()
      end)
      worker:run()
      assert.is_nil(result)
      assert.matches(path .. ":2: interrupted: a policy is loaded within ", why, 1, true)
    end
  end)

  it("names the whole path of a policy far away", function()
    local dir <close> = tmpdir.new()
    local far = ("x"):rep(80) .. "/policy.lua"
    dir:write(far, "local x = = 1")
    local result = check(dir, far)
    assert.equal("moonpost: " .. far .. ":1: unexpected symbol near '='\n", result.err)
  end)
end)
