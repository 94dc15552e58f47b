--- Files of reports as they are mailed: as they are, in a gzip file (RFC 1952), or in a zip file.
local M = {}

M.MOST = 32 << 20 -- octets of a report

local function said(octets, why)
  if octets then
    return octets
  end
  return nil, why == "damaged" and "the file is damaged" or ("the file is larger than %d MB"):format(M.MOST >> 20)
end

-- The first file of a zip file, by the header in front of it.
local function zip(octets)
  if #octets < 30 then
    return said(nil, "damaged")
  end
  local flags, method, size, name, extra = string.unpack("<I2I2xxxxxxxxI4xxxxI2I2", octets, 7)
  local at = 31 + name + extra
  if flags & 1 == 1 then
    return nil, "the file is encrypted"
  elseif method == 8 then
    return said(require "moonpost.gzip_core".inflate(octets:sub(at), M.MOST))
  elseif method == 0 and flags & 8 == 0 then
    local stored = octets:sub(at, at + size - 1)
    return said(#stored == size and stored or nil, "damaged")
  end
  return nil, "the file is packed in a way that is not known"
end

--- What is in a file.
---@param octets string
---@return string? octets
---@return string? why
function M.open(octets)
  if octets:find "^\x1f\x8b" then
    return said(require "moonpost.gzip_core".unpack(octets, M.MOST))
  elseif octets:find "^PK\3\4" then
    return zip(octets)
  end
  return octets
end

return M
