local moonpost = require "moonpost"
local wired = require "spec.support.wired"

local authres = moonpost.authres

describe("moonpost.authres", function()
  after_each(wired.release_log)

  describe("parse", function()
    it("has whose word it is, and every result with what it is about", function()
      assert.same({
        id = "mx.example.org", version = "1", results = {
          { method = "spf", result = "pass", comment = "sender is 192.0.2.1", properties = { ["smtp.mailfrom"] = "Ann@example.net" } },
          {
            method = "dkim", version = "1", result = "fail", reason = 'bad "one"',
            properties = { ["header.d"] = "example.net", ["header.b"] = "a+/=" },
          },
        },
      }, authres.parse('mx.example.org 1; SPF=Pass (sender is 192.0.2.1) smtp.MailFrom=Ann@example.net;\r\n'
        .. '\tdkim/1=fail reason="bad \\"one\\"" header.d=example.net header.b="a+/=" header.d=other.example'))
    end)

    it("has no results where it says none", function()
      assert.same({ id = "mx.example.org", results = {} }, authres.parse "mx.example.org; none")
    end)

    it("tells what it passed over", function()
      local field = authres.parse "mx.example.org; ???; spf=pass"
      assert.is_true(field.damaged)
      assert.equal("spf", field.results[1].method)
    end)

    it("has no id where the field does not say whose it is", function()
      assert.is_nil(authres.parse("spf=pass smtp.mailfrom=a.example").id)
      assert.is_nil(authres.parse("mx.example.org spf=pass").id)
      assert.is_nil(authres.parse " \t ")
    end)

    it("takes time in proportion to its length", function()
      for _, text in ipairs { "(", "((a)", '"', "\\", "a;", "a=b;", "a=b c.d=e ", "a", " ", ";", "a=b (c) " } do
        local value = "mx.example.org; " .. text:rep(1000000 // #text)
        local begin = os.clock()
        authres.parse(value)
        assert.is_true(os.clock() - begin < 3, text)
      end
    end)

    it("raises without a value", function()
      assert.error_matches(function() authres.parse(nil) end, "^authres%.parse: a field's value expected, got a nil")
    end)
  end)

  local function with(octets, fn)
    local ok, err
    local house = wired.new({ domains = "example.org" }, function(server)
      server.on.message = function(_, message)
        ok, err = pcall(fn, message)
        message:discard "spec"
      end
    end)
    house:session():send("ann@example.net", "bob@example.org", octets)
    assert.is_not_nil(ok)
    assert(ok, err)
  end

  local INCOMING = table.concat({
    "Authentication-Results: MX.example.ORG; dmarc=pass header.from=bank.example",
    "Received: from x",
    "Authentication-Results: (hello) \"mx.example.org\"",
    "  1; dkim=pass header.d=bank.example",
    "authentication-results: mx.example.org/1; spf=pass",
    "Authentication-Results: mx.example.org. ; spf=pass",
    "Authentication-Results: mx.example.org dkim=pass",
    "Authentication-Results: spf=pass smtp.mailfrom=bank.example",
    "Authentication-Results: relay.example; spf=pass smtp.mailfrom=a.example",
    "Authentication-Results: relay.example 2; spf=fail",
    "X-Authentication-Results: mx.example.org; spf=pass",
    "Subject: x", "", "body", "",
  }, "\r\n")

  describe("strip", function()
    it("takes away what claims to be ours, in whatever form, and what does not say whose it is", function()
      with(INCOMING, function(message)
        assert.equal(6, authres.strip(message, "mx.example.org"))
        assert.same({ "relay.example; spf=pass smtp.mailfrom=a.example", "relay.example 2; spf=fail" },
          message.headers:all "Authentication-Results")
        assert.equal(1, #message.headers:all "X-Authentication-Results")
        assert.equal(0, authres.strip(message, "mx.example.org"))
      end)
    end)

    it("knows a name by its U-labels too", function()
      local FIELD = "Authentication-Results: %s; spf=pass\r\n"
      with(FIELD:format "B\u{fc}cher.example" .. FIELD:format "xn--bcher-kva.example" .. "\r\nx\r\n", function(message)
        assert.equal(2, authres.strip(message, { "other.example", "xn--bcher-kva.example" }))
      end)
    end)

    it("needs a name", function()
      with("Subject: x\r\n\r\nx\r\n", function(message)
        for _, ids in ipairs { {}, "", { "" }, 7 } do
          assert.error_matches(function() authres.strip(message, ids) end, "^authres%.strip: the names of this host expected")
        end
      end)
    end)
  end)

  describe("of", function()
    it("has the fields of who is believed, and of a version that is known", function()
      with(INCOMING, function(message)
        local fields = authres.of(message, { "relay.example" })
        assert.equal(1, #fields)
        assert.equal("a.example", fields[1].results[1].properties["smtp.mailfrom"])
        assert.same({}, authres.of(message, "else.example"))
      end)
    end)
  end)

  describe("format", function()
    local function round(result)
      return authres.parse((authres.format { id = "mx.example.org", results = { result } })).results[1]
    end

    it("writes what parse reads", function()
      local given = {
        method = "dkim", result = "fail", reason = "a \"reason\" with \\", comment = "2048 bit key",
        properties = { ["header.d"] = "example.net", ["header.b"] = "ab/+=", ["header.i"] = '"a b"@example.net' },
      }
      assert.same(given, round(given))
    end)

    it("says none where there is nothing", function()
      assert.equal("mx.example.org; none", authres.format { id = "mx.example.org", results = {} })
    end)

    it("has a line for each result, and no longer ones than need be", function()
      assert.equal(table.concat({
        "mx.example.org;",
        "\tspf=pass smtp.mailfrom=ann@example.net;",
        "\tdkim=pass (2048-bit key of a domain with a long name) header.d=example.net",
        "\theader.s=selector1;",
        "\tdmarc=pass header.from=example.net",
      }, "\r\n"), authres.format {
        id = "mx.example.org", results = {
          { method = "spf", result = "pass", properties = { { "smtp.mailfrom", "ann@example.net" } } },
          { method = "dkim", result = "pass", comment = "2048-bit key of a domain with a long name",
            properties = { { "header.d", "example.net" }, { "header.s", "selector1" } } },
          { method = "dmarc", result = "pass", properties = { ["header.from"] = "example.net" } },
        },
      })
    end)

    it("lets nothing that a peer wrote begin a line, a result or a field", function()
      local evil = 'x\r\nX-Evil: 1; dkim=pass ("\\) \0\x7f\xff'
      local field = authres.parse((authres.format {
        id = "mx.example.org",
        results = { { method = "spf", result = "fail", reason = evil, comment = evil, properties = { { "smtp.mailfrom", evil } } } },
      }))
      assert.equal(1, #field.results)
      assert.is_nil(field.damaged)
      assert.equal('x??X-Evil: 1; dkim=pass ("\\) ???', field.results[1].properties["smtp.mailfrom"])
      assert.equal(field.results[1].reason, field.results[1].properties["smtp.mailfrom"])
    end)

    it("goes into a message", function()
      with("Subject: x\r\n\r\nx\r\n", function(message)
        message:prepend("Authentication-Results", authres.format {
          id = "mx.example.org", results = {
            { method = "spf", result = "pass", properties = { { "smtp.mailfrom", ("a"):rep(60) .. "@example.net" } } },
            { method = "iprev", result = "fail", properties = { { "policy.iprev", "2001:db8::1" } } },
          },
        })
        assert.equal(("a"):rep(60) .. "@example.net", authres.of(message, "mx.example.org")[1].results[1].properties["smtp.mailfrom"])
        assert.equal("2001:db8::1", authres.of(message, "mx.example.org")[1].results[2].properties["policy.iprev"])
      end)
    end)

    for what, case in pairs {
      ["no id"] = { { results = {} }, "id: the name of this host expected" },
      ["no results"] = { { id = "a" }, "results: a list expected" },
      ["one result"] = { { id = "a", results = { method = "spf", result = "pass" } }, "results: this is one result; a list" },
      ["a slip"] = { { id = "a", results = { { method = "spf", result = "pass", propertys = {} } } },
        'results%[1%]: unknown name "propertys" %(did you mean "prop' },
      ["no method"] = { { id = "a", results = { { result = "pass" } } }, "results%[1%]: a table with a method expected" },
      ["a result of two words"] = { { id = "a", results = { { method = "spf", result = "pass x" } } }, "results%[1%]%.result: a word expected" },
      ["a comment that is no text"] = { { id = "a", results = { { method = "spf", result = "pass", comment = 1 } } }, "comment: a string expected" },
      ["a property without a type"] = { { id = "a", results = { { method = "spf", result = "pass", properties = { { "mailfrom", "x" } } } } },
        'properties: a name such as "smtp%.mailfrom"' },
    } do
      it("raises with " .. what, function()
        assert.error_matches(function() authres.format(case[1]) end, "^authres%.format: .*" .. case[2])
      end)
    end
  end)
end)
