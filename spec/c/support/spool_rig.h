/* support/spool_rig.h -- a spool in a folder of its own, carried out a turn at a time, and short ways to put, claim and end. */
#ifndef MP_SPEC_SPOOL_RIG_H
#define MP_SPEC_SPOOL_RIG_H

#include "support/check.h"

#include "spool/spool.h"

#include <sqlite3.h>
#include <unistd.h>

typedef struct spool_rig {
  char folder[64];
  mp_spool_opts opts;
  mp_spool *spool;
  int64_t clock; /* the one that does not jump */
  unsigned wakes;
  char log[4096]; /* lines, the oldest first; what does not fit is left out */
  char why[512];
} spool_rig;

__attribute__((unused)) static int64_t rig_clock(void *ctx)
{
  return ((spool_rig *)ctx)->clock;
}

__attribute__((unused)) static void rig_wake(void *ctx)
{
  ((spool_rig *)ctx)->wakes++;
}

__attribute__((unused)) static void rig_log(void *ctx, const char *line)
{
  spool_rig *rig = ctx;
  size_t used = strlen(rig->log);
  snprintf(rig->log + used, sizeof rig->log - used, "%s\n", line);
}

__attribute__((unused)) static void rig_remove(const char *folder)
{
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  if (system(command) != 0)
    FAIL("%s", command);
}

__attribute__((unused)) static bool rig_init(spool_rig *rig)
{
  *rig = (spool_rig){ .folder = "/tmp/moonpost-spool-XXXXXX", .clock = 1000 };
  rig->opts = (mp_spool_opts){
    .pulled = true, .reserve = 1, .log = rig_log, .wake = rig_wake, .clock = rig_clock, .ctx = rig
  };
  return CHECK(mkdtemp(rig->folder) != NULL);
}

__attribute__((unused)) static int rig_open(spool_rig *rig)
{
  return mp_spool_open(rig->folder, &rig->opts, &rig->spool, rig->why, sizeof rig->why);
}

__attribute__((unused)) static void rig_close(spool_rig *rig)
{
  mp_spool_close(rig->spool);
  rig->spool = NULL;
}

__attribute__((unused)) static void rig_dispose(spool_rig *rig)
{
  rig_close(rig);
  rig_remove(rig->folder);
}

/* ---- requests, one at a time --------------------------------------------------------------------------------------- */

__attribute__((unused)) static void rig_done(mp_spool_request *request)
{
  request->next = request; /* seen: nobody else touches it now */
}

/* Turns until the request has come back. */
__attribute__((unused)) static int rig_wait(spool_rig *rig, mp_spool_request *request)
{
  while (request->next != request)
    if (mp_spool_turn(rig->spool) == 0 && request->next != request) {
      FAIL("a request did not come back");
      return MP_E_SYSTEM;
    }
  return request->result;
}

/* A message with one recipient, whose due time is its received time; change what a test is about. */
typedef struct rig_mail {
  mp_spool_message message;
  mp_spool_recipient to[8];
  size_t count;
  mp_spool_put_request put;
} rig_mail;

#define RIG_HEAD "Subject: x\r\n\r\n"
#define RIG_BODY "Hello.\r\n"

__attribute__((unused)) static mp_str rig_domain(mp_str address)
{
  mp_ssize at = mp_str_find(address, '@', 0);
  return mp_str_sub(address, (size_t)(at + 1), address.len);
}

__attribute__((unused)) static rig_mail rig_mail_to(const char *id, const char *address)
{
  rig_mail mail = {
    .message = { .id = mp_str_c(id),
                 .sender = MP_STR("ann@example.org"),
                 .received_ms = 1000000,
                 .head = MP_STR(RIG_HEAD),
                 .body = MP_STR(RIG_BODY) },
    .to = { { .address = mp_str_c(address), .domain = rig_domain(mp_str_c(address)), .due_ms = 1000000 } },
    .count = 1,
  };
  return mail;
}

/* The mail stays the caller's until it came back; here that is at once. */
__attribute__((unused)) static int rig_put(spool_rig *rig, rig_mail *mail)
{
  mail->put.request = (mp_spool_request){ .done = rig_done };
  mail->put.message = &mail->message;
  mail->put.recipients = mail->to;
  mail->put.count = mail->count;
  mp_spool_put(rig->spool, &mail->put);
  return rig_wait(rig, &mail->put.request);
}

__attribute__((unused)) static int rig_put_one(spool_rig *rig, const char *id, const char *address)
{
  rig_mail mail = rig_mail_to(id, address);
  return rig_put(rig, &mail);
}

/* NULL with an error, which is then in *err (may be NULL). */
__attribute__((unused)) static mp_spool_batch *rig_claim_lane(spool_rig *rig, const char *domain, int lane,
                                                              int64_t now_ms, size_t max, uint64_t *lease,
                                                              int *err)
{
  mp_spool_claim_request claim = { .request = { .done = rig_done },
                                   .domain = mp_str_c(domain ? domain : ""),
                                   .alarms = domain == NULL,
                                   .lane = lane,
                                   .now_ms = now_ms,
                                   .lease_ms = 60000,
                                   .max = max };
  mp_spool_claim(rig->spool, &claim);
  int rc = rig_wait(rig, &claim.request);
  if (err)
    *err = rc;
  if (lease)
    *lease = claim.lease;
  return claim.batch;
}

__attribute__((unused)) static mp_spool_batch *rig_claim(spool_rig *rig, const char *domain, int64_t now_ms,
                                                         uint64_t *lease)
{
  return rig_claim_lane(rig, domain, -1, now_ms, MP_SPOOL_CLAIM_MAX, lease, NULL);
}

/* How many recipients a claim gets; they stay claimed. */
__attribute__((unused)) static int rig_claims(spool_rig *rig, const char *domain, int64_t now_ms)
{
  int err;
  mp_spool_batch *batch = rig_claim_lane(rig, domain, -1, now_ms, MP_SPOOL_CLAIM_MAX, NULL, &err);
  int n = batch ? (int)batch->recipients : err;
  mp_spool_batch_free(batch);
  return n;
}

/* The result of the commit, else that of the change. */
__attribute__((unused)) static int rig_change(spool_rig *rig, mp_spool_change change)
{
  mp_spool_update_request update = { .request = { .done = rig_done }, .changes = &change, .count = 1 };
  mp_spool_update(rig->spool, &update);
  int rc = rig_wait(rig, &update.request);
  return rc ? rc : change.result;
}

__attribute__((unused)) static int rig_end(spool_rig *rig, const char *id, uint32_t n)
{
  return rig_change(rig, (mp_spool_change){ .verb = MP_SPOOL_DELIVERED, .id = mp_str_c(id), .n = n });
}

__attribute__((unused)) static size_t rig_count(spool_rig *rig, mp_spool_filter filter)
{
  mp_spool_list_request list = { .request = { .done = rig_done }, .filter = filter };
  mp_spool_list(rig->spool, &list);
  CHECK_EQ_INT(rig_wait(rig, &list.request), 0);
  return list.total;
}

/* All of a message's octets, at most `size`; or the error. */
__attribute__((unused)) static int rig_read(spool_rig *rig, const char *id, uint64_t offset, char *into,
                                            size_t size)
{
  mp_spool_read_request read = {
    .request = { .done = rig_done }, .id = mp_str_c(id), .offset = offset, .into = into, .size = size
  };
  mp_spool_read(rig->spool, &read);
  int rc = rig_wait(rig, &read.request);
  return rc ? rc : (int)read.length;
}

/* Runs SQL on the database from outside, as somebody with `sqlite3` would; the first column of the first row, or -1. */
__attribute__((unused)) static int64_t rig_sql(const spool_rig *rig, const char *sql)
{
  char path[128];
  sqlite3 *db = NULL;
  sqlite3_stmt *stmt = NULL;
  int64_t value = -1;
  snprintf(path, sizeof path, "%s/spool.db", rig->folder);
  if (sqlite3_open(path, &db) != SQLITE_OK)
    FAIL("%s cannot be opened", path);
  while (sql && *sql) {
    const char *rest = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &stmt, &rest) != SQLITE_OK) {
      FAIL("%s: %s", sql, sqlite3_errmsg(db));
      break;
    }
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
      value = sqlite3_column_int64(stmt, 0);
    else if (rc != SQLITE_DONE)
      FAIL("%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_finalize(stmt);
    sql = rest;
  }
  sqlite3_close(db);
  return value;
}

#endif
