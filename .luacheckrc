std = "lua54"
max_line_length = 120
cache = false
codes = true
exclude_files = { "build/**", "lua/moonpost/_meta/**" }
files["spec"] = { std = "+busted" }
