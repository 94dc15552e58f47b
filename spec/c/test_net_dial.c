/* Dialling: which address wins, what becomes of the others, and what is said when none does. */
#include "support/check.h"

#include "base/error.h"
#include "net/dial.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SLOW_MS = 5000, SHORT_MS = 30 };

typedef struct outcome {
  mp_stream *stream;
  size_t which;
  int rc, times, closed;
  char why[MP_DIAL_WHY];
} outcome;

static void on_read(void *ctx, const char *in, mp_ssize len)
{
  (void)ctx, (void)in, (void)len;
}

static void on_closed(void *ctx)
{
  ((outcome *)ctx)->closed++;
}

static const mp_stream_calls calls = { .read = on_read, .closed = on_closed };

static void on_dialled(void *ctx, mp_stream *stream, size_t which, int rc, const char *why)
{
  outcome *o = ctx;
  o->stream = stream;
  o->which = which;
  o->rc = rc;
  o->times++;
  snprintf(o->why, sizeof o->why, "%s", why);
  if (stream)
    mp_stream_attach(stream, &calls, o);
}

typedef struct guard {
  mp_timer timer;
  bool late;
} guard;

static void on_guard(mp_timer *timer, int64_t now_ms)
{
  (void)now_ms;
  MP_CONTAINER(timer, guard, timer)->late = true;
}

static void run_to_end(mp_loop *loop, const outcome *o)
{
  guard g = { 0 };
  mp_timer_init(&g.timer, on_guard);
  mp_timers_set(&loop->timers, &g.timer, mp_loop_now(loop) + SLOW_MS);
  while (o->times == 0 && !g.late)
    mp_loop_turn(loop, true);
  mp_timers_clear(&loop->timers, &g.timer);
  CHECK_EQ_INT(o->times, 1);
}

/* A listening socket on a loopback address; `at` is where. */
static int listening(const char *ip, mp_endpoint *at, int backlog)
{
  *at = (mp_endpoint){ 0 };
  CHECK(mp_ip_parse(&at->ip, mp_str_c(ip)));
  bool is4 = mp_ip_is4(&at->ip);
  int fd = socket(is4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in in = { .sin_family = AF_INET };
  struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
  memcpy(&in.sin_addr, at->ip.octets + 12, 4);
  memcpy(&in6.sin6_addr, at->ip.octets, 16);
  struct sockaddr *to = is4 ? (struct sockaddr *)&in : (struct sockaddr *)&in6;
  socklen_t len = is4 ? sizeof in : sizeof in6;
  CHECK(bind(fd, to, len) == 0 && listen(fd, backlog) == 0 && getsockname(fd, to, &len) == 0);
  at->port = ntohs(is4 ? in.sin_port : in6.sin6_port);
  return fd;
}

/* A port that nobody listens on: it was somebody's a moment ago. */
static mp_endpoint nobody(void)
{
  mp_endpoint at;
  close(listening("127.0.0.1", &at, 1));
  return at;
}

/* A port that answers nobody: its backlog is full. */
typedef struct silent {
  mp_endpoint at;
  int fd, callers[2];
} silent;

static silent silent_open(void)
{
  silent s;
  s.fd = listening("127.0.0.1", &s.at, 0);
  struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(s.at.port) };
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (int i = 0; i < 2; i++) {
    s.callers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    connect(s.callers[i], (struct sockaddr *)&in, sizeof in);
  }
  return s;
}

static void silent_close(silent *s)
{
  close(s->fd);
  close(s->callers[0]);
  close(s->callers[1]);
}

static void finish(mp_loop *loop, outcome *o)
{
  if (o->stream)
    mp_stream_close(o->stream);
  mp_loop_dispose(loop);
  CHECK_EQ_INT(o->closed, o->stream != NULL);
}

TEST(the_first_address_that_answers_wins)
{
  static const char *const hosts[] = { "127.0.0.1", "::1" };
  for (int i = 0; i < 2; i++) {
    mp_loop loop;
    mp_endpoint to[2];
    int fd = listening(hosts[i], &to[0], 8), other = listening("127.0.0.1", &to[1], 8);
    outcome o = { 0 };
    mp_dial *dial;
    REQUIRE(mp_loop_init(&loop) == 0);
    mp_dial_opts opts = { .to = to, .count = 2 };
    CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), 0);
    CHECK_EQ_INT(o.times, 0); /* never inside the call */
    run_to_end(&loop, &o);
    CHECK(o.stream != NULL);
    CHECK_EQ_INT(o.which, 0);
    CHECK_CSTR(o.why, "");
    if (o.stream) {
      mp_stream_peer peer;
      mp_stream_peer_get(o.stream, &peer);
      CHECK_EQ_INT(peer.port, to[0].port);
      CHECK_EQ_INT(mp_stream_write(o.stream, "hello", 5, 100), 0);
      int conn = accept(fd, NULL, NULL);
      char in[8];
      CHECK_EQ_INT(read(conn, in, sizeof in), 5);
      close(conn);
    }
    finish(&loop, &o);
    close(fd);
    close(other);
  }
}

TEST(an_address_that_refuses_is_left_for_the_next_at_once)
{
  mp_loop loop;
  mp_endpoint to[2] = { nobody() };
  int fd = listening("127.0.0.1", &to[1], 8);
  outcome o = { 0 };
  mp_dial *dial;
  REQUIRE(mp_loop_init(&loop) == 0);
  int64_t before = mp_loop_now(&loop);
  mp_dial_opts opts = { .to = to, .count = 2, .stagger_ms = SLOW_MS };
  CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), 0);
  run_to_end(&loop, &o);
  CHECK(o.stream != NULL);
  CHECK_EQ_INT(o.which, 1);
  CHECK(mp_loop_now(&loop) - before < SLOW_MS);
  finish(&loop, &o);
  close(fd);
}

TEST(an_address_that_is_silent_has_a_head_start_and_no_more)
{
  mp_loop loop;
  silent s = silent_open();
  mp_endpoint to[2] = { s.at };
  int fd = listening("127.0.0.1", &to[1], 8);
  outcome o = { 0 };
  mp_dial *dial;
  REQUIRE(mp_loop_init(&loop) == 0);
  int64_t before = mp_loop_now(&loop);
  mp_dial_opts opts = { .to = to, .count = 2, .stagger_ms = SHORT_MS };
  CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), 0);
  run_to_end(&loop, &o);
  CHECK(o.stream != NULL);
  CHECK_EQ_INT(o.which, 1);
  CHECK(mp_loop_now(&loop) - before >= SHORT_MS);
  finish(&loop, &o);
  close(fd);
  silent_close(&s);
}

TEST(nobody_answers_in_time)
{
  mp_loop loop;
  silent s = silent_open();
  outcome o = { 0 };
  mp_dial *dial;
  REQUIRE(mp_loop_init(&loop) == 0);
  mp_endpoint to[2] = { s.at, nobody() };
  mp_dial_opts opts = { .to = to, .count = 2, .each_ms = SHORT_MS, .stagger_ms = 1 };
  CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), 0);
  run_to_end(&loop, &o);
  CHECK(o.stream == NULL);
  CHECK_EQ_INT(o.rc, MP_E_TIMEOUT);
  CHECK(strstr(o.why, ": no answer") != NULL);
  CHECK(strstr(o.why, ": Connection refused") != NULL);
  finish(&loop, &o);
  silent_close(&s);
}

TEST(many_addresses_that_fail_fit_one_line)
{
  mp_loop loop;
  mp_endpoint to[MP_DIAL_MOST];
  for (int i = 0; i < MP_DIAL_MOST; i++)
    to[i] = nobody();
  outcome o = { 0 };
  mp_dial *dial;
  REQUIRE(mp_loop_init(&loop) == 0);
  mp_dial_opts opts = { .to = to, .count = MP_DIAL_MOST };
  CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), 0);
  run_to_end(&loop, &o);
  CHECK(o.stream == NULL);
  CHECK_EQ_INT(o.rc, MP_E_SYSTEM);
  CHECK_EQ_INT(strlen(o.why), MP_DIAL_WHY - 1);
  opts.count = MP_DIAL_MOST + 1;
  CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), MP_E_INVALID);
  opts.count = 0;
  CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), MP_E_INVALID);
  finish(&loop, &o);
}

TEST(a_unix_socket_is_dialled_by_its_path)
{
  char folder[] = "/tmp/mp-dial-XXXXXX";
  REQUIRE(mkdtemp(folder) != NULL);
  mp_endpoint to = { .is_unix = true };
  snprintf(to.path, sizeof to.path, "%s/s", folder);
  for (int i = 0; i < 2; i++) {
    mp_loop loop;
    outcome o = { 0 };
    mp_dial *dial;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    snprintf(un.sun_path, sizeof un.sun_path, "%s", to.path);
    if (i == 0)
      CHECK(bind(fd, (struct sockaddr *)&un, sizeof un) == 0 && listen(fd, 8) == 0);
    REQUIRE(mp_loop_init(&loop) == 0);
    mp_dial_opts opts = { .to = &to, .count = 1 };
    CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), 0);
    run_to_end(&loop, &o);
    CHECK_EQ_INT(o.stream != NULL, i == 0);
    CHECK_EQ_INT(o.rc, i == 0 ? 0 : MP_E_NOTFOUND);
    finish(&loop, &o);
    close(fd);
    unlink(to.path);
  }
  CHECK_EQ_INT(rmdir(folder), 0);
}

TEST(a_source_address_is_what_the_peer_sees)
{
  mp_loop loop;
  mp_endpoint to;
  int fd = listening("127.0.0.1", &to, 8);
  outcome o = { 0 };
  mp_dial *dial;
  REQUIRE(mp_loop_init(&loop) == 0);
  mp_dial_opts opts = { .to = &to, .count = 1, .bind4 = true };
  CHECK(mp_ip_parse(&opts.source4, MP_STR("127.0.0.77")));
  CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), 0);
  run_to_end(&loop, &o);
  CHECK(o.stream != NULL);
  struct sockaddr_in in = { 0 };
  socklen_t len = sizeof in;
  int conn = accept(fd, (struct sockaddr *)&in, &len);
  CHECK_EQ_INT(ntohl(in.sin_addr.s_addr), 0x7f00004d);
  close(conn);
  finish(&loop, &o);

  o = (outcome){ 0 };
  REQUIRE(mp_loop_init(&loop) == 0);
  CHECK(mp_ip_parse(&opts.source4, MP_STR("192.0.2.1"))); /* not ours */
  CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), 0);
  run_to_end(&loop, &o);
  CHECK(o.stream == NULL);
  CHECK(strstr(o.why, "Cannot assign requested address") != NULL);
  finish(&loop, &o);
  close(fd);
}

TEST(what_is_cancelled_tells_nobody)
{
  mp_loop loop;
  silent s = silent_open();
  outcome o = { 0 };
  mp_dial *dial;
  REQUIRE(mp_loop_init(&loop) == 0);
  mp_endpoint to[2] = { s.at, s.at };
  mp_dial_opts opts = { .to = to, .count = 2, .stagger_ms = 1 };
  CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), 0);
  mp_dial_cancel(dial); /* before it began */
  CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), 0);
  mp_loop_turn(&loop, true);
  mp_dial_cancel(dial);
  mp_dial_cancel(NULL);
  while (mp_loop_turn(&loop, false))
    ;
  CHECK_EQ_INT(o.times, 0);
  CHECK_EQ_INT(loop.alive, 0);
  finish(&loop, &o);
  silent_close(&s);
}

TEST(a_loop_that_ends_tells_so)
{
  mp_loop loop;
  silent s = silent_open();
  outcome o = { 0 };
  mp_dial *dial;
  REQUIRE(mp_loop_init(&loop) == 0);
  mp_dial_opts opts = { .to = &s.at, .count = 1 };
  CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), 0);
  mp_loop_turn(&loop, true);
  mp_loop_dispose(&loop);
  CHECK_EQ_INT(o.times, 1);
  CHECK_EQ_INT(o.rc, MP_E_CANCELLED);
  silent_close(&s);
}

TEST(memory_that_runs_out_is_an_outcome)
{
  mp_endpoint to[2] = { nobody() };
  int fd = listening("127.0.0.1", &to[1], 64);
  FOR_EACH_ALLOC_FAILURE {
    mp_loop loop;
    outcome o = { 0 };
    mp_dial *dial;
    if (mp_loop_init(&loop) != 0)
      continue;
    mp_dial_opts opts = { .to = to, .count = 2 };
    int rc = mp_dial_start(&dial, &loop, &opts, on_dialled, &o);
    if (rc == 0) {
      while (o.times == 0)
        mp_loop_turn(&loop, true);
      CHECK(o.stream || o.rc == MP_E_NOMEM);
      CHECK(o.stream || CHECK_ALLOC_FAILED());
    } else
      CHECK_EQ_INT(rc, MP_E_NOMEM);
    finish(&loop, &o);
  }
  close(fd);
}

TEST(a_virtual_loop_dials_nobody)
{
  mp_loop loop;
  outcome o = { 0 };
  mp_dial *dial;
  mp_endpoint to = nobody();
  REQUIRE(mp_loop_init_virtual(&loop, 0) == 0);
  mp_dial_opts opts = { .to = &to, .count = 1 };
  CHECK_EQ_INT(mp_dial_start(&dial, &loop, &opts, on_dialled, &o), MP_E_MISUSE);
  mp_loop_dispose(&loop);
}

CHECK_MAIN
