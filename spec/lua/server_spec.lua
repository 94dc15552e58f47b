local moonpost = require "moonpost"
local wired = require "spec.support.wired"

describe("moonpost.server", function()
  after_each(wired.release_log)

  local function rows(server)
    local by = {}
    for _, row in ipairs(server:describe()) do
      by[row.option] = row
    end
    return by
  end

  describe("raises one line at the caller's line for", function()
    local listen = { "smtp://127.0.0.1:25" }
    for name, case in pairs {
      ["no table"] = { "smtp://127.0.0.1:25", "a table of options expected, got a string" },
      ["an unknown option"] = { { listen = listen, domain = "x" },
        'unknown option "domain" %(did you mean "domains"%?%)' },
      ["an unknown limit"] = { { listen = listen, limits = { sise = 1 } },
        'unknown option "limits.sise" %(did you mean "size"%?%)' },
      ["an unknown TLS option"] = { { listen = listen, tls = { cert = "x" } }, 'unknown option "tls.cert"' },
      ["nothing to listen on"] = { {}, "listen: a list of endpoints is needed" },
      ["an empty list"] = { { listen = {} }, "listen: a list of endpoints is needed" },
      ["a bad endpoint"] = { { listen = { "smtp://here" } }, 'listen%[1%]: "smtp://here": "here" is no IP address' },
      ["a bad second endpoint"] = { { listen = { "smtp://", "smpt://" } }, 'listen%[2%]: .*did you mean "smtp"' },
      ["two listeners in one place"] = { { listen = { "smtp://127.0.0.1:25", "submission://localhost:25" }, tls = false },
        'listen%[2%]: submission://127.0.0.1:25' },
      ["a bad option of a listener"] = { { listen = { { "smtp://", nam = 1 } } }, 'listen%[1%]: unknown option "nam"' },
      ["a domain that is an address"] = { { listen = listen, domains = { "a@b" } }, 'domains: "a@b" is no domain' },
      ["a network that is none"] = { { listen = listen, relay = { networks = { "10.0.0.0/40" } } },
        'relay.networks: "10.0.0.0/40" is no network' },
      ["a proxy that is none"] = { { listen = listen, proxy = "localhost" }, 'proxy: "localhost" is no network' },
      ["a host name with a space"] = { { listen = listen, hostname = "my host" },
        'hostname: "my host" is no host name' },
      ["a banner with a line break"] = { { listen = listen, banner = "a\r\nb" }, "banner: control characters" },
      ["a size that is none"] = { { listen = listen, limits = { size = "big" } },
        'limits.size: a size such as "50MB"' },
      ["a time that is none"] = { { listen = listen, limits = { hook_time = "-1s" } }, "limits.hook_time: a duration" },
      ["too long a time"] = { { listen = listen, limits = { hook_time = "9999d" } }, "limits.hook_time: at most" },
      ["too large a count"] = { { listen = listen, limits = { recipients = 1 << 40 } }, "limits.recipients: at most" },
      ["an unknown mechanism"] = { { listen = listen, mechanisms = { "PLIAN" } }, 'mechanisms: unknown name "PLIAN"' },
      ["an unknown laxity"] = { { listen = listen, lax = { "everything" } }, 'lax: unknown name "everything"' },
      ["an unknown extension"] = { { listen = listen, extensions = { DSN = true, FOO = true } },
        'extensions: unknown name "FOO"' },
      ["submission with TLS turned off"] = { { listen = { "submission://" }, tls = false },
        "demands TLS, and tls is false" },
      ["TLS without a certificate"] = { { listen = listen, tls = { key = "x" } }, "tls.certificate: a file is needed" },
      ["TLS that is something else"] = { { listen = listen, tls = true },
        'tls: a table, "development" or false expected' },
    } do
      it(name, function()
        local line = debug.getinfo(1, "l").currentline + 1
        local ok, err = pcall(function() moonpost.server(case[1]) end)
        assert.is_false(ok)
        assert.matches("^spec/lua/server_spec.lua:" .. line .. ": moonpost.server: ", err)
        assert.matches(case[2], err)
        assert.is_nil(err:find("\n", 1, true))
      end)
    end
  end)

  it("listens twice where the system chooses the port", function()
    assert.equal(2, #moonpost.server({ listen = { "smtp://127.0.0.1:0", "smtp://127.0.0.1:0" } }).listeners)
  end)

  -- Each was taken in silence once: hooks that are never called, options that never count.
  for name, case in pairs {
    ["a hook beside server.on"] = { "rcpt", function() end, "server.rcpt: a hook is set as server.on.rcpt" },
    ["another server.on"] = { "on", { rcpt = function() end }, "server.on: hooks are set one by one" },
    ["an option that comes late"] = { "hostname", "mx.example.org", "server.hostname cannot be set: options are given to" },
  } do
    it("refuses " .. name .. " at the line that sets it", function()
      local server = moonpost.server { listen = "smtp://127.0.0.1:25" }
      local ok, err = pcall(function()
        server[case[1]] = case[2]
      end)
      assert.is_false(ok)
      assert.matches("^%.?/?spec/lua/server_spec.lua:%d+: " .. case[3]:gsub("%.", "%%."), err)
    end)
  end

  it("describes: nothing is bound, opened or made", function()
    local server = moonpost.server { listen = { "smtp://127.0.0.1:1", "submissions://127.0.0.1:2" },
      tls = { certificate = "/nowhere" } }
    assert.same({}, server.addresses)
    assert.is_nil(rawget(server, "_service"))
  end)

  it("lists the effective configuration with where each value came from", function()
    local line = debug.getinfo(1, "l").currentline + 1
    local server = moonpost.server {
      hostname = "mx.example.org",
      listen = { "smtp://127.0.0.1:2525", { "submission://127.0.0.1", name = "inside", tls = "optional" } },
      domains = { "Example.ORG" }, limits = { size = "10MB" }, tls = { certificate = "mx.pem", key = "mx.key" },
    }
    local by, here = rows(server), "spec/lua/server_spec.lua:" .. line
    assert.same({ '"mx.example.org"', here }, { by.hostname.value, by.hostname.source })
    assert.same({ "10MB", here }, { by["limits.size"].value, by["limits.size"].source })
    assert.same({ "100", "default" }, { by["limits.recipients"].value, by["limits.recipients"].source })
    assert.equal('"smtp://127.0.0.1:2525"', by["listen[1]"].value)
    assert.equal('"submission://127.0.0.1:587"', by["listen[2]"].value)
    assert.same({ '"inside"', here }, { by["listen[2].name"].value, by["listen[2].name"].source })
    assert.same({ '"optional"', here }, { by["listen[2].tls"].value, by["listen[2].tls"].source })
    assert.same({ '"mx.pem"', here }, { by["tls.certificate"].value, by["tls.certificate"].source })
    assert.same({ '"1.2"', "default" }, { by["tls.min_version"].value, by["tls.min_version"].source })
    assert.is_nil(by.listen)
    assert.is_nil(by.tls)
  end)

  it("takes one endpoint without a list", function()
    assert.equal(1, #moonpost.server { listen = "smtp://127.0.0.1:25" }.listeners)
    assert.equal("x", moonpost.server { listen = { url = "smtp://127.0.0.1:25", name = "x" } }.listeners[1].name)
  end)

  it("has a host name even when none is given", function()
    assert.matches("^[%w.-]+$", moonpost.server { listen = "smtp://127.0.0.1:25" }.options.hostname)
  end)

  describe("rules", function()
    local function reply(options, address, peer)
      local h = wired.new(options)
      local one = h:session(peer)
      one:command("MAIL FROM:<a@b.c>")
      return one:command("RCPT TO:<" .. address .. ">"):sub(1, 9)
    end

    it("are closed until opened", function()
      assert.equal("550 5.7.1", reply({}, "bob@example.org"))
    end)

    it("open for listed domains, whatever their case, and what is below where that is listed", function()
      assert.equal("250 2.1.5", reply({ domains = "example.org" }, "bob@EXAMPLE.org"))
      assert.equal("250 2.1.5", reply({ domains = "Example.ORG" }, "bob@example.org"))
      assert.equal("550 5.7.1", reply({ domains = "example.org" }, "bob@sub.example.org"))
      assert.equal("250 2.1.5", reply({ domains = ".example.org" }, "bob@sub.example.org"))
      assert.equal("550 5.7.1", reply({ domains = ".example.org" }, "bob@example.org"))
      assert.equal("250 2.1.5", reply({ domains = "*" }, "bob@anywhere.example"))
    end)

    it("open for relay networks", function()
      local options = { relay = { networks = { "10.0.0.0/8" } } }
      assert.equal("250 2.1.5", reply(options, "x@example.net", { ip = "10.1.2.3" }))
      assert.equal("550 5.7.1", reply(options, "x@example.net", { ip = "11.1.2.3" }))
    end)
  end)

  it("gives a rewritten recipient the class of its new domain", function()
    local seen
    local h = wired.new({ domains = { "example.org", ".sub.example" } }, function(server)
      server.on.message = function(_, m)
        m.recipients[1]:rewrite("a@EXAMPLE.org", "b@x.sub.example", "c@sub.example", "d@example.net")
        seen = {}
        for i, one in ipairs(m.recipients) do
          seen[i] = one.class
        end
        m:discard("x")
      end
    end)
    h:session():send("a@b.c", "bob@example.org")
    assert.same({ "local", "local", "relay", "relay" }, seen)
  end)

  it("takes another detail separator", function()
    local seen
    local h = wired.new({ domains = "example.org", detail_separator = "-" }, function(server)
      server.on.rcpt = function(_, r) seen = { r.mailbox, r.detail } end
    end)
    local peer = h:session()
    peer:command("MAIL FROM:<a@b.c>")
    peer:command("RCPT TO:<bob-x@example.org>")
    assert.same({ "bob", "x" }, seen)
  end)

  describe("limits reach the machine:", function()
    it("recipients, size, errors", function()
      local h = wired.new { domains = "example.org", limits = { recipients = 1, size = "1KB", errors = 2 } }
      local peer = h:session()
      assert.matches("SIZE 1000\n", peer.ehlo)
      assert.matches("^552 5.3.4", peer:command("MAIL FROM:<a@b.c> SIZE=1001"))
      peer:command("MAIL FROM:<a@b.c>")
      peer:command("RCPT TO:<a@example.org>")
      assert.matches("^452 4.5.3", peer:command("RCPT TO:<b@example.org>"))
      peer:command("FOO")
      peer:command("FOO")
      peer:command("FOO")
      assert.is_true(peer:closed())
    end)

    it("times", function()
      local h = wired.new { limits = { command_time = "10s" } }
      local peer = h:session()
      h.worker:advance(9)
      assert.equal("", peer:read())
      h.worker:advance(2)
      assert.matches("^421 4.4.2", peer:read())
    end)

    it("connections from one address", function()
      local h = wired.new { limits = { connections_per_address = 1 } }
      h:connect()
      assert.matches("^421 ", h:connect().banner)
      assert.matches("^220 ", h:connect({ ip = "203.0.113.10" }).banner)
    end)

    it("time of hooks", function()
      local h = wired.new({ limits = { hook_time = "2s" } }, function(server)
        server.on.helo = function() moonpost.sleep(5) end
      end)
      local peer = h:session()
      h.worker:advance(2)
      assert.matches("^451 ", peer:read())
    end)
  end)
end)
