/* bind/client_tls.c -- TLS of the sending half: what is asked of a session, and what came of it. */
#include "bind/client.h"

mp_tls *mpl_tls_for(lua_State *L, int index, const char *field, mp_worker *worker)
{
  (void)worker;
  if (field) {
    bool none = lua_getfield(L, index, field) == LUA_TNIL;
    lua_pop(L, 1);
    if (none)
      return NULL;
  }
  luaL_error(L, "tls");
  return NULL;
}

int mpl_push_tls_facts(lua_State *L, mp_tls *tls)
{
  (void)tls;
  lua_newtable(L);
  return 1;
}
