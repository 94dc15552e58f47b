local plan = require "moonpost.plan"

describe("moonpost.plan", function()
  it("throws away only with a reason", function()
    assert.same({ kind = "discard", reason = "spam" }, plan.discard("spam"))
    assert.is_nil(plan.discard())
    assert.is_nil(plan.discard(""))
    assert.is_nil(plan.discard(true))
  end)

  it("refuses with 4xx and 5xx alone", function()
    assert.same({ kind = "refuse", code = 550, enhanced = "5.7.1", text = "No" }, plan.refuse(550, "5.7.1", "No"))
    assert.same({ kind = "refuse", code = 451, enhanced = "4.0.0", text = "Later" }, plan.refuse(451, "Later"))
    assert.matches("refuses nothing", select(2, plan.refuse(250, "Fine")))
    assert.matches("code", select(2, plan.refuse("No")))
    assert.is_nil(plan.refuse(550, "5.7.1", "two\r\nlines"))
  end)

  it("delivers into a Maildir or a file, folders made unless told otherwise", function()
    local one = plan.deliver { maildir = "/var/mail/%{mailbox}" }
    assert.same({ "maildir", true, "lf" }, { one.kind, one.create, one.line_end })
    one = plan.deliver { file = "/var/%{id}", create = false, mode = "0640", mbox = true }
    assert.same({ "file", false, 416, true }, { one.kind, one.create, one.mode, one.mbox })
  end)

  it("delivers to a program, with a deadline", function()
    local one = plan.deliver { pipe = { "/bin/cat", "-" } }
    assert.same({ "pipe", 60, 2 }, { one.kind, one.timeout, #one.args })
    one = plan.deliver { pipe = { "/bin/cat" }, timeout = "5s", cwd = "/tmp", env = { B = "2", A = "1" } }
    assert.same({ 5, "/tmp", { "A=1", "B=2" } }, { one.timeout, one.cwd, one.env })
  end)

  for name, case in pairs {
    ["nothing"] = { nil, "a table expected" },
    ["no target"] = { {}, "maildir, file, pipe or lmtp is needed" },
    ["two targets"] = { { maildir = "/a", file = "/b" }, "not both" },
    ["an unknown option"] = { { maidlir = "/a" }, 'unknown option "maidlir" %(did you mean "maildir"%?%)' },
    ["an option of another target"] = { { maildir = "/a", timeout = 5 }, "timeout: no option of maildir" },
    ["a line end that there is not"] = { { maildir = "/a", line_end = "cr" }, 'line_end: "lf" or "crlf" expected' },
    ["CRLF in an mbox"] = { { file = "/a", mbox = true, line_end = "crlf" }, "line_end: lines of an mbox end in LF" },
    ["a path that is no string"] = { { maildir = 7 }, "maildir: a string expected" },
    ["an empty path"] = { { file = "" }, "file: a string expected" },
    ["NUL in a path"] = { { file = "/a\0b" }, "NUL" },
    ["an unknown name in a path"] = { { maildir = "/%{mailbx}" }, "maildir: .* unknown name" },
    ["a command line"] = { { pipe = "/bin/cat -" }, "pipe: a list of program and arguments expected" },
    ["an empty list"] = { { pipe = {} }, "pipe: a list" },
    ["an argument that is no string"] = { { pipe = { "/bin/cat", 7 } }, "pipe%[2%]: a string expected" },
    ["no time at all"] = { { pipe = { "/bin/cat" }, timeout = 0 }, "timeout: more than 0 expected" },
    ["a folder that is relative"] = { { pipe = { "/bin/cat" }, cwd = "tmp" }, "cwd: an absolute path" },
    ["an odd name in env"] = { { pipe = { "/bin/cat" }, env = { ["A=B"] = "x" } }, "env: A=B" },
    ["NUL in env"] = { { pipe = { "/bin/cat" }, env = { A = "x\0y" } }, "env: A" },
    ["a mode that is none"] = { { file = "/a", mode = 640 }, "mode: permissions" },
    ["a flag that is none"] = { { file = "/a", create = "yes" }, "create: true or false" },
  } do
    it("refuses " .. name, function()
      local one, why = plan.deliver(case[1])
      assert.is_nil(one)
      assert.matches(case[2], why)
    end)
  end
end)
