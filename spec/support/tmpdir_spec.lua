local tmpdir = require "spec.support.tmpdir"

describe("spec.support.tmpdir", function()
  it("writes, reads and lists below itself", function()
    local dir <close> = tmpdir.new()
    dir:write("mail/new/b", "two")
    dir:write("mail/new/a", "o\0ne")
    assert.same({ "a", "b" }, dir:list("mail/new"))
    assert.equal("o\0ne", dir:read("mail/new/a"))
    assert.same({}, dir:list("nothing/there"))
  end)

  it("is gone with all that is in it, even folders without write permission", function()
    local path
    do
      local dir <close> = tmpdir.new()
      path = dir.path
      dir:write("locked/file", "x")
      assert(require("luv").fs_chmod(dir:join("locked"), 320))
    end
    assert.is_nil(require("luv").fs_stat(path))
  end)

  it("does not follow a symbolic link out of itself when removing", function()
    local outside <close> = tmpdir.new()
    outside:write("kept", "x")
    do
      local dir <close> = tmpdir.new()
      assert(require("luv").fs_symlink(outside.path, dir:join("link")))
    end
    assert.same({ "kept" }, outside:list())
  end)
end)
