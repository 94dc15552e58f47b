--- Run by ./dev test with the interpreter of the system and an installed rock alone: the module must be found there.
require "moonpost.core"
print("moonpost.core is there")
