/* bind/rewrite.c -- another body for a received message: put into a sink of its own piece by piece, and in place once it is whole. What fails on the way leaves
 * the message as it was. */
#include "bind/client.h"
#include "bind/mpl.h"

#define MPL_REWRITE "moonpost.core.rewrite"

typedef struct rewrite { /* box; uservalue 1: the message's. In the registry while it waits for the disk */
  mpl_leaving leaving;
  mpl_state *state;
  mp_message *msg; /* a reference; NULL: over */
  mp_sink *sink;
  size_t head_len;
  bool finishing;
  int self, done; /* registry references */
} rewrite;

static void calm(rewrite *box)
{
  lua_State *L = box->state->L;
  luaL_unref(L, LUA_REGISTRYINDEX, box->done);
  luaL_unref(L, LUA_REGISTRYINDEX, box->self);
  box->done = box->self = LUA_NOREF;
}

static void forget(rewrite *box)
{
  mp_list_remove(&box->leaving.node);
  if (box->sink)
    mp_sink_on_ready(box->sink, NULL, NULL);
  mp_sink_unref(box->sink);
  mp_message_unref(box->msg);
  box->sink = NULL;
  box->msg = NULL;
  calm(box);
}

static void drop(mpl_leaving *leaving)
{
  rewrite *box = MP_CONTAINER(leaving, rewrite, leaving);
  if (box->msg)
    forget(box);
}

/* What a step came to: true; nil, why, error. */
static int push_result(lua_State *L, rewrite *box, int rc)
{
  if (rc == 0 && box->finishing)
    rc = mp_message_rewrite(box->msg, box->sink, box->head_len);
  if (rc < 0 || box->finishing)
    forget(box);
  if (rc < 0)
    return mpl_fail(L, rc, NULL);
  lua_pushboolean(L, 1);
  return 1;
}

typedef struct ready {
  rewrite *box;
  int rc;
} ready;

static int call_done(lua_State *L)
{
  ready *of = lua_touserdata(L, 2);
  lua_settop(L, 1);
  lua_call(L, push_result(L, of->box, of->rc), 0);
  return 0;
}

static void on_ready(void *ctx, int rc)
{
  rewrite *box = ctx;
  lua_State *L = box->state->L;
  ready of = { box, rc };
  luaL_checkstack(L, 4, "rewrite");
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->self); /* alive until the end of this function */
  lua_pushcfunction(L, call_done);
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->done);
  lua_pushlightuserdata(L, &of);
  calm(box);
  mpl_call(box->state, 2, 0);
  lua_pop(L, 1);
}

static rewrite *check(lua_State *L)
{
  rewrite *box = luaL_checkudata(L, 1, MPL_REWRITE);
  luaL_argcheck(L, box->msg, 1, "it is over");
  luaL_argcheck(L, box->done == LUA_NOREF, 1, "it waits for the disk");
  return box;
}

/* `rc` of a sink's step: 1 means that the function at `index` is told later. */
static int stepped(lua_State *L, rewrite *box, int rc, int index)
{
  if (rc <= 0)
    return push_result(L, box, rc);
  lua_pushvalue(L, index);
  box->done = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 1);
  box->self = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushboolean(L, 0);
  return 1;
}

/* rewrite:add(octets, done) -> true; nil, why, error; or false: done(...) comes later with one of these. */
static int rewrite_add(lua_State *L)
{
  rewrite *box = check(L);
  mp_str octets = mpl_check_str(L, 2);
  luaL_checktype(L, 3, LUA_TFUNCTION);
  return stepped(L, box, mp_sink_add(box->sink, octets), 3);
}

/* rewrite:finish(done): the same; then the message has the new body. */
static int rewrite_finish(lua_State *L)
{
  rewrite *box = check(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  box->finishing = true;
  return stepped(L, box, mp_sink_finish(box->sink), 2);
}

static int rewrite_gc(lua_State *L)
{
  rewrite *box = luaL_checkudata(L, 1, MPL_REWRITE);
  if (box->msg)
    forget(box);
  return 0;
}

/* message:rewrite(worker) -> rewrite; nil, why, error. The header is kept, octet for octet. */
static int message_rewrite(lua_State *L)
{
  mp_message *msg = mpl_check_message(L, 1);
  mpl_worker *worker = mpl_check_worker(L, 2);
  rewrite *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (rewrite){ .state = mpl_state_of(L), .self = LUA_NOREF, .done = LUA_NOREF };
  mp_list_init(&box->leaving.node);
  luaL_setmetatable(L, MPL_REWRITE);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  mpl_leaving_init(&box->leaving, worker, drop);
  box->msg = mp_message_ref(msg);
  int rc = mp_message_rewriting(msg, &box->sink, &box->head_len);
  if (rc < 0) {
    forget(box);
    return mpl_fail(L, rc, NULL);
  }
  mp_sink_on_ready(box->sink, on_ready, box);
  return 1;
}

/* message:header_size() -> how many octets stand in front of the body, edits and the empty line among them; nil, why, error */
static int message_header_size(lua_State *L)
{
  mp_message *msg = mpl_check_message(L, 1);
  int rc = 0;
  size_t size = (size_t)mp_message_body_at(msg);
  if (msg->header && mp_header_edited(msg->header)) {
    mp_buf *top = mpl_push_buf(L, SIZE_MAX / 2);
    rc = mp_message_head(msg, MP_STR_NULL, false, top);
    size = top->len;
    mp_buf_dispose(top);
  }
  if (rc < 0)
    return mpl_fail(L, rc, NULL);
  lua_pushinteger(L, (lua_Integer)size);
  return 1;
}

int mpl_open_rewrite(lua_State *L)
{
  static const luaL_Reg message[] = { { "rewrite", message_rewrite },
                                      { "header_size", message_header_size },
                                      { NULL, NULL } };
  static const luaL_Reg methods[] = {
    { "add", rewrite_add }, { "finish", rewrite_finish }, { "close", rewrite_gc }, { NULL, NULL }
  };
  luaL_getmetatable(L, MPL_MESSAGE);
  lua_getfield(L, -1, "__index");
  luaL_setfuncs(L, message, 0);
  lua_pop(L, 2);
  mpl_class(L, MPL_REWRITE, methods, rewrite_gc);
  return 0;
}
