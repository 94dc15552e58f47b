std = "lua54"
max_line_length = 150
cache = false
codes = true
exclude_files = { "build/**", "lua/moonpost/_meta/**" }
-- States of our own carry coroutine functions that pass a wait on.
files["lua/moonpost/task.lua"] = { globals = { "coroutine" } }
files["spec/lua/task_spec.lua"] = { std = "+busted", globals = { "coroutine" } }
files["spec"] = { std = "+busted" }
