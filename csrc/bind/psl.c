/* bind/psl.c -- public suffixes: a list, and the registrable domain of a name. */
#include "bind/mpl.h"

#include "mail/psl.h"

#define PSL "moonpost.core.psl"

typedef struct psl_box {
  mp_psl *list;
} psl_box;

/* psl([path]) -> list, or nil, why, name of the error */
static int core_psl(lua_State *L)
{
  const char *path = luaL_optstring(L, 1, NULL);
  psl_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->list = NULL;
  luaL_setmetatable(L, PSL);
  int rc = mp_psl_new(&box->list, path);
  return rc < 0 ? mpl_fail(L, rc, rc == MP_E_SYNTAX ? "that is no list of public suffixes" : NULL) : 1;
}

/* list:registrable(name) -> domain, or nil when it has none */
static int psl_registrable(lua_State *L)
{
  psl_box *box = luaL_checkudata(L, 1, PSL);
  luaL_argcheck(L, box->list, 1, "list is closed");
  char out[MP_PSL_NAME];
  mp_ssize len = mp_psl_registrable(box->list, mpl_check_str(L, 2), out);
  if (len < 0)
    return luaL_error(L, "out of memory");
  if (len == 0)
    lua_pushnil(L);
  else
    lua_pushlstring(L, out, (size_t)len);
  return 1;
}

static int psl_close(lua_State *L)
{
  psl_box *box = luaL_checkudata(L, 1, PSL);
  mp_psl_free(box->list);
  box->list = NULL;
  return 0;
}

int mpl_open_psl(lua_State *L)
{
  static const luaL_Reg methods[] = { { "registrable", psl_registrable }, { NULL, NULL } };
  static const luaL_Reg functions[] = { { "psl", core_psl }, { NULL, NULL } };
  mpl_class(L, PSL, methods, psl_close);
  luaL_setfuncs(L, functions, 0);
  return 0;
}
