#include "spool/db.h"

#include <stdio.h>

static const char *const statements[] = {
#define STATEMENT_TEXT(name, sql) sql,
  MP_SPOOL_STATEMENTS(STATEMENT_TEXT)
#undef STATEMENT_TEXT
};

int mp_spool_db_fail(mp_spool_db *db, int code)
{
  switch (code & 0xff) {
  case SQLITE_OK:
  case SQLITE_DONE:
    return 0;
  case SQLITE_NOMEM:
    return MP_E_NOMEM;
  case SQLITE_FULL:
    return MP_E_NOSPACE;
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
    return MP_E_DAMAGED;
  case SQLITE_IOERR:
    if (code == SQLITE_IOERR_NOMEM)
      return MP_E_NOMEM;
    db->broken = true;
    return MP_E_IO;
  case SQLITE_READONLY:
  case SQLITE_CANTOPEN:
  case SQLITE_PERM:
    db->broken = true;
    return MP_E_IO;
  case SQLITE_BUSY:
  case SQLITE_LOCKED: /* somebody's sqlite3 has held it for longer than we wait */
  case SQLITE_PROTOCOL:
  case SQLITE_INTERRUPT: /* the writer broke a look off, for the disk failed */
    return MP_E_IO;
  case SQLITE_CONSTRAINT:
  case SQLITE_TOOBIG:
  case SQLITE_MISMATCH:
  case SQLITE_RANGE:
    return MP_E_INVALID;
  default:
    return MP_E_SYSTEM;
  }
}

int mp_spool_db_exec(mp_spool_db *db, const char *sql)
{
  return mp_spool_db_fail(db, sqlite3_exec(db->sql, sql, NULL, NULL, NULL));
}

int mp_spool_db_number(mp_spool_db *db, const char *sql, int64_t *out, bool *found)
{
  sqlite3_stmt *stmt = NULL;
  int rc = sqlite3_prepare_v2(db->sql, sql, -1, &stmt, NULL);
  if (found)
    *found = false;
  if (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
    *out = sqlite3_column_int64(stmt, 0);
    if (found)
      *found = true;
    rc = SQLITE_OK;
  }
  sqlite3_finalize(stmt);
  return mp_spool_db_fail(db, rc);
}

/* The log is copied into the database by the writer when it thinks fit, not within somebody's commit. */
static const char settings[] = "PRAGMA journal_mode = WAL;"
                               "PRAGMA synchronous = FULL;"
                               "PRAGMA wal_autocheckpoint = 0;"
                               "PRAGMA journal_size_limit = 67108864;"
                               "PRAGMA temp_store = MEMORY;"
                               "PRAGMA cache_size = -8192;"
                               "PRAGMA secure_delete = OFF;"
                               "PRAGMA trusted_schema = OFF;";

int mp_spool_db_open(mp_spool_db *db, const char *path, const char *vfs, bool create, char *why, size_t why_size)
{
  *db = (mp_spool_db){ .sql = NULL };
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
  int code = sqlite3_open_v2(path, &db->sql, flags, vfs);
  if (code == SQLITE_OK) {
    sqlite3_extended_result_codes(db->sql, 1);
    sqlite3_busy_timeout(db->sql, 10000);
    sqlite3_db_config(db->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    /* Both are of the file, and only count while it is empty. */
    if (create)
      code =
          sqlite3_exec(db->sql, "PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;", NULL, NULL, NULL);
  }
  if (code == SQLITE_OK)
    code = sqlite3_exec(db->sql, settings, NULL, NULL, NULL);
  if (code == SQLITE_OK && sqlite3_db_readonly(db->sql, "main") == 1)
    code = SQLITE_READONLY;
  if (code == SQLITE_OK)
    return 0;
  int err = mp_spool_db_fail(db, code);
  snprintf(why, why_size, "%s: %s", path, db->sql ? sqlite3_errmsg(db->sql) : sqlite3_errstr(code));
  mp_spool_db_close(db);
  return err ? err : MP_E_SYSTEM;
}

void mp_spool_db_close(mp_spool_db *db)
{
  for (size_t i = 0; i < MP_SPOOL_SQL_COUNT; i++)
    sqlite3_finalize(db->kept[i]);
  sqlite3_close(db->sql);
  *db = (mp_spool_db){ .sql = NULL };
}

sqlite3_stmt *mp_spool_db_get(mp_spool_db *db, enum mp_spool_statement which, int *err)
{
  sqlite3_stmt **kept = &db->kept[which];
  int code = SQLITE_OK;
  if (!*kept)
    code = sqlite3_prepare_v3(db->sql, statements[which], -1, SQLITE_PREPARE_PERSISTENT, kept, NULL);
  *err = mp_spool_db_fail(db, code);
  return *kept;
}

void mp_spool_db_reset(sqlite3_stmt *stmt)
{
  if (stmt) {
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
  }
}

int mp_spool_db_step(mp_spool_db *db, sqlite3_stmt *stmt)
{
  int code = sqlite3_step(stmt);
  return code == SQLITE_ROW ? 1 : mp_spool_db_fail(db, code);
}

int mp_spool_db_run(mp_spool_db *db, enum mp_spool_statement which)
{
  int err;
  sqlite3_stmt *stmt = mp_spool_db_get(db, which, &err);
  if (!stmt)
    return err;
  err = mp_spool_db_step(db, stmt);
  mp_spool_db_reset(stmt);
  return err;
}

void mp_spool_db_rollback(mp_spool_db *db)
{
  if (!db->sql)
    return;
  for (size_t i = 0; i < MP_SPOOL_SQL_COUNT; i++)
    mp_spool_db_reset(db->kept[i]); /* one that was left in the middle by an error */
  if (!sqlite3_get_autocommit(db->sql))
    mp_spool_db_run(db, MP_SPOOL_SQL_ROLLBACK);
}

void mp_spool_bind_text(sqlite3_stmt *stmt, int at, mp_str text)
{
  if (text.ptr || text.len > 0)
    sqlite3_bind_text64(stmt, at, text.ptr, text.len, SQLITE_STATIC, SQLITE_UTF8);
  else
    sqlite3_bind_null(stmt, at);
}

void mp_spool_bind_opt(sqlite3_stmt *stmt, int at, mp_str text)
{
  mp_spool_bind_text(stmt, at, text.len ? text : MP_STR_NULL);
}

void mp_spool_bind_time(sqlite3_stmt *stmt, int at, int64_t ms)
{
  if (ms)
    sqlite3_bind_int64(stmt, at, ms);
  else
    sqlite3_bind_null(stmt, at);
}

mp_str mp_spool_column(sqlite3_stmt *stmt, int at)
{
  const char *text = (const char *)sqlite3_column_text(stmt, at);
  return mp_str_of(text, text ? (size_t)sqlite3_column_bytes(stmt, at) : 0);
}
