/* spool over a disk that loses, fills up and fails (support/fault_disk.h): what was confirmed is there, what was not is there at most once. */
#include "support/fault_disk.h"
#include "support/spool_rig.h"

enum { NOW = 1000000, ROUNDS = 50, MESSAGES = 60 };

static fault_disk disk; /* too large for a stack */

static bool start(spool_rig *rig, uint64_t seed)
{
  fault_disk_init(&disk, seed);
  *rig = (spool_rig){ .folder = "/spool", .clock = 1000 };
  rig->opts = (mp_spool_opts){ .pulled = true,
                               .reserve = 1 << 20,
                               .log = rig_log,
                               .clock = rig_clock,
                               .ctx = rig,
                               .disk = &disk.calls,
                               .vfs = disk.name };
  return CHECK_EQ_INT(rig_open(rig), 0);
}

static void stop(spool_rig *rig)
{
  rig_close(rig);
  fault_disk_dispose(&disk);
}

/* A message of which every other has its body in a file. */
static int put(spool_rig *rig, int number, char *id, size_t size)
{
  snprintf(id, size, "m%05d", number);
  rig_mail mail = rig_mail_to(id, number % 3 ? "bob@example.net" : "carl@example.com");
  mail.to[1] = mail.to[0];
  mail.count = 2;
  if (number % 2) {
    mp_spool_file *file;
    int err = mp_spool_file_new(rig->spool, &file);
    if (err == 0)
      err = mp_spool_file_write(file, MP_STR("0123456789"));
    if (err == 0)
      err = mp_spool_file_name(file, mp_str_c(id));
    if (err == 0) {
      mail.message.body = MP_STR_NULL;
      mail.message.in_file = true;
      mail.message.body_length = 10;
    }
    mp_spool_file_free(file);
    if (err != 0)
      return err;
  }
  int err = rig_put(rig, &mail);
  if (err != 0 && mail.message.in_file)
    mp_spool_file_drop(rig->spool, mp_str_c(id));
  return err;
}

static void check_whole(spool_rig *rig, const char *id, int number)
{
  char octets[64];
  size_t want = sizeof RIG_HEAD - 1 + (number % 2 ? 10 : sizeof RIG_BODY - 1);
  if (!CHECK_EQ_INT(rig_read(rig, id, 0, octets, sizeof octets), want))
    printf("of %s\n", id);
}

static void check_pages(spool_rig *rig)
{
  mp_spool_check_request check = { .request = { .done = rig_done } };
  mp_spool_check(rig->spool, &check);
  CHECK_EQ_INT(rig_wait(rig, &check.request), 0);
  CHECK_EQ_INT(check.aside, 0);
  CHECK_CSTR(check.text, "");
}

typedef struct fate {
  int put;   /* the result; 1: never asked */
  int ended; /* the same, of number 1 */
} fate;

/* Puts and ends until the disk dies, or all is done. Several requests are asked at a time. */
static void work(spool_rig *rig, fate *fates)
{
  char id[16];
  for (int i = 0; i < MESSAGES; i++) {
    fates[i].put = put(rig, i, id, sizeof id);
    if (i >= 5 && i % 2 == 0 && fates[i - 5].put == 0) {
      snprintf(id, sizeof id, "m%05d", i - 5);
      fates[i - 5].ended =
          rig_change(rig, (mp_spool_change){ .verb = MP_SPOOL_DELIVERED, .id = mp_str_c(id), .n = 1 });
    }
    if (i % 13 == 12)
      mp_spool_batch_free(rig_claim(rig, "example.net", NOW, NULL));
  }
}

/* What is there now against what was said. */
static void compare(spool_rig *rig, const fate *fates)
{
  char id[16];
  for (int i = 0; i < MESSAGES; i++) {
    snprintf(id, sizeof id, "m%05d", i);
    size_t rows = rig_count(rig, (mp_spool_filter){ .id = mp_str_c(id) });
    bool ok = true;
    if (fates[i].put == 1)
      ok = CHECK_EQ_INT(rows, 0);
    else if (fates[i].put == 0 && fates[i].ended == 1)
      ok = CHECK_EQ_INT(rows, 2);
    else if (fates[i].put == 0 && fates[i].ended == 0)
      ok = CHECK_EQ_INT(rows, 1);
    else if (fates[i].put == 0)
      ok = CHECK(rows == 1 || rows == 2);
    else
      ok = CHECK(rows == 0 || rows == 2);
    if (rows > 0)
      check_whole(rig, id, i);
    if (!ok)
      printf("of %s, put %d, ended %d\n", id, fates[i].put, fates[i].ended);
  }
  check_pages(rig);
}

static void kill_round(uint64_t seed)
{
  spool_rig rig;
  fate fates[MESSAGES];
  for (int i = 0; i < MESSAGES; i++)
    fates[i] = (fate){ 1, 1 };
  REQUIRE(start(&rig, seed));
  disk.chance = seed % 2;
  disk.kill_after = (long)(fault_random(&disk) % 900);
  work(&rig, fates);
  disk.dead = true;
  rig_close(&rig);
  fault_disk_revive(&disk);
  if (CHECK_EQ_INT(rig_open(&rig), 0))
    compare(&rig, fates);
  else
    printf("%s\n", rig.why);
  stop(&rig);
}

TEST(a_kill_loses_nothing_that_was_confirmed)
{
  for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
    int before = atomic_load(&check_failures);
    kill_round(seed);
    if (atomic_load(&check_failures) != before)
      printf("in round %" PRIu64 "\n", seed);
  }
}

/* One sync after the other fails, and says yes when asked again; then the power goes. */
TEST(a_sync_that_fails_confirms_nothing_and_service_resumes)
{
  for (long n = 0; n < ROUNDS; n++) {
    spool_rig rig;
    fate fates[MESSAGES];
    int before = atomic_load(&check_failures), failed = 0;
    for (int i = 0; i < MESSAGES; i++)
      fates[i] = (fate){ 1, 1 };
    REQUIRE(start(&rig, (uint64_t)n + 1000));
    disk.syncs_to_fail = n * 3;
    work(&rig, fates);
    for (int i = 0; i < MESSAGES; i++)
      if (fates[i].put != 0) {
        CHECK_EQ_INT(fates[i].put, MP_E_IO);
        failed++;
      }
    CHECK(failed <= 1);
    compare(&rig, fates); /* what was refused is not there even now */
    for (int i = 0; i < MESSAGES; i++)
      if (fates[i].put != 0) {
        char id[16];
        snprintf(id, sizeof id, "m%05d", i);
        CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ .id = mp_str_c(id) }), 0);
      }
    disk.dead = true;
    rig_close(&rig);
    fault_disk_revive(&disk);
    if (CHECK_EQ_INT(rig_open(&rig), 0))
      compare(&rig, fates);
    stop(&rig);
    if (atomic_load(&check_failures) != before)
      printf("with the failure of sync %ld\n", n * 3);
  }
}

TEST(body_folder_and_log_are_synced_before_the_answer)
{
  spool_rig rig;
  char id[16];
  REQUIRE(start(&rig, 1));
  CHECK_EQ_INT(put(&rig, 1, id, sizeof id), 0); /* the log is made */
  disk.trace[0] = '\0';
  CHECK_EQ_INT(put(&rig, 3, id, sizeof id), 0);
  const char *body = strstr(disk.trace, "s \n"), *name = strstr(disk.trace, "n m00003\n"),
             *folder = strstr(disk.trace, "d "), *written = strstr(disk.trace, "w spool.db-wal\n"),
             *synced = strstr(disk.trace, "s spool.db-wal\n");
  REQUIRE(CHECK(body && name && folder && written && synced));
  CHECK(body < name && name < folder && folder < written && written < synced);
  CHECK(!strstr(synced, "\nw ")); /* nothing of the put is written behind its sync */
  /* the file goes behind the sync of what ends it */
  disk.trace[0] = '\0';
  CHECK_EQ_INT(rig_change(&rig, (mp_spool_change){ .verb = MP_SPOOL_DELIVERED, .id = MP_STR("m00003") }), 0);
  synced = strstr(disk.trace, "s spool.db-wal\n");
  name = strstr(disk.trace, "r m00003\n");
  REQUIRE(CHECK(synced && name));
  CHECK(synced < name);
  stop(&rig);
}

TEST(puts_stop_at_the_reserve_and_ends_go_on)
{
  spool_rig rig;
  char id[16];
  REQUIRE(start(&rig, 2));
  for (int i = 0; i < 20; i++)
    CHECK_EQ_INT(put(&rig, 2 * i, id, sizeof id), 0);
  disk.room = 1 << 20;
  CHECK_EQ_INT(put(&rig, 101, id, sizeof id), MP_E_NOSPACE);
  CHECK_EQ_INT(put(&rig, 100, id, sizeof id), MP_E_NOSPACE);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 26);
  for (int i = 0; i < 10; i++) {
    snprintf(id, sizeof id, "m%05d", 2 * i);
    CHECK_EQ_INT(rig_change(&rig, (mp_spool_change){ .verb = MP_SPOOL_DELIVERED, .id = mp_str_c(id) }), 0);
  }
  disk.room = (1 << 20) + 100000;
  CHECK_EQ_INT(put(&rig, 100, id, sizeof id), 0);
  check_pages(&rig);
  stop(&rig);
}

/* The disk is full although there seemed to be room: those that fit are taken, and the others told apart from a failing disk. */
TEST(a_batch_that_fills_the_disk_is_taken_as_far_as_it_fits)
{
  spool_rig rig;
  enum { COUNT = 6, LONG = 100000 };
  rig_mail mails[COUNT];
  char ids[COUNT][16];
  REQUIRE(start(&rig, 3));
  char *body = mp_mem_zalloc(LONG);
  for (int i = 0; i < COUNT; i++) {
    snprintf(ids[i], sizeof ids[i], "m%d", i);
    mails[i] = rig_mail_to(ids[i], "bob@example.net");
    mails[i].message.body = i == COUNT - 1 ? MP_STR("x\r\n") : mp_str_of(body, LONG);
    mails[i].put = (mp_spool_put_request){
      { .done = rig_done }, .message = &mails[i].message, .recipients = mails[i].to, .count = 1
    };
    mp_spool_put(rig.spool, &mails[i].put);
  }
  /* more than the reserve, and less than a log and a database of all of them take */
  disk.room = (1 << 20) - 1 + 2;
  disk.hidden = disk.room - 3 * LONG;
  CHECK_EQ_INT(mp_spool_turn(rig.spool), COUNT);
  int taken = 0, full = 0;
  for (int i = 0; i < COUNT; i++) {
    taken += mails[i].put.request.result == 0;
    full += mails[i].put.request.result == MP_E_NOSPACE;
  }
  CHECK_EQ_INT(taken + full, COUNT);
  CHECK(taken > 0 && full > 0);
  disk.hidden = 0;
  disk.room = 1 << 30;
  CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ 0 }), taken);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), taken);
  check_pages(&rig);
  mp_mem_free(body);
  stop(&rig);
}

TEST(a_read_only_disk_takes_nothing_until_it_is_writable_again)
{
  spool_rig rig;
  char id[16];
  REQUIRE(start(&rig, 4));
  CHECK_EQ_INT(put(&rig, 0, id, sizeof id), 0);
  disk.read_only = true;
  CHECK_EQ_INT(put(&rig, 2, id, sizeof id), MP_E_IO);
  CHECK_EQ_INT(put(&rig, 3, id, sizeof id), MP_E_IO);
  mp_spool_stats stats;
  mp_spool_stat(rig.spool, &stats);
  CHECK(stats.failing);
  disk.read_only = false;
  CHECK_EQ_INT(put(&rig, 2, id, sizeof id), 0);
  mp_spool_stat(rig.spool, &stats);
  CHECK(!stats.failing);
  CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ 0 }), 4);
  CHECK(strstr(rig.log, "the disk failed") && strstr(rig.log, "the disk answers again"));
  stop(&rig);
}

TEST(leases_outlive_a_disk_that_failed_for_a_while)
{
  spool_rig rig;
  char id[16];
  REQUIRE(start(&rig, 5));
  CHECK_EQ_INT(put(&rig, 1, id, sizeof id), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 2);
  CHECK_EQ_INT(put(&rig, 2, id, sizeof id), 0);
  disk.io_error = true;
  CHECK_EQ_INT(put(&rig, 4, id, sizeof id), MP_E_IO);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), MP_E_IO);
  char octets[8];
  CHECK_EQ_INT(rig_read(&rig, "m00001", 0, octets, sizeof octets), MP_E_IO);
  disk.io_error = false;
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 2);
  CHECK_EQ_INT(rig_read(&rig, "m00001", 0, octets, sizeof octets), 8);
  CHECK_EQ_INT(mp_spool_next(rig.spool, 0, NOW), 60000);
  rig.clock += 60000;
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 4);
  stop(&rig);
}

/* Somebody with `sqlite3` on the same files. */
static sqlite3 *outsider(const char *sql)
{
  sqlite3 *db = NULL;
  CHECK_EQ_INT(sqlite3_open_v2("/spool/spool.db", &db, SQLITE_OPEN_READWRITE, disk.name), SQLITE_OK);
  if (!CHECK_EQ_INT(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK))
    printf("%s: %s\n", sql, sqlite3_errmsg(db));
  return db;
}

TEST(what_somebody_else_wrote_survives_a_sync_of_ours_that_fails)
{
  spool_rig rig;
  char id[16];
  REQUIRE(start(&rig, 6));
  CHECK_EQ_INT(put(&rig, 0, id, sizeof id), 0);
  sqlite3 *db = outsider("UPDATE recipient SET reply = 'seen' WHERE n = 1");
  sqlite3_close(db);
  disk.syncs_to_fail = 0;
  CHECK_EQ_INT(put(&rig, 2, id, sizeof id), MP_E_IO);
  CHECK_EQ_INT(rig_claims(&rig, "example.com", NOW), 2);
  CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ .reply = MP_STR("seen") }), 1);
  check_pages(&rig);
  stop(&rig);
}

/* What is set aside when the disk answers again is noted where the writer notes what was asked: it was freed under the request that had the disk tried. */
TEST(damage_that_is_found_when_the_disk_answers_again_is_set_aside_beside_a_put)
{
  spool_rig rig;
  char id[16];
  REQUIRE(start(&rig, 11));
  CHECK_EQ_INT(put(&rig, 0, id, sizeof id), 0);
  CHECK_EQ_INT(put(&rig, 2, id, sizeof id), 0);
  sqlite3 *db = outsider("UPDATE recipient SET due = 'tomorrow' WHERE message = 1");
  sqlite3_close(db);
  disk.syncs_to_fail = 0;
  CHECK_EQ_INT(put(&rig, 4, id, sizeof id), MP_E_IO);
  rig_mail mail = rig_mail_to("m6", "bob@example.net");
  mail.put =
      (mp_spool_put_request){ { .done = rig_done }, .message = &mail.message, .recipients = mail.to, .count = 1 };
  mp_spool_put(rig.spool, &mail.put);
  rig_close(&rig); /* which has it carried out without a look at the disk before, as the writer's thread does */
  CHECK_EQ_INT(mail.put.request.result, 0);
  CHECK(strstr(rig.log, "set aside as damaged"));
  CHECK_EQ_INT(rig_open(&rig), 0);
  CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ 0 }), 3);
  stop(&rig);
}

TEST(who_holds_the_database_for_long_is_waited_for_once)
{
  spool_rig rig;
  rig_mail mails[3];
  char ids[3][16];
  REQUIRE(start(&rig, 7));
  sqlite3 *db = outsider("BEGIN IMMEDIATE");
  for (int i = 0; i < 3; i++) {
    snprintf(ids[i], sizeof ids[i], "m%d", i);
    mails[i] = rig_mail_to(ids[i], "bob@example.net");
    mails[i].put = (mp_spool_put_request){
      { .done = rig_done }, .message = &mails[i].message, .recipients = mails[i].to, .count = 1
    };
    mp_spool_put(rig.spool, &mails[i].put);
  }
  disk.slept_us = 0;
  CHECK_EQ_INT(mp_spool_turn(rig.spool), 3);
  for (int i = 0; i < 3; i++)
    CHECK_EQ_INT(mails[i].put.request.result, MP_E_IO);
  CHECK(disk.slept_us > 9000000 && disk.slept_us < 11000000);
  mp_spool_stats stats;
  mp_spool_stat(rig.spool, &stats);
  CHECK(!stats.failing);
  CHECK_EQ_INT(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(db);
  for (int i = 0; i < 3; i++)
    CHECK_EQ_INT(rig_put(&rig, &mails[i]), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 3);
  stop(&rig);
}

/* What was refused stood in the log still when the spool was closed, or the process killed, before the disk was tried again: the next start took it for
 * done, and its client had sent it again. */
TEST(what_was_refused_does_not_come_back_with_the_next_start)
{
  for (int mute = 0; mute < 2; mute++) {
    spool_rig rig;
    char id[16];
    REQUIRE(start(&rig, 10));
    CHECK_EQ_INT(put(&rig, 0, id, sizeof id), 0);
    disk.syncs_to_fail = 0;
    disk.unreadable = mute; /* while it fails; it can be read again when the spool is closed */
    CHECK_EQ_INT(put(&rig, 2, id, sizeof id), MP_E_IO);
    disk.unreadable = false;
    rig_close(&rig);
    CHECK_EQ_INT(rig_open(&rig), 0);
    CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ 0 }), 2);
    check_pages(&rig);
    stop(&rig);
  }
}

/* A log that could not be read when the disk was tried again was taken for none, and cut off with everything that had been promised since the database
 * was last written. */
TEST(a_log_that_cannot_be_read_for_a_while_is_not_cut_off)
{
  spool_rig rig;
  char id[16];
  REQUIRE(start(&rig, 9));
  CHECK_EQ_INT(put(&rig, 0, id, sizeof id), 0);
  CHECK_EQ_INT(put(&rig, 2, id, sizeof id), 0);
  disk.syncs_to_fail = 0;
  disk.unreadable = true;
  CHECK_EQ_INT(put(&rig, 4, id, sizeof id), MP_E_IO);
  CHECK_EQ_INT(put(&rig, 4, id, sizeof id), MP_E_IO);
  disk.unreadable = false;
  CHECK_EQ_INT(put(&rig, 4, id, sizeof id), 0);
  CHECK_EQ_INT(rig_count(&rig, (mp_spool_filter){ 0 }), 6);
  check_pages(&rig);
  stop(&rig);
}

TEST(a_spool_that_was_large_gives_its_room_back)
{
  spool_rig rig;
  enum { COUNT = 40, LONG = 300000 };
  char id[16];
  REQUIRE(start(&rig, 8));
  char *body = mp_mem_zalloc(LONG);
  for (int i = 0; i < COUNT; i++) {
    snprintf(id, sizeof id, "m%d", i);
    rig_mail mail = rig_mail_to(id, "bob@example.net");
    mail.message.body = mp_str_of(body, LONG);
    CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  }
  mp_spool_turn(rig.spool);
  const fault_file *file = fault_find(&disk, "/spool/spool.db");
  REQUIRE(file);
  size_t large = file->now_len;
  CHECK(large > (size_t)COUNT * LONG);
  for (int i = 0; i < COUNT; i++) {
    snprintf(id, sizeof id, "m%d", i);
    CHECK_EQ_INT(rig_change(&rig, (mp_spool_change){ .verb = MP_SPOOL_REMOVED, .id = mp_str_c(id) }), 0);
  }
  for (int i = 0; i < 10; i++)
    mp_spool_turn(rig.spool);
  CHECK(file->now_len < large / 2);
  check_pages(&rig);
  mp_mem_free(body);
  stop(&rig);
}

CHECK_MAIN
