local peers = require "spec.support.peers"
local process = require "spec.support.process"

-- Run by hand without ./dev test, peers may be missing; there MOONPOST_PEERS is not set.
local check = os.getenv("MOONPOST_PEERS") and it or pending

describe("spec.support.peers", function()
  for _, name in ipairs { "swaks", "curl", "python3", "openssl", "gsasl", "node", "smtp_source", "smtp_sink", "nsd", "opendkim", "dkimpy",
    "postfix_master", "doveconf", "ldns_keygen", "ldns_signzone" } do
    check("has " .. name, function()
      assert.is_string(peers[name])
    end)
  end

  for _, name in ipairs { "nodemailer", "smtp-server" } do
    check("has the node module " .. name .. ", and node finds it", function()
      assert.is_true(peers.has_node_module(name))
      local result = process.run { peers.node, "-e", ("require(%q)"):format(name), env = peers.node_env }
      assert.equal(0, result.code, result.output)
    end)
  end

  check("has Postfix's programs with all their libraries", function()
    local result = process.run { peers.smtp_source, "-h" }
    assert.not_matches("shared librar", result.output)
    assert.matches("usage", result.output)
  end)
end)
