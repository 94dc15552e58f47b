local dkjson = require "dkjson"
local log = require "moonpost.log"

describe("moonpost.log", function()
  local lines

  local function catch(options)
    lines = {}
    options.output = function(line, level)
      lines[#lines + 1] = line
      lines.level = level
    end
    log.configure(options)
  end

  after_each(function()
    log.configure { level = "info", format = "text", output = "stderr" }
  end)

  it("writes a line for people: time, level, text, fields by name", function()
    catch { level = "info", format = "text" }
    log.info("mailbox made", { size = 12, mailbox = "bob", note = "two words" })
    assert.equal(1, #lines)
    assert.matches('^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ info  mailbox made mailbox=bob note="two words" size=12$',
      lines[1])
    assert.equal("info", lines.level)
  end)

  it("writes one JSON object per line", function()
    catch { level = "info", format = "json" }
    log.warn("odd", { n = 1, list = { "a", "b" }, ok = false })
    local row = assert(dkjson.decode(lines[1]))
    assert.equal("warn", row.level)
    assert.equal("odd", row.text)
    assert.equal(1, row.n)
    assert.same({ "a", "b" }, row.list)
    assert.is_false(row.ok)
  end)

  it("writes nothing below its level", function()
    catch { level = "warn", format = "text" }
    log.debug("a")
    log.info("b")
    log.warn("c")
    log.error("d")
    assert.equal(2, #lines)
    assert.is_true(log.on.warn)
    assert.is_false(log.on.info)
    log.configure { level = "off" }
    log.error("e")
    assert.equal(2, #lines)
  end)

  for name, hostile in pairs {
    ["line breaks"] = "x\r\n2024-01-01T00:00:00Z info  forged",
    ["terminal escapes"] = "x\27[2Jy",
    ["NUL"] = "x\0y",
    ["C1 controls"] = "x\u{9b}31my",
    ["direction marks"] = "x\u{202e}y\u{2066}z",
    ["line separators"] = "x\u{2028}y",
    ["octets that are no UTF-8"] = "x\xff\xfe\x9by",
    ["quotes and equal signs"] = 'x" level="error',
  } do
    it("keeps " .. name .. " of a peer inside one quoted value", function()
      for _, format in ipairs { "text", "json" } do
        catch { level = "info", format = format }
        log.info("helo", { name = hostile })
        assert.equal(1, #lines)
        assert.is_nil(lines[1]:find("[\0-\31\127]"))
        assert.is_nil(lines[1]:find("\xc2[\x80-\x9f]"))
        assert.is_truthy(utf8.len(lines[1]))
        if format == "json" then
          assert.is_table(dkjson.decode(lines[1]))
        else
          assert.is_nil(lines[1]:find("\u{202e}", 1, true))
          assert.is_nil(lines[1]:find('" level="', 1, true))
          assert.matches('name="', lines[1])
        end
      end
    end)
  end

  it("escapes the text and the names too", function()
    catch { level = "info", format = "text" }
    log.info("a\nb", { ["c\nd"] = 1 })
    assert.is_nil(lines[1]:find("\n", 1, true))
  end)

  it("keeps letters of other scripts", function()
    catch { level = "info", format = "text" }
    log.info("jörg", { name = "Ωmega" })
    assert.matches("jörg", lines[1])
    assert.matches("Ωmega", lines[1])
  end)

  it("never writes credentials, nested ones included", function()
    for _, format in ipairs { "text", "json" } do
      catch { level = "info", format = format }
      log.info("login", {
        password = "hunter2", Auth_Token = "hunter2", api_secret = { "hunter2" }, account = { user = "bob",
          passwd = "hunter2" },
      })
      assert.is_nil(lines[1]:find("hunter2", 1, true))
      assert.is_truthy(lines[1]:find("bob", 1, true))
      assert.is_truthy(lines[1]:find("redacted", 1, true))
    end
  end)

  it("cuts what is endless", function()
    catch { level = "info", format = "text" }
    log.info(("x"):rep(100000), { a = ("y"):rep(100000) })
    assert.is_true(#lines[1] < 6000)
    assert.matches("more%]", lines[1])
  end)

  it("puts a traceback below its event, where no line of it can pass for another event", function()
    catch { level = "info", format = "text" }
    log.error("failed", { traceback = "stack traceback:\n\ta.lua:1: x\n2024-01-01T00:00:00.000Z error forged" })
    local count = 0
    for line in lines[1]:gmatch("[^\n]+") do
      count = count + 1
      if count > 1 then
        assert.matches("^    | ", line)
      end
    end
    assert.equal(4, count)
  end)

  it("falls back to standard error when a log function raises", function()
    local written
    local stderr = io.stderr
    io.stderr = { write = function(_, line) written = line end } -- luacheck: ignore
    finally(function() io.stderr = stderr end) -- luacheck: ignore
    log.configure { output = function() error("full") end }
    log.info("hello")
    assert.matches("hello", written)
  end)

  it("raises on a caller's mistake, at the caller's line", function()
    local ok, err = pcall(function() log.configure { levle = "info" } end)
    assert.is_false(ok)
    assert.matches('log_spec.lua:%d+: moonpost.log.configure: unknown option "levle" %(did you mean "level"%?%)', err)
    assert.has_error(function() log.configure { level = "loud" } end)
    assert.has_error(function() log.configure { format = "xml" } end)
    assert.has_error(function() log.configure { output = 7 } end)
    ok, err = pcall(function() log.info("x", "y") end)
    assert.is_false(ok)
    assert.matches("log_spec.lua:%d+: log.info", err)
  end)
end)
