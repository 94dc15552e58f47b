local options = require "moonpost.options"
local schema = require "moonpost.schema"

describe("moonpost.schema", function()
  local function each(fields, prefix, fn)
    for _, field in ipairs(fields) do
      fn(field, prefix .. field.name)
      if field.fields then
        each(field.fields, prefix .. field.name .. ".", fn)
      end
    end
  end

  it("says what every option is for", function()
    each(schema.server, "", function(field, path)
      assert.is_true(field.fields ~= nil or type(field.doc) == "string" and field.doc ~= "", path)
    end)
    each(schema.tls, "tls.", function(field, path)
      assert.is_string(field.doc, path)
    end)
  end)

  it("has a number, a reply and a place for every limit", function()
    local seen = {}
    for _, field in ipairs(schema.limits) do
      assert.is_not_nil(field.default, field.name)
      assert.is_string(field.reply, field.name)
      assert.is_truthy(field.at == "lua" or field.c, field.name)
      assert.is_nil(seen[field.name], field.name)
      seen[field.name] = true
    end
  end)

  it("has defaults that pass their own checks", function()
    local values, rows = options.resolve(schema.server, {}, "p.lua:1")
    assert.is_table(values, rows)
    assert.equal(50000000, values.limits.size)
    assert.equal(100, values.limits.recipients)
    assert.equal(300, values.limits.command_time)
    assert.equal(30, values.limits.hook_time)
    assert.equal(300, values.limits.message_time)
    assert.equal(values.limits.size, values.limits.overrun)
  end)

  -- The names of the numbers are C's: a name that C does not read would silently leave its default.
  it("names C's numbers as C does", function()
    local file = assert(io.open("csrc/bind/service_config.c"))
    local source = file:read("a")
    file:close()
    for _, field in ipairs(schema.limits) do
      if field.c then
        local found = source:find("MACHINE(" .. field.c .. ",", 1, true) or source:find('"' .. field.c .. '"', 1, true)
        assert.is_truthy(found, field.c)
      end
    end
    for name in source:gmatch("MACHINE%(([%w_]+), %u") do
      local found = false
      for _, field in ipairs(schema.limits) do
        found = found or field.c == name
      end
      assert.is_true(found, "no limit for " .. name)
    end
  end)

  it("names extensions and laxities as C does", function()
    local file = assert(io.open("csrc/smtp/server.h"))
    local source = file:read("a")
    file:close()
    for name in pairs(schema.extensions) do
      assert.is_truthy(source:find('"' .. name .. '")', 1, true), name)
    end
    for _, name in ipairs(schema.laxities) do
      assert.is_truthy(source:find("MP_LAX_" .. name:upper() .. " ", 1, true), name)
    end
  end)
end)
