/* bind/made.c -- a message made of octets, which can be delivered like one that was received: what a queue keeps, on its way into a Maildir or a program. */
#include "bind/client.h"
#include "bind/mpl.h"

#include <string.h>

#define MPL_MADE "moonpost.core.making"

enum { ENVELOPE_MOST = 65536 };

typedef struct making { /* box; uservalue 1: the worker; in the registry while its octets are on their way to a file */
  mpl_leaving leaving;
  mpl_state *state;
  mp_sink *sink;
  mp_envelope *env;
  mp_trace trace;
  int self, done, held; /* registry references; of `held`, the id, the trace borrows */
} making;

static void forget(making *box)
{
  lua_State *L = box->state->L;
  mp_list_remove(&box->leaving.node);
  if (box->sink)
    mp_sink_on_ready(box->sink, NULL, NULL);
  mp_sink_unref(box->sink);
  mp_envelope_unref(box->env);
  box->sink = NULL;
  box->env = NULL;
  luaL_unref(L, LUA_REGISTRYINDEX, box->held);
  luaL_unref(L, LUA_REGISTRYINDEX, box->done);
  luaL_unref(L, LUA_REGISTRYINDEX, box->self);
  box->self = box->done = box->held = LUA_NOREF;
}

static void drop(mpl_leaving *leaving)
{
  making *box = MP_CONTAINER(leaving, making, leaving);
  if (box->sink)
    forget(box);
}

/* Pushes the message, or nil, why and the name of the error. */
static int push_message(lua_State *L, making *box, int rc)
{
  mp_message *msg = NULL;
  if (rc == 0)
    rc = mp_message_new(&msg, box->env, box->sink, &box->trace, 0);
  if (rc < 0)
    return mpl_fail(L, rc, NULL);
  msg->made = true;
  mpl_push_made(L, msg);
  mp_message_unref(msg); /* the box has its own */
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->self);
  lua_getiuservalue(L, -1, 1);
  lua_setiuservalue(L, -3, 1);
  lua_pop(L, 1);
  return 1;
}

typedef struct ready {
  making *box;
  int rc;
} ready;

static int call_done(lua_State *L)
{
  ready *of = lua_touserdata(L, 2);
  lua_settop(L, 1);
  lua_call(L, push_message(L, of->box, of->rc), 0);
  return 0;
}

static void on_ready(void *ctx, int rc)
{
  making *box = ctx;
  lua_State *L = box->state->L;
  ready of = { box, rc };
  luaL_checkstack(L, 4, "message");
  lua_pushcfunction(L, call_done);
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->done);
  lua_pushlightuserdata(L, &of);
  mpl_call(box->state, 2, 0);
  if (box->sink) /* unless the worker was left meanwhile */
    forget(box);
}

static void path_at(lua_State *L, int index, mp_path *path)
{
  mp_str text = mpl_check_str(L, index);
  unsigned lax = MP_PATH_UTF8 | MP_PATH_LAX_DOTS | MP_PATH_LAX_UNDERSCORE |
                 MP_PATH_LAX_LENGTH; /* it was let in already */
  bool ok = text.len ? mp_mailbox_parse(path, text, lax) == 0
                     : mp_path_parse(path, MP_STR("<>"), MP_PATH_REVERSE) > 0;
  luaL_argcheck(L, ok, index, "an address expected");
}

/* worker:message(octets, sender, recipient, id, received, binary, done) -> message; or nil, why, error; or false: done(message) or done(nil, why, error) comes later. */
static int worker_message(lua_State *L)
{
  mp_mail_params params = { 0 };
  static const mp_rcpt_params no_rcpt;
  mpl_worker *worker = mpl_check_worker(L, 1);
  mp_str octets = mpl_check_str(L, 2);
  mp_path sender, recipient;
  path_at(L, 3, &sender);
  path_at(L, 4, &recipient);
  mp_str id = mpl_check_str(L, 5);
  lua_Number received = luaL_checknumber(L, 6);
  if (lua_toboolean(L, 7)) {
    params.given = MP_PARAM_BODY;
    params.body = MP_BODY_BINARY;
  }
  luaL_checktype(L, 8, LUA_TFUNCTION);
  making *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (making){ .state = mpl_state_of(L), .self = LUA_NOREF, .done = LUA_NOREF, .held = LUA_NOREF };
  mp_list_init(&box->leaving.node);
  luaL_setmetatable(L, MPL_MADE);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  lua_pushvalue(L, 5);
  box->held = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 8);
  box->done = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, -1);
  box->self = luaL_ref(L, LUA_REGISTRYINDEX);
  mpl_leaving_init(&box->leaving, worker, drop);
  box->trace = (mp_trace){ .id = id, .unix_s = received > 0 && received < 1e12 ? (int64_t)received : 0 };
  box->env = mp_envelope_new(ENVELOPE_MOST, NULL, NULL);
  int rc = box->env ? mp_envelope_mail(box->env, &sender, &params) : MP_E_NOMEM;
  if (rc == 0 && !mp_envelope_rcpt(box->env, &recipient, &no_rcpt))
    rc = MP_E_NOMEM;
  if (rc == 0)
    rc = mp_sink_new(&box->sink, &worker->worker->bodies);
  if (rc == 0)
    rc = mp_sink_add(box->sink, octets);
  if (rc >= 0)
    rc = mp_sink_finish(box->sink);
  if (rc > 0) {
    mp_sink_on_ready(box->sink, on_ready, box);
    lua_pushboolean(L, 0);
    return 1;
  }
  int count = push_message(L, box, rc);
  forget(box);
  return count;
}

static int making_gc(lua_State *L)
{
  making *box = luaL_checkudata(L, 1, MPL_MADE);
  if (box->sink || box->env)
    forget(box);
  return 0;
}

int mpl_open_made(lua_State *L)
{
  static const luaL_Reg worker[] = { { "message", worker_message }, { NULL, NULL } };
  static const luaL_Reg none[] = { { NULL, NULL } };
  luaL_getmetatable(L, MPL_WORKER);
  lua_getfield(L, -1, "__index");
  luaL_setfuncs(L, worker, 0);
  lua_pop(L, 2);
  mpl_class(L, MPL_MADE, none, making_gc);
  return 0;
}
