-- The Lua of README.md and docs/: everything compiles, policies load and let nobody relay, scripts run.
local documents = require "spec.support.doc_examples"
local test = require "moonpost.test"
local wired = require "spec.support.wired"

-- A whole policy says so in its last line.
local function is_policy(block)
  return block.text:find("\nreturn server%s*$") ~= nil
end

local function run(block)
  local env = setmetatable({ print = function() end }, { __index = _G })
  local chunk = assert(documents.compile(block, env))
  if not is_policy(block) then
    wired.catch_log "info"
    chunk()
    return
  end
  local policy = test.load(chunk)
  local listener, options = policy.server.listeners[1], policy.server.options
  local peer = policy:session "203.0.113.9"
  local hello = listener.endpoint.protocol == "lmtp" and peer.lhlo or peer.ehlo
  assert.equal(250, hello(peer, "mail.example.net").code)
  if options.domains[1] ~= "*" and peer:mail("eve@example.net").class == 2 then
    assert.not_equal(2, peer:rcpt("eve@relay.example").class)
  end
  policy:stop()
end

local blocks = 0

for _, page in ipairs(documents.pages()) do
  describe(page, function()
    after_each(wired.release_log)

    for _, block in ipairs(documents.lua(page)) do
      blocks = blocks + 1
      if block.mark == "" then
        it(("line %d runs"):format(block.line), function()
          run(block)
        end)
      else
        it(("line %d compiles (%s)"):format(block.line, block.mark), function()
          assert.truthy(({ fragment = true, spec = true })[block.mark], "unknown mark: " .. block.mark)
          assert(documents.compile(block))
        end)
      end
    end

    it("links to what is there", function()
      local file = assert(io.open(page, "r"))
      local text = file:read("a")
      file:close()
      local folder = page:match("^(.*/)") or ""
      for target in text:gmatch("%]%(([^)%s]+)%)") do
        local path, anchor = target:match("^([^#]*)#?(.*)$")
        if not target:find("^%a+:") then
          local linked = path == "" and page or folder .. path
          local there = assert(io.open(linked, "r"), page .. " links to " .. linked)
          local content = linked:find("%.md$") and there:read("a") or ""
          there:close()
          if anchor ~= "" then
            local found = false
            for heading in content:gmatch("\n#+ ([^\n]+)") do
              local slug = heading:lower():gsub("[^%w%s_-]", ""):gsub("%s", "-")
              found = found or slug == anchor
            end
            assert.is_true(found, ("%s links to %s, which has no such heading"):format(page, target))
          end
        end
      end
    end)
  end)
end

describe("README.md", function()
  it("names every example and every page", function()
    local file = assert(io.open("README.md", "r"))
    local text = file:read("a")
    file:close()
    local listing = assert(io.popen "ls examples/*.lua docs/*.md")
    for path in listing:lines() do
      assert.truthy(text:find("(" .. path .. ")", 1, true), "README.md does not link to " .. path)
    end
    listing:close()
  end)
end)

describe("the documents", function()
  it("have examples", function()
    assert.is_true(blocks >= 20)
  end)
end)
