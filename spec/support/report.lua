--- Output handler of busted for ./dev test: a line per failure with its place and traceback, a line per pending spec,
--- and at the end `N passed, N failed`, which ./dev adds up. Specs slower than a second are named.
return function(options)
  local busted = require "busted"
  local handler = require "busted.outputHandlers.base"()
  local began = {}

  local function place(item)
    local trace = item.element.trace or item.trace
    return trace and trace.short_src and (trace.short_src .. ":" .. tostring(trace.currentline)) or "?"
  end

  local function text(message)
    return type(message) == "string" and message or require "pl.pretty".write(message)
  end

  local function complain(word, item)
    io.write(word, " ", place(item), ": ", item.name, "\n")
    io.write("  ", (text(item.message or "no message"):gsub("\n", "\n  ")), "\n")
    local trace = item.trace and item.trace.traceback
    if trace then
      io.write("  ", (trace:gsub("^\n", ""):gsub("\n", "\n  ")), "\n")
    end
    io.flush()
  end

  busted.subscribe({ "test", "start" }, function(element)
    began[element] = busted.monotime and busted.monotime() or os.clock()
    return nil, true
  end)

  busted.subscribe({ "test", "end" }, function(element, _, status)
    local took = (busted.monotime and busted.monotime() or os.clock()) - (began[element] or 0)
    began[element] = nil
    if status == "failure" then
      complain("FAILED", handler.failures[#handler.failures])
    elseif status == "error" then
      complain("ERROR", handler.errors[#handler.errors])
    elseif status == "pending" then
      io.write("PENDING ", handler.getFullName(element), "\n")
    elseif took > 1 then
      io.write(("slow %.1f s: %s\n"):format(took, handler.getFullName(element)))
    end
    io.flush()
    return nil, true
  end)

  -- faults outside of a test: a file that does not load, a setup that raises
  local function outside(element)
    if element.descriptor ~= "it" then
      complain("ERROR", handler.errors[#handler.errors])
    end
    return nil, true
  end
  busted.subscribe({ "error" }, outside)
  busted.subscribe({ "failure" }, outside)

  busted.subscribe({ "suite", "end" }, function()
    if handler.pendingsCount > 0 then
      io.write(handler.pendingsCount, " pending\n")
    end
    io.write(("%d passed, %d failed\n"):format(handler.successesCount, handler.failuresCount + handler.errorsCount))
    io.flush()
    return nil, true
  end)

  handler.options = options
  return handler
end
