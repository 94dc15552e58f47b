-- Connections that are kept, and whom else they may serve.
local options = require "moonpost.client_options"

describe("a kept connection under DANE-TA", function()
  -- A certificate for the first domain, by an authority that the host's TLSA record names, proves the host to mail for that domain (RFC 7672 3.2.2).
  -- Whoever holds one would otherwise be given what others send to the same host.
  it("is good for no other domain at the same host", function()
    local settings = assert(options.settings({}, "here"))
    local to = { scheme = "smtp", protocol = "smtp", implicit = false, host = "mx.example.net", port = 25 }
    local function key(usage, domain)
      return options.target(settings, to, { dane = {
        state = "usable", why = "TLSA", base = "mx.example.net", names = { "mx.example.net", domain },
        records = { { usage = usage, selector = 1, mtype = 1, data = ("x"):rep(32) } },
      } }).key
    end
    assert.not_equal(key(2, "a.example"), key(2, "b.example"))
    assert.equal(key(2, "a.example"), key(2, "a.example"))
    assert.equal(key(3, "a.example"), key(3, "b.example"))
  end)
end)
