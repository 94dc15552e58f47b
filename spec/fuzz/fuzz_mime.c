/* Values of header fields and the parts of messages, as Lua gives them out: any octets as encoded words (RFC 2047), addresses, a date, parameters
 * (RFC 2231), ids, and as a message. Nothing raises; texts are UTF-8; a tree that was not changed is the message octet for octet, and one whose
 * part was taken out keeps the octets of all others. */
#include "support/judge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int luaopen_moonpost_mime_core(lua_State *L);

static const char judge[] =
    "local mime, value = require 'moonpost.mime', require 'moonpost.mime.value'\n"
    "local function utf8_or_nil(text) assert(text == nil or utf8.len(text), 'no UTF-8') end\n"
    "local function addresses(list)\n"
    "  for _, one in ipairs(list or {}) do\n"
    "    utf8_or_nil(one.name) utf8_or_nil(one.group) addresses(one.members)\n"
    "    assert(one.group or one.address or one.name)\n"
    "  end\n"
    "end\n"
    "local limits = { depth = 10, parts = 50, header = 10000, content = 100000 }\n"
    "local function raw(part)\n"
    "  local list = {}\n"
    "  for octets in part:raw() do list[#list + 1] = octets end\n"
    "  return table.concat(list)\n"
    "end\n"
    "local function look(tree)\n"
    "  for part in tree:each() do\n"
    "    utf8_or_nil(part.filename)\n"
    "    utf8_or_nil((part:text()))\n"
    "    assert(part.depth <= limits.depth)\n"
    "  end\n"
    "  utf8_or_nil((tree:text())) utf8_or_nil((tree:html()))\n"
    "  assert(#tree:attachments() <= tree:count())\n"
    "end\n"
    "local function without(text, octet)\n"
    "  local tree = mime.parse(text, limits)\n"
    "  local one = tree and tree:part(octet % tree:count() + 1)\n"
    "  if not one or one.depth ~= 2 or one.parent.kind ~= 'multipart' or #one.parent.children < 2 then return end\n"
    "  local others = {}\n"
    "  for _, part in ipairs(tree.root.children) do\n"
    "    if part ~= one then others[#others + 1] = raw(part) end\n"
    "  end\n"
    "  one:remove()\n"
    "  local octets = tree:octets()\n"
    "  for _, part in ipairs(others) do assert(octets:find(part, 1, true), 'octets of another part are gone') end\n"
    "  assert(#octets < #text)\n"
    "end\n"
    "local readers = {\n"
    "  function(text) utf8_or_nil((value.text(text))) end,\n"
    "  function(text) addresses((value.addresses(text))) end,\n"
    "  function(text) local time = value.date(text) assert(time == nil or math.type(time) == 'integer') end,\n"
    "  function(text)\n"
    "    local kind, list = value.parameters(text)\n"
    "    utf8_or_nil(kind)\n"
    "    for name, one in pairs(list) do utf8_or_nil(name) utf8_or_nil(one) end\n"
    "  end,\n"
    "  function(text) for _, one in ipairs(value.ids(text)) do assert(one ~= '') end value.list(text) end,\n"
    "  function(text)\n"
    "    local tree, err = mime.parse(text, limits)\n"
    "    if not tree then return assert(err.kind == 'limit') end\n"
    "    assert(tree:octets() == text, 'octets are changed')\n"
    "    look(tree)\n"
    "  end,\n"
    "  without,\n"
    "}\n"
    "return function(octet, text) readers[octet % #readers + 1](text, octet // #readers) end\n";

static void open(lua_State *L)
{
  luaL_requiref(L, "moonpost.mime_core", luaopen_moonpost_mime_core, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static lua_State *L;
  if (!L)
    L = judge_start(judge, open);
  return judge_input(L, data, size);
}
