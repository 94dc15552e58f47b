local certs = require "spec.support.certs"
local process = require "spec.support.process"
local raw = require "spec.support.raw"
local tmpdir = require "spec.support.tmpdir"
local uv = require "luv"

-- A policy whose rcpt hook answers with a text; `text` is a Lua expression.
local function policy(text, more)
  return ([[
    local moonpost = require "moonpost"
    local server = moonpost.server {
      hostname = "mx.example.org", listen = { "smtp://127.0.0.1:0" }, domains = { "example.org" }, %s
    }
    local text = %s
    function server.on.rcpt() return 450, "4.7.1", type(text) == "function" and text() or text end
    return server]]):format(more or "", text)
end

local House = {}
House.__index = House
function House:__close()
  self.process:stop()
  self.dir:remove()
end

-- Starts with files { name = content }, of which "policy.lua" (or what `path` says) is the policy.
local function start(files, path, prepare)
  local dir = tmpdir.new()
  for name, content in pairs(files) do
    dir:write(name, content)
  end
  if prepare then
    prepare(dir)
  end
  local p = process.start { process.moonpost, "serve", "--watch", "--workers", "2", dir:join(path or "policy.lua") }
  local port = math.tointeger(p:expect("listening on %l+://127.0.0.1:(%d+)"))
  return setmetatable({ dir = dir, process = p, port = port }, House)
end

function House:ask()
  local peer <close> = raw.session(self.port)
  peer:command("MAIL FROM:<>")
  return peer:command("RCPT TO:<a@example.org>"):match("^450 4.7.1 (.*)$")
end

-- As most editors write: a new file that takes the old one's name.
function House:replace(name, content)
  self.dir:write(name .. "~", content)
  assert(os.rename(self.dir:join(name .. "~"), self.dir:join(name)))
end

-- The next thing that is said about loading is that it went well, and new peers meet `text`.
function House:becomes(text)
  assert.matches("policy loaded", self.process:expect("(policy .*loaded.*)"), 1, true)
  assert.equal(text, self:ask())
end

local function loads(house)
  house.process:poll()
  local count = 0
  for _, line in ipairs(house.process.lines) do
    count = count + (line:find("policy loaded", 1, true) and 1 or 0)
  end
  return count
end

describe("moonpost serve --watch", function()
  it("loads the policy anew when its file is written, or another takes its place", function()
    local house <close> = start { ["policy.lua"] = policy '"one"' }
    assert.equal("one", house:ask())
    house.dir:write("policy.lua", policy '"two"')
    house.process:expect("files have changed files=%S+policy.lua$")
    house:becomes "two"
    house:replace("policy.lua", policy '"three"')
    house:becomes "three"
    house:replace("policy.lua", policy '"four"')
    house:becomes "four"
  end)

  it("watches modules, those too that a later policy is the first to require", function()
    local house <close> = start { ["policy.lua"] = policy 'require "words.one"', ["words/one.lua"] = 'return "one"' }
    house:replace("words/one.lua", 'return "uno"')
    house:becomes "uno"
    house.dir:write("other/two.lua", 'return "two"')
    house.dir:write("policy.lua", policy 'require "other.two"')
    house:becomes "two"
    house.dir:write("other/two.lua", 'return "due"')
    house:becomes "due"
  end)

  it("watches what dofile and loadfile read, and what a hook requires first", function()
    local house <close> = start {
      ["policy.lua"] = policy [[(function()
        local here = debug.getinfo(1, "S").source:match("^@(.*)policy.lua$")
        local first, second = dofile(here .. "first"), assert(loadfile(here .. "second"))()
        return function() return first .. second .. require "third" end
      end)()]],
      first = 'return "a"', second = 'return "b"', ["third.lua"] = 'return "c"',
    }
    assert.equal("abc", house:ask())
    house:replace("first", 'return "A"')
    house:becomes "Abc" -- by which a worker has required the third one
    house:replace("second", 'return "B"')
    house:becomes "ABc"
    house.process:poll()
    house:replace("third.lua", 'return "C"')
    house:becomes "ABC"
  end)

  it("sees the module that a hook asks for in vain, once it is there", function()
    local house <close> = start { ["policy.lua"] = policy 'function() return select(2, pcall(require, "wanted")):sub(1, 6) end' }
    assert.equal("module", house:ask())
    house.dir:write("wanted.lua", 'return "wanted"')
    house:becomes "wanted"
  end)

  it("keeps the old policy when the new one is wrong, says why, and loads what mends it", function()
    local house <close> = start { ["policy.lua"] = policy 'require "word"', ["word.lua"] = 'return "one"' }
    house.dir:write("word.lua", "return = 1")
    assert.matches("word.lua:1: unexpected symbol near '='", house.process:expect("policy not loaded(.*)"), 1, true)
    assert.equal("one", house:ask())
    house.dir:write("word.lua", 'return "two"')
    house:becomes "two"
    house.dir:write("policy.lua", policy 'require "absent"')
    assert.matches("module 'absent' not found", house.process:expect("policy not loaded(.*)"), 1, true)
    house.dir:write("absent.lua", 'return "three"')
    house:becomes "three"
  end)

  it("does not mind files that go and come back, nor folders", function()
    local house <close> = start { ["policy.lua"] = policy 'require "words.one"', ["words/one.lua"] = 'return "one"' }
    os.remove(house.dir:join("words/one.lua"))
    assert.matches("module 'words.one' not found", house.process:expect("policy not loaded(.*)"), 1, true)
    assert.equal("one", house:ask())
    house.dir:write("words/one.lua", 'return "two"')
    house:becomes "two"
    assert(os.rename(house.dir:join("words"), house.dir:join("away")))
    house.process:expect("policy not loaded")
    house.dir:write("words/one.lua", 'return "three"')
    house:becomes "three"
    house.dir:write("words/one.lua", 'return "four"') -- in the new folder
    house:becomes "four"
    os.remove(house.dir:join("policy.lua"))
    assert.matches("policy.lua: No such file or directory", house.process:expect("policy not loaded(.*)"), 1, true)
    house.dir:write("policy.lua", policy '"five"')
    house:becomes "five"
  end)

  it("follows links on the way to the policy, and sees them point elsewhere", function()
    local house <close> = start(
      { ["releases/1/policy.lua"] = policy '"one"', ["releases/2/policy.lua"] = policy '"two"' }, "current/policy.lua",
      function(dir)
        assert(uv.fs_symlink("releases/1", dir:join("current")))
      end)
    assert.equal("one", house:ask())
    assert(uv.fs_symlink("releases/2", house.dir:join("next")))
    assert(os.rename(house.dir:join("next"), house.dir:join("current")))
    house:becomes "two"
    house.dir:write("releases/2/policy.lua", policy '"three"')
    house:becomes "three"
  end)

  it("does not load anew because of other files in these folders", function()
    local house <close> = start { ["policy.lua"] = policy 'function() moonpost.sleep(0.5) return "one" end' }
    house.dir:write("notes.txt", "later")
    house.dir:write("policy.lua.swp", "editor")
    assert.equal("one", house:ask()) -- meanwhile the files have been looked at
    assert.equal(0, loads(house))
    house.dir:write("policy.lua", policy '"two"')
    house:becomes "two"
    assert.equal(1, loads(house))
  end)

  it("loads once for what is written in one go", function()
    local house <close> = start { ["policy.lua"] = policy 'require "a" .. require "b"', ["a.lua"] = 'return "1"', ["b.lua"] = 'return "1"' }
    house:replace("a.lua", 'return "2"')
    house:replace("b.lua", 'return "2"')
    house:becomes "22"
    assert.equal(1, loads(house))
  end)

  it("sees what changes while it is loading", function()
    local house <close> = start { ["policy.lua"] = policy '"one"', ["word.lua"] = 'return "early"' }
    house.dir:write("policy.lua", 'local word = require "word" io.stderr:write "loading\\n" require("moonpost").sleep(0.3) ' .. policy "word")
    house.process:expect("^loading")
    house:replace("word.lua", 'return "late"')
    house.process:expect("policy loaded")
    house:becomes "late"
  end)

  it("shows a new certificate", function()
    local files = {}
    for name, from in pairs { ["mx.pem"] = certs.server.certificate, ["mx.key"] = certs.server.key } do
      local file <close> = assert(io.open(from))
      files[name] = file:read("a")
    end
    files["policy.lua"] = policy('"one"', [[tls = (function()
      local here = debug.getinfo(1, "S").source:match("^@(.*)policy.lua$")
      return { certificate = here .. "mx.pem", key = here .. "mx.key" }
    end)()]])
    local house <close> = start(files)
    local function subject()
      return process.run {
        "openssl", "s_client", "-connect", "127.0.0.1:" .. house.port, "-starttls", "smtp", stdin = "QUIT\r\n",
      }.out:match("subject=([^\n]*)")
    end
    assert.matches("mx.example.org", subject(), 1, true)
    local other = {}
    for _, name in ipairs { "certificate", "key" } do
      local file <close> = assert(io.open(certs.other[name]))
      other[name] = file:read("a")
    end
    house:replace("mx.key", other.key)
    house:replace("mx.pem", other.certificate)
    house.process:expect("policy loaded")
    assert.matches("sni.example.net", subject(), 1, true)
  end)

  it("goes on with SIGHUP, and stops on SIGTERM as ever", function()
    local house <close> = start { ["policy.lua"] = policy '"one"' }
    house.process:kill("sighup")
    house:becomes "one"
    house.dir:write("policy.lua", policy '"two"')
    house:becomes "two"
    house.process:kill("sigterm")
    assert.equal(0, house.process:wait())
  end)
end)
