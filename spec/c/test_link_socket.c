/* The pump of an outgoing connection over sockets: peers that do not read, that are gone, and threads that still work. */
#include "support/link_rig.h"

#include "net/handle.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

enum { BODY = 8 << 20, QUEUED_MOST = 1 << 20, PATIENCE_MS = 20000 };

/* A rig whose stream is one end of a pair; the other is `peer`. */
typedef struct wired {
  rig r;
  int peer;    /* -1: closed */
  bool orphan; /* the worker goes first */
  mp_stream *ours;
  char said[4096]; /* by the link, since the last look; what does not fit is counted alone */
  size_t len;
  uint64_t total;
} wired;

static bool wired_init(wired *w, const char *plan)
{
  int fds[2];
  mp_worker *worker;
  *w = (wired){ .peer = -1 };
  if (mp_worker_new(&worker, 0, NULL, false) < 0)
    return false;
  rig_init(&w->r, worker, plan);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
    return false;
  w->peer = fds[1];
  return mp_stream_open(&w->ours, &worker->loop, fds[0], true) == 0;
}

static void wired_close(wired *w)
{
  if (w->peer >= 0)
    close(w->peer);
  if (!w->orphan) {
    mp_link_close(w->r.link);
    w->r.link = NULL;
  }
  mp_worker_free(w->r.worker);
  mp_transaction_dispose(&w->r.tx);
  cwire_clear(&w->r.events);
  cwire_clear(&w->r.trace);
}

static void wired_read(wired *w)
{
  static char octets[65536];
  for (ssize_t n; w->peer >= 0 && (n = read(w->peer, octets, sizeof octets)) > 0;) {
    w->total += (uint64_t)n;
    size_t keep = sizeof w->said - w->len < (size_t)n ? sizeof w->said - w->len : (size_t)n;
    memcpy(w->said + w->len, octets, keep);
    w->len += keep;
  }
}

static void guard_fired(mp_timer *timer, int64_t now_ms)
{
  (void)now_ms;
  timer->due_ms = -1;
}

/* Turns until `events` is what came, or the link is over. The peer reads meanwhile unless `deaf`. */
static bool wired_until(wired *w, const char *events, bool deaf)
{
  mp_loop *loop = &w->r.worker->loop;
  mp_timer guard;
  mp_timer_init(&guard, guard_fired);
  mp_timers_set(&loop->timers, &guard, mp_loop_now(loop) + PATIENCE_MS);
  while (guard.slot && !mp_str_eq(mp_str_of(w->r.events.ptr, w->r.events.len), mp_str_c(events)) && !w->r.closed) {
    mp_loop_turn(loop, false);
    if (!deaf)
      wired_read(w);
    struct pollfd fd = { .fd = mp_loop_fd(loop), .events = POLLIN };
    int wait = mp_loop_timeout(loop);
    poll(&fd, 1, wait >= 0 && wait < 5 ? wait : 5);
  }
  mp_timers_clear(&loop->timers, &guard);
  bool ok = check_eq_str(__FILE__, __LINE__, "what came", mp_str_of(w->r.events.ptr, w->r.events.len),
                         mp_str_c(events));
  cwire_clear(&w->r.events);
  return ok;
}

static void wired_say(wired *w, const char *text)
{
  CHECK_EQ_INT(write(w->peer, text, strlen(text)), strlen(text));
}

static char *long_body(void)
{
  char *octets = malloc(BODY);
  for (size_t at = 0; at < BODY; at += 64)
    memcpy(octets + at, "sixty-two octets of a line that goes on and on, as mail does..\r\n", 64);
  return octets;
}

/* Up to 354, with a body that is longer than any buffer. */
static bool upto_body(wired *w, char *octets)
{
  w->r.source.octets = mp_str_of(octets, BODY);
  if (rig_link(&w->r, w->ours) < 0)
    return false;
  wired_say(w, "220 mx\r\n");
  if (!wired_until(w, "greet=220+", false))
    return false;
  wired_say(w, "250-mx\r\n250 PIPELINING\r\n");
  if (!wired_until(w, "hello=250+", false))
    return false;
  while (w->len < 5 || memcmp(w->said + w->len - 6, "DATA\r\n", 6) != 0) {
    mp_loop_turn(&w->r.worker->loop, false);
    wired_read(w);
  }
  w->total = 0;
  wired_say(w, "250 ok\r\n250 ok\r\n354 go\r\n");
  for (int i = 0; i < 50; i++)
    mp_loop_turn(&w->r.worker->loop, false);
  return true;
}

TEST(a_peer_that_does_not_read_fills_no_memory)
{
  char *octets = long_body();
  wired w;
  REQUIRE(wired_init(&w, "hmq"));
  REQUIRE(upto_body(&w, octets));
  size_t queued = mp_stream_queued(w.ours);
  CHECK(queued > 0 && queued <= QUEUED_MOST);
  for (int i = 0; i < 50; i++)
    mp_loop_turn(&w.r.worker->loop, false);
  CHECK_EQ_INT(mp_stream_queued(w.ours), queued);
  mp_loop *loop = &w.r.worker->loop;
  for (int64_t end = mp_loop_now(loop) + PATIENCE_MS; w.total < BODY + 3 && mp_loop_now(loop) < end;) {
    mp_loop_turn(loop, false);
    wired_read(&w);
    CHECK(mp_stream_queued(w.ours) <= QUEUED_MOST);
  }
  CHECK_EQ_INT(w.total, BODY + 3);
  wired_say(&w, "250 taken\r\n");
  CHECK(wired_until(&w, "send=250+", false));
  wired_say(&w, "221 bye\r\n");
  CHECK(wired_until(&w, "quit=221+ closed", false));
  wired_close(&w);
  free(octets);
}

TEST(a_peer_that_never_reads_is_given_up)
{
  char *octets = long_body();
  wired w;
  REQUIRE(wired_init(&w, "hmq"));
  w.r.opts.machine.block_ms = 30;
  REQUIRE(upto_body(&w, octets));
  CHECK(wired_until(&w, "send!TIMEOUT closed!TIMEOUT", true));
  CHECK_CSTR(w.r.why, "the peer does not read");
  CHECK_EQ_INT(w.r.rcpt.result.state, MP_RCPT_DEFERRED);
  free(octets); /* borrowed to `done`, which has come: what is queued is a copy */
  wired_close(&w);
}

TEST(a_peer_that_resets_in_the_middle_is_lost)
{
  char *octets = long_body();
  for (int how = 0; how < 2; how++) {
    wired w;
    REQUIRE(wired_init(&w, "hmq"));
    REQUIRE(upto_body(&w, octets));
    if (how == 0) {
      close(w.peer); /* over unread octets */
      w.peer = -1;
    } else {
      shutdown(w.peer, SHUT_RD);
      wired_read(&w);
    }
    CHECK(wired_until(&w, "send!EOF closed!EOF", false));
    CHECK_EQ_INT(w.r.rcpt.result.state, MP_RCPT_DEFERRED);
    wired_close(&w);
  }
  free(octets);
}

/* The ClientHello of a link to a peer that was gone already told of the end while the link was still being made, to somebody who did not have it yet. */
TEST(a_peer_that_is_gone_before_is_told_of_on_a_later_turn)
{
  char why[200];
  mp_tls_client_config *config;
  REQUIRE(mp_tls_client_config_new(&config, &(mp_tls_client_opts){ 0 }, why, sizeof why) == 0);
  for (int tls = 0; tls < 2; tls++) {
    wired w;
    REQUIRE(wired_init(&w, "hmq"));
    w.r.config = config;
    if (tls)
      REQUIRE(rig_session(&w.r, &w.r.opts.tls) == 0);
    close(w.peer);
    w.peer = -1;
    CHECK_EQ_INT(rig_link(&w.r, w.ours), 0); /* which looks whether anybody was called */
    CHECK(w.r.link != NULL);
    CHECK(wired_until(&w, tls ? "greet!TLS closed!TLS" : "greet!EOF closed!EOF", false));
    wired_close(&w);
  }
  for (int tls = 0; tls < 2; tls++) { /* and nobody, when the link is closed at once */
    wired w;
    REQUIRE(wired_init(&w, ""));
    w.r.config = config;
    if (tls)
      REQUIRE(rig_session(&w.r, &w.r.opts.tls) == 0);
    close(w.peer);
    w.peer = -1;
    CHECK_EQ_INT(rig_link(&w.r, w.ours), 0);
    mp_link_close(w.r.link);
    w.r.link = NULL;
    rig_turn(&w.r);
    CHECK_EQ_INT(w.r.calls + w.r.closed, 0);
    wired_close(&w);
  }
  mp_tls_client_config_unref(config);
}

TEST(an_operation_to_a_peer_that_is_gone_ends_on_a_later_turn)
{
  wired w;
  REQUIRE(wired_init(&w, ""));
  REQUIRE(rig_link(&w.r, w.ours) == 0);
  wired_say(&w, "220 mx\r\n");
  REQUIRE(wired_until(&w, "greet=220+", false));
  shutdown(w.peer, SHUT_RD); /* it still speaks, so nobody knows yet */
  CHECK_EQ_INT(mp_link_hello(w.r.link), 0);
  CHECK_EQ_INT(w.r.events.len, 0);
  CHECK(wired_until(&w, "hello!EOF closed!EOF", false));
  wired_close(&w);
}

TEST(a_thread_may_work_on_when_link_and_worker_are_gone)
{
  for (int how = 0; how < 3; how++) {
    wired w;
    char challenge[400];
    REQUIRE(wired_init(&w, "ha"));
    w.r.login = (mp_client_login){ .user = MP_STR("me"), .password = MP_STR("secret") };
    REQUIRE(rig_link(&w.r, w.ours) == 0);
    wired_say(&w, "220 mx\r\n");
    REQUIRE(wired_until(&w, "greet=220+", false));
    wired_say(&w, "250-mx\r\n250 AUTH SCRAM-SHA-256\r\n");
    REQUIRE(wired_until(&w, "hello=250+", false));
    for (int i = 0; i < 10; i++) {
      mp_loop_turn(&w.r.worker->loop, false);
      wired_read(&w);
    }
    size_t len = rig_challenge(mp_str_of(w.said, w.len), challenge, sizeof challenge);
    REQUIRE(len > 0);
    CHECK_EQ_INT(write(w.peer, challenge, len), len);
    mp_loop_turn(&w.r.worker->loop, false); /* hands it to a thread */
    CHECK(w.r.link != NULL);
    if (how == 0) {
      mp_link_close(w.r.link);
      w.r.link = NULL;
      rig_turn(&w.r);
    } else if (how == 1) {
      mp_link_leave(w.r.link);
      w.r.link = NULL;
    } else {
      w.orphan = true;
    }
    wired_close(&w);
    CHECK_EQ_INT(w.r.closed, how == 2);
  }
}

CHECK_MAIN
