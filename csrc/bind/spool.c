/* bind/spool.c -- spools, each opened once in a process and shared by its Lua states, and what they ask of them. */
#include "spool/spool.h"
#include "bind/process.h"

#include <math.h>

#define MPL_SPOOL "moonpost.core.spool"

/* An open spool of the process. Who wants to hear of changes is told by a note on his loop. */
struct mpl_spool {
  struct mpl_spool *next;
  mp_spool *spool;
  unsigned users; /* under the process's lock */
  pthread_mutex_t lock;
  mp_list listeners;
  char *folder;
};

typedef struct listener { /* outlives its box as long as a note is on its way */
  mp_list node;
  mp_post post;
  mp_loop *loop;
  bool posted;              /* under the spool's lock */
  struct spool_box *box;    /* NULL: nobody listens any more. The loop's thread alone */
  struct mpl_spool *shared; /* for its lock */
} listener;

typedef struct spool_box { /* box; kept in the registry while something is asked */
  struct mpl_spool *shared;
  mpl_process *process;
  mpl_state *state;
  mp_loop *loop;
  listener *heard;
  int changed; /* registry reference of a function */
  /* Asked and not yet answered by the spool's threads: the loop must outlive these. */
  pthread_mutex_t lock;
  pthread_cond_t none;
  unsigned open;
  mp_list waiting; /* of asked: the loop's thread alone */
} spool_box;

typedef struct asked {
  mp_spool_request req;
  mp_post post;
  mp_list node;
  spool_box *box;   /* NULL: the state is closing */
  mp_loop *loop;    /* alive as long as it is asked */
  int done, octets; /* registry references */
} asked;

/* ---- of the process ---------------------------------------------------------------------------------------------- */

static void tell_listeners(void *ctx)
{
  struct mpl_spool *shared = ctx;
  pthread_mutex_lock(&shared->lock);
  for (mp_list *node = shared->listeners.next; node != &shared->listeners; node = node->next) {
    listener *one = MP_CONTAINER(node, listener, node);
    if (!one->posted) {
      one->posted = true;
      mp_loop_post(one->loop, &one->post);
    }
  }
  pthread_mutex_unlock(&shared->lock);
}

static void spool_free(struct mpl_spool *shared)
{
  mp_spool_close(shared->spool);
  pthread_mutex_destroy(&shared->lock);
  mp_mem_free(shared->folder);
  mp_mem_free(shared);
}

/* Opened by the first who asks for the folder. */
static int use(mpl_process *process, const char *folder, struct mpl_spool **out, char why[MP_SPOOL_WHY])
{
  int rc = 0;
  pthread_mutex_lock(&process->lock);
  struct mpl_spool *shared = process->spools;
  while (shared && strcmp(shared->folder, folder) != 0)
    shared = shared->next;
  if (!shared) {
    shared = mp_mem_zalloc(sizeof *shared);
    rc = shared && (shared->folder = mp_mem_dup(folder, strlen(folder))) ? 0 : MP_E_NOMEM;
    if (shared) {
      pthread_mutex_init(&shared->lock, NULL);
      mp_list_init(&shared->listeners);
    }
    if (rc == 0)
      rc = mp_spool_open(&shared->spool, folder, tell_listeners, shared, why);
    if (rc < 0 && shared)
      spool_free(shared);
    if (rc == 0) {
      shared->next = process->spools;
      process->spools = shared;
    }
  }
  if (rc == 0)
    shared->users++;
  pthread_mutex_unlock(&process->lock);
  *out = shared;
  return rc;
}

static void leave(mpl_process *process, struct mpl_spool *shared)
{
  pthread_mutex_lock(&process->lock);
  bool last = --shared->users == 0;
  if (last) {
    struct mpl_spool **at = &process->spools;
    while (*at != shared)
      at = &(*at)->next;
    *at = shared->next;
    spool_free(shared); /* under the lock: who opens it next finds it closed */
  }
  pthread_mutex_unlock(&process->lock);
}

/* ---- of a state -------------------------------------------------------------------------------------------------- */

static spool_box *check(lua_State *L)
{
  spool_box *box = luaL_checkudata(L, 1, MPL_SPOOL);
  luaL_argcheck(L, box->shared, 1, "spool is closed");
  return box;
}

static void heard(mp_post *post)
{
  listener *one = MP_CONTAINER(post, listener, post);
  pthread_mutex_lock(&one->shared->lock);
  one->posted = false;
  pthread_mutex_unlock(&one->shared->lock);
  spool_box *box = one->box;
  if (box->changed == LUA_NOREF)
    return;
  lua_State *L = box->state->L;
  luaL_checkstack(L, 4, "spool");
  lua_rawgeti(L, LUA_REGISTRYINDEX, box->changed);
  mpl_call(box->state, 0, 0);
}

static void heard_by_nobody(mp_post *post)
{
  mp_mem_free(MP_CONTAINER(post, listener, post));
}

/* What was claimed for somebody who is gone is nobody's. */
static void unclaim(spool_box *box, const mp_spool_request *req)
{
  mp_spool *spool = box->shared->spool;
  if (req->verb == MP_SPOOL_PUT && req->claimed && req->rc == 0)
    mp_spool_release(spool, req->deliveries, req->count, 0);
  if (req->verb == MP_SPOOL_CLAIM || req->verb == MP_SPOOL_ALARMS || req->verb == MP_SPOOL_TAKE)
    for (size_t i = 0; i < req->found_count; i++)
      mp_spool_release(spool, &req->found[i].delivery, 1, 0);
}

static void close_box(spool_box *box)
{
  if (!box->shared)
    return;
  /* What the spool's threads still hold comes back as notes on the loop, which find that nobody waits. */
  pthread_mutex_lock(&box->lock);
  while (box->open)
    pthread_cond_wait(&box->none, &box->lock);
  pthread_mutex_unlock(&box->lock);
  while (!mp_list_empty(&box->waiting)) {
    asked *one = MP_CONTAINER(box->waiting.next, asked, node);
    mp_list_remove(&one->node);
    one->box = NULL;
    unclaim(box, &one->req);
  }
  pthread_mutex_lock(&box->shared->lock);
  mp_list_remove(&box->heard->node);
  bool on_its_way = box->heard->posted;
  if (on_its_way)
    box->heard->post.run = heard_by_nobody;
  pthread_mutex_unlock(&box->shared->lock);
  if (!on_its_way)
    mp_mem_free(box->heard);
  luaL_unref(box->state->L, LUA_REGISTRYINDEX, box->changed);
  leave(box->process, box->shared);
  mpl_process_unref(box->process);
  pthread_cond_destroy(&box->none);
  pthread_mutex_destroy(&box->lock);
  box->shared = NULL;
}

static int spool_gc(lua_State *L)
{
  close_box(luaL_checkudata(L, 1, MPL_SPOOL));
  return 0;
}

/* core.spool(worker, folder) -> spool, or nil, why, name of the error. */
static int core_spool(lua_State *L)
{
  mpl_worker *worker = mpl_check_worker(L, 1);
  const char *folder = luaL_checkstring(L, 2);
  spool_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (spool_box){ .state = mpl_state_of(L), .loop = &worker->worker->loop, .changed = LUA_NOREF };
  luaL_setmetatable(L, MPL_SPOOL);
  mp_list_init(&box->waiting);
  listener *one = mp_mem_zalloc(sizeof *one);
  if (!one)
    return luaL_error(L, "out of memory");
  char why[MP_SPOOL_WHY];
  mpl_process *process = mpl_process_of(L);
  struct mpl_spool *shared;
  int rc = use(process, folder, &shared, why);
  if (rc < 0) {
    mp_mem_free(one);
    return mpl_fail(L, rc, why);
  }
  pthread_mutex_init(&box->lock, NULL);
  pthread_cond_init(&box->none, NULL);
  box->process = mpl_process_ref(process);
  box->heard = one;
  *one = (listener){ .post.run = heard, .loop = box->loop, .box = box, .shared = shared };
  pthread_mutex_lock(&shared->lock);
  mp_list_push(&shared->listeners, &one->node);
  pthread_mutex_unlock(&shared->lock);
  box->shared = shared;
  return 1;
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

static void dispose(asked *one)
{
  mp_mem_free(one->req.deliveries);
  mp_spool_request_dispose(&one->req);
  mp_mem_free(one);
}

static void set_str(lua_State *L, const char *name, mp_str s)
{
  mpl_push_str(L, s);
  lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, double n)
{
  lua_pushnumber(L, n);
  lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, int64_t n)
{
  lua_pushinteger(L, (lua_Integer)n);
  lua_setfield(L, -2, name);
}

static void push_found(lua_State *L, const mp_spool_found *found)
{
  const mp_spool_delivery *d = &found->delivery;
  const mp_spool_entry *e = &found->entry;
  lua_createtable(L, 0, 24);
  set_integer(L, "handle", d->handle);
  set_integer(L, "number", d->number);
  set_str(L, "address", d->address);
  set_str(L, "domain", d->domain);
  set_str(L, "params", d->params);
  set_str(L, "last", d->last);
  set_number(L, "due", d->due);
  set_number(L, "expires", d->expires);
  set_number(L, "alarm", d->alarm);
  set_integer(L, "attempts", d->attempts);
  set_integer(L, "warned", d->warned);
  lua_pushboolean(L, d->held);
  lua_setfield(L, -2, "held");
  set_str(L, "id", e->id);
  set_str(L, "sender", e->sender);
  set_str(L, "tenant", e->tenant);
  set_str(L, "user", e->user);
  set_str(L, "message_params", e->params);
  set_str(L, "meta", e->meta);
  set_number(L, "received", e->received);
  set_integer(L, "size", (int64_t)e->size);
  set_integer(L, "priority", e->priority);
  lua_pushboolean(L, e->report);
  lua_setfield(L, -2, "report");
}

/* Function and request: pushes what the function is told, and calls it. Protected: tables are made. */
static int tell(lua_State *L)
{
  asked *one = lua_touserdata(L, 2);
  mp_spool_request *req = &one->req;
  lua_settop(L, 1);
  if (req->rc < 0) {
    mpl_fail(L, req->rc, req->why[0] ? req->why : NULL);
  } else if (req->verb == MP_SPOOL_READ) {
    mpl_push_str(L, mp_buf_view(&req->out));
  } else if (req->verb == MP_SPOOL_PUT) {
    lua_createtable(L, (int)req->count, 0);
    for (size_t i = 0; i < req->count; i++) {
      lua_pushinteger(L, (lua_Integer)req->deliveries[i].handle);
      lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
  } else {
    lua_createtable(L, (int)req->found_count, 0);
    for (size_t i = 0; i < req->found_count; i++) {
      push_found(L, &req->found[i]);
      lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
  }
  lua_call(L, lua_gettop(L) - 1, 0);
  return 0;
}

static void back(mp_post *post)
{
  asked *one = MP_CONTAINER(post, asked, post);
  spool_box *box = one->box;
  one->loop->alive--;
  if (box) {
    lua_State *L = box->state->L;
    mp_list_remove(&one->node);
    luaL_checkstack(L, 6, "spool");
    lua_pushcfunction(L, tell);
    lua_rawgeti(L, LUA_REGISTRYINDEX, one->done);
    lua_pushlightuserdata(L, one);
    luaL_unref(L, LUA_REGISTRYINDEX, one->done);
    luaL_unref(L, LUA_REGISTRYINDEX, one->octets);
    mpl_call(box->state, 2, 0);
  }
  dispose(one);
}

/* On a thread of the spool's. */
static void answered(mp_spool_request *req)
{
  asked *one = MP_CONTAINER(req, asked, req);
  spool_box *box = one->box;
  pthread_mutex_lock(&box->lock);
  mp_loop_post(box->loop, &one->post);
  if (--box->open == 0)
    pthread_cond_signal(&box->none);
  pthread_mutex_unlock(&box->lock);
}

/* What is asked is put together in a box, so that a value of the wrong kind leaks nothing. */
static int draft_gc(lua_State *L)
{
  asked **draft = lua_touserdata(L, 1);
  if (*draft)
    dispose(*draft);
  *draft = NULL;
  return 0;
}

static asked **begin(lua_State *L, mp_spool_verb verb)
{
  asked **draft = lua_newuserdatauv(L, sizeof *draft, 0);
  *draft = NULL;
  luaL_setmetatable(L, "moonpost.core.spool_draft");
  asked *one = mp_mem_zalloc(sizeof *one);
  if (!one)
    luaL_error(L, "out of memory");
  mp_spool_request_init(&one->req, verb);
  one->req.done = answered;
  one->post.run = back;
  one->done = one->octets = LUA_NOREF;
  mp_list_init(&one->node);
  *draft = one;
  return draft;
}

/* Asks; the function that hears of the answer stands at `done`. */
static int ask(lua_State *L, asked **draft, int done, int octets)
{
  spool_box *box = check(L);
  luaL_checktype(L, done, LUA_TFUNCTION);
  asked *one = *draft;
  if (octets) {
    lua_pushvalue(L, octets);
    one->octets = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  lua_pushvalue(L, done);
  one->done = luaL_ref(L, LUA_REGISTRYINDEX);
  *draft = NULL;
  one->box = box;
  one->loop = box->loop;
  box->loop->alive++;
  mp_list_push(&box->waiting, &one->node);
  pthread_mutex_lock(&box->lock);
  box->open++;
  pthread_mutex_unlock(&box->lock);
  mp_spool_ask(box->shared->spool, &one->req);
  lua_pushboolean(L, 1);
  return 1;
}

static mp_str keep(lua_State *L, asked *one, int index)
{
  bool ok = true;
  mp_str s = mp_arena_str(&one->req.arena, mpl_check_str(L, index), &ok);
  if (!ok)
    luaL_error(L, "out of memory");
  return s;
}

/* A field of the table at the top; "" where there is none. */
static mp_str str_at(lua_State *L, asked *one, const char *name)
{
  mp_str s = MP_STR("");
  if (lua_getfield(L, -1, name) != LUA_TNIL)
    s = keep(L, one, -1);
  lua_pop(L, 1);
  return s;
}

static double number_at(lua_State *L, const char *name)
{
  lua_getfield(L, -1, name);
  int is;
  double n = lua_tonumberx(L, -1, &is);
  if (!is || isnan(n))
    luaL_error(L, "%s: a number expected", name);
  lua_pop(L, 1);
  return n;
}

static int64_t integer_at(lua_State *L, const char *name)
{
  lua_getfield(L, -1, name);
  int is;
  lua_Integer n = lua_tointegerx(L, -1, &is);
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

/* The list of deliveries at `index`; `read` fills in one from the table on top. */
static void deliveries(lua_State *L, asked *one, int index,
                       void (*read)(lua_State *L, asked *one, mp_spool_delivery *into))
{
  luaL_checktype(L, index, LUA_TTABLE);
  size_t count = (size_t)lua_rawlen(L, index);
  one->req.deliveries = mp_mem_zalloc((count ? count : 1) * sizeof *one->req.deliveries);
  if (!one->req.deliveries)
    luaL_error(L, "out of memory");
  one->req.count = count;
  for (size_t i = 0; i < count; i++) {
    lua_rawgeti(L, index, (lua_Integer)i + 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    read(L, one, &one->req.deliveries[i]);
    lua_pop(L, 1);
  }
}

static void read_new(lua_State *L, asked *one, mp_spool_delivery *into)
{
  into->number = (uint32_t)integer_at(L, "number");
  into->address = str_at(L, one, "address");
  into->domain = str_at(L, one, "domain");
  into->params = str_at(L, one, "params");
  into->due = number_at(L, "due");
  into->expires = number_at(L, "expires");
  into->alarm = number_at(L, "alarm");
  into->held = flag_at(L, "held");
}

static void read_handle(lua_State *L, asked *one, mp_spool_delivery *into)
{
  into->handle = integer_at(L, "handle");
  into->domain = str_at(L, one, "domain");
}

static void read_known(lua_State *L, asked *one, mp_spool_delivery *into)
{
  read_handle(L, one, into);
  into->address = str_at(L, one, "address");
  into->last = str_at(L, one, "last");
  into->due = number_at(L, "due");
  into->expires = number_at(L, "expires");
  into->alarm = number_at(L, "alarm");
  into->attempts = (uint32_t)integer_at(L, "attempts");
  into->warned = (uint32_t)integer_at(L, "warned");
  into->held = flag_at(L, "held");
}

/* spool:put(entry, octets, deliveries, claimed, done) */
static int spool_put(lua_State *L)
{
  check(L);
  asked **draft = begin(L, MP_SPOOL_PUT), *one = *draft;
  mp_spool_entry *entry = &one->req.entry;
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_pushvalue(L, 2);
  entry->id = str_at(L, one, "id");
  luaL_argcheck(L, entry->id.len > 0 && entry->id.len <= MP_SPOOL_ID_MOST, 2, "id: 1 to 64 octets expected");
  entry->sender = str_at(L, one, "sender");
  entry->tenant = str_at(L, one, "tenant");
  entry->user = str_at(L, one, "user");
  entry->params = str_at(L, one, "params");
  entry->meta = str_at(L, one, "meta");
  entry->received = number_at(L, "received");
  entry->priority = (int)integer_at(L, "priority");
  entry->report = flag_at(L, "report");
  lua_pop(L, 1);
  one->req.octets = mpl_check_str(L, 3); /* the string stays while it is asked */
  entry->size = one->req.octets.len;
  deliveries(L, one, 4, read_new);
  luaL_argcheck(L, one->req.count > 0, 4, "at least one expected");
  one->req.claimed = lua_toboolean(L, 5);
  return ask(L, draft, 6, 3);
}

static int spool_finish(lua_State *L)
{
  check(L);
  asked **draft = begin(L, MP_SPOOL_FINISH);
  deliveries(L, *draft, 2, read_handle);
  return ask(L, draft, 3, 0);
}

static int spool_reschedule(lua_State *L)
{
  check(L);
  asked **draft = begin(L, MP_SPOOL_RESCHEDULE);
  deliveries(L, *draft, 2, read_known);
  return ask(L, draft, 3, 0);
}

static size_t check_most(lua_State *L, int index)
{
  lua_Integer most = luaL_checkinteger(L, index);
  luaL_argcheck(L, most > 0 && most <= 100000, index, "1 to 100000 expected");
  return (size_t)most;
}

/* spool:claim(domain, now, most, done) */
static int spool_claim(lua_State *L)
{
  check(L);
  asked **draft = begin(L, MP_SPOOL_CLAIM), *one = *draft;
  one->req.domain = keep(L, one, 2);
  one->req.now = luaL_checknumber(L, 3);
  one->req.most = check_most(L, 4);
  return ask(L, draft, 5, 0);
}

/* spool:alarms(now, most, done) */
static int spool_alarms(lua_State *L)
{
  check(L);
  asked **draft = begin(L, MP_SPOOL_ALARMS), *one = *draft;
  one->req.now = luaL_checknumber(L, 2);
  one->req.most = check_most(L, 3);
  return ask(L, draft, 4, 0);
}

/* spool:list(after, most, done) */
static int spool_list(lua_State *L)
{
  check(L);
  asked **draft = begin(L, MP_SPOOL_LIST), *one = *draft;
  one->req.id = keep(L, one, 2);
  one->req.most = check_most(L, 3);
  return ask(L, draft, 4, 0);
}

static int by_id(lua_State *L, mp_spool_verb verb)
{
  check(L);
  asked **draft = begin(L, verb);
  (*draft)->req.id = keep(L, *draft, 2);
  return ask(L, draft, 3, 0);
}

static int spool_show(lua_State *L)
{
  return by_id(L, MP_SPOOL_SHOW);
}

/* spool:take(id, done) */
static int spool_take(lua_State *L)
{
  return by_id(L, MP_SPOOL_TAKE);
}

static int spool_read(lua_State *L)
{
  return by_id(L, MP_SPOOL_READ);
}

/* ---- what is in memory ------------------------------------------------------------------------------------------- */

static int spool_due(lua_State *L)
{
  enum { DUE_MOST = 256 };
  spool_box *box = check(L);
  double now = luaL_checknumber(L, 2);
  size_t most = check_most(L, 3);
  mp_str names[DUE_MOST];
  mp_arena arena;
  mp_arena_init(&arena, DUE_MOST * 512, NULL);
  size_t count = mp_spool_due(box->shared->spool, now, most < DUE_MOST ? most : DUE_MOST, &arena, names);
  lua_createtable(L, (int)count, 0);
  for (size_t i = 0; i < count; i++) {
    mpl_push_str(L, names[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  mp_arena_dispose(&arena);
  return 1;
}

static int spool_next(lua_State *L)
{
  double next = mp_spool_next(check(L)->shared->spool);
  if (isinf(next))
    lua_pushnil(L);
  else
    lua_pushnumber(L, next);
  return 1;
}

static int spool_sleep(lua_State *L)
{
  spool_box *box = check(L);
  mp_spool_sleep(box->shared->spool, mpl_check_str(L, 2), luaL_checknumber(L, 3));
  return 0;
}

/* spool:release(handle, domain, until) */
static int spool_release(lua_State *L)
{
  spool_box *box = check(L);
  mp_spool_delivery one = { .handle = luaL_checkinteger(L, 2), .domain = mpl_check_str(L, 3) };
  mp_spool_release(box->shared->spool, &one, 1, luaL_optnumber(L, 4, 0));
  return 0;
}

static int spool_counts(lua_State *L)
{
  mp_spool_counts counts;
  mp_spool_count(check(L)->shared->spool, &counts);
  lua_createtable(L, 0, 3);
  set_integer(L, "deliveries", (int64_t)counts.deliveries);
  set_integer(L, "claimed", (int64_t)counts.claimed);
  set_integer(L, "domains", (int64_t)counts.domains);
  return 1;
}

/* spool:changed(fn): called when something may be due earlier than it was. */
static int spool_changed(lua_State *L)
{
  spool_box *box = check(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  luaL_unref(L, LUA_REGISTRYINDEX, box->changed);
  box->changed = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

int mpl_open_spool(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "put", spool_put },
    { "finish", spool_finish },
    { "reschedule", spool_reschedule },
    { "claim", spool_claim },
    { "alarms", spool_alarms },
    { "list", spool_list },
    { "show", spool_show },
    { "take", spool_take },
    { "read", spool_read },
    { "due", spool_due },
    { "next", spool_next },
    { "sleep", spool_sleep },
    { "release", spool_release },
    { "counts", spool_counts },
    { "changed", spool_changed },
    { "close", spool_gc },
    { NULL, NULL },
  };
  static const luaL_Reg none[] = { { NULL, NULL } };
  mpl_class(L, MPL_SPOOL, methods, spool_gc);
  mpl_class(L, "moonpost.core.spool_draft", none, draft_gc);
  lua_pushcfunction(L, core_spool);
  lua_setfield(L, -2, "spool");
  return 0;
}
