/* bind/worker.c -- the worker userdata: clock, timers, turns of the loop, signals. */
#include "bind/mpl.h"

#include "net/signal.h"

#include <signal.h>

typedef struct timer_box {
  mp_timer timer;
  mpl_state *state;
  mp_worker *worker;
  int self, fn; /* registry references while it is set */
} timer_box;

mpl_worker *mpl_check_worker(lua_State *L, int index)
{
  mpl_worker *box = luaL_checkudata(L, index, MPL_WORKER);
  luaL_argcheck(L, box->worker, index, "worker is closed");
  return box;
}

static int worker_now(lua_State *L)
{
  lua_pushnumber(L, (lua_Number)mp_loop_now(&mpl_check_worker(L, 1)->worker->loop) / 1000);
  return 1;
}

/* Unix time, on the virtual clock when there is one. */
static int worker_time(lua_State *L)
{
  mp_worker *worker = mpl_check_worker(L, 1)->worker;
  lua_pushnumber(L, (lua_Number)worker->wall_ms(worker) / 1000);
  return 1;
}

/* A name for a message that did not come by a connection. */
static int worker_message_id(lua_State *L)
{
  mp_worker *worker = mpl_check_worker(L, 1)->worker;
  char id[24];
  mp_message_id(id, worker->wall_ms(worker), worker->process, worker->number, &worker->messages);
  lua_pushstring(L, id);
  return 1;
}

static int worker_set_time(lua_State *L)
{
  mp_worker *worker = mpl_check_worker(L, 1)->worker;
  lua_Number seconds = luaL_checknumber(L, 2);
  luaL_argcheck(L, worker->loop.is_virtual, 1, "only a virtual worker's clock can be set");
  luaL_argcheck(L, seconds >= 0 && seconds < 253402300800.0, 2, "a time before the year 10000 expected");
  worker->wall_start_ms = (int64_t)(seconds * 1000) - mp_loop_now(&worker->loop);
  return 0;
}

static void timer_forget(lua_State *L, timer_box *box)
{
  luaL_unref(L, LUA_REGISTRYINDEX, box->fn);
  luaL_unref(L, LUA_REGISTRYINDEX, box->self);
  box->fn = box->self = LUA_NOREF;
}

static void timer_fire(mp_timer *timer, int64_t now_ms)
{
  (void)now_ms;
  timer_box *box = MP_CONTAINER(timer, timer_box, timer);
  mpl_state *state = box->state;
  lua_rawgeti(state->L, LUA_REGISTRYINDEX, box->fn);
  timer_forget(state->L, box);
  mpl_call(state, 0, 0);
}

static int set_timer(lua_State *L, mpl_worker *worker, int64_t due_ms, int fn_index)
{
  luaL_checktype(L, fn_index, LUA_TFUNCTION);
  timer_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (timer_box){ .state = mpl_state_of(L), .worker = worker->worker, .self = LUA_NOREF, .fn = LUA_NOREF };
  mp_timer_init(&box->timer, timer_fire);
  luaL_setmetatable(L, MPL_TIMER);
  lua_pushvalue(L, fn_index);
  box->fn = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, -1);
  box->self = luaL_ref(L, LUA_REGISTRYINDEX);
  if (mp_timers_set(&worker->worker->loop.timers, &box->timer, due_ms) < 0) {
    timer_forget(L, box);
    return luaL_error(L, "out of memory");
  }
  return 1;
}

static int worker_timer(lua_State *L)
{
  mpl_worker *worker = mpl_check_worker(L, 1);
  return set_timer(L, worker, mp_loop_now(&worker->worker->loop) + mpl_check_ms(L, 2), 3);
}

static int worker_defer(lua_State *L)
{
  mpl_worker *worker = mpl_check_worker(L, 1);
  set_timer(L, worker, 0, 2);
  return 0;
}

static int timer_cancel(lua_State *L)
{
  timer_box *box = luaL_checkudata(L, 1, MPL_TIMER);
  if (box->timer.slot)
    mp_timers_clear(&box->worker->loop.timers, &box->timer);
  timer_forget(L, box);
  return 0;
}

static int worker_turn(lua_State *L)
{
  mpl_worker *worker = mpl_check_worker(L, 1);
  if (worker->worker->loop.turning) /* it would return at once, for ever */
    return luaL_error(L, "the loop is turning already: what it calls cannot wait; use moonpost.spawn");
  lua_pushboolean(L, mp_loop_turn(&worker->worker->loop, lua_toboolean(L, 2)));
  return 1;
}

static int worker_run(lua_State *L)
{
  mp_loop_run(&mpl_check_worker(L, 1)->worker->loop);
  return 0;
}

static int worker_stop(lua_State *L)
{
  mp_loop_stop(&mpl_check_worker(L, 1)->worker->loop);
  return 0;
}

static int worker_fd(lua_State *L)
{
  lua_pushinteger(L, mp_loop_fd(&mpl_check_worker(L, 1)->worker->loop));
  return 1;
}

static int worker_timeout(lua_State *L)
{
  int ms = mp_loop_timeout(&mpl_check_worker(L, 1)->worker->loop);
  if (ms < 0)
    lua_pushnil(L);
  else
    lua_pushnumber(L, ms / 1000.0);
  return 1;
}

static int worker_is_virtual(lua_State *L)
{
  lua_pushboolean(L, mpl_check_worker(L, 1)->worker->loop.is_virtual);
  return 1;
}

static int worker_advance(lua_State *L)
{
  mpl_worker *worker = mpl_check_worker(L, 1);
  luaL_argcheck(L, worker->worker->loop.is_virtual, 1, "only a virtual worker's clock can be turned");
  mp_loop_advance(&worker->worker->loop, mpl_check_ms(L, 2));
  return 0;
}

static int worker_next_timer(lua_State *L)
{
  mp_loop *loop = &mpl_check_worker(L, 1)->worker->loop;
  int64_t due = mp_timers_next(&loop->timers);
  if (due == INT64_MAX)
    lua_pushnil(L);
  else
    lua_pushnumber(L, (lua_Number)(due - mp_loop_now(loop)) / 1000);
  return 1;
}

typedef struct signal_box {
  mp_signal *signal;
  mpl_state *state;
  int fn;
} signal_box;

static void signal_fired(void *ctx)
{
  signal_box *box = ctx;
  lua_rawgeti(box->state->L, LUA_REGISTRYINDEX, box->fn);
  mpl_call(box->state, 0, 0);
}

static int signal_gc(lua_State *L)
{
  signal_box *box = lua_touserdata(L, 1);
  mp_signal_close(box->signal);
  box->signal = NULL;
  luaL_unref(L, LUA_REGISTRYINDEX, box->fn);
  box->fn = LUA_NOREF;
  return 0;
}

/* The boxes stand in the worker's uservalue 1, by signal name (those of bind/folder.c by address): a second call for a name replaces the first. */
static int worker_signal(lua_State *L)
{
  static const char *const names[] = { "TERM", "INT", "HUP", "USR1", NULL };
  static const int numbers[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1 };
  mpl_worker *worker = mpl_check_worker(L, 1);
  int which = luaL_checkoption(L, 2, NULL, names);
  lua_settop(L, 3);
  if (lua_getiuservalue(L, 1, 1) != LUA_TTABLE) {
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, 1);
    lua_replace(L, 4);
  }
  if (lua_getfield(L, 4, names[which]) == LUA_TUSERDATA) {
    lua_pushcfunction(L, signal_gc);
    lua_insert(L, -2);
    lua_call(L, 1, 0);
  }
  lua_settop(L, 4);
  if (lua_isnil(L, 3)) {
    lua_pushnil(L);
    lua_setfield(L, 4, names[which]);
    return 0;
  }
  if (lua_isboolean(L, 3) && !lua_toboolean(L, 3)) {
    lua_pushnil(L);
    lua_setfield(L, 4, names[which]);
    signal(numbers[which], SIG_IGN);
    return 0;
  }
  luaL_checktype(L, 3, LUA_TFUNCTION);
  signal_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (signal_box){ .state = mpl_state_of(L), .fn = LUA_NOREF };
  luaL_setmetatable(L, "moonpost.core.signal");
  lua_pushvalue(L, 3);
  box->fn = luaL_ref(L, LUA_REGISTRYINDEX);
  int rc = mp_signal_open(&box->signal, &worker->worker->loop, numbers[which], signal_fired, box);
  if (rc < 0)
    return mpl_fail(L, rc, NULL);
  lua_setfield(L, 4, names[which]);
  lua_pushboolean(L, 1);
  return 1;
}

static const luaL_Reg no_methods[] = { { NULL, NULL } };

static int worker_gc(lua_State *L)
{
  mpl_worker *box = luaL_checkudata(L, 1, MPL_WORKER);
  mp_worker *worker = box->worker;
  if (!worker)
    return 0;
  box->worker = NULL;
  /* os.exit closes the state, and a callback called it: the loop cannot be left alone in the middle of a turn, the process ends. */
  if (worker->loop.turning)
    return 0;
  mpl_forget_deliveries(mpl_state_of(L), &worker->loop);
  mpl_leave_all(&box->leaving);
  if (lua_getiuservalue(L, 1, 1) == LUA_TTABLE) {
    lua_pushnil(L);
    while (lua_next(L, -2)) {
      luaL_callmeta(L, -1, "__gc"); /* signals and folders */
      lua_pop(L, 2);
    }
  }
  /* Services that were not stopped go now, and nobody in this state is told: it is closing. */
  mpl_kill_services(&box->services);
  while (!mp_list_empty(&box->services))
    mp_loop_turn(&worker->loop, true);
  if (box->owned)
    mp_worker_free(worker);
  return 0;
}

static int timer_gc(lua_State *L)
{
  timer_box *box = luaL_checkudata(L, 1, MPL_TIMER);
  /* Set timers are kept in the registry, so a collected one is idle, unless the whole state closes: then its worker may be gone already and
   * the heap with it, or it takes the heap along. */
  if (box->timer.slot && box->worker)
    mp_timers_clear(&box->worker->loop.timers, &box->timer);
  return 0;
}

int mpl_open_worker(lua_State *L)
{
  static const luaL_Reg methods[] = {
    { "now", worker_now },
    { "timer", worker_timer },
    { "defer", worker_defer },
    { "turn", worker_turn },
    { "run", worker_run },
    { "stop", worker_stop },
    { "fd", worker_fd },
    { "timeout", worker_timeout },
    { "advance", worker_advance },
    { "is_virtual", worker_is_virtual },
    { "signal", worker_signal },
    { "folder", mpl_worker_folder },
    { "next_timer", worker_next_timer },
    { "time", worker_time },
    { "set_time", worker_set_time },
    { "message_id", worker_message_id },
    { "service", mpl_worker_service },
    { "dns", mpl_worker_dns },
    { "dial", mpl_worker_dial },
    { "client", mpl_worker_client },
    { "memory_stream", mpl_worker_memory_stream },
    { NULL, NULL },
  };
  static const luaL_Reg timer_methods[] = { { "cancel", timer_cancel }, { NULL, NULL } };
  mpl_class(L, MPL_WORKER, methods, worker_gc);
  mpl_class(L, MPL_TIMER, timer_methods, timer_gc);
  mpl_class(L, "moonpost.core.signal", no_methods, signal_gc);
  return 0;
}
