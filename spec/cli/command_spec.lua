local process = require "spec.support.process"

local function moonpost(...)
  return process.run { process.moonpost, ... }
end

describe("moonpost", function()
  it("says its version", function()
    for _, arg in ipairs { "--version", "version" } do
      local result = moonpost(arg)
      assert.equal(0, result.code)
      assert.matches("^moonpost %S+\n$", result.out)
    end
  end)

  it("explains itself and each command on standard output", function()
    for _, arg in ipairs { "--help", "-h", "help" } do
      local result = moonpost(arg)
      assert.equal(0, result.code)
      assert.matches("usage: moonpost COMMAND", result.out)
      assert.matches("return server", result.out, 1, true)
    end
    for _, command in ipairs { "serve", "check", "send", "passwd" } do
      local result = moonpost("help", command)
      assert.equal(0, result.code)
      assert.matches("usage: moonpost " .. command, result.out, 1, true)
      assert.equal(result.out, moonpost(command, "--help").out)
      assert.equal("", result.err)
    end
  end)

  it("names in the help of serve every option that serve takes", function()
    local out = moonpost("help", "serve").out
    for _, option in ipairs { "workers", "listen", "user", "group", "grace", "log-level", "log-format" } do
      assert.matches("--" .. option .. " ", out, 1, true)
    end
  end)

  -- { arguments, what is said }
  local wrong = {
    { {}, "usage: moonpost COMMAND" },
    { { "serv" }, 'there is no command "serv" (did you mean "serve"?)' },
    { { "--versoin" }, 'unknown option "--versoin" (did you mean "--version"?)' },
    { { "help", "chek" }, 'there is no command "chek" (did you mean "check"?)' },
    { { "serve" }, "serve: POLICY is missing" },
    { { "serve", "--worker", "2", "p.lua" }, "serve: unknown option --worker (did you mean --workers?)" },
    { { "serve", "-x", "p.lua" }, "serve: unknown option -x" },
    { { "serve", "--workers", "none", "p.lua" }, '--workers: a number from 1 to 256 expected, got "none"' },
    { { "serve", "--workers=0", "p.lua" }, "--workers: a number from 1 to 256 expected" },
    { { "serve", "p.lua", "--listen" }, "--listen needs a value: --listen URL" },
    { { "serve", "--listen", "127.0.0.1:25", "p.lua" }, '--listen: "127.0.0.1:25" is no endpoint such as "smtp://0.0.0.0:25"' },
    { { "serve", "--listen", "smtp://example.com:25", "p.lua" },
      '--listen: "smtp://example.com:25": "example.com" is no IP address: to listen takes an address of this machine' },
    { { "serve", "--grace", "soon", "p.lua" }, "--grace: a duration" },
    { { "serve", "--log-level", "loud", "p.lua" }, "--log-level: error, warn, info or debug expected" },
    { { "serve", "--group", "mail", "p.lua" }, "--group needs --user" },
    { { "serve", "p.lua", "q.lua" }, 'unexpected argument "q.lua"' },
    { { "check", "--json=1", "p.lua" }, "--json takes no value" },
    { { "passwd", "--scheme", "md5" }, "--scheme: scram-sha-256 or scram-sha-1 expected" },
  }
  for _, row in ipairs(wrong) do
    it(("refuses `moonpost %s` with status 2"):format(table.concat(row[1], " ")), function()
      local result = moonpost(table.unpack(row[1]))
      assert.equal(2, result.code)
      assert.equal("", result.out)
      assert.matches(row[2], result.err, 1, true)
    end)
  end
end)

describe("moonpost passwd", function()
  local core = require "moonpost.core"

  it("makes a SCRAM-SHA-256 line for a file of users, each time with a salt of its own", function()
    local first = process.run { process.moonpost, "passwd", "ann", stdin = "pencil\n" }
    assert.equal(0, first.code)
    assert.matches("^ann:SCRAM%-SHA%-256%$%d+:[%w+/=]+%$[%w+/=]+:[%w+/=]+\n$", first.out)
    assert.equal("", first.err)
    assert.not_equal(first.out, process.run({ process.moonpost, "passwd", "ann", stdin = "pencil\n" }).out)
  end)

  it("leaves the name out when none is given, and takes the older scheme", function()
    local result = process.run { process.moonpost, "passwd", "--scheme", "scram-sha-1", stdin = "pencil\r\n" }
    assert.equal(0, result.code)
    assert.matches("^SCRAM%-SHA%-1%$", result.out)
    assert.equal(#core.password("SCRAM-SHA-1", "pencil") + 1, #result.out)
  end)

  it("refuses an empty input, an empty password and a name that would break the line", function()
    for _, row in ipairs { { "", "empty" }, { "\n", "cannot be used" } } do
      local result = process.run { process.moonpost, "passwd", stdin = row[1] }
      assert.equal(1, result.code)
      assert.equal("", result.out)
      assert.matches(row[2], result.err, 1, true)
    end
    assert.equal(1, process.run({ process.moonpost, "passwd", "a:b", stdin = "pencil\n" }).code)
  end)
end)
