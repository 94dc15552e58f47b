-- lua5.4 bench/clients/body.lua URL SIZE COUNT: sends messages of SIZE octets over one connection. The server has the clock.
package.path = "./?.lua;lua/?.lua;lua/?/init.lua;" .. package.path
package.cpath = (os.getenv("MOONPOST_BUILD") or "build") .. "/lib/?.so;" .. package.cpath
local moonpost = require "moonpost"

local url, size, count = arg[1], tonumber(arg[2]), tonumber(arg[3])
local line = ("x"):rep(70) .. "\r\n"
local message = "Subject: bench\r\n\r\n" .. line:rep(size // #line)

local client <close> = assert(moonpost.connect { url = url, tls = url:find("^smtps") and "required" or "none" })
for _ = 1, count do
  assert(client:send { from = "bench@example.com", to = "user@example.org", message = message })
end
client:quit()
