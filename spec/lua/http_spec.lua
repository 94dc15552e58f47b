local certs = require "spec.support.certs"
local core = require "moonpost.core"
local http = require "moonpost.http"
local https = require "spec.support.https"
local moonpost = require "moonpost"
local peers = require "spec.support.peers"
local test = require "moonpost.test"

local it = peers.python3 and peers.openssl and it or pending

local function plain(body, ...)
  return "200 OK", table.concat({ "Content-Type: text/plain", ... }, "\r\n"), body
end

describe("moonpost.http", function()
  local web

  lazy_setup(function()
    web = https.start(certs.web)
  end)
  lazy_teardown(function()
    getmetatable(web).__close(web)
  end)

  local function request(path, options)
    local given = { url = "https://web.example.org" .. path, ca_file = certs.ca, connect_to = web.address, timeout = "20s" }
    for name, value in pairs(options or {}) do
      given[name] = value or nil
    end
    return http.request(given)
  end

  describe("request", function()
    it("gives status, headers and body, and runs the loop on the main coroutine", function()
      web:answer("web.example.org", "/one", plain("hello\n", "X-Twice: a", "x-twice:  b "))
      local response = assert(request "/one")
      assert.equal(200, response.status)
      assert.equal("hello\n", response.body)
      assert.equal("text/plain", response.headers["content-type"])
      assert.equal("a, b", response.headers["x-twice"])
    end)

    it("waits in tasks, several at once", function()
      web:answer("web.example.org", "/one", plain "1")
      local total = moonpost.run(function()
        local tasks = {}
        for i = 1, 10 do
          tasks[i] = moonpost.spawn(function()
            return assert(request "/one").body
          end)
        end
        local sum = 0
        for _, task in ipairs(tasks) do
          sum = sum + tonumber(task:join())
        end
        return sum
      end)
      assert.equal(10, total)
    end)

    it("is an answer with any status", function()
      assert.equal(404, assert(request "/none").status)
    end)

    it("sends method, headers and body, and nothing that was not asked for", function()
      local response = assert(request("/echo", { body = "a=1\0&b", headers = { ["X-Key"] = { "one", "two" }, ["X-Empty"] = "" } }))
      assert.matches("^POST /echo HTTP/1%.1\r\n", response.body)
      assert.matches("X%-Key: one\r\nX%-Key: two\r\n", response.body)
      assert.matches("X%-Empty:\r\n", response.body)
      assert.matches("User%-Agent: moonpost/", response.body)
      assert.equal("a=1\0&b", response.body:match("\n\n(.*)$"))
      assert.not_matches("Content%-Type", response.body)
      assert.not_matches("Expect", response.body)
      assert.matches("^DELETE /echo ", assert(request("/echo", { method = "DELETE" })).body)
      assert.matches("^PUT /echo .*\r\nContent%-Length: 0\n", assert(request("/echo", { method = "PUT" })).body)
    end)

    it("asks for a head alone", function()
      web:raw("web.example.org", "/head", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
      local response = assert(request("/head", { method = "HEAD", max_size = 4 }))
      assert.same({ "5", "" }, { response.headers["content-length"], response.body })
    end)

    it("follows no redirection unless told to", function()
      web:answer("web.example.org", "/from", "302 Found", "Location: https://other.example.org/to\r\nX-Of: first", "away")
      web:answer("other.example.org", "/to", plain "there")
      local response = assert(request "/from")
      assert.same({ 302, "away" }, { response.status, response.body })
      response = assert(request("/from", { follow = true }))
      assert.same({ 200, "there" }, { response.status, response.body })
      assert.is_nil(response.headers["x-of"])
    end)

    it("follows a redirection to no other scheme, and not for ever", function()
      web:answer("web.example.org", "/plain", "302 Found", "Location: http://web.example.org/one", "")
      local response, err = request("/plain", { follow = true })
      assert.is_nil(response)
      assert.equal("url", err.kind)
      web:answer("web.example.org", "/round", "302 Found", "Location: https://web.example.org/round", "")
      response, err = request("/round", { follow = 3 })
      assert.is_nil(response)
      assert.equal("http", err.kind)
    end)

    it("resolves the host by the addresses that it is given", function()
      local response = assert(http.request {
        url = "https://web.example.org:" .. web.port .. "/none", addresses = { "127.0.0.1" }, ca_file = certs.ca,
      })
      assert.equal(404, response.status)
    end)

    it("speaks http only where that is named", function()
      local clear <close> = https.start()
      clear:answer("127.0.0.1", "/x", plain "clear")
      local url = "http://" .. clear.address .. "/x"
      assert.has_error(function() http.request { url = url } end, "http.request: url: https:// is needed, unless `insecure` is set")
      assert.equal("clear", assert(http.request { url = url, insecure = true }).body)
    end)
  end)

  describe("what can go wrong", function()
    it("verifies the certificate: its authority and its name", function()
      for name, options in pairs {
        ["of a stranger"] = { ca_file = certs.stranger.certificate },
        ["without the name"] = { url = "https://unknown.example.org/" },
        ["by a file that is not there"] = { ca_file = "/nonexistent.pem" },
      } do
        local response, err = request("/one", options)
        assert.is_nil(response, name)
        assert.equal("tls", err.kind, name)
        assert.is_true(err.temporary)
      end
    end)

    it("verifies with `insecure` too", function()
      local _, err = request("/one", { insecure = true, ca_file = certs.stranger.certificate })
      assert.equal("tls", err.kind)
    end)

    it("ends at its deadline", function()
      web:raw("web.example.org", "/hang", "HANGHTTP/1.1 200 OK\r\n")
      local response, err = request("/hang", { timeout = 0.3 })
      assert.is_nil(response)
      assert.equal("timeout", err.kind)
      web:expect("^gone GET web.example.org /hang")
    end)

    it("is given up with its task", function()
      web:raw("web.example.org", "/hang", "HANGHTTP/1.1 200 OK\r\n")
      moonpost.run(function()
        local result, err = moonpost.timeout(0.3, request, "/hang")
        assert.is_nil(result)
        assert.equal("timeout", err.kind)
        assert.matches("took longer", err.message)
      end)
      core.worker():turn(false)
      web:expect("^gone GET web.example.org /hang")
    end)

    it("takes no more than max_size, whether the length is told or not", function()
      local body = ("x"):rep(1000)
      web:answer("web.example.org", "/told", plain(body))
      web:raw("web.example.org", "/untold", "HTTP/1.1 200 OK\r\n\r\n" .. body)
      web:raw("web.example.org", "/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" .. body .. "\r\n0\r\n\r\n")
      for _, path in ipairs { "/told", "/untold", "/chunked" } do
        assert.equal(body, assert(request(path, { max_size = 1000 })).body)
        local response, err = request(path, { max_size = 999 })
        assert.is_nil(response)
        assert.equal("too_large", err.kind)
      end
    end)

    it("takes no endless head", function()
      web:raw("web.example.org", "/head", "HTTP/1.1 200 OK\r\n" .. ("X-Line: " .. ("y"):rep(1000) .. "\r\n"):rep(100) .. "\r\nend")
      local response, err = request "/head"
      assert.is_nil(response)
      assert.equal("too_large", err.kind)
    end)

    it("tells a connection that fails, a name that is not known, and half a response", function()
      local _, err = request("/one", { connect_to = "127.0.0.1:1" })
      assert.equal("connect", err.kind)
      _, err = http.request { url = "https://nowhere.invalid/" }
      assert.equal("resolve", err.kind)
      web:raw("web.example.org", "/half", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
      _, err = request "/half"
      assert.equal("http", err.kind)
      assert.matches("^https://web.example.org/half: ", err.message)
    end)

    it("shows neither credentials nor a query", function()
      local _, err = request("", { url = "https://user:secret@web.example.org/a?key=secret", connect_to = "127.0.0.1:1" })
      assert.matches("^https://%*%*%*@web.example.org/a%?%.%.%.: ", err.message)
      assert.not_matches("secret", err.message)
    end)

    it("has no network on a virtual worker", function()
      local worker = core.virtual_worker()
      local got
      require("moonpost.task").hook(worker, 5, false, function()
        got = { request "/one" }
      end)
      assert.is_nil(got[1])
      assert.equal("network", got[2].kind)
    end)
  end)

  describe("in tests", function()
    local function load(answer)
      return test.load(function()
        local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25", domains = { "example.org" } }
        function server.on.rcpt(_, recipient)
          local response, err = moonpost.http.request { url = "https://web.example.org/" .. recipient.mailbox, timeout = "5s" }
          if not response then
            return 451, "4.3.0", err.kind
          elseif response.status == 404 then
            return 550, "5.1.1", response.headers["x-why"]
          end
        end
        return server
      end, { http = answer })
    end

    it("is answered by a function", function()
      local policy = load(function(given)
        assert.equal("5s", given.timeout)
        if given.url:find "alice" then
          return {}
        elseif given.url:find "late" then
          return nil, "timeout"
        elseif given.url:find "odd" then
          return "odd"
        end
        return { status = 404, headers = { ["X-Why"] = "nobody" } }
      end)
      local peer = policy:session { helo = "mail.example.net" }
      peer:mail "a@example.net"
      local function rcpt(name)
        local reply = peer:rcpt(name .. "@example.org")
        return ("%d %s"):format(reply.code, reply.text)
      end
      assert.matches("^250 ", rcpt "alice")
      assert.equal("451 timeout", rcpt "late")
      assert.equal("550 nobody", rcpt "bob")
      assert.matches("^451 ", rcpt "odd")
      policy:stop()
    end)

    it("has no network otherwise, and the test keeps its own", function()
      local policy = load(nil)
      local peer = policy:session { helo = "mail.example.net" }
      peer:mail "a@example.net"
      assert.equal("network", peer:rcpt("alice@example.org").text)
      policy:stop()
      assert.equal(404, assert(request "/none").status)
      assert.is_false((pcall(load, "a string")))
      assert.is_false((pcall(http.use, "a string")))
    end)

    it("and in a script, until the network is there again", function()
      assert.is_nil(http.use(function(given)
        return { body = given.method }
      end))
      local response = http.request { url = "https://web.example.org/", method = "PUT" }
      assert.is_function(http.use(nil))
      assert.same({ status = 200, headers = {}, body = "PUT" }, response)
    end)
  end)

  describe("options that make no sense raise", function()
    for name, case in pairs {
      ["no URL"] = { { url = false }, "url: one is needed" },
      ["a line break in the URL"] = { { url = "https://a/\r\nX: y" }, "url: a space or a control character" },
      ["another scheme"] = { { url = "ftp://a/", insecure = true }, "url: https:// or http:// is needed" },
      ["no host"] = { { url = "https:///a" }, "url: a scheme and a host" },
      ["a line break in a header"] = { { headers = { ["X-A"] = "b\r\nX-C: d" } }, "headers: a line of text" },
      ["a list of headers"] = { { headers = { "X-A: b" } }, 'headers: { Name = "value" } expected, no list' },
      ["a header's name with a colon"] = { { headers = { ["X-A: b\r\nX"] = "c" } }, "is no name of a header" },
      ["a header that is a table of tables"] = { { headers = { A = { {} } } }, "headers: a line of text" },
      ["a method with a space"] = { { method = "GET /" }, "method: upper case" },
      ["an address that is none"] = { { addresses = { "localhost" } }, '"localhost" is no address' },
      ["connect_to without a port"] = { { connect_to = "127.0.0.1" }, 'connect_to: "host:port" expected' },
      ["an unknown option"] = { { timeot = 1 }, 'unknown option "timeot"' },
      ["no time"] = { { timeout = 0 }, "timeout: more than nothing" },
      ["no size"] = { { max_size = 0 }, "max_size: more than nothing" },
      ["follow by a word"] = { { follow = "yes" }, "follow: true, false or a number" },
    } do
      it(name, function()
        local ok, err = pcall(request, "/one", case[1])
        assert.is_false(ok)
        assert.truthy(err:find(case[2], 1, true), err)
      end)
    end

    it("and no table at all", function()
      assert.has_error(function() http.request "https://a/" end, "http.request: a table expected")
    end)
  end)

  it("leaves nothing behind: a state may close in the middle of a request", function()
    web:raw("web.example.org", "/hang", "HANGHTTP/1.1 200 OK\r\n")
    local process = require "spec.support.process"
    local script = ([[package.path, package.cpath = %q, %q
      local moonpost, http = require "moonpost", require "moonpost.http"
      moonpost.spawn(function() http.request { url = "https://web.example.org/hang", connect_to = %q, ca_file = %q } end)
      moonpost.sleep(0.3) os.exit(0, true)]]):format(package.path, package.cpath, web.address, certs.ca)
    local build = os.getenv("MOONPOST_BUILD") or "build"
    local lua = io.open(build .. "/lua") and build .. "/lua" or "lua5.4"
    local result = process.run { lua, "-e", script }
    assert.equal(0, result.code, result.output)
    web:expect("^gone GET web.example.org /hang")
  end)
end)
