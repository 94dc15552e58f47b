#include "net/poll.h"

#include "base/error.h"

struct mp_poll {
  uv_poll_t handle;
  void (*ready)(void *ctx, int events);
  void *ctx;
  int events;
};

/* An error of the descriptor shows as readiness: whoever reads or writes then hears of it. */
static void on_ready(uv_poll_t *handle, int status, int events)
{
  mp_poll *poll = MP_CONTAINER(handle, mp_poll, handle);
  int seen = (events & UV_READABLE ? MP_POLL_READ : 0) | (events & UV_WRITABLE ? MP_POLL_WRITE : 0);
  poll->ready(poll->ctx, status < 0 ? poll->events : seen);
}

static void on_closed(uv_handle_t *handle)
{
  mp_mem_free(MP_CONTAINER(handle, mp_poll, handle));
}

int mp_poll_open(mp_poll **out, mp_loop *loop, int fd, void (*ready)(void *ctx, int events), void *ctx)
{
  if (loop->is_virtual)
    return MP_E_MISUSE;
  mp_poll *poll = mp_mem_zalloc(sizeof *poll);
  if (!poll)
    return MP_E_NOMEM;
  poll->ready = ready;
  poll->ctx = ctx;
  if (uv_poll_init(&loop->uv, &poll->handle, fd) != 0) {
    mp_mem_free(poll);
    return MP_E_SYSTEM;
  }
  *out = poll;
  return 0;
}

void mp_poll_set(mp_poll *poll, int events, bool keep)
{
  if (keep)
    uv_ref((uv_handle_t *)&poll->handle);
  else
    uv_unref((uv_handle_t *)&poll->handle);
  if (events == poll->events)
    return;
  poll->events = events;
  int mask = (events & MP_POLL_READ ? UV_READABLE : 0) | (events & MP_POLL_WRITE ? UV_WRITABLE : 0);
  if (mask)
    uv_poll_start(&poll->handle, mask, on_ready);
  else
    uv_poll_stop(&poll->handle);
}

void mp_poll_close(mp_poll *poll)
{
  if (poll)
    uv_close((uv_handle_t *)&poll->handle, on_closed);
}
