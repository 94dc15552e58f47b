local certificates = require "moonpost.certificates"
local tmpdir = require "spec.support.tmpdir"
local wired = require "spec.support.wired"

describe("moonpost.certificates", function()
  local dir, getenv

  before_each(function()
    dir, getenv = tmpdir.new(), os.getenv
    os.getenv = function(name) -- luacheck: ignore
      if name == "XDG_STATE_HOME" then
        return dir:join("state")
      end
      return getenv(name)
    end
  end)

  after_each(function()
    os.getenv = getenv -- luacheck: ignore
    wired.release_log()
    dir:remove()
  end)

  it("lists certificates, the default one first, then those for names", function()
    local tls = assert(certificates.check({
      certificate = "mx.pem", key = "mx.key", sni = { ["b.example"] = { certificate = "b.pem" },
        ["a.example"] = { certificate = "a.pem" } },
      min_version = "1.3", tickets = false,
    }, "p.lua:1"))
    local config = certificates.config(tls, false, "x")
    assert.same({
      { certificate = "mx.pem", key = "mx.key" }, { name = "a.example", certificate = "a.pem" },
      { name = "b.example", certificate = "b.pem" },
    }, config.certs)
    assert.same({ "1.3", "off", false }, { config.min_version, config.client, config.tickets })
  end)

  for name, case in pairs {
    ["no certificate"] = { {}, "tls.certificate: a file is needed" },
    ["an unknown option"] = { { certificat = "x" },
      'unknown option "tls.certificat" %(did you mean "certificate"%?%)' },
    ["client certificates without authorities"] = { { certificate = "x", client = "ask" }, "needs tls.client_ca" },
    ["an unknown version"] = { { certificate = "x", min_version = 1.2 }, "tls.min_version: one of" },
    ["a name without a certificate"] = { { certificate = "x", sni = { ["a.example"] = {} } },
      'tls.sni%["a.example"%]: a certificate is needed' },
    ["a name with something else"] = { { certificate = "x", sni = { ["a.example"] = "a.pem" } }, "a table expected" },
    ["a number"] = { 7, "tls: a table" },
  } do
    it("refuses " .. name, function()
      local tls, why = certificates.check(case[1], "p.lua:1")
      assert.is_nil(tls)
      assert.matches(case[2], why)
    end)
  end

  it("makes a development certificate when asked, once, and says so", function()
    local lines = wired.catch_log("warn")
    local config = assert(certificates.config("development", false, "mx.example.org"))
    assert.same({ "development.key", "development.pem" }, dir:list("state/moonpost"))
    assert.equal(dir:join("state/moonpost/development.pem"), config.certs[1].certificate)
    assert.matches("made a development certificate", lines[1])
    local key = dir:read("state/moonpost/development.key")
    assert(certificates.config("development", false, "mx.example.org"))
    assert.equal(key, dir:read("state/moonpost/development.key"))
    assert.matches("using a development certificate", lines[2])
  end)

  it("makes one when a listener insists on TLS and the policy says nothing, and only then", function()
    wired.catch_log("error")
    assert.is_nil(certificates.config(nil, false, "x"))
    assert.is_nil(certificates.config(false, true, "x"))
    assert.same({}, dir:list("state"))
    assert.is_table(certificates.config(nil, true, "mx.example.org"))
  end)

  it("says in one line why none can be made", function()
    dir:write("state", "a file in the way")
    local config, why = certificates.config("development", false, "mx.example.org")
    assert.is_nil(config)
    assert.matches("^tls: no development certificate: ", why)
    assert.is_nil(why:find("\n", 1, true))
  end)

  it("lives in .moonpost where there is no folder for state", function()
    os.getenv = function() return nil end -- luacheck: ignore
    assert.equal(".moonpost", certificates.folder())
    os.getenv = function() return "relative" end -- luacheck: ignore
    assert.equal(".moonpost", certificates.folder())
  end)

  it("offers STARTTLS with it", function()
    local house = wired.new({ tls = "development" })
    assert.matches("STARTTLS", house:session().ehlo)
    assert.is_nil(wired.new():session().ehlo:find("STARTTLS", 1, true))
  end)

  it("fails the start, not the process, when a file is missing", function()
    local moonpost, core = require "moonpost", require "moonpost.core"
    wired.catch_log()
    local server = moonpost.server { listen = "smtp://127.0.0.1:25", tls = { certificate = dir:join("none.pem") } }
    local ok, err = server:start { worker = core.virtual_worker() }
    assert.is_nil(ok)
    assert.equal("config", err.kind)
    assert.matches("none.pem", tostring(err))
    assert.is_nil(tostring(err):find("\n", 1, true))
  end)
end)
