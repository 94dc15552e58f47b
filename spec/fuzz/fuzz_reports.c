/* The readers of reports, which are Lua over libexpat and zlib: any octets as the fields of a notification or of feedback, as XML, as JSON, and as
 * a file. None may raise, and what comes out has the shape that is promised. The first octet chooses the reader. */
#include "support/judge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int luaopen_moonpost_xml_core(lua_State *L);
int luaopen_moonpost_gzip_core(lua_State *L);

static const char judge[] =
    "package.preload['moonpost.mime.value'] = function() return { date = function(text) return #text end } end\n"
    "local dsn, arf = require 'moonpost.reports.dsn', require 'moonpost.reports.arf'\n"
    "local aggregate, tls, unpack = require 'moonpost.reports.aggregate', require 'moonpost.reports.tls', require 'moonpost.reports.unpack'\n"
    "local function told(report, why) assert(report or type(why) == 'string') return report end\n"
    "local readers = {\n"
    "  function(text)\n"
    "    local report = dsn.parse(text)\n"
    "    for _, one in ipairs(report.recipients) do\n"
    "      assert(not one.status or one.status:find '^[245]%.%d+%.%d+$')\n"
    "      assert(not one.code or one.code >= 200 and one.code < 600)\n"
    "      assert(not one.address or not one.address:find '[\\r\\n]')\n"
    "    end\n"
    "  end,\n"
    "  function(text) assert(#arf.parse(text).recipients >= 0) end,\n"
    "  function(text)\n"
    "    local report = told(aggregate.parse(text))\n"
    "    for _, row in ipairs(report and report.rows or {}) do assert(row.auth.dkim and row.auth.spf and row.reasons) end\n"
    "  end,\n"
    "  function(text)\n"
    "    local report = told(tls.parse(text))\n"
    "    for _, one in ipairs(report and report.policies or {}) do assert(one.failures and one.mx) end\n"
    "  end,\n"
    "  function(text)\n"
    "    local octets = told(unpack.open(text))\n"
    "    assert(not octets or #octets <= unpack.MOST or octets == text)\n"
    "  end,\n"
    "}\n"
    "return function(octet, text) readers[octet % #readers + 1](text) end\n";

static void open(lua_State *L)
{
  luaL_requiref(L, "moonpost.xml_core", luaopen_moonpost_xml_core, 0);
  luaL_requiref(L, "moonpost.gzip_core", luaopen_moonpost_gzip_core, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static lua_State *L;
  if (!L)
    L = judge_start(judge, open);
  return judge_input(L, data, size);
}
