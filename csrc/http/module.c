/* http/module.c -- the module moonpost.http_core: a pool per worker, a handle per request. The face is lua/moonpost/http.lua. */
#include "http/pool.h"

#include <lauxlib.h>
#include <string.h>

#define POOL_MT     "moonpost.http_core.pool"
#define TRANSFER_MT "moonpost.http_core.transfer"

LUAMOD_API int luaopen_moonpost_http_core(lua_State *L);

typedef struct pool_box { /* uservalue 1: its worker */
  mp_http_pool *pool;
  const mp_watch_api *api;
} pool_box;

typedef struct transfer_box { /* uservalue 1: its pool. Kept in the registry while it is on its way */
  mp_http_transfer *transfer;
  pool_box *pool;
  lua_State *main;
  int self, done; /* registry references */
} transfer_box;

static void let_go(lua_State *L, transfer_box *box)
{
  luaL_unref(L, LUA_REGISTRYINDEX, box->done);
  luaL_unref(L, LUA_REGISTRYINDEX, box->self);
  box->done = box->self = LUA_NOREF;
}

/* ---- the end of a transfer --------------------------------------------------------------------------------------- */

/* Protected: pushes of long strings may fail. Arguments: the callback, the result. */
static int tell(lua_State *L)
{
  const mp_http_result *result = lua_touserdata(L, 2);
  lua_settop(L, 1);
  if (result->kind) {
    lua_pushnil(L);
    lua_pushstring(L, result->kind);
    lua_pushstring(L, result->why);
  } else {
    lua_pushinteger(L, result->status);
    lua_pushlstring(L, result->head->ptr ? result->head->ptr : "", result->head->len);
    lua_pushlstring(L, result->body->ptr ? result->body->ptr : "", result->body->len);
  }
  lua_call(L, 3, 0);
  return 0;
}

static void call_tell(lua_State *L, const transfer_box *box, const mp_http_result *result)
{
  lua_pushcfunction(L, tell);
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->done);
  lua_pushlightuserdata(L, (void *)(uintptr_t)result);
  box->pool->api->call(L, 2, 0);
}

static void on_done(void *ctx, const mp_http_result *result)
{
  transfer_box *box = ctx;
  lua_State *L = box->main;
  box->transfer = NULL;
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->self); /* alive until the end of this function */
  call_tell(L, box, result);
  let_go(L, box);
  lua_pop(L, 1);
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

typedef struct lists { /* of a request that is being read: freed when reading raises */
  struct curl_slist *headers, *resolve, *connect_to;
} lists;

static int lists_gc(lua_State *L)
{
  lists *of = lua_touserdata(L, 1);
  curl_slist_free_all(of->headers);
  curl_slist_free_all(of->resolve);
  curl_slist_free_all(of->connect_to);
  *of = (lists){ 0 };
  return 0;
}

static void read_list(lua_State *L, const char *name, struct curl_slist **list)
{
  if (lua_getfield(L, 2, name) == LUA_TTABLE)
    for (lua_Integer i = 1; lua_rawgeti(L, -1, i) == LUA_TSTRING; i++, lua_pop(L, 1)) {
      struct curl_slist *longer = curl_slist_append(*list, lua_tostring(L, -1));
      if (!longer)
        luaL_error(L, "out of memory");
      *list = longer;
    }
  lua_settop(L, 4);
}

/* The string stays in the table of options. */
static const char *read_string(lua_State *L, const char *name, size_t *len)
{
  lua_getfield(L, 2, name);
  const char *text = lua_isnil(L, -1) ? NULL : luaL_checklstring(L, -1, len);
  lua_pop(L, 1);
  return text;
}

static lua_Number read_number(lua_State *L, const char *name)
{
  lua_getfield(L, 2, name);
  lua_Number number = lua_tonumber(L, -1);
  lua_pop(L, 1);
  return number;
}

static bool read_flag(lua_State *L, const char *name)
{
  lua_getfield(L, 2, name);
  bool flag = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return flag;
}

/* ---- methods ----------------------------------------------------------------------------------------------------- */

/* pool:request(options, done) -> transfer | nil, why. Checked by the face; a lacking field raises. */
static int pool_request(lua_State *L)
{
  pool_box *pool = luaL_checkudata(L, 1, POOL_MT);
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  lua_settop(L, 3);
  lists *of = lua_newuserdatauv(L, sizeof *of, 0); /* 4 */
  *of = (lists){ 0 };
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, lists_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  read_list(L, "headers", &of->headers);
  read_list(L, "resolve", &of->resolve);
  read_list(L, "connect_to", &of->connect_to);
  mp_http_opts opts = {
    .method = read_string(L, "method", NULL),
    .url = read_string(L, "url", NULL),
    .ca_file = read_string(L, "ca_file", NULL),
    .agent = read_string(L, "agent", NULL),
    .timeout_ms = (long)(read_number(L, "timeout") * 1000),
    .connect_ms = (long)(read_number(L, "connect_timeout") * 1000),
    .max_size = (size_t)read_number(L, "max_size"),
    .redirects = (long)read_number(L, "redirects"),
    .insecure = read_flag(L, "insecure"),
  };
  opts.body = read_string(L, "body", &opts.body_len);
  luaL_argcheck(L, opts.method && opts.url && opts.agent, 2, "method, url and agent are needed");
  transfer_box *box = lua_newuserdatauv(L, sizeof *box, 1); /* 5 */
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  *box = (transfer_box){ .pool = pool, .main = lua_tothread(L, -1), .self = LUA_NOREF, .done = LUA_NOREF };
  lua_pop(L, 1);
  luaL_setmetatable(L, TRANSFER_MT);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, 5, 1);
  lua_pushvalue(L, 3);
  box->done = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 5);
  box->self = luaL_ref(L, LUA_REGISTRYINDEX);
  opts.headers = of->headers;
  opts.resolve = of->resolve;
  opts.connect_to = of->connect_to;
  *of = (lists){ 0 };
  const char *why;
  box->transfer = mp_http_start(pool->pool, &opts, on_done, box, &why);
  if (box->transfer)
    return 1;
  let_go(L, box);
  lua_pushnil(L);
  lua_pushstring(L, why);
  return 2;
}

static int transfer_cancel(lua_State *L)
{
  transfer_box *box = luaL_checkudata(L, 1, TRANSFER_MT);
  if (box->transfer) {
    mp_http_cancel(box->transfer);
    box->transfer = NULL;
    let_go(L, box);
  }
  return 0;
}

static int pool_gc(lua_State *L)
{
  /* Transfers on their way hold the pool, so there are some only when the state closes: then nobody looks at their boxes any more. */
  pool_box *box = luaL_checkudata(L, 1, POOL_MT);
  mp_http_pool_free(box->pool);
  box->pool = NULL;
  return 0;
}

/* new(core.watch_api, worker) -> pool | nil, why. Nil for a virtual worker too. */
static int module_new(lua_State *L)
{
  luaL_checktype(L, 1, LUA_TLIGHTUSERDATA);
  const mp_watch_api *api = lua_touserdata(L, 1);
  if (api->version != MP_WATCH_API_VERSION)
    return luaL_error(L, "moonpost.core is of another version than this module");
  mp_watch_loop *loop = api->loop(L, 2);
  if (!loop) {
    lua_pushnil(L);
    lua_pushliteral(L, "a virtual worker has no network");
    return 2;
  }
  pool_box *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (pool_box){ .api = api };
  luaL_setmetatable(L, POOL_MT);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, 1);
  if (mp_http_pool_new(&box->pool, api, loop) == 0)
    return 1;
  lua_pushnil(L);
  lua_pushliteral(L, "out of memory");
  return 2;
}

static void make_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc)
{
  luaL_newmetatable(L, name);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  if (gc) {
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 1);
}

LUAMOD_API int luaopen_moonpost_http_core(lua_State *L)
{
  static const luaL_Reg functions[] = { { "new", module_new }, { NULL, NULL } };
  static const luaL_Reg pool_methods[] = { { "request", pool_request }, { NULL, NULL } };
  static const luaL_Reg transfer_methods[] = { { "cancel", transfer_cancel }, { NULL, NULL } };
  make_class(L, POOL_MT, pool_methods, pool_gc);
  make_class(L, TRANSFER_MT, transfer_methods, NULL);
  luaL_newlib(L, functions);
  return 1;
}
