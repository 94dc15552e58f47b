local peers = require "spec.support.peers"
local process = require "spec.support.process"
local served = require "spec.support.served"

describe("smtp-source", function()
  if not peers.smtp_source then
    pending("smtp-source is not among the peers")
    return
  end

  local LIMITS = "limits = { connections_per_address = 1000 }"

  local function source(...)
    local command = { peers.smtp_source, "-f", "alice@example.net", "-t", "bob@example.org", ... }
    command.timeout = 60
    local result = process.run(command)
    assert.equal(0, result.code, result.output)
    assert.equal("", result.output)
  end

  local function served_with(listen, hooks)
    return served.start { listen = { listen }, options = LIMITS, hooks = hooks }
  end

  it("speaks in 500 sessions at a time, and every message arrives once and whole", function()
    local house <close> = served_with("smtp://127.0.0.1:0", [[
      local count = 0
      function server.on.connect() -- nobody is greeted before all are there
        count = count + 1
        while count < 500 do moonpost.sleep "5ms" end
        if count == 500 then log.info("500 at a time") end
      end
    ]])
    source("-s", "500", "-m", "1000", "-l", "2048", house.at.smtp)
    house:expect("500 at a time")
    local mails = house:mail("bob")
    assert.equal(1000, #mails)
    local sizes = {}
    for _, mail in ipairs(mails) do
      local octets = served.strip(mail)
      sizes[#octets] = (sizes[#octets] or 0) + 1
      assert.matches("[^\r]\n$", octets)
    end
    -- their size differs by the length of the number of the process and of the message in Message-Id
    for size in pairs(sizes) do
      assert.is_true(size >= 2000 and size < 2600, size)
    end
    assert.equal(1000, house:count("message accepted"))
  end)

  it("is served by two workers #thread", function()
    local house <close> = served.start {
      options = LIMITS, args = { "--workers", "2" },
      hooks = [[
        function server.on.connect() log.info("connect", { worker = moonpost.worker.id }) end
      ]],
    }
    source("-s", "50", "-m", "300", "-l", "5000", house.at.smtp)
    assert.equal(300, #house.dir:list("mail/bob/new"))
    assert.equal(300, house:count("message accepted"))
    assert.is_true(house:count("connect worker=1$") > 0)
    assert.is_true(house:count("connect worker=2$") > 0)
  end)

  it("sends many messages over few sessions that stay open", function()
    local house <close> = served_with "smtp://127.0.0.1:0"
    source("-d", "-s", "10", "-m", "500", "-l", "100000", house.at.smtp)
    assert.equal(500, house:count("message accepted"))
    assert.equal(500, #house.dir:list("mail/bob/new"))
    assert.same({}, house.dir:list("mail/bob/tmp"))
  end)

  it("sends to many recipients", function()
    local house <close> = served_with "smtp://127.0.0.1:0"
    source("-s", "2", "-m", "4", "-r", "50", house.at.smtp)
    local mailboxes = house.dir:list("mail") -- 2bob, 3bob, ...
    assert.equal(50, #mailboxes)
    for _, name in ipairs(mailboxes) do
      assert.equal(4, #house.dir:list("mail/" .. name .. "/new"))
    end
  end)

  for _, listen in ipairs { "lmtp://127.0.0.1:0", "lmtp://unix:DIR/lmtp.sock" } do
    it("speaks LMTP to " .. listen, function()
      local house <close> = served_with(listen)
      source("-L", "-s", "20", "-m", "100", "-r", "3", house.at.lmtp)
      assert.equal(100, #house.dir:list("mail/2bob/new"))
    end)
  end
end)
