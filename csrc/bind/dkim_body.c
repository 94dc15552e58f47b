/* bind/dkim_body.c -- bodies on their way into a hash: short ones at once, others in the loop's thread pool. No Lua string is made of them. */
#include "bind/dkim.h"

enum { AT_ONCE = 128 << 10, PIECE = 64 << 10 };

typedef struct feeding { /* on the heap while the pool works */
  mp_work work;
  mpl_delivery base; /* told when the state is gone */
  mpl_taking *box;   /* in the registry meanwhile */
  mpl_taker *taker;
  mp_sink *sink; /* a reference */
  uint64_t at;
  int rc, self; /* registry reference of the box */
} feeding;

static int feed_sink(mpl_taker *taker, mp_sink *sink, uint64_t at, char *scratch, size_t room)
{
  int rc = 0;
  for (;;) {
    mp_str got = mp_sink_read(sink, at, scratch, room, &rc);
    if (rc < 0 || got.len == 0)
      return rc < 0 ? rc : taker->finish(taker);
    rc = taker->take(taker, got);
    if (rc < 0)
      return rc;
    at += got.len;
  }
}

static int feed_string(mpl_taker *taker, mp_str octets)
{
  bool open;
  size_t at = mp_header_end(octets, &open);
  int rc = taker->take(taker, mp_str_sub(octets, at, octets.len));
  return rc < 0 ? rc : taker->finish(taker);
}

static int push_outcome(lua_State *L, mpl_taking *box, int rc)
{
  if (rc < 0)
    return mpl_fail(L, rc, NULL);
  box->complete = true;
  lua_pushboolean(L, 1);
  return 1;
}

static void in_pool(mp_work *work)
{
  feeding *f = MP_CONTAINER(work, feeding, work);
  char *scratch = mp_mem_alloc(PIECE);
  f->rc = scratch ? feed_sink(f->taker, f->sink, f->at, scratch, PIECE) : MP_E_NOMEM;
  mp_mem_free(scratch);
}

static void feeding_free(feeding *f)
{
  mp_sink_unref(f->sink);
  if (f->taker)
    f->taker->free(f->taker);
  mp_mem_free(f);
}

typedef struct told {
  mpl_taking *box;
  int rc;
} told;

static int tell(lua_State *L)
{
  told *t = lua_touserdata(L, 2);
  lua_settop(L, 1);
  lua_call(L, push_outcome(L, t->box, t->rc), 0);
  return 0;
}

static void fed(mp_work *work)
{
  feeding *f = MP_CONTAINER(work, feeding, work);
  mpl_state *state = f->base.state;
  mp_list_remove(&f->base.node);
  if (!state) {
    feeding_free(f);
    return;
  }
  lua_State *L = state->L;
  told t = { f->box, f->rc };
  if (f->box->closed) {
    t.rc = MP_E_CANCELLED;
  } else {
    f->box->taker = f->taker;
    f->taker = NULL;
  }
  bool room = lua_checkstack(L, 4);
  if (room) {
    lua_pushcfunction(L, tell);
    lua_rawgeti(L, LUA_REGISTRYINDEX, f->base.done);
    lua_pushlightuserdata(L, &t);
  }
  int self = f->self;
  luaL_unref(L, LUA_REGISTRYINDEX, f->base.done);
  feeding_free(f);
  if (room)
    mpl_call(state, 2, 0);
  luaL_unref(L, LUA_REGISTRYINDEX, self);
}

/* Into the pool; the callback is at index 4. */
static int feed_later(lua_State *L, mpl_taking *box, mp_sink *sink, uint64_t at)
{
  mp_loop *loop = &mpl_check_worker(L, 3)->worker->loop;
  luaL_checktype(L, 4, LUA_TFUNCTION);
  lua_pushvalue(L, 4);
  int done = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, 1);
  int self = luaL_ref(L, LUA_REGISTRYINDEX); /* from here on nothing raises */
  feeding *f = mp_mem_alloc(sizeof *f);
  int rc = f ? 0 : MP_E_NOMEM;
  if (f) {
    *f = (feeding){ .work = { .work = in_pool, .done = fed },
                    .base = { .state = mpl_state_of(L), .loop = loop, .done = done },
                    .box = box,
                    .taker = box->taker,
                    .sink = mp_sink_ref(sink),
                    .at = at,
                    .self = self };
    mp_list_push(&f->base.state->deliveries, &f->base.node);
    rc = mp_loop_work(loop, &f->work);
  }
  if (rc == 0) {
    box->taker = NULL; /* on a virtual loop it has been filled by now, and comes back on the next turn */
    lua_pushboolean(L, 0);
    return 1;
  }
  luaL_unref(L, LUA_REGISTRYINDEX, done);
  luaL_unref(L, LUA_REGISTRYINDEX, self);
  if (f) {
    mp_list_remove(&f->base.node);
    f->taker = NULL;
    feeding_free(f);
  }
  return mpl_fail(L, rc, NULL);
}

int mpl_taking_feed(lua_State *L, mpl_taking *box)
{
  luaL_argcheck(L, box->taker && !box->complete, 1, "it has had its body, or waits for it");
  if (lua_type(L, 2) == LUA_TSTRING)
    return push_outcome(L, box, feed_string(box->taker, mpl_check_str(L, 2)));
  mp_message *msg = mpl_check_message(L, 2);
  mp_sink *sink = box->taker->came ? mp_message_came(msg) : msg->sink;
  int rc = 0;
  uint64_t at = sink == msg->sink ? mp_message_body_at(msg) : mp_sink_header(sink, &rc).len;
  if (rc < 0)
    return push_outcome(L, box, rc);
  /* Who asks once will ask again: large bodies to come are hashed while they come. */
  box->taker->wants(box->taker, &mp_sink_store(sink)->wants);
  if (box->taker->given(box->taker, sink))
    return push_outcome(L, box, 0);
  if (mp_sink_size(sink) - at > AT_ONCE || mp_sink_in_file(sink))
    return feed_later(L, box, sink, at);
  char scratch[1];
  return push_outcome(L, box, feed_sink(box->taker, sink, at, scratch, 0));
}

mp_str mpl_header_of(lua_State *L, int index, bool edited, mp_buf *room, int *rc)
{
  *rc = 0;
  if (lua_type(L, index) == LUA_TSTRING) {
    bool open;
    mp_str octets = mpl_check_str(L, index);
    return mp_str_sub(octets, 0, mp_header_end(octets, &open));
  }
  mp_message *msg = mpl_check_message(L, index);
  if (!edited || !msg->header)
    return mp_sink_header(mp_message_came(msg), rc);
  *rc = mp_header_write(msg->header, room);
  return mp_buf_view(room);
}
