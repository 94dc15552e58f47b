--- Reports that others send, read into tables: delivery status notifications (RFC 3464) and bounces that are none, feedback about abuse (RFC 5965),
--- aggregate reports of DMARC (RFC 7489), reports about TLS (RFC 8460). docs/reports.md explains what is in them.
---
---     local report = moonpost.reports.read(message)
---     if report and report.kind == "dsn" then
---       for _, one in ipairs(report.recipients) do print(one.address, one.action, one.status) end
---     end
local Error = require "moonpost.error"
local aggregate = require "moonpost.reports.aggregate"
local arf = require "moonpost.reports.arf"
local bounce = require "moonpost.reports.bounce"
local dsn = require "moonpost.reports.dsn"
local mime = require "moonpost.mime"
local tls = require "moonpost.reports.tls"
local unpack = require "moonpost.reports.unpack"

local M = {}

local HEADER_MOST = 1 << 20

local function wrong(why)
  return Error("report", "reports: " .. why, { temporary = false })
end

-- A document by its first octet, once it is out of its file; nil and nothing when it is none that we know.
local function document(octets)
  local open, why = unpack.open(octets)
  if not open then
    return nil, why
  end
  open = open:gsub("^\xef\xbb\xbf", ""):gsub("^%s+", "")
  if open:find "^<" then
    return aggregate.parse(open)
  elseif open:find "^{" then
    return tls.parse(open)
  end
end

local files = {
  ["application/gzip"] = true, ["application/x-gzip"] = true, ["application/zip"] = true, ["application/x-zip"] = true,
  ["application/x-zip-compressed"] = true, ["application/xml"] = true, ["text/xml"] = true, ["application/octet-stream"] = true,
  ["application/tlsrpt+gzip"] = true, ["application/tlsrpt+json"] = true, ["application/json"] = true,
}

local function is_file(part)
  local name = (part.filename or ""):lower()
  return files[part.type] or name:find "%.xml$" or name:find "%.gz$" or name:find "%.zip$" or name:find "%.json$"
end

-- The document in a part that may hold one.
local function attached(tree)
  local why
  for part in tree:each() do
    if part.kind == "leaf" and is_file(part) then
      local octets, err = part:content(unpack.MOST)
      if not octets then
        return nil, tostring(err)
      end
      local report, problem = document(octets)
      if report then
        report.part = part
        return report
      end
      why = why or problem
    end
  end
  return nil, why
end

-- The message that a report is about: whole, or its header.
local function original(tree, report)
  for part in tree:each() do
    if part.type == "message/rfc822" or part.type == "message/global" then
      report.message = part:message() or nil
      return
    elseif part.type == "text/rfc822-headers" or part.type == "message/rfc822-headers" or part.type == "message/global-headers" then
      report.headers = part:content(HEADER_MOST) or nil
      return
    end
  end
end

-- What the octets are, when they are no message: a file or a document.
local function is_bare(octets)
  return octets:find "^\x1f\x8b" or octets:find "^PK\3\4" or octets:find "^\xef?\xbb?\xbf?%s*<" or octets:find "^\xef?\xbb?\xbf?%s*{"
end

local readers = { dsn.read, arf.read, attached }

--- Reads a report.
---@param from moonpost.Message|moonpost.Made|string a message; its octets; or those of a report's file, packed or not
---@return moonpost.reports.Report? report nil when it is none that is known
---@return moonpost.Error? err of kind "report", or "limit"
function M.read(from)
  if type(from) ~= "string" and not (type(from) == "table" and from.chunks) then
    error(("reports.read: a message or octets expected, got a %s"):format(type(from)), 2)
  end
  if type(from) == "string" and is_bare(from) then
    local report, why = document(from)
    if report then
      return report
    end
    return nil, wrong(why or "it is no report")
  end
  local tree, err = mime.parse(from)
  if not tree then
    return nil, err
  end
  local problem
  for _, read in ipairs(readers) do
    local report, why = read(tree)
    if report then
      original(tree, report)
      return report
    elseif type(why) == "table" then
      return nil, why
    end
    problem = problem or why
  end
  local guess = bounce.read(tree)
  if guess then
    original(tree, guess)
    return guess
  end
  return nil, wrong(problem or "it is no report")
end

return M
