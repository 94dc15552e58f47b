/* What looks: claims, alarms, lists, octets. On the reader's thread, each in a transaction of its own, so that the log can be cut behind it. */
#include "spool/spool_impl.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>

enum { AGAIN = 60 /* seconds until an alarm of a claimed delivery is looked at again */ };

static int fail(mp_spool *spool, mp_spool_request *req, int code)
{
  req->rc = spool_fault(&spool->reader.db, code == SQLITE_OK ? SQLITE_ERROR : code, req->why);
  return req->rc;
}

static mp_str column(mp_spool_request *req, sqlite3_stmt *st, int at, bool *ok)
{
  const char *text = (const char *)sqlite3_column_text(st, at);
  return mp_arena_str(&req->arena, mp_str_of(text, (size_t)sqlite3_column_bytes(st, at)), ok);
}

/* The row of a statement that finds, behind those that were found. False when out of memory. */
static bool add(mp_spool_request *req, sqlite3_stmt *st)
{
  if (req->found_count % 32 == 0) {
    mp_spool_found *more = mp_mem_realloc(req->found, (req->found_count + 32) * sizeof *more);
    if (!more)
      return false;
    req->found = more;
  }
  bool ok = true;
  req->found[req->found_count] = (mp_spool_found){
    .delivery = { .handle = sqlite3_column_int64(st, 0),
                  .number = (uint32_t)sqlite3_column_int64(st, 1),
                  .address = column(req, st, 2, &ok),
                  .domain = column(req, st, 3, &ok),
                  .params = column(req, st, 4, &ok),
                  .last = column(req, st, 5, &ok),
                  .due = sqlite3_column_double(st, 6),
                  .expires = sqlite3_column_double(st, 7),
                  .alarm = sqlite3_column_double(st, 8),
                  .attempts = (uint32_t)sqlite3_column_int64(st, 9),
                  .warned = (uint32_t)sqlite3_column_int64(st, 10),
                  .held = sqlite3_column_int(st, 11) != 0 },
    .entry = { .id = column(req, st, 12, &ok),
               .sender = column(req, st, 13, &ok),
               .tenant = column(req, st, 14, &ok),
               .user = column(req, st, 15, &ok),
               .params = column(req, st, 16, &ok),
               .meta = column(req, st, 17, &ok),
               .received = sqlite3_column_double(st, 18),
               .size = (uint64_t)sqlite3_column_int64(st, 19),
               .priority = sqlite3_column_int(st, 20),
               .report = sqlite3_column_int(st, 21) != 0 },
  };
  req->found_count += ok;
  return ok;
}

/* Claims the row unless somebody has it. 1 claimed, 0 not, and then *until is no later than when it is free; or an error. */
static int claim_row(mp_spool *spool, mp_spool_request *req, sqlite3_stmt *st, bool whatever, double *until)
{
  int64_t handle = sqlite3_column_int64(st, 0);
  uint16_t lane = (uint16_t)sqlite3_column_int(st, 22);
  pthread_mutex_lock(&spool->lock);
  const index_claim *claim = index_claim_find(&spool->index, handle);
  bool taken = claim && (isinf(claim->until) || (!whatever && claim->until > req->now));
  if (taken)
    *until = fmin(*until, claim->until);
  bool ok = taken || index_claim_set(&spool->index, handle, lane, INFINITY);
  pthread_mutex_unlock(&spool->lock);
  if (taken)
    return 0;
  if (ok && add(req, st))
    return 1;
  pthread_mutex_lock(&spool->lock);
  index_claim_end(&spool->index, handle);
  pthread_mutex_unlock(&spool->lock);
  return MP_E_NOMEM;
}

static double number(mp_spool *spool, sqlite3_stmt *st)
{
  (void)spool;
  double found = INFINITY;
  if (sqlite3_step(st) == SQLITE_ROW && sqlite3_column_type(st, 0) != SQLITE_NULL)
    found = sqlite3_column_double(st, 0);
  sqlite3_reset(st);
  return found;
}

/* Which lane is to be claimed from. */
static bool choose(mp_spool *spool, mp_spool_request *req, uint16_t *lane)
{
  pthread_mutex_lock(&spool->lock);
  index_domain *domain = index_domain_find(&spool->index, req->domain);
  index_lane *of = domain ? index_choose(domain, req->now) : NULL;
  if (of) {
    *lane = of->lane;
    index_look(domain, of);
  } else if (domain) {
    index_arm(&spool->index, domain);
  }
  pthread_mutex_unlock(&spool->lock);
  return of != NULL;
}

static double claim_lane(mp_spool *spool, mp_spool_request *req, uint16_t lane)
{
  sqlite3_stmt *st = spool_statement(&spool->reader.db, S_CLAIM);
  if (!st) {
    fail(spool, req, SQLITE_ERROR);
    return req->now;
  }
  sqlite3_bind_text64(st, 1, req->domain.ptr, req->domain.len, SQLITE_STATIC, SQLITE_UTF8);
  sqlite3_bind_int(st, 2, lane);
  sqlite3_bind_double(st, 3, req->now);
  double next = INFINITY;
  int code = SQLITE_DONE, rc = 0;
  while (rc >= 0 && req->found_count < req->most && (code = sqlite3_step(st)) == SQLITE_ROW)
    rc = claim_row(spool, req, st, false, &next);
  sqlite3_reset(st);
  if (rc < 0)
    req->rc = rc;
  else if (code != SQLITE_DONE && code != SQLITE_ROW)
    fail(spool, req, code);
  if (code != SQLITE_DONE || req->rc < 0 || !(st = spool_statement(&spool->reader.db, S_NEXT_DUE)))
    return req->now; /* there may be more */
  sqlite3_bind_text64(st, 1, req->domain.ptr, req->domain.len, SQLITE_STATIC, SQLITE_UTF8);
  sqlite3_bind_int(st, 2, lane);
  sqlite3_bind_double(st, 3, req->now);
  return fmin(next, number(spool, st));
}

void spool_claim(mp_spool *spool, mp_spool_request *req)
{
  pthread_mutex_lock(&spool->moving);
  uint16_t lane;
  if (choose(spool, req, &lane)) {
    double next = claim_lane(spool, req, lane);
    pthread_mutex_lock(&spool->lock);
    index_looked(&spool->index, req->domain, lane, next);
    pthread_mutex_unlock(&spool->lock);
  }
  pthread_mutex_unlock(&spool->moving);
}

void spool_alarms(mp_spool *spool, mp_spool_request *req)
{
  pthread_mutex_lock(&spool->moving);
  pthread_mutex_lock(&spool->lock);
  spool->next_alarm = INFINITY;
  pthread_mutex_unlock(&spool->lock);
  double next = INFINITY, skipped = 0;
  int code = SQLITE_ERROR, rc = 0;
  sqlite3_stmt *st = spool_statement(&spool->reader.db, S_ALARMS);
  if (st) {
    sqlite3_bind_double(st, 1, req->now);
    while (rc >= 0 && req->found_count < req->most && (code = sqlite3_step(st)) == SQLITE_ROW) {
      double until;
      rc = claim_row(spool, req, st, true, &until);
      if (rc == 0)
        skipped = 1;
    }
    sqlite3_reset(st);
  }
  if (rc < 0)
    req->rc = rc;
  else if (code != SQLITE_DONE && code != SQLITE_ROW)
    fail(spool, req, code);
  if (code == SQLITE_DONE && (st = spool_statement(&spool->reader.db, S_NEXT_ALARM))) {
    sqlite3_bind_double(st, 1, req->now);
    next = number(spool, st);
  } else {
    next = req->now + (code == SQLITE_ROW ? 0 : AGAIN);
  }
  if (skipped > 0)
    next = fmin(next, req->now + AGAIN);
  pthread_mutex_lock(&spool->lock);
  spool->next_alarm = fmin(spool->next_alarm, next);
  pthread_mutex_unlock(&spool->lock);
  pthread_mutex_unlock(&spool->moving);
}

void spool_take(mp_spool *spool, mp_spool_request *req)
{
  sqlite3_stmt *st = spool_statement(&spool->reader.db, S_SHOW);
  if (!st) {
    fail(spool, req, SQLITE_ERROR);
    return;
  }
  pthread_mutex_lock(&spool->moving);
  sqlite3_bind_text64(st, 1, req->id.ptr ? req->id.ptr : "", req->id.len, SQLITE_STATIC, SQLITE_UTF8);
  int code = SQLITE_DONE, rc = 0;
  double until = INFINITY;
  while (rc >= 0 && (code = sqlite3_step(st)) == SQLITE_ROW)
    rc = claim_row(spool, req, st, true, &until);
  sqlite3_reset(st);
  pthread_mutex_unlock(&spool->moving);
  if (rc < 0)
    req->rc = rc;
  else if (code != SQLITE_DONE)
    fail(spool, req, code);
}

void spool_list(mp_spool *spool, mp_spool_request *req)
{
  bool one = req->verb == MP_SPOOL_SHOW;
  sqlite3_stmt *st = spool_statement(&spool->reader.db, one ? S_SHOW : S_LIST);
  if (!st) {
    fail(spool, req, SQLITE_ERROR);
    return;
  }
  sqlite3_bind_text64(st, 1, req->id.ptr ? req->id.ptr : "", req->id.len, SQLITE_STATIC, SQLITE_UTF8);
  int code;
  while ((code = sqlite3_step(st)) == SQLITE_ROW) {
    /* A page ends with a message, so that the next one begins with another. */
    size_t count = req->found_count;
    if (!one && count >= req->most) {
      mp_str id = mp_str_of((const char *)sqlite3_column_text(st, 12), (size_t)sqlite3_column_bytes(st, 12));
      if (!mp_str_eq(id, req->found[count - 1].entry.id))
        break;
    }
    if (!add(req, st)) {
      req->rc = MP_E_NOMEM;
      break;
    }
  }
  sqlite3_reset(st);
  if (code != SQLITE_ROW && code != SQLITE_DONE)
    fail(spool, req, code);
}

void spool_read(mp_spool *spool, mp_spool_request *req)
{
  sqlite3_stmt *st = spool_statement(&spool->reader.db, S_READ);
  if (!st) {
    fail(spool, req, SQLITE_ERROR);
    return;
  }
  sqlite3_bind_text64(st, 1, req->id.ptr, req->id.len, SQLITE_STATIC, SQLITE_UTF8);
  int code = sqlite3_step(st);
  if (code == SQLITE_ROW)
    req->rc = mp_buf_add(&req->out, sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0));
  else if (code == SQLITE_DONE)
    req->rc = MP_E_NOTFOUND;
  else
    fail(spool, req, code);
  sqlite3_reset(st);
}

int spool_load(mp_spool *spool, char why[MP_SPOOL_WHY])
{
  sqlite3_stmt *st = spool_statement(&spool->writer.db, S_DOMAINS);
  if (!st)
    return spool_fault(&spool->writer.db, SQLITE_ERROR, why);
  int code;
  bool ok = true;
  while (ok && (code = sqlite3_step(st)) == SQLITE_ROW) {
    mp_str name = mp_str_of((const char *)sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0));
    uint16_t lane = (uint16_t)sqlite3_column_int(st, 1);
    ok = index_count(&spool->index, name, lane, sqlite3_column_int(st, 2));
    if (ok && sqlite3_column_type(st, 3) != SQLITE_NULL)
      index_due(&spool->index, index_domain_find(&spool->index, name), lane, sqlite3_column_double(st, 3));
  }
  sqlite3_reset(st);
  if (!ok)
    return MP_E_NOMEM;
  if (code != SQLITE_DONE)
    return spool_fault(&spool->writer.db, code, why);
  st = spool_statement(&spool->writer.db, S_NEXT_ALARM);
  if (!st)
    return spool_fault(&spool->writer.db, SQLITE_ERROR, why);
  sqlite3_bind_double(st, 1, -1);
  spool->next_alarm = number(spool, st);
  return 0;
}
