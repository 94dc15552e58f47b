--- What an idle session costs: resident memory of the server with 10,000 sessions after EHLO, less what it had with one.
local figures = require "bench.support.figures"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local subject = require "bench.support.subject"
local tmpdir = require "spec.support.tmpdir"

local COUNT = 10000

local function sessions(one, count, way)
  local client = process.start { peers.python3, "bench/clients/idle.py", tostring(one.port), tostring(count), way }
  client:expect("^ready", 300)
  return client
end

local function measure(policy, env, way)
  local one <close> = subject.moonpost(policy, env)
  local few <close> = sessions(one, 10, way) -- what is made once is made here
  local before = figures.resident(one.pid)
  local many <close> = sessions(one, COUNT, way)
  local each = (figures.resident(one.pid) - before) / COUNT
  many:finish()
  many:wait(60)
  few:finish()
  few:wait()
  return each / 1024
end

local function certificate(folder)
  local pem = folder:join("bench.pem")
  local made = process.run {
    peers.openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
    "/CN=bench.example.org", "-keyout", pem, "-out", pem .. ".certificate",
  }
  assert(made.code == 0, made.output)
  local key, cert = folder:read("bench.pem"), folder:read("bench.pem.certificate")
  folder:write("bench.pem", cert .. key)
  return pem
end

return function(row)
  local function say(what, goal, ...)
    row {
      what = ("resident memory of an idle session, %s"):format(what), value = measure(...), unit = "KiB", goal = goal,
      most = true, detail = ("%d sessions after EHLO"):format(COUNT),
    }
  end
  say("plain, without hooks", 1.5, "plain")
  say("plain, with hooks that have run", 2.5, "drop")
  local folder <close> = tmpdir.new()
  say("TLS, without hooks", 20, "tls", { BENCH_PEM = certificate(folder) }, "tls")
end
