/* bind/conn.c -- the connection userdata: answers, facts, closing. A closed handle answers every question with false or nil. */
#include "bind/mpl.h"

static mpl_conn *check(lua_State *L)
{
  return luaL_checkudata(L, 1, MPL_CONN);
}

static int conn_answer(lua_State *L)
{
  mpl_conn *box = check(L);
  lua_settop(L, 4);
  mp_answer answer;
  bool taken = false;
  if (box->conn) {
    mp_conn_facts facts;
    mp_conn_facts_get(box->conn, &facts);
    mpl_read_answer(L, 2, facts.pending, &answer);
    luaL_argcheck(L, answer.kind != MP_ANSWER_PENDING, 2, "an answer cannot be PENDING");
    taken = mpl_answer(box->conn, &answer);
  }
  lua_pushboolean(L, taken);
  return 1;
}

static int conn_answer_rcpt(lua_State *L)
{
  mpl_conn *box = check(L);
  lua_Integer index = luaL_checkinteger(L, 2);
  mp_reply reply;
  const char *why = mpl_read_reply(L, 3, &reply);
  if (why)
    return luaL_argerror(L, 3, why);
  luaL_argcheck(L, index >= 1, 2, "recipients count from 1");
  lua_pushboolean(L, box->conn && mp_conn_answer_rcpt(box->conn, (size_t)index - 1, &reply) == 0);
  return 1;
}

static int conn_allow_relay(lua_State *L)
{
  mpl_conn *box = check(L);
  if (box->conn)
    mp_conn_allow_relay(box->conn);
  return 0;
}

static int conn_close(lua_State *L)
{
  mpl_conn *box = check(L);
  mp_reply reply;
  lua_settop(L, 4);
  const char *why = mpl_read_reply(L, 2, &reply);
  if (why)
    return luaL_argerror(L, 2, why);
  luaL_argcheck(L, reply.code >= 400 || reply.code == 221, 2, "a session is closed with 221, 4xx or 5xx");
  if (box->conn)
    mp_conn_close(box->conn, &reply, "closed by the policy");
  return 0;
}

static int conn_alive(lua_State *L)
{
  mpl_conn *box = check(L);
  lua_pushboolean(L, box->conn && mp_conn_alive(box->conn));
  return 1;
}

static void put_ip(lua_State *L, const mp_ip *ip)
{
  char text[MP_IP_TEXT];
  lua_pushlstring(L, text, mp_ip_format(ip, text));
}

static void put_tls(lua_State *L, const mp_conn_facts *facts)
{
  if (!facts->tls) {
    lua_pushnil(L);
    return;
  }
  const mp_tls_info *info = &facts->tls_info;
  lua_newtable(L);
  mpl_push_str(L, info->version);
  lua_setfield(L, -2, "version");
  mpl_push_str(L, info->cipher);
  lua_setfield(L, -2, "cipher");
  if (info->sni.len) {
    mpl_push_str(L, info->sni);
    lua_setfield(L, -2, "sni");
  }
  lua_pushboolean(L, info->resumed);
  lua_setfield(L, -2, "resumed");
  if (info->peer_fingerprint.len) {
    mpl_push_str(L, info->peer_subject);
    lua_setfield(L, -2, "subject");
    mpl_push_str(L, info->peer_fingerprint);
    lua_setfield(L, -2, "fingerprint");
  }
  lua_pushboolean(L, info->peer_verified);
  lua_setfield(L, -2, "verified");
  lua_newtable(L);
  for (size_t i = 0; i < info->peer_name_count; i++) {
    mpl_push_str(L, info->peer_names[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_setfield(L, -2, "names");
}

/* One push per fact, by name; the table of all of them is made from the same list. */
#define FACT_MAP(X)                                                     \
  X(ip, {                                                               \
    if (f->is_unix)                                                     \
      lua_pushnil(L);                                                   \
    else                                                                \
      put_ip(L, &f->peer);                                              \
  })                                                                    \
  X(port, {                                                             \
    if (f->is_unix)                                                     \
      lua_pushnil(L);                                                   \
    else                                                                \
      lua_pushinteger(L, f->peer_port);                                 \
  })                                                                    \
  X(local_ip, {                                                         \
    if (f->is_unix)                                                     \
      lua_pushnil(L);                                                   \
    else                                                                \
      put_ip(L, &f->local);                                             \
  })                                                                    \
  X(local_port, {                                                       \
    if (f->is_unix)                                                     \
      lua_pushnil(L);                                                   \
    else                                                                \
      lua_pushinteger(L, f->local_port);                                \
  })                                                                    \
  X(unix, lua_pushboolean(L, f->is_unix);)                              \
  X(uid, {                                                              \
    if (f->is_unix)                                                     \
      lua_pushinteger(L, (lua_Integer)f->uid);                          \
    else                                                                \
      lua_pushnil(L);                                                   \
  })                                                                    \
  X(pid, {                                                              \
    if (f->is_unix)                                                     \
      lua_pushinteger(L, f->pid);                                       \
    else                                                                \
      lua_pushnil(L);                                                   \
  })                                                                    \
  X(listener, lua_pushstring(L, f->port->name);)                        \
  X(protocol, lua_pushstring(L, protocols[f->port->machine.protocol]);) \
  X(helo, {                                                             \
    if (f->helo.len)                                                    \
      mpl_push_str(L, f->helo);                                         \
    else                                                                \
      lua_pushnil(L);                                                   \
  })                                                                    \
  X(esmtp, lua_pushboolean(L, f->esmtp);)                               \
  X(user, {                                                             \
    if (f->user.len)                                                    \
      mpl_push_str(L, f->user);                                         \
    else                                                                \
      lua_pushnil(L);                                                   \
  })                                                                    \
  X(mechanism, lua_pushstring(L, f->mech);)                             \
  X(with, lua_pushstring(L, f->with);)                                  \
  X(early_talker, lua_pushboolean(L, f->early);)                        \
  X(errors, lua_pushinteger(L, (lua_Integer)f->errors);)                \
  X(may_relay, lua_pushboolean(L, f->may_relay);)                       \
  X(proxied, lua_pushboolean(L, f->proxied);)                           \
  X(tls, put_tls(L, f);)                                                \
  X(alive, lua_pushboolean(L, f->alive);)                               \
  X(pending, lua_pushstring(L, f->pending == MP_EV_NONE ? NULL : mp_event_name(f->pending));)

static const char *const protocols[] = { "smtp", "submission", "lmtp" };

#define FACT_PUSH(name, code)                                   \
  static void push_##name(lua_State *L, const mp_conn_facts *f) \
  {                                                             \
    code                                                        \
  }
FACT_MAP(FACT_PUSH)

static const struct {
  const char *name;
  void (*push)(lua_State *L, const mp_conn_facts *facts);
} facts_by_name[] = {
#define FACT_ROW(name, code) { #name, push_##name },
  FACT_MAP(FACT_ROW)
};

enum { FACT_COUNT = sizeof facts_by_name / sizeof *facts_by_name };

static int conn_facts(lua_State *L)
{
  mpl_conn *box = check(L);
  if (!box->conn)
    return 0;
  mp_conn_facts facts;
  mp_conn_facts_get(box->conn, &facts);
  lua_createtable(L, 0, FACT_COUNT);
  for (size_t i = 0; i < FACT_COUNT; i++) {
    facts_by_name[i].push(L, &facts);
    lua_setfield(L, -2, facts_by_name[i].name);
  }
  return 1;
}

static int conn_fact(lua_State *L)
{
  mpl_conn *box = check(L);
  const char *name = luaL_checkstring(L, 2);
  if (!box->conn)
    return 0;
  mp_conn_facts facts;
  mp_conn_facts_get(box->conn, &facts);
  for (size_t i = 0; i < FACT_COUNT; i++)
    if (strcmp(name, facts_by_name[i].name) == 0) {
      facts_by_name[i].push(L, &facts);
      return 1;
    }
  return luaL_argerror(L, 2, "no such fact");
}

/* tally() -> { messages, messages_refused, recipients, recipients_refused, bad, octets, ms } */
static int conn_tally(lua_State *L)
{
  mpl_conn *box = check(L);
  if (!box->conn)
    return 0;
  mp_conn_facts facts;
  mp_conn_facts_get(box->conn, &facts);
  static const mp_tally none;
  const mp_tally *tally = facts.tally ? facts.tally : &none;
  const struct {
    const char *name;
    uint64_t value;
  } rows[] = {
    { "messages", tally->messages },
    { "messages_refused", tally->messages_refused },
    { "recipients", tally->rcpts },
    { "recipients_refused", tally->rcpts_refused },
    { "bad", tally->bad },
    { "octets", tally->octets },
    { "ms", (uint64_t)facts.open_ms },
  };
  lua_createtable(L, 0, sizeof rows / sizeof *rows);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    lua_pushinteger(L, (lua_Integer)rows[i].value);
    lua_setfield(L, -2, rows[i].name);
  }
  return 1;
}

static int conn_gc(lua_State *L)
{
  mpl_conn *box = check(L);
  /* A live connection's box is kept in the registry, so this is the end of the state. */
  if (box->conn)
    mp_conn_set_user(box->conn, NULL);
  box->conn = NULL;
  return 0;
}

int mpl_open_conn(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "answer", conn_answer },
    { "answer_rcpt", conn_answer_rcpt },
    { "allow_relay", conn_allow_relay },
    { "close", conn_close },
    { "alive", conn_alive },
    { "facts", conn_facts },
    { "fact", conn_fact },
    { "tally", conn_tally },
    { NULL, NULL },
  };
  mpl_class(L, MPL_CONN, methods, NULL);
  luaL_getmetatable(L, MPL_CONN);
  lua_pushcfunction(L, conn_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  return 0;
}
