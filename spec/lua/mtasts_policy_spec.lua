local policies = require "moonpost.mtasts.policy"

local GOOD = "version: STSv1\r\nmode: enforce\r\nmx: mx1.example.org\r\nmx: *.mail.example.org\r\nmax_age: 604800\r\n"

local function why(text)
  local policy, reason = policies.parse(text)
  assert.is_nil(policy)
  assert.is_string(reason)
  return reason
end

-- Parsing is linear: four times the length takes about four times as long, and nothing here is near a second.
local function quickly(fn, ...)
  local begin = os.clock()
  local results = table.pack(fn(...))
  assert.is_true(os.clock() - begin < 1)
  return table.unpack(results, 1, results.n)
end

describe("moonpost.mtasts.policy: the policy file (RFC 8461 3.2)", function()
  it("is read", function()
    local policy = assert(policies.parse(GOOD))
    assert.equal("enforce", policy.mode)
    assert.equal(604800, policy.max_age)
    assert.same({ "mx1.example.org", "*.mail.example.org" }, policy.mx)
  end)

  for name, text in pairs {
    ["with LF alone"] = GOOD:gsub("\r", ""),
    ["without the last line end"] = GOOD:sub(1, -3),
    ["with white space behind values, and none before them"] = GOOD:gsub(": ", ":"):gsub("\r\n", " \t\r\n"),
    ["in any order"] = "max_age: 604800\nmx: mx1.example.org\nmx: *.mail.example.org\nmode: enforce\nversion: STSv1\n",
    ["with fields that nobody knows"] = GOOD .. "x-new.field_1: anything goes: here\xc3\xa4\r\n",
    ["with empty lines"] = "\r\n" .. GOOD:gsub("\r\n", "\r\n\r\n"),
    ["with names in upper case"] = GOOD:gsub("mx1.example.org", "MX1.Example.ORG"),
    ["of repeated fields by the first"] = GOOD .. "version: STSv2\nmode: none\nmax_age: 1\n",
  } do
    it("is read " .. name, function()
      local policy = assert(policies.parse(text))
      assert.same({ "enforce", 604800, { "mx1.example.org", "*.mail.example.org" } }, { policy.mode, policy.max_age, policy.mx })
    end)
  end

  it("needs no mx where there is no mode", function()
    assert.equal("none", assert(policies.parse("version: STSv1\nmode: none\nmax_age: 86400\n")).mode)
  end)

  it("lasts a year at most", function()
    assert.equal(31557600, assert(policies.parse((GOOD:gsub("604800", "9999999999")))).max_age)
    assert.equal(0, assert(policies.parse((GOOD:gsub("604800", "0")))).max_age)
  end)

  for name, text in pairs {
    ["nothing"] = "",
    ["another version"] = GOOD:gsub("STSv1", "STSv2"),
    ["a version in other letters"] = GOOD:gsub("STSv1", "stsv1"),
    ["no version"] = GOOD:gsub("version", "x-version"),
    ["a field's name in upper case"] = GOOD:gsub("mode", "Mode"),
    ["an unknown mode"] = GOOD:gsub("enforce", "Enforce"),
    ["no mode"] = GOOD:gsub("mode: enforce\r\n", ""),
    ["no mx"] = GOOD:gsub("mx: [^\r]*\r\n", ""),
    ["no max_age"] = GOOD:gsub("max_age: 604800\r\n", ""),
    ["a negative max_age"] = GOOD:gsub("604800", "-1"),
    ["a max_age of hexadecimal digits"] = GOOD:gsub("604800", "0x10"),
    ["a max_age with a fraction"] = GOOD:gsub("604800", "1.5"),
    ["a max_age of twenty digits"] = GOOD:gsub("604800", ("9"):rep(20)),
    ["a first max_age that is malformed"] = "max_age: soon\n" .. GOOD,
    ["an asterisk in the middle"] = GOOD:gsub("%*%.mail", "mail.*"),
    ["two asterisks"] = GOOD:gsub("%*%.mail", "*.*.mail"),
    ["an asterisk within a label"] = GOOD:gsub("%*%.mail", "m*.mail"),
    ["an asterisk alone"] = GOOD:gsub("mx: mx1.example.org", "mx: *"),
    ["an asterisk over nothing"] = GOOD:gsub("mx: mx1.example.org", "mx: *."),
    ["an address as mx"] = GOOD:gsub("mx1.example.org", "192.0.2.1"),
    ["an empty label"] = GOOD:gsub("mx1.example.org", "mx1..example.org"),
    ["a label of 64 octets"] = GOOD:gsub("mx1", ("a"):rep(64)),
    ["a name of 254 octets"] = GOOD:gsub("mx1.example.org", ("a."):rep(126) .. "bb"),
    ["a U-label"] = GOOD:gsub("mx1", "b\xc3\xbccher"),
    ["NUL in an mx"] = GOOD:gsub("mx1.example.org", "mx1.example.org\0.evil.example"),
    ["NUL in a field that nobody knows"] = GOOD .. "x: a\0b\r\n",
    ["octets that are no UTF-8"] = GOOD .. "x: \xff\r\n",
    ["CR in the middle of a line"] = GOOD .. "x: a\rmode: none\r\n",
    ["a line that is no field"] = GOOD .. "<html>\r\n",
    ["white space before a field"] = GOOD:gsub("\r\nmode", "\r\n mode"),
    ["a field without a name"] = GOOD .. ": x\r\n",
    ["a field whose name is too long"] = GOOD .. ("x"):rep(33) .. ": x\r\n",
    ["a megabyte"] = GOOD .. ("x: y\r\n"):rep(180000),
    ["one octet too many"] = GOOD .. "x: " .. ("y"):rep(65537 - #GOOD - 3),
    ["an endless line"] = ("a"):rep(65000),
    ["an endless line of white space"] = "version: STSv1\nmode:" .. (" "):rep(65000) .. "x",
  } do
    it("is none with " .. name, function()
      quickly(why, text)
    end)
  end

  it("may be as long as is allowed, and is read in linear time", function()
    local text = GOOD .. ("mx: a.b.c.d.e.f\n"):rep((65536 - #GOOD) // 16)
    local policy = assert(quickly(policies.parse, text))
    assert.is_true(#policy.mx > 4000)
    assert.is_true(policy:matches "a.b.c.d.e.f")
    assert(quickly(policies.parse, GOOD .. "x: " .. ("\t "):rep(32000) .. "y"))
  end)
end)

describe("moonpost.mtasts.policy: which hosts match (RFC 8461 4.1)", function()
  local policy = assert(policies.parse(GOOD))

  for host, expected in pairs {
    ["mx1.example.org"] = true,
    ["MX1.EXAMPLE.ORG"] = true,
    ["mx1.example.org."] = true,
    ["a.mail.example.org"] = true,
    ["mail.example.org"] = false,
    ["a.b.mail.example.org"] = false,
    ["xmail.example.org"] = false,
    ["mx2.example.org"] = false,
    ["mx1.example.org.evil.example"] = false,
    ["*.mail.example.org"] = false,
    [""] = false,
    ["mx1.example.org\0"] = false,
  } do
    it(("%q: %s"):format(host, expected), function()
      assert.equal(expected, policy:matches(host))
    end)
  end
end)

describe("moonpost.mtasts.policy: the TXT record (RFC 8461 3.1)", function()
  for text, expected in pairs {
    ["v=STSv1; id=20160831085700Z;"] = "20160831085700Z",
    ["v=STSv1;id=1"] = "1",
    ["v=STSv1 ; id=1 ; x=y"] = "1",
    ["v=STSv1; a.b-c_d=!~; id=1"] = "1",
    ["v=STSv1; id=1; id=2"] = "1",
    ["v=STSv1"] = false,
    ["v=STSv1;"] = false,
    ["v=STSv1; id="] = false,
    ["v=STSv1; id=a-b"] = false,
    ["v=STSv1; id=a b"] = false,
    ["v=STSv1; id=a; b"] = false,
    ["v=STSv1; id=a;; x=y"] = false,
    ["v=STSv1; ID=a"] = false,
    ["V=STSv1; id=a"] = false,
    ["v=STSv2; id=a"] = false,
    [" v=STSv1; id=a"] = false,
    ["id=a; v=STSv1"] = false,
    ["v=STSv1; id=a\0"] = false,
    ["v=STSv1; id=" .. ("a"):rep(32)] = ("a"):rep(32),
    ["v=STSv1; id=" .. ("a"):rep(33)] = false,
    ["v=STSv1;" .. (" "):rep(60000) .. "x"] = false,
    ["v=STSv1;" .. (";"):rep(60000)] = false,
  } do
    it(("%q: %s"):format(text:sub(1, 60), expected), function()
      local id, reason = quickly(policies.id, { "v=spf1 -all", text })
      assert.equal(expected, id or false)
      assert.equal(expected == false, reason ~= nil)
    end)
  end

  it("is none when there are several", function()
    assert.is_nil((policies.id { "v=STSv1; id=1", "v=STSv1; id=1" }))
    assert.is_nil((policies.id {}))
  end)
end)
