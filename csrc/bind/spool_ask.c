/* bind/spool_ask.c -- what a Lua state asks of a spool: put, update, claim, give back, list, read, check. Each answer comes as a call of a function:
 * with what was asked for, or with nil, why, and the name of the error. */
#include "bind/spool.h"

#include <string.h>

#define DRAFT "moonpost.core.spool_draft"

/* ---- on its way --------------------------------------------------------------------------------------------------- */

static void dispose(mpl_asked *asked)
{
  if (asked->batch)
    mp_spool_batch_free(*asked->batch);
  mp_message_unref(asked->source);
  mp_mem_free(asked->recipients);
  mp_mem_free(asked->changes);
  mp_mem_free(asked->into);
  mp_arena_dispose(&asked->arena);
  mp_mem_free(asked);
}

/* Function and question: pushes what the function is told, and calls it. Protected: tables are made. */
static int tell(lua_State *L)
{
  mpl_asked *asked = lua_touserdata(L, 2);
  int rc = asked->of.request.result;
  lua_settop(L, 1);
  lua_call(L, rc < 0 ? mpl_fail(L, rc, NULL) : asked->push(L, asked), 0);
  return 0;
}

static void back(mp_post *post)
{
  mpl_asked *asked = MP_CONTAINER(post, mpl_asked, post);
  mpl_spool_box *box = asked->box;
  asked->loop->alive--;
  if (box) {
    lua_State *L = box->state->L;
    mp_list_remove(&asked->node);
    luaL_checkstack(L, 6, "spool");
    if (asked->done != LUA_NOREF) {
      lua_pushcfunction(L, tell);
      lua_rawgeti(L, LUA_REGISTRYINDEX, asked->done);
      lua_pushlightuserdata(L, asked);
    }
    luaL_unref(L, LUA_REGISTRYINDEX, asked->done);
    luaL_unref(L, LUA_REGISTRYINDEX, asked->held);
    if (asked->done != LUA_NOREF)
      mpl_call(box->state, 2, 0);
  }
  dispose(asked);
}

/* A thread has done its part: the loop goes on with it. */
void mpl_asked_hand_back(mpl_asked *asked)
{
  mpl_spool_box *box = asked->box;
  pthread_mutex_lock(&box->lock);
  mp_loop_post(box->loop, &asked->post);
  if (--box->open == 0)
    pthread_cond_signal(&box->none);
  pthread_mutex_unlock(&box->lock);
}

static void answered(mp_spool_request *request)
{
  mpl_asked_hand_back(MP_CONTAINER(request, mpl_asked, of.request));
}

/* A thread takes its part. */
void mpl_asked_open(mpl_spool_box *box)
{
  pthread_mutex_lock(&box->lock);
  box->open++;
  pthread_mutex_unlock(&box->lock);
}

void mpl_asked_forget(mpl_asked *asked)
{
  mp_list_remove(&asked->node);
  asked->box = NULL;
}

static int draft_gc(lua_State *L)
{
  mpl_asked **draft = lua_touserdata(L, 1);
  if (*draft)
    dispose(*draft);
  *draft = NULL;
  return 0;
}

/* A draft at the top of the stack: what raises while it is put together leaks nothing. */
mpl_asked **mpl_draft_new(lua_State *L)
{
  enum { TEXTS = 32 << 20 };
  mpl_asked **draft = lua_newuserdatauv(L, sizeof *draft, 0);
  *draft = NULL;
  luaL_setmetatable(L, DRAFT);
  mpl_asked *asked = mp_mem_zalloc(sizeof *asked);
  if (!asked)
    luaL_error(L, "out of memory");
  mp_arena_init(&asked->arena, TEXTS, NULL);
  asked->of.request.done = answered;
  asked->post.run = back;
  asked->done = asked->held = LUA_NOREF;
  mp_list_init(&asked->node);
  *draft = asked;
  return draft;
}

/* Asks. `done`: the index of the function that hears of the answer, 0: nobody; `held`: of a value that the request borrows from, or 0. */
int mpl_ask(lua_State *L, mpl_asked **draft, int done, int held)
{
  mpl_spool_box *box = mpl_check_spool(L);
  if (done)
    luaL_checktype(L, done, LUA_TFUNCTION);
  mpl_asked *asked = *draft;
  if (held) {
    lua_pushvalue(L, held);
    asked->held = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  if (done) {
    lua_pushvalue(L, done);
    asked->done = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  *draft = NULL;
  asked->box = box;
  asked->spool = box->shared->spool;
  asked->loop = box->loop;
  box->loop->alive++;
  mp_list_push(&box->waiting, &asked->node);
  mpl_asked_open(box);
  asked->ask(asked);
  return 0;
}

/* ---- the rest -------------------------------------------------------------------------------------------------------- */

/* How many there were. */
static int push_update(lua_State *L, mpl_asked *asked)
{
  lua_Integer count = 0;
  for (size_t i = 0; i < asked->of.update.count; i++)
    count += asked->changes[i].result == 0;
  lua_pushinteger(L, count);
  return 1;
}

static void ask_update(mpl_asked *asked)
{
  mp_spool_update(asked->spool, &asked->of.update);
}

/* spool:update(changes, done): all of them in one commit. */
static int spool_update(lua_State *L)
{
  mpl_check_spool(L);
  mpl_asked **draft = mpl_draft_new(L), *asked = *draft;
  asked->of.update.count = mpl_spool_read_changes(L, asked, 2);
  asked->of.update.changes = asked->changes;
  asked->ask = ask_update;
  asked->push = push_update;
  return mpl_ask(L, draft, 3, 0);
}

static void ask_claim(mpl_asked *asked)
{
  mp_spool_claim(asked->spool, &asked->of.claim);
}

static int push_claim(lua_State *L, mpl_asked *asked)
{
  mpl_spool_push_batch(L, asked->of.claim.batch, asked->of.claim.lease);
  return 1;
}

/* ... now, most, lease, done from `at` on. */
static int claim(lua_State *L, mpl_asked **draft, int at)
{
  mpl_asked *asked = *draft;
  mp_spool_claim_request *request = &asked->of.claim;
  lua_Integer most = luaL_checkinteger(L, at + 1);
  luaL_argcheck(L, most > 0 && most <= MP_SPOOL_CLAIM_MAX, at + 1, "1 to 1000 expected");
  request->lane = -1;
  request->holder = mpl_check_spool(L)->holder;
  request->now_ms = mpl_spool_ms(L, at);
  request->max = (size_t)most;
  request->lease_ms = mpl_check_ms(L, at + 2);
  luaL_argcheck(L, request->lease_ms > 0, at + 2, "more than nothing expected");
  asked->ask = ask_claim;
  asked->push = push_claim;
  asked->batch = &request->batch;
  return mpl_ask(L, draft, at + 3, 0);
}

/* spool:claim(domain, now, most, lease, done) */
static int spool_claim(lua_State *L)
{
  mpl_check_spool(L);
  mpl_asked **draft = mpl_draft_new(L);
  (*draft)->of.claim.domain = mpl_spool_text(L, *draft, 2);
  return claim(L, draft, 3);
}

/* spool:alarms(now, most, lease, done) */
static int spool_alarms(lua_State *L)
{
  mpl_check_spool(L);
  mpl_asked **draft = mpl_draft_new(L);
  (*draft)->of.claim.alarms = true;
  return claim(L, draft, 2);
}

/* spool:take(id, now, most, lease, done): claims those of one message that nobody has. */
static int spool_take(lua_State *L)
{
  mpl_check_spool(L);
  mpl_asked **draft = mpl_draft_new(L);
  (*draft)->of.claim.id = mpl_spool_text(L, *draft, 2);
  luaL_argcheck(L, (*draft)->of.claim.id.len > 0, 2, "the id of a message expected");
  return claim(L, draft, 3);
}

static void ask_lease(mpl_asked *asked)
{
  mp_spool_lease(asked->spool, &asked->of.lease);
}

/* spool:leave(lease, id, number, seconds): gives one back, to be claimed in so many seconds. Nobody hears of it. */
static int spool_leave(lua_State *L)
{
  mpl_check_spool(L);
  mpl_asked **draft = mpl_draft_new(L), *asked = *draft;
  asked->of.lease.lease = (uint64_t)luaL_checkinteger(L, 2);
  asked->of.lease.id = mpl_spool_text(L, asked, 3);
  asked->of.lease.n = (uint32_t)luaL_checkinteger(L, 4);
  asked->of.lease.lease_ms = mpl_spool_wait_ms(L, 5);
  asked->of.lease.back = true;
  asked->ask = ask_lease;
  return mpl_ask(L, draft, 0, 0);
}

/* spool:keep(lease, seconds): what is still claimed by it stays claimed for so long from now. Nobody hears of it. */
static int spool_keep(lua_State *L)
{
  mpl_check_spool(L);
  mpl_asked **draft = mpl_draft_new(L), *asked = *draft;
  asked->of.lease.lease = (uint64_t)luaL_checkinteger(L, 2);
  asked->of.lease.lease_ms = mpl_check_ms(L, 3);
  asked->ask = ask_lease;
  return mpl_ask(L, draft, 0, 0);
}

static void ask_list(mpl_asked *asked)
{
  mp_spool_list(asked->spool, &asked->of.list);
}

static int push_list(lua_State *L, mpl_asked *asked)
{
  const mp_spool_list_request *list = &asked->of.list;
  if (list->max == 0) {
    lua_pushinteger(L, (lua_Integer)list->total);
    lua_pushinteger(L, (lua_Integer)list->messages);
    return 2;
  }
  mpl_spool_push_batch(L, list->batch, 0);
  lua_pushboolean(L, list->batch->recipients == list->max);
  return 2;
}

/* spool:list(filter, after, after_number, most, done) -> items, whether there may be more; with most 0 how many recipients and messages there are. */
static int spool_list(lua_State *L)
{
  mpl_check_spool(L);
  mpl_asked **draft = mpl_draft_new(L), *asked = *draft;
  mp_spool_list_request *list = &asked->of.list;
  mpl_spool_read_filter(L, asked, 2, &list->filter);
  list->after = mpl_spool_text(L, asked, 3);
  list->after_n = (uint32_t)luaL_checkinteger(L, 4);
  lua_Integer most = luaL_checkinteger(L, 5);
  luaL_argcheck(L, most >= 0 && most <= MP_SPOOL_LIST_MAX, 5, "0 to 1000 expected");
  list->max = (size_t)most;
  asked->ask = ask_list;
  asked->push = push_list;
  asked->batch = &list->batch;
  return mpl_ask(L, draft, 6, 0);
}

static void ask_read(mpl_asked *asked)
{
  mp_spool_read(asked->spool, &asked->of.read);
}

static int push_read(lua_State *L, mpl_asked *asked)
{
  const mp_spool_read_request *read = &asked->of.read;
  lua_pushlstring(L, read->into, read->length);
  lua_pushinteger(L, (lua_Integer)read->head_length);
  lua_pushinteger(L, (lua_Integer)read->total);
  return 3;
}

/* spool:read(id, offset, size, done) -> octets, octets of the head, of all */
static int spool_read(lua_State *L)
{
  mpl_check_spool(L);
  mpl_asked **draft = mpl_draft_new(L), *asked = *draft;
  mp_spool_read_request *read = &asked->of.read;
  read->id = mpl_spool_text(L, asked, 2);
  lua_Integer offset = luaL_checkinteger(L, 3), size = luaL_checkinteger(L, 4);
  luaL_argcheck(L, offset >= 0, 3, "an offset expected");
  luaL_argcheck(L, size > 0 && size <= MP_SPOOL_READ_MAX, 4, "1 to 1048576 expected");
  asked->into = mp_mem_alloc((size_t)size);
  if (!asked->into)
    return luaL_error(L, "out of memory");
  read->offset = (uint64_t)offset;
  read->into = asked->into;
  read->size = (size_t)size;
  asked->ask = ask_read;
  asked->push = push_read;
  return mpl_ask(L, draft, 5, 0);
}

static void ask_check(mpl_asked *asked)
{
  mp_spool_check(asked->spool, &asked->of.check);
}

static int push_check(lua_State *L, mpl_asked *asked)
{
  lua_pushinteger(L, (lua_Integer)asked->of.check.aside);
  return 1;
}

/* spool:check(done) -> how many messages were set aside; looks at everything. */
static int spool_check(lua_State *L)
{
  mpl_check_spool(L);
  mpl_asked **draft = mpl_draft_new(L), *asked = *draft;
  asked->ask = ask_check;
  asked->push = push_check;
  return mpl_ask(L, draft, 2, 0);
}

void mpl_spool_add_questions(lua_State *L)
{
  static const luaL_Reg questions[] = {
    { "put", mpl_spool_put }, { "accept", mpl_spool_accept }, { "update", spool_update },
    { "claim", spool_claim }, { "alarms", spool_alarms },     { "take", spool_take },
    { "leave", spool_leave }, { "keep", spool_keep },         { "list", spool_list },
    { "read", spool_read },   { "check", spool_check },       { NULL, NULL },
  };
  static const luaL_Reg none[] = { { NULL, NULL } };
  luaL_getmetatable(L, MPL_SPOOL);
  lua_getfield(L, -1, "__index");
  luaL_setfuncs(L, questions, 0);
  lua_pop(L, 2);
  mpl_class(L, DRAFT, none, draft_gc);
}
