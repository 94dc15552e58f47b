/* bind/util.c -- calls from C into Lua, and values that cross the border everywhere. */
#include "bind/mpl.h"

#include "smtp/reply.h"

#include <stdio.h>

/* One line. What was raised may quote a peer: no octet of it moves a cursor or begins a line. */
static void complain(const char *why, size_t len)
{
  char line[1024];
  if (len > sizeof line)
    len = sizeof line;
  for (size_t i = 0; i < len; i++)
    line[i] = (unsigned char)why[i] < ' ' || why[i] == 0x7f ? '?' : why[i];
  fprintf(stderr, "moonpost: error outside every task: %.*s\n", (int)len, line);
}

bool mpl_call(mpl_state *state, int nargs, int nresults)
{
  lua_State *L = state->L;
  mpl_enter(state);
  int rc = lua_pcall(L, nargs, nresults, 0);
  mpl_leave(state);
  if (rc == LUA_OK)
    return true;
  size_t len;
  const char *why = lua_tolstring(L, -1, &len);
  if (why)
    complain(why, len);
  else
    complain(luaL_typename(L, -1), strlen(luaL_typename(L, -1)));
  lua_pop(L, 1);
  return false;
}

void mpl_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc)
{
  luaL_newmetatable(L, name);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  if (gc) {
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__close");
  }
  lua_pop(L, 1);
}

int mpl_fail(lua_State *L, int rc, const char *why)
{
  lua_pushnil(L);
  lua_pushstring(L, why && *why ? why : mp_error_text(rc));
  lua_pushstring(L, mp_error_name(rc));
  return 3;
}

int64_t mpl_check_ms(lua_State *L, int index)
{
  lua_Number seconds = luaL_checknumber(L, index);
  luaL_argcheck(L, seconds >= 0 && seconds < 315360000.0, index, "seconds out of range");
  return (int64_t)(seconds * 1000 + 0.5);
}

void mpl_push_str(lua_State *L, mp_str s)
{
  lua_pushlstring(L, s.ptr ? s.ptr : "", s.len);
}

mp_str mpl_check_str(lua_State *L, int index)
{
  size_t len;
  const char *ptr = luaL_checklstring(L, index, &len);
  return mp_str_of(ptr, len);
}

static int buf_gc(lua_State *L)
{
  mp_buf_dispose(lua_touserdata(L, 1));
  return 0;
}

mp_buf *mpl_push_buf(lua_State *L, size_t max)
{
  mp_buf *buf = lua_newuserdatauv(L, sizeof *buf, 0);
  mp_buf_init(buf, max, NULL);
  if (luaL_newmetatable(L, MPL_BUF)) {
    lua_pushcfunction(L, buf_gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  return buf;
}

const char *mpl_read_reply(lua_State *L, int index, mp_reply *reply)
{
  *reply = (mp_reply){ 0 };
  if (!lua_isinteger(L, index))
    return "the reply code is not an integer";
  lua_Integer code = lua_tointeger(L, index);
  if (code < 200 || code > 599)
    return "the reply code is not between 200 and 599";
  reply->code = (int)code;
  if (lua_type(L, index + 1) == LUA_TSTRING) {
    size_t len;
    const char *ptr = lua_tolstring(L, index + 1, &len);
    if (!mp_reply_enhanced_parse(mp_str_of(ptr, len), reply->enhanced))
      return "the enhanced status code is malformed";
  } else if (!lua_isnoneornil(L, index + 1)) {
    return "the enhanced status code is not a string";
  }
  if (lua_type(L, index + 2) == LUA_TSTRING) {
    size_t len;
    const char *ptr = lua_tolstring(L, index + 2, &len);
    reply->text = mp_str_of(ptr, len);
  } else if (!lua_isnoneornil(L, index + 2)) {
    return "the reply text is not a string";
  }
  return mp_reply_check(reply);
}

static void set_str(lua_State *L, const char *name, mp_str value)
{
  mpl_push_str(L, value);
  lua_setfield(L, -2, name);
}

static void set_int(lua_State *L, const char *name, lua_Integer value)
{
  lua_pushinteger(L, value);
  lua_setfield(L, -2, name);
}

static void set_xtext(lua_State *L, const char *name, mp_str value)
{
  mp_buf *plain = mpl_push_buf(L, 4096);
  if (mp_xtext_decode(plain, value) < 0)
    mp_buf_dispose(plain);
  mpl_push_str(L, mp_buf_view(plain));
  mp_buf_dispose(plain);
  lua_setfield(L, -3, name);
  lua_pop(L, 1);
}

int mpl_push_mail_params(lua_State *L, const mp_mail_params *params)
{
  static const char *const bodies[] = { "7BIT", "8BITMIME", "BINARYMIME" };
  unsigned given = params->given;
  if (!given) {
    lua_pushnil(L);
    return 1;
  }
  lua_newtable(L);
  if (given & MP_PARAM_SIZE)
    set_int(L, "size", (lua_Integer)params->size);
  if (given & MP_PARAM_BODY)
    set_str(L, "body", mp_str_c(bodies[params->body]));
  if (given & MP_PARAM_SMTPUTF8) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "smtputf8");
  }
  if (given & MP_PARAM_RET)
    set_str(L, "ret", params->ret == MP_RET_FULL ? MP_STR("FULL") : MP_STR("HDRS"));
  if (given & MP_PARAM_ENVID)
    set_xtext(L, "envid", params->envid);
  if (given & MP_PARAM_BY) {
    set_int(L, "by", (lua_Integer)params->by_seconds);
    set_str(L, "by_mode", mp_str_of(&params->by_mode, 1));
    lua_pushboolean(L, params->by_trace);
    lua_setfield(L, -2, "by_trace");
  }
  if (given & MP_PARAM_HOLDFOR)
    set_int(L, "holdfor", (lua_Integer)params->hold_for);
  if (given & MP_PARAM_HOLDUNTIL) {
    set_str(L, "holduntil", params->hold_until);
    set_int(L, "holduntil_time", (lua_Integer)params->hold_until_s);
  }
  if (given & MP_PARAM_PRIORITY)
    set_int(L, "priority", params->priority);
  if (given & MP_PARAM_REQUIRETLS) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "requiretls");
  }
  if (given & MP_PARAM_AUTH)
    set_xtext(L, "auth", params->auth);
  return 1;
}

int mpl_push_rcpt_params(lua_State *L, const mp_rcpt_params *params)
{
  static const struct {
    unsigned bit;
    const char *name;
  } notify[] = { { MP_NOTIFY_NEVER, "NEVER" },
                 { MP_NOTIFY_SUCCESS, "SUCCESS" },
                 { MP_NOTIFY_FAILURE, "FAILURE" },
                 { MP_NOTIFY_DELAY, "DELAY" } };
  if (!params->given) {
    lua_pushnil(L);
    return 1;
  }
  lua_newtable(L);
  if (params->given & MP_PARAM_NOTIFY) {
    lua_newtable(L);
    for (size_t i = 0; i < sizeof notify / sizeof *notify; i++)
      if (params->notify & notify[i].bit) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, notify[i].name);
      }
    lua_setfield(L, -2, "notify");
  }
  if (params->given & MP_PARAM_ORCPT) {
    mp_ssize semi = mp_str_find(params->orcpt, ';', 0);
    size_t cut = semi < 0 ? 0 : (size_t)semi;
    set_str(L, "orcpt_type", mp_str_sub(params->orcpt, 0, cut));
    set_xtext(L, "orcpt", mp_str_sub(params->orcpt, cut + 1, params->orcpt.len));
  }
  return 1;
}

void mpl_push_local(lua_State *L, const mp_path *path)
{
  if (!path->quoted) {
    mpl_push_str(L, path->local);
    return;
  }
  /* Quotes and backslashes are how it was written, not what it names (RFC 5321 4.1.2). */
  luaL_Buffer out;
  luaL_buffinit(L, &out);
  for (size_t i = 1; i + 1 < path->local.len; i++) {
    if (path->local.ptr[i] == '\\' && i + 2 < path->local.len)
      i++;
    luaL_addchar(&out, path->local.ptr[i]);
  }
  luaL_pushresult(&out);
}
