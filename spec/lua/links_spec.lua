local links = require "moonpost.links"
local moonpost = require "moonpost"
local test = require "moonpost.test"

local function hosts(text, html)
  local list = {}
  for _, one in ipairs(links.find(text, html)) do
    list[#list + 1] = one.address or one.domain .. "=" .. one.host
  end
  return table.concat(list, " ")
end

describe("moonpost.links", function()
  for text, want in pairs {
    ["see http://www.Shop.example.co.uk/x."] = "example.co.uk=www.shop.example.co.uk",
    ["HTTPS://user:pw@example.com:8080?q#f"] = "example.com=example.com",
    ["http://a@b@example.net/"] = "example.net=example.net",
    ["https:\\\\example.com\\x"] = "example.com=example.com",
    ["https:/example.com"] = "example.com=example.com",
    ["ftp://example.com./pub"] = "example.com=example.com",
    ["go to www.example.org, now; or (http://example.net)"] = "example.org=www.example.org example.net=example.net",
    ["http://user:p,w@example.com|x"] = "example.com=example.com",
    ["see http://example.com\u{ff0c}now and http://b\u{fc}cher.example\u{ff0c}now"] = "example.com=example.com",
    ["write to mailto:joe@mail.example.net?subject=x"] = "example.net=mail.example.net",
    ["http://b%C3%BCcher.example/"] = "xn--bcher-kva.example=xn--bcher-kva.example",
    ["http://b\u{fc}cher.example/"] = "xn--bcher-kva.example=xn--bcher-kva.example",
    ["http://example\u{3002}com/"] = "example.com=example.com",
    ["http://192.0.2.7/ http://0300.0.2.7 http://0xC0000207 http://3221225991/"] = "192.0.2.7",
    ["http://[2001:DB8::1]:80/"] = "2001:db8::1",
    ["http://256.1.1.1/ http://1.2.3.4.5/ http://co.uk/ http://localhost/ http:///x http://"] = "",
    ["shttp://example.com/ and httpx://example.org"] = "example.com=example.com",
    ["http://one.example.com/ http://two.example.com/"] = "example.com=one.example.com",
    ["no links: a.b example"] = "",
  } do
    it(("reads %q"):format(text), function()
      assert.equal(want, hosts(text))
    end)
  end

  it("reads character references where they are HTML", function()
    local html = '<a href="&#104;ttp:&#x2f;&sol;evil&period;example&#46;org&#47;x">x</a> <img src=//cdn.example.com/i.png>'
    assert.equal("example.org=evil.example.org example.com=cdn.example.com", hosts(html, true))
    assert.equal("example.com=cdn.example.com", hosts(html))
    assert.equal("", hosts("&#99999999999999999999;&#xd800;&#0;&nothing;", true))
  end)

  it("keeps fifty, and counts the others", function()
    local function many(n)
      local list = {}
      for i = 1, n do
        list[i] = ("http://example%d.com/"):format(i)
      end
      return links.find(table.concat(list, " "))
    end
    assert.same({ 50, 0 }, { #many(50), many(50).more })
    assert.same({ 50, 1 }, { #many(51), many(51).more })
  end)

  it("takes a time that grows with the text and no faster", function()
    for _, piece in ipairs { "mailto:", "http://x", "www.", "//", "&#x", "=//a@", "%41." } do
      local started = os.clock()
      links.find(piece:rep((1 << 20) // #piece), true)
      assert.is_true(os.clock() - started < 10, piece)
    end
  end)

  it("reads a message's text and HTML", function()
    local seen
    local policy = test.load(function()
      local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25", domains = "example.org" }
      function server.on.message(_, message)
        seen = links.of(message)
      end
      return server
    end)
    policy:session({ helo = "mail.example.com" }):send_message {
      from = "a@example.com", to = "b@example.org",
      data = assert(moonpost.message { from = "a@example.com", text = "http://example.com/", html = '<a href="http://example&#46;org/">' }:octets()),
    }
    assert.same({ { host = "example.com", domain = "example.com" }, { host = "example.org", domain = "example.org" }, more = 0 }, seen)
  end)

  it("wants a text", function()
    assert.has_error(function()
      links.find(nil)
    end, "links.find: a string expected, got a nil")
    assert.error_matches(function() links.of "http://example.com/" end, "^links%.of: a message expected, got a string")
    local lists = moonpost.dnsbl { zones = "uri.example", dns = moonpost.dns.zone {} }
    assert.error_matches(function() lists:links(7) end, "dnsbl:links: a message or a text expected, got a number")
  end)
end)
