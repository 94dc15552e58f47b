/* bind/dns.c -- the resolver userdata: questions with a callback each; and names as the DNS wants them. */
#include "bind/mpl.h"

#include "conn/names.h"

typedef struct dns_box { /* uservalue 1: its worker */
  mp_names *names;
  mpl_state *state;
} dns_box;

typedef struct query_box { /* uservalue 1: its resolver. Kept in the registry while it waits */
  mp_names_asker asker;
  mpl_state *state;
  int self, done; /* registry references */
} query_box;

int mpl_core_dns_name(lua_State *L)
{
  char name[MP_DNS_NAME_ASKED];
  mp_ssize len = mp_dns_name_ascii(name, mpl_check_str(L, 1));
  if (len < 0)
    return len == MP_E_NOMEM ? luaL_error(L, "out of memory") : mpl_fail(L, (int)len, "not a domain name");
  lua_pushlstring(L, name, (size_t)len);
  return 1;
}

int mpl_core_dns_unicode(lua_State *L)
{
  char name[MP_DNS_NAME_TEXT];
  mp_ssize len = mp_dns_name_unicode(name, mpl_check_str(L, 1));
  if (len < 0)
    return len == MP_E_NOMEM ? luaL_error(L, "out of memory") : mpl_fail(L, (int)len, "not a domain name");
  lua_pushlstring(L, name, (size_t)len);
  return 1;
}

int mpl_core_dns_reverse(lua_State *L)
{
  char name[MP_DNS_NAME_ASKED];
  mp_ip ip;
  if (!mp_ip_parse(&ip, mpl_check_str(L, 1))) {
    lua_pushnil(L);
    return 1;
  }
  lua_pushlstring(L, name, mp_dns_name_reverse(name, &ip));
  return 1;
}

/* ---- records ----------------------------------------------------------------------------------------------------- */

static void set_int(lua_State *L, const char *name, lua_Integer value)
{
  lua_pushinteger(L, value);
  lua_setfield(L, -2, name);
}

static bool push_mx(lua_State *L, mp_str rdata)
{
  mp_dns_mx mx;
  if (mp_dns_read_mx(rdata, &mx) < 0)
    return false;
  lua_createtable(L, 0, 2);
  set_int(L, "preference", mx.preference);
  lua_pushstring(L, mx.host);
  lua_setfield(L, -2, "host");
  return true;
}

static bool push_tlsa(lua_State *L, mp_str rdata)
{
  mp_dns_tlsa tlsa;
  if (mp_dns_read_tlsa(rdata, &tlsa) < 0)
    return false;
  lua_createtable(L, 0, 4);
  set_int(L, "usage", tlsa.usage);
  set_int(L, "selector", tlsa.selector);
  set_int(L, "mtype", tlsa.mtype);
  mpl_push_str(L, tlsa.data);
  lua_setfield(L, -2, "data");
  return true;
}

static bool push_ip(lua_State *L, mp_str rdata, size_t len)
{
  mp_ip ip;
  char text[MP_IP_TEXT];
  if (rdata.len != len || mp_dns_read_ip(rdata, &ip) < 0)
    return false;
  lua_pushlstring(L, text, mp_ip_format(&ip, text));
  return true;
}

static bool push_host(lua_State *L, mp_str rdata)
{
  char name[MP_DNS_NAME_TEXT];
  if (mp_dns_read_host(rdata, name) < 0)
    return false;
  lua_pushstring(L, name);
  return true;
}

static bool push_text(lua_State *L, mp_str rdata)
{
  luaL_Buffer out;
  char *room = luaL_buffinitsize(L, &out, rdata.len + 1);
  mp_ssize len = mp_dns_read_text(rdata, room);
  luaL_pushresultsize(&out, len < 0 ? 0 : (size_t)len);
  if (len < 0)
    lua_pop(L, 1);
  return len >= 0;
}

/* Pushes one record; or nothing, when its octets make no sense. */
static bool push_record(lua_State *L, mp_dns_type type, mp_str rdata)
{
  switch (type) {
  case MP_DNS_A:
    return push_ip(L, rdata, 4);
  case MP_DNS_AAAA:
    return push_ip(L, rdata, 16);
  case MP_DNS_MX:
    return push_mx(L, rdata);
  case MP_DNS_TXT:
    return push_text(L, rdata);
  case MP_DNS_TLSA:
    return push_tlsa(L, rdata);
  case MP_DNS_CNAME:
  case MP_DNS_PTR:
    return push_host(L, rdata);
  }
  return false;
}

/* Without the dot at the end, in lower case: names are compared by scripts. */
static void set_name(lua_State *L, const char *name)
{
  luaL_Buffer out;
  luaL_buffinit(L, &out);
  size_t len = strlen(name);
  if (len && name[len - 1] == '.')
    len--;
  for (size_t i = 0; i < len; i++)
    luaL_addchar(&out, (char)mp_ascii_lower((unsigned char)name[i]));
  luaL_pushresult(&out);
  lua_setfield(L, -2, "name");
}

/* Pushes the answer's table, or nil, kind and why; returns how many values that is. Runs inside a protected call. NULL: there was none in time. */
static int push_answer(lua_State *L)
{
  const mp_dns_answer *answer = lua_touserdata(L, 1);
  if (!answer) {
    lua_pushnil(L);
    lua_pushliteral(L, "timeout");
    return 2;
  }
  if (answer->outcome != MP_DNS_ANSWER) {
    lua_pushnil(L);
    lua_pushstring(L, answer->outcome == MP_DNS_BOGUS ? "bogus" : "servfail");
    lua_pushstring(L, answer->why);
    return 3;
  }
  lua_createtable(L, (int)answer->count, 5);
  lua_Integer count = 0;
  for (size_t i = 0; i < answer->count; i++)
    if (answer->lens[i] >= 0 && push_record(L, answer->type, mp_str_of(answer->data[i], (size_t)answer->lens[i])))
      lua_rawseti(L, -2, ++count);
  if (answer->count && !count) {
    lua_pushnil(L);
    lua_pushliteral(L, "servfail");
    lua_pushliteral(L, "its records are malformed");
    return 3;
  }
  set_int(L, "ttl", (lua_Integer)answer->ttl);
  lua_pushstring(L, answer->secure ? "secure" : "insecure");
  lua_setfield(L, -2, "status");
  set_name(L, answer->name);
  if (!count) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, answer->nxdomain ? "nxdomain" : "nodata");
  }
  return 1;
}

/* ---- questions --------------------------------------------------------------------------------------------------- */

static void query_forget(lua_State *L, query_box *query)
{
  luaL_unref(L, LUA_REGISTRYINDEX, query->done);
  luaL_unref(L, LUA_REGISTRYINDEX, query->self);
  query->done = query->self = LUA_NOREF;
}

/* done(answer...), in a call that errors, for want of memory too, cannot leave. */
static int deliver(lua_State *L)
{
  lua_insert(L, 1); /* the callback */
  lua_pushcfunction(L, push_answer);
  lua_insert(L, 2);
  lua_call(L, 1, LUA_MULTRET);
  lua_call(L, lua_gettop(L) - 1, 0);
  return 0;
}

static void on_done(mp_names_asker *asker, int rc, const mp_dns_answer *answer)
{
  (void)rc; /* without an answer it is MP_E_TIMEOUT */
  query_box *query = MP_CONTAINER(asker, query_box, asker);
  mpl_state *state = query->state;
  lua_State *L = state->L;
  bool room = lua_checkstack(L, 3);
  if (room) {
    lua_pushcfunction(L, deliver);
    lua_pushlightuserdata(L, (void *)(uintptr_t)answer);
    lua_rawgeti(L, LUA_REGISTRYINDEX, query->done);
  }
  query_forget(L, query);
  if (room)
    mpl_call(state, 2, 0);
}

static dns_box *check(lua_State *L, int index)
{
  dns_box *box = luaL_checkudata(L, index, MPL_DNS);
  luaL_argcheck(L, box->names, index, "resolver is closed");
  return box;
}

static int dns_ask(lua_State *L)
{
  dns_box *box = check(L, 1);
  const char *name = luaL_checkstring(L, 2);
  mp_dns_type type;
  luaL_argcheck(L, mp_dns_type_of(&type, mpl_check_str(L, 3)), 3, "no type of record that is known");
  int64_t timeout_ms = mpl_check_ms(L, 4);
  luaL_checktype(L, 5, LUA_TFUNCTION);
  query_box *query = lua_newuserdatauv(L, sizeof *query, 1);
  *query = (query_box){ .state = box->state, .self = LUA_NOREF, .done = LUA_NOREF };
  query->asker.done = on_done;
  luaL_setmetatable(L, MPL_QUERY);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  lua_pushvalue(L, 5);
  query->done = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, -1);
  query->self = luaL_ref(L, LUA_REGISTRYINDEX);
  int rc = mp_names_ask(box->names, &query->asker, type, name, timeout_ms);
  if (rc == 0)
    return 1;
  query_forget(L, query);
  return mpl_fail(L, rc, rc == MP_E_FULL ? "too many questions in flight" : NULL);
}

static int dns_waiting(lua_State *L)
{
  lua_pushinteger(L, (lua_Integer)mp_names_waiting(check(L, 1)->names));
  return 1;
}

static int query_cancel(lua_State *L)
{
  query_box *query = luaL_checkudata(L, 1, MPL_QUERY);
  mp_names_give_up(&query->asker);
  query_forget(L, query);
  return 0;
}

static int query_gc(lua_State *L)
{
  query_box *query = luaL_checkudata(L, 1, MPL_QUERY);
  if (query->self != LUA_NOREF) /* the state closes while it waits */
    mp_names_give_up(&query->asker);
  query->self = LUA_NOREF;
  return 0;
}

static int dns_gc(lua_State *L)
{
  dns_box *box = luaL_checkudata(L, 1, MPL_DNS);
  mp_names_close(box->names);
  box->names = NULL;
  return 0;
}

/* ---- making one -------------------------------------------------------------------------------------------------- */

enum { LIST_MOST = 32 };

/* The strings of the list `field` of the table at `index`, which keeps them alive. */
static size_t read_list(lua_State *L, int index, const char *field, const char *out[LIST_MOST])
{
  if (lua_getfield(L, index, field) == LUA_TNIL) {
    lua_pop(L, 1);
    return 0;
  }
  luaL_checktype(L, -1, LUA_TTABLE);
  size_t count = (size_t)lua_rawlen(L, -1);
  if (count > LIST_MOST)
    luaL_error(L, "%s: at most %d", field, (int)LIST_MOST);
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, -1, (lua_Integer)i + 1);
    out[i] = luaL_checkstring(L, -1);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return count;
}

int mpl_worker_dns(lua_State *L)
{
  mpl_worker *worker = mpl_check_worker(L, 1);
  mp_str key = mpl_check_str(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 3);
  const char *forwarders[LIST_MOST], *anchors[LIST_MOST], *zones[LIST_MOST], *servers[LIST_MOST];
  mp_dns_stub stubs[LIST_MOST];
  mp_dns_opts opts = { .forwarders = forwarders, .anchors = anchors, .stubs = stubs };
  opts.forwarder_count = read_list(L, 3, "forwarders", forwarders);
  opts.anchor_count = read_list(L, 3, "anchors", anchors);
  opts.stub_count = read_list(L, 3, "stub_zones", zones);
  luaL_argcheck(L, read_list(L, 3, "stub_servers", servers) == opts.stub_count, 3,
                "as many servers as zones expected");
  for (size_t i = 0; i < opts.stub_count; i++)
    stubs[i] = (mp_dns_stub){ .zone = zones[i], .server = servers[i] };
  lua_getfield(L, 3, "root_key");
  opts.root_key = luaL_optstring(L, -1, NULL);
  lua_getfield(L, 3, "recursion");
  opts.recursion = lua_toboolean(L, -1);
  dns_box *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (dns_box){ .state = mpl_state_of(L) };
  luaL_setmetatable(L, MPL_DNS);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  char why[MP_DNS_WHY];
  int rc = mp_names_open(&box->names, worker->worker, key, &opts, why);
  return rc < 0 ? mpl_fail(L, rc, why) : 1;
}

int mpl_open_dns(lua_State *L)
{
  static const luaL_Reg methods[] = { { "ask", dns_ask }, { "waiting", dns_waiting }, { NULL, NULL } };
  static const luaL_Reg query_methods[] = { { "cancel", query_cancel }, { NULL, NULL } };
  mpl_class(L, MPL_DNS, methods, dns_gc);
  mpl_class(L, MPL_QUERY, query_methods, query_gc);
  return 0;
}
