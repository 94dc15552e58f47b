-- Changes to parts: what is not changed stays octet for octet as it came.
local mime = require "moonpost.mime"
local moonpost = require "moonpost"
local test = require "moonpost.test"
local tmpdir = require "spec.support.tmpdir"

-- Odd on purpose: spaces at ends of lines, folding nobody does, bare text around the parts, a boundary with a space behind it.
local PARTS = {
  head = "From:  ann@example.org\r\nsubject:x\r\n y\r\nContent-Type:\r\n\tmultipart/mixed; boundary=b\r\n\r\n",
  pre = "Preamble. \r\n",
  text = "--b  \r\ncontent-type:text/plain\r\n\r\nHello,  \r\nthere\t\r\n",
  file = "--b\r\nContent-Type: application/octet-stream; name=a.exe\r\nContent-Disposition: attachment\r\n\r\nMZ\1\r\n",
  last = "--b\r\nX-Odd:  y  \r\n\r\nlast \r\n",
  post = "--b--\r\nEpilogue.\r\n",
}
local MESSAGE = PARTS.head .. PARTS.pre .. PARTS.text .. PARTS.file .. PARTS.last .. PARTS.post

describe("parts", function()
  it("stay as they are without changes", function()
    assert.equal(MESSAGE, assert(mime.parse(MESSAGE)):octets())
  end)

  it("are removed", function()
    local tree = assert(mime.parse(MESSAGE))
    tree:attachments()[1]:remove()
    assert.equal(PARTS.head .. PARTS.pre .. PARTS.text .. PARTS.last .. PARTS.post, tree:octets())
  end)

  it("are replaced, and the others keep their octets", function()
    local tree = assert(mime.parse(MESSAGE))
    assert(tree:part(3):replace { text = "A file named \u{ab}a.exe\u{bb} was here.", filename = "gone.txt" })
    local octets = tree:octets()
    assert.equal(PARTS.head .. PARTS.pre .. PARTS.text .. "--b\r\n", octets:sub(1, #PARTS.head + #PARTS.pre + #PARTS.text + 5))
    assert.equal(PARTS.last .. PARTS.post, octets:sub(-#PARTS.last - #PARTS.post))
    local again = assert(mime.parse(octets))
    assert.same({ "text/plain", "gone.txt", "A file named \u{ab}a.exe\u{bb} was here." },
      { again:part(3).type, again:part(3).filename, (again:part(3):text():gsub("%s+$", "")) })
  end)

  it("are replaced by files and octets", function()
    local dir <close> = tmpdir.new()
    dir:write("new.bin", ("\0\1\2"):rep(1000))
    local tree = assert(mime.parse(MESSAGE))
    assert(tree:part(3):replace { path = dir:join "new.bin", type = "application/x-new" })
    assert(tree:part(2):replace "short")
    local again = assert(mime.parse(tree:octets()))
    assert.equal(("\0\1\2"):rep(1000), again:part(3):content())
    assert.equal("application/x-new", again:part(3).type)
    assert.equal("short", (again:part(2):text():gsub("%s+$", "")))
    local part, err = tree:part(3):replace { path = dir:join "nowhere" }
    assert.same({ nil, true }, { part, err ~= nil })
  end)

  it("leave one in a multipart, and a message without parts an empty text", function()
    local tree = assert(mime.parse("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b--\r\n"))
    tree:part(2):remove()
    local again = assert(mime.parse(tree:octets()))
    assert.same({ 2, "" }, { again:count(), (again:part(2):text():gsub("%s", "")) })
    tree = assert(mime.parse("Subject: x\r\nContent-Type: image/png\r\n\r\nPNG\r\n"))
    tree.root:remove()
    again = assert(mime.parse(tree:octets()))
    assert.same({ "text/plain", "", "x" }, { again.root.type, again.root:text(), again.root.headers:get "Subject" })
  end)

  it("keep what surrounds them apart when they hold their own boundary", function()
    local tree = assert(mime.parse(MESSAGE))
    assert(tree:part(2):replace { text = "--b\nno boundary\n--b--\n" })
    local again = assert(mime.parse(tree:octets()))
    assert.equal(4, again:count())
    assert.matches("no boundary", again:part(2):text())
  end)

  it("are changed once", function()
    local tree = assert(mime.parse(MESSAGE))
    local part = tree:part(3)
    part:remove()
    assert.error_matches(function() part:replace "x" end, "it has been removed")
    local whole = assert(mime.parse("Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
      .. "--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b--\r\n--a\r\n\r\n3\r\n--a--\r\n"))
    local inner = whole:part(3)
    whole:part(2):remove()
    assert.error_matches(function() inner:remove() end, "what it stood in has been replaced or removed")
  end)

  it("are refused what makes no sense", function()
    local part = assert(mime.parse(MESSAGE)):part(3)
    assert.error_matches(function() part:replace { test = "x" } end, "part:replace: ")
    assert.error_matches(function() part:replace { text = "x", filename = "a\r\nX: y" } end, "part:replace: ")
    assert.error_matches(function() part:replace(7) end, "part:replace: ")
  end)
end)

describe("a received message", function()
  local function deliver(change)
    local dir <close> = tmpdir.new()
    local policy = test.load(function()
      local server = moonpost.server { hostname = "mx.example.org", listen = "smtp://127.0.0.1:25", domains = "example.org" }
      function server.on.message(_, message)
        change(message)
        message:discard "spec"
        message.meta.octets = message:octets()
        dir.octets = message.meta.octets
      end
      return server
    end)
    local reply = policy:session({ helo = "mail.example.com" }):send_message { from = "a@example.com", to = "b@example.org", data = MESSAGE }
    assert.equal(250, reply.code, tostring(reply))
    return dir.octets
  end

  it("takes the changes, beside edits of its header", function()
    local octets = deliver(function(message)
      message:prepend("X-Before", "1")
      local tree = message:mime()
      tree:attachments()[1]:remove()
      assert(tree:apply())
      message:prepend("X-After", "2")
      assert.equal(3, message:mime():count())
    end)
    assert.equal("X-After: 2\r\nX-Before: 1\r\n" .. PARTS.head .. PARTS.pre .. PARTS.text .. PARTS.last .. PARTS.post, octets)
  end)

  it("takes another body, and fields for it", function()
    local octets = deliver(function(message)
      local tree = message:mime()
      assert(tree.root:replace { text = "Nothing was left." })
      assert(tree:apply())
    end)
    local tree = assert(mime.parse(octets))
    assert.same({ "text/plain", "ann@example.org" }, { tree.root.type, tree.root.headers:get "From" })
    assert.equal("Nothing was left.", (tree.root:text():gsub("%s+$", "")))
  end)

  it("takes changes once, and changes of another tree after that", function()
    deliver(function(message)
      local tree = message:mime()
      assert(tree:part(2):replace "one")
      assert(tree:apply())
      assert.error_matches(function() tree:apply() end, "in the message already")
      local other = message:mime()
      assert(other:part(3):replace "two")
      assert(other:apply())
      assert.equal("one", (message:mime():part(2):text():gsub("%s+$", "")))
      assert.equal("two", (message:mime():part(3):text():gsub("%s+$", "")))
    end)
  end)
end)
