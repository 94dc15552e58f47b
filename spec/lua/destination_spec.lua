local destination = require "moonpost.destination"

describe("moonpost.destination", function()
  local function parse(url)
    return assert(destination.parse(url))
  end

  it("knows each protocol's port and whether TLS comes first", function()
    for scheme, of in pairs {
      smtp = { 25, false, "smtp" }, smtps = { 465, true, "smtp" }, submission = { 587, false, "smtp" },
      submissions = { 465, true, "smtp" }, lmtp = { 24, false, "lmtp" }, lmtps = { 24, true, "lmtp" },
    } do
      local to = parse(scheme .. "://mail.example.net")
      assert.same({ of[1], of[2], of[3] }, { to.port, to.implicit, to.protocol })
      assert.equal("mail.example.net", to.host)
      assert.is_nil(to.ip)
    end
  end)

  it("takes a host alone as smtp://", function()
    assert.equal("smtp://relay.example.net:25", destination.show(parse("relay.example.net")))
    assert.equal("smtp://relay.example.net:2525", destination.show(parse("relay.example.net:2525")))
  end)

  it("takes addresses of both families", function()
    assert.equal("192.0.2.1", parse("smtp://192.0.2.1:2525").ip)
    assert.equal("2001:db8::1", parse("smtps://[2001:db8::1]").ip)
    assert.equal("smtps://[2001:db8::1]:465", destination.show(parse("smtps://[2001:db8::1]")))
  end)

  it("takes unix sockets", function()
    local to = parse("lmtp://unix:/run/lists.sock")
    assert.equal("/run/lists.sock", to.path)
    assert.equal("lmtp://unix:/run/lists.sock", destination.show(to))
    assert.is_nil((destination.parse("lmtp://unix:" .. ("x"):rep(108))))
    assert.truthy((destination.parse("lmtp://unix:" .. ("x"):rep(107))))
  end)

  it("decodes user and password, and shows neither", function()
    local to = parse("submission://me%40example.org:s%3Ae%2Fc%25@smtp.example.org")
    assert.equal("me@example.org", to.user)
    assert.equal("s:e/c%", to.password)
    assert.equal("smtp.example.org", to.host)
    assert.equal("submission://smtp.example.org:587", destination.show(to))
    assert.equal("me@example.org", parse("submission://me@example.org:x@smtp.example.org").user)
  end)

  it("never repeats a password in what it says", function()
    for _, url in ipairs { "smtp://me:geheim@host:99999", "smpt://me:geheim@host", "smtp://me:geheim%@host", "smtp://me:geheim@ho st" } do
      local to, why = destination.parse(url)
      assert.is_nil(to)
      assert.is_nil(why:find("geheim", 1, true), why)
    end
  end)

  it("refuses what is no place, in one line", function()
    for _, url in ipairs {
      "", "smtp://", "smtp://:25", "smtp://host:0", "smtp://host:65536", "smtp://host:25:26", "smtp://[::1", "smtp://[host]",
      "smtp://-host", "smtp://a..b", "smtp://a b", "smtp://a\r\nb", "http://host", "smtp://@host", "smtp://a%0db:c@host", "lmtp://unix:",
      "lmtp://unix:/a\nb", "smtp://" .. ("a."):rep(130) .. "b",
    } do
      local to, why = destination.parse(url)
      assert.is_nil(to, url)
      assert.is_nil(why:find("[\r\n]"), why)
    end
    assert.matches('did you mean "smtp"', select(2, destination.parse("smpt://host")))
  end)
end)
