--- moonpost.cli.inspect for specs: run in a state of its own, it gives a policy a tenth of a second of CPU time.
local M = {}

function M.run(text)
  require("moonpost.policy").CPU_MOST = 0.1
  return require("moonpost.cli.inspect").run(text)
end

return M
