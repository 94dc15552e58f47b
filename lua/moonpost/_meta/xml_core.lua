---@meta moonpost.xml_core
-- Documents of XML as tables, in C over libexpat. A document that declares entities is refused.

---@class moonpost.xml_core.Element
---@field name string without the prefix of a namespace
---@field text string all text directly in it
---@field attributes? table<string, string>
---@field [integer] moonpost.xml_core.Element

---@class moonpost.xml_core
local xml = {}

---@param octets string
---@param depth integer elements within each other, at most
---@param elements integer in all, at most
---@return moonpost.xml_core.Element? document
---@return string? why
function xml.parse(octets, depth, elements) end
