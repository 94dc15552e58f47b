/* The database: its tables, and the statements that are asked of it. */
#include "spool/spool_impl.h"

#include "base/error.h"

#include <stdio.h>

enum { VERSION = 1, BUSY_MS = 10000 };

/* Columns carry the names that people look for. Times are seconds since 1970; the view `queue` shows them as dates. */
static const char schema[] =
    "CREATE TABLE message ("
    "  n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, sender TEXT NOT NULL, size INTEGER NOT NULL, received REAL NOT NULL,"
    "  tenant TEXT NOT NULL, user TEXT NOT NULL, priority INTEGER NOT NULL, report INTEGER NOT NULL, params TEXT NOT NULL,"
    "  meta TEXT NOT NULL);"
    "CREATE TABLE body (message INTEGER PRIMARY KEY, octets BLOB NOT NULL);"
    "CREATE TABLE delivery ("
    "  n INTEGER PRIMARY KEY, message INTEGER NOT NULL, number INTEGER NOT NULL, recipient TEXT NOT NULL, domain TEXT NOT NULL,"
    "  lane INTEGER NOT NULL, held INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL, expires REAL NOT NULL, alarm REAL NOT NULL,"
    "  attempts INTEGER NOT NULL DEFAULT 0, warned INTEGER NOT NULL DEFAULT 0, last_reply TEXT NOT NULL DEFAULT '',"
    "  params TEXT NOT NULL DEFAULT '');"
    "CREATE INDEX delivery_due ON delivery (domain, lane, due) WHERE NOT held;"
    "CREATE INDEX delivery_message ON delivery (message);"
    "CREATE INDEX delivery_alarm ON delivery (alarm);"
    "CREATE VIEW queue AS SELECT m.id, m.sender, d.recipient, d.domain, m.size, d.attempts, d.last_reply,"
    "  CASE d.held WHEN 1 THEN 'held' ELSE 'waiting' END AS state, datetime(m.received, 'unixepoch') AS received,"
    "  datetime(d.due, 'unixepoch') AS due, datetime(d.expires, 'unixepoch') AS expires, m.tenant, m.user, m.priority"
    "  FROM delivery d JOIN message m ON m.n = d.message;"
    "PRAGMA user_version = 1;";

#define FOUND                                                                                                       \
  "SELECT d.n, d.number, d.recipient, d.domain, d.params, d.last_reply, d.due, d.expires, d.alarm, d.attempts, "    \
  "d.warned, d.held, m.id, m.sender, m.tenant, m.user, m.params, m.meta, m.received, m.size, m.priority, m.report," \
  " d.lane FROM delivery d JOIN message m ON m.n = d.message "

static const char *const texts[S_COUNT] = {
  [S_BEGIN] = "BEGIN IMMEDIATE",
  [S_COMMIT] = "COMMIT",
  [S_ROLLBACK] = "ROLLBACK",
  [S_MESSAGE_PUT] = "INSERT INTO message (id, sender, size, received, tenant, user, priority, report, params, meta) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
  [S_BODY_PUT] = "INSERT INTO body VALUES (?, ?)",
  [S_DELIVERY_PUT] =
      "INSERT INTO delivery (message, number, recipient, domain, lane, held, due, expires, alarm, params) "
      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
  [S_DELIVERY_GET] = "SELECT message, domain, lane FROM delivery WHERE n = ?",
  [S_DELIVERY_DELETE] = "DELETE FROM delivery WHERE n = ?",
  [S_DELIVERY_LEFT] = "SELECT 1 FROM delivery WHERE message = ? LIMIT 1",
  [S_DELIVERY_UPDATE] =
      "UPDATE delivery SET recipient = ?, domain = ?, held = ?, due = ?, expires = ?, alarm = ?, attempts = ?, "
      "warned = ?, last_reply = ? WHERE n = ?",
  [S_MESSAGE_DELETE] = "DELETE FROM message WHERE n = ?",
  [S_BODY_DELETE] = "DELETE FROM body WHERE message = ?",
  [S_CLAIM] = FOUND "WHERE d.domain = ? AND d.lane = ? AND d.due <= ? AND NOT d.held ORDER BY d.due",
  [S_NEXT_DUE] = "SELECT min(due) FROM delivery WHERE domain = ? AND lane = ? AND due > ? AND NOT held",
  [S_ALARMS] = FOUND "WHERE d.alarm <= ? ORDER BY d.alarm",
  [S_NEXT_ALARM] = "SELECT min(alarm) FROM delivery WHERE alarm > ?",
  [S_LIST] = FOUND "WHERE m.id > ? ORDER BY m.id, d.number",
  [S_SHOW] = FOUND "WHERE m.id = ? ORDER BY d.number",
  [S_READ] = "SELECT octets FROM body WHERE message = (SELECT n FROM message WHERE id = ?)",
  [S_DOMAINS] =
      "SELECT domain, lane, count(*), min(CASE WHEN held THEN NULL ELSE due END) FROM delivery GROUP BY domain, lane",
  [S_UNUSED] = "PRAGMA freelist_count",
};

int spool_fault(spool_db *db, int code, char why[MP_SPOOL_WHY])
{
  snprintf(why, MP_SPOOL_WHY, "%s", db->db ? sqlite3_errmsg(db->db) : sqlite3_errstr(code));
  switch (code & 0xff) {
  case SQLITE_FULL:
    return MP_E_NOSPACE;
  case SQLITE_NOMEM:
    return MP_E_NOMEM;
  default:
    return MP_E_SYSTEM;
  }
}

static int script(spool_db *db, const char *text, char why[MP_SPOOL_WHY])
{
  int code = sqlite3_exec(db->db, text, NULL, NULL, NULL);
  return code == SQLITE_OK ? 0 : spool_fault(db, code, why);
}

static int version(spool_db *db, int *out, char why[MP_SPOOL_WHY])
{
  sqlite3_stmt *st;
  int code = sqlite3_prepare_v2(db->db, "PRAGMA user_version", -1, &st, NULL);
  if (code == SQLITE_OK)
    code = sqlite3_step(st);
  *out = code == SQLITE_ROW ? sqlite3_column_int(st, 0) : 0;
  int rc = code == SQLITE_ROW ? 0 : spool_fault(db, code, why);
  sqlite3_finalize(st);
  return rc;
}

static int prepare(spool_db *db, bool create, char why[MP_SPOOL_WHY])
{
  sqlite3_busy_timeout(db->db, BUSY_MS);
  /* The size of a page holds from the creation on. */
  int rc = script(db, "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;", why),
      found = 0;
  if (rc == 0)
    rc = version(db, &found, why);
  if (rc == 0 && found > VERSION) {
    snprintf(why, MP_SPOOL_WHY, "it was written by a later version of moonpost (schema %d, known is %d)",
             found, VERSION);
    return MP_E_SYSTEM;
  }
  if (rc == 0 && found == 0 && create) {
    if ((rc = script(db, "BEGIN IMMEDIATE", why)) == 0 && (rc = script(db, schema, why)) == 0)
      rc = script(db, "COMMIT", why);
  }
  return rc;
}

int spool_db_open(spool_db *db, const char *path, bool create, char why[MP_SPOOL_WHY])
{
  *db = (spool_db){ 0 };
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
  int code = sqlite3_open_v2(path, &db->db, flags, NULL);
  int rc = code == SQLITE_OK ? prepare(db, create, why) : spool_fault(db, code, why);
  if (rc < 0)
    spool_db_close(db);
  return rc;
}

void spool_db_close(spool_db *db)
{
  for (int i = 0; i < S_COUNT; i++)
    sqlite3_finalize(db->statements[i]);
  sqlite3_close(db->db);
  *db = (spool_db){ 0 };
}

sqlite3_stmt *spool_statement(spool_db *db, statement which)
{
  sqlite3_stmt **st = &db->statements[which];
  if (!db->db)
    return NULL;
  if (!*st && sqlite3_prepare_v3(db->db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, st, NULL) != SQLITE_OK)
    return NULL;
  return *st;
}

int spool_run(spool_db *db, statement which)
{
  sqlite3_stmt *st = spool_statement(db, which);
  if (!st)
    return db->db ? sqlite3_errcode(db->db) : SQLITE_MISUSE;
  int code = sqlite3_step(st);
  sqlite3_reset(st);
  return code == SQLITE_DONE ? SQLITE_OK : code;
}
