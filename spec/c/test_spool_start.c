/* spool, opened: the lock, formats of earlier and later versions, what somebody broke, files that nobody names. */
#include "support/spool_rig.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { NOW = 1000000 };

static bool open_rig(spool_rig *rig)
{
  return rig_init(rig) && CHECK_EQ_INT(rig_open(rig), 0);
}

TEST(a_folder_is_made_for_its_owner_alone)
{
  spool_rig rig;
  struct stat st;
  REQUIRE(rig_init(&rig));
  CHECK_EQ_INT(rmdir(rig.folder), 0);
  CHECK_EQ_INT(rig_open(&rig), 0);
  REQUIRE(CHECK_EQ_INT(stat(rig.folder, &st), 0));
  CHECK_EQ_INT(st.st_mode & 07777, 0700);
  rig_dispose(&rig);
}

TEST(a_second_opening_names_the_holder)
{
  spool_rig rig;
  REQUIRE(open_rig(&rig));
  mp_spool *other = NULL;
  char why[512], me[64];
  CHECK_EQ_INT(mp_spool_open(rig.folder, &rig.opts, &other, why, sizeof why), MP_E_INUSE);
  CHECK(other == NULL);
  snprintf(me, sizeof me, "in use by process %ld on ", (long)getpid());
  CHECK(strstr(why, me));
  rig_dispose(&rig);
}

TEST(a_second_process_is_kept_out_until_the_first_has_died)
{
  spool_rig rig;
  REQUIRE(rig_init(&rig));
  int ready[2];
  char byte;
  REQUIRE(CHECK_EQ_INT(pipe(ready), 0));
  pid_t child = fork();
  if (child == 0) {
    int err = rig_open(&rig);
    byte = err == 0 && rig_put_one(&rig, "m1", "bob@example.net") == 0 ? 'y' : 'n';
    if (write(ready[1], &byte, 1) != 1)
      _exit(2);
    for (;;)
      pause();
  }
  REQUIRE(CHECK_EQ_INT(read(ready[0], &byte, 1), 1));
  CHECK_EQ_INT(byte, 'y');
  char holder[64];
  snprintf(holder, sizeof holder, "in use by process %ld on ", (long)child);
  CHECK_EQ_INT(rig_open(&rig), MP_E_INUSE);
  CHECK(strstr(rig.why, holder) && strstr(rig.why, ", since "));
  kill(child, SIGKILL);
  CHECK_EQ_INT(waitpid(child, NULL, 0), child);
  CHECK_EQ_INT(rig_open(&rig), 0);
  CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 1);
  close(ready[0]);
  close(ready[1]);
  rig_dispose(&rig);
}

/* What the first version wrote: the step must stay what it is, so it stands here once more. */
static const char version_1[] =
    "PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;"
    "CREATE TABLE message(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, sender TEXT NOT NULL, tenant TEXT, user TEXT, params TEXT, meta TEXT,"
    " report INTEGER NOT NULL, priority INTEGER NOT NULL, received INTEGER NOT NULL, size INTEGER NOT NULL, file INTEGER NOT NULL, body_offset INTEGER NOT NULL,"
    " head_length INTEGER NOT NULL, body_length INTEGER NOT NULL);"
    "CREATE TABLE content(seq INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB);"
    "CREATE TABLE recipient(message INTEGER NOT NULL, n INTEGER NOT NULL, address TEXT NOT NULL, domain TEXT NOT NULL, state TEXT NOT NULL,"
    " due INTEGER NOT NULL, expiry INTEGER, alarm INTEGER, attempts INTEGER NOT NULL, warned INTEGER NOT NULL, last_attempt INTEGER,"
    " reply TEXT, host TEXT, site TEXT,"
    " original TEXT NOT NULL, params TEXT, lane INTEGER NOT NULL, priority INTEGER NOT NULL,"
    " PRIMARY KEY(message, n)) WITHOUT ROWID;"
    "CREATE INDEX recipient_due ON recipient(domain, lane, priority DESC, due, message, n, state) WHERE state = 'waiting';"
    "CREATE INDEX recipient_alarm ON recipient(alarm) WHERE alarm IS NOT NULL;"
    "CREATE INDEX message_file ON message(seq) WHERE file = 1;"
    "INSERT INTO message VALUES(1,'old','ann@example.org',NULL,NULL,NULL,NULL,0,0,1000000,6,0,0,2,4);"
    "INSERT INTO content VALUES(1,x'0d0a',x'78790d0a');"
    "INSERT INTO recipient VALUES(1,1,'bob@example.net','example.net','waiting',1000000,NULL,NULL,2,0,NULL,'451 x',NULL,NULL,'',NULL,7,0);"
    "PRAGMA user_version = 1";

TEST(an_earlier_format_is_brought_up_to_date)
{
  spool_rig rig;
  char octets[16];
  REQUIRE(rig_init(&rig));
  rig_sql(&rig, version_1);
  CHECK_EQ_INT(rig_open(&rig), 0);
  REQUIRE(rig.spool);
  CHECK_EQ_INT(rig_read(&rig, "old", 0, octets, sizeof octets), 6);
  mp_spool_batch *batch = rig_claim(&rig, "example.net", NOW, NULL);
  REQUIRE(batch && CHECK_EQ_INT(batch->recipients, 1));
  CHECK_EQ_INT(batch->items[0].recipients[0].attempts, 2);
  mp_spool_batch_free(batch);
  CHECK_EQ_INT(rig_sql(&rig, "PRAGMA user_version"), 2);
  CHECK_EQ_INT(rig_sql(&rig, "SELECT count(*) FROM queue"), 1);
  CHECK_EQ_INT(rig_end(&rig, "old", 1), 0);
  rig_dispose(&rig);
}

TEST(a_fresh_format_is_that_of_the_steps)
{
  spool_rig old, new;
  REQUIRE(rig_init(&old) && rig_init(&new));
  rig_sql(&old, version_1);
  CHECK_EQ_INT(rig_open(&old), 0);
  CHECK_EQ_INT(rig_open(&new), 0);
  static const char *const columns[] = { "message", "content", "recipient" };
  for (size_t i = 0; i < 3; i++) {
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM pragma_table_info('%s')", columns[i]);
    CHECK_EQ_INT(rig_sql(&old, sql), rig_sql(&new, sql));
  }
  CHECK_EQ_INT(rig_sql(&new, "PRAGMA page_size"), 4096);
  CHECK_EQ_INT(rig_sql(&new, "PRAGMA auto_vacuum"), 2);
  rig_dispose(&old);
  rig_dispose(&new);
}

TEST(a_later_format_is_refused_and_left_alone)
{
  spool_rig rig;
  REQUIRE(open_rig(&rig));
  rig_close(&rig);
  rig_sql(&rig, "PRAGMA user_version = 99");
  CHECK_EQ_INT(rig_open(&rig), MP_E_INVALID);
  CHECK(strstr(rig.why, "was made by a later version (its format is 99"));
  CHECK_EQ_INT(rig_sql(&rig, "PRAGMA user_version"), 99);
  rig_dispose(&rig);
}

static void write_file(const spool_rig *rig, const char *name, const char *text)
{
  char path[256];
  snprintf(path, sizeof path, "%s/%s", rig->folder, name);
  FILE *f = fopen(path, "w");
  if (!CHECK(f != NULL))
    return;
  fputs(text, f);
  fclose(f);
}

TEST(what_is_no_database_is_told_and_left_alone)
{
  spool_rig rig;
  REQUIRE(rig_init(&rig));
  write_file(
      &rig, "spool.db",
      "this is not a database, and it is longer than the header of one would be, which has a hundred octets or so\n");
  CHECK_EQ_INT(rig_open(&rig), MP_E_DAMAGED);
  CHECK(strstr(rig.why, "spool.db: "));
  write_file(&rig, "spool.db", "");
  CHECK_EQ_INT(rig_open(&rig), 0);
  rig_dispose(&rig);
}

TEST(a_folder_that_cannot_be_made_is_told)
{
  spool_rig rig;
  REQUIRE(rig_init(&rig));
  write_file(&rig, "file", "x");
  char folder[128];
  snprintf(folder, sizeof folder, "%s/file/spool", rig.folder);
  CHECK(mp_spool_open(folder, &rig.opts, &rig.spool, rig.why, sizeof rig.why) < 0);
  CHECK(strstr(rig.why, "cannot be made"));
  rig_dispose(&rig);
}

TEST(files_that_no_message_names_are_removed)
{
  spool_rig rig;
  mp_spool_file *file;
  REQUIRE(open_rig(&rig));
  static const char *const ids[] = { "kept", "orphan", "aside" };
  for (size_t i = 0; i < 3; i++) {
    CHECK_EQ_INT(mp_spool_file_new(rig.spool, &file), 0);
    CHECK_EQ_INT(mp_spool_file_write(file, MP_STR("12345")), 0);
    CHECK_EQ_INT(mp_spool_file_name(file, mp_str_c(ids[i])), 0);
    CHECK_EQ_INT(mp_spool_file_name(file, mp_str_c(ids[i])), MP_E_EXISTS);
    mp_spool_file_free(file);
  }
  rig_mail mail = rig_mail_to("kept", "bob@example.net");
  mail.message.body = MP_STR_NULL;
  mail.message.in_file = true;
  mail.message.body_length = 5;
  CHECK_EQ_INT(rig_put(&rig, &mail), 0);
  rig_close(&rig);
  rig_sql(&rig, "INSERT INTO damaged(noticed, reason, id) VALUES(1, 'x', 'aside')");
  CHECK_EQ_INT(rig_open(&rig), 0);
  CHECK(strstr(rig.log, "removed 1 files"));
  for (size_t i = 0; i < 3; i++) {
    int fd = mp_spool_file_open(rig.spool, mp_str_c(ids[i]));
    CHECK_EQ_INT(fd >= 0, i != 1);
    if (fd >= 0)
      close(fd);
  }
  rig_dispose(&rig);
}

/* The name of who holds it is written into the lock. */
TEST(a_lock_that_leads_elsewhere_is_not_written_through)
{
  spool_rig rig;
  char path[128], other[128];
  struct stat st;
  REQUIRE(open_rig(&rig));
  rig_close(&rig);
  snprintf(path, sizeof path, "%s/lock", rig.folder);
  snprintf(other, sizeof other, "%s/other", rig.folder);
  write_file(&rig, "other", "somebody's own");
  CHECK_EQ_INT(unlink(path), 0);
  CHECK_EQ_INT(symlink(other, path), 0);
  CHECK_EQ_INT(rig_open(&rig), MP_E_IO);
  CHECK(strstr(rig.why, "cannot be locked"));
  CHECK_EQ_INT(stat(other, &st), 0);
  CHECK_EQ_INT(st.st_size, 14);
  rig_dispose(&rig);
}

/* Three messages, of which somebody broke the second one by `sql` while the spool was closed. */
static bool broken(spool_rig *rig, const char *sql)
{
  if (!open_rig(rig))
    return false;
  CHECK_EQ_INT(rig_put_one(rig, "m1", "bob@example.net"), 0);
  CHECK_EQ_INT(rig_put_one(rig, "m2", "carl@example.net"), 0);
  CHECK_EQ_INT(rig_put_one(rig, "m3", "dora@example.net"), 0);
  rig_close(rig);
  rig_sql(rig, sql);
  return CHECK_EQ_INT(rig_open(rig), 0);
}

/* The others go on, and what was broken stands aside with its reason. */
static void check_aside(spool_rig *rig)
{
  mp_spool_stats stats;
  mp_spool_turn(rig->spool);
  CHECK_EQ_INT(rig_sql(rig, "SELECT count(*) FROM damaged WHERE length(reason) > 10"), 1);
  CHECK_EQ_INT(rig_sql(rig, "SELECT count(*) FROM recipient WHERE message = 2"), 0);
  CHECK_EQ_INT(rig_sql(rig, "SELECT count(*) FROM message WHERE id = 'm2'"), 0);
  CHECK(strstr(rig->log, "set aside as damaged"));
  CHECK_EQ_INT(rig_count(rig, (mp_spool_filter){ 0 }), 2);
  mp_spool_stat(rig->spool, &stats);
  CHECK_EQ_INT(stats.waiting, 2);
  CHECK_EQ_INT(rig_end(rig, "m1", 1), 0);
  CHECK_EQ_INT(rig_end(rig, "m3", 1), 0);
  mp_spool_stat(rig->spool, &stats);
  CHECK_EQ_INT(stats.waiting, 0);
  CHECK_EQ_INT(stats.domains, 0);
  mp_spool_check_request check = { .request = { .done = rig_done } };
  mp_spool_check(rig->spool, &check);
  CHECK_EQ_INT(rig_wait(rig, &check.request), 0);
  CHECK_EQ_INT(check.aside, 0);
}

TEST(a_damaged_row_is_set_aside_at_the_start)
{
  static const char *const slips[] = {
    "UPDATE recipient SET domain = '' WHERE message = 2",
    "UPDATE recipient SET domain = 'Example NET' WHERE message = 2",
    "UPDATE recipient SET due = 'tomorrow' WHERE message = 2",
    "UPDATE recipient SET lane = 99 WHERE message = 2",
    "UPDATE recipient SET priority = 1000 WHERE message = 2",
  };
  for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
    spool_rig rig;
    if (broken(&rig, slips[i])) {
      CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 2);
      check_aside(&rig);
      CHECK_EQ_INT(rig_sql(&rig, "SELECT count(*) FROM damaged WHERE id = 'm2' AND sender = 'ann@example.org' "
                                 "AND recipients = 'carl@example.net' AND length(head) > 0 AND length(body) > 0"),
                   1);
    }
    rig_dispose(&rig);
  }
}

TEST(a_damaged_row_is_set_aside_by_a_claim)
{
  static const char *const slips[] = {
    "DELETE FROM message WHERE seq = 2",
    "UPDATE message SET received = 'odd' WHERE seq = 2",
    "UPDATE message SET priority = 'high' WHERE seq = 2",
    "UPDATE message SET id = 'm2/../x' WHERE seq = 2",
    "UPDATE recipient SET attempts = -1 WHERE message = 2",
    "UPDATE recipient SET address = x'00ff' WHERE message = 2",
  };
  for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
    spool_rig rig;
    if (broken(&rig, slips[i])) {
      CHECK_EQ_INT(rig_claims(&rig, "example.net", NOW), 2);
      check_aside(&rig);
    }
    rig_dispose(&rig);
  }
}

TEST(octets_that_are_gone_are_noticed_by_who_reads_them)
{
  static const char *const slips[] = { "DELETE FROM content WHERE seq = 2",
                                       "UPDATE content SET body = NULL WHERE seq = 2",
                                       "UPDATE content SET head = x'0d0a' WHERE seq = 2" };
  for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
    spool_rig rig;
    char octets[64];
    if (broken(&rig, slips[i])) {
      CHECK_EQ_INT(rig_read(&rig, "m2", 0, octets, sizeof octets), MP_E_DAMAGED);
      check_aside(&rig);
    }
    rig_dispose(&rig);
  }
}

TEST(a_check_finds_what_nobody_has_touched)
{
  static const char *const slips[] = { "DELETE FROM content WHERE seq = 2", "DELETE FROM message WHERE seq = 2",
                                       "UPDATE content SET body = NULL WHERE seq = 2",
                                       "UPDATE message SET file = 1 WHERE seq = 2" };
  for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
    spool_rig rig;
    if (broken(&rig, slips[i])) {
      mp_spool_check_request check = { .request = { .done = rig_done } };
      mp_spool_check(rig.spool, &check);
      CHECK_EQ_INT(rig_wait(&rig, &check.request), 0);
      CHECK_EQ_INT(check.aside, 1);
      check_aside(&rig);
    }
    rig_dispose(&rig);
  }
}

TEST(a_change_to_what_is_damaged_sets_it_aside)
{
  spool_rig rig;
  REQUIRE(open_rig(&rig));
  CHECK_EQ_INT(rig_put_one(&rig, "m1", "bob@example.net"), 0);
  rig_sql(&rig, "UPDATE recipient SET domain = 'NOT ONE'");
  CHECK_EQ_INT(rig_end(&rig, "m1", 1), MP_E_DAMAGED);
  CHECK_EQ_INT(rig_sql(&rig, "SELECT count(*) FROM damaged"), 1);
  rig_dispose(&rig);
}

TEST(broken_pages_are_told_by_a_check)
{
  spool_rig rig;
  char path[128], id[16];
  REQUIRE(open_rig(&rig));
  for (int i = 0; i < 300; i++) {
    snprintf(id, sizeof id, "m%d", i);
    CHECK_EQ_INT(rig_put_one(&rig, id, "bob@example.net"), 0);
  }
  rig_close(&rig);
  /* an index that misses entries is no damage that a glance shows */
  rig_sql(&rig, "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'alarm IS NOT NULL', 'attempts IS NOT NULL') "
                "WHERE name = 'recipient_alarm'");
  CHECK_EQ_INT(rig_open(&rig), 0);
  REQUIRE(rig.spool);
  mp_spool_check_request check = { .request = { .done = rig_done } };
  mp_spool_check(rig.spool, &check);
  CHECK_EQ_INT(rig_wait(&rig, &check.request), MP_E_DAMAGED);
  CHECK(strstr(check.text, "recipient_alarm"));
  rig_close(&rig);
  /* and octets that somebody else wrote over the middle of the file */
  snprintf(path, sizeof path, "%s/spool.db", rig.folder);
  int fd = open(path, O_WRONLY);
  char noise[8192];
  memset(noise, 0xa5, sizeof noise);
  for (off_t at = 8192; at < 20 * 8192; at += 8192)
    CHECK_EQ_INT(pwrite(fd, noise, sizeof noise, at), sizeof noise);
  close(fd);
  CHECK_EQ_INT(rig_open(&rig), MP_E_DAMAGED);
  CHECK(strlen(rig.why) > 20);
  rig_dispose(&rig);
}

CHECK_MAIN
