/* Streams: on real sockets with a raw peer, and in memory. */
#include "support/check.h"

#include "base/error.h"
#include "net/handle.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SLOW_MS = 5000, CEILING = 1 << 20 };

/* What a stream told us, and what to do when it does. */
typedef struct seen {
  mp_stream *stream;
  mp_buf in;
  int eofs, errors, drained, closed;
  bool close_in_read, stop_in_read, write_in_drained, echo;
} seen;

static void on_read(void *ctx, const char *in, mp_ssize len)
{
  seen *s = ctx;
  CHECK_EQ_INT(s->closed, 0);
  if (len == 0)
    s->eofs++;
  else if (len < 0)
    s->errors++;
  else {
    mp_buf_add(&s->in, in, (size_t)len);
    if (s->echo)
      CHECK_EQ_INT(mp_stream_write(s->stream, in, (size_t)len, CEILING), 0);
  }
  if (s->stop_in_read)
    mp_stream_stop(s->stream);
  if (s->close_in_read) {
    mp_stream_close(s->stream);
    CHECK_EQ_INT(s->closed, 0); /* never inside */
  }
}

static void on_drained(void *ctx)
{
  seen *s = ctx;
  s->drained++;
  CHECK_EQ_INT(mp_stream_queued(s->stream), 0);
  if (s->write_in_drained) {
    s->write_in_drained = false;
    CHECK_EQ_INT(mp_stream_write(s->stream, "tail", 4, CEILING), 0);
  }
}

static void on_closed(void *ctx)
{
  ((seen *)ctx)->closed++;
}

static const mp_stream_calls calls = { on_read, on_drained, on_closed };

typedef struct pair {
  mp_loop loop;
  seen s;
  int peer;
  mp_timer guard;
  bool late;
} pair;

static void on_guard(mp_timer *timer, int64_t now_ms)
{
  (void)now_ms;
  MP_CONTAINER(timer, pair, guard)->late = true;
}

static bool tcp_pair(int fds[2])
{
  struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
  socklen_t len = sizeof at;
  int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool ok = listening >= 0 && fds[1] >= 0 && bind(listening, (struct sockaddr *)&at, sizeof at) == 0 &&
            listen(listening, 1) == 0 && getsockname(listening, (struct sockaddr *)&at, &len) == 0 &&
            connect(fds[1], (struct sockaddr *)&at, sizeof at) == 0;
  fds[0] = ok ? accept(listening, NULL, NULL) : -1;
  close(listening);
  return fds[0] >= 0;
}

static bool pair_open(pair *p, bool is_unix)
{
  int fds[2] = { -1, -1 };
  memset(p, 0, sizeof *p);
  mp_buf_init(&p->s.in, 64 << 20, NULL);
  if (mp_loop_init(&p->loop) < 0)
    return false;
  mp_timer_init(&p->guard, on_guard);
  bool ok = mp_timers_set(&p->loop.timers, &p->guard, mp_loop_now(&p->loop) + SLOW_MS) == 0 &&
            (is_unix ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0 : tcp_pair(fds));
  p->peer = fds[1];
  if (ok && mp_stream_open(&p->s.stream, &p->loop, fds[0], is_unix) == 0) {
    mp_stream_attach(p->s.stream, &calls, &p->s);
    return true;
  }
  close(fds[0]);
  close(fds[1]);
  mp_loop_dispose(&p->loop);
  return false;
}

static void pair_close(pair *p)
{
  if (p->peer >= 0)
    close(p->peer);
  mp_loop_dispose(&p->loop);
  CHECK_EQ_INT(p->s.closed, 1);
  mp_buf_dispose(&p->s.in);
}

/* Turns until it holds; gives up (and fails) when that takes seconds. */
#define UNTIL(P, COND)                \
  do {                                \
    while (!(COND) && !(P)->late)     \
      mp_loop_turn(&(P)->loop, true); \
    CHECK(COND);                      \
  } while (0)

/* Takes what is there for the peer; false at its end of file. */
static bool peer_take(pair *p, size_t *total)
{
  static _Thread_local char sink[65536];
  for (;;) {
    ssize_t n = recv(p->peer, sink, sizeof sink, MSG_DONTWAIT);
    if (n <= 0)
      return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    *total += (size_t)n;
  }
}

static size_t fill(pair *p) /* writes until something is queued; returns what was written */
{
  static const char block[8192];
  size_t total = 0;
  while (mp_stream_queued(p->s.stream) == 0) {
    if (!CHECK_EQ_INT(mp_stream_write(p->s.stream, block, sizeof block, CEILING), 0))
      break;
    total += sizeof block;
  }
  return total;
}

TEST(an_idle_stream_is_small)
{
  CHECK_EQ_INT(sizeof(mp_stream) <= sizeof(uv_pipe_t) + 104, true);
}

TEST(octets_go_through_both_ways)
{
  for (int is_unix = 0; is_unix < 2; is_unix++) {
    pair p;
    char back[16] = "";
    REQUIRE(pair_open(&p, is_unix));
    p.s.echo = true;
    CHECK_EQ_INT(mp_stream_start(p.s.stream), 0);
    CHECK_EQ_INT(mp_stream_start(p.s.stream), 0);
    CHECK_EQ_INT(send(p.peer, "EHLO\0x", 6, 0), 6);
    UNTIL(&p, p.s.in.len == 6);
    CHECK_STR(mp_buf_view(&p.s.in), "EHLO\0x");
    CHECK_EQ_INT(recv(p.peer, back, sizeof back, MSG_DONTWAIT), 6); /* written at once, not on a later turn */
    CHECK(!p.s.stream->queue);
    pair_close(&p);
  }
}

TEST(end_of_file_is_told_once_and_does_not_close)
{
  pair p;
  char back[8];
  REQUIRE(pair_open(&p, false));
  mp_stream_start(p.s.stream);
  shutdown(p.peer, SHUT_WR);
  UNTIL(&p, p.s.eofs == 1);
  CHECK_EQ_INT(mp_stream_start(p.s.stream), 0);
  mp_loop_turn(&p.loop, false);
  mp_loop_turn(&p.loop, false);
  CHECK_EQ_INT(p.s.eofs, 1);
  CHECK_EQ_INT(p.s.closed, 0);
  CHECK_EQ_INT(mp_stream_write(p.s.stream, "250\r\n", 5, CEILING), 0); /* a peer that closed one way still listens */
  CHECK_EQ_INT(recv(p.peer, back, sizeof back, MSG_DONTWAIT), 5);
  pair_close(&p);
}

TEST(a_reset_is_an_error_told_once)
{
  pair p;
  REQUIRE(pair_open(&p, false));
  mp_stream_start(p.s.stream);
  struct linger hard = { .l_onoff = 1 };
  setsockopt(p.peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  close(p.peer);
  p.peer = -1;
  UNTIL(&p, p.s.errors == 1);
  mp_loop_turn(&p.loop, false);
  CHECK_EQ_INT(p.s.errors, 1);
  CHECK_EQ_INT(p.s.eofs, 0);
  CHECK_EQ_INT(mp_stream_write(p.s.stream, "x", 1, CEILING), MP_E_EOF);
  pair_close(&p);
}

TEST(a_stream_may_be_closed_inside_its_read)
{
  pair p;
  REQUIRE(pair_open(&p, false));
  p.s.close_in_read = true;
  mp_stream_start(p.s.stream);
  send(p.peer, "bye", 3, 0);
  shutdown(p.peer, SHUT_WR);
  UNTIL(&p, p.s.closed == 1);
  CHECK_EQ_INT(p.s.in.len, 3);
  CHECK_EQ_INT(p.s.eofs, 0); /* nothing after close */
  pair_close(&p);
}

/* When the reset has come before the octets are read, libuv hangs up on its own and calls that end of file: a peer that was gone
 * passed for one that had only finished sending. */
TEST(a_reset_behind_octets_is_an_error_and_the_octets_are_read)
{
  pair p;
  REQUIRE(pair_open(&p, false));
  mp_stream_start(p.s.stream);
  CHECK_EQ_INT(send(p.peer, "last words", 10, 0), 10);
  struct linger hard = { .l_onoff = 1 };
  setsockopt(p.peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  close(p.peer);
  p.peer = -1;
  UNTIL(&p, p.s.errors + p.s.eofs == 1);
  CHECK_EQ_INT(p.s.in.len, 10);
  CHECK_EQ_INT(p.s.errors, 1);
  CHECK_EQ_INT(p.s.eofs, 0);
  pair_close(&p);
}

TEST(a_stopped_stream_reads_nothing_until_it_is_started_again)
{
  pair p;
  REQUIRE(pair_open(&p, false));
  p.s.stop_in_read = true;
  mp_stream_start(p.s.stream);
  send(p.peer, "one", 3, 0);
  UNTIL(&p, p.s.in.len == 3);
  send(p.peer, "two", 3, 0);
  mp_loop_turn(&p.loop, false);
  mp_loop_turn(&p.loop, false);
  CHECK_STR(mp_buf_view(&p.s.in), "one");
  mp_stream_start(p.s.stream);
  UNTIL(&p, p.s.in.len == 6);
  pair_close(&p);
}

TEST(what_a_slow_peer_does_not_take_waits_under_the_ceiling)
{
  pair p;
  static const char block[CEILING];
  REQUIRE(pair_open(&p, true));
  size_t sent = fill(&p), got = 0;
  CHECK(mp_stream_queued(p.s.stream) > 0);
  CHECK_EQ_INT(mp_stream_write(p.s.stream, "head", 4, CEILING), 0);
  sent += 4;
  size_t queued = mp_stream_queued(p.s.stream);
  CHECK_EQ_INT(mp_stream_write(p.s.stream, block, sizeof block, CEILING), MP_E_FULL);
  CHECK_EQ_INT(mp_stream_queued(p.s.stream), queued); /* nothing of it was written */
  CHECK_EQ_INT(mp_stream_write(p.s.stream, block, CEILING - queued, CEILING), 0);
  sent += CEILING - queued;
  CHECK_EQ_INT(mp_stream_write(p.s.stream, "x", 1, CEILING), MP_E_FULL);
  p.s.write_in_drained = true;
  while (got < sent + 4 && !p.late) {
    CHECK(peer_take(&p, &got));
    mp_loop_turn(&p.loop, false);
  }
  CHECK_EQ_INT(got, sent + 4);
  CHECK_EQ_INT(p.s.drained, 1); /* the four octets of the tail went at once */
  CHECK(!p.s.stream->queue);
  pair_close(&p);
}

TEST(queued_octets_keep_their_order)
{
  pair p;
  char got[4096];
  size_t at = 0;
  uint32_t next = 0, want = 0;
  REQUIRE(pair_open(&p, true));
  while (want < 400000 && !p.late) {
    while (next < 400000 && mp_stream_write(p.s.stream, &next, sizeof next, 65536) == 0)
      next++;
    ssize_t n = recv(p.peer, got + at, sizeof got - at, MSG_DONTWAIT);
    at += n > 0 ? (size_t)n : 0;
    size_t used = 0;
    for (; used + 4 <= at; used += 4) {
      uint32_t value;
      memcpy(&value, got + used, 4);
      if (value != want && !FAIL("%u came in place of %u", value, want))
        break;
      want++;
    }
    memmove(got, got + used, at - used);
    at -= used;
    mp_loop_turn(&p.loop, false);
  }
  CHECK_EQ_INT(want, 400000);
  pair_close(&p);
}

TEST(shutdown_comes_behind_what_is_queued)
{
  pair p;
  REQUIRE(pair_open(&p, true));
  size_t sent = fill(&p), got = 0;
  mp_stream_shutdown(p.s.stream);
  CHECK_EQ_INT(mp_stream_write(p.s.stream, "x", 1, CEILING), MP_E_MISUSE);
  while (peer_take(&p, &got) && !p.late)
    mp_loop_turn(&p.loop, false);
  CHECK_EQ_INT(got, sent);
  CHECK_EQ_INT(p.s.closed, 0);
  mp_stream_start(p.s.stream);
  send(p.peer, "still", 5, 0);
  UNTIL(&p, p.s.in.len == 5);
  pair_close(&p);
}

/* Closing a socket over unread octets sends a reset, which overtakes the reply that the peer has not read yet. */
TEST(finish_lets_the_peer_read_the_last_reply_while_it_is_still_sending)
{
  pair p;
  char back[16];
  REQUIRE(pair_open(&p, false));
  mp_stream_start(p.s.stream);
  send(p.peer, "DATA", 4, 0);
  UNTIL(&p, p.s.in.len == 4);
  CHECK_EQ_INT(send(p.peer, "more and more", 13, 0), 13);
  CHECK_EQ_INT(mp_stream_write(p.s.stream, "421 bye\r\n", 9, CEILING), 0);
  mp_stream_finish(p.s.stream, SLOW_MS);
  CHECK_EQ_INT(mp_stream_write(p.s.stream, "x", 1, CEILING), MP_E_MISUSE);
  mp_loop_turn(&p.loop, false);
  CHECK_EQ_INT(send(p.peer, "and more", 8, MSG_NOSIGNAL), 8);
  mp_loop_turn(&p.loop, false);
  CHECK_EQ_INT(recv(p.peer, back, sizeof back, 0), 9);
  CHECK_EQ_INT(recv(p.peer, back, sizeof back, 0), 0); /* an orderly end */
  CHECK_EQ_INT(p.s.in.len, 4);                         /* no read() after finish */
  CHECK_EQ_INT(p.s.closed, 0);
  close(p.peer);
  p.peer = -1;
  UNTIL(&p, p.s.closed == 1);
  CHECK(!p.late);
  CHECK_EQ_INT(p.s.eofs, 0);
  pair_close(&p);
}

TEST(finish_flushes_to_a_peer_that_has_closed_one_way)
{
  pair p;
  REQUIRE(pair_open(&p, true));
  mp_stream_start(p.s.stream);
  size_t sent = fill(&p), got = 0;
  mp_stream_finish(p.s.stream, SLOW_MS);
  shutdown(p.peer, SHUT_WR);
  mp_loop_turn(&p.loop, false);
  CHECK_EQ_INT(p.s.closed, 0);
  while (peer_take(&p, &got) && !p.late)
    mp_loop_turn(&p.loop, false);
  CHECK_EQ_INT(got, sent);
  UNTIL(&p, p.s.closed == 1);
  CHECK_EQ_INT(p.s.drained, 0);
  CHECK(!p.late);
  pair_close(&p);
}

TEST(finish_waits_no_longer_than_told)
{
  for (int full = 0; full < 2; full++) {
    pair p;
    REQUIRE(pair_open(&p, true));
    if (full)
      fill(&p);
    int64_t start = mp_loop_now(&p.loop);
    mp_stream_finish(p.s.stream, 20);
    UNTIL(&p, p.s.closed == 1);
    CHECK(mp_loop_now(&p.loop) >= start + 20);
    CHECK(!p.late);
    pair_close(&p);
  }
}

TEST(a_peer_that_goes_while_octets_wait_is_an_error_of_a_paused_stream_too)
{
  pair p;
  REQUIRE(pair_open(&p, true));
  struct sigaction old, ignore = { .sa_handler = SIG_IGN };
  sigaction(SIGPIPE, &ignore, &old);
  fill(&p);
  close(p.peer);
  p.peer = -1;
  UNTIL(&p, p.s.errors == 1);
  CHECK_EQ_INT(mp_stream_queued(p.s.stream), 0);
  CHECK_EQ_INT(mp_stream_write(p.s.stream, "x", 1, CEILING), MP_E_EOF);
  CHECK_EQ_INT(p.s.drained, 0);
  sigaction(SIGPIPE, &old, NULL);
  pair_close(&p);
}

TEST(octets_lost_after_the_end_of_file_are_an_error_still)
{
  pair p;
  REQUIRE(pair_open(&p, true));
  struct sigaction old, ignore = { .sa_handler = SIG_IGN };
  sigaction(SIGPIPE, &ignore, &old);
  mp_stream_start(p.s.stream);
  shutdown(p.peer, SHUT_WR);
  UNTIL(&p, p.s.eofs == 1);
  fill(&p); /* the owner now waits for drained(), which will not come */
  close(p.peer);
  p.peer = -1;
  UNTIL(&p, p.s.errors == 1);
  CHECK_EQ_INT(p.s.eofs, 1);
  CHECK_EQ_INT(p.s.drained, 0);
  sigaction(SIGPIPE, &old, NULL);
  pair_close(&p);
}

TEST(a_direct_write_to_a_gone_peer_raises_no_signal)
{
  pair p;
  struct sigaction old, deadly = { .sa_handler = SIG_DFL };
  sigaction(SIGPIPE, &deadly, &old);
  REQUIRE(pair_open(&p, true));
  close(p.peer);
  p.peer = -1;
  CHECK_EQ_INT(mp_stream_write(p.s.stream, "x", 1, CEILING), MP_E_EOF); /* or the process is gone */
  mp_net_prepare_process();
  struct sigaction now;
  sigaction(SIGPIPE, NULL, &now);
  CHECK(now.sa_handler == SIG_IGN);
  sigaction(SIGPIPE, &old, NULL);
  pair_close(&p);
}

TEST(dispose_closes_streams_that_still_have_octets_to_send)
{
  pair p;
  REQUIRE(pair_open(&p, true));
  mp_stream_start(p.s.stream);
  fill(&p);
  CHECK_EQ_INT(mp_stream_write(p.s.stream, "waits", 5, CEILING), 0);
  pair_close(&p);
}

TEST(addresses_and_credentials_of_the_peer)
{
  pair p;
  mp_stream_peer peer;
  char text[MP_IP_TEXT];
  REQUIRE(pair_open(&p, false));
  mp_stream_peer_get(p.s.stream, &peer);
  mp_ip_format(&peer.ip, text);
  CHECK_CSTR(text, "127.0.0.1");
  mp_ip_format(&peer.local_ip, text);
  CHECK_CSTR(text, "127.0.0.1");
  CHECK(peer.port != 0 && peer.local_port != 0 && peer.port != peer.local_port);
  CHECK_EQ_INT(peer.uid, UINT32_MAX);
  CHECK(!peer.is_unix);
  pair_close(&p);
  REQUIRE(pair_open(&p, true));
  mp_stream_peer_get(p.s.stream, &peer);
  CHECK(peer.is_unix);
  CHECK_EQ_INT(peer.uid, getuid());
  CHECK_EQ_INT(peer.pid, getpid());
  pair_close(&p);
}

TEST(a_queue_without_memory_breaks_the_stream_not_the_order)
{
  FOR_EACH_ALLOC_FAILURE {
    pair p;
    static const char big[900000];
    if (!pair_open(&p, true)) {
      CHECK(CHECK_ALLOC_FAILED());
      continue;
    }
    int rc = mp_stream_write(p.s.stream, big, sizeof big, CEILING);
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    if (rc < 0)
      CHECK_EQ_INT(mp_stream_write(p.s.stream, "x", 1, CEILING), MP_E_EOF);
    pair_close(&p);
  }
}

/* libuv tells the kernel of a new interest only when a turn is about to wait: a read started outside of a turn, or inside
 * one behind that point, would be unknown to whoever polls our descriptor. */
TEST(a_foreign_loop_sees_reads_that_were_started_between_its_turns)
{
  pair p;
  REQUIRE(pair_open(&p, false));
  mp_loop_turn(&p.loop, false);
  p.s.stop_in_read = true;
  for (size_t round = 1; round <= 3; round++) {
    mp_stream_start(p.s.stream);
    while (mp_loop_timeout(&p.loop) == 0)
      mp_loop_turn(&p.loop, false);
    CHECK_EQ_INT(p.s.in.len, round - 1);
    CHECK_EQ_INT(send(p.peer, "x", 1, 0), 1);
    struct pollfd fd = { .fd = mp_loop_fd(&p.loop), .events = POLLIN };
    CHECK_EQ_INT(poll(&fd, 1, SLOW_MS), 1);
    mp_loop_turn(&p.loop, false);
    CHECK_EQ_INT(p.s.in.len, round);
  }
  pair_close(&p);
}

TEST(no_descriptor_is_left_open)
{
  int before = dup(0);
  close(before);
  for (int how = 0; how < 3; how++) {
    pair p;
    REQUIRE(pair_open(&p, how > 0));
    mp_stream_start(p.s.stream);
    if (how == 1)
      fill(&p);
    if (how == 2)
      mp_stream_finish(p.s.stream, SLOW_MS);
    pair_close(&p);
    int after = dup(0);
    close(after);
    CHECK_EQ_INT(after, before);
  }
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

typedef struct wire {
  mp_loop loop;
  seen s;
  mp_stream *end; /* the tester's */
} wire;

static bool wire_open(wire *w)
{
  memset(w, 0, sizeof *w);
  mp_buf_init(&w->s.in, 64 << 20, NULL);
  mp_stream_peer peer = { .port = 25, .uid = 7 };
  if (mp_loop_init_virtual(&w->loop, 0) < 0)
    return false;
  if (mp_stream_memory(&w->s.stream, &w->loop, &peer) < 0) {
    mp_loop_dispose(&w->loop);
    return false;
  }
  w->end = w->s.stream;
  mp_stream_attach(w->s.stream, &calls, &w->s);
  return true;
}

static void wire_close(wire *w)
{
  mp_loop_dispose(&w->loop);
  CHECK_EQ_INT(w->s.closed, 1);
  mp_stream_release(w->end);
  mp_buf_dispose(&w->s.in);
}

TEST(a_memory_stream_is_driven_by_its_tester)
{
  wire w;
  mp_stream_peer peer;
  REQUIRE(wire_open(&w));
  mp_stream_peer_get(w.end, &peer);
  CHECK_EQ_INT(peer.port, 25);
  w.s.echo = true;
  mp_stream_start(w.s.stream);
  mp_stream_inject(w.end, "EHLO", 4);
  CHECK_STR(mp_buf_view(&w.s.in), "EHLO");
  CHECK_STR(mp_buf_view(mp_stream_written(w.end)), "EHLO");
  CHECK_EQ_INT(mp_stream_queued(w.s.stream), 0);
  mp_stream_inject(w.end, NULL, 0);
  mp_stream_inject(w.end, NULL, 0);
  mp_stream_inject(w.end, "late", 4);
  CHECK_EQ_INT(w.s.eofs, 1);
  CHECK_EQ_INT(w.s.in.len, 4);
  CHECK(!mp_stream_finished(w.end));
  mp_stream_finish(w.s.stream, 1000);
  CHECK(mp_stream_finished(w.end));
  CHECK_EQ_INT(w.s.closed, 0);
  CHECK(!mp_loop_turn(&w.loop, false));
  CHECK_EQ_INT(w.s.closed, 1);
  CHECK_STR(mp_buf_view(mp_stream_written(w.end)), "EHLO"); /* the tester has it until it lets go */
  wire_close(&w);
}

TEST(a_stopped_memory_stream_holds_what_comes)
{
  wire w;
  REQUIRE(wire_open(&w));
  w.s.stop_in_read = true;
  mp_stream_inject(w.end, "a", 1);
  mp_stream_inject(w.end, NULL, MP_E_SYSTEM);
  CHECK_EQ_INT(w.s.in.len, 0);
  mp_stream_start(w.s.stream);
  CHECK_EQ_INT(w.s.in.len, 0); /* not inside the call */
  mp_loop_turn(&w.loop, false);
  CHECK_STR(mp_buf_view(&w.s.in), "a");
  CHECK_EQ_INT(w.s.errors, 0); /* stopped again in between */
  mp_stream_start(w.s.stream);
  mp_loop_turn(&w.loop, false);
  CHECK_EQ_INT(w.s.errors, 1);
  wire_close(&w);
}

TEST(a_memory_stream_closed_inside_its_read_reads_no_more)
{
  wire w;
  REQUIRE(wire_open(&w));
  w.s.close_in_read = true;
  mp_stream_start(w.s.stream);
  mp_stream_inject(w.end, "bye", 3);
  mp_stream_inject(w.end, "more", 4);
  CHECK_EQ_INT(w.s.in.len, 3);
  mp_loop_turn(&w.loop, false);
  CHECK_EQ_INT(w.s.closed, 1);
  wire_close(&w);
}

TEST(a_tester_may_let_go_first)
{
  wire w;
  REQUIRE(wire_open(&w));
  mp_stream_release(w.end);
  CHECK_EQ_INT(mp_stream_write(w.s.stream, "x", 1, CEILING), 0);
  mp_stream_close(w.s.stream);
  mp_loop_dispose(&w.loop);
  CHECK_EQ_INT(w.s.closed, 1);
  mp_buf_dispose(&w.s.in);
}

TEST(a_memory_stream_works_on_a_real_loop_too)
{
  wire w;
  REQUIRE(wire_open(&w));
  mp_stream_release(w.end);
  mp_loop_dispose(&w.loop);
  memset(&w.s, 0, sizeof w.s);
  mp_buf_init(&w.s.in, 100, NULL);
  REQUIRE(mp_loop_init(&w.loop) == 0);
  REQUIRE(mp_stream_memory(&w.s.stream, &w.loop, &(mp_stream_peer){ .port = 1 }) == 0);
  w.end = w.s.stream;
  mp_stream_attach(w.s.stream, &calls, &w.s);
  mp_stream_inject(w.end, "held", 4);
  mp_stream_start(w.s.stream);
  CHECK(mp_loop_turn(&w.loop, true));
  CHECK_EQ_INT(w.s.in.len, 4);
  mp_stream_close(w.s.stream);
  CHECK(!mp_loop_turn(&w.loop, true));
  wire_close(&w);
}

TEST(memory_streams_without_memory)
{
  FOR_EACH_ALLOC_FAILURE {
    wire w;
    if (!wire_open(&w)) {
      CHECK(CHECK_ALLOC_FAILED());
      continue;
    }
    mp_stream_start(w.s.stream);
    mp_stream_inject(w.end, "0123456789", 10);
    int rc = mp_stream_write(w.s.stream, "x", 1, CEILING);
    if (!CHECK_ALLOC_FAILED())
      CHECK_EQ_INT(rc, 0);
    else
      CHECK(rc == 0 || rc == MP_E_NOMEM);
    wire_close(&w);
  }
}

CHECK_MAIN
