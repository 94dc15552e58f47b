/* What makes no sense any more: looked for, and set aside with its reason, so that the rest goes on. */
#include "spool/impl.h"

#include <stdio.h>
#include <time.h>

static void aside_done(mp_spool_request *request)
{
  mp_mem_free(request);
}

void mp_spool_aside(mp_spool *spool, int64_t seq, const char *reason)
{
  mp_spool_aside_request *aside = mp_mem_zalloc(sizeof *aside);
  if (!aside)
    return; /* whoever stumbles over it next asks again */
  aside->request.done = aside_done;
  aside->seq = seq;
  aside->reason = reason;
  mp_spool_submit(spool, &aside->request, MP_SPOOL_OP_ASIDE);
}

/* What the end of the message's recipients does to the index. */
static int note_rows(mp_spool *spool, mp_spool_work *work, int64_t seq, size_t *count)
{
  int err;
  sqlite3_stmt *s = mp_spool_db_get(&spool->db, MP_SPOOL_SQL_ROWS, &err);
  if (!s)
    return err;
  sqlite3_bind_int64(s, 1, seq);
  while ((err = mp_spool_db_step(&spool->db, s)) == 1) {
    mp_str domain = mp_spool_column(s, 1);
    mp_effect *e =
        mp_spool_effect(spool, work, (mp_place){ sqlite3_column_int64(s, 4), seq, sqlite3_column_int64(s, 0) });
    if (!e) {
      err = MP_E_NOMEM;
      break;
    }
    e->ends_lease = true;
    ++*count;
    if (mp_spool_domain_fits(domain) && mp_str_eq(mp_spool_column(s, 6), MP_STR("waiting")) &&
        !(e->from = mp_spool_pin(spool, domain))) {
      err = MP_E_NOMEM;
      break;
    }
  }
  mp_spool_db_reset(s);
  return err;
}

static int run(mp_spool *spool, const char *sql, int64_t seq, const char *reason)
{
  sqlite3_stmt *s = NULL;
  int err = mp_spool_db_fail(&spool->db, sqlite3_prepare_v2(spool->db.sql, sql, -1, &s, NULL));
  if (err == 0) {
    sqlite3_bind_int64(s, 1, seq);
    if (reason) {
      sqlite3_bind_int64(s, 2, (int64_t)time(NULL) * 1000);
      mp_spool_bind_text(s, 3, mp_str_c(reason));
    }
    err = mp_spool_db_step(&spool->db, s);
  }
  sqlite3_finalize(s);
  return err < 0 ? err : 0;
}

int mp_spool_aside_apply(mp_spool *spool, mp_spool_work *work, int64_t seq, const char *reason)
{
  static const char *const deletes[] = { "DELETE FROM recipient WHERE message = ?1",
                                         "DELETE FROM content WHERE seq = ?1",
                                         "DELETE FROM message WHERE seq = ?1" };
  size_t count = 0;
  int err = note_rows(spool, work, seq, &count);
  if (err == 0)
    err = run(spool,
              "INSERT INTO damaged(noticed, reason, id, sender, recipients, received, file, meta, head, body) "
              "SELECT ?2, ?3, m.id, m.sender, (SELECT group_concat(address, ', ') FROM recipient WHERE message = ?1), m.received, m.file, "
              "m.meta, c.head, c.body FROM (SELECT ?1 AS seq) k LEFT JOIN message m ON m.seq = k.seq LEFT JOIN content c ON c.seq = k.seq "
              "WHERE m.seq IS NOT NULL OR EXISTS (SELECT 1 FROM recipient WHERE message = ?1)",
              seq, reason);
  bool new = err == 0 && sqlite3_changes(spool->db.sql) > 0;
  for (size_t i = 0; err == 0 && i < sizeof deletes / sizeof *deletes; i++)
    err = run(spool, deletes[i], seq, NULL);
  if (new)
    mp_spool_log(spool, "%s: a message with %zu recipients was set aside as damaged: %s (table `damaged`)",
                 spool->path, count, reason);
  return err;
}

/* ---- looking for it ------------------------------------------------------------------------------------------------ */

enum { WINDOW = 5000 };

/* Pages and indexes. */
static int check_pages(mp_spool *spool, mp_spool_check_request *check)
{
  mp_spool_db *db = &spool->reader;
  sqlite3_stmt *s = NULL;
  size_t used = 0;
  int err = mp_spool_db_fail(db, sqlite3_prepare_v2(db->sql, "PRAGMA integrity_check(10)", -1, &s, NULL));
  while (err == 0 && (err = mp_spool_db_step(db, s)) == 1) {
    mp_str line = mp_spool_column(s, 0);
    err = 0;
    if (mp_str_eq(line, MP_STR("ok")))
      continue;
    int n = snprintf(check->text + used, sizeof check->text - used, "%s%.*s", used ? "; " : "", (int)line.len,
                     line.ptr);
    used += (size_t)n < sizeof check->text - used ? (size_t)n : sizeof check->text - used - 1;
  }
  sqlite3_finalize(s);
  return err == 0 && used > 0 ? MP_E_DAMAGED : err;
}

static bool file_whole(mp_spool *spool, sqlite3_stmt *s)
{
  int fd = mp_spool_file_open(spool, mp_spool_column(s, 1));
  if (fd < 0)
    return fd != MP_E_NOTFOUND && fd != MP_E_INVALID;
  mp_ssize length = spool->disk->length(spool->disk->ctx, fd);
  spool->disk->close(spool->disk->ctx, fd);
  return length < 0 || (uint64_t)length >= (uint64_t)sqlite3_column_int64(s, 3);
}

static const char *const looks[] = {
  /* a message and its octets; both find the first `seq` behind a window */
  "SELECT m.seq, m.id, m.file, m.body_length, c.seq IS NOT NULL AND length(c.head) = m.head_length AND "
  "(m.file = 1 OR length(c.body) = m.body_length) AND EXISTS (SELECT 1 FROM recipient r WHERE r.message = m.seq) "
  "FROM message m LEFT JOIN content c ON c.seq = m.seq WHERE m.seq >= ?1 ORDER BY m.seq LIMIT ?2",
  /* recipients and their message */
  "SELECT r.message, '', 0, 0, EXISTS (SELECT 1 FROM message m WHERE m.seq = r.message) FROM recipient r "
  "WHERE r.message >= ?1 ORDER BY r.message LIMIT ?2",
};

/* Messages of one window in which something seems to be missing. */
typedef struct suspects {
  int64_t seqs[100];
  size_t count;
} suspects;

/* One window. `*more` false: there is nothing behind it. */
static int look_at(mp_spool *spool, const char *look, int64_t *from, bool *more, suspects *found)
{
  const size_t most = sizeof found->seqs / sizeof *found->seqs;
  mp_spool_db *db = &spool->reader;
  sqlite3_stmt *s = NULL;
  int rows = 0;
  int err = mp_spool_reader_take(spool);
  found->count = 0;
  if (err != 0)
    return err;
  err = mp_spool_db_fail(db, sqlite3_prepare_v2(db->sql, look, -1, &s, NULL));
  if (err == 0) {
    sqlite3_bind_int64(s, 1, *from);
    sqlite3_bind_int(s, 2, WINDOW);
  }
  while (err == 0 && found->count < most && (err = mp_spool_db_step(db, s)) == 1) {
    int64_t seq = sqlite3_column_int64(s, 0);
    bool whole = sqlite3_column_int(s, 4) == 1 && (sqlite3_column_int(s, 2) != 1 || file_whole(spool, s));
    err = 0;
    rows++;
    *from = seq + 1;
    if (!whole && (found->count == 0 || found->seqs[found->count - 1] != seq))
      found->seqs[found->count++] = seq;
  }
  *more = rows == WINDOW || found->count == most;
  sqlite3_finalize(s);
  mp_spool_reader_give(spool);
  return err;
}

/* A message that ended while we looked has no file any more, and nothing is wrong with that. */
static int still_there(mp_spool *spool, int64_t seq)
{
  mp_spool_db *db = &spool->reader;
  sqlite3_stmt *s = NULL;
  int err = mp_spool_reader_take(spool);
  if (err != 0)
    return err;
  err = mp_spool_db_fail(
      db, sqlite3_prepare_v2(
              db->sql, "SELECT 1 FROM message WHERE seq = ?1 UNION ALL SELECT 1 FROM recipient WHERE message = ?1",
              -1, &s, NULL));
  if (err == 0) {
    sqlite3_bind_int64(s, 1, seq);
    err = mp_spool_db_step(db, s);
  }
  sqlite3_finalize(s);
  mp_spool_reader_give(spool);
  return err;
}

static int check_rows(mp_spool *spool, mp_spool_check_request *check, const char *look)
{
  int64_t from = 0;
  bool more = true;
  int err = 0;
  suspects found;
  while (err == 0 && more) {
    err = look_at(spool, look, &from, &more, &found);
    for (size_t i = 0; err == 0 && i < found.count; i++) {
      int rc = still_there(spool, found.seqs[i]);
      if (rc == 1) {
        check->aside++;
        mp_spool_aside(spool, found.seqs[i], "a part of it is missing");
      }
      err = rc < 0 ? rc : 0;
    }
  }
  return err;
}

void mp_spool_check_run(mp_spool *spool, mp_spool_check_request *check)
{
  check->aside = 0;
  check->text[0] = '\0';
  int err = mp_spool_reader_take(spool);
  if (err == 0) {
    err = check_pages(spool, check);
    mp_spool_reader_give(spool);
  }
  for (size_t i = 0; err == 0 && i < sizeof looks / sizeof *looks; i++)
    err = check_rows(spool, check, looks[i]);
  mp_spool_finish(&check->request, err);
}
