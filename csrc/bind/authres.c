/* bind/authres.c -- Authentication-Results as a table. */
#include "bind/mpl.h"

#include "mail/authres.h"

enum { TEXT_MOST = 1 << 20 };

static void set_view(lua_State *L, const char *name, mp_str value)
{
  if (value.len == 0)
    return;
  mpl_push_str(L, value);
  lua_setfield(L, -2, name);
}

/* type.name, as methods and properties are compared. The buffer is a box of Lua: what raises leaks nothing. */
static void push_lower(lua_State *L, mp_buf *buf, mp_str type, mp_str name)
{
  mp_buf_cut(buf, 0);
  int rc = mp_buf_str(buf, type);
  if (rc == 0 && type.len > 0)
    rc = mp_buf_char(buf, '.');
  if (rc == 0)
    rc = mp_buf_str(buf, name);
  if (rc < 0)
    luaL_error(L, "%s", mp_error_text(rc));
  for (size_t i = 0; i < buf->len; i++)
    buf->ptr[buf->off + i] = (char)mp_ascii_lower((unsigned char)buf->ptr[buf->off + i]);
  mpl_push_str(L, mp_buf_view(buf));
}

static void push_text(lua_State *L, mp_buf *buf, mp_str value)
{
  mp_buf_cut(buf, 0);
  int rc = mp_authres_text(buf, value);
  if (rc < 0)
    luaL_error(L, "%s", mp_error_text(rc));
  mpl_push_str(L, mp_buf_view(buf));
}

/* The result on the top of the stack gets a property; of two that are called alike the first one counts. */
static void add_property(lua_State *L, mp_buf *buf, const mp_authres_item *item)
{
  lua_getfield(L, -1, "properties");
  push_lower(L, buf, item->type, item->name);
  lua_pushvalue(L, -1);
  if (lua_rawget(L, -3) == LUA_TNIL) {
    lua_pop(L, 1);
    push_text(L, buf, item->value);
    lua_rawset(L, -3);
    lua_pop(L, 1);
  } else {
    lua_pop(L, 3);
  }
}

static void push_result(lua_State *L, mp_buf *buf, const mp_authres_item *item)
{
  lua_createtable(L, 0, 4);
  push_lower(L, buf, MP_STR_NULL, item->name);
  lua_setfield(L, -2, "method");
  push_lower(L, buf, MP_STR_NULL, item->value);
  lua_setfield(L, -2, "result");
  set_view(L, "version", item->version);
  set_view(L, "comment", item->comment);
  lua_newtable(L);
  lua_setfield(L, -2, "properties");
}

/* authres(value) -> { id, version, damaged, results }, or nil when there is nothing in it */
static int core_authres(lua_State *L)
{
  mp_authres reader;
  mp_str value = mpl_check_str(L, 1);
  lua_settop(L, 1);
  if (mp_authres_begin(&reader, value) < 0) {
    lua_pushnil(L);
    return 1;
  }
  mp_buf *buf = mpl_push_buf(L, TEXT_MOST);
  lua_newtable(L); /* 3: what is returned */
  if (reader.id.len > 0) {
    push_text(L, buf, reader.id);
    lua_setfield(L, 3, "id");
  }
  set_view(L, "version", reader.version);
  lua_newtable(L); /* 4: results */
  lua_pushvalue(L, 4);
  lua_setfield(L, 3, "results");
  mp_authres_item item;
  for (lua_Integer count = 0; mp_authres_next(&reader, &item);) {
    if (item.kind == MP_AUTHRES_RESULT) {
      lua_settop(L, 4);
      push_result(L, buf, &item); /* 5 */
      lua_pushvalue(L, 5);
      lua_rawseti(L, 4, ++count);
    } else if (item.kind == MP_AUTHRES_REASON) {
      push_text(L, buf, item.value);
      lua_setfield(L, 5, "reason");
    } else {
      add_property(L, buf, &item);
    }
  }
  if (reader.damaged) {
    lua_pushboolean(L, 1);
    lua_setfield(L, 3, "damaged");
  }
  mp_buf_dispose(buf);
  lua_pushvalue(L, 3);
  return 1;
}

int mpl_open_authres(lua_State *L)
{
  lua_pushcfunction(L, core_authres);
  lua_setfield(L, -2, "authres");
  return 0;
}
