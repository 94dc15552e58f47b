--- The types that users' editors read (lua/moonpost/_meta) against what there is.
local chain = require "moonpost.chain"
local moonpost = require "moonpost"
local schema = require "moonpost.schema"
local wired = require "spec.support.wired"

-- The classes of a page: name = { fields = { name = type }, methods = { name = true } }.
local function read(page)
  local classes, class, by_variable = {}, nil, {}
  for line in io.lines("lua/moonpost/_meta/" .. page .. ".lua") do
    local name = line:match("^%-%-%-@class ([%w_.]+)")
    if name then
      class = { fields = {}, methods = {} }
      classes[name] = class
    end
    local field, kind = line:match("^%-%-%-@field ([%w_]+%??) (.+)$")
    if field then
      class.fields[field:gsub("%?$", "")] = kind .. (field:find("?", 1, true) and "?" or "")
    end
    local variable = line:match("^local ([%w_]+) = {}")
    if variable then
      by_variable[variable] = class
    end
    local owner, method = line:match("^function ([%w_]+)[:.]([%w_]+)%(")
    if owner then
      assert(by_variable[owner], line).methods[method] = true
    end
  end
  return classes
end

local function names(set, keep)
  local list = {}
  for name in pairs(set) do
    if type(name) == "string" and not name:find("^_") and (not keep or keep(name)) then
      list[#list + 1] = name
    end
  end
  table.sort(list)
  return list
end

local function of(fields)
  local set = {}
  for _, field in ipairs(fields) do
    set[field.name] = true
  end
  return names(set)
end

describe("lua/moonpost/_meta", function()
  after_each(wired.release_log)

  local server, session, message = read "server", read "session", read "message"
  local top = read "moonpost"

  for class, case in pairs {
    ["moonpost.Server"] = { server, "moonpost.server" },
    ["moonpost.Session"] = { session, "moonpost.session" },
    ["moonpost.Recipient"] = { message, "moonpost.recipient" },
    ["moonpost.Headers"] = { message, "moonpost.headers" },
    ["moonpost.Message"] = { message, "moonpost.message" },
  } do
    it("has the methods of " .. class .. ", no more and no fewer", function()
      assert.same(names(require(case[2]).methods), names(case[1][class].methods))
    end)
  end

  it("has the methods of a selection", function()
    assert.same(names(require("moonpost.message").selection), names(message["moonpost.Selection"].methods))
  end)

  it("has the methods of a shared table", function()
    local methods = getmetatable(moonpost.shared("moonpost.meta")).__index
    assert.same(names(methods), names(read("shared")["moonpost.Shared"].methods))
  end)

  it("has the options of moonpost.server", function()
    assert.same(of(schema.server), names(server["moonpost.ServerOptions"].fields))
    assert.same(of(schema.limits), names(server["moonpost.Limits"].fields))
    assert.same(of(schema.tls), names(server["moonpost.TlsOptions"].fields))
    for _, field in ipairs(schema.session) do
      assert.is_not_nil(server["moonpost.ListenerOptions"].fields[field.name], field.name)
    end
    for _, field in ipairs(schema.server) do
      if field.name == "relay" then
        assert.same(of(field.fields), names(server["moonpost.RelayOptions"].fields))
      end
    end
  end)

  it("has every hook", function()
    assert.same(names(chain.names), names(server["moonpost.Hooks"].fields))
  end)

  it("has every fact of a session, and nothing else", function()
    local facts = { data = true, id = true, alive = true }
    for name in pairs(require("moonpost.session").facts) do
      facts[name] = true
    end
    assert.same(names(facts), names(session["moonpost.Session"].fields))
  end)

  it("has the parts of the module", function()
    for _, name in ipairs(names(top.moonpost.fields)) do
      assert.is_not_nil(moonpost[name], name)
    end
    for _, name in ipairs(names(top.moonpost.methods)) do
      assert.is_function(moonpost[name], name)
    end
    for _, name in ipairs(names(top["moonpost.Log"].methods)) do
      assert.is_function(moonpost.log[name], name)
    end
    for _, maker in ipairs { "Reply", "Error" } do
      for _, name in ipairs(names(top["moonpost." .. maker .. "Maker"].methods)) do
        assert.is_function(moonpost[maker][name], name)
      end
    end
  end)

  it("says which fields messages, recipients and results have", function()
    local function check(class, value)
      for field, kind in pairs(message[class].fields) do
        if not kind:find("?$") and field ~= "" then
          assert.is_not_nil(value[field], class .. "." .. field)
        end
      end
    end
    local rows
    local house = wired.new({ domains = "example.org" }, function(s)
      s.on.message = function(_, m)
        m:discard("x")
        check("moonpost.Message", m)
        check("moonpost.Sender", m.sender)
        check("moonpost.Recipient", m.recipients[1])
        rows = m:perform()
        check("moonpost.Result", rows[1])
      end
    end)
    assert.matches("^250 ", (house:session():send("a@b.c", "bob@example.org")))
    assert.equal(1, #rows)
  end)

  it("says what a delivery may be told", function()
    local plan = require "moonpost.plan"
    for field in pairs(message["moonpost.Delivery"].fields) do
      local _, why = plan.deliver { [field] = 7 }
      assert.is_nil(why and why:find("unknown option", 1, true), field)
    end
  end)

  it("has what C registers, for who works on the house", function()
    local classes = read "core"
    for _, page in ipairs { "spool", "process", "outgoing" } do
      for name, class in pairs(read(page)) do
        local known = classes[name] or class
        for method in pairs(class.methods) do
          known.methods[method] = true
        end
        classes[name] = known
      end
    end
    local core = require "moonpost.core"
    assert.same(names(core), names((function()
      local all = { VERSION = true, PENDING = true, watch_api = true }
      for name in pairs(classes["moonpost.core"].methods) do
        all[name] = true
      end
      return all
    end)()))
    core.worker()
    local registry = debug.getregistry()
    for class, described in pairs(classes) do
      local metatable = registry[class]
      if metatable then
        assert.same(names(metatable.__index), names(described.methods), class)
      else
        assert.same({}, names(described.methods, function() return class ~= "moonpost.core" end), class)
      end
    end
  end)
end)
