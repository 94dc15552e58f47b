-- Limits that a fake clock and a wire cannot show: they need a socket, a file, memory or CPU time of a real server.
local raw = require "spec.support.raw"
local served = require "spec.support.served"

describe("moonpost serve", function()
  it("cuts a peer that does not read its replies: limits.write", function()
    local house <close> = served.start {
      options = [[ limits = { write = "64KiB", idle_commands = 100000000, errors = 100000000 }, ]],
      hooks = [[ function server.on.disconnect(session, why) log.info("gone", { why = why }) end ]],
    }
    local peer <close> = raw.session(house.port.smtp)
    peer.sock:settimeout(0.2)
    local noise = ("HELP\r\n"):rep(10000)
    local sent, err = 0
    repeat
      local _, why, part = peer.sock:send(noise)
      sent, err = sent + #noise, why
      assert(why or sent < 1e9, "the server reads on and on")
    until err and (err ~= "timeout" or part == 0)
    house:expect('gone why="peer does not read its replies"', 30)
  end)

  it("keeps a message whole past what stays in memory: limits.body_memory", function()
    for _, threshold in ipairs { "1KB", "10MB" } do
      local house <close> = served.start { options = ('limits = { body_memory = %q },'):format(threshold) }
      local body = {}
      for i = 1, 20000 do
        body[i] = ("%06d %s"):format(i, ("x"):rep(i % 70))
      end
      local text = "Subject: long\r\n\r\n" .. table.concat(body, "\r\n") .. "\r\n"
      local peer <close> = raw.session(house.port.smtp)
      peer:envelope("bob@example.net", "alice@example.org")
      peer:send(text)
      assert.truthy(peer:command("."):find("^250"))
      assert.equal((text:gsub("\r\n", "\n")), (served.strip(house:take("alice")):gsub("\r\n", "\n")))
    end
  end)

  it("interrupts a hook that runs on and on: limits.cpu_time", function()
    local house <close> = served.start {
      options = [[ limits = { cpu_time = "200ms" }, ]],
      hooks = [[
        function server.on.mail(_, sender)
          while sender.localpart == "loop" do
            pcall(function() while true do end end)
          end
        end
      ]],
    }
    local peer <close> = raw.session(house.port.smtp)
    assert.equal("451 4.3.0 Temporary failure, please try again later", peer:command("MAIL FROM:<loop@example.net>"))
    house:expect("hook failed hook=mail", 10)
    assert.equal("250 2.1.0 Sender OK", peer:command("MAIL FROM:<bob@example.net>"))
  end)

  it("answers a hook that takes all memory, and serves on: limits.memory", function()
    local house <close> = served.start {
      options = [[ limits = { memory = "32MiB", cpu_time = "20s" }, ]],
      hooks = [[
        function server.on.mail(_, sender)
          local list = {}
          while sender.localpart == "greedy" do
            list[#list + 1] = ("x"):rep(100000) .. #list
          end
        end
      ]],
    }
    local peer <close> = raw.session(house.port.smtp)
    assert.truthy(peer:command("MAIL FROM:<greedy@example.net>"):find("^451 4%.3%.0 "))
    local other <close> = raw.session(house.port.smtp)
    assert.equal("250 2.1.0 Sender OK", other:command("MAIL FROM:<bob@example.net>"))
  end)
end)
