/* Questions in flight: who waits, who gives up, who is told; against a forwarder that never answers, and names that libunbound knows by
 * itself. */
#include "support/check.h"

#include "base/error.h"
#include "dns/resolver.h"

#include <poll.h>

typedef struct waiter {
  mp_dns_asker asker;
  int told;
  mp_dns_outcome outcome;
  size_t count;
  bool nxdomain;
  mp_dns *end;          /* freed when told */
  struct waiter *other; /* gives up when told */
} waiter;

static void on_done(mp_dns_asker *asker, const mp_dns_answer *answer)
{
  waiter *w = MP_CONTAINER(asker, waiter, asker);
  w->told++;
  w->outcome = answer->outcome;
  w->count = answer->count;
  w->nxdomain = answer->nxdomain;
  if (w->other)
    mp_dns_give_up(&w->other->asker);
  if (w->end)
    mp_dns_free(w->end);
}

static const char *const nobody[] = { "127.0.0.1@9" };
static const mp_dns_opts silent = { .forwarders = nobody, .forwarder_count = 1 };

static mp_dns *new_dns(void)
{
  mp_dns *dns = NULL;
  char why[MP_DNS_WHY];
  CHECK_EQ_INT(mp_dns_new(&dns, &silent, why), 0);
  return dns;
}

static int ask(mp_dns *dns, waiter *w, mp_dns_type type, const char *name)
{
  w->asker.done = on_done;
  return mp_dns_ask(dns, &w->asker, type, name);
}

static void wait_for(mp_dns *dns, const waiter *w)
{
  struct pollfd fd = { .fd = mp_dns_fd(dns), .events = POLLIN };
  while (!w->told && poll(&fd, 1, 10000) == 1)
    mp_dns_process(dns);
}

TEST(an_answer_is_told_once)
{
  mp_dns *dns = new_dns();
  REQUIRE(dns);
  waiter w = { 0 };
  CHECK_EQ_INT(ask(dns, &w, MP_DNS_A, "localhost"), 0);
  CHECK_EQ_INT(w.told, 0);
  wait_for(dns, &w);
  CHECK_EQ_INT(w.told, 1);
  CHECK(w.outcome == MP_DNS_ANSWER && w.count == 1);
  CHECK(!w.asker.question && mp_dns_waiting(dns) == 0);
  mp_dns_give_up(&w.asker);
  mp_dns_free(dns);
}

TEST(equal_questions_are_one)
{
  mp_dns *dns = new_dns();
  REQUIRE(dns);
  waiter w[3] = { 0 };
  CHECK_EQ_INT(ask(dns, &w[0], MP_DNS_A, "localhost"), 0);
  CHECK_EQ_INT(ask(dns, &w[1], MP_DNS_A, "localhost"), 0);
  CHECK_EQ_INT(ask(dns, &w[2], MP_DNS_MX, "localhost"), 0);
  CHECK_EQ_INT((int)mp_dns_waiting(dns), 2);
  CHECK(w[0].asker.question == w[1].asker.question && w[0].asker.question != w[2].asker.question);
  wait_for(dns, &w[0]);
  wait_for(dns, &w[2]);
  CHECK(w[0].told == 1 && w[1].told == 1 && w[2].told == 1);
  CHECK(w[2].outcome == MP_DNS_ANSWER && w[2].count == 0 && !w[2].nxdomain);
  mp_dns_free(dns);
}

TEST(the_last_who_gives_up_ends_the_question)
{
  mp_dns *dns = new_dns();
  REQUIRE(dns);
  waiter w[2] = { 0 };
  CHECK_EQ_INT(ask(dns, &w[0], MP_DNS_MX, "silent.example"), 0);
  CHECK_EQ_INT(ask(dns, &w[1], MP_DNS_MX, "silent.example"), 0);
  mp_dns_give_up(&w[0].asker);
  mp_dns_give_up(&w[0].asker);
  CHECK_EQ_INT((int)mp_dns_waiting(dns), 1);
  mp_dns_give_up(&w[1].asker);
  CHECK_EQ_INT((int)mp_dns_waiting(dns), 0);
  CHECK(w[0].told == 0 && w[1].told == 0);
  mp_dns_free(dns);
}

TEST(one_who_is_told_may_make_another_give_up)
{
  mp_dns *dns = new_dns();
  REQUIRE(dns);
  waiter w[2] = { 0 };
  w[0].other = &w[1];
  CHECK_EQ_INT(ask(dns, &w[0], MP_DNS_A, "localhost"), 0);
  CHECK_EQ_INT(ask(dns, &w[1], MP_DNS_A, "localhost"), 0);
  wait_for(dns, &w[0]);
  CHECK(w[0].told == 1 && w[1].told == 0);
  mp_dns_free(dns);
}

TEST(one_who_is_told_may_end_the_resolver)
{
  mp_dns *dns = new_dns();
  REQUIRE(dns);
  waiter w[3] = { 0 };
  w[0].end = dns;
  CHECK_EQ_INT(ask(dns, &w[0], MP_DNS_A, "localhost"), 0);
  CHECK_EQ_INT(ask(dns, &w[1], MP_DNS_A, "localhost"), 0);
  CHECK_EQ_INT(ask(dns, &w[2], MP_DNS_A, "silent.example"), 0);
  wait_for(dns, &w[0]);
  CHECK(w[0].told == 1 && w[1].told == 0 && w[2].told == 0);
  mp_dns_give_up(&w[2].asker);
}

TEST(nobody_is_told_when_it_ends)
{
  mp_dns *dns = new_dns();
  REQUIRE(dns);
  waiter w[2] = { 0 };
  CHECK_EQ_INT(ask(dns, &w[0], MP_DNS_TXT, "silent.example"), 0);
  CHECK_EQ_INT(ask(dns, &w[1], MP_DNS_A, "silent.example"), 0);
  mp_dns_free(dns);
  CHECK(w[0].told == 0 && !w[0].asker.question);
  mp_dns_give_up(&w[0].asker);
}

TEST(there_is_a_most_of_questions)
{
  mp_dns *dns = new_dns();
  REQUIRE(dns);
  waiter *w = calloc(MP_DNS_QUESTIONS + 1, sizeof *w);
  REQUIRE(w);
  char name[32];
  for (int i = 0; i < MP_DNS_QUESTIONS; i++) {
    snprintf(name, sizeof name, "n%d.silent.example", i);
    REQUIRE(ask(dns, &w[i], MP_DNS_A, name) == 0);
  }
  CHECK_EQ_INT(ask(dns, &w[MP_DNS_QUESTIONS], MP_DNS_A, "one.silent.example"), MP_E_FULL);
  mp_dns_give_up(&w[MP_DNS_QUESTIONS].asker);
  mp_dns_give_up(&w[0].asker);
  CHECK_EQ_INT(ask(dns, &w[0], MP_DNS_A, "one.silent.example"), 0);
  mp_dns_free(dns);
  free(w);
}

TEST(what_is_wrong_shows_at_once)
{
  static const char *const rubbish[] = { "no record at all" };
  const mp_dns_opts bad[] = {
    { .anchors = rubbish, .anchor_count = 1, .recursion = true },
    { .forwarders = rubbish, .forwarder_count = 1 },
    { .root_key = "/no/such/file", .recursion = true },
    { .stubs = &(mp_dns_stub){ "example.net", "x" }, .stub_count = 1, .recursion = true },
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    mp_dns *dns = NULL;
    char why[MP_DNS_WHY];
    CHECK_EQ_INT(mp_dns_new(&dns, &bad[i], why), MP_E_INVALID);
    CHECK(!dns && why[0]);
  }
}

TEST(want_of_memory_leaves_nothing_behind)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_dns *dns;
    char why[MP_DNS_WHY];
    if (mp_dns_new(&dns, &silent, why) < 0)
      continue;
    waiter w = { 0 };
    int rc = ask(dns, &w, MP_DNS_A, "localhost");
    CHECK(rc == 0 || rc == MP_E_NOMEM);
    CHECK_EQ_INT((int)mp_dns_waiting(dns), rc == 0);
    mp_dns_free(dns);
  }
}

CHECK_MAIN
