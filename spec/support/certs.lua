--- An authority and certificates for specs, made by the openssl command once per run and kept in one folder.
---
---     certs.ca, certs.server.certificate, certs.other (for sni.example.net), certs.client, certs.stranger (self-signed), certs.expired
---     certs.chained("name", "mx.example.net"), certs.digest(certs.ca, 1)
local process = require "spec.support.process"
local tmpdir = require "spec.support.tmpdir"

local M = {}

local dir

local function openssl(...)
  local result = process.run { "openssl", ... }
  assert(result.code == 0, result.output)
end

local function pair(name)
  return { certificate = dir:join(name .. ".pem"), key = dir:join(name .. ".key") }
end

local function request(of, subject, names, ...)
  openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-sha256", "-subj",
    subject, "-addext", names, "-keyout", of.key, "-out", of.certificate, ...)
end

-- `openssl req` signs by an authority itself from 3.0 on.
local function signed(name, subject, names)
  local of = pair(name)
  request(of, subject, names, "-CA", M.ca, "-CAkey", dir:join("ca.key"), "-addext", "basicConstraints=CA:FALSE")
  return of
end

local makers = {}

function makers.server()
  return signed("server", "/CN=mx.example.org", "subjectAltName=DNS:mx.example.org,IP:127.0.0.1")
end

function makers.other()
  return signed("other", "/CN=sni.example.net", "subjectAltName=DNS:sni.example.net")
end

function makers.two()
  return signed("two", "/CN=two.example.net", "subjectAltName=DNS:two.example.net")
end

-- Over at the moment that it was made.
function makers.expired()
  local of, asked = pair("expired"), dir:join("expired.csr")
  openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=mx.example.org", "-addext",
    "subjectAltName=DNS:mx.example.org,IP:127.0.0.1", "-keyout", of.key, "-out", asked)
  openssl("x509", "-req", "-in", asked, "-days", "0", "-copy_extensions", "copyall", "-CA", M.ca, "-CAkey", dir:join("ca.key"),
    "-CAcreateserial", "-out", of.certificate)
  return of
end

function makers.web()
  return signed("web", "/CN=web.example.org",
    "subjectAltName=DNS:web.example.org,DNS:mta-sts.example.org,DNS:mta-sts.example.net,DNS:other.example.org")
end

function makers.client()
  return signed("client", "/CN=client.example.net", "subjectAltName=DNS:client.example.net,DNS:second.example.net")
end

function makers.stranger()
  local of = pair("stranger")
  request(of, "/CN=stranger.example.net", "subjectAltName=DNS:stranger.example.net")
  return of
end

--- A certificate for any names, with its authority's behind it in the file.
---@param name string of the files, and of the subject
---@param ... string DNS names
function M.chained(name, ...)
  local ca, names = M.ca, {}
  for i, one in ipairs { ... } do
    names[i] = "DNS:" .. one
  end
  local of = signed(name, "/CN=" .. name, "subjectAltName=" .. table.concat(names, ","))
  local leaf, authority = assert(io.open(of.certificate, "a")), assert(io.open(ca))
  leaf:write(authority:read("a"))
  leaf:close()
  authority:close()
  return of
end

--- SHA-256 in hex of a certificate (the first of the file), or of its public key: what TLSA records with selector 0, 1 hold.
---@param certificate string a file
---@param selector integer
function M.digest(certificate, selector)
  local der = dir:join("digest.der")
  if selector == 0 then
    openssl("x509", "-in", certificate, "-outform", "DER", "-out", der)
  else
    local key = dir:join("digest.key")
    openssl("x509", "-in", certificate, "-pubkey", "-noout", "-out", key)
    openssl("pkey", "-pubin", "-in", key, "-outform", "DER", "-out", der)
  end
  local result = process.run { "openssl", "dgst", "-sha256", "-r", der }
  assert(result.code == 0, result.output)
  return result.out:match("^%x+")
end

return setmetatable(M, {
  __index = function(self, name)
    if not dir then
      dir = tmpdir.new()
      self.ca = dir:join("ca.pem")
      local authority = pair("ca")
      request(authority, "/CN=Authority of the specs", "keyUsage=keyCertSign,cRLSign")
    end
    if name == "ca" then
      return rawget(self, "ca")
    elseif name == "tls" then -- the option, with the server's certificate
      return ("tls = { certificate = %q, key = %q }"):format(self.server.certificate, self.server.key)
    end
    local make = makers[name]
    if make then
      self[name] = make()
      return rawget(self, name)
    end
  end,
})
