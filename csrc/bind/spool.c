/* bind/spool.c -- spools, each opened once in a process and shared by its Lua states; and what a state may ask of the memory of one. */
#include "bind/spool.h"

#include <string.h>

/* Outlives its box as long as a note is on its way, or somebody is being told. */
struct mpl_spool_listener {
  mp_list node;
  mp_post post;
  mp_loop *loop;
  bool posted;        /* under the spool's lock */
  bool telling;       /* the loop's thread alone, as the box */
  mpl_spool_box *box; /* NULL: closed, and perhaps collected */
  mpl_spool *shared;  /* for its lock */
};

/* ---- of the process ---------------------------------------------------------------------------------------------- */

static void tell_listeners(mpl_spool *shared)
{
  for (mp_list *node = shared->listeners.next; node != &shared->listeners; node = node->next) {
    mpl_spool_listener *one = MP_CONTAINER(node, mpl_spool_listener, node);
    if (!one->posted) {
      one->posted = true;
      mp_loop_post(one->loop, &one->post);
    }
  }
}

static void on_wake(void *ctx)
{
  mpl_spool *shared = ctx;
  pthread_mutex_lock(&shared->lock);
  tell_listeners(shared);
  pthread_mutex_unlock(&shared->lock);
}

static void on_log(void *ctx, const char *line)
{
  mpl_spool *shared = ctx;
  pthread_mutex_lock(&shared->lock);
  char *copy = shared->line_count < MPL_SPOOL_LINES ? mp_mem_dup(line, strlen(line)) : NULL;
  if (copy)
    shared->lines[shared->line_count++] = copy;
  tell_listeners(shared);
  pthread_mutex_unlock(&shared->lock);
}

static void spool_free(mpl_spool *shared)
{
  mp_spool_close(shared->spool);
  for (unsigned i = 0; i < shared->line_count; i++)
    mp_mem_free(shared->lines[i]);
  pthread_mutex_destroy(&shared->lock);
  mp_mem_free(shared->folder);
  mp_mem_free(shared);
}

enum { HOLDERS = 32767 };

/* Opened by the first who asks for the folder. */
static int use(mpl_process *process, const char *folder, unsigned owners, uint16_t *holder, mpl_spool **out,
               char *why, size_t why_size)
{
  int rc = 0;
  pthread_mutex_lock(&process->lock);
  mpl_spool *shared = process->spools;
  while (shared && strcmp(shared->folder, folder) != 0)
    shared = shared->next;
  if (!shared) {
    shared = mp_mem_zalloc(sizeof *shared);
    rc = shared && (shared->folder = mp_mem_dup(folder, strlen(folder))) ? 0 : MP_E_NOMEM;
    snprintf(why, why_size, "%s", rc < 0 ? mp_error_text(rc) : "");
    if (shared) {
      pthread_mutex_init(&shared->lock, NULL);
      mp_list_init(&shared->listeners);
    }
    if (shared)
      shared->owners = owners;
    mp_spool_opts opts = { .owners = owners, .wake = on_wake, .log = on_log, .ctx = shared };
    if (rc == 0)
      rc = mp_spool_open(folder, &opts, &shared->spool, why, why_size);
    if (rc < 0 && shared)
      spool_free(shared);
    if (rc == 0) {
      shared->next = process->spools;
      process->spools = shared;
    }
  }
  if (rc == 0) {
    shared->users++;
    shared->holders = (uint16_t)(shared->holders % HOLDERS + 1);
    *holder = shared->holders;
  }
  pthread_mutex_unlock(&process->lock);
  *out = shared;
  return rc;
}

static void leave(mpl_process *process, mpl_spool *shared)
{
  pthread_mutex_lock(&process->lock);
  bool last = --shared->users == 0;
  if (last) {
    mpl_spool **at = &process->spools;
    while (*at != shared)
      at = &(*at)->next;
    *at = shared->next;
    spool_free(shared); /* under the lock: who opens it next finds it closed */
  }
  pthread_mutex_unlock(&process->lock);
}

/* ---- of a state -------------------------------------------------------------------------------------------------- */

mpl_spool_box *mpl_check_spool(lua_State *L)
{
  mpl_spool_box *box = luaL_checkudata(L, 1, MPL_SPOOL);
  luaL_argcheck(L, box->shared, 1, "spool is closed");
  return box;
}

static char *take_line(mpl_spool *shared)
{
  pthread_mutex_lock(&shared->lock);
  char *line = shared->line_count ? shared->lines[0] : NULL;
  if (line) {
    shared->line_count--;
    memmove(shared->lines, shared->lines + 1, shared->line_count * sizeof *shared->lines);
  }
  pthread_mutex_unlock(&shared->lock);
  return line;
}

static int push_line(lua_State *L)
{
  lua_pushstring(L, lua_touserdata(L, 2));
  lua_replace(L, 2);
  lua_call(L, 1, 0);
  return 0;
}

/* The log is everybody's: the first who looks has the line. */
static void tell_lines(mpl_spool_listener *one)
{
  lua_State *L = one->box->state->L;
  char *line;
  while (one->box && one->box->logged != LUA_NOREF && (line = take_line(one->shared))) {
    lua_pushcfunction(L, push_line);
    lua_rawgeti(L, LUA_REGISTRYINDEX, one->box->logged);
    lua_pushlightuserdata(L, line);
    mpl_call(one->box->state, 2, 0);
    mp_mem_free(line);
  }
}

static void heard_by_nobody(mp_post *post)
{
  mp_mem_free(MP_CONTAINER(post, mpl_spool_listener, post));
}

static void heard(mp_post *post)
{
  mpl_spool_listener *one = MP_CONTAINER(post, mpl_spool_listener, post);
  pthread_mutex_lock(&one->shared->lock);
  one->posted = false;
  pthread_mutex_unlock(&one->shared->lock);
  luaL_checkstack(one->box->state->L, 6, "spool");
  one->telling = true;
  tell_lines(one);
  if (one->box && one->box->changed != LUA_NOREF) {
    lua_rawgeti(one->box->state->L, LUA_REGISTRYINDEX, one->box->changed);
    mpl_call(one->box->state, 0, 0);
  }
  one->telling = false;
  if (!one->box && one->post.run != heard_by_nobody)
    mp_mem_free(one);
}

static void close_box(mpl_spool_box *box)
{
  if (!box->shared)
    return;
  /* What other threads still hold comes back as notes on the loop, which find that nobody waits. */
  pthread_mutex_lock(&box->lock);
  while (box->open)
    pthread_cond_wait(&box->none, &box->lock);
  pthread_mutex_unlock(&box->lock);
  while (!mp_list_empty(&box->waiting))
    mpl_asked_forget(MP_CONTAINER(box->waiting.next, mpl_asked, node));
  mp_spool_leave(box->shared->spool, box->holder); /* what this state has claimed is nobody's now */
  pthread_mutex_lock(&box->shared->lock);
  mp_list_remove(&box->heard->node);
  bool on_its_way = box->heard->posted;
  if (on_its_way)
    box->heard->post.run = heard_by_nobody;
  pthread_mutex_unlock(&box->shared->lock);
  box->heard->box = NULL;
  if (!on_its_way && !box->heard->telling)
    mp_mem_free(box->heard);
  luaL_unref(box->state->L, LUA_REGISTRYINDEX, box->changed);
  luaL_unref(box->state->L, LUA_REGISTRYINDEX, box->logged);
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
  enum { WHY = 1024 };
  mpl_worker *worker = mpl_check_worker(L, 1);
  const char *folder = luaL_checkstring(L, 2);
  mpl_spool_box *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (mpl_spool_box){
    .state = mpl_state_of(L), .loop = &worker->worker->loop, .changed = LUA_NOREF, .logged = LUA_NOREF
  };
  luaL_setmetatable(L, MPL_SPOOL);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  mp_list_init(&box->waiting);
  mpl_process *process = mpl_process_of(L);
  mpl_spool_listener *one = mp_mem_zalloc(sizeof *one);
  if (!one)
    return luaL_error(L, "out of memory");
  char why[WHY];
  mpl_spool *shared;
  uint16_t holder;
  unsigned workers, place = mpl_place(L, &workers);
  int rc = use(process, folder, workers < MP_SPOOL_OWNERS ? workers : MP_SPOOL_OWNERS, &holder, &shared, why,
               sizeof why);
  if (rc < 0) {
    mp_mem_free(one);
    return mpl_fail(L, rc, why);
  }
  pthread_mutex_init(&box->lock, NULL);
  pthread_cond_init(&box->none, NULL);
  box->owner = place % shared->owners;
  box->holder = holder;
  box->process = mpl_process_ref(process);
  box->heard = one;
  *one = (mpl_spool_listener){ .post.run = heard, .loop = box->loop, .box = box, .shared = shared };
  pthread_mutex_lock(&shared->lock);
  mp_list_push(&shared->listeners, &one->node);
  pthread_mutex_unlock(&shared->lock);
  box->shared = shared;
  return 1;
}

/* ---- what is in memory ------------------------------------------------------------------------------------------- */

/* spool:due(now, again, most) -> names, and a set of those that were roused; none of them is given again for `again` seconds, unless it is claimed from or made quiet. */
static int spool_due(lua_State *L)
{
  enum { MOST = 64 };
  mpl_spool_box *box = mpl_check_spool(L);
  int64_t now = mpl_spool_ms(L, 2), again = mpl_check_ms(L, 3);
  lua_Integer most = luaL_checkinteger(L, 4);
  luaL_argcheck(L, most > 0 && most <= MOST, 4, "1 to 64 expected");
  mp_spool_domain found[MOST];
  lua_createtable(L, (int)most, 0);
  size_t count = mp_spool_due(box->shared->spool, box->owner, now, again, found, (size_t)most);
  for (size_t i = 0; i < count; i++) {
    lua_pushlstring(L, found[i].name, found[i].length);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_createtable(L, 0, 0);
  for (size_t i = 0; i < count; i++)
    if (found[i].roused) {
      lua_pushlstring(L, found[i].name, found[i].length);
      lua_pushboolean(L, 1);
      lua_rawset(L, -3);
    }
  return 2;
}

/* spool:next(now) -> seconds until it may be worth looking, or nil when nothing waits; and whether an alarm is over. */
static int spool_next(lua_State *L)
{
  mpl_spool_box *box = mpl_check_spool(L);
  int64_t now = mpl_spool_ms(L, 2), ms = mp_spool_next(box->shared->spool, box->owner, now);
  if (ms == INT64_MAX)
    lua_pushnil(L);
  else
    lua_pushnumber(L, (lua_Number)ms / 1000);
  lua_pushboolean(L, mp_spool_alarming(box->shared->spool, now));
  return 2;
}

/* spool:quiet(domain, seconds): it is not due before; 0 ends that, forever is infinite. */
static int spool_quiet(lua_State *L)
{
  mpl_spool_box *box = mpl_check_spool(L);
  mp_str domain = mpl_check_str(L, 2);
  lua_pushboolean(L, mp_spool_quiet(box->shared->spool, domain, mpl_spool_wait_ms(L, 3)) == 0);
  return 1;
}

/* spool:busiest(most) -> { domain, waiting, claimed } each, most first. */
static int spool_busiest(lua_State *L)
{
  enum { MOST = 100 };
  mpl_spool_box *box = mpl_check_spool(L);
  lua_Integer most = luaL_checkinteger(L, 2);
  luaL_argcheck(L, most > 0 && most <= MOST, 2, "1 to 100 expected");
  mp_spool_domain found[MOST];
  size_t count = mp_spool_busiest(box->shared->spool, found, (size_t)most);
  lua_createtable(L, (int)count, 0);
  for (size_t i = 0; i < count; i++) {
    lua_createtable(L, 0, 3);
    lua_pushlstring(L, found[i].name, found[i].length);
    lua_setfield(L, -2, "domain");
    lua_pushinteger(L, (lua_Integer)found[i].waiting);
    lua_setfield(L, -2, "waiting");
    lua_pushinteger(L, (lua_Integer)found[i].leased);
    lua_setfield(L, -2, "claimed");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* spool:rouse(domain): what waits there is to be tried now. */
static int spool_rouse(lua_State *L)
{
  mpl_spool_box *box = mpl_check_spool(L);
  lua_pushboolean(L, mp_spool_rouse(box->shared->spool, mpl_check_str(L, 2)) == 0);
  return 1;
}

/* spool:give(domain, owner): it is named to the worker of that number, from 1. */
static int spool_give(lua_State *L)
{
  mpl_spool_box *box = mpl_check_spool(L);
  mp_str domain = mpl_check_str(L, 2);
  lua_Integer owner = luaL_checkinteger(L, 3);
  luaL_argcheck(L, owner >= 1 && (lua_Unsigned)owner <= box->shared->owners, 3, "no such worker");
  lua_pushboolean(L, mp_spool_give(box->shared->spool, domain, (unsigned)owner - 1) == 0);
  return 1;
}

/* spool:owner() -> which of them this worker is, from 1, and how many there are. */
static int spool_owner(lua_State *L)
{
  mpl_spool_box *box = mpl_check_spool(L);
  lua_pushinteger(L, (lua_Integer)box->owner + 1);
  lua_pushinteger(L, (lua_Integer)box->shared->owners);
  return 2;
}

/* spool:tell(): everybody who has the spool open hears that something has changed. */
static int spool_tell(lua_State *L)
{
  on_wake(mpl_check_spool(L)->shared);
  return 0;
}

static void set_integer(lua_State *L, const char *name, uint64_t n)
{
  lua_pushinteger(L, (lua_Integer)n);
  lua_setfield(L, -2, name);
}

static int spool_stats(lua_State *L)
{
  mp_spool_stats stats;
  mp_spool_stat(mpl_check_spool(L)->shared->spool, &stats);
  lua_createtable(L, 0, 16);
  set_integer(L, "domains", stats.domains);
  set_integer(L, "waiting", stats.waiting);
  set_integer(L, "claimed", stats.leased);
  set_integer(L, "puts", stats.puts);
  set_integer(L, "delivered", stats.delivered);
  set_integer(L, "bounced", stats.bounced);
  set_integer(L, "expired", stats.expired);
  set_integer(L, "removed", stats.removed);
  set_integer(L, "rescheduled", stats.rescheduled);
  set_integer(L, "commits", stats.commits);
  set_integer(L, "committed", stats.committed);
  set_integer(L, "log_octets", stats.log_octets);
  lua_pushboolean(L, stats.failing);
  lua_setfield(L, -2, "failing");
  return 1;
}

static int set_function(lua_State *L, int *reference)
{
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  luaL_unref(L, LUA_REGISTRYINDEX, *reference);
  *reference = LUA_NOREF;
  *reference = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

/* spool:changed(fn): called when something may be due earlier than it was. */
static int spool_changed(lua_State *L)
{
  return set_function(L, &mpl_check_spool(L)->changed);
}

/* spool:logged(fn): called with each line that an operator should read; a line is told to one of those who have the spool open. */
static int spool_logged(lua_State *L)
{
  mpl_spool_box *box = mpl_check_spool(L);
  set_function(L, &box->logged);
  on_wake(box->shared); /* lines of the opening */
  return 0;
}

int mpl_open_spool(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "due", spool_due },
    { "next", spool_next },
    { "quiet", spool_quiet },
    { "stats", spool_stats },
    { "give", spool_give },
    { "rouse", spool_rouse },
    { "busiest", spool_busiest },
    { "owner", spool_owner },
    { "tell", spool_tell },
    { "changed", spool_changed },
    { "logged", spool_logged },
    { "close", spool_gc },
    { NULL, NULL },
  };
  mpl_class(L, MPL_SPOOL, methods, spool_gc);
  mpl_spool_add_questions(L);
  lua_pushcfunction(L, core_spool);
  lua_setfield(L, -2, "spool");
  return 0;
}
