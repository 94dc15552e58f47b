/* bind/dispatch.c -- a connection's events into Lua: one protected call of the service's dispatch function each, and what it returned. */
#include "bind/mpl.h"

/* The connection's box; made, with its session object, before its first hook. NULL when Lua could not make them. */
static mpl_conn *box_of(mpl_service *service, mp_conn *conn)
{
  mpl_conn *box = mp_conn_user(conn);
  if (box)
    return box;
  mpl_state *state = service->state;
  lua_State *L = state->L;
  box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (mpl_conn){ .conn = conn, .self = LUA_NOREF };
  luaL_setmetatable(L, MPL_CONN);
  lua_rawgeti(L, LUA_REGISTRYINDEX, service->session);
  lua_pushvalue(L, -2);
  if (!mpl_call(state, 1, 1)) {
    box->conn = NULL;
    lua_pop(L, 1);
    return NULL;
  }
  lua_setiuservalue(L, -2, 1);
  box->self = luaL_ref(L, LUA_REGISTRYINDEX);
  mp_conn_set_user(conn, box);
  return box;
}

/* Pushes dispatch, kind, session. */
static mpl_conn *begin(mpl_service *service, mp_conn *conn, int kind_ref)
{
  lua_State *L = service->state->L;
  luaL_checkstack(L, 16, "dispatch");
  mpl_conn *box = box_of(service, conn);
  if (!box)
    return NULL;
  lua_rawgeti(L, LUA_REGISTRYINDEX, service->dispatch);
  lua_rawgeti(L, LUA_REGISTRYINDEX, kind_ref);
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->self);
  lua_getiuservalue(L, -1, 1);
  lua_remove(L, -2);
  return box;
}

static void begin_named(mpl_service *service, mpl_conn *box, const char *kind)
{
  lua_State *L = service->state->L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, service->dispatch);
  lua_pushstring(L, kind);
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->self);
  lua_getiuservalue(L, -1, 1);
  lua_remove(L, -2);
}

static int push_args(lua_State *L, mp_conn *conn, const mp_event *ev)
{
  switch (ev->kind) {
  case MP_EV_HELO:
    mpl_push_str(L, ev->helo.name);
    lua_pushboolean(L, ev->helo.esmtp);
    return 2;
  case MP_EV_CREDENTIALS:
    mpl_push_str(L, ev->auth.user);
    lua_pushstring(L, mp_mech_name(ev->auth.mech));
    return 2;
  case MP_EV_AUTH:
  case MP_EV_TOKEN:
    mpl_push_str(L, ev->auth.user);
    mpl_push_str(L, ev->auth.password);
    lua_pushstring(L, mp_mech_name(ev->auth.mech));
    return 3;
  case MP_EV_MAIL:
    mpl_push_str(L, ev->mail.path->address);
    mpl_push_local(L, ev->mail.path);
    mpl_push_str(L, ev->mail.path->domain);
    mpl_push_mail_params(L, ev->mail.params);
    return 4;
  case MP_EV_RCPT: {
    const mp_recipient *recipient = ev->rcpt.recipient;
    lua_pushinteger(L, (lua_Integer)recipient->index + 1);
    mpl_push_str(L, recipient->path.address);
    mpl_push_local(L, &recipient->path);
    mpl_push_str(L, recipient->path.domain);
    lua_pushstring(L, mp_class_name((mp_class)recipient->rclass));
    mpl_push_rcpt_params(L, &recipient->params);
    return 6;
  }
  case MP_EV_DATA:
    lua_pushboolean(L, ev->data.bdat);
    return 1;
  case MP_EV_MESSAGE:
    mpl_push_message(L, mp_conn_message(conn), mp_conn_service(conn)->ctx);
    return 1;
  default:
    return 0;
  }
}

/* What a mistake of the script's own looks like to a peer. */
static const mp_reply fault = { .code = 451,
                                .enhanced = { 4, 3, 0 },
                                .text = { "Temporary fault in the mail policy", 34 } };

static const char *field(lua_State *L, int index, const char *name, mp_str *out)
{
  lua_getfield(L, index, name);
  size_t len = 0;
  const char *ptr = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
  *out = mp_str_of(ptr, len);
  return ptr; /* left on the stack, so that the view stays good */
}

/* A list of strings at `index` as one Lua string on top of the stack: items end with NUL, the whole with one more. */
static void read_senders(lua_State *L, int index, mp_str *senders)
{
  *senders = MP_STR_NULL;
  if (lua_type(L, index) != LUA_TTABLE)
    return;
  luaL_Buffer out;
  lua_Integer count = (lua_Integer)lua_rawlen(L, index);
  luaL_buffinit(L, &out);
  for (lua_Integer i = 1; i <= count; i++) {
    if (lua_rawgeti(L, index, i) == LUA_TSTRING && lua_rawlen(L, -1) > 0) {
      luaL_addvalue(&out);
      luaL_addchar(&out, '\0');
    } else {
      lua_pop(L, 1);
    }
  }
  luaL_addchar(&out, '\0');
  luaL_pushresult(&out);
  size_t len;
  const char *ptr = lua_tolstring(L, -1, &len);
  *senders = mp_str_of(ptr, len);
}

static void read_credentials(lua_State *L, int index, mp_answer *answer)
{
  luaL_checkstack(L, 12, "credentials");
  field(L, index, "password", &answer->credentials.password);
  field(L, index, "hash", &answer->credentials.hash);
  field(L, index, "scram_sha1", &answer->credentials.scram_sha1);
  field(L, index, "scram_sha256", &answer->credentials.scram_sha256);
  lua_getfield(L, index, "senders");
  read_senders(L, lua_gettop(L), &answer->senders);
}

/* Reads what dispatch returned from `base` on (kind, enhanced or senders, text). Views stay good while the values stay on the stack. */
void mpl_read_answer(lua_State *L, int base, mp_event_kind kind, mp_answer *answer)
{
  *answer = (mp_answer){ .kind = MP_ANSWER_DEFAULT };
  switch (lua_type(L, base)) {
  case LUA_TNIL:
  case LUA_TNONE:
    return;
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(L, base) == mpl_pending()) {
      answer->kind = MP_ANSWER_PENDING;
      return;
    }
    break;
  case LUA_TNUMBER:
    if (!mpl_read_reply(L, base, &answer->reply)) {
      answer->kind = MP_ANSWER_REPLY;
      return;
    }
    break;
  case LUA_TBOOLEAN:
    if ((kind == MP_EV_AUTH || kind == MP_EV_TOKEN) && lua_toboolean(L, base)) {
      answer->kind = MP_ANSWER_ACCEPT;
      read_senders(L, base + 1, &answer->senders);
    }
    return;
  case LUA_TSTRING:
    if (kind == MP_EV_CREDENTIALS) {
      answer->kind = MP_ANSWER_CREDENTIALS;
      answer->credentials.ask = true;
      return;
    }
    break;
  case LUA_TTABLE:
    if (kind == MP_EV_CREDENTIALS) {
      answer->kind = MP_ANSWER_CREDENTIALS;
      read_credentials(L, base, answer);
      return;
    }
    break;
  default:
    break;
  }
  answer->kind = MP_ANSWER_REPLY;
  answer->reply = fault;
}

bool mpl_answer(mp_conn *conn, const mp_answer *answer)
{
  mp_message *msg = mp_conn_message(conn);
  if (msg)
    mp_message_ref(msg);
  bool taken = mp_conn_answer(conn, answer);
  if (msg) {
    mpl_message_answered(msg);
    mp_message_unref(msg);
  }
  return taken;
}

static void on_event(void *ctx, mp_conn *conn, const mp_event *ev, mp_answer *answer)
{
  mpl_service *service = ctx;
  lua_State *L = service->state->L;
  int top = lua_gettop(L);
  *answer = (mp_answer){ .kind = MP_ANSWER_REPLY, .reply = fault };
  if (begin(service, conn, service->state->kinds[ev->kind])) {
    int nargs = 2 + push_args(L, conn, ev);
    mpl_watch_hook(service->state, mp_event_name(ev->kind));
    if (mpl_call(service->state, nargs, 3)) {
      mpl_read_answer(L, top + 1, ev->kind, answer);
      if (answer->kind != MP_ANSWER_DEFAULT && answer->kind != MP_ANSWER_PENDING) {
        /* The answer's views point into Lua strings on this stack, so it is given while they stand there. */
        mpl_answer(conn, answer);
        answer->kind = MP_ANSWER_PENDING;
      }
    }
  }
  lua_settop(L, top);
}

static void on_tls(void *ctx, mp_conn *conn)
{
  mpl_service *service = ctx;
  int top = lua_gettop(service->state->L);
  mpl_conn *box = box_of(service, conn);
  if (box) {
    begin_named(service, box, "tls");
    mpl_call(service->state, 2, 0);
  }
  lua_settop(service->state->L, top);
}

static void on_refused(void *ctx, mp_conn *conn, mp_event_kind kind, const mp_reply *reply, mp_str about)
{
  mpl_service *service = ctx;
  lua_State *L = service->state->L;
  int top = lua_gettop(L);
  mpl_conn *box = box_of(service, conn);
  if (box) {
    begin_named(service, box, "refused");
    lua_pushstring(L, kind == MP_EV_NONE ? "command" : mp_event_name(kind));
    lua_pushinteger(L, reply->code);
    mpl_push_str(L, reply->text);
    mpl_push_str(L, about);
    mpl_call(service->state, 6, 0);
  }
  lua_settop(L, top);
}

static void on_lost(void *ctx, mp_conn *conn, mp_event_kind pending)
{
  mpl_service *service = ctx;
  mpl_conn *box = mp_conn_user(conn);
  (void)pending;
  if (!box)
    return;
  begin_named(service, box, "lost");
  lua_pushstring(service->state->L, "the peer is gone");
  mpl_call(service->state, 3, 0);
}

static void on_closed(void *ctx, mp_conn *conn, const char *why)
{
  mpl_service *service = ctx;
  lua_State *L = service->state->L;
  int top = lua_gettop(L);
  mpl_conn *box = box_of(service, conn);
  if (box) {
    begin_named(service, box, "disconnect");
    lua_pushstring(L, why);
    mpl_call(service->state, 3, 0);
    box->conn = NULL;
    luaL_unref(L, LUA_REGISTRYINDEX, box->self);
  }
  lua_settop(L, top);
}

static void on_stopped(void *ctx)
{
  mpl_service *service = ctx;
  mpl_state *state = service->state;
  lua_State *L = state->L;
  mp_list_remove(&service->node);
  service->service = NULL;
  int done = service->done;
  luaL_unref(L, LUA_REGISTRYINDEX, service->dispatch);
  luaL_unref(L, LUA_REGISTRYINDEX, service->session);
  luaL_unref(L, LUA_REGISTRYINDEX, service->self);
  if (done != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, done);
    luaL_unref(L, LUA_REGISTRYINDEX, done);
    mpl_call(state, 0, 0);
  }
}

static void on_crowded(void *ctx, mp_crowded why, const char *port, const mp_ip *peer)
{
  static const char *const reasons[MP_CROWDED_COUNT] = { "machine", "connections", "connections_per_address",
                                                         "buffers" };
  mpl_service *service = ctx;
  lua_State *L = service->state->L;
  int top = lua_gettop(L);
  luaL_checkstack(L, 16, "dispatch");
  lua_rawgeti(L, LUA_REGISTRYINDEX, service->dispatch);
  lua_pushliteral(L, "crowded");
  lua_pushnil(L); /* no session */
  lua_pushstring(L, reasons[why]);
  lua_pushstring(L, port);
  char text[MP_IP_TEXT];
  if (peer)
    lua_pushlstring(L, text, mp_ip_format(peer, text));
  else
    lua_pushnil(L);
  mpl_call(service->state, 5, 0);
  lua_settop(L, top);
}

const mp_handler mpl_handler = { on_event, on_tls, on_refused, on_lost, on_closed, on_stopped, on_crowded };
