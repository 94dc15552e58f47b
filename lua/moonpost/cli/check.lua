--- moonpost check: what a policy comes to.
local endpoint = require "moonpost.endpoint"
local inspect = require "moonpost.cli.inspect"
local json = require "moonpost.json"

local M = {}

M.usage = "check [--json] [--listen URL]... POLICY.lua"
M.help = [[
Loads the policy without serving it: its code is run, certificates are read, nothing is bound and no hook is called.
Prints its listeners, every option with where its value comes from, and the hooks in the order in which they are asked.
Exit status 1, and one line with file and line, when something is wrong.]]

M.listen_option = {
  name = "listen", value = "URL", many = true, doc = "listen here instead of where the policy says; may be repeated",
  parse = function(text)
    local at, why = endpoint.parse(text)
    return at and text, nil, why
  end,
}
M.options = {
  { name = "json", doc = "the same as one JSON object" },
  M.listen_option,
}
M.operands = { "POLICY" }

-- Columns as wide as their longest cell, the last one as it comes.
local function columns(rows, indent)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      widths[i] = math.max(widths[i] or 0, utf8.len(cell) or #cell)
    end
  end
  for r, row in ipairs(rows) do
    local out = {}
    for i, cell in ipairs(row) do
      out[i] = i == #row and cell or cell .. (" "):rep(math.min(widths[i], 48) - (utf8.len(cell) or #cell))
    end
    lines[r] = indent .. table.concat(out, "  ")
  end
  return table.concat(lines, "\n")
end

local function show(path, report)
  local listeners, options, hooks = {}, {}, {}
  for i, each in ipairs(report.listeners) do
    local mechanisms = table.concat(each.mechanisms, " ")
      .. ((each.auth_in_clear or each.tls == "implicit") and "" or " under TLS")
    listeners[i] = {
      each.url, ("name %q"):format(each.name), "tls " .. each.tls .. (each.tls_why and ": " .. each.tls_why or ""),
      "auth " .. each.auth .. ": " .. (each.auth_why or mechanisms),
    }
  end
  for _, row in ipairs(report.options) do
    if not row.option:find("^listen%[%d+%]$") then -- those stand above
      options[#options + 1] = { row.option, row.value, row.source }
    end
  end
  for i, row in ipairs(report.hooks) do
    hooks[i] = { row.hook, table.concat(row.chain, ", then ") }
  end
  hooks[1] = hooks[1] or { "none: every message is refused with 451" }
  print(path .. ": fine")
  print("\nlisteners\n" .. columns(listeners, "  "))
  print("\nhooks\n" .. columns(hooks, "  "))
  print("\noptions\n" .. columns(options, "  "))
end

function M.run(args)
  local report, why = inspect.policy {
    path = args.POLICY, listen = args.listen, log = { level = "error" }, untouched = true,
  }
  if not report then
    if args.json then
      print(json.encode { ok = false, policy = args.POLICY, error = why })
    end
    io.stderr:write("moonpost: ", why, "\n")
    return 1
  end
  if args.json then
    print(json.encode {
      ok = true, policy = args.POLICY, listeners = report.listeners, options = report.options, hooks = report.hooks,
    })
  else
    show(args.POLICY, report)
  end
  return 0
end

return M
