local process = require "spec.support.process"

describe("spec.support.process", function()
  it("hands over exit status, both streams and the environment asked for", function()
    local result = process.run {
      "sh", "-c", 'read line; echo "got $line $COLOUR"; echo trouble >&2; exit 7',
      stdin = "hello\n", env = { COLOUR = "blue" },
    }
    assert.equal(7, result.code)
    assert.equal("got hello blue\n", result.out)
    assert.equal("trouble\n", result.err)
  end)

  it("keeps the interpreter's preloads and paths from children", function()
    local result = process.run { "sh", "-c", 'echo "[$LD_PRELOAD$LUA_PATH]"' }
    assert.equal("[]\n", result.out)
  end)

  it("waits for a line and returns its captures, each line once", function()
    local p <close> = process.start { "sh", "-c", "echo noise; echo port 25; echo port 26; read stop" }
    assert.equal("25", p:expect("^port (%d+)"))
    assert.equal("26", p:expect("^port (%d+)"))
    p:write("\n")
    assert.equal(0, p:wait())
  end)

  it("raises at once, with the output, when the process ends without the line", function()
    local p <close> = process.start { "sh", "-c", "echo sorry; exit 3" }
    local ok, err = pcall(p.expect, p, "ready", 60)
    assert.is_false(ok)
    assert.matches("exit status 3", err)
    assert.matches("sorry", err)
  end)

  it("raises after its deadline when the line does not come", function()
    local p <close> = process.start { "sh", "-c", "echo waiting; read stop" }
    local ok, err = pcall(p.expect, p, "ready", 0.2)
    assert.is_false(ok)
    assert.matches("did not happen in", err)
  end)

  it("counts a last line without a line end", function()
    local p <close> = process.start { "printf", "a\\nlast" }
    assert.equal("last", p:expect("^last$"))
  end)

  it("stops by signal, and says which", function()
    local p = process.start { "sleep", "1000" }
    local _, signal = p:stop()
    assert.equal(15, signal)
  end)

  it("kills one that ignores the request, and raises", function()
    local p = process.start { "sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done" }
    p:expect("deaf")
    assert.has_error(function()
      p:stop(0.2)
    end)
    assert.equal(9, p.signal)
  end)

  it("raises for a program that does not exist", function()
    local ok, err = pcall(process.start, { "/nonexistent/program" })
    assert.is_false(ok)
    assert.matches("cannot start", err)
  end)
end)
