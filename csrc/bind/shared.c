/* bind/shared.c -- tables that the states of a process share. The clock is the caller's: lua/moonpost/shared.lua passes its worker's. */
#include "bind/process.h"

typedef struct set_box {
  mp_shared_set *set;
} set_box;

typedef struct table_box { /* uservalue 1: the set, which owns the table */
  mp_shared *table;
} table_box;

#define MPL_TABLES "moonpost.core.tables"

static void push_set(lua_State *L, mp_shared_set *set) /* takes a reference of its own */
{
  set_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  box->set = NULL;
  luaL_setmetatable(L, MPL_TABLES);
  box->set = mp_shared_set_ref(set);
}

static int core_tables(lua_State *L)
{
  if (!lua_toboolean(L, 1)) {
    push_set(L, mpl_process_of(L)->tables);
    return 1;
  }
  mp_shared_set *set;
  if (mp_shared_set_new(&set) < 0)
    return luaL_error(L, "out of memory");
  push_set(L, set);
  mp_shared_set_unref(set);
  return 1;
}

static int set_gc(lua_State *L)
{
  set_box *box = luaL_checkudata(L, 1, MPL_TABLES);
  mp_shared_set_unref(box->set);
  box->set = NULL;
  return 0;
}

static size_t opt_size(lua_State *L, int index)
{
  lua_Integer n = luaL_optinteger(L, index, 0);
  luaL_argcheck(L, n >= 0, index, "0 or more");
  return (size_t)n;
}

static int set_open(lua_State *L)
{
  set_box *box = luaL_checkudata(L, 1, MPL_TABLES);
  luaL_argcheck(L, box->set, 1, "closed");
  mp_str name = mpl_check_str(L, 2);
  size_t memory = opt_size(L, 3), entries = opt_size(L, 4);
  table_box *table = lua_newuserdatauv(L, sizeof *table, 1);
  table->table = NULL;
  luaL_setmetatable(L, MPL_SHARED);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  int rc = mp_shared_open(box->set, name, memory, entries, &table->table);
  if (rc < 0)
    return luaL_error(L, rc == MP_E_INVALID ? "the name of a shared table has 1 to 255 octets" : "out of memory");
  return 1;
}

static mp_shared *check_table(lua_State *L)
{
  table_box *box = luaL_checkudata(L, 1, MPL_SHARED);
  luaL_argcheck(L, box->table, 1, "closed");
  return box->table;
}

static mp_shared_value check_value(lua_State *L, int index)
{
  mp_shared_value value = { .kind = MP_SHARED_NONE };
  switch (lua_type(L, index)) {
  case LUA_TBOOLEAN:
    value.kind = MP_SHARED_BOOL;
    value.b = lua_toboolean(L, index);
    break;
  case LUA_TNUMBER:
    value.kind = lua_isinteger(L, index) ? MP_SHARED_INT : MP_SHARED_NUM;
    if (value.kind == MP_SHARED_INT)
      value.i = lua_tointeger(L, index);
    else
      value.n = lua_tonumber(L, index);
    break;
  case LUA_TSTRING:
    value.kind = MP_SHARED_STR;
    value.s = mpl_check_str(L, index);
    break;
  default:
    luaL_typeerror(L, index, "string, number or boolean");
  }
  return value;
}

static void push_value(lua_State *L, const mp_shared_value *value)
{
  switch (value->kind) {
  case MP_SHARED_BOOL:
    lua_pushboolean(L, value->b);
    break;
  case MP_SHARED_INT:
    lua_pushinteger(L, value->i);
    break;
  case MP_SHARED_NUM:
    lua_pushnumber(L, value->n);
    break;
  case MP_SHARED_STR:
    mpl_push_str(L, value->s);
    break;
  default:
    lua_pushnil(L);
  }
}

static const char *reason(int rc, const char *invalid)
{
  return rc == MP_E_FULL    ? "the value is too large for this table"
         : rc == MP_E_NOMEM ? "out of memory"
                            : invalid;
}

/* get(now, key) */
static int table_get(lua_State *L)
{
  mp_shared *table = check_table(L);
  int64_t now = mpl_check_ms(L, 2);
  mp_str key = mpl_check_str(L, 3);
  mp_shared_value value;
  size_t room = LUAL_BUFFERSIZE;
  for (;;) {
    luaL_Buffer buffer; /* Lua's: nothing leaks when a push below finds no memory */
    char *at = luaL_buffinitsize(L, &buffer, room);
    size_t whole = mp_shared_get(table, key, now, &value, at, room);
    if (value.kind != MP_SHARED_STR) {
      push_value(L, &value);
      return 1;
    }
    if (whole <= room) {
      luaL_pushresultsize(&buffer, whole);
      return 1;
    }
    room = whole;
    lua_settop(L, 3);
  }
}

static int64_t opt_ttl(lua_State *L, int index)
{
  if (lua_isnoneornil(L, index))
    return 0;
  int64_t ms = mpl_check_ms(L, index);
  luaL_argcheck(L, ms > 0, index, "a time to live is more than 0 seconds");
  return ms;
}

static int store(lua_State *L, int (*how)(mp_shared *, mp_str, const mp_shared_value *, int64_t, int64_t))
{
  mp_shared *table = check_table(L);
  int64_t now = mpl_check_ms(L, 2);
  mp_shared_value value = check_value(L, 4);
  int rc = how(table, mpl_check_str(L, 3), &value, opt_ttl(L, 5), now);
  if (rc < 0)
    return mpl_fail(L, rc, reason(rc, "a key has at most 4096 octets"));
  lua_pushboolean(L, how == mp_shared_put || rc);
  return 1;
}

/* set(now, key, value, ttl) */
static int table_set(lua_State *L)
{
  return store(L, mp_shared_put);
}

/* add(now, key, value, ttl) */
static int table_add(lua_State *L)
{
  return store(L, mp_shared_add);
}

/* incr(now, key, by, ttl) */
static int table_incr(lua_State *L)
{
  mp_shared *table = check_table(L);
  int64_t now = mpl_check_ms(L, 2);
  luaL_checktype(L, 4, LUA_TNUMBER);
  mp_shared_value by = check_value(L, 4), sum;
  int rc = mp_shared_incr(table, mpl_check_str(L, 3), &by, opt_ttl(L, 5), now, &sum);
  if (rc < 0)
    return mpl_fail(L, rc, reason(rc, "there is no number to add to, or the sum is too large"));
  push_value(L, &sum);
  return 1;
}

/* rate(now, key, count, seconds, cost) */
static int table_rate(lua_State *L)
{
  mp_shared *table = check_table(L);
  int64_t now = mpl_check_ms(L, 2), wait;
  lua_Integer count = luaL_checkinteger(L, 4), cost = luaL_optinteger(L, 6, 1);
  luaL_argcheck(L, count > 0, 4, "more than 0");
  luaL_argcheck(L, cost > 0 && cost <= count, 6, "1 to what the bucket holds");
  int rc = mp_shared_rate(table, mpl_check_str(L, 3), (uint64_t)count, mpl_check_ms(L, 5), (uint64_t)cost,
                          now, &wait);
  if (rc < 0)
    return mpl_fail(L, rc, reason(rc, "this rate cannot be counted"));
  lua_pushboolean(L, rc);
  lua_pushnumber(L, (lua_Number)wait / 1000);
  return 2;
}

/* delete(now, key) */
static int table_delete(lua_State *L)
{
  mp_shared *table = check_table(L);
  lua_pushboolean(L, mp_shared_delete(table, mpl_check_str(L, 3), mpl_check_ms(L, 2)));
  return 1;
}

/* count(now) */
static int table_count(lua_State *L)
{
  mp_shared *table = check_table(L);
  lua_pushinteger(L, (lua_Integer)mp_shared_count(table, mpl_check_ms(L, 2)));
  return 1;
}

static int table_clear(lua_State *L)
{
  mp_shared_clear(check_table(L));
  return 0;
}

int mpl_open_shared(lua_State *L)
{
  static const luaL_Reg tables[] = { { "open", set_open }, { NULL, NULL } };
  static const luaL_Reg methods[] = {
    { "get", table_get },     { "set", table_set },     { "add", table_add },
    { "incr", table_incr },   { "rate", table_rate },   { "delete", table_delete },
    { "count", table_count }, { "clear", table_clear }, { NULL, NULL },
  };
  mpl_class(L, MPL_TABLES, tables, set_gc);
  mpl_class(L, MPL_SHARED, methods, NULL);
  lua_pushcfunction(L, core_tables);
  lua_setfield(L, -2, "tables");
  return 0;
}
