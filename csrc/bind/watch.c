/* bind/watch.c -- Lua that does not return to the loop. A monitor thread looks twenty times a second whether the worker is still inside the same
 * call from C; when that call has used its CPU time, a signal to the worker's thread arms a debug hook on the coroutine that runs, and the hook
 * raises. Without such a call the hook is never set: a permanent one costs a multiple of the whole message path.
 * The hook stays armed at every instruction until the coroutine is left, so that a pcall in the script cannot swallow it. */
#include "bind/thread.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

enum { LOOK_MS = 50, WATCH_SIGNAL = SIGURG };

struct mpl_watch {
  pthread_t monitor, watched;
  clockid_t cpu;
  pthread_mutex_t lock;
  pthread_cond_t stop_cond;
  bool stop;
  atomic_uint epoch;   /* odd while Lua runs; only the watched thread changes it */
  atomic_uint overdue; /* the epoch that has used its time */
  unsigned told; /* the epoch whose error is in the registry, under the watch's address; of the watched thread */
  mpl_watch *outside;           /* of another state on this thread, whose call led here */
  _Atomic(lua_State *) running; /* the coroutine to interrupt */
  _Atomic(const char *) hook;   /* that the call is about; static, NULL: none */
  atomic_long limit_ms;
  atomic_bool loading; /* a policy is being loaded: whoever stops need not wait for it */
  const atomic_bool *stopping;
  const mpl_generation *generation; /* NULL: nobody to tell but standard error */
};

/* The signal handler has no argument of ours; it finds the watch of the call that it interrupted. */
static _Thread_local mpl_watch *mine;

/* What is loaded has no future any more. */
static bool abandoned(const mpl_watch *watch)
{
  return watch->stopping && atomic_load(watch->stopping) && atomic_load(&watch->loading);
}

static void interrupt(lua_State *L, lua_Debug *ar)
{
  (void)ar;
  mpl_watch *watch = mpl_state_of(L)->watch;
  unsigned epoch = watch ? atomic_load(&watch->epoch) : 0;
  /* A pcall on the way out is interrupted too: what counts is where the first one struck. */
  if (watch && watch->told == epoch) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, watch);
    lua_error(L);
  }
  luaL_where(L, 0); /* in a hook level 0 is the function that was interrupted */
  if (!watch || !atomic_load(&watch->loading))
    lua_pushliteral(L, "interrupted: ran too long without waiting (limits.cpu_time)");
  else if (abandoned(watch))
    lua_pushliteral(L, "interrupted: the server is stopping");
  else
    lua_pushfstring(L, "interrupted: a policy is loaded within %d seconds of CPU time",
                    (int)(atomic_load(&watch->limit_ms) / 1000));
  lua_concat(L, 2);
  if (watch) {
    watch->told = epoch;
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, watch);
  }
  lua_error(L);
}

static void on_signal(int number)
{
  (void)number;
  mpl_watch *watch = mine;
  lua_State *co = watch ? atomic_load(&watch->running) : NULL;
  unsigned epoch = watch ? atomic_load(&watch->epoch) : 0;
  if (co && epoch & 1 &&
      epoch == atomic_load(&watch->overdue)) /* else what was meant is over, and something else has begun */
    lua_sethook(co, interrupt, LUA_MASKCOUNT, 1);
}

static int64_t ms_of(clockid_t clock)
{
  struct timespec now;
  if (clock_gettime(clock, &now) != 0)
    return 0;
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void *monitor(void *arg)
{
  mpl_watch *watch = arg;
  unsigned seen = 0;
  int64_t cpu_start = 0, wall_start = 0, told = 0, pause = 0;
  pthread_mutex_lock(&watch->lock);
  while (!watch->stop) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += LOOK_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
      until.tv_sec++;
      until.tv_nsec -= 1000000000L;
    }
    pthread_cond_timedwait(&watch->stop_cond, &watch->lock, &until);
    unsigned epoch = atomic_load(&watch->epoch);
    if (epoch != seen || !(epoch & 1)) {
      seen = epoch;
      cpu_start = ms_of(watch->cpu);
      wall_start = ms_of(CLOCK_MONOTONIC);
      told = 0;
      continue;
    }
    int64_t limit = atomic_load(&watch->limit_ms);
    int64_t cpu = ms_of(watch->cpu) - cpu_start, wall = ms_of(CLOCK_MONOTONIC) - wall_start;
    if (!abandoned(watch) && (limit <= 0 || (cpu < limit && wall < limit * 10)))
      continue;
    atomic_store(&watch->overdue, epoch);
    pthread_kill(watch->watched, WATCH_SIGNAL);
    if (told == 0) { /* the signal has its chance first */
      told = wall;
      pause = 1000;
    } else if (wall - told >= pause) {
      told = wall;
      pause = 5000;
      const char *hook = atomic_load(&watch->hook);
      if (watch->generation)
        mpl_generation_stalled(watch->generation, wall, hook);
      else
        fprintf(stderr,
                "moonpost: a call in Lua%s%s does not return (%lld s); it is inside C code that cannot be interrupted\n",
                hook ? ", hook " : "", hook ? hook : "", (long long)(wall / 1000));
    }
  }
  pthread_mutex_unlock(&watch->lock);
  return NULL;
}

void mpl_enter(mpl_state *state)
{
  mpl_watch *watch = state->watch;
  if (state->depth++ == 0 && watch) {
    watch->outside = mine;
    mine = watch;
    atomic_store_explicit(&watch->running, state->L, memory_order_relaxed);
    atomic_fetch_add_explicit(&watch->epoch, 1, memory_order_release);
  }
}

void mpl_watch_hook(mpl_state *state, const char *name)
{
  if (state->watch)
    atomic_store_explicit(&state->watch->hook, name, memory_order_relaxed);
}

void mpl_leave(mpl_state *state)
{
  mpl_watch *watch = state->watch;
  if (--state->depth > 0)
    return;
  if (watch && atomic_load_explicit(&watch->epoch, memory_order_relaxed) & 1) {
    atomic_fetch_add_explicit(&watch->epoch, 1, memory_order_release);
    if (lua_gethook(state->L) == interrupt)
      lua_sethook(state->L, NULL, 0, 0);
    mine = watch->outside;
    atomic_store_explicit(&watch->hook, NULL, memory_order_relaxed);
  }
  if (state->starved) {
    state->starved = false;
    if (state->generation)
      mpl_generation_starved(state->generation);
  }
}

/* Resumes the coroutine at 1 with what stands behind it, and tells the watchdog who runs. A task's that has nothing to do takes its function
 * along, and one that waits is told from one that is done. */
static int resume(lua_State *L, bool is_task)
{
  lua_State *co = lua_tothread(L, 1);
  luaL_argcheck(L, co, 1, "a coroutine is needed");
  int nargs = lua_gettop(L) - 1;
  if (!lua_checkstack(co, nargs)) {
    lua_pushboolean(L, 0);
    lua_pushliteral(L, "too many arguments to resume");
    return 2;
  }
  bool starts = is_task && nargs > 0 && lua_status(co) == LUA_OK;
  lua_xmove(L, co, nargs);
  mpl_watch *watch = mpl_state_of(L)->watch;
  lua_State *before = NULL;
  if (watch) {
    before = atomic_load_explicit(&watch->running, memory_order_relaxed);
    atomic_store_explicit(&watch->running, co, memory_order_relaxed);
  }
  int nres = 0;
  int rc = lua_resume(co, L, nargs - starts, &nres);
  if (watch) {
    /* What comes behind a task that has used its time is the house's own, and must not be cut in its stead. */
    if (is_task)
      atomic_store_explicit(&watch->epoch, atomic_load_explicit(&watch->epoch, memory_order_relaxed) + 2,
                            memory_order_release);
    atomic_store_explicit(&watch->running, before, memory_order_relaxed);
    if (lua_gethook(co) == interrupt)
      lua_sethook(co, NULL, 0, 0);
  }
  if (rc == LUA_OK || rc == LUA_YIELD) {
    if (!lua_checkstack(L, nres + 1)) {
      lua_pop(co, nres);
      lua_pushboolean(L, 0);
      lua_pushliteral(L, "too many results to resume");
      return 2;
    }
    if (is_task && rc == LUA_YIELD)
      lua_pushnil(L);
    else
      lua_pushboolean(L, 1);
    lua_xmove(co, L, nres);
    return nres + 1;
  }
  lua_pushboolean(L, 0);
  lua_xmove(co, L, 1);
  return 2;
}

/* core.resume: as coroutine.resume. */
static int core_resume(lua_State *L)
{
  return resume(L, false);
}

/* core.run: true and the results when the coroutine's function has returned, nil and what it yielded, or false and the error. */
static int core_run(lua_State *L)
{
  return resume(L, true);
}

/* core.coroutine: one that has nothing to do. core.run starts a function in it, and another when that has returned. */
static int core_coroutine(lua_State *L)
{
  lua_newthread(L);
  return 1;
}

void mpl_watch_free(mpl_state *state)
{
  mpl_watch *watch = state->watch;
  if (!watch)
    return;
  state->watch = NULL;
  pthread_mutex_lock(&watch->lock);
  watch->stop = true;
  pthread_cond_signal(&watch->stop_cond);
  pthread_mutex_unlock(&watch->lock);
  pthread_join(watch->monitor, NULL);
  pthread_cond_destroy(&watch->stop_cond);
  pthread_mutex_destroy(&watch->lock);
  mp_mem_free(watch);
}

/* watchdog(seconds, loading) */
static int core_watchdog(lua_State *L)
{
  mpl_state *state = mpl_state_of(L);
  int64_t limit = mpl_check_ms(L, 1);
  bool loading = lua_toboolean(L, 2);
  if (state->watch) {
    atomic_store(&state->watch->limit_ms, (long)limit);
    atomic_store(&state->watch->loading, loading);
    return 0;
  }
  if (limit == 0)
    return 0;
  mpl_watch *watch = mp_mem_zalloc(sizeof *watch);
  if (!watch)
    return luaL_error(L, "out of memory");
  atomic_init(&watch->epoch, 0);
  atomic_init(&watch->overdue, 0);
  atomic_init(&watch->running, NULL);
  atomic_init(&watch->hook, NULL);
  atomic_init(&watch->loading, loading);
  watch->stopping = state->stopping;
  watch->generation = state->generation;
  atomic_init(&watch->limit_ms, (long)limit);
  watch->watched = pthread_self();
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_mutex_init(&watch->lock, NULL);
  pthread_cond_init(&watch->stop_cond, &attr);
  pthread_condattr_destroy(&attr);
  struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
  sigemptyset(&action.sa_mask);
  if (pthread_getcpuclockid(watch->watched, &watch->cpu) != 0 || sigaction(WATCH_SIGNAL, &action, NULL) != 0 ||
      pthread_create(&watch->monitor, NULL, monitor, watch) != 0) {
    mp_mem_free(watch);
    return luaL_error(L, "the watchdog cannot be started");
  }
  state->watch = watch;
  return 0;
}

int mpl_open_watch(lua_State *L)
{
  lua_pushcfunction(L, core_watchdog);
  lua_setfield(L, -2, "watchdog");
  lua_pushcfunction(L, core_resume);
  lua_setfield(L, -2, "resume");
  lua_pushcfunction(L, core_run);
  lua_setfield(L, -2, "run");
  lua_pushcfunction(L, core_coroutine);
  lua_setfield(L, -2, "coroutine");
  return 0;
}
