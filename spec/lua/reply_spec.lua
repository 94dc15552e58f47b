local Reply = require "moonpost.reply"

describe("moonpost.Reply", function()
  it("takes code, enhanced code and text, or does without the enhanced code", function()
    local full = Reply(550, "5.1.1", "No such mailbox")
    assert.same({ 550, "5.1.1", "No such mailbox" }, { full.code, full.enhanced, full.text })
    assert.equal("550 5.1.1 No such mailbox", tostring(full))
    assert.equal("5.0.0", Reply(550, "No").enhanced)
    assert.equal("4.0.0", Reply(451, nil, "Later").enhanced)
    assert.equal("2.0.0", Reply(250.0, "Fine").enhanced)
  end)

  it("raises at the caller's line", function()
    local line = debug.getinfo(1, "l").currentline + 1
    local ok, err = pcall(function() Reply(550, "5.1.1", "two\r\nlines") end)
    assert.is_false(ok)
    assert.matches("reply_spec.lua:" .. line .. ": moonpost.Reply: ", err)
  end)

  for name, case in pairs {
    ["no code"] = { "No", "5.1.1" },
    ["a code out of range"] = { 600, "text" },
    ["a 1xx code"] = { 150, "text" },
    ["a 3xx code"] = { 354, "text" },
    ["a fraction"] = { 550.5, "text" },
    ["no text"] = { 550 },
    ["an enhanced code without text (RFC 2034)"] = { 550, "5.1.1" },
    ["an enhanced code of another class (RFC 2034 4)"] = { 550, "4.1.1", "text" },
    ["an enhanced code that is none"] = { 550, "5.1", "text" },
    ["a carriage return in the text"] = { 550, "5.1.1", "a\rb" },
    ["a NUL in the text"] = { 550, "5.1.1", "a\0b" },
    ["octets that are no UTF-8"] = { 550, "5.1.1", "a\xffb" },
    ["a number as the text"] = { 550, "5.1.1", 7 },
  } do
    it("refuses " .. name, function()
      local code, why = Reply.normal(table.unpack(case))
      assert.is_nil(code)
      assert.is_string(why)
    end)
  end

  it("tells its own", function()
    assert.is_true(Reply.is(Reply(550, "No")))
    assert.is_false(Reply.is { code = 550 })
  end)
end)
