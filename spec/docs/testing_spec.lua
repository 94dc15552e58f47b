-- docs/testing.md: its specs run, against its policy.
local documents = require "spec.support.doc_examples"
local test = require "moonpost.test"
local tmpdir = require "spec.support.tmpdir"

local page = "docs/testing.md"
local dir = tmpdir.new()
local policy, specs = nil, {}
for _, block in ipairs(documents.lua(page)) do
  if block.mark == "spec" then
    specs[#specs + 1] = block
  else
    policy = dir:write("policy.lua", block.text)
  end
end

-- The kit, for which policy.lua is the one of the page.
local kit = setmetatable({
  load = function(name, options)
    return test.load(name == "policy.lua" and policy or name, options)
  end,
}, { __index = test })

local function environment(env)
  env.require = function(name)
    return name == "moonpost.test" and kit or require(name)
  end
  return setmetatable(env, { __index = _G })
end

local function compile(block, env)
  local chunk = assert(documents.compile(block))
  debug.setupvalue(chunk, 1, env) -- its _ENV
  return chunk
end

describe(page, function()
  teardown(function()
    dir:remove()
  end)

  it("has a policy, and specs", function()
    assert.is_string(policy)
    assert.is_true(#specs >= 9)
  end)

  for _, block in ipairs(specs) do
    if block.text:find "describe%(" then
      compile(block, environment { describe = describe, it = it, before_each = before_each, assert = assert })()
    else
      it(("line %d runs"):format(block.line), function()
        local loaded = test.load(policy)
        local peer = loaded:session { ip = "203.0.113.9", helo = "mail.example.net" }
        compile(block, environment { policy = loaded, peer = peer, assert = assert })()
      end)
    end
  end
end)
