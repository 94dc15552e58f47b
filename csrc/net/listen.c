/* Accepting is our own loop over a watched descriptor, not uv_listen: when descriptors run out libuv accepts and hangs up,
 * which a peer takes for a broken server, and it has no way to pause. Here whoever has to wait stays in the backlog. */
#include "net/listen.h"
#include "net/handle.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  PAUSE_MS = 100,
  BURST = 64 /* connections taken before others on the loop have their turn */
};

struct mp_listener {
  uv_poll_t poll;
  uv_timer_t pause;
  mp_leftover left;
  mp_loop *loop;
  void (*accepted)(void *ctx, mp_stream *stream);
  void *ctx;
  int fd;
  unsigned handles; /* not yet closed */
  bool is_unix, closing;
};

static void on_connection(uv_poll_t *poll, int status, int events);

static void go_on(mp_listener *listener)
{
  uv_poll_start(&listener->poll, UV_READABLE, on_connection);
}

static void on_pause_over(uv_timer_t *timer)
{
  go_on(timer->data);
}

static void pause_for_a_moment(mp_listener *listener)
{
  uv_poll_stop(&listener->poll);
  uv_timer_start(&listener->pause, on_pause_over, PAUSE_MS, 0);
  listener->accepted(listener->ctx, NULL);
}

/* True when the failure concerned one peer, or the network behind it (accept(2), error handling), and the next may do. */
static bool is_passing(int sys)
{
  switch (sys) {
  case EINTR:
  case ECONNABORTED:
  case EPROTO:
  case EPERM:
  case ENETDOWN:
  case ENOPROTOOPT:
  case EHOSTDOWN:
  case ENONET:
  case EHOSTUNREACH:
  case EOPNOTSUPP:
  case ENETUNREACH:
    return true;
  default:
    return false;
  }
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
  mp_listener *listener = poll->data;
  (void)events;
  if (status < 0) {
    pause_for_a_moment(listener);
    return;
  }
  for (int i = 0; i < BURST && !listener->closing; i++) {
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK)
        return;
      if (is_passing(errno))
        continue;
      pause_for_a_moment(listener);
      return;
    }
    mp_stream *stream;
    if (mp_stream_open(&stream, listener->loop, fd, listener->is_unix) < 0) {
      close(fd);
      pause_for_a_moment(listener);
      return;
    }
    listener->accepted(listener->ctx, stream);
  }
}

static void on_closed(uv_handle_t *handle)
{
  mp_listener *listener = handle->data;
  if (--listener->handles > 0)
    return;
  close(listener->fd);
  listener->loop->alive--;
  mp_mem_free(listener);
}

static void on_left(mp_leftover *left)
{
  mp_listener_close(MP_CONTAINER(left, mp_listener, left));
}

int mp_listener_open(mp_listener **out, mp_loop *loop, const mp_binding *binding, unsigned worker,
                     void (*accepted)(void *ctx, mp_stream *stream), void *ctx)
{
  mp_listener *listener = mp_mem_zalloc(sizeof *listener);
  if (!listener)
    return MP_E_NOMEM;
  listener->loop = loop;
  listener->accepted = accepted;
  listener->ctx = ctx;
  listener->is_unix = binding->at.is_unix;
  listener->left.close = on_left;
  listener->poll.data = listener->pause.data = listener;
  /* A duplicate: one descriptor can be watched by one handle of a loop only, and the binding outlives us. */
  listener->fd = fcntl(binding->fds[worker % binding->count], F_DUPFD_CLOEXEC, 0);
  if (listener->fd < 0 || uv_poll_init(&loop->uv, &listener->poll, listener->fd) != 0) {
    if (listener->fd >= 0)
      close(listener->fd);
    mp_mem_free(listener);
    return MP_E_SYSTEM;
  }
  uv_timer_init(&loop->uv, &listener->pause);
  listener->poll.data = listener->pause.data = listener;
  listener->handles = 2;
  mp_list_push(&loop->left, &listener->left.node);
  loop->alive++;
  go_on(listener);
  *out = listener;
  return 0;
}

void mp_listener_close(mp_listener *listener)
{
  if (listener->closing)
    return;
  listener->closing = true;
  mp_list_remove(&listener->left.node);
  uv_poll_stop(&listener->poll);
  uv_close((uv_handle_t *)&listener->poll, on_closed);
  uv_close((uv_handle_t *)&listener->pause, on_closed);
}
