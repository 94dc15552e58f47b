/* Resolvers on a worker's loop: time limits, sharing, and the end of a worker. */
#include "support/check.h"

#include "base/error.h"
#include "conn/names.h"

typedef struct waiter {
  mp_names_asker asker;
  int told, rc;
  size_t count;
  mp_names *close; /* when told */
} waiter;

static void on_done(mp_names_asker *asker, int rc, const mp_dns_answer *answer)
{
  waiter *w = MP_CONTAINER(asker, waiter, asker);
  w->told++;
  w->rc = rc;
  w->count = answer ? answer->count : 0;
  if (w->close)
    mp_names_close(w->close);
}

static const char *const nobody[] = { "127.0.0.1@9" };
static const mp_dns_opts silent = { .forwarders = nobody, .forwarder_count = 1 };

static mp_names *open_names(mp_worker *worker, const char *key)
{
  mp_names *names = NULL;
  char why[MP_DNS_WHY];
  CHECK_EQ_INT(mp_names_open(&names, worker, mp_str_c(key), &silent, why), 0);
  return names;
}

static mp_worker *new_worker(bool is_virtual)
{
  mp_worker *worker = NULL;
  CHECK_EQ_INT(mp_worker_new(&worker, 0, NULL, is_virtual), 0);
  return worker;
}

static int ask(mp_names *names, waiter *w, const char *name, int64_t timeout_ms)
{
  w->asker.done = on_done;
  return mp_names_ask(names, &w->asker, MP_DNS_A, name, timeout_ms);
}

static void wait_for(mp_worker *worker, const waiter *w)
{
  while (!w->told && mp_loop_turn(&worker->loop, true))
    ;
}

TEST(an_answer_comes_by_the_loop)
{
  mp_worker *worker = new_worker(false);
  REQUIRE(worker);
  mp_names *names = open_names(worker, "");
  REQUIRE(names);
  waiter w = { 0 };
  CHECK_EQ_INT(ask(names, &w, "localhost", 10000), 0);
  wait_for(worker, &w);
  CHECK(w.told == 1 && w.rc == 0 && w.count == 1);
  CHECK(!mp_loop_turn(&worker->loop, false)); /* an idle resolver keeps no loop going */
  mp_names_close(names);
  mp_worker_free(worker);
}

TEST(who_waits_is_told_when_the_time_is_over)
{
  mp_worker *worker = new_worker(false);
  REQUIRE(worker);
  mp_names *names = open_names(worker, "");
  REQUIRE(names);
  waiter w[2] = { 0 };
  CHECK_EQ_INT(ask(names, &w[0], "silent.example", 5), 0);
  CHECK_EQ_INT(ask(names, &w[1], "silent.example", 60000), 0);
  wait_for(worker, &w[0]);
  CHECK(w[0].told == 1 && w[0].rc == MP_E_TIMEOUT && w[1].told == 0);
  CHECK_EQ_INT((int)mp_names_waiting(names), 1);
  mp_names_give_up(&w[1].asker);
  mp_names_give_up(&w[0].asker);
  CHECK_EQ_INT((int)mp_names_waiting(names), 0);
  CHECK(!mp_loop_turn(&worker->loop, false));
  mp_names_close(names);
  mp_worker_free(worker);
}

TEST(what_is_described_alike_is_shared)
{
  mp_worker *worker = new_worker(false);
  REQUIRE(worker);
  mp_names *one = open_names(worker, "a"), *two = open_names(worker, "a"), *three = open_names(worker, "b");
  CHECK(one == two && one != three);
  mp_names_close(one);
  waiter w = { 0 };
  CHECK_EQ_INT(ask(two, &w, "localhost", 10000), 0);
  wait_for(worker, &w);
  CHECK_EQ_INT(w.told, 1);
  mp_names_close(two);
  mp_names_close(three);
  CHECK(mp_list_empty(&worker->names));
  mp_worker_free(worker);
}

TEST(the_last_handle_may_be_closed_by_who_is_told)
{
  mp_worker *worker = new_worker(false);
  REQUIRE(worker);
  mp_names *names = open_names(worker, "");
  REQUIRE(names);
  waiter w = { .close = names };
  CHECK_EQ_INT(ask(names, &w, "localhost", 10000), 0);
  wait_for(worker, &w);
  CHECK(w.told == 1 && mp_list_empty(&worker->names));
  mp_worker_free(worker);
}

TEST(the_worker_may_end_first)
{
  mp_worker *worker = new_worker(false);
  REQUIRE(worker);
  mp_names *names = open_names(worker, "");
  REQUIRE(names);
  waiter w = { 0 };
  CHECK_EQ_INT(ask(names, &w, "silent.example", 0), 0);
  mp_worker_free(worker);
  CHECK_EQ_INT(w.told, 0);
  mp_names_give_up(&w.asker);
  CHECK_EQ_INT(ask(names, &w, "localhost", 10), MP_E_CANCELLED);
  CHECK_EQ_INT((int)mp_names_waiting(names), 0);
  mp_names_close(names);
}

TEST(a_virtual_worker_asks_nobody)
{
  mp_worker *worker = new_worker(true);
  REQUIRE(worker);
  mp_names *names;
  char why[MP_DNS_WHY];
  CHECK_EQ_INT(mp_names_open(&names, worker, MP_STR("x"), &silent, why), MP_E_MISUSE);
  mp_worker_free(worker);
}

TEST(want_of_memory_leaves_nothing_behind)
{
  mp_worker *worker = new_worker(false);
  REQUIRE(worker);
  FOR_EACH_ALLOC_FAILURE {
    mp_names *names;
    char why[MP_DNS_WHY];
    if (mp_names_open(&names, worker, MP_STR_NULL, &silent, why) < 0)
      continue;
    waiter w = { 0 };
    int rc = ask(names, &w, "localhost", 10000);
    CHECK(rc == 0 || rc == MP_E_NOMEM);
    mp_names_give_up(&w.asker);
    CHECK_EQ_INT((int)mp_names_waiting(names), 0);
    mp_names_close(names);
  }
  mp_worker_free(worker);
}

CHECK_MAIN
