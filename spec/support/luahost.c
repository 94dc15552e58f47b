/* spec/support/luahost.c -- a plain Lua interpreter, `lua [-e chunk]... script [argument...]`, for sanitizer builds: the
 * sanitizer's run-time library must be the program's, and is then not handed on to children as LD_PRELOAD would be. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int traceback(lua_State *L)
{
  const char *text = luaL_tolstring(L, 1, NULL);
  luaL_traceback(L, L, text, 1);
  return 1;
}

/* Runs what luaL_load* left on the stack, with the script's arguments when there are some. */
static int run(lua_State *L, int status, int nargs)
{
  if (status == LUA_OK) {
    int base = lua_gettop(L) - nargs;
    lua_pushcfunction(L, traceback);
    lua_insert(L, base);
    status = lua_pcall(L, nargs, 0, base);
    lua_remove(L, base);
  }
  if (status != LUA_OK) {
    fprintf(stderr, "lua: %s\n", lua_tostring(L, -1));
    lua_pop(L, 1);
  }
  return status;
}

int main(int argc, char **argv)
{
  lua_State *L = luaL_newstate();
  if (!L) {
    return EXIT_FAILURE;
  }
  luaL_openlibs(L);
  int i = 1, status = LUA_OK;
  for (; i + 1 < argc && strcmp(argv[i], "-e") == 0 && status == LUA_OK; i += 2) {
    status = run(L, luaL_loadstring(L, argv[i + 1]), 0);
  }
  if (i >= argc) {
    fprintf(stderr, "usage: %s [-e chunk]... script [argument...]\n", argv[0]);
    status = LUA_ERRRUN;
  }
  if (status == LUA_OK) {
    lua_newtable(L);
    for (int k = 0; k < argc; k++) {
      lua_pushstring(L, argv[k]);
      lua_rawseti(L, -2, k - i);
    }
    lua_setglobal(L, "arg");
    status = luaL_loadfile(L, argv[i]);
    for (int k = i + 1; k < argc; k++) {
      lua_pushstring(L, argv[k]);
    }
    status = run(L, status, argc - i - 1);
  }
  lua_close(L);
  return status == LUA_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
