/* bind/client_facts.c -- what is known of an outgoing connection: outcomes of recipients, what the peer announced, TLS, addresses. */
#include "bind/client.h"

static mpl_client *check(lua_State *L)
{
  return luaL_checkudata(L, 1, MPL_CLIENT);
}

void mpl_push_reply(lua_State *L, const mp_reply *reply)
{
  if (!reply->code) {
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushnil(L);
    return;
  }
  lua_pushinteger(L, reply->code);
  if (reply->enhanced[0])
    lua_pushfstring(L, "%d.%d.%d", reply->enhanced[0], reply->enhanced[1], reply->enhanced[2]);
  else
    lua_pushnil(L);
  mpl_push_str(L, reply->text);
}

/* client:result(index) -> state, stage, code, enhanced, text, own, dsn_lost */
int mpl_client_result(lua_State *L)
{
  mpl_client *box = check(L);
  lua_Integer index = luaL_checkinteger(L, 2);
  if (!box->has_mail || index < 1 || (size_t)index > box->mail.tx.count)
    return 0;
  const mp_rcpt_result *result = &box->mail.tx.rcpts[index - 1].result;
  lua_pushstring(L, mp_rcpt_state_name((mp_rcpt_state)result->state));
  lua_pushstring(L, mp_stage_name((mp_stage)result->stage));
  mpl_push_reply(L, &result->reply);
  lua_pushboolean(L, result->local);
  lua_pushboolean(L, result->dsn_lost);
  return 7;
}

/* ---- facts ---------------------------------------------------------------------------------------------------------- */

int mpl_client_caps(lua_State *L)
{
  static const char *const names[] = {
#define EXT_NAME(name, text) text,
    MP_EXT_MAP(EXT_NAME)
#undef EXT_NAME
  };
  mpl_client *box = check(L);
  mp_client *machine = box->link ? mp_link_machine(box->link) : NULL;
  if (!machine)
    return 0;
  const mp_client_caps *caps = mp_client_caps_of(machine);
  lua_createtable(L, 0, 8);
  mpl_push_str(L, caps->name);
  lua_setfield(L, -2, "name");
  mpl_push_str(L, caps->lines);
  lua_setfield(L, -2, "lines");
  lua_pushinteger(L, (lua_Integer)caps->size);
  lua_setfield(L, -2, "size");
  lua_newtable(L);
  for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
    if (caps->extensions & 1u << i) {
      lua_pushboolean(L, 1);
      lua_setfield(L, -2, names[i]);
    }
  lua_setfield(L, -2, "extensions");
  lua_newtable(L);
  for (int mech = 0, count = 0; mech < MP_MECH_COUNT; mech++)
    if (caps->mechanisms & 1u << mech) {
      lua_pushstring(L, mp_mech_name((mp_mech)mech));
      lua_rawseti(L, -2, ++count);
    }
  lua_setfield(L, -2, "mechanisms");
  return 1;
}

/* client:facts() -> esmtp, mechanism, spent */
int mpl_client_facts(lua_State *L)
{
  mpl_client *box = check(L);
  mp_client *machine = box->link ? mp_link_machine(box->link) : NULL;
  if (!machine)
    return 0;
  int mech = mp_client_mech(machine);
  lua_pushboolean(L, mp_client_esmtp(machine));
  if (mech >= 0)
    lua_pushstring(L, mp_mech_name((mp_mech)mech));
  else
    lua_pushnil(L);
  lua_pushboolean(L, mp_client_spent(machine));
  return 3;
}

int mpl_client_tls(lua_State *L)
{
  mpl_client *box = check(L);
  mp_tls *tls = box->link ? mp_link_tls(box->link) : NULL;
  return tls ? mpl_push_tls_facts(L, tls) : 0;
}

/* client:peer() -> ip, port, local_ip, local_port; nothing over a unix socket */
int mpl_client_peer(lua_State *L)
{
  mpl_client *box = check(L);
  mp_stream_peer peer;
  if (!box->link)
    return 0;
  mp_link_peer(box->link, &peer);
  if (peer.is_unix)
    return 0;
  char text[MP_IP_TEXT];
  lua_pushlstring(L, text, mp_ip_format(&peer.ip, text));
  lua_pushinteger(L, peer.port);
  lua_pushlstring(L, text, mp_ip_format(&peer.local_ip, text));
  lua_pushinteger(L, peer.local_port);
  return 4;
}
