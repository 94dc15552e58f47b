--- DKIM by itself (bench/dkim.c) against `openssl speed`: hashes of bodies, signatures with keys that are parsed already, whole messages.
local figures = require "bench.support.figures"

local build = os.getenv("MOONPOST_BUILD") or "build"
local ROUNDS = 5

local function lines(command)
  local pipe <close> = assert(io.popen(command))
  return pipe:read "a"
end

-- What the program says, by name.
local function run(...)
  local said = {}
  for key, value in lines(("%s/bench/bench_dkim %s"):format(build, table.concat({ ... }, " "))):gmatch "(%S+) (%S+)\n" do
    said[key] = tonumber(value)
  end
  return said
end

-- openssl's own figure: the last numbers of its last line.
local function speed(what)
  local text = lines(("openssl speed -seconds 1 %s 2>/dev/null"):format(what))
  local last = text:match "([^\n]+)\n*$"
  if what:find "sha256" then
    return { mb_s = tonumber(last:match "([%d.]+)k") / 1000 }
  end
  local sign, verify = last:match "([%d.]+)%s+([%d.]+)%s*$"
  return { sign = tonumber(sign), verify = tonumber(verify) }
end

local names = { rsa = "RSA-2048", ed25519 = "Ed25519" }

return function(row)
  for _, case in ipairs { { "simple", "plain", 0.9 }, { "relaxed", "plain", 0.5 }, { "relaxed", "prose" } } do
    local ours, bare = {}, {}
    for round = 1, ROUNDS do
      bare[round] = speed("-bytes 16384 -evp sha256").mb_s
      ours[round] = run("body", case[1], case[2]).mb_s
    end
    row {
      what = ("a body's hash, %s, %s, against sha256"):format(case[1], case[2]), value = figures.ratio(ours, bare), goal = case[3],
      detail = ("%.0f MB/s : %.0f MB/s"):format(figures.median(ours), figures.median(bare)),
    }
  end
  for _, kind in ipairs { "rsa", "ed25519" } do
    local bare, key, message = { sign = {}, verify = {} }, { sign = {}, verify = {} }, { sign = {}, verify = {} }
    for round = 1, ROUNDS do
      for list, said in pairs { [bare] = speed(kind == "rsa" and "rsa2048" or "ed25519"), [key] = run("key", kind),
        [message] = run("message", kind) } do
        list.sign[round], list.verify[round] = said.sign, said.verify
      end
    end
    for _, what in ipairs { "sign", "verify" } do
      row {
        what = ("%s, %s, key parsed before, against the bare operation"):format(what, names[kind]),
        value = figures.ratio(key[what], bare[what]), goal = 0.9,
        detail = ("%.0f/s : %.0f/s"):format(figures.median(key[what]), figures.median(bare[what])),
      }
      row {
        what = ("%s, %s, messages of 4 KB with everything, against the same"):format(what, names[kind]),
        value = figures.ratio(message[what], bare[what]), detail = ("%.0f/s"):format(figures.median(message[what])),
      }
    end
  end
end
