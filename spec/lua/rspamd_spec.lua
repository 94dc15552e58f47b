local json = require "moonpost.json"
local moonpost = require "moonpost"
local wired = require "spec.support.wired"

local MESSAGE = "Subject: hello\r\nX-A: 1\r\nX-A: 2\r\nX-Spam: Yes\r\n\r\nbody\r\n"

describe("moonpost.rspamd", function()
  local asked, former
  before_each(function()
    asked = {}
  end)
  after_each(function()
    moonpost.http.use(former)
    wired.release_log()
  end)

  -- rspamd answers with this, a table or the text of a body; or there is no answer, and why.
  local function answering(answer, why)
    former = moonpost.http.use(function(request)
      asked[#asked + 1] = request
      if answer == nil then
        return nil, why
      end
      return { status = why or 200, body = type(answer) == "table" and json.encode(answer) or answer }
    end)
  end

  -- Runs `fn(session, message)` as the hook of a message.
  local function with(fn, octets)
    local ok, err
    local house = wired.new({ domains = "example.org" }, function(server)
      server.on.message = function(session, message)
        ok, err = pcall(fn, session, message)
        message:discard "spec"
      end
    end)
    house:session({ ip = "203.0.113.9", port = 40000 }):send("ann@example.net", { "bob@example.org", "eve@example.org" }, octets or MESSAGE)
    assert.is_not_nil(ok)
    assert(ok, err)
  end

  it("tells what it knows of a message, and reads the answer", function()
    answering {
      action = "add header", score = 7.5, required_score = 15, symbols = { X = { score = 7.5, options = { "a" } } },
      messages = { smtp_message = "no\r\nthanks" }, is_skipped = false,
    }
    with(function(session, message)
      local found = assert(moonpost.rspamd({ url = "http://scan.example:11333/", password = "secret", settings = "inbound" }):check(session, message))
      assert.same({ "add header", 7.5, 15, "no??thanks", false }, { found.action, found.score, found.required, found.text, found.skipped })
      assert.equal(7.5, found.symbols.X.score)
      local request = asked[1]
      assert.equal("http://scan.example:11333/checkv2", request.url)
      assert.equal("POST", request.method)
      assert.matches(MESSAGE, request.body, 1, true)
      assert.same({ "bob@example.org", "eve@example.org" }, request.headers.Rcpt)
      assert.same({ "ann@example.net", "203.0.113.9", "client.example", "secret", "inbound", message.id }, {
        request.headers.From, request.headers.IP, request.headers.Helo, request.headers.Password, request.headers["Settings-ID"],
        request.headers["Queue-Id"],
      })
    end)
  end)

  for what, case in pairs {
    ["another status"] = { "", 503, "scanner" }, ["what is no JSON"] = { "<html>", nil, "protocol" }, ["a list"] = { "[]", nil, "protocol" },
    ["no action"] = { { score = 1 }, nil, "protocol" }, ["nothing"] = { nil, "timeout", "timeout" },
  } do
    it("has an error for " .. what, function()
      answering(case[1], case[2])
      with(function(session, message)
        local found, err = moonpost.rspamd():check(session, message)
        assert.is_nil(found)
        assert.equal(case[3], err.kind)
      end)
    end)
  end

  it("does not send what is too large", function()
    answering { action = "reject" }
    with(function(session, message)
      assert.equal("too_large", select(2, moonpost.rspamd({ size = 10 }):check(session, message)).kind)
      assert.same({}, asked)
    end)
  end)

  it("raises where it is misused", function()
    assert.error_matches(function() moonpost.rspamd { url = "file:///x" } end, "rspamd: url")
    assert.error_matches(function() moonpost.rspamd { uri = "x" } end, 'rspamd: .*"uri"')
    assert.error_matches(function() moonpost.rspamd "x" end, "rspamd: a table of options expected")
    assert.error_matches(function() moonpost.rspamd():check() end, "^rspamd:check: a session and a message expected")
  end)

  describe("apply", function()
    local function after(answer)
      local names
      answering(answer)
      with(function(session, message)
        local client = moonpost.rspamd()
        client:apply(message, assert(client:check(session, message)))
        names = {}
        for name, value in message.headers:each() do
          names[#names + 1] = ("%s=%s"):format(name, value)
        end
      end)
      return table.concat(names, "|"):gsub("^.-Subject", "Subject")
    end

    it("adds fields where they are wanted", function()
      assert.equal("Subject=hello|X-A=1|X-A=2|X-Spam=Yes|X-List=a|X-List=b|X-Plain=7", (after {
        action = "no action", milter = { add_headers = { ["X-Plain"] = 7, ["X-List"] = { { value = "a" }, "b" } } },
      }))
      local got = after {
        action = "no action", milter = { add_headers = { ["X-Top"] = { value = "t", order = 0 }, ["X-Last"] = { value = "l", order = -1 } } },
      }
      assert.matches("X%-Spam=Yes|X%-Last=l$", got)
      assert.is_nil(got:find("X-Top", 1, true)) -- above Subject, which is where `after` begins
    end)

    it("takes fields away, all of them or one", function()
      assert.equal("Subject=hello|X-Spam=Yes", (after { action = "no action", milter = { remove_headers = { ["X-A"] = 0 } } }))
      assert.equal("Subject=hello|X-A=1|X-Spam=Yes", (after { action = "no action", milter = { remove_headers = { ["x-a"] = 2 } } }))
      assert.equal("Subject=hello|X-A=1|X-Spam=Yes", (after { action = "no action", milter = { remove_headers = { ["X-A"] = -1, ["X-No"] = 1 } } }))
      assert.equal("Subject=hello|X-A=1|X-A=2|X-Spam=Yes", (after { action = "no action", milter = { remove_headers = { ["X-A"] = 9 } } }))
    end)

    it("writes another subject", function()
      assert.equal("Subject=[SPAM] hello|X-A=1|X-A=2|X-Spam=Yes", (after { action = "rewrite subject", subject = "[SPAM] hello" }))
    end)

    it("keeps what it is told inside its field", function()
      local got = after {
        action = "no action", milter = { add_headers = { ["X-Folded"] = "a\n  b\r\nBcc: x\0", ["Bad Name"] = "x", ["X-B"] = { {}, true } } },
      }
      assert.matches("X%-Folded=a\tb%?%?Bcc: x%?$", got)
    end)
  end)

  describe("as a plug-in", function()
    local function reply(answer, options, why)
      answering(answer, why)
      local names
      local house = wired.new({ domains = "example.org" }, function(server)
        server:use(require "moonpost.plugins.rspamd"(options))
        server.on.message = function(_, message)
          names = table.concat(message.headers:all "X-Spam", ",")
          message:discard "spec"
        end
      end)
      return house:session():send("ann@example.net", "bob@example.org", MESSAGE), names
    end

    for action, want in pairs {
      ["no action"] = { "^250 ", "" }, ["add header"] = { "^250 ", "Yes" }, ["rewrite subject"] = { "^250 ", "Yes" },
      ["reject"] = { "^550 5%.7%.1 Refused as spam" }, ["soft reject"] = { "^451 4%.7%.1 Please try again later" },
      ["greylist"] = { "^451 4%.7%.1 " }, ["something new"] = { "^250 ", "" },
    } do
      it("answers " .. action, function()
        local said, names = reply { action = action, score = 1 }
        assert.matches(want[1], said)
        assert.equal(want[2], names)
      end)
    end

    it("says what rspamd wants to be said", function()
      assert.matches("^550 5%.7%.1 Go away%?%?250 OK", (reply { action = "reject", messages = { smtp_message = "Go away\r\n250 OK" } }))
    end)

    it("says try again where nobody answers, or lets pass what it is told to", function()
      assert.matches("^451 4%.7%.1 Cannot be examined now", (reply(nil, nil, "connect")))
      local said, names = reply(nil, { fail = "open" }, "connect")
      assert.matches("^250 ", said)
      assert.equal("Yes", names)
    end)
  end)
end)
