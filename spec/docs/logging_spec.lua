-- docs/logging.md against the code: every event that is written has a row with its level, and every row an event.
local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

-- text -> levels, of the table under "Events".
local function rows()
  local found = {}
  for line in read("docs/logging.md"):match("\n## Events\n(.*)"):gmatch("[^\n]+") do
    local names, levels = line:match("^| (`[^|]*`) | ([%l, ]+) |")
    for name in (names or ""):gmatch("`([^`]+)`") do
      found[name] = levels
    end
  end
  return found
end

-- What is given to log.event and its kin as a literal, under lua/moonpost: text -> levels as far as the line names them.
local function events()
  local found = {}
  local list = assert(io.popen("find lua/moonpost -name '*.lua' ! -path '*/_meta/*' ! -path '*/test/*'"))
  for path in list:lines() do
    local source = read(path):gsub("%-%-[^\n]*", ""):gsub("M%.event%(", "log.event(")
    local function note(text, level)
      found[text] = found[text] or {}
      found[text][level or ""] = true
    end
    for arguments in source:gmatch("log%.event(%b())") do
      local level, text = arguments:match('^%("(%l+)", "([^"]+)"')
      if level then
        note(text:gsub(" $", " URL"), level)
      else -- one of two
        for each in (arguments:match("^[^{]*") or ""):gmatch('"([^"]+)"') do
          note(each)
        end
      end
    end
    for level, arguments in source:gmatch("log%.(%l+)(%b())") do
      if level ~= "event" and level ~= "configure" then
        for each in (arguments:match("^[^{]*") or ""):gmatch('"([^"]+)"') do
          note(each, level)
        end
      end
    end
    for text in source:gmatch('tell%(message, "([^"]+)"') do
      note(text)
    end
    for level, text in source:gmatch('= { "(%l+)", "(connections [^"]+)" }') do
      note(text, level)
    end
  end
  list:close()
  for level in pairs { error = 1, warn = 1, info = 1, debug = 1 } do
    found[level] = nil -- `log.event(ok and "info" or "error", ...)`
  end
  return found
end

describe("docs/logging.md", function()
  local written, known = rows(), events()

  it("has a row for every event, with its level", function()
    for text, levels in pairs(known) do
      assert(written[text], "no row: " .. text)
      for level in pairs(levels) do
        assert(written[text]:find(level, 1, true), text .. ": not at " .. written[text])
      end
    end
  end)

  it("has no row for what is never written", function()
    for text in pairs(written) do
      assert(known[text], "never written: " .. text)
    end
    assert.is_true(known["message accepted"] ~= nil and known["session"] ~= nil)
  end)
end)
