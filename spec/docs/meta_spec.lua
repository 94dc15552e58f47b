-- What lua/moonpost/_meta types, the other way round from spec/lua/meta_spec.lua: nothing that can be called is left
-- untyped, and nothing that is typed is left out of the pages.
local chain = require "moonpost.chain"
local core = require "moonpost.core"
local documents = require "spec.support.doc_examples"
local moonpost = require "moonpost"
local schema = require "moonpost.schema"
local test = require "moonpost.test"

local function read(path)
  local file = assert(io.open(path, "r"))
  local text = file:read("a")
  file:close()
  return text
end

-- The methods that a page of types has for a variable: function NAME:method( or NAME.method(
local function typed(page, variable)
  local set = {}
  for method in read("lua/moonpost/_meta/" .. page .. ".lua"):gmatch("\nfunction " .. variable .. "[:.]([%w_]+)%(") do
    set[method] = true
  end
  assert(next(set), page .. " types nothing of " .. variable)
  return set
end

-- The fields of a class: those of its comment.
local function fields(page, class)
  local text = read("lua/moonpost/_meta/" .. page .. ".lua")
  local list, inside = {}, false
  for line in text:gmatch("[^\n]+") do
    local name = line:match("^%-%-%-@class ([%w_.]+)")
    if name then
      inside = name == class
    elseif inside then
      list[#list + 1] = line:match("^%-%-%-@field ([%a_][%w_]*)")
    end
  end
  assert(list[1], page .. " types no fields of " .. class)
  return list
end

local function public(functions)
  local list = {}
  for name, value in pairs(functions) do
    if type(name) == "string" and type(value) == "function" and not name:find("^_") then
      list[#list + 1] = name
    end
  end
  table.sort(list)
  assert(list[1])
  return list
end

describe("what can be called", function()
  local house = test.load(function()
    return moonpost.server { listen = "smtp://127.0.0.1:25", domains = "example.org" }
  end)
  local peer = house:session()

  for name, case in pairs {
    ["a task"] = { getmetatable(moonpost.spawn(function() end)).__index, "moonpost", "Task" },
    ["moonpost.spf"] = { moonpost.spf, "spf", "spf" },
    ["moonpost.iprev"] = { moonpost.iprev, "spf", "iprev" },
    ["lists in the DNS"] = { require("moonpost.dnsbl").methods, "spf", "Dnsbl" },
    ["moonpost.test"] = { test, "test", "test" },
    ["a policy under test"] = { getmetatable(house).__index, "test", "Policy" },
    ["a pending command"] = { getmetatable(select(2, house:start_session())).__index, "test", "Pending" },
    ["a peer"] = { require("moonpost.test.peer").methods, "test", "Peer" },
    ["a shared table"] = { moonpost.shared.methods, "shared", "Shared" },
    ["a rewriter of senders"] = {
      getmetatable(moonpost.srs { domain = "example.org", secrets = ("x"):rep(16) }).__index, "report", "Srs",
    },
    ["moonpost.report"] = { moonpost.report, "report", "Reports" },
    ["moonpost.psl"] = { moonpost.psl, "auth", "psl" },
    ["a list of public suffixes"] = { getmetatable(moonpost.psl.default()).__index, "auth", "List" },
    ["moonpost.authres"] = { moonpost.authres, "auth", "authres" },
    ["moonpost.dmarc"] = { moonpost.dmarc, "auth", "dmarc" },
    ["moonpost.auth"] = { moonpost.auth, "auth", "auth" },
    ["moonpost.dkim"] = { moonpost.dkim, "dkim", "dkim" },
    ["moonpost.reports"] = { moonpost.reports, "reports", "reports" },
    ["what signs"] = {
      getmetatable(assert(moonpost.dkim.signer { domain = "example.org", selector = "s", key = moonpost.dkim.keygen("ed25519").private })).__index,
      "dkim", "Signer",
    },
    ["a scanner"] = { require("moonpost.clamav").methods, "scanners", "Scanner" },
    ["a client of rspamd"] = { require("moonpost.rspamd").methods, "scanners", "Client" },
    ["a milter"] = { require("moonpost.milter").methods, "scanners", "Filter" },
    ["a conversation with a milter"] = { require("moonpost.milter").talk_methods, "scanners", "Talk" },
    ["a schedule"] = { getmetatable(moonpost.schedule()).__index, "report", "Schedule" },
  } do
    it("is typed: " .. name, function()
      local types = typed(case[2], case[3])
      for _, method in ipairs(public(case[1])) do
        assert.is_true(types[method] == true, ("%s has an untyped %s"):format(name, method))
      end
      for method in pairs(types) do
        assert.is_function(case[1][method], ("%s has no %s, which is typed"):format(name, method))
      end
    end)
  end

  it("is typed: every class that C registers", function()
    core.worker()
    local text, classes = "", 0
    for _, page in ipairs { "core", "process", "spool", "outgoing" } do
      text = text .. read("lua/moonpost/_meta/" .. page .. ".lua")
    end
    for name, metatable in pairs(debug.getregistry()) do
      if type(name) == "string" and name:find("^moonpost%.core%.") and next(metatable.__index or {}) then
        classes = classes + 1
        assert.truthy(text:find("---@class " .. name .. "%f[^%w_.]"), name .. " is not typed")
      end
    end
    assert.is_true(classes >= 9)
    assert.equal(250, peer:ehlo("mail.example.net").code)
  end)
end)

describe("the pages", function()
  local text = {}
  for _, page in ipairs(documents.pages()) do
    text[page] = read(page)
    text[#text + 1] = text[page]
  end
  local all = table.concat(text, "\n")

  -- Named as code: between backticks or in an example.
  local function named(name, page)
    local within = page and text[page] or all
    for code in within:gmatch("`([^`\n]+)`") do
      if code:find("%f[%w_]" .. name .. "%f[^%w_]") then
        return true
      end
    end
    for code in within:gmatch("```lua[^\n]*\n(.-)```") do
      if code:find("%f[%w_]" .. name .. "%f[^%w_]") then
        return true
      end
    end
    return false
  end

  local function check(list, page)
    for _, name in ipairs(list) do
      assert.is_true(named(name, page), ("%s is not in %s"):format(name, page or "any page"))
    end
  end

  local function field_names(list)
    local names = {}
    for i, field in ipairs(list) do
      names[i] = field.name
    end
    return names
  end

  it("explain every option", function()
    check(field_names(schema.server))
    check(field_names(schema.session), "docs/listeners.md")
    check(field_names(schema.tls), "docs/tls.md")
    check(field_names(schema.limits), "docs/limits.md")
  end)

  it("explain every name that an option takes", function()
    check(schema.laxities, "docs/listeners.md")
    for _, name in ipairs(schema.mechanisms) do
      assert.truthy(text["docs/auth.md"]:find(name, 1, true), name)
    end
    for name in pairs(schema.extensions) do
      assert.truthy(text["docs/listeners.md"]:find("\n| " .. name .. " ", 1, true), name)
    end
  end)

  it("say which extensions are on, as it is", function()
    for name, on in pairs(schema.extensions) do
      local said = text["docs/listeners.md"]:match("\n| " .. name:gsub("%p", "%%%0") .. " [^|]*| ([%l, ]+) |")
      local queued = schema.queued[name]
      assert.equal(on and "yes" or queued == true and "with a queue" or queued and queued .. ", with a queue" or "no", said, name)
    end
  end)

  it("explain every command and its options", function()
    for _, command in ipairs { "serve", "check", "queue", "passwd" } do
      local page = text["docs/command-line.md"]
      assert.truthy(page:find("\n## " .. command .. "\n", 1, true), command)
      for _, option in ipairs(require("moonpost.cli." .. command).options) do
        assert.truthy(page:find("`--" .. option.name, 1, true), command .. " --" .. option.name)
      end
    end
  end)

  it("explain every hook, in order", function()
    local written = {}
    for name in text["docs/hooks.md"]:gmatch("\n| `(%l+)` | [^|]+ | [^|]+ | [^|]+ |") do
      written[#written + 1] = name
    end
    assert.same(chain.order, written)
  end)

  it("explain what sessions, recipients, messages and headers have", function()
    check(fields("session", "moonpost.Session"), "docs/listeners.md")
    check(fields("session", "moonpost.TlsFacts"), "docs/tls.md")
    check(fields("message", "moonpost.Recipient"), "docs/recipients-and-dispositions.md")
    check(fields("message", "moonpost.Message"), "docs/messages.md")
    check(fields("message", "moonpost.Delivery"), "docs/recipients-and-dispositions.md")
    check(fields("message", "moonpost.Result"), "docs/recipients-and-dispositions.md")
    check(fields("server", "moonpost.Credentials"), "docs/auth.md")
    for _, class in ipairs { "spf.Options", "spf.Result", "iprev.Options", "iprev.Found" } do
      check(fields("spf", "moonpost." .. class), "docs/spf.md")
    end
    for _, class in ipairs { "DnsblOptions", "DnsblZone", "DnsblFound", "DnsblHit" } do
      check(fields("spf", "moonpost." .. class), "docs/dnsbl.md")
    end
    for class in ("Notice ReportedMessage ReportedRecipient ReportFacts ReportRow SrsOptions ScheduleOptions Times"):gmatch "%a+" do
      check(fields("report", "moonpost." .. class), "docs/bounces.md")
    end
    for class in ("Options Verdict Record Address Refusal Facts AggregateOptions AggregateReport"):gmatch "%a+" do
      check(fields("auth", "moonpost.dmarc." .. class), "docs/dmarc.md")
    end
    for class in ("Options Found"):gmatch "%a+" do
      check(fields("auth", "moonpost.auth." .. class), "docs/authentication.md")
    end
    for class in ("SignOptions VerifyOptions Found"):gmatch "%a+" do
      check(fields("dkim", "moonpost.dkim." .. class), "docs/dkim.md")
    end
    for class in ("Report Dsn Recipient Arf Dmarc Row Tls TlsPolicy"):gmatch "%a+" do
      check(fields("reports", "moonpost.reports." .. class), "docs/reports.md")
    end
    for _, class in ipairs { "clamav.Options", "clamav.Found", "rspamd.Options", "rspamd.Found", "milter.Options", "milter.Answer" } do
      check(fields("scanners", "moonpost." .. class), "docs/scanners.md")
    end
    for class in ("Result Field"):gmatch "%a+" do
      check(fields("auth", "moonpost.authres." .. class), "docs/authentication-results.md")
    end
  end)

  for _, case in ipairs {
    { "moonpost", "moonpost" }, { "moonpost", "Task" }, { "moonpost", "Log" }, { "server", "Server" },
    { "session", "Session" }, { "message", "Recipient" }, { "message", "Headers" }, { "message", "Message" },
    { "message", "Selection" }, { "shared", "Shared" }, { "report", "Srs" }, { "report", "Schedule" },
    { "report", "Reports" }, { "auth", "psl" }, { "auth", "authres" }, { "auth", "dmarc" }, { "auth", "auth" },
    { "scanners", "Scanner" }, { "scanners", "Client" }, { "scanners", "Filter" }, { "scanners", "Talk" },
    { "spf", "spf" }, { "spf", "iprev" }, { "spf", "links" }, { "spf", "Dnsbl" }, { "dkim", "dkim" },
    { "dkim", "Signer" }, { "reports", "reports" },
  } do
    it(("explain every function of %s"):format(case[2]), function()
      local list = {}
      for name in pairs(typed(case[1], case[2])) do
        list[#list + 1] = name
      end
      table.sort(list)
      check(list)
    end)
  end
end)
