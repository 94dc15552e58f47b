/* bind/supervise.c -- what a process is given by its supervisor, and tells it. */
#include "bind/binding.h"

#include "net/notify.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* notify(address, text) */
static int core_notify(lua_State *L)
{
  int rc = mp_notify(mpl_check_str(L, 1), mpl_check_str(L, 2));
  if (rc < 0)
    return mpl_fail(L, rc, NULL);
  lua_pushboolean(L, 1);
  return 1;
}

/* monotonic() -> microseconds, an integer */
static int core_monotonic(lua_State *L)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  lua_pushinteger(L, (lua_Integer)now.tv_sec * 1000000 + now.tv_nsec / 1000);
  return 1;
}

static int core_pid(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)getpid());
  return 1;
}

/* take_environment(name) -> its value or nil; children do not see it any more. Before there are threads. */
static int core_take_environment(lua_State *L)
{
  const char *name = luaL_checkstring(L, 1);
  lua_pushstring(L, getenv(name));
  unsetenv(name);
  return 1;
}

/* adopt(fd) -> binding, any_family; or nil, why */
static int core_adopt(lua_State *L)
{
  lua_Integer fd = luaL_checkinteger(L, 1);
  luaL_argcheck(L, fd > 2 && fd <= INT32_MAX, 1, "a descriptor");
  mpl_shared_binding *shared = mp_mem_zalloc(sizeof *shared);
  if (!shared)
    return mpl_fail(L, MP_E_NOMEM, NULL);
  atomic_init(&shared->refs, 1);
  char why[128];
  bool any_family;
  int rc = mp_binding_adopt(&shared->binding, (int)fd, &any_family, why, sizeof why);
  if (rc < 0) {
    mp_mem_free(shared);
    return mpl_fail(L, rc, why);
  }
  mpl_push_binding(L, shared); /* raises at the very start of a process alone, which ends then */
  mpl_binding_unref(shared);
  lua_pushboolean(L, any_family);
  return 2;
}

int mpl_open_supervise(lua_State *L)
{
  static const luaL_Reg functions[] = {
    { "notify", core_notify }, { "monotonic", core_monotonic },
    { "pid", core_pid },       { "take_environment", core_take_environment },
    { "adopt", core_adopt },   { NULL, NULL },
  };
  luaL_setfuncs(L, functions, 0);
  return 0;
}
