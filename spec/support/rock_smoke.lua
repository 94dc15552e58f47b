--- Run by ./dev test with the interpreter of the system and an installed rock alone: plain Lua requires the module and receives a mail that
--- curl sends.
local moonpost = require "moonpost"

assert(moonpost.http.request and require "moonpost.http_core", "the modules beside the core are installed too")
assert(require("moonpost.gzip_core").unpack(require("moonpost.gzip_core").pack "x", 1) == "x")
assert(moonpost.psl.registrable "a.example.co.uk" == "example.co.uk")

local server = moonpost.server {
  hostname = "smoke.example.org",
  listen = { "smtp://127.0.0.1:0" },
  domains = { "example.org" },
}
local got
local gone = false

function server.on.message(_, message)
  got = message:octets()
  message:discard("smoke test")
end

function server.on.disconnect()
  gone = true
end

-- The path in the URL is what curl says in EHLO; without one it would be the name of the file, which may be no host name.
local body = os.tmpname()
local file = assert(io.open(body, "w"))
file:write("Subject: smoke\r\n\r\nfrom curl to a rock\r\n")
file:close()

moonpost.run(function()
  assert(server:start())
  local command = "curl -sS --max-time 20 smtp://127.0.0.1:%d/client.example.net"
    .. " --mail-from a@example.net --mail-rcpt b@example.org --upload-file %s 2>&1"
  local client = assert(io.popen(command:format(server.addresses[1].port, body)))
  local _, err = moonpost.timeout(25, function()
    while not gone do
      moonpost.sleep(0.01)
    end
  end)
  local said = client:read("a")
  client:close()
  os.remove(body)
  assert(not err and got and got:find("from curl to a rock", 1, true), "no mail came: " .. (err and tostring(err) or said))
  server:stop(1)
end)
print("plain Lua received a mail by way of an installed rock")
