/* Each address has a socket of its own that is watched until it is writable, which is when connect(2) has ended. The first that is
 * connected wins, and the others are closed. Everything is told from a timer, so that nobody is called inside mp_dial_start. */
#include "net/dial.h"
#include "net/handle.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { STAGGER_MS = 250, EACH_MS = 30000 };

typedef struct attempt {
  uv_poll_t poll;
  mp_dial *dial;
  int fd; /* -1: not begun, failed, or given away */
  bool watched;
  int64_t due; /* of its connect; INT64_MAX when it is over */
} attempt;

struct mp_dial {
  mp_loop *loop;
  mp_leftover left;
  mp_timer timer;
  mp_dialled done; /* NULL: it was told, or nobody wants to know */
  void *ctx;
  mp_dial_opts opts;
  mp_endpoint *to;
  size_t begun; /* addresses tried so far */
  size_t alive; /* of them, under way */
  size_t winner;
  bool won;
  unsigned handles; /* not yet closed */
  int64_t next;     /* when the next address is begun */
  int rc;
  bool timed_out;
  size_t why_len;
  char why[MP_DIAL_WHY];
  attempt attempts[];
};

static void complain(mp_dial *dial, size_t which, const char *reason)
{
  char at[MP_ENDPOINT_TEXT];
  mp_endpoint_format(&dial->to[which], at);
  size_t room = sizeof dial->why - dial->why_len;
  int n = snprintf(dial->why + dial->why_len, room, "%s%s: %s", dial->why_len ? "; " : "", at, reason);
  dial->why_len += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}

static void complain_errno(mp_dial *dial, size_t which, int sys)
{
  char text[96];
  complain(dial, which, sys == ETIMEDOUT ? "no answer" : strerror_r(sys, text, sizeof text));
  dial->timed_out = dial->timed_out || sys == ETIMEDOUT;
  dial->rc = mp_error_errno(sys);
}

static void on_closed(uv_handle_t *handle)
{
  mp_dial *dial = ((attempt *)handle->data)->dial;
  if (--dial->handles > 0 || dial->done)
    return;
  dial->loop->alive--;
  mp_mem_free(dial->to);
  mp_mem_free(dial);
}

/* Takes an attempt back. Its descriptor stays open only when `keep`. */
static void unwatch(attempt *one, bool keep)
{
  if (one->watched) {
    one->watched = false;
    uv_close((uv_handle_t *)&one->poll, on_closed); /* takes the descriptor out of the loop at once */
  }
  if (one->fd >= 0 && !keep) {
    close(one->fd);
    one->fd = -1;
  }
  if (one->due != INT64_MAX) {
    one->due = INT64_MAX;
    one->dial->alive--;
  }
}

static void dispose(mp_dial *dial)
{
  mp_timers_clear(&dial->loop->timers, &dial->timer);
  mp_list_remove(&dial->left.node);
  dial->done = NULL;
  dial->handles++;
  for (size_t i = 0; i < dial->begun; i++)
    unwatch(&dial->attempts[i], false);
  if (--dial->handles > 0)
    return;
  dial->loop->alive--;
  mp_mem_free(dial->to);
  mp_mem_free(dial);
}

static void tell(mp_dial *dial, mp_stream *stream, int rc)
{
  mp_dialled done = dial->done;
  char why[MP_DIAL_WHY];
  memcpy(why, dial->why, sizeof why);
  void *ctx = dial->ctx;
  size_t which = dial->winner;
  dispose(dial);
  done(ctx, stream, which, rc, why);
}

static void wake(mp_dial *dial, int64_t due)
{
  mp_timers_set(&dial->loop->timers, &dial->timer, due); /* it is set already: moving never fails */
}

static void on_writable(uv_poll_t *poll, int status, int events)
{
  (void)events;
  attempt *one = poll->data;
  mp_dial *dial = one->dial;
  size_t which = (size_t)(one - dial->attempts);
  int sys = 0;
  socklen_t len = sizeof sys;
  if (getsockopt(one->fd, SOL_SOCKET, SO_ERROR, &sys, &len) != 0)
    sys = errno;
  else if (sys == 0 && status < 0) /* libuv calls every error of a descriptor EBADF: the socket knows better */
    sys = -status;
  if (sys != 0) {
    complain_errno(dial, which, sys);
    unwatch(one, false);
    dial->next = mp_loop_now(dial->loop);
  } else {
    unwatch(one, true);
    if (dial->won) { /* somebody was sooner in this very turn */
      close(one->fd);
      one->fd = -1;
    } else {
      dial->won = true;
      dial->winner = which;
    }
  }
  wake(dial, mp_loop_now(dial->loop));
}

static socklen_t address_of(struct sockaddr_storage *to, const mp_endpoint *at)
{
  memset(to, 0, sizeof *to);
  if (at->is_unix) {
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    memcpy(un.sun_path, at->path, sizeof un.sun_path < sizeof at->path ? sizeof un.sun_path : sizeof at->path);
    un.sun_path[sizeof un.sun_path - 1] = '\0';
    memcpy(to, &un, sizeof un);
    return sizeof un;
  }
  if (mp_ip_is4(&at->ip)) {
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(at->port) };
    memcpy(&in.sin_addr, at->ip.octets + 12, 4);
    memcpy(to, &in, sizeof in);
    return sizeof in;
  }
  struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(at->port) };
  memcpy(&in6.sin6_addr, at->ip.octets, 16);
  memcpy(to, &in6, sizeof in6);
  return sizeof in6;
}

/* Binds to the address that is asked for; the port is chosen by connect, which knows both ends of it. */
static int bind_source(const mp_dial *dial, int fd, const mp_endpoint *at)
{
  bool is4 = !at->is_unix && mp_ip_is4(&at->ip);
  if (at->is_unix || !(is4 ? dial->opts.bind4 : dial->opts.bind6))
    return 0;
  int on = 1;
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  mp_endpoint from = { .ip = is4 ? dial->opts.source4 : dial->opts.source6 };
  struct sockaddr_storage address;
  socklen_t len = address_of(&address, &from);
  return bind(fd, (struct sockaddr *)&address, len) == 0 ? 0 : errno;
}

/* Begins one address. 0, or an errno with nothing left open. */
static int connect_one(mp_dial *dial, attempt *one, const mp_endpoint *at)
{
  struct sockaddr_storage address;
  socklen_t len = address_of(&address, at);
  one->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (one->fd < 0)
    return errno;
  int on = 1;
  if (!at->is_unix) /* commands in a flight are one write; what is held back would wait for an answer */
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  int sys = bind_source(dial, one->fd, at);
  if (sys == 0 && connect(one->fd, (struct sockaddr *)&address, len) != 0 && errno != EINPROGRESS)
    sys = errno;
  if (sys == 0) {
    int err = uv_poll_init(&dial->loop->uv, &one->poll, one->fd);
    sys = err < 0 ? -err : 0;
  }
  if (sys != 0) {
    close(one->fd);
    one->fd = -1;
    return sys;
  }
  one->watched = true;
  one->poll.data = one;
  dial->handles++;
  int err = uv_poll_start(&one->poll, UV_WRITABLE, on_writable);
  return err < 0 ? -err : 0;
}

static void begin_next(mp_dial *dial, int64_t now)
{
  while (dial->begun < dial->opts.count && dial->next <= now) {
    size_t which = dial->begun++;
    attempt *one = &dial->attempts[which];
    one->due = now + dial->opts.each_ms;
    dial->alive++;
    int sys = connect_one(dial, one, &dial->to[which]);
    if (sys == 0) {
      dial->next = now + dial->opts.stagger_ms;
      return;
    }
    complain_errno(dial, which, sys);
    unwatch(one, false);
  }
}

static void expire(mp_dial *dial, int64_t now)
{
  for (size_t i = 0; i < dial->begun; i++)
    if (dial->attempts[i].due <= now) {
      complain_errno(dial, i, ETIMEDOUT);
      unwatch(&dial->attempts[i], false);
      dial->next = now;
    }
}

static void on_timer(mp_timer *timer, int64_t now)
{
  mp_dial *dial = MP_CONTAINER(timer, mp_dial, timer);
  if (dial->won) {
    attempt *one = &dial->attempts[dial->winner];
    mp_stream *stream = NULL;
    int rc = mp_stream_open(&stream, dial->loop, one->fd, dial->to[dial->winner].is_unix);
    if (rc == 0)
      one->fd = -1; /* the stream's */
    else
      complain(dial, dial->winner, mp_error_text(rc));
    tell(dial, rc == 0 ? stream : NULL, rc);
    return;
  }
  expire(dial, now);
  begin_next(dial, now);
  if (dial->alive == 0) {
    tell(dial, NULL, dial->timed_out ? MP_E_TIMEOUT : dial->rc);
    return;
  }
  int64_t due = dial->begun < dial->opts.count ? dial->next : INT64_MAX;
  for (size_t i = 0; i < dial->begun; i++)
    due = dial->attempts[i].due < due ? dial->attempts[i].due : due;
  if (mp_timers_set(&dial->loop->timers, &dial->timer, due) < 0) {
    complain(dial, dial->begun - 1, mp_error_text(MP_E_NOMEM));
    tell(dial, NULL, MP_E_NOMEM);
  }
}

static void on_left(mp_leftover *left)
{
  tell(MP_CONTAINER(left, mp_dial, left), NULL, MP_E_CANCELLED);
}

int mp_dial_start(mp_dial **out, mp_loop *loop, const mp_dial_opts *opts, mp_dialled done, void *ctx)
{
  if (loop->is_virtual)
    return MP_E_MISUSE;
  if (opts->count == 0 || opts->count > MP_DIAL_MOST)
    return MP_E_INVALID;
  mp_dial *dial = mp_mem_zalloc(sizeof *dial + opts->count * sizeof(attempt));
  mp_endpoint *to = mp_mem_alloc(opts->count * sizeof *to);
  if (dial && to) {
    memcpy(to, opts->to, opts->count * sizeof *to);
    *dial = (mp_dial){ .loop = loop, .done = done, .ctx = ctx, .opts = *opts, .to = to, .rc = MP_E_SYSTEM };
    dial->opts.stagger_ms = opts->stagger_ms > 0 ? opts->stagger_ms : STAGGER_MS;
    dial->opts.each_ms = opts->each_ms > 0 ? opts->each_ms : EACH_MS;
    for (size_t i = 0; i < opts->count; i++)
      dial->attempts[i] = (attempt){ .dial = dial, .fd = -1, .due = INT64_MAX };
    mp_timer_init(&dial->timer, on_timer);
    if (mp_timers_set(&loop->timers, &dial->timer, mp_loop_now(loop)) == 0) {
      dial->left.close = on_left;
      mp_list_push(&loop->left, &dial->left.node);
      loop->alive++;
      *out = dial;
      return 0;
    }
  }
  mp_mem_free(to);
  mp_mem_free(dial);
  return MP_E_NOMEM;
}

void mp_dial_cancel(mp_dial *dial)
{
  if (dial)
    dispose(dial);
}
