/* spool when memory runs out, at each allocation in turn: a request fails alone and whole, and can be asked again. */
#include "support/spool_rig.h"

enum { NOW = 1000000 };

TEST(opening_fails_cleanly)
{
  spool_rig rig;
  REQUIRE(rig_init(&rig));
  CHECK_EQ_INT(rig_open(&rig), 0);
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  CHECK_EQ_INT(rig_put_one(&rig, "m2", "bob@example.com"), 0);
  rig_close(&rig);
  FOR_EACH_ALLOC_FAILURE {
    int err = rig_open(&rig);
    if (CHECK_ALLOC_FAILED() && err != 0) {
      CHECK_EQ_INT(err, MP_E_NOMEM);
      CHECK_CSTR(rig.why, "out of memory");
    } else {
      CHECK_EQ_INT(err, 0);
      mp_spool_stats stats;
      mp_spool_stat(rig.spool, &stats);
      CHECK_EQ_INT(stats.waiting, 2);
      CHECK_EQ_INT(stats.domains, 2);
      rig_close(&rig);
    }
  }
  rig_dispose(&rig);
}

TEST(a_put_is_there_whole_or_not_at_all)
{
  spool_rig rig;
  REQUIRE(rig_init(&rig));
  CHECK_EQ_INT(rig_open(&rig), 0);
  int number = 0;
  char id[16], domain[32];
  FOR_EACH_ALLOC_FAILURE {
    snprintf(id, sizeof id, "m%d", ++number);
    snprintf(domain, sizeof domain, "d%d.example.net", number);
    rig_mail mail = rig_mail_to(id, "bob@example.net");
    mail.to[1] = (mp_spool_recipient){ .address = MP_STR("x"), .domain = mp_str_c(domain), .due_ms = NOW };
    mail.count = 2;
    mail.put.lease_ms = 1000;
    int err = rig_put(&rig, &mail);
    bool failed = CHECK_ALLOC_FAILED();
    mp_mem_fail_after(-1);
    CHECK(err == 0 || (failed && err == MP_E_NOMEM));
    CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ .id = mp_str_c(id) }), err == 0 ? 2 : 0);
    mp_spool_stats stats;
    mp_spool_stat(rig.spool, &stats);
    CHECK_EQ_INT(stats.leased, err == 0 ? 2 : 0);
    CHECK_EQ_INT(stats.waiting, err == 0 ? 2 : 0);
    CHECK_EQ_INT(stats.domains, err == 0 ? 2 : 0);
    if (err == 0)
      CHECK_EQ_INT(rig_end(&rig, id, 0), 0);
    /* so that the loop sees whether one failed in this round */
    if (failed) {
      mp_mem_fail_after(0);
      mp_mem_free(mp_mem_alloc(1));
    }
  }
  rig_dispose(&rig);
}

TEST(a_change_is_made_or_not)
{
  static const enum mp_spool_verb verbs[] = { MP_SPOOL_DELIVERED, MP_SPOOL_RESCHEDULE, MP_SPOOL_HOLD,
                                              MP_SPOOL_REDIRECT };
  for (size_t v = 0; v < 4; v++) {
    spool_rig rig;
    int rounds = 0;
    REQUIRE(rig_init(&rig));
    CHECK_EQ_INT(rig_open(&rig), 0);
    FOR_EACH_ALLOC_FAILURE {
      mp_mem_fail_after(-1);
      CHECK(rounds < 200);
      CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
      CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 1);
      mp_mem_fail_after(rounds++);
      mp_spool_change change = { .verb = verbs[v],
                                 .id = MP_STR("m1"),
                                 .when_ms = NOW + 50,
                                 .now_ms = NOW,
                                 .address = MP_STR("carl"),
                                 .domain = MP_STR("example.org") };
      int err = rig_change(&rig, change);
      bool failed = CHECK_ALLOC_FAILED();
      mp_mem_fail_after(-1);
      CHECK(err == 0 || (failed && err == MP_E_NOMEM));
      if (err != 0)
        CHECK_EQ_INT(rig_change(&rig, change), 0);
      CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 0);
      if (verbs[v] == MP_SPOOL_RESCHEDULE)
        CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW + 50), 1);
      if (verbs[v] != MP_SPOOL_DELIVERED)
        CHECK_EQ_INT(rig_end(&rig, "m1", 0), 0);
      mp_spool_stats stats;
      mp_spool_stat(rig.spool, &stats);
      CHECK_EQ_INT(stats.leased, 0);
      CHECK_EQ_INT(stats.waiting, 0);
      CHECK_EQ_INT(stats.domains, 0);
      if (failed) {
        mp_mem_fail_after(0);
        mp_mem_free(mp_mem_alloc(1));
      }
    }
    rig_dispose(&rig);
  }
}

TEST(what_a_claim_has_no_memory_for_waits_on)
{
  spool_rig rig;
  char id[16];
  REQUIRE(rig_init(&rig));
  CHECK_EQ_INT(rig_open(&rig), 0);
  for (int i = 0; i < 12; i++) {
    snprintf(id, sizeof id, "m%d", i);
    rig_mail mail = rig_mail_to(id, "bob@example.net");
    mail.message.priority = i % 3;
    mail.message.sender = i % 2 ? MP_STR("ann@example.org") : MP_STR("carl@example.org");
    mail.to[0].expiry_ms = NOW + 1000000;
    CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  }
  for (int expired = 0; expired < 2; expired++)
    FOR_EACH_ALLOC_FAILURE {
      int err, got = 0;
      mp_spool_batch *batch = rig_claim_lane(&rig, expired ? NULL : "example.net", -1,
                                             expired ? NOW + 1000000 : NOW, MP_SPOOL_CLAIM_MAX, NULL, &err);
      bool failed = CHECK_ALLOC_FAILED();
      mp_mem_fail_after(-1);
      CHECK(err == 0 || (failed && err == MP_E_NOMEM));
      if (batch)
        got = (int)batch->recipients;
      mp_spool_batch_free(batch);
      CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 12 - got);
      rig.clock += 60000; /* for the next round */
      if (failed) {
        mp_mem_fail_after(0);
        mp_mem_free(mp_mem_alloc(1));
      }
    }
  rig_dispose(&rig);
}

TEST(reading_fails_cleanly)
{
  spool_rig rig;
  char octets[32];
  REQUIRE(rig_init(&rig));
  CHECK_EQ_INT(rig_open(&rig), 0);
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  FOR_EACH_ALLOC_FAILURE {
    mp_spool_list_request list = { .request = { .done = rig_done },
                                   .filter = { .sender = MP_STR("ann*") },
                                   .max = 10 };
    mp_spool_list(rig.spool, &list);
    int err = rig_wait(&rig, &list.request);
    CHECK(err == 0 || (CHECK_ALLOC_FAILED() && err == MP_E_NOMEM));
    if (err == 0)
      CHECK_EQ_INT(list.batch->recipients, 1);
    mp_spool_batch_free(list.batch);
    err = rig_read(&rig, "m1", 0, octets, 4);
    CHECK(err == 4 || (CHECK_ALLOC_FAILED() && err == MP_E_NOMEM));
    mp_spool_file *file;
    err = mp_spool_file_new(rig.spool, &file);
    CHECK(err == 0 || (CHECK_ALLOC_FAILED() && err == MP_E_NOMEM));
    mp_spool_file_free(file);
  }
  rig_dispose(&rig);
}

TEST(what_is_damaged_is_set_aside_later_then)
{
  spool_rig rig;
  REQUIRE(rig_init(&rig));
  CHECK_EQ_INT(rig_open(&rig), 0);
  FOR_EACH_ALLOC_FAILURE {
    bool failed;
    char id[16];
    static int number;
    mp_mem_fail_after(-1);
    snprintf(id, sizeof id, "m%d", number);
    CHECK_EQ_INT(rig_put_one(&rig, id, "bob@example.net"), 0);
    rig_sql(&rig, "UPDATE recipient SET attempts = 'many'");
    mp_mem_fail_after(number++);
    rig_claims(&rig, "example.net", NOW);
    mp_spool_turn(rig.spool);
    failed = CHECK_ALLOC_FAILED();
    mp_mem_fail_after(-1);
    rig.clock += 60000;
    CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 0);
    mp_spool_turn(rig.spool);
    CHECK_EQ_INT(rig_sql(&rig, "SELECT count(*) FROM damaged"), number);
    CHECK_EQ_INT(rig_sql(&rig, "SELECT count(*) FROM recipient"), 0);
    CHECK(number < 200);
    if (failed) {
      mp_mem_fail_after(0);
      mp_mem_free(mp_mem_alloc(1));
    }
  }
  rig_dispose(&rig);
}

CHECK_MAIN
