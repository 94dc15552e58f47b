/* bind/binding.c -- listening endpoints that belong to the process. A binding may be used by several states and threads, so it is counted. */
#include "bind/mpl.h"

#include "bind/binding.h"

#include <string.h>

mpl_shared_binding *mpl_binding_ref(mpl_shared_binding *shared)
{
  atomic_fetch_add(&shared->refs, 1);
  return shared;
}

void mpl_binding_unref(mpl_shared_binding *shared)
{
  if (shared && atomic_fetch_sub(&shared->refs, 1) == 1) {
    mp_binding_close(&shared->binding);
    mp_mem_free(shared);
  }
}

mp_binding *mpl_check_binding(lua_State *L, int index)
{
  mpl_shared_binding **box = luaL_checkudata(L, index, MPL_BINDING);
  luaL_argcheck(L, *box, index, "binding is closed");
  return &(*box)->binding;
}

void mpl_push_binding(lua_State *L, mpl_shared_binding *shared)
{
  mpl_shared_binding **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  luaL_setmetatable(L, MPL_BINDING);
  *box = mpl_binding_ref(shared);
}

static int core_bind(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_Integer workers = luaL_optinteger(L, 2, 1);
  lua_Integer backlog = luaL_optinteger(L, 3, 1024);
  luaL_argcheck(L, workers >= 1 && workers <= 256, 2, "1 to 256 workers");
  luaL_argcheck(L, backlog >= 1 && backlog <= 65535, 3, "1 to 65535");
  mp_endpoint at = { 0 };
  if (lua_getfield(L, 1, "path") == LUA_TSTRING) {
    mp_str path = mpl_check_str(L, -1);
    luaL_argcheck(L, path.len < sizeof at.path, 1, "socket path is too long (107 octets at most)");
    memcpy(at.path, path.ptr, path.len);
    at.is_unix = true;
    lua_getfield(L, 1, "mode");
    at.mode = (unsigned)luaL_optinteger(L, -1, 0);
  } else {
    lua_getfield(L, 1, "ip");
    luaL_argcheck(L, mp_ip_parse(&at.ip, mpl_check_str(L, -1)), 1, "ip is no IP address");
    lua_getfield(L, 1, "port");
    lua_Integer port = luaL_checkinteger(L, -1);
    luaL_argcheck(L, port >= 0 && port <= 65535, 1, "port is not between 0 and 65535");
    at.port = (uint16_t)port;
  }
  mpl_shared_binding **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  luaL_setmetatable(L, MPL_BINDING);
  mpl_shared_binding *shared = mp_mem_zalloc(sizeof *shared);
  if (!shared)
    return luaL_error(L, "out of memory");
  atomic_init(&shared->refs, 1);
  char why[256];
  int rc = mp_binding_open(&shared->binding, &at, (unsigned)workers, (int)backlog, why, sizeof why);
  if (rc < 0) {
    mp_mem_free(shared);
    return mpl_fail(L, rc, why);
  }
  *box = shared;
  return 1;
}

static int binding_endpoint(lua_State *L)
{
  const mp_endpoint *at = &mpl_check_binding(L, 1)->at;
  lua_newtable(L);
  if (at->is_unix) {
    lua_pushstring(L, at->path);
    lua_setfield(L, -2, "path");
  } else {
    char text[MP_IP_TEXT];
    mp_ip_format(&at->ip, text);
    lua_pushstring(L, text);
    lua_setfield(L, -2, "ip");
    lua_pushinteger(L, at->port);
    lua_setfield(L, -2, "port");
  }
  return 1;
}

static int binding_close(lua_State *L)
{
  mpl_shared_binding **box = luaL_checkudata(L, 1, MPL_BINDING);
  mpl_binding_unref(*box);
  *box = NULL;
  return 0;
}

int mpl_open_binding(lua_State *L)
{
  static const luaL_Reg methods[] = { { "endpoint", binding_endpoint }, { "close", binding_close }, { NULL, NULL } };
  mpl_class(L, MPL_BINDING, methods, binding_close);
  lua_pushcfunction(L, core_bind);
  lua_setfield(L, -2, "bind");
  return 0;
}
