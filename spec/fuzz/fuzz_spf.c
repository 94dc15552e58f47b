/* The readers of SPF, which are Lua: any octets as a record, as a domain-spec and as an explanation. None may raise; what a name stands for
 * can be asked for, and what is refused is named. The first octet chooses the value of every macro. */
#include "base/ip.h"
#include "dns/name.h"

#include "support/judge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char judge[] =
    "local record_of, macro = require 'moonpost.spf.record', require 'moonpost.spf.macro'\n"
    "local values = { '', 'example.net', ('a.'):rep(200), 'x-y+z,q/r_s=t', ('\\xff'):rep(300), '....' }\n"
    "return function(octet, text)\n"
    "  local value = values[octet % #values + 1]\n"
    "  local function value_of() return value end\n"
    "  local function check(spec) assert(not spec or #macro.name(spec, value_of) <= 253) end\n"
    "  local record, why = record_of.read('v=spf1 ' .. text)\n"
    "  assert(record or type(why) == 'string' and #why < 300)\n"
    "  for _, term in ipairs(record or {}) do\n"
    "    check(term.domain)\n"
    "    assert(not term.digits or term.bits <= #term.digits * 4)\n"
    "  end\n"
    "  check(record and record.redirect)\n"
    "  check((macro.read_domain(text)))\n"
    "  local spec = macro.read(text, true)\n"
    "  local shown = spec and macro.text(spec, value_of, 1000)\n"
    "  assert(not shown or #shown <= 1000)\n"
    "end\n";

/* Of moonpost.core what the readers call. */
static int dns_reverse(lua_State *L)
{
  size_t len;
  const char *text = luaL_checklstring(L, 1, &len);
  char name[MP_DNS_NAME_ASKED];
  mp_ip ip;
  if (!mp_ip_parse(&ip, mp_str_of(text, len))) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushlstring(L, name, mp_dns_name_reverse(name, &ip));
  return 1;
}

static int open_core(lua_State *L)
{
  lua_newtable(L);
  lua_pushcfunction(L, dns_reverse);
  lua_setfield(L, -2, "dns_reverse");
  return 1;
}

static void open(lua_State *L)
{
  luaL_requiref(L, "moonpost.core", open_core, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static lua_State *L;
  if (!L)
    L = judge_start(judge, open);
  return judge_input(L, data, size);
}
