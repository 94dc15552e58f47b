/* spool: what is put can be claimed, ended, read and listed; a second opening finds it again. */
#include "support/spool_rig.h"

enum { NOW = 1000000 };

TEST(a_message_is_put_claimed_and_delivered)
{
  spool_rig rig;
  REQUIRE(rig_init(&rig));
  REQUIRE(CHECK_EQ_INT(rig_open(&rig), 0));
  rig_mail mail = rig_mail_to("m1", "bob@example.net");
  mail.message.user = MP_STR("ann");
  mail.message.params = MP_STR("ENVID=QQ314");
  mail.message.report = true;
  mail.message.priority = 3;
  mail.message.meta = MP_STR("{\"a\":1}");
  mail.to[0].params = MP_STR("NOTIFY=FAILURE");
  mail.to[0].expiry_ms = NOW + 5000;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  CHECK(!mail.put.existed);

  mp_spool_domain domain;
  CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW - 1, 1000, &domain, 1), 0);
  REQUIRE(CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW, 1000, &domain, 1), 1));
  CHECK_CSTR(domain.name, "example.net");
  CHECK_EQ_INT(domain.waiting, 1);
  CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW, 1000, &domain, 1), 0);

  mp_spool_batch *batch = rig_claim(&rig, "example.net", NOW, NULL);
  REQUIRE(batch);
  REQUIRE(CHECK_EQ_INT(batch->count, 1) && CHECK_EQ_INT(batch->recipients, 1));
  const mp_spool_item *item = batch->items;
  CHECK_STR(item->message.id, "m1");
  CHECK_STR(item->message.sender, "ann@example.org");
  CHECK_STR(item->message.user, "ann");
  CHECK_STR(item->message.params, "ENVID=QQ314");
  CHECK_STR(item->message.meta, "{\"a\":1}");
  CHECK(item->message.report && !item->message.in_file);
  CHECK_EQ_INT(item->message.priority, 3);
  CHECK_EQ_INT(item->message.head_length, sizeof RIG_HEAD - 1);
  CHECK_EQ_INT(item->message.body_length, sizeof RIG_BODY - 1);
  CHECK_EQ_INT(item->recipients[0].n, 1);
  CHECK_STR(item->recipients[0].address, "bob@example.net");
  CHECK_STR(item->recipients[0].params, "NOTIFY=FAILURE");
  CHECK_STR(item->recipients[0].reply, "");
  CHECK_EQ_INT(item->recipients[0].expiry_ms, NOW + 5000);
  CHECK_EQ_INT(item->recipients[0].alarm_ms, NOW + 5000);
  mp_spool_batch_free(batch);

  char octets[64];
  CHECK_EQ_INT(rig_read(&rig, "m1", 0, octets, sizeof octets), sizeof RIG_HEAD RIG_BODY - 1);
  CHECK_STR(mp_str_of(octets, sizeof RIG_HEAD RIG_BODY - 1), RIG_HEAD RIG_BODY);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 0);
  CHECK_EQ_INT(rig_end(&rig, "m1", 1), 0);
  CHECK_EQ_INT(rig_end(&rig, "m1", 1), MP_E_NOTFOUND);
  CHECK_EQ_INT(rig_read(&rig, "m1", 0, octets, sizeof octets), MP_E_NOTFOUND);
  CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ 0 }), 0);
  mp_spool_stats stats;
  mp_spool_stat(rig.spool, &stats);
  CHECK_EQ_INT(stats.domains, 0);
  CHECK_EQ_INT(stats.waiting, 0);
  CHECK_EQ_INT(stats.leased, 0);
  CHECK_EQ_INT(stats.delivered, 1);
  rig_dispose(&rig);
}

/* Opens a spool, or leaves the test. */
#define OPEN(rig)            \
  spool_rig rig;             \
  REQUIRE(rig_init(&(rig))); \
  REQUIRE(CHECK_EQ_INT(rig_open(&(rig)), 0))

TEST(a_name_that_is_there_changes_nothing)
{
  OPEN(rig);
  rig_mail mail = rig_mail_to("m1", "bob@example.net");
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  rig_mail other = rig_mail_to("m1", "eve@example.com");
  other.put.lease_ms = 1000;
  CHECK_EQ_INT(rig_put(&rig, &other), 0);
  CHECK(other.put.existed);
  CHECK_EQ_INT(other.put.lease, 0);
  CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ 0 }), 1);
  CHECK_EQ_INT(rig_claims(&rig, "example.com", NOW), 0);
  CHECK_EQ_INT(rig_end(&rig, "m1", 1), 0);
  CHECK_EQ_INT(rig_put(&rig, &other), 0);
  CHECK(!other.put.existed);
  rig_dispose(&rig);
}

TEST(what_breaks_a_rule_is_refused_alone)
{
  OPEN(rig);
  static const char *const bad[] = {
    "", "../x", ".x", "-x", "a/b", "a b", "0123456789012345678901234567890123456789012345678901234567890123x"
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    CHECK_EQ_INT(rig_put_one(&rig, bad[i], "bob@example.net"), MP_E_INVALID);
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@Example.net"), MP_E_INVALID);
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@"), MP_E_INVALID);
  rig_mail mail = rig_mail_to("m1", "bob@example.net");
  mail.count = 0;
  CHECK_EQ_INT(rig_put(&rig, &mail), MP_E_INVALID);
  mail.count = 1;
  mail.message.priority = 10;
  CHECK_EQ_INT(rig_put(&rig, &mail), MP_E_INVALID);
  /* beside one that is good, asked at the same time */
  rig_mail good = rig_mail_to("m2", "bob@example.net");
  good.put =
      (mp_spool_put_request){ { .done = rig_done }, .message = &good.message, .recipients = good.to, .count = 1 };
  mail.put.request = (mp_spool_request){ .done = rig_done };
  mp_spool_put(rig.spool, &mail.put);
  mp_spool_put(rig.spool, &good.put);
  CHECK_EQ_INT(rig_wait(&rig, &good.put.request), 0);
  CHECK_EQ_INT(rig_wait(&rig, &mail.put.request), MP_E_INVALID);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 1);
  rig_dispose(&rig);
}

TEST(all_that_was_asked_is_one_commit)
{
  OPEN(rig);
  rig_mail mails[20];
  char ids[20][16];
  for (int i = 0; i < 20; i++) {
    snprintf(ids[i], sizeof ids[i], "m%02d", i);
    mails[i] = rig_mail_to(ids[i], "bob@example.net");
    mails[i].put = (mp_spool_put_request){
      { .done = rig_done }, .message = &mails[i].message, .recipients = mails[i].to, .count = 1
    };
    mp_spool_put(rig.spool, &mails[i].put);
  }
  CHECK_EQ_INT(mp_spool_turn(rig.spool), 20);
  mp_spool_stats stats;
  mp_spool_stat(rig.spool, &stats);
  CHECK_EQ_INT(stats.commits, 1);
  CHECK_EQ_INT(stats.committed, 20);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 20);
  rig_dispose(&rig);
}

TEST(a_put_may_claim_what_is_due)
{
  OPEN(rig);
  rig_mail mail = rig_mail_to("m1", "bob@example.net");
  mail.to[1] = (mp_spool_recipient){ .address = MP_STR("later@example.net"),
                                     .domain = MP_STR("example.net"),
                                     .due_ms = NOW + 500 };
  mail.count = 2;
  mail.put.lease_ms = 1000;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  CHECK(mail.put.lease != 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 0);
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW), 500);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW + 500), 1);
  rig.clock += 1000;
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW + 500), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW + 500), 1);
  rig_dispose(&rig);
}

TEST(a_reschedule_keeps_what_the_attempt_said)
{
  OPEN(rig);
  uint64_t lease;
  rig_mail mail = rig_mail_to("m1", "bob@example.net");
  mail.to[0].expiry_ms = NOW + 10000;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  mp_spool_batch_free(rig_claim(&rig, "example.net", NOW, &lease));
  mp_spool_change change = { .verb = MP_SPOOL_RESCHEDULE,
                             .id = MP_STR("m1"),
                             .n = 1,
                             .lease = lease,
                             .when_ms = NOW + 3000,
                             .now_ms = NOW + 10,
                             .reply = MP_STR("451 4.3.0 later"),
                             .host = MP_STR("mx.example.net"),
                             .site = MP_STR("mx.example.net") };
  CHECK_EQ_INT(rig_change(&rig, change), 0);
  CHECK_EQ_INT(rig_change(&rig, change), MP_E_CANCELLED);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW + 2999), 0);
  rig_close(&rig);
  CHECK_EQ_INT(rig_open(&rig), 0);
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW), 3000);
  mp_spool_batch *batch = rig_claim(&rig, "example.net", NOW + 3000, &lease);
  REQUIRE(batch && CHECK_EQ_INT(batch->recipients, 1));
  const mp_spool_recipient *r = batch->items[0].recipients;
  CHECK_EQ_INT(r->attempts, 1);
  CHECK_EQ_INT(r->attempt_ms, NOW + 10);
  CHECK_STR(r->reply, "451 4.3.0 later");
  CHECK_STR(r->host, "mx.example.net");
  CHECK_STR(r->site, "mx.example.net");
  mp_spool_batch_free(batch);
  /* later than it expires, and not an attempt */
  change = (mp_spool_change){
    .verb = MP_SPOOL_RESCHEDULE, .id = MP_STR("m1"), .n = 1, .lease = lease, .when_ms = NOW + 99999
  };
  CHECK_EQ_INT(rig_change(&rig, change), 0);
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW), 10000);
  batch = rig_claim(&rig, "example.net", NOW + 10000, NULL);
  REQUIRE(batch && CHECK_EQ_INT(batch->recipients, 1));
  CHECK_EQ_INT(batch->items[0].recipients[0].attempts, 1);
  CHECK_STR(batch->items[0].recipients[0].reply, "451 4.3.0 later");
  mp_spool_batch_free(batch);
  rig_dispose(&rig);
}

TEST(what_is_held_is_not_due_until_it_is_released)
{
  OPEN(rig);
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  CHECK_EQ_INT(rig_change(&rig, (mp_spool_change){ .verb = MP_SPOOL_HOLD, .id = MP_STR("m1") }), 0);
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW) == INT64_MAX, 1);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 0);
  CHECK_EQ_INT(
      rig_change(&rig, (mp_spool_change){ .verb = MP_SPOOL_RETRY, .id = MP_STR("m1"), .when_ms = NOW - 5 }), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 0);
  CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ .held = true }), 1);
  CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ .waiting = true }), 0);
  rig_close(&rig);
  CHECK_EQ_INT(rig_open(&rig), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 0);
  CHECK_EQ_INT(rig_change(&rig, (mp_spool_change){ .verb = MP_SPOOL_RELEASE, .id = MP_STR("m1") }), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 1);
  /* held while somebody delivers it: the delivery counts */
  CHECK_EQ_INT(rig_change(&rig, (mp_spool_change){ .verb = MP_SPOOL_HOLD, .id = MP_STR("m1") }), 0);
  rig.clock += 60000;
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 0);
  CHECK_EQ_INT(rig_end(&rig, "m1", 1), 0);
  CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ 0 }), 0);
  rig_dispose(&rig);
}

TEST(a_redirect_waits_elsewhere_and_keeps_the_first_address)
{
  OPEN(rig);
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  mp_spool_change change = { .verb = MP_SPOOL_REDIRECT,
                             .id = MP_STR("m1"),
                             .n = 1,
                             .address = MP_STR("carl@example.com"),
                             .domain = MP_STR("example.com") };
  CHECK_EQ_INT(rig_change(&rig, change), 0);
  change.address = MP_STR("dora@example.com");
  CHECK_EQ_INT(rig_change(&rig, change), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 0);
  mp_spool_batch *batch = rig_claim(&rig, "example.com", NOW, NULL);
  REQUIRE(batch && CHECK_EQ_INT(batch->recipients, 1));
  CHECK_STR(batch->items[0].recipients[0].address, "dora@example.com");
  CHECK_STR(batch->items[0].recipients[0].original, "bob@example.net");
  mp_spool_batch_free(batch);
  /* while it is claimed */
  change.domain = MP_STR("example.edu");
  CHECK_EQ_INT(rig_change(&rig, change), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.edu", NOW), 0);
  rig.clock += 60000;
  CHECK_EQ_INT(rig_claims(&rig, "example.com", NOW), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.edu", NOW), 1);
  rig_dispose(&rig);
}

TEST(what_expires_is_claimed_wherever_it_waits)
{
  OPEN(rig);
  rig_mail mail = rig_mail_to("m1", "bob@example.net");
  mail.to[0].expiry_ms = NOW + 100;
  mail.to[0].due_ms = NOW + 900; /* not later than it expires */
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  mail = rig_mail_to("m2", "carl@example.com");
  mail.to[0].expiry_ms = NOW + 200;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  CHECK_EQ_INT(rig_change(&rig, (mp_spool_change){ .verb = MP_SPOOL_HOLD, .id = MP_STR("m2") }), 0);
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW), 100);
  CHECK(!mp_spool_alarming(rig.spool, NOW + 99));
  CHECK(mp_spool_alarming(rig.spool, NOW + 100));
  CHECK_EQ_INT(rig_claims(&rig, NULL, NOW + 100), 1);
  CHECK_EQ_INT(rig_claims(&rig, NULL, NOW + 100), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW + 100), 0);
  CHECK(!mp_spool_alarming(rig.spool, NOW + 199));
  CHECK_EQ_INT(rig_claims(&rig, NULL, NOW + 200), 1);
  /* nobody ended them: when the leases are over they are told of again */
  rig.clock += 60000;
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW + 200), 0);
  CHECK(mp_spool_alarming(rig.spool, NOW + 200));
  CHECK_EQ_INT(rig_claims(&rig, NULL, NOW + 200), 2);
  /* more time for one of them */
  CHECK_EQ_INT(rig_change(&rig, (mp_spool_change){ .verb = MP_SPOOL_RESCHEDULE,
                                                   .id = MP_STR("m1"),
                                                   .when_ms = NOW,
                                                   .alarm_ms = NOW + 5000 }),
               0);
  CHECK_EQ_INT(rig_change(&rig, (mp_spool_change){ .verb = MP_SPOOL_EXPIRED, .id = MP_STR("m2") }), 0);
  rig.clock += 60000;
  CHECK_EQ_INT(rig_claims(&rig, NULL, NOW + 300), 0);
  CHECK_EQ_INT(rig_claims(&rig, NULL, NOW + 5000), 1);
  rig_dispose(&rig);
}

TEST(leases_end_are_lengthened_and_given_back)
{
  OPEN(rig);
  uint64_t lease;
  rig_mail mail = rig_mail_to("m1", "bob@example.net");
  mail.to[1] = mail.to[0];
  mail.to[2] = mail.to[0];
  mail.count = 3;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  mp_spool_batch_free(rig_claim(&rig, "example.net", NOW, &lease));
  mp_spool_lease_request more = {
    .request = { .done = rig_done }, .lease = lease, .id = MP_STR("m1"), .n = 1, .lease_ms = 90000
  };
  mp_spool_lease(rig.spool, &more);
  CHECK_EQ_INT(rig_wait(&rig, &more.request), 0);
  more.n = 2;
  more.lease_ms = 0;
  more.request.next = NULL;
  mp_spool_lease(rig.spool, &more);
  CHECK_EQ_INT(rig_wait(&rig, &more.request), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 1); /* number 2 */
  mp_spool_lease(rig.spool, &more);
  CHECK_EQ_INT(rig_wait(&rig, &more.request), MP_E_CANCELLED);
  rig.clock += 60000;
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 2); /* 2 and 3 */
  rig.clock += 30000;
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 1);
  more.lease++; /* of somebody else */
  mp_spool_lease(rig.spool, &more);
  CHECK_EQ_INT(rig_wait(&rig, &more.request), MP_E_CANCELLED);
  rig_dispose(&rig);
}

TEST(higher_priority_comes_first_then_what_was_due_first)
{
  OPEN(rig);
  static const struct {
    const char *id;
    int priority;
    int64_t due;
  } rows[] = { { "a", 0, NOW },     { "b", 5, NOW },     { "c", -3, NOW - 9 },
               { "d", 5, NOW - 1 }, { "e", 0, NOW - 1 }, { "f", 9, NOW + 1 } };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    rig_mail mail = rig_mail_to(rows[i].id, "bob@example.net");
    mail.message.priority = rows[i].priority;
    mail.to[0].due_ms = rows[i].due;
    CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  }
  char order[16] = "";
  for (int round = 0; round < 3; round++) {
    mp_spool_batch *batch = rig_claim_lane(&rig, "example.net", -1, NOW, 2, NULL, NULL);
    REQUIRE(batch);
    for (size_t i = 0; i < batch->count; i++)
      strncat(order, batch->items[i].message.id.ptr, batch->items[i].message.id.len);
    mp_spool_batch_free(batch);
  }
  CHECK_CSTR(order, "dbeac");
  rig_dispose(&rig);
}

TEST(senders_take_turns)
{
  OPEN(rig);
  char id[16], sender[32];
  for (int i = 0; i < 60; i++) {
    snprintf(id, sizeof id, "m%03d", i);
    /* one who sends much, ahead of three who send little; a tenant's lane is its own, whoever sends */
    snprintf(sender, sizeof sender, "%s@example.org",
             i < 57    ? "much"
             : i == 57 ? "one"
             : i == 58 ? "two"
                       : "three");
    rig_mail mail = rig_mail_to(id, "bob@example.net");
    mail.message.sender = mp_str_c(sender);
    CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  }
  int rounds = 0, little = 0;
  for (; rounds < 10 && little < 3; rounds++) {
    mp_spool_batch *batch = rig_claim_lane(&rig, "example.net", -1, NOW, 5, NULL, NULL);
    REQUIRE(batch);
    for (size_t i = 0; i < batch->count; i++)
      little += !mp_str_eq(batch->items[i].message.sender, MP_STR("much@example.org"));
    mp_spool_batch_free(batch);
  }
  CHECK_EQ_INT(little, 3);
  CHECK(rounds <= 4);
  rig_dispose(&rig);
}

TEST(recipients_of_a_message_come_as_one)
{
  OPEN(rig);
  for (int m = 0; m < 2; m++) {
    rig_mail mail = rig_mail_to(m ? "m2" : "m1", "bob@example.net");
    for (size_t i = 1; i < 8; i++)
      mail.to[i] = mail.to[0];
    mail.to[3].due_ms -= 100;
    mail.to[5].domain = MP_STR("example.com");
    mail.count = 8;
    CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  }
  mp_spool_batch *batch = rig_claim(&rig, "example.net", NOW, NULL);
  REQUIRE(batch && CHECK_EQ_INT(batch->recipients, 14));
  REQUIRE(CHECK_EQ_INT(batch->count, 2));
  CHECK_EQ_INT(batch->items[0].count, 7);
  CHECK_EQ_INT(batch->items[0].recipients[0].n, 4);
  CHECK_EQ_INT(batch->items[0].recipients[1].n, 1);
  CHECK_EQ_INT(batch->items[1].count, 7);
  mp_spool_batch_free(batch);
  rig_dispose(&rig);
}

TEST(a_domain_is_named_again_after_a_while_a_claim_or_its_quiet_time)
{
  OPEN(rig);
  mp_spool_domain domains[4];
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  CHECK_EQ_INT(rig_put_one(&rig, "m2", "bob@example.com"), 0);
  CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW, 100, domains, 4), 2);
  CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW, 100, domains, 4), 0);
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW), 100);
  rig.clock += 100;
  CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW, 100, domains, 1), 1);
  CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW, 100, domains + 1, 1), 1);
  CHECK(strcmp(domains[0].name, domains[1].name) != 0);
  CHECK_EQ_INT(mp_spool_quiet(rig.spool, MP_STR("example.net"), 5000), 0);
  CHECK_EQ_INT(mp_spool_quiet(rig.spool, MP_STR("example.org"), 5000), MP_E_NOTFOUND);
  rig.clock += 4999;
  CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW, 100, domains, 4), 1);
  CHECK_CSTR(domains[0].name, "example.com");
  rig.clock++;
  CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW, 100, domains, 4), 1);
  CHECK_CSTR(domains[0].name, "example.net");
  CHECK_EQ_INT(rig_put_one(&rig, "m3", "bob@example.net"), 0);
  CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW, 100, domains, 4), 0);
  /* a claim that left something: named at once */
  mp_spool_batch_free(rig_claim_lane(&rig, "example.net", -1, NOW, 1, NULL, NULL));
  CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW, 100, domains, 4), 1);
  CHECK_EQ_INT(mp_spool_quiet(rig.spool, MP_STR("example.net"), 0), 0);
  CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW, 100, domains, 4), 1);
  rig_dispose(&rig);
}

TEST(who_waits_is_woken_by_what_is_due_earlier)
{
  OPEN(rig);
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  CHECK_EQ_INT(rig.wakes, 0); /* nobody has asked */
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW - 50), 50);
  rig_mail mail = rig_mail_to("m2", "bob@example.net");
  mail.to[0].due_ms = NOW + 10;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  CHECK_EQ_INT(rig.wakes, 0);
  mail = rig_mail_to("m3", "bob@example.com");
  mail.to[0].due_ms = NOW - 10;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  CHECK_EQ_INT(rig.wakes, 1);
  mail.message.id = MP_STR("m4");
  mail.to[0].due_ms = NOW - 20;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  CHECK_EQ_INT(rig.wakes, 1); /* once */
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW - 50), 30);
  rig_dispose(&rig);
}

TEST(who_was_told_that_nothing_waits_is_woken_by_what_is_given_back_for_later)
{
  OPEN(rig);
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  uint64_t lease;
  mp_spool_batch_free(rig_claim(&rig, "example.net", NOW, &lease));
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW), 60000); /* the lease */
  unsigned wakes = rig.wakes;
  mp_spool_lease_request back = { .request.done = rig_done, .lease = lease, .back = true, .lease_ms = 1000 };
  mp_spool_lease(rig.spool, &back);
  CHECK_EQ_INT(rig_wait(&rig, &back.request), 0);
  CHECK_EQ_INT(rig.wakes, wakes + 1);
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW), 1000);
  rig_dispose(&rig);
}

TEST(a_clock_that_jumps_loses_nothing_and_ends_no_lease)
{
  OPEN(rig);
  enum { DAY = 86400000 };
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  CHECK_EQ_INT(rig_put_one(&rig, "m2", "carl@example.net"), 0);
  mp_spool_batch_free(rig_claim_lane(&rig, "example.net", -1, NOW, 1, NULL, NULL));
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW - DAY), 0);
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW - DAY), 60000); /* the lease */
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW + DAY), 1);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW + DAY), 0);
  rig.clock += 60000;
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 2);
  rig_dispose(&rig);
}

static bool is_file(const spool_rig *rig, const char *id)
{
  int fd = mp_spool_file_open(rig->spool, mp_str_c(id));
  if (fd >= 0)
    close(fd);
  return fd >= 0;
}

TEST(a_body_in_a_file_lives_as_long_as_its_message)
{
  OPEN(rig);
  mp_spool_file *file = NULL;
  CHECK_EQ_INT(mp_spool_file_new(rig.spool, &file), 0);
  REQUIRE(file);
  CHECK_EQ_INT(mp_spool_file_write(file, MP_STR("Hel")), 0);
  CHECK_EQ_INT(mp_spool_file_write(file, MP_STR("lo.\r\n")), 0);
  CHECK_EQ_INT(mp_spool_file_length(file), sizeof RIG_BODY - 1);
  CHECK_EQ_INT(mp_spool_file_name(file, MP_STR("../m1")), MP_E_INVALID);
  CHECK_EQ_INT(mp_spool_file_name(file, MP_STR("m1")), 0);
  mp_spool_file_free(file);
  CHECK(is_file(&rig, "m1"));
  rig_mail mail = rig_mail_to("m1", "bob@example.net");
  mail.message.body = MP_STR_NULL;
  mail.message.in_file = true;
  mail.message.body_length = sizeof RIG_BODY - 1;
  mail.to[1] = mail.to[0];
  mail.count = 2;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  char octets[64];
  CHECK_EQ_INT(rig_read(&rig, "m1", 0, octets, sizeof octets), sizeof RIG_HEAD RIG_BODY - 1);
  CHECK_STR(mp_str_of(octets, sizeof RIG_HEAD RIG_BODY - 1), RIG_HEAD RIG_BODY);
  CHECK_EQ_INT(rig_end(&rig, "m1", 2), 0);
  CHECK(is_file(&rig, "m1"));
  rig_close(&rig);
  CHECK_EQ_INT(rig_open(&rig), 0);
  CHECK(is_file(&rig, "m1"));
  CHECK_EQ_INT(rig_end(&rig, "m1", 1), 0);
  CHECK(!is_file(&rig, "m1"));
  /* one whose put failed, one that is never named, one that another program part made */
  CHECK_EQ_INT(mp_spool_file_new(rig.spool, &file), 0);
  CHECK_EQ_INT(mp_spool_file_name(file, MP_STR("m2")), 0);
  mp_spool_file_free(file);
  CHECK_EQ_INT(mp_spool_file_drop(rig.spool, MP_STR("m2")), 0);
  CHECK(!is_file(&rig, "m2"));
  CHECK_EQ_INT(mp_spool_file_new(rig.spool, &file), 0);
  mp_spool_file_free(file);
  rig_dispose(&rig);
}

/* Such a message was taken, and set aside as damaged when it was read: nobody got it. */
TEST(times_that_cannot_be_read_back_are_not_taken)
{
  OPEN(rig);
  rig_mail mail = rig_mail_to("m1", "bob@example.net");
  mail.to[0].expiry_ms = INT64_MAX;
  CHECK_EQ_INT(rig_put(&rig, &mail), MP_E_INVALID);
  mail.to[0].expiry_ms = 0;
  mail.to[0].alarm_ms = INT64_MAX;
  CHECK_EQ_INT(rig_put(&rig, &mail), MP_E_INVALID);
  mail.to[0].alarm_ms = 0;
  mail.message.received_ms = INT64_MIN;
  CHECK_EQ_INT(rig_put(&rig, &mail), MP_E_INVALID);
  mail.message.received_ms = NOW;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  mp_spool_change change = { .verb = MP_SPOOL_RESCHEDULE, .id = MP_STR("m1"), .when_ms = NOW };
  change.alarm_ms = INT64_MAX;
  CHECK_EQ_INT(rig_change(&rig, change), MP_E_INVALID);
  change.alarm_ms = 0;
  change.now_ms = INT64_MIN;
  CHECK_EQ_INT(rig_change(&rig, change), MP_E_INVALID);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 1);
  rig_dispose(&rig);
}

TEST(a_bounce_and_the_end_that_it_tells_of_are_one)
{
  OPEN(rig);
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  mp_spool_change end = { .verb = MP_SPOOL_BOUNCED, .id = MP_STR("m1"), .n = 1 };
  rig_mail bounce = rig_mail_to("m1.bounce", "ann@example.org");
  bounce.message.sender = MP_STR_NULL;
  bounce.put.changes = &end;
  bounce.put.change_count = 1;
  CHECK_EQ_INT(rig_put(&rig, &bounce), 0);
  CHECK_EQ_INT(end.result, 0);
  CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ 0 }), 1);
  CHECK_EQ_INT(rig_claims(&rig, "example.org", NOW), 1);
  /* asked once more, as after a crash */
  CHECK_EQ_INT(rig_put(&rig, &bounce), 0);
  CHECK(bounce.put.existed);
  CHECK_EQ_INT(end.result, MP_E_NOTFOUND);
  rig_dispose(&rig);
}

/* A warning of the delay and the end of it are both alarms: the first is over, the second stays. */
TEST(an_alarm_tells_of_a_warning_and_then_of_the_end)
{
  OPEN(rig);
  rig_mail mail = rig_mail_to("m1", "bob@example.net");
  mail.to[0].due_ms = NOW + 900;
  mail.to[0].alarm_ms = NOW + 100;
  mail.to[0].expiry_ms = NOW + 500;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW), 100);
  CHECK(!mp_spool_alarming(rig.spool, NOW + 99));
  CHECK(mp_spool_alarming(rig.spool, NOW + 100));
  uint64_t lease;
  mp_spool_batch *batch = rig_claim(&rig, NULL, NOW + 100, &lease);
  REQUIRE(batch && CHECK_EQ_INT(batch->recipients, 1));
  CHECK_EQ_INT(batch->items[0].recipients[0].alarm_ms, NOW + 100);
  mp_spool_batch_free(batch);
  mp_spool_change warned = { .verb = MP_SPOOL_RESCHEDULE,
                             .id = MP_STR("m1"),
                             .n = 1,
                             .lease = lease,
                             .when_ms = NOW + 900,
                             .alarm_ms = NOW + 500,
                             .warned = 1 };
  CHECK_EQ_INT(rig_change(&rig, warned), 0);
  CHECK(!mp_spool_alarming(rig.spool, NOW + 499));
  batch = rig_claim(&rig, NULL, NOW + 500, &lease);
  REQUIRE(batch && CHECK_EQ_INT(batch->recipients, 1));
  CHECK_EQ_INT(batch->items[0].recipients[0].warned, 1);
  CHECK_EQ_INT(batch->items[0].recipients[0].attempts, 0);
  CHECK_EQ_INT(batch->items[0].recipients[0].due_ms, NOW + 500); /* not later than its end */
  mp_spool_batch_free(batch);
  rig_dispose(&rig);
}

TEST(what_somebody_held_who_is_gone_is_nobodys)
{
  OPEN(rig);
  uint64_t lease;
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  CHECK_EQ_INT(rig_put_one(&rig, "m2", "eve@example.com"), 0);
  for (uint16_t holder = 1; holder <= 2; holder++) {
    mp_spool_claim_request claim = { .request.done = rig_done,
                                     .domain = holder == 1 ? MP_STR("example.net") : MP_STR("example.com"),
                                     .lane = -1,
                                     .now_ms = NOW,
                                     .lease_ms = 60000,
                                     .max = 10,
                                     .holder = holder };
    mp_spool_claim(rig.spool, &claim);
    CHECK_EQ_INT(rig_wait(&rig, &claim.request), 0);
    CHECK_EQ_INT(claim.batch->recipients, 1);
    lease = claim.lease;
    mp_spool_batch_free(claim.batch);
  }
  mp_spool_leave(rig.spool, 1);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 1);
  CHECK_EQ_INT(rig_claims(&rig, "example.com", NOW), 0);
  mp_spool_lease_request on = { .request.done = rig_done, .lease = lease, .lease_ms = 90000 };
  mp_spool_lease(rig.spool, &on);
  CHECK_EQ_INT(rig_wait(&rig, &on.request), 0);
  rig_dispose(&rig);
}

TEST(what_is_roused_is_named_at_once)
{
  OPEN(rig);
  uint64_t lease;
  mp_spool_domain domain;
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  CHECK_EQ_INT(rig_put_one(&rig, "m2", "eve@example.net"), 0);
  mp_spool_batch_free(rig_claim(&rig, "example.net", NOW, &lease));
  mp_spool_lease_request back = {
    .request.done = rig_done, .lease = lease, .id = MP_STR("m1"), .back = true, .lease_ms = 5000
  };
  mp_spool_lease(rig.spool, &back);
  CHECK_EQ_INT(rig_wait(&rig, &back.request), 0);
  CHECK_EQ_INT(mp_spool_quiet(rig.spool, MP_STR("example.net"), 9000), 0);
  CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW, 1000, &domain, 1), 0);
  CHECK_EQ_INT(mp_spool_rouse(rig.spool, MP_STR("example.net")), 0);
  CHECK_EQ_INT(mp_spool_due(rig.spool, 0, NOW, 1000, &domain, 1), 1);
  CHECK(domain.roused);
  CHECK_EQ_INT(domain.leased, 1); /* m2 stays with who has it */
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 1);
  CHECK_EQ_INT(mp_spool_rouse(rig.spool, MP_STR("example.com")), MP_E_NOTFOUND);
  rig_dispose(&rig);
}

/* Each domain is named to one owner, and to another one when it is given to him. */
TEST(domains_are_divided_among_owners)
{
  spool_rig rig;
  REQUIRE(rig_init(&rig));
  rig.opts.owners = 3;
  REQUIRE(CHECK_EQ_INT(rig_open(&rig), 0));
  mp_spool_domain domain;
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  unsigned owner = 0;
  while (owner < 3 && mp_spool_next(rig.spool, owner, NOW) != 0)
    owner++;
  REQUIRE(CHECK(owner < 3));
  for (unsigned i = 0; i < 3; i++)
    if (i != owner)
      CHECK_EQ_INT(mp_spool_due(rig.spool, i, NOW, 1000, &domain, 1), 0);
  REQUIRE(CHECK_EQ_INT(mp_spool_due(rig.spool, owner, NOW, 1000, &domain, 1), 1));
  unsigned other = (owner + 1) % 3;
  /* alarms are the first owner's business: others would look for them for ever */
  rig_mail mail = rig_mail_to("m9", "bob@example.org");
  mail.to[0].due_ms = NOW + 99999;
  mail.to[0].alarm_ms = NOW - 1;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW), 0);
  CHECK(mp_spool_next(rig.spool, 1, NOW) > 0 && mp_spool_next(rig.spool, 2, NOW) > 0);
  CHECK_EQ_INT(rig_end(&rig, "m9", 1), 0);
  mp_spool_next(rig.spool, other, NOW);
  unsigned wakes = rig.wakes;
  CHECK_EQ_INT(mp_spool_give(rig.spool, MP_STR("example.net"), other), 0);
  CHECK(rig.wakes > wakes);
  CHECK_EQ_INT(mp_spool_due(rig.spool, owner, NOW, 1000, &domain, 1), 0);
  CHECK_EQ_INT(mp_spool_due(rig.spool, other, NOW, 1000, &domain, 1), 1);
  CHECK_EQ_INT(mp_spool_give(rig.spool, MP_STR("example.com"), other), MP_E_NOTFOUND);
  CHECK_EQ_INT(mp_spool_give(rig.spool, MP_STR("example.net"), 3), MP_E_INVALID);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 1); /* claims of anybody */
  CHECK_EQ_INT(rig_end(&rig, "m1", 1), 0);
  /* once nothing waited, it is whose its name makes it */
  CHECK_EQ_INT(rig_put_one(&rig, "m2", "bob@example.net"), 0);
  CHECK_EQ_INT(mp_spool_due(rig.spool, owner, NOW, 1000, &domain, 1), 1);
  rig_dispose(&rig);
}

static size_t claim_by_id(spool_rig *rig, const char *id, uint64_t *lease)
{
  mp_spool_claim_request claim = {
    .request.done = rig_done, .id = mp_str_c(id), .lane = -1, .now_ms = NOW, .lease_ms = 60000, .max = 100
  };
  mp_spool_claim(rig->spool, &claim);
  CHECK_EQ_INT(rig_wait(rig, &claim.request), 0);
  size_t count = claim.batch ? claim.batch->recipients : 0;
  *lease = claim.lease;
  mp_spool_batch_free(claim.batch);
  return count;
}

TEST(a_message_is_claimed_by_its_name_in_whichever_state)
{
  OPEN(rig);
  uint64_t first, second;
  rig_mail mail = rig_mail_to("m1", "bob@example.net");
  mail.to[1] = (mp_spool_recipient){ .address = MP_STR("eve@example.com"),
                                     .domain = MP_STR("example.com"),
                                     .due_ms = NOW + 9999,
                                     .state = MP_SPOOL_HELD };
  mail.to[2] = mail.to[0];
  mail.to[2].due_ms = NOW + 9999;
  mail.count = 3;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  CHECK_EQ_INT(claim_by_id(&rig, "m2", &first), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.com", NOW + 9999), 0);
  CHECK_EQ_INT(claim_by_id(&rig, "m1", &first), 3);
  CHECK_EQ_INT(claim_by_id(&rig, "m1", &second), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 0);
  mp_spool_lease_request back = { .request.done = rig_done, .lease = first, .back = true };
  mp_spool_lease(rig.spool, &back);
  CHECK_EQ_INT(rig_wait(&rig, &back.request), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 1);
  CHECK_EQ_INT(rig_claims(&rig, "example.com", NOW + 9999), 0);
  rig_dispose(&rig);
}

TEST(what_is_given_back_for_later_is_nobodys_until_then)
{
  OPEN(rig);
  uint64_t lease;
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  mp_spool_batch_free(rig_claim(&rig, "example.net", NOW, &lease));
  mp_spool_lease_request back = { .request.done = rig_done, .lease = lease, .back = true, .lease_ms = 5000 };
  mp_spool_lease(rig.spool, &back);
  CHECK_EQ_INT(rig_wait(&rig, &back.request), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 0);
  mp_spool_lease_request again = { .request.done = rig_done, .lease = lease, .lease_ms = 60000 };
  mp_spool_lease(rig.spool, &again);
  CHECK_EQ_INT(rig_wait(&rig, &again.request), MP_E_CANCELLED);
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW), 5000);
  /* but who asks for it by name has it, and so has its alarm */
  CHECK_EQ_INT(claim_by_id(&rig, "m1", &lease), 1);
  CHECK_EQ_INT(claim_by_id(&rig, "m1", &lease), 0);
  again =
      (mp_spool_lease_request){ .request.done = rig_done, .lease = lease - 1, .back = true, .lease_ms = 5000 };
  mp_spool_lease(rig.spool, &again);
  CHECK_EQ_INT(rig_wait(&rig, &again.request), 0);
  rig.clock += 5000;
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 1);
  rig_dispose(&rig);
}

TEST(a_higher_priority_goes_first_whoever_sent_it)
{
  OPEN(rig);
  static const char *const senders[] = { "a@example.org", "b@example.org", "c@example.org", "d@example.org" };
  char id[16];
  for (int i = 0; i < 4; i++) {
    snprintf(id, sizeof id, "m%d", i);
    rig_mail mail = rig_mail_to(id, "bob@example.net");
    mail.message.sender = mp_str_c(senders[i]);
    mail.message.priority = i - 1;
    CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  }
  for (int i = 3; i >= 0; i--) {
    int err;
    mp_spool_batch *batch = rig_claim_lane(&rig, "example.net", -1, NOW, 1, NULL, &err);
    REQUIRE(batch && CHECK_EQ_INT(batch->count, 1));
    CHECK_EQ_INT(batch->items[0].message.priority, i - 1);
    mp_spool_batch_free(batch);
  }
  rig_dispose(&rig);
}

CHECK_MAIN
