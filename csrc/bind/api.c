/* bind/api.c -- the table behind core.watch_api (api/watch.h). */
#include "api/watch.h"
#include "bind/mpl.h"
#include "net/poll.h"

struct mp_watch_timer {
  mp_timer timer;
  mp_loop *loop;
  void (*fired)(void *ctx);
  void *ctx;
};

static mp_loop *loop_of(mp_watch_loop *loop)
{
  return (mp_loop *)(void *)loop;
}

static mp_poll *poll_of(mp_watch_fd *watch)
{
  return (mp_poll *)(void *)watch;
}

static mp_watch_loop *api_loop(lua_State *L, int index)
{
  mp_loop *loop = &mpl_check_worker(L, index)->worker->loop;
  return loop->is_virtual ? NULL : (mp_watch_loop *)(void *)loop;
}

static int api_fd_open(mp_watch_fd **watch, mp_watch_loop *loop, int fd, void (*ready)(void *, int), void *ctx)
{
  mp_poll *poll;
  int rc = mp_poll_open(&poll, loop_of(loop), fd, ready, ctx);
  if (rc == 0)
    *watch = (mp_watch_fd *)(void *)poll;
  return rc;
}

static void api_fd_set(mp_watch_fd *watch, int events)
{
  int mask = (events & MP_WATCH_READ ? MP_POLL_READ : 0) | (events & MP_WATCH_WRITE ? MP_POLL_WRITE : 0);
  mp_poll_set(poll_of(watch), mask, true);
}

static void api_fd_close(mp_watch_fd *watch)
{
  mp_poll_close(poll_of(watch));
}

static void timer_fire(mp_timer *timer, int64_t now_ms)
{
  (void)now_ms;
  mp_watch_timer *watch = MP_CONTAINER(timer, mp_watch_timer, timer);
  watch->fired(watch->ctx);
}

static int api_timer_open(mp_watch_timer **out, mp_watch_loop *loop, void (*fired)(void *), void *ctx)
{
  mp_watch_timer *watch = mp_mem_alloc(sizeof *watch);
  if (!watch)
    return MP_E_NOMEM;
  *watch = (mp_watch_timer){ .loop = loop_of(loop), .fired = fired, .ctx = ctx };
  mp_timer_init(&watch->timer, timer_fire);
  *out = watch;
  return 0;
}

static int api_timer_set(mp_watch_timer *watch, int64_t ms)
{
  if (ms >= 0)
    return mp_timers_set(&watch->loop->timers, &watch->timer, mp_loop_now(watch->loop) + ms);
  mp_timers_clear(&watch->loop->timers, &watch->timer);
  return 0;
}

static void api_timer_close(mp_watch_timer *watch)
{
  if (!watch)
    return;
  mp_timers_clear(&watch->loop->timers, &watch->timer);
  mp_mem_free(watch);
}

static bool api_call(lua_State *main, int nargs, int nresults)
{
  return mpl_call(mpl_state_of(main), nargs, nresults);
}

static const mp_watch_api watch_api = {
  .version = MP_WATCH_API_VERSION,
  .loop = api_loop,
  .fd_open = api_fd_open,
  .fd_set = api_fd_set,
  .fd_close = api_fd_close,
  .timer_open = api_timer_open,
  .timer_set = api_timer_set,
  .timer_close = api_timer_close,
  .call = api_call,
  .resize = mp_mem_realloc,
  .free = mp_mem_free,
};

_Static_assert(MP_WATCH_READ == (int)MP_POLL_READ && MP_WATCH_WRITE == (int)MP_POLL_WRITE,
               "events are handed through as they come");

void *mpl_watch_api(void)
{
  return (void *)(uintptr_t)&watch_api;
}
