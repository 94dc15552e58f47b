#include "net/signal.h"

#include "base/error.h"

struct mp_signal {
  uv_signal_t handle;
  void (*fired)(void *ctx);
  void *ctx;
  mp_leftover left;
};

static void on_signal(uv_signal_t *handle, int number)
{
  (void)number;
  mp_signal *signal = MP_CONTAINER(handle, mp_signal, handle);
  signal->fired(signal->ctx);
}

static void on_closed(uv_handle_t *handle)
{
  mp_mem_free(MP_CONTAINER(handle, mp_signal, handle));
}

static void loop_ends(mp_leftover *left)
{
  mp_signal_close(MP_CONTAINER(left, mp_signal, left));
}

int mp_signal_open(mp_signal **out, mp_loop *loop, int number, void (*fired)(void *ctx), void *ctx)
{
  if (loop->is_virtual)
    return MP_E_MISUSE;
  mp_signal *signal = mp_mem_alloc(sizeof *signal);
  if (!signal)
    return MP_E_NOMEM;
  signal->fired = fired;
  signal->ctx = ctx;
  if (uv_signal_init(&loop->uv, &signal->handle) < 0) {
    mp_mem_free(signal);
    return MP_E_SYSTEM;
  }
  uv_unref((uv_handle_t *)&signal->handle);
  if (uv_signal_start(&signal->handle, on_signal, number) < 0) {
    uv_close((uv_handle_t *)&signal->handle, on_closed);
    return MP_E_SYSTEM;
  }
  signal->left.close = loop_ends;
  mp_list_push(&loop->left, &signal->left.node);
  *out = signal;
  return 0;
}

void mp_signal_close(mp_signal *signal)
{
  if (!signal)
    return;
  mp_list_remove(&signal->left.node);
  uv_close((uv_handle_t *)&signal->handle, on_closed);
}
