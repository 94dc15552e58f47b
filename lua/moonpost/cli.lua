#!/usr/bin/env lua5.4
-- The command line; see cli/main.lua.
local code = require("moonpost.cli.main").run { ... }
os.exit(code, true) -- the state is closed: threads are joined, unix sockets removed
