/* What changes: each verb inside the writer's transaction. Codes here are SQLite's; what is in memory changes when the commit has been made. */
#include "spool/spool_impl.h"

#include "base/error.h"

#include <math.h>

static int bind(sqlite3_stmt *st, int at, mp_str s)
{
  return sqlite3_bind_text64(st, at, s.ptr ? s.ptr : "", s.len, SQLITE_STATIC, SQLITE_UTF8);
}

/* Runs a statement that gives no rows. */
static int done(sqlite3_stmt *st)
{
  int code = sqlite3_step(st);
  sqlite3_reset(st);
  sqlite3_clear_bindings(st);
  return code == SQLITE_DONE ? SQLITE_OK : code;
}

static spool_effect *effect(mp_spool_request *req, spool_effect **list)
{
  spool_effect *one = mp_arena_alloc(&req->arena, sizeof *one);
  if (one) {
    *one = (spool_effect){ .next = *list, .due = INFINITY, .alarm = INFINITY };
    *list = one;
  }
  return one;
}

static int fault(spool_db *db)
{
  int code = db->db ? sqlite3_errcode(db->db) : SQLITE_MISUSE;
  return code == SQLITE_OK ? SQLITE_ERROR : code;
}

static int put_message(spool_db *db, const mp_spool_entry *entry, sqlite3_int64 *row)
{
  sqlite3_stmt *st = spool_statement(db, S_MESSAGE_PUT);
  if (!st)
    return fault(db);
  bind(st, 1, entry->id);
  bind(st, 2, entry->sender);
  sqlite3_bind_int64(st, 3, (sqlite3_int64)entry->size);
  sqlite3_bind_double(st, 4, entry->received);
  bind(st, 5, entry->tenant);
  bind(st, 6, entry->user);
  sqlite3_bind_int(st, 7, entry->priority);
  sqlite3_bind_int(st, 8, entry->report);
  bind(st, 9, entry->params);
  bind(st, 10, entry->meta);
  int code = done(st);
  *row = code == SQLITE_OK && sqlite3_changes(db->db) ? sqlite3_last_insert_rowid(db->db) : 0;
  return code;
}

static int put_octets(spool_db *db, sqlite3_int64 message, mp_str octets)
{
  sqlite3_stmt *st = spool_statement(db, S_BODY_PUT);
  if (!st)
    return fault(db);
  sqlite3_bind_int64(st, 1, message);
  sqlite3_bind_blob64(st, 2, octets.ptr ? octets.ptr : "", octets.len, SQLITE_STATIC);
  return done(st);
}

static int put_delivery(spool_db *db, sqlite3_int64 message, uint16_t lane, mp_spool_delivery *one)
{
  sqlite3_stmt *st = spool_statement(db, S_DELIVERY_PUT);
  if (!st)
    return fault(db);
  sqlite3_bind_int64(st, 1, message);
  sqlite3_bind_int64(st, 2, one->number);
  bind(st, 3, one->address);
  bind(st, 4, one->domain);
  sqlite3_bind_int(st, 5, lane);
  sqlite3_bind_int(st, 6, one->held);
  sqlite3_bind_double(st, 7, one->due);
  sqlite3_bind_double(st, 8, one->expires);
  sqlite3_bind_double(st, 9, one->alarm);
  bind(st, 10, one->params);
  int code = done(st);
  one->handle = code == SQLITE_OK ? sqlite3_last_insert_rowid(db->db) : 0;
  return code;
}

int spool_put(spool_db *db, mp_spool_request *req, spool_effect **effects)
{
  sqlite3_int64 message;
  int code = put_message(db, &req->entry, &message);
  if (code != SQLITE_OK)
    return code;
  if (!message) {
    req->rc = MP_E_EXISTS;
    return SQLITE_OK;
  }
  code = put_octets(db, message, req->octets);
  uint16_t lane = index_lane_of(req->entry.priority, req->entry.tenant, req->entry.sender);
  for (size_t i = 0; i < req->count && code == SQLITE_OK; i++) {
    mp_spool_delivery *one = &req->deliveries[i];
    code = put_delivery(db, message, lane, one);
    spool_effect *made = effect(req, effects);
    if (!made)
      return SQLITE_NOMEM;
    made->handle = one->handle;
    made->domain = one->domain;
    made->lane = lane;
    made->by = 1;
    made->alarm = one->alarm;
    made->claim = req->claimed && !one->held && one->due <= req->entry.received;
    made->due = one->held || made->claim ? INFINITY : one->due;
  }
  return code;
}

/* Where a delivery is; message 0 when there is none. */
static int find(spool_db *db, mp_spool_request *req, int64_t handle, sqlite3_int64 *message, mp_str *domain,
                uint16_t *lane)
{
  sqlite3_stmt *st = spool_statement(db, S_DELIVERY_GET);
  if (!st)
    return fault(db);
  sqlite3_bind_int64(st, 1, handle);
  int code = sqlite3_step(st);
  bool ok = true;
  *message = 0;
  if (code == SQLITE_ROW) {
    *message = sqlite3_column_int64(st, 0);
    const char *name = (const char *)sqlite3_column_text(st, 1);
    *domain = mp_arena_str(&req->arena, mp_str_of(name, (size_t)sqlite3_column_bytes(st, 1)), &ok);
    *lane = (uint16_t)sqlite3_column_int(st, 2);
  }
  sqlite3_reset(st);
  return !ok ? SQLITE_NOMEM : code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

static int run_for(spool_db *db, statement which, sqlite3_int64 key)
{
  sqlite3_stmt *st = spool_statement(db, which);
  if (!st)
    return fault(db);
  sqlite3_bind_int64(st, 1, key);
  return done(st);
}

static int delete_if_last(spool_db *db, sqlite3_int64 message)
{
  sqlite3_stmt *st = spool_statement(db, S_DELIVERY_LEFT);
  if (!st)
    return fault(db);
  sqlite3_bind_int64(st, 1, message);
  int code = sqlite3_step(st);
  sqlite3_reset(st);
  if (code != SQLITE_DONE)
    return code == SQLITE_ROW ? SQLITE_OK : code;
  code = run_for(db, S_BODY_DELETE, message);
  return code == SQLITE_OK ? run_for(db, S_MESSAGE_DELETE, message) : code;
}

int spool_finish(spool_db *db, mp_spool_request *req, spool_effect **effects)
{
  int code = SQLITE_OK;
  for (size_t i = 0; i < req->count && code == SQLITE_OK; i++) {
    int64_t handle = req->deliveries[i].handle;
    spool_effect *made = effect(req, effects);
    if (!made)
      return SQLITE_NOMEM;
    made->handle = handle;
    made->over = true;
    sqlite3_int64 message;
    code = find(db, req, handle, &message, &made->domain, &made->lane);
    if (code != SQLITE_OK || !message)
      continue;
    made->by = -1;
    code = run_for(db, S_DELIVERY_DELETE, handle);
    if (code == SQLITE_OK)
      code = delete_if_last(db, message);
  }
  return code;
}

static int update(spool_db *db, const mp_spool_delivery *one)
{
  sqlite3_stmt *st = spool_statement(db, S_DELIVERY_UPDATE);
  if (!st)
    return fault(db);
  bind(st, 1, one->address);
  bind(st, 2, one->domain);
  sqlite3_bind_int(st, 3, one->held);
  sqlite3_bind_double(st, 4, one->due);
  sqlite3_bind_double(st, 5, one->expires);
  sqlite3_bind_double(st, 6, one->alarm);
  sqlite3_bind_int64(st, 7, one->attempts);
  sqlite3_bind_int64(st, 8, one->warned);
  bind(st, 9, one->last);
  sqlite3_bind_int64(st, 10, one->handle);
  return done(st);
}

int spool_reschedule(spool_db *db, mp_spool_request *req, spool_effect **effects)
{
  int code = SQLITE_OK;
  for (size_t i = 0; i < req->count && code == SQLITE_OK; i++) {
    const mp_spool_delivery *one = &req->deliveries[i];
    sqlite3_int64 message;
    mp_str domain = MP_STR_NULL;
    uint16_t lane = 0;
    code = find(db, req, one->handle, &message, &domain, &lane);
    spool_effect *made = effect(req, effects);
    if (!made)
      return SQLITE_NOMEM;
    made->handle = one->handle;
    made->over = true;
    if (code != SQLITE_OK || !message)
      continue;
    made->domain = one->domain;
    made->lane = lane;
    made->due = one->held ? INFINITY : one->due;
    made->alarm = one->alarm;
    code = update(db, one);
    if (code != SQLITE_OK || mp_str_eq(domain, one->domain))
      continue;
    made->by = 1; /* it has moved to another domain */
    spool_effect *less = effect(req, effects);
    if (!less)
      return SQLITE_NOMEM;
    less->domain = domain;
    less->lane = lane;
    less->by = -1;
  }
  return code;
}
