/* bind/spool_row.c -- messages, recipients and changes between Lua tables and the spool's structures. Times are unix seconds in Lua. */
#include "bind/spool.h"

#include <math.h>
#include <string.h>

static const int64_t FOREVER = INT64_C(1000000000000000);

int64_t mpl_spool_ms(lua_State *L, int index)
{
  lua_Number seconds = luaL_checknumber(L, index);
  luaL_argcheck(L, !isnan(seconds), index, "a time expected");
  if (seconds > 1e12)
    return FOREVER;
  return seconds < -1e12 ? -FOREVER : llround(seconds * 1000);
}

int64_t mpl_spool_wait_ms(lua_State *L, int index)
{
  lua_Number seconds = luaL_checknumber(L, index);
  if (!(seconds > 0))
    return 0;
  return seconds < 1e9 ? (int64_t)ceil(seconds * 1000) : INT64_C(1000000000000);
}

int64_t mpl_spool_end_ms(lua_State *L, int index)
{
  int64_t ms = mpl_spool_ms(L, index);
  return ms == FOREVER ? 0 : ms;
}

static lua_Number seconds_of(int64_t ms)
{
  return (lua_Number)ms / 1000;
}

mp_str mpl_spool_text(lua_State *L, mpl_asked *asked, int index)
{
  bool ok = true;
  mp_str s = mp_arena_str(&asked->arena, mpl_check_str(L, index), &ok);
  if (!ok)
    luaL_error(L, "out of memory");
  return s;
}

/* A field of the table at the top. Empty, or a NULL view where `absent` says so, where there is none. */
static mp_str text_at(lua_State *L, mpl_asked *asked, const char *name, mp_str absent)
{
  mp_str s = absent;
  if (lua_getfield(L, -1, name) != LUA_TNIL)
    s = mpl_spool_text(L, asked, -1);
  lua_pop(L, 1);
  return s;
}

static int64_t time_at(lua_State *L, const char *name)
{
  int64_t ms = 0;
  if (lua_getfield(L, -1, name) != LUA_TNIL) {
    if (!lua_isnumber(L, -1) || isnan(lua_tonumber(L, -1)))
      luaL_error(L, "%s: a time expected", name);
    ms = mpl_spool_ms(L, -1);
  }
  lua_pop(L, 1);
  return ms;
}

/* One that may never come. */
static int64_t end_at(lua_State *L, const char *name)
{
  int64_t ms = time_at(L, name);
  return ms == FOREVER ? 0 : ms;
}

static int64_t integer_at(lua_State *L, const char *name)
{
  int is = 1;
  lua_Integer n = 0;
  if (lua_getfield(L, -1, name) != LUA_TNIL)
    n = lua_tointegerx(L, -1, &is);
  if (!is)
    luaL_error(L, "%s: a whole number expected", name);
  lua_pop(L, 1);
  return n;
}

static bool flag_at(lua_State *L, const char *name)
{
  lua_getfield(L, -1, name);
  bool flag = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return flag;
}

void mpl_spool_read_message(lua_State *L, mpl_asked *asked, int index)
{
  mp_spool_message *m = &asked->message;
  luaL_checktype(L, index, LUA_TTABLE);
  lua_pushvalue(L, index);
  m->id = text_at(L, asked, "id", MP_STR(""));
  m->sender = text_at(L, asked, "sender", MP_STR(""));
  m->tenant = text_at(L, asked, "tenant", MP_STR(""));
  m->user = text_at(L, asked, "user", MP_STR(""));
  m->params = text_at(L, asked, "params", MP_STR(""));
  m->meta = text_at(L, asked, "meta", MP_STR(""));
  m->report = flag_at(L, "report");
  m->priority = (int)integer_at(L, "priority");
  m->received_ms = time_at(L, "received");
  lua_pop(L, 1);
}

static void read_recipient(lua_State *L, mpl_asked *asked, mp_spool_recipient *r)
{
  r->address = text_at(L, asked, "address", MP_STR(""));
  r->domain = text_at(L, asked, "domain", MP_STR(""));
  r->params = text_at(L, asked, "params", MP_STR(""));
  r->due_ms = time_at(L, "due");
  r->expiry_ms = end_at(L, "expires");
  r->alarm_ms = end_at(L, "alarm");
  r->state = flag_at(L, "held") ? MP_SPOOL_HELD : MP_SPOOL_WAITING;
}

/* Room for what the list at `index` holds; *count of `size` octets each. Raises. */
static void *room_for(lua_State *L, int index, size_t size, size_t *count)
{
  luaL_checktype(L, index, LUA_TTABLE);
  *count = (size_t)lua_rawlen(L, index);
  void *room = mp_mem_zalloc((*count ? *count : 1) * size);
  if (!room)
    luaL_error(L, "out of memory");
  return room;
}

/* Puts the table that is next in the list on the stack. */
static void next_table(lua_State *L, int index, size_t i)
{
  lua_rawgeti(L, index, (lua_Integer)i + 1);
  luaL_checktype(L, -1, LUA_TTABLE);
}

size_t mpl_spool_read_recipients(lua_State *L, mpl_asked *asked, int index)
{
  size_t count;
  asked->recipients = room_for(L, index, sizeof *asked->recipients, &count);
  for (size_t i = 0; i < count; i++) {
    next_table(L, index, i);
    read_recipient(L, asked, &asked->recipients[i]);
    lua_pop(L, 1);
  }
  return count;
}

static const char *const verbs[] = { "delivered", "bounced", "expired", "removed", "reschedule",
                                     "hold",      "release", "retry",   "redirect" };

static enum mp_spool_verb verb_at(lua_State *L)
{
  lua_getfield(L, -1, "verb");
  const char *name = lua_tostring(L, -1);
  size_t i = 0, count = sizeof verbs / sizeof *verbs;
  while (name && i < count && strcmp(name, verbs[i]) != 0)
    i++;
  if (!name || i == count)
    luaL_error(L, "verb: there is no such change");
  lua_pop(L, 1);
  return (enum mp_spool_verb)i;
}

static void read_change(lua_State *L, mpl_asked *asked, mp_spool_change *c)
{
  c->verb = verb_at(L);
  c->id = text_at(L, asked, "id", MP_STR(""));
  c->n = (uint32_t)integer_at(L, "number");
  c->lease = (uint64_t)integer_at(L, "lease");
  c->when_ms = time_at(L, "due");
  c->now_ms = time_at(L, "now");
  c->alarm_ms = end_at(L, "alarm");
  c->warned = (uint32_t)integer_at(L, "warned");
  c->reply = text_at(L, asked, "last", MP_STR_NULL);
  c->site = text_at(L, asked, "site", MP_STR_NULL);
  c->host = text_at(L, asked, "host", MP_STR_NULL);
  c->address = text_at(L, asked, "address", MP_STR_NULL);
  c->domain = text_at(L, asked, "domain", MP_STR_NULL);
}

size_t mpl_spool_read_changes(lua_State *L, mpl_asked *asked, int index)
{
  size_t count;
  asked->changes = room_for(L, index, sizeof *asked->changes, &count);
  luaL_argcheck(L, count <= MP_SPOOL_CLAIM_MAX, index, "at most 1000 expected");
  for (size_t i = 0; i < count; i++) {
    next_table(L, index, i);
    read_change(L, asked, &asked->changes[i]);
    lua_pop(L, 1);
  }
  return count;
}

void mpl_spool_read_filter(lua_State *L, mpl_asked *asked, int index, mp_spool_filter *filter)
{
  luaL_checktype(L, index, LUA_TTABLE);
  lua_pushvalue(L, index);
  filter->id = text_at(L, asked, "id", MP_STR_NULL);
  filter->sender = text_at(L, asked, "sender", MP_STR_NULL);
  filter->recipient = text_at(L, asked, "recipient", MP_STR_NULL);
  filter->domain = text_at(L, asked, "domain", MP_STR_NULL);
  filter->site = text_at(L, asked, "site", MP_STR_NULL);
  filter->tenant = text_at(L, asked, "tenant", MP_STR_NULL);
  filter->reply = text_at(L, asked, "reply", MP_STR_NULL);
  filter->held = flag_at(L, "held");
  filter->waiting = flag_at(L, "waiting");
  filter->before_ms = time_at(L, "before");
  filter->after_ms = time_at(L, "after");
  lua_pop(L, 1);
}

/* ---- what was found -------------------------------------------------------------------------------------------------- */

static void set_text(lua_State *L, const char *name, mp_str s)
{
  if (s.len == 0)
    return;
  mpl_push_str(L, s);
  lua_setfield(L, -2, name);
}

static void set_time(lua_State *L, const char *name, int64_t ms)
{
  lua_pushnumber(L, seconds_of(ms));
  lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, int64_t n)
{
  lua_pushinteger(L, (lua_Integer)n);
  lua_setfield(L, -2, name);
}

static void set_flag(lua_State *L, const char *name, bool flag)
{
  if (!flag)
    return;
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, name);
}

static void push_recipient(lua_State *L, const mp_spool_recipient *r, uint64_t lease)
{
  lua_createtable(L, 0, 20);
  set_integer(L, "number", r->n);
  set_text(L, "address", r->address);
  set_text(L, "domain", r->domain);
  set_text(L, "original", r->original);
  set_text(L, "params", r->params);
  set_text(L, "site", r->site);
  set_text(L, "host", r->host);
  set_text(L, "last", r->reply);
  set_time(L, "due", r->due_ms);
  lua_pushnumber(L, r->expiry_ms ? seconds_of(r->expiry_ms) : (lua_Number)INFINITY);
  lua_setfield(L, -2, "expires");
  lua_pushnumber(L, r->alarm_ms ? seconds_of(r->alarm_ms) : (lua_Number)INFINITY);
  lua_setfield(L, -2, "alarm");
  set_integer(L, "attempts", r->attempts);
  set_integer(L, "warned", r->warned);
  set_flag(L, "held", r->state == MP_SPOOL_HELD);
  set_flag(L, "claimed", r->claimed);
  if (lease)
    set_integer(L, "lease", (int64_t)lease);
}

/* A table of the message whose list part are its recipients. */
static void push_item(lua_State *L, const mp_spool_item *item, uint64_t lease)
{
  const mp_spool_message *m = &item->message;
  lua_createtable(L, (int)item->count, 11);
  mpl_push_str(L, m->id);
  lua_setfield(L, -2, "id");
  mpl_push_str(L, m->sender);
  lua_setfield(L, -2, "sender");
  set_text(L, "tenant", m->tenant);
  set_text(L, "user", m->user);
  set_text(L, "params", m->params);
  set_text(L, "meta", m->meta);
  set_flag(L, "report", m->report);
  set_integer(L, "priority", m->priority);
  set_time(L, "received", m->received_ms);
  set_integer(L, "size", (int64_t)(m->head_length + m->body_length));
  for (size_t i = 0; i < item->count; i++) {
    push_recipient(L, &item->recipients[i], lease);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}

void mpl_spool_push_batch(lua_State *L, const mp_spool_batch *batch, uint64_t lease)
{
  lua_createtable(L, (int)batch->count, 0);
  for (size_t i = 0; i < batch->count; i++) {
    push_item(L, &batch->items[i], lease);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
}
