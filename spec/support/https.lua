--- A web server on loopback whose responses are files (spec/support/https.py).
---
---     local web <close> = https.start(certs.web)
---     web:answer("mta-sts.example.org", "/.well-known/mta-sts.txt", "200 OK", "Content-Type: text/plain", body)
---     http.request { url = ..., connect_to = web.address, ca_file = certs.ca }
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local tmpdir = require "spec.support.tmpdir"

local M = {}

local Web = {}
local Web_mt = { __index = Web, __name = "spec.https" }

---@param pair? { certificate: string, key: string } without it: http://
function M.start(pair)
  local dir = tmpdir.new()
  local command = { peers.python3, "spec/support/https.py", dir.path }
  if pair then
    command[4], command[5] = pair.certificate, pair.key
  end
  local self = setmetatable({ dir = dir, process = process.start(command) }, Web_mt)
  self.port = tonumber(self.process:expect("^listening on port (%d+)"))
  self.address = "127.0.0.1:" .. self.port
  return self
end

--- The octets of a response.
function Web:raw(host, path, octets)
  self.dir:write(host .. "/" .. path:gsub("^/", ""):gsub("/", "_"), octets)
end

--- A response that is as it should be.
function Web:answer(host, path, status, headers, body)
  self:raw(host, path, ("HTTP/1.1 %s\r\n%s\r\nContent-Length: %d\r\n\r\n%s"):format(status, headers, #body, body))
end

--- Waits until a line of what it says matches.
function Web:expect(pattern)
  return self.process:expect(pattern)
end

--- How many requests it has had so far; the lines of those that were answered have come.
function Web:count()
  self.process:poll()
  local count = 0
  for _, line in ipairs(self.process.lines) do
    count = count + (line:find("^request ") and 1 or 0)
  end
  return count
end

function Web_mt:__close()
  self.process:kill()
  self.process:wait()
  self.dir:remove()
end

return M
