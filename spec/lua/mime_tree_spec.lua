-- The parts of a message, as moonpost.mime finds them.
local mime = require "moonpost.mime"
local moonpost = require "moonpost"
local test = require "moonpost.test"

local function crlf(text)
  return (text:gsub("\n", "\r\n"))
end

local MESSAGE = crlf [[
From: ann@example.org
Subject: Photos
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="out er"

Preamble.
--out er
Content-Type: multipart/related; boundary=rel

--rel
Content-Type: multipart/alternative; boundary=alt

--alt
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Gr=FC=DFe, =
Ann
--alt
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: base64

PGI+R3LDvMOfZTwvYj4=
--alt--
--rel
Content-Type: image/png; name="=?utf-8?q?b=C3=BCild.png?="
Content-Disposition: inline
Content-ID: <pic@example.org>
Content-Transfer-Encoding: base64

iVBORw0K
--rel--
--out er
Content-Type: application/pdf
Content-Disposition: attachment; filename*0*=utf-8''r%C3%A9sum%C3%A9;
 filename*1=" of.pdf"

%PDF
--out er
Content-Type: message/rfc822

Subject: Inside
Content-Type: text/plain

The inner text.
--out er--
Epilogue.
]]

local function shape(part)
  local list = {}
  for _, child in ipairs(part.children) do
    list[#list + 1] = shape(child)
  end
  return part.type .. (list[1] and "(" .. table.concat(list, " ") .. ")" or "")
end

describe("moonpost.mime.parse", function()
  it("finds the tree", function()
    local tree = assert(mime.parse(MESSAGE))
    assert.equal("multipart/mixed(multipart/related(multipart/alternative(text/plain text/html) image/png) application/pdf "
      .. "message/rfc822(text/plain))", shape(tree.root))
    assert.equal(9, tree:count())
    local types = {}
    for part in tree:each() do
      types[#types + 1] = part.depth
    end
    assert.same({ 1, 2, 3, 4, 4, 3, 2, 2, 3 }, types)
    assert.equal(tree:part(3), tree:part(4).parent)
  end)

  it("tells what a part says of itself", function()
    local tree = assert(mime.parse(MESSAGE))
    local text, picture, pdf = tree:part(4), tree:part(6), tree:part(7)
    assert.same({ "iso-8859-1", "quoted-printable" }, { text.charset, text.encoding })
    assert.same({ "inline", "b\u{fc}ild.png", "pic@example.org", true }, { picture.disposition, picture.filename, picture.id, picture.inline })
    assert.same({ "attachment", "r\u{e9}sum\u{e9} of.pdf" }, { pdf.disposition, pdf.filename })
    assert.equal("out er", tree.root.parameters.boundary)
    assert.equal("Photos", tree.root.headers:get "Subject")
    assert.equal("<pic@example.org>", picture.headers:get "Content-ID")
  end)

  it("decodes content whole and in pieces, and text into UTF-8", function()
    local tree = assert(mime.parse(MESSAGE))
    assert.equal("Gr\xfc\xdfe, Ann", tree:part(4):content())
    assert.equal("Gr\u{fc}\u{df}e, Ann", tree:part(4):text())
    assert.equal("<b>Gr\u{fc}\u{df}e</b>", tree:part(5):text())
    assert.equal("\x89PNG\r\n", tree:part(6):content())
    local pieces = {}
    for piece in tree:part(6):chunks(1) do
      pieces[#pieces + 1] = piece
    end
    assert.equal("\x89PNG\r\n", table.concat(pieces))
    local raw = {}
    for piece in tree:part(6):raw(3) do
      raw[#raw + 1] = piece
    end
    assert.equal("iVBORw0K", (table.concat(raw):gsub("%s+$", "")))
  end)

  it("has the best bodies, the attachments, the images and the message inside", function()
    local tree = assert(mime.parse(MESSAGE))
    assert.equal("Gr\u{fc}\u{df}e, Ann", tree:text())
    assert.equal("<b>Gr\u{fc}\u{df}e</b>", tree:html())
    local names = {}
    for i, part in ipairs(tree:attachments()) do
      names[i] = part.type
    end
    table.sort(names)
    assert.same({ "application/pdf", "image/png", "message/rfc822" }, names)
    assert.equal("image/png", tree:inline_images()[1].type)
    local inside = tree:part(8):message()
    assert.equal("Inside", inside.headers:get "Subject")
    assert.equal("The inner text.", (inside:content():gsub("%s+$", "")))
  end)

  it("reads a message inside that is encoded", function()
    local tree = assert(mime.parse(crlf [[
Content-Type: message/rfc822
Content-Transfer-Encoding: base64

U3ViamVjdDogSGlkZGVuDQoNCkhpIQ0K
]]))
    local inside = assert(tree.root:message())
    assert.same({ "Hidden", "Hi!\r\n" }, { inside.headers:get "Subject", inside:content() })
  end)

  it("says where there is no such body", function()
    local tree = assert(mime.parse(crlf "Content-Type: text/html\n\n<p>x</p>\n"))
    local text, err = tree:text()
    assert.same({ nil, "mime" }, { text, err.kind })
    assert.equal("<p>x</p>\r\n", tree:html())
  end)

  it("reads what people's programs write", function()
    for name, case in pairs {
      ["no type at all"] = { "Subject: x\n\nhello\n", "text/plain", "hello\r\n" },
      ["a type that is none"] = { "Content-Type: garbage\n\nhello\n", "text/plain", "hello\r\n" },
      ["an unknown encoding"] = { "Content-Transfer-Encoding: rot13\n\nhello\n", "text/plain", "hello\r\n" },
      ["an unknown charset"] = { "Content-Type: text/plain; charset=klingon\n\nhello\n", "text/plain", "hello\r\n" },
      ["octets that are no UTF-8"] = { "Content-Type: text/plain; charset=utf-8\n\na\xffb\n", "text/plain", "a\u{fffd}b\r\n" },
      ["octets behind the end of Unicode"] = { "\na\xf4\x90\x80\x80b\xf8\x88\x80\x80\x80c\xed\xa0\x80\u{10ffff}\n", "text/plain",
        "a\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}\u{fffd}\u{10ffff}\r\n" },
      ["no header"] = { "\nhello\n", "text/plain", "hello\r\n" },
      ["uuencode"] = { "Content-Transfer-Encoding: x-uuencode\n\nbegin 644 x\n%:&5L;&\\`\n`\nend\n", "text/plain", "hello" },
    } do
      local tree = assert(mime.parse(crlf(case[1])))
      assert.same({ case[2], case[3] }, { tree.root.type, tree.root:text() }, name)
    end
  end)

  it("reads multiparts that are broken", function()
    local open = assert(mime.parse(crlf "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain\n\nnever closed\n"))
    assert.equal("never closed\r\n", open:text())
    local none = assert(mime.parse(crlf "Content-Type: multipart/mixed\n\nhello\n"))
    assert.equal(1, none:count())
    local absent = assert(mime.parse(crlf "Content-Type: multipart/mixed; boundary=x\n\nhello\n"))
    assert.same({}, absent.root.children)
    local cut = assert(mime.parse(crlf("Content-Type: multipart/mixed; boundary=x\n\n--x\n"
      .. "Content-Type: multipart/mixed; boundary=y\n\n--y\n\na\n--x\n\nb\n--x--\n")))
    assert.equal("multipart/mixed(multipart/mixed(text/plain) text/plain)", shape(cut.root))
  end)

  describe("limits", function()
    local function nested(depth)
      local list = {}
      for i = 1, depth - 1 do
        list[i] = ("Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n"):format(i, i)
      end
      return table.concat(list) .. "\r\nx\r\n"
    end

    local function wide(parts)
      return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" .. ("--b\r\n\r\nx\r\n"):rep(parts - 1) .. "--b--\r\n"
    end

    for name, make in pairs { depth = nested, parts = wide } do
      it("hold at " .. name, function()
        assert.equal(20, assert(mime.parse(make(20), { [name] = 20 })):count())
        local tree, err = mime.parse(make(21), { [name] = 20 })
        assert.same({ nil, "limit", name }, { tree, err.kind, err.limit })
      end)
    end

    it("hold at header", function()
      local octets = "Subject: x\r\n\r\nhello\r\n"
      assert(mime.parse(octets, { header = 14 }))
      local tree, err = mime.parse(octets, { header = 11 })
      assert.same({ nil, "limit", "header" }, { tree, err.kind, err.limit })
    end)

    it("hold at content, of octets as they are decoded", function()
      local tree = assert(mime.parse("Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n", { content = 5 }))
      assert.equal("hello", tree.root:content())
      assert.equal("hello", tree.root:text())
      tree = assert(mime.parse("Content-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n", { content = 4 }))
      local content, err = tree.root:content()
      assert.same({ nil, "limit" }, { content, err.kind })
      assert.is_nil(tree.root:text())
      assert.is_nil(tree:text())
      assert.equal("hello", tree.root:content(5))
    end)

    it("have names", function()
      assert.error_matches(function() mime.parse("", { dept = 3 }) end, 'unknown limit "dept"')
      assert.error_matches(function() mime.parse("", { depth = 0 }) end, "depth: a whole number")
      assert.error_matches(function() mime.parse(7) end, "a message or octets expected")
    end)
  end)

  it("takes a time that grows with the message and no faster", function()
    for name, octets in pairs {
      boundaries = "Content-Type: multipart/mixed; boundary=b\r\n\r\n" .. ("--b\r\n"):rep(200000),
      almost = "Content-Type: multipart/mixed; boundary=b\r\n\r\n" .. ("--\r\n-\r\n"):rep(200000),
      fields = ("X: y\r\n"):rep(300000) .. "\r\n", line = "Subject: x\r\n\r\n" .. ("x"):rep(2000000),
      parameters = "Content-Type: text/plain" .. ("; a=b"):rep(20000) .. "\r\n\r\n",
    } do
      local started = os.clock()
      local tree = mime.parse(octets)
      if tree then
        tree:text()
      end
      assert.is_true(os.clock() - started < 10, name)
    end
  end)
end)

describe("a received message", function()
  it("has its parts in hooks", function()
    local seen
    local policy = test.load(function()
      local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25", domains = "example.org" }
      function server.on.message(_, message)
        seen = { message:text(), message:html(), #message:attachments(), message:mime():count() }
        message:discard "spec"
      end
      return server
    end)
    local peer = policy:session { helo = "mail.example.com" }
    assert.equal(250, peer:send_message({ from = "a@example.com", to = "b@example.org", data = MESSAGE }).code)
    assert.same({ "Gr\u{fc}\u{df}e, Ann", "<b>Gr\u{fc}\u{df}e</b>", 3, 9 }, seen)
  end)
end)
