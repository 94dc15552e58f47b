local dkim = require "moonpost.dkim"
local dns = require "moonpost.dns"
local json = require "moonpost.json"
local moonpost = require "moonpost"
local peers = require "spec.support.peers"
local ports = require "spec.support.ports"
local process = require "spec.support.process"
local served = require "spec.support.served"
local tmpdir = require "spec.support.tmpdir"

describe("examples/signing.lua", function()
  it("signs what goes through it, so that others see it", function()
    local dir <close> = tmpdir.new()
    local behind <close> = served.start {
      options = 'relay = { networks = { "127.0.0.1" } }',
      hooks = ('function server.on.message(_, message) message:deliver { maildir = %q, line_end = "crlf" } log.info "got" end')
        :format(dir:join "inbox"),
    }
    local pair = dkim.keygen "rsa"
    assert(os.execute(("mkdir %s"):format(dir:join "keys")))
    dir:write("keys/example.org.pem", pair.private)
    local here = process.run({ "pwd" }).out:gsub("\n", "")
    local port = ports.free()
    local p <close> = process.start {
      "sh", "-c", 'cd "$0" && exec "$@"', dir.path, process.moonpost, "serve", "--listen", "smtp://127.0.0.1:" .. port,
      here .. "/examples/signing.lua", env = { NEXT = "smtp://" .. behind.at.smtp, KEYS = dir:join "keys" },
    }
    p:expect "listening on smtp"
    local via = ("smtp://127.0.0.1:%d"):format(port)
    assert(moonpost.run(moonpost.send, { from = "alice@example.org", to = "you@example.net", subject = "Hi", text = "Hello.", via = via }))
    behind:expect("got", 10)
    p:expect("info  delivered", 10)
    local file = io.open(dir:join("inbox/new/" .. dir:list("inbox/new")[1]), "rb")
    local octets = file:read "a"
    file:close()
    local record = { ["2026._domainkey.example.org"] = pair.record }
    local list = assert(dkim.verify(octets, { dns = dns.zone { ["2026._domainkey.example.org"] = { TXT = pair.record } } }))
    assert.same({ "pass", "example.org" }, { list[1].result, list[1].domain })
    assert.truthy(list[1].expires)
    if peers.dkimpy then
      local result = process.run { peers.python3, "spec/peers/clients/dkimpy.py", json.encode { records = record }, stdin = octets, timeout = 60 }
      assert.equal("[[true, null]]", (result.out:gsub("%s+$", "")))
    end
    local _, err = moonpost.run(moonpost.send, { from = "eve@example.com", to = "you@example.net", subject = "Hi", text = "Hello.", via = via })
    assert.matches("no key to sign for example.com", tostring(err))
    p:kill()
    assert.equal(0, p:wait())
  end)
end)
