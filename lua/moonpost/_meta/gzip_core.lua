---@meta moonpost.gzip_core
-- gzip files (RFC 1952), in C. Neither waits: a megabyte takes some hundredths of a second.

---@class moonpost.gzip_core
local gzip = {}

---@param octets string
---@return string packed
function gzip.pack(octets) end

---@param packed string perhaps several files behind one another
---@param most integer octets
---@return string? octets
---@return "damaged"|"too large"? why
function gzip.unpack(packed, most) end

--- Bare deflated octets (RFC 1951), as a zip file holds them.
---@param packed string
---@param most integer octets
---@return string? octets
---@return "damaged"|"too large"? why
function gzip.inflate(packed, most) end
