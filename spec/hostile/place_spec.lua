-- Replies out of their place: behind the last one that was asked for, ahead of the next question, or with the end of the connection right behind
-- them. Whose mail it was has to be known all the same, on every recipient's row.
local certs = require "spec.support.certs"
local hostile = require "spec.support.hostile"
local moonpost = require "moonpost"
local task = require "moonpost.task"

local MESSAGE = "Subject: x\r\n\r\nhi\r\n"
local UNASKED = "peer sent a reply that nothing had asked for"

local function mail_to(server, ...)
  return { from = "me@example.org", to = { ... }, message = MESSAGE, via = server and server.url }
end

local function states(result, err)
  local list = {}
  for i, row in ipairs((result or err).recipients) do
    assert.equal(row.ok, row.state == "delivered")
    list[i] = row.state
  end
  return list
end

-- A script runs on the main coroutine, where everything that came in one turn of the loop is seen before it goes on; a task goes on at once.
for where, run in pairs {
  ["a script"] = function(fn)
    return fn()
  end,
  ["a task"] = function(fn)
    return task.spawn(fn):join()
  end,
} do
  describe(("replies out of their place, in %s:"):format(where), function()
    -- Found by a server with LIMITS: the rows of those who were left said that they had been served, in the one transaction that there was.
    for what, script in pairs {
      ["no second transaction is allowed"] = { extensions = { "PIPELINING", "LIMITS MAILMAX=1 RCPTMAX=1" } },
      ["no second transaction is allowed, after 452"] = {
        extensions = { "LIMITS MAILMAX=1" }, RCPT = { { "250 ok\r\n" }, { "452 4.5.3 too many\r\n" } },
      },
      ["421 stands behind the reply to the body"] = {
        RCPT = { { "250 ok\r\n" }, { "452 4.5.3 too many\r\n" } }, body = { "250 2.0.0 taken\r\n421 4.3.2 bye\r\n", { close = true } },
      },
      ["the connection ends behind the reply to the body"] = {
        RCPT = { { "250 ok\r\n" }, { "452 4.5.3 too many\r\n" } }, body = { "250 2.0.0 taken\r\n", { close = true } },
      },
    } do
      it("who is left is not said to be served: " .. what, function()
        local server <close> = hostile.start(script)
        run(function()
          assert.same({ "delivered", "deferred" }, states(moonpost.send(mail_to(server, "a@example.net", "b@example.net"))))
        end)
        server:finish()
        assert.equal(1, server:count "message")
      end)
    end

    for way, script in pairs {
      ["DATA"] = { body = { "250 2.0.0 taken\r\n250 2.0.0 and more\r\n" } },
      ["BDAT in one flight"] = { extensions = { "PIPELINING", "CHUNKING" }, BDAT = { "250 2.0.0 taken\r\n250 2.0.0 and more\r\n" } },
      ["under TLS, in a record of its own"] = {
        certificate = certs.server.certificate, key = certs.server.key,
        body = { { cork = true }, "250 2.0.0 taken\r\n", "250 2.0.0 and more\r\n", { cork = false } },
      },
      ["BDAT, and the beginning of more"] = { extensions = { "PIPELINING", "CHUNKING" }, BDAT = { "250 2.0.0 taken\r\n25" } },
    } do
      it("what stands behind the last reply answers nothing that is asked later: " .. way, function()
        local server <close> = hostile.start(script)
        run(function()
          local client <close> = assert(moonpost.connect { url = server.url })
          local mail = mail_to(nil, "a@example.net")
          assert.same({ "delivered" }, states(client:send(mail)))
          local result, err = client:send(mail)
          assert.same({ "deferred" }, states(result, err))
          assert.is_not_nil(err.message:find(UNASKED, 1, true), err.message)
          assert.is_false(client.alive)
        end)
        server:finish()
        local _, mails = server:heard():gsub("MAIL FROM", "")
        assert.equal(1, mails)
      end)
    end

    it("a pool goes on with another connection", function()
      local server <close> = hostile.start { body = { "250 2.0.0 taken\r\n250 2.0.0 and more\r\n" } }
      run(function()
        local pool <close> = moonpost.pool { via = server.url, connections = 1 }
        for _ = 1, 3 do
          assert.same({ "delivered" }, states(pool:send { from = "me@example.org", to = "a@example.net", message = MESSAGE }))
        end
      end)
      server:finish(3)
      assert.equal(3, server:count "message")
    end)

    it("who waits for a pool's connection is not given one that has just ended", function()
      local server <close> = hostile.start { body = { "250 2.0.0 taken\r\n421 4.3.2 bye\r\n", { close = true } } }
      run(function()
        local pool <close> = moonpost.pool { via = server.url, connections = 1 }
        local got = {}
        for i = 1, 5 do
          pool:post({ from = "me@example.org", to = "a@example.net", message = MESSAGE }, function(result, err)
            got[i] = states(result, err)[1]
          end)
        end
        pool:drain()
        assert.same({ "delivered", "delivered", "delivered", "delivered", "delivered" }, got)
      end)
      server:finish(5)
      assert.equal(5, server:count "message")
    end)

    for what, script in pairs {
      ["EHLO, 421"] = { EHLO = { "250 mx\r\n421 4.3.2 bye\r\n", { close = true } } },
      ["EHLO, another reply"] = { EHLO = { "250 mx\r\n250 mx\r\n" } },
      ["the banner"] = { banner = { "220 mx\r\n421 4.3.2 bye\r\n", { close = true } } },
      ["AUTH"] = { extensions = { "AUTH PLAIN" }, AUTH = { "235 2.7.0 welcome\r\n421 4.3.2 bye\r\n", { close = true } } },
    } do
      it("an end right behind a reply is no fault of the script's: " .. what, function()
        local server <close> = hostile.start(script)
        run(function()
          local mail = mail_to(server, "a@example.net")
          if script.AUTH then
            mail.tls, mail.auth = "none", { user = "me", password = "geheim", in_clear = { "PLAIN" } }
          end
          assert.same({ "deferred" }, states(moonpost.send(mail)))
        end)
        server:finish()
      end)
    end
  end)
end
