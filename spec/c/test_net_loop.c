/* The loop: turns, timers, posts, works, and a virtual loop's clock. */
#include "support/check.h"

#include "base/error.h"
#include "net/signal.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

typedef struct alarm {
  mp_timer timer;
  mp_loop *loop;
  int64_t fired_at, again_ms;
  int count;
} alarm_clock;

static void on_alarm(mp_timer *timer, int64_t now_ms)
{
  alarm_clock *a = MP_CONTAINER(timer, alarm_clock, timer);
  a->fired_at = now_ms;
  a->count++;
  if (a->again_ms > 0)
    mp_timers_set(&a->loop->timers, timer, now_ms + a->again_ms);
}

static void alarm_set(alarm_clock *a, mp_loop *loop, int64_t in_ms)
{
  a->loop = loop;
  if (!a->timer.fire)
    mp_timer_init(&a->timer, on_alarm);
  mp_timers_set(&loop->timers, &a->timer, mp_loop_now(loop) + in_ms);
}

typedef struct note {
  mp_post post;
  mp_loop *loop;
  int count, again;
  bool stop;
} note;

static void on_note(mp_post *post)
{
  note *n = MP_CONTAINER(post, note, post);
  n->count++;
  if (n->stop)
    mp_loop_stop(n->loop);
  if (n->again-- > 0)
    mp_loop_post(n->loop, post);
}

typedef struct job {
  mp_work work;
  int worked, done;
} job;

static void job_work(mp_work *work)
{
  MP_CONTAINER(work, job, work)->worked++;
}

static void job_done(mp_work *work)
{
  MP_CONTAINER(work, job, work)->done++;
}

TEST(a_loop_with_nothing_on_it_is_not_alive_and_does_not_block)
{
  mp_loop loop;
  REQUIRE(mp_loop_init(&loop) == 0);
  CHECK(!mp_loop_turn(&loop, true));
  CHECK(!mp_loop_turn(&loop, false));
  CHECK_EQ_INT(mp_loop_timeout(&loop), -1);
  mp_loop_dispose(&loop);
}

TEST(a_set_timer_keeps_it_alive_and_fires_when_due_not_before)
{
  mp_loop loop;
  REQUIRE(mp_loop_init(&loop) == 0);
  alarm_clock a = { 0 };
  int64_t start = mp_loop_now(&loop);
  alarm_set(&a, &loop, 20);
  while (mp_loop_turn(&loop, true)) {
  }
  CHECK_EQ_INT(a.count, 1);
  CHECK(a.fired_at >= start + 20);
  mp_loop_dispose(&loop);
}

TEST(a_timer_moved_later_fires_once_at_its_new_time)
{
  mp_loop loop;
  REQUIRE(mp_loop_init(&loop) == 0);
  alarm_clock moved = { 0 }, other = { 0 };
  int64_t start = mp_loop_now(&loop);
  alarm_set(&moved, &loop, 5);
  mp_loop_turn(&loop, false); /* now libuv is armed for 5 */
  mp_timers_set(&loop.timers, &moved.timer, start + 40);
  alarm_set(&other, &loop, 3600 * 1000);
  while (moved.count == 0)
    REQUIRE(mp_loop_turn(&loop, true));
  CHECK(moved.fired_at >= start + 40);
  CHECK_EQ_INT(other.count, 0);
  mp_loop_dispose(&loop);
}

TEST(a_timer_moved_earlier_does_not_wait_for_its_old_time)
{
  mp_loop loop;
  REQUIRE(mp_loop_init(&loop) == 0);
  alarm_clock a = { 0 };
  alarm_set(&a, &loop, 3600 * 1000);
  mp_loop_turn(&loop, false);
  alarm_set(&a, &loop, 1);
  CHECK(!mp_loop_turn(&loop, true) || !mp_loop_turn(&loop, true)); /* the test's own limit is shorter than an hour */
  CHECK_EQ_INT(a.count, 1);
  mp_loop_dispose(&loop);
}

TEST(a_deadline_counts_from_now_not_from_the_last_turn)
{
  mp_loop loop;
  REQUIRE(mp_loop_init(&loop) == 0);
  mp_loop_turn(&loop, false);
  int64_t before = mp_loop_now(&loop);
  poll(NULL, 0, 30); /* a script that is busy between two turns */
  CHECK(mp_loop_now(&loop) >= before + 29);
  mp_loop_dispose(&loop);
}

TEST(posts_run_in_order_on_a_later_turn_and_never_inside_the_call)
{
  mp_loop loop;
  REQUIRE(mp_loop_init(&loop) == 0);
  note a = { .post.run = on_note, .loop = &loop, .again = 1 };
  mp_loop_post(&loop, &a.post);
  CHECK_EQ_INT(a.count, 0);
  CHECK(mp_loop_turn(&loop, true)); /* it posted itself again: that is for another turn */
  CHECK_EQ_INT(a.count, 1);
  CHECK(!mp_loop_turn(&loop, true));
  CHECK_EQ_INT(a.count, 2);
  mp_loop_dispose(&loop);
}

TEST(a_run_lasts_until_it_is_stopped)
{
  mp_loop loop;
  REQUIRE(mp_loop_init(&loop) == 0);
  note a = { .post.run = on_note, .loop = &loop, .again = 4 };
  note stop = { .post.run = on_note, .loop = &loop, .stop = true };
  alarm_clock tick = { .again_ms = 1 };
  alarm_set(&tick, &loop, 1);
  mp_loop_post(&loop, &a.post);
  mp_loop_post(&loop, &stop.post);
  mp_loop_run(&loop);
  CHECK_EQ_INT(stop.count, 1);
  CHECK(a.count >= 1);
  mp_loop_dispose(&loop);
}

TEST(a_stop_that_comes_before_the_run_ends_it_and_only_it)
{
  mp_loop loop;
  REQUIRE(mp_loop_init(&loop) == 0);
  mp_loop_stop(&loop);
  mp_loop_run(&loop); /* returns, or the test hangs */
  note stop = { .post.run = on_note, .loop = &loop, .stop = true };
  mp_loop_post(&loop, &stop.post);
  mp_loop_run(&loop);
  CHECK_EQ_INT(stop.count, 1); /* the first stop was used up */
  mp_loop_dispose(&loop);
}

TEST(work_is_done_on_the_loop_and_keeps_it_alive)
{
  mp_loop loop;
  REQUIRE(mp_loop_init(&loop) == 0);
  job j = { .work.work = job_work, .work.done = job_done };
  REQUIRE(mp_loop_work(&loop, &j.work) == 0);
  CHECK_EQ_INT(loop.alive, 1);
  while (mp_loop_turn(&loop, true)) {
  }
  CHECK_EQ_INT(j.worked, 1);
  CHECK_EQ_INT(j.done, 1);
  CHECK_EQ_INT(loop.alive, 0);
  mp_loop_dispose(&loop);
}

/* A loop of another program: poll() on our descriptor for our timeout, then a turn that does not block. */
static bool foreign_turn(mp_loop *loop)
{
  struct pollfd fd = { .fd = mp_loop_fd(loop), .events = POLLIN };
  int wait = mp_loop_timeout(loop);
  CHECK(poll(&fd, 1, wait < 0 || wait > 5000 ? 5000 : wait) > 0 || wait >= 0);
  return mp_loop_turn(loop, false);
}

TEST(a_foreign_loop_is_told_by_descriptor_and_timeout_when_to_turn)
{
  mp_loop loop;
  REQUIRE(mp_loop_init(&loop) == 0);
  note a = { .post.run = on_note, .loop = &loop, .again = 2 };
  mp_loop_post(&loop, &a.post);
  while (foreign_turn(&loop)) {
  }
  CHECK_EQ_INT(a.count, 3);
  alarm_clock clock = { 0 };
  alarm_set(&clock, &loop, 15);
  CHECK(mp_loop_timeout(&loop) <= 15);
  while (foreign_turn(&loop)) {
  }
  CHECK_EQ_INT(clock.count, 1);
  job j = { .work.work = job_work, .work.done = job_done };
  REQUIRE(mp_loop_work(&loop, &j.work) == 0);
  while (foreign_turn(&loop)) {
  }
  CHECK_EQ_INT(j.done, 1);
  mp_loop_dispose(&loop);
}

TEST(dispose_runs_posts_finishes_works_and_forgets_timers)
{
  mp_loop loop;
  REQUIRE(mp_loop_init(&loop) == 0);
  note a = { .post.run = on_note, .loop = &loop };
  job j = { .work.work = job_work, .work.done = job_done };
  alarm_clock clock = { 0 };
  alarm_set(&clock, &loop, 1);
  mp_loop_post(&loop, &a.post);
  REQUIRE(mp_loop_work(&loop, &j.work) == 0);
  mp_loop_dispose(&loop);
  CHECK_EQ_INT(a.count, 1);
  CHECK_EQ_INT(j.done, 1);
  CHECK_EQ_INT(clock.timer.slot, 0);
}

TEST(a_loop_without_memory_is_refused_cleanly)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_loop loop;
    int rc = mp_loop_init(&loop);
    CHECK_EQ_INT(rc, CHECK_ALLOC_FAILED() ? MP_E_NOMEM : 0);
    if (rc == 0)
      mp_loop_dispose(&loop);
  }
}

TEST(a_virtual_clock_stands_still_until_it_is_advanced)
{
  mp_loop loop;
  REQUIRE(mp_loop_init_virtual(&loop, 1000) == 0);
  alarm_clock a = { .again_ms = 10 }, b = { 0 };
  alarm_set(&a, &loop, 10);
  alarm_set(&b, &loop, 25);
  CHECK_EQ_INT(mp_loop_timeout(&loop), 10);
  CHECK(mp_loop_turn(&loop, true));
  CHECK_EQ_INT(a.count, 0);
  mp_loop_advance(&loop, 25);
  CHECK_EQ_INT(mp_loop_now(&loop), 1025);
  CHECK_EQ_INT(a.count, 2);
  CHECK_EQ_INT(a.fired_at, 1020); /* each timer sees its own time, not that of the end */
  CHECK_EQ_INT(b.fired_at, 1025);
  mp_loop_dispose(&loop);
  CHECK_EQ_INT(a.timer.slot, 0);
}

TEST(a_virtual_loop_works_at_once_and_is_done_on_the_next_turn)
{
  mp_loop loop;
  REQUIRE(mp_loop_init_virtual(&loop, 0) == 0);
  job j = { .work.work = job_work, .work.done = job_done };
  REQUIRE(mp_loop_work(&loop, &j.work) == 0);
  CHECK_EQ_INT(j.worked, 1);
  CHECK_EQ_INT(j.done, 0);
  CHECK_EQ_INT(mp_loop_timeout(&loop), 0);
  CHECK(!mp_loop_turn(&loop, true));
  CHECK_EQ_INT(j.done, 1);
  CHECK_EQ_INT(mp_loop_fd(&loop), -1);
  CHECK_EQ_INT(mp_loop_timeout(&loop), -1);
  note stop = { .post.run = on_note, .loop = &loop, .stop = true };
  mp_loop_run(&loop); /* nothing to do at this time: does not block */
  mp_loop_post(&loop, &stop.post);
  mp_loop_run(&loop);
  CHECK_EQ_INT(stop.count, 1);
  mp_loop_dispose(&loop);
}

static void count_signal(void *ctx)
{
  ++*(int *)ctx;
}

TEST(a_signal_that_is_left_open_ends_with_the_loop)
{
  for (int i = 0; i < 2; i++) {
    mp_loop loop;
    mp_signal *open = NULL;
    int fired = 0;
    REQUIRE(mp_loop_init(&loop) == 0);
    CHECK_EQ_INT(mp_signal_open(&open, &loop, SIGUSR2, count_signal, &fired), 0);
    kill(getpid(), SIGUSR2);
    while (!fired)
      mp_loop_turn(&loop, true);
    CHECK_EQ_INT(fired, 1);
    if (i == 1)
      mp_signal_close(open);
    mp_loop_dispose(&loop);
  }
}

CHECK_MAIN
