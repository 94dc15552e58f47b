/* Readers that are Lua, fuzzed from C: a text that returns a function(octet, text), which raises when a promise is broken. The first octet of an
 * input chooses what is read, the others are read. */
#ifndef MP_FUZZ_JUDGE_H
#define MP_FUZZ_JUDGE_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static void judge_fail(lua_State *L)
{
  fprintf(stderr, "%s\n", lua_tostring(L, -1));
  abort();
}

/* A state with the judge's function at its bottom; it lives as long as the process. `open` makes modules known (require). */
static lua_State *judge_start(const char *text, void (*open)(lua_State *L))
{
  lua_State *L = luaL_newstate();
  if (!L)
    abort();
  luaL_openlibs(L);
  if (luaL_dostring(L, "package.path = '" MP_LUA_FILES "/?.lua'"))
    judge_fail(L);
  open(L);
  lua_settop(L, 0);
  if (luaL_dostring(L, text))
    judge_fail(L);
  return L;
}

static int judge_input(lua_State *L, const uint8_t *data, size_t size)
{
  if (size < 1)
    return 0;
  lua_pushvalue(L, 1);
  lua_pushinteger(L, data[0]);
  lua_pushlstring(L, (const char *)data + 1, size - 1);
  if (lua_pcall(L, 2, 0, 0) != LUA_OK)
    judge_fail(L);
  return 0;
}

#endif
