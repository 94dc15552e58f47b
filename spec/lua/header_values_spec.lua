-- Values of header fields: of a received message's header, and of a part's.
local mime = require "moonpost.mime"
local moonpost = require "moonpost"
local test = require "moonpost.test"

local function headers(octets)
  return assert(mime.parse(octets .. "\r\n\r\n")).root.headers
end

local function value(verb, text)
  return headers("X: " .. text)[verb](headers("X: " .. text), "X")
end

describe("headers:text", function()
  for raw, want in pairs {
    ["=?utf-8?q?Gr=C3=BC=C3=9Fe?="] = "Gr\u{fc}\u{df}e",
    ["=?ISO-8859-1?B?R3L832U=?= there"] = "Gr\u{fc}\u{df}e there",
    ["=?utf-8?q?a?= =?utf-8?q?b?="] = "ab", -- white space between encoded words is nothing (RFC 2047 6.2)
    ["=?utf-8?q?a?=\r\n =?utf-8?q?b?= c"] = "ab c",
    ["=?utf-8*de?q?x?="] = "x", -- RFC 2231 5
    ["=?klingon?q?x?="] = "x",
    ["plain\r\n folded"] = "plain folded",
    ["=?utf-8?q?open"] = "=?utf-8?q?open",
    ["=?utf-8?q?=ZZ?="] = "=ZZ",
    ["8-bit \u{fc}"] = "8-bit \u{fc}",
  } do
    it(("decodes %s"):format((raw:gsub("\r\n", "~"))), function()
      assert.equal(want, value("text", raw))
    end)
  end
end)

describe("headers:addresses", function()
  local function shown(list)
    local words = {}
    for i, one in ipairs(list or {}) do
      words[i] = one.group and ("%s:[%s]"):format(one.group, shown(one.members)) or ("%s<%s>"):format(one.name or "", one.address or "")
    end
    return table.concat(words, " ")
  end

  for raw, want in pairs {
    ["ann@example.org"] = "<ann@example.org>",
    ["Ann <ann@example.org>, bob@example.net (Bob)"] = "Ann<ann@example.org> Bob<bob@example.net>",
    ['"Doe, John" <john@example.net>'] = "Doe, John<john@example.net>",
    ["=?utf-8?q?J=C3=B6rg?= <joerg@example.org>"] = "J\u{f6}rg<joerg@example.org>",
    ["Friends: a@example.org, B <b@example.org>;"] = "Friends:[<a@example.org> B<b@example.org>]",
    ["undisclosed-recipients:;"] = "undisclosed-recipients:[]",
    ['"a b"@example.org'] = '<"a b"@example.org>',
    ["<@relay.example:ann@example.org>"] = "<ann@example.org>", -- an old source route
  } do
    it(("reads %q"):format(raw), function()
      assert.equal(want, shown(value("addresses", raw)))
    end)
  end
end)

describe("headers:addresses", function()
  it("takes five thousand, and no more", function()
    assert.equal(5000, #value("addresses", ("a@b, "):rep(4999) .. "c@d"))
    local list, why = value("addresses", ("a@b, "):rep(5000) .. "c@d")
    assert.same({ nil, "more than 5000 addresses" }, { list, why })
  end)
end)

describe("headers:time", function()
  for raw, want in pairs {
    ["Thu, 01 Jan 2026 01:30:00 +0130"] = { 1767225600, 90 }, ["1 Jan 2026 00:00 GMT"] = { 1767225600, 0 },
    ["Thu, 1 Jan 26 00:00:00 -0000"] = { 1767225600, 0 }, ["Wed, 31 Dec 2025 19:00:00 EST"] = { 1767225600, -300 },
  } do
    it(("reads %q"):format(raw), function()
      assert.same(want, { value("time", raw) })
    end)
  end

  it("is nil where it is none", function()
    for _, raw in ipairs { "yesterday", "", "99 Foo 2026", "Thu, 01 Jan 99999999999 00:00:00 +0000" } do
      assert.is_nil((value("time", raw)), raw)
    end
  end)
end)

describe("headers:parameters", function()
  for raw, want in pairs {
    ['text/plain; charset="utf-8"'] = { "text/plain", { charset = "utf-8" } },
    ["Attachment; filename*=utf-8''r%C3%A9sum%C3%A9.pdf"] = { "attachment", { filename = "r\u{e9}sum\u{e9}.pdf" } },
    ['a/b; name*0="one "; name*1=two'] = { "a/b", { name = "one two" } },
    ["a/b; name*0*=iso-8859-1'en'%FC; name*1=x"] = { "a/b", { name = "\u{fc}x" } },
    ['a/b; name="=?utf-8?q?=C3=BC?="'] = { "a/b", { name = "\u{fc}" } }, -- not allowed, and everywhere
    ["a/b; name=unquoted value.txt"] = { "a/b", { name = "unquoted value.txt" } },
    ["a/b;; x=1;"] = { "a/b", { x = "1" } },
  } do
    it(("reads %q"):format(raw), function()
      assert.same(want, { value("parameters", raw) })
    end)
  end
end)

describe("headers", function()
  it("are read in a time that grows with them and no faster", function()
    for name, piece in pairs {
      space = " ", angle = "<", pair = "< ", fold = "\r\n ", dots = "a.", words = "=?utf-8?q?a?= ", comma = "a, ", semicolon = ";a=b",
      comment = "(", escapes = "=", quotes = '"\\"',
    } do
      for _, raw in ipairs { piece:rep(400000 // #piece), "<" .. piece:rep(400000 // #piece) .. "x>" } do
        local of = headers("X: a" .. raw .. "b")
        for _, verb in ipairs { "text", "addresses", "time", "ids", "list", "parameters", "get" } do
          local started = os.clock()
          of[verb](of, "X")
          assert.is_true(os.clock() - started < 5, name .. " " .. verb)
        end
      end
    end
  end)

  it("have message ids and lists", function()
    assert.same({ "a@b", "c@d" }, value("ids", "<a@b>\r\n <c@d>"))
    assert.same({ "one", "two \u{fc}" }, value("list", "one, two =?utf-8?q?=C3=BC?="))
    assert.equal("   odd  \r\n", headers("X:   odd  "):raw "X")
  end)

  it("are nil where there is no such field", function()
    local none = headers "X: y"
    for _, verb in ipairs { "text", "addresses", "time", "parameters", "raw" } do
      assert.is_nil((none[verb](none, "Y")), verb)
    end
  end)

  it("are those of a received message too, edits among them", function()
    local seen
    local policy = test.load(function()
      local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25", domains = "example.org" }
      function server.on.message(_, message)
        local of = message.headers
        message:replace("Subject", of:text "Subject" .. "!")
        seen = { of:text "Subject", of:addresses("From")[1].name, (of:time "Date"), of:ids("Message-ID")[1], (of:parameters "Content-Type") }
        message:discard "spec"
      end
      return server
    end)
    policy:session({ helo = "mail.example.com" }):send_message {
      from = "a@example.com", to = "b@example.org", data = "From: =?utf-8?q?J=C3=B6rg?= <a@example.com>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        .. "Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <x@example.com>\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHi\r\n",
    }
    assert.same({ "Gr\u{fc}\u{df}e!", "J\u{f6}rg", 1767225600, "x@example.com", "text/plain" }, seen)
  end)
end)
