/* Requests without Lua, over a loop that the test hands to the pool, from a server in a thread; and with allocations that fail. */
#include "support/check.h"

#include "http/pool.h"
#include "net/poll.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- what bind/api.c is in the module ---------------------------------------------------------------------------- */

struct mp_watch_timer {
  mp_timer timer;
  mp_loop *loop;
  void (*fired)(void *ctx);
  void *ctx;
};

static int fd_open(mp_watch_fd **watch, mp_watch_loop *loop, int fd, void (*ready)(void *, int), void *ctx)
{
  return mp_poll_open((mp_poll **)(void *)watch, (mp_loop *)(void *)loop, fd, ready, ctx);
}

static void fd_set_events(mp_watch_fd *watch, int events)
{
  mp_poll_set((mp_poll *)(void *)watch, events, true);
}

static void fd_close(mp_watch_fd *watch)
{
  mp_poll_close((mp_poll *)(void *)watch);
}

static void fire(mp_timer *timer, int64_t now_ms)
{
  (void)now_ms;
  mp_watch_timer *watch = MP_CONTAINER(timer, mp_watch_timer, timer);
  watch->fired(watch->ctx);
}

static int timer_open(mp_watch_timer **out, mp_watch_loop *loop, void (*fired)(void *), void *ctx)
{
  mp_watch_timer *watch = mp_mem_zalloc(sizeof *watch);
  if (!watch)
    return -1;
  mp_timer_init(&watch->timer, fire);
  watch->loop = (mp_loop *)(void *)loop;
  watch->fired = fired;
  watch->ctx = ctx;
  *out = watch;
  return 0;
}

static bool no_timer; /* as if the heap of timers could not grow */

static int timer_set(mp_watch_timer *watch, int64_t ms)
{
  if (no_timer && ms >= 0)
    return -1;
  if (ms >= 0)
    return mp_timers_set(&watch->loop->timers, &watch->timer, mp_loop_now(watch->loop) + ms);
  mp_timers_clear(&watch->loop->timers, &watch->timer);
  return 0;
}

static void timer_close(mp_watch_timer *watch)
{
  mp_timers_clear(&watch->loop->timers, &watch->timer);
  mp_mem_free(watch);
}

static const mp_watch_api api = {
  .version = MP_WATCH_API_VERSION,
  .fd_open = fd_open,
  .fd_set = fd_set_events,
  .fd_close = fd_close,
  .timer_open = timer_open,
  .timer_set = timer_set,
  .timer_close = timer_close,
  .resize = mp_mem_realloc,
  .free = mp_mem_free,
};

/* ---- the server -------------------------------------------------------------------------------------------------- */

static int listener = -1;
static char base[64];

static void answer(int fd, const char *head, size_t body)
{
  static const char octets[4096];
  if (write(fd, head, strlen(head)) < 0)
    return;
  while (body > 0) {
    ssize_t n = send(fd, octets, body < sizeof octets ? body : sizeof octets, MSG_NOSIGNAL);
    if (n < 0)
      return;
    body -= (size_t)n;
  }
}

/* One connection at a time, one request in each: /ok, /big (100,000 octets), /hang (nothing until the client goes). Ends with the listener. */
static void *serve(void *arg)
{
  (void)arg;
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
      return NULL;
    char request[4096];
    ssize_t n = read(fd, request, sizeof request - 1);
    request[n > 0 ? n : 0] = 0;
    if (strncmp(request, "GET /ok ", 8) == 0)
      answer(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", 0);
    else if (strncmp(request, "GET /big ", 9) == 0)
      answer(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", 100000);
    if (strncmp(request, "GET /hang ", 10) != 0)
      shutdown(fd, SHUT_WR);
    while (read(fd, request, sizeof request) > 0)
      ;
    close(fd);
  }
}

static pthread_t thread;

static void start_server(void)
{
  struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
  socklen_t len = sizeof at;
  listener = socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(listener >= 0 && bind(listener, (struct sockaddr *)&at, len) == 0 && listen(listener, 16) == 0);
  REQUIRE(getsockname(listener, (struct sockaddr *)&at, &len) == 0);
  snprintf(base, sizeof base, "http://127.0.0.1:%d", ntohs(at.sin_port));
  REQUIRE(pthread_create(&thread, NULL, serve, NULL) == 0);
}

static void stop_server(void)
{
  shutdown(listener, SHUT_RDWR);
  pthread_join(thread, NULL);
  close(listener);
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

typedef struct seen {
  int calls;
  char kind[16];
  long status;
  size_t body;
} seen;

static void on_done(void *ctx, const mp_http_result *result)
{
  seen *s = ctx;
  s->calls++;
  snprintf(s->kind, sizeof s->kind, "%s", result->kind ? result->kind : "");
  s->status = result->status;
  s->body = result->body->len;
  CHECK(!result->kind == !result->why);
}

static mp_http_transfer *ask(mp_http_pool *pool, const char *path, seen *s)
{
  char url[128];
  const char *why;
  snprintf(url, sizeof url, "%s%s", base, path);
  mp_http_opts opts = {
    .method = "GET",
    .url = url,
    .agent = "test",
    .timeout_ms = 2000,
    .connect_ms = 2000,
    .max_size = 50000,
    .insecure = true,
  };
  mp_http_transfer *transfer = mp_http_start(pool, &opts, on_done, s, &why);
  CHECK(transfer || *why);
  return transfer;
}

static void wait_for(mp_loop *loop, const seen *s)
{
  while (s->calls == 0 && mp_loop_turn(loop, true))
    ;
}

static mp_watch_loop *given(mp_loop *loop)
{
  return (mp_watch_loop *)(void *)loop;
}

TEST(a_response_comes_whole_and_once)
{
  mp_loop loop;
  mp_http_pool *pool;
  start_server();
  REQUIRE(mp_loop_init(&loop) == 0 && mp_http_pool_new(&pool, &api, given(&loop)) == 0);
  seen ok = { 0 }, big = { 0 };
  REQUIRE(ask(pool, "/ok", &ok));
  wait_for(&loop, &ok);
  CHECK_EQ_INT(ok.calls, 1);
  CHECK_STR(mp_str_c(ok.kind), "");
  CHECK_EQ_INT(ok.status, 200);
  CHECK_EQ_INT(ok.body, 5);
  REQUIRE(ask(pool, "/big", &big));
  wait_for(&loop, &big);
  CHECK_STR(mp_str_c(big.kind), "too_large");
  CHECK(!mp_loop_turn(&loop, false)); /* nothing is left that would keep the loop going */
  mp_http_pool_free(pool);
  mp_loop_dispose(&loop);
  stop_server();
}

TEST(a_cancelled_request_is_told_nothing)
{
  mp_loop loop;
  mp_http_pool *pool;
  start_server();
  REQUIRE(mp_loop_init(&loop) == 0 && mp_http_pool_new(&pool, &api, given(&loop)) == 0);
  seen gone = { 0 }, freed = { 0 }, ok = { 0 };
  mp_http_transfer *transfer = ask(pool, "/hang", &gone);
  REQUIRE(transfer);
  for (int i = 0; i < 3; i++)
    mp_loop_turn(&loop, true);
  mp_http_cancel(transfer);
  REQUIRE(ask(pool, "/ok", &ok));
  wait_for(&loop, &ok);
  CHECK_EQ_INT(gone.calls, 0);
  REQUIRE(ask(pool, "/ok", &freed));
  mp_http_pool_free(pool);
  CHECK_EQ_INT(freed.calls, 0);
  mp_loop_dispose(&loop);
  stop_server();
}

TEST(without_a_timer_everything_ends_at_once)
{
  mp_loop loop;
  mp_http_pool *pool;
  start_server();
  REQUIRE(mp_loop_init(&loop) == 0 && mp_http_pool_new(&pool, &api, given(&loop)) == 0);
  seen none = { 0 }, doomed = { 0 };
  no_timer = true;
  CHECK(!ask(pool, "/ok", &none));
  no_timer = false;
  REQUIRE(ask(pool, "/ok", &doomed));
  no_timer = true;
  wait_for(&loop, &doomed);
  no_timer = false;
  CHECK_EQ_INT(none.calls, 0);
  CHECK_EQ_INT(doomed.calls, 1);
  mp_http_pool_free(pool);
  mp_loop_dispose(&loop);
  stop_server();
}

TEST(an_allocation_that_fails_ends_a_request_and_nothing_else)
{
  mp_loop loop;
  start_server();
  REQUIRE(mp_loop_init(&loop) == 0);
  FOR_EACH_ALLOC_FAILURE {
    mp_http_pool *pool;
    seen s = { 0 };
    if (mp_http_pool_new(&pool, &api, given(&loop)) < 0) {
      CHECK(CHECK_ALLOC_FAILED());
      continue;
    }
    bool started = ask(pool, "/ok", &s) != NULL;
    if (started)
      wait_for(&loop, &s);
    CHECK_EQ_INT(s.calls, started ? 1 : 0);
    CHECK(CHECK_ALLOC_FAILED() || s.status == 200);
    mp_http_pool_free(pool);
  }
  mp_loop_dispose(&loop);
  stop_server();
}

CHECK_MAIN
