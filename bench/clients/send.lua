-- lua5.4 bench/clients/send.lua URL COUNT CONNECTIONS SIZE: sends messages through a pool; prints the seconds from the first
-- to the last.
package.path = "./?.lua;lua/?.lua;lua/?/init.lua;" .. package.path
package.cpath = (os.getenv("MOONPOST_BUILD") or "build") .. "/lib/?.so;" .. package.cpath
local core = require "moonpost.core"
local moonpost = require "moonpost"

local url, count, connections, size = arg[1], tonumber(arg[2]), tonumber(arg[3]), tonumber(arg[4])
local head = "From: bench@example.com\r\nTo: user@example.org\r\nSubject: bench\r\n\r\n"
local line = ("x"):rep(70) .. "\r\n"
local message = head .. line:rep((size - #head) // #line)

local began = core.time()
local pool <close> = moonpost.pool { via = url, connections = connections, per_connection = 0, tls = "none" }
local function done(result, err)
  if not result then
    error(err)
  end
end
for _ = 1, count do
  pool:post({ from = "bench@example.com", to = "user@example.org", message = message }, done)
end
pool:drain()
print(("%.6f"):format(core.time() - began))
