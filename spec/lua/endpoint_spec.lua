local endpoint = require "moonpost.endpoint"

describe("moonpost.endpoint", function()
  for url, want in pairs {
    ["smtp://0.0.0.0:2525"] = { "smtp", false, "0.0.0.0", 2525 },
    ["smtp://127.0.0.1"] = { "smtp", false, "127.0.0.1", 25 },
    ["smtp://"] = { "smtp", false, "0.0.0.0", 25 },
    ["smtp://*:26"] = { "smtp", false, "0.0.0.0", 26 },
    ["smtp://:26"] = { "smtp", false, "0.0.0.0", 26 },
    ["smtp://localhost:26"] = { "smtp", false, "127.0.0.1", 26 },
    ["smtp://127.0.0.1:0"] = { "smtp", false, "127.0.0.1", 0 },
    ["SMTP://127.0.0.1:25/"] = { "smtp", false, "127.0.0.1", 25 },
    ["smtps://[::]"] = { "smtp", true, "::", 465 },
    ["submission://"] = { "submission", false, "0.0.0.0", 587 },
    ["submissions://[::1]:4650"] = { "submission", true, "::1", 4650 },
    ["lmtp://127.0.0.1:24"] = { "lmtp", false, "127.0.0.1", 24 },
    ["lmtp://[2001:db8::1]"] = { "lmtp", false, "2001:db8::1", 24 },
  } do
    it("reads " .. url, function()
      local at = assert(endpoint.parse(url))
      assert.same(want, { at.protocol, at.implicit, at.ip, at.port })
    end)
  end

  it("reads unix sockets", function()
    local at = assert(endpoint.parse "lmtp://unix:/run/mp.sock")
    assert.same({ "lmtp", "/run/mp.sock" }, { at.protocol, at.path })
    assert.is_nil(at.ip)
    assert.equal("lmtp://unix:/run/mp.sock", endpoint.show(at))
  end)

  for url, want in pairs {
    ["127.0.0.1:25"] = "is no endpoint",
    ["[::1]:25"] = "is no endpoint",
    [""] = "is no endpoint",
    ["smpt://127.0.0.1"] = 'unknown protocol "smpt" %(did you mean "smtp"%?%)',
    ["http://127.0.0.1"] = 'unknown protocol "http"',
    ["smtp://mail.example.org:25"] = '"mail.example.org" is no IP address',
    ["smtp://127.0.0.1:70000"] = "ports end at 65535",
    ["smtp://127.0.0.1:smtp"] = "address:port expected",
    ["smtp://::1:25"] = "address:port expected",
    ["smtp://user@127.0.0.1:25"] = "is no IP address",
    ["smtp://127.0.0.1:25/x"] = "address:port expected",
    ["smtp://300.0.0.1"] = "is no IP address",
    ["lmtp://unix:" .. ("x"):rep(108)] = "at most 107 octets",
  } do
    it(("refuses %q"):format(url), function()
      local at, why = endpoint.parse(url)
      assert.is_nil(at)
      assert.matches(want, why)
    end)
  end

  it("shows what it has read", function()
    assert.equal("smtp://[::1]:2525", endpoint.show(endpoint.parse "smtp://[::1]:2525"))
    assert.equal("submission://0.0.0.0:587", endpoint.show(endpoint.parse "submission://"))
  end)
end)
