/* A watched descriptor. */
#include "support/check.h"

#include "base/error.h"
#include "net/poll.h"

#include <unistd.h>

typedef struct seen {
  mp_poll *poll;
  int fd, times, events;
  bool close;
} seen;

static void on_ready(void *ctx, int events)
{
  seen *s = ctx;
  char c;
  s->times++;
  s->events = events;
  if (events & MP_POLL_READ)
    CHECK_EQ_INT(read(s->fd, &c, 1), 1);
  if (s->close)
    mp_poll_close(s->poll);
}

TEST(readiness_is_told_while_it_is_watched_for)
{
  mp_loop loop;
  int fds[2];
  REQUIRE(mp_loop_init(&loop) == 0 && pipe(fds) == 0);
  seen s = { .fd = fds[0] };
  CHECK_EQ_INT(mp_poll_open(&s.poll, &loop, fds[0], on_ready, &s), 0);
  CHECK_EQ_INT(write(fds[1], "ab", 2), 2);
  CHECK(!mp_loop_turn(&loop, false)); /* nothing is watched, nothing to wait for */
  CHECK_EQ_INT(s.times, 0);
  mp_poll_set(s.poll, MP_POLL_READ, true);
  CHECK(mp_loop_turn(&loop, true));
  CHECK(s.times == 1 && s.events == MP_POLL_READ);
  mp_poll_set(s.poll, MP_POLL_READ, false);
  CHECK(!mp_loop_turn(&loop, false)); /* watched still, and no reason to wait */
  CHECK_EQ_INT(s.times, 2);
  mp_poll_set(s.poll, 0, true);
  CHECK_EQ_INT(write(fds[1], "c", 1), 1);
  mp_loop_turn(&loop, false);
  CHECK_EQ_INT(s.times, 2);
  mp_poll_close(s.poll);
  mp_loop_dispose(&loop);
  close(fds[0]);
  close(fds[1]);
}

TEST(writing_is_watched_too_and_closing_from_inside_is_fine)
{
  mp_loop loop;
  int fds[2];
  REQUIRE(mp_loop_init(&loop) == 0 && pipe(fds) == 0);
  seen s = { .fd = fds[1], .close = true };
  CHECK_EQ_INT(mp_poll_open(&s.poll, &loop, fds[1], on_ready, &s), 0);
  mp_poll_set(s.poll, MP_POLL_WRITE, true);
  mp_loop_turn(&loop, true);
  CHECK(s.times == 1 && s.events == MP_POLL_WRITE);
  mp_loop_turn(&loop, false);
  CHECK_EQ_INT(s.times, 1);
  mp_loop_dispose(&loop);
  close(fds[0]);
  close(fds[1]);
}

TEST(a_virtual_loop_watches_nothing)
{
  mp_loop loop;
  mp_poll *poll;
  REQUIRE(mp_loop_init_virtual(&loop, 0) == 0);
  CHECK_EQ_INT(mp_poll_open(&poll, &loop, 0, on_ready, NULL), MP_E_MISUSE);
  mp_poll_close(NULL);
  mp_loop_dispose(&loop);
}

CHECK_MAIN
