/* spool/db.h -- one connection to the database, its statements, and the schema. One thread at a time. */
#ifndef MP_SPOOL_DB_H
#define MP_SPOOL_DB_H

#include "base/error.h"
#include "base/str.h"

#include <sqlite3.h>

/* Statements that are kept prepared. Columns are bound and read in the order in which they stand here. */
#define MP_SPOOL_MESSAGE_COLUMNS                                                                   \
  "m.id, m.sender, m.tenant, m.user, m.params, m.meta, m.report, m.priority, m.received, m.file, " \
  "m.head_length, m.body_length"
enum { MP_SPOOL_MESSAGE_WIDTH = 12 }; /* columns */
#define MP_SPOOL_RECIPIENT_COLUMNS                                                                                      \
  "r.n, r.address, r.domain, r.original, r.params, r.site, r.host, r.reply, r.due, r.expiry, r.alarm, r.last_attempt, " \
  "r.attempts, r.warned, r.state"
enum { MP_SPOOL_RECIPIENT_WIDTH = 15 };

#define MP_SPOOL_STATEMENTS(X)                                                                                   \
  X(BEGIN, "BEGIN IMMEDIATE")                                                                                    \
  X(BEGIN_READ, "BEGIN")                                                                                         \
  X(COMMIT, "COMMIT")                                                                                            \
  X(ROLLBACK, "ROLLBACK")                                                                                        \
  X(DATA_VERSION, "PRAGMA data_version")                                                                         \
  X(SEQ, "SELECT seq FROM message WHERE id = ?")                                                                 \
  X(PUT_MESSAGE, "INSERT INTO message(seq, id, sender, tenant, user, params, meta, report, priority, received, " \
                 "file, body_offset, head_length, body_length, size) VALUES(?,?,?,?,?,?,?,?,?,?,?,0,?,?,?) "     \
                 "ON CONFLICT(id) DO NOTHING")                                                                   \
  X(PUT_CONTENT, "INSERT INTO content(seq, head, body) VALUES(?,?,?)")                                           \
  X(PUT_RECIPIENT, "INSERT INTO recipient(message, n, address, domain, original, params, site, due, expiry, "    \
                   "alarm, lane, priority, state, attempts, warned) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,0,0)")      \
  X(ROWS, "SELECT n, domain, lane, priority, due, alarm, state, expiry FROM recipient WHERE message = ?")        \
  X(ROW, "SELECT n, domain, lane, priority, due, alarm, state, expiry FROM recipient "                           \
         "WHERE message = ? AND n = ?")                                                                          \
  X(END, "DELETE FROM recipient WHERE message = ? AND n = ?")                                                    \
  X(ANY, "SELECT 1 FROM recipient WHERE message = ? LIMIT 1")                                                    \
  X(END_MESSAGE, "DELETE FROM message WHERE seq = ? RETURNING file")                                             \
  X(END_CONTENT, "DELETE FROM content WHERE seq = ?")                                                            \
  X(RESCHEDULE, "UPDATE recipient SET due = ?3, attempts = attempts + (?4 IS NOT NULL), "                        \
                "last_attempt = coalesce(?4, last_attempt), reply = coalesce(?5, reply), "                       \
                "site = coalesce(?6, site), host = coalesce(?7, host), alarm = ?8, warned = max(warned, ?9) "    \
                "WHERE message = ?1 AND n = ?2")                                                                 \
  X(STATE, "UPDATE recipient SET state = ?3 WHERE message = ?1 AND n = ?2")                                      \
  X(DUE, "UPDATE recipient SET due = ?3 WHERE message = ?1 AND n = ?2")                                          \
  X(REDIRECT, "UPDATE recipient SET original = CASE WHEN original = '' THEN address ELSE original END, "         \
              "address = ?3, domain = ?4 WHERE message = ?1 AND n = ?2")                                         \
  X(PRIORITY, "SELECT priority FROM recipient WHERE domain = ? AND lane = ? AND priority < ? "                   \
              "AND state = 'waiting' ORDER BY priority DESC LIMIT 1")                                            \
  X(CLAIM, "SELECT due, message, n FROM recipient WHERE domain = ? AND lane = ? AND priority = ? "               \
           "AND (due, message, n) > (?, ?, ?) AND due <= ? AND state = 'waiting' ORDER BY due, message, n")      \
  X(LATER, "SELECT due FROM recipient WHERE domain = ? AND lane = ? AND priority = ? AND due > ? "               \
           "AND state = 'waiting' ORDER BY due LIMIT 1")                                                         \
  X(ALARMS, "SELECT due, message, n, domain, lane, priority, state FROM recipient WHERE alarm <= ? "             \
            "ORDER BY alarm")                                                                                    \
  X(ALARM, "SELECT alarm FROM recipient WHERE alarm > ? ORDER BY alarm LIMIT 1")                                 \
  X(OF_MESSAGE,                                                                                                  \
    "SELECT due, message, n, domain, lane, priority, state FROM recipient WHERE message = ? ORDER BY n")         \
  X(GET_MESSAGE, "SELECT " MP_SPOOL_MESSAGE_COLUMNS " FROM message m WHERE m.seq = ?")                           \
  X(GET_RECIPIENT, "SELECT " MP_SPOOL_RECIPIENT_COLUMNS " FROM recipient r WHERE r.message = ? AND r.n = ?")     \
  X(GET_CONTENT, "SELECT m.file, m.head_length, m.body_length, m.seq FROM message m WHERE m.id = ?")

enum mp_spool_statement {
#define MP_SPOOL_STATEMENT_ENUM(name, sql) MP_SPOOL_SQL_##name,
  MP_SPOOL_STATEMENTS(MP_SPOOL_STATEMENT_ENUM)
#undef MP_SPOOL_STATEMENT_ENUM
      MP_SPOOL_SQL_COUNT
};

typedef struct mp_spool_db {
  sqlite3 *sql; /* NULL: closed */
  sqlite3_stmt *kept[MP_SPOOL_SQL_COUNT];
  bool broken; /* a call failed for the disk's sake: close it before anything else is asked of it */
} mp_spool_db;

/* Opens the file, which is made if `create`; `why` gets a line when it fails. No transaction is open afterwards. */
int mp_spool_db_open(mp_spool_db *db, const char *path, const char *vfs, bool create, char *why, size_t why_size);

/* Makes or migrates the tables. */
int mp_spool_db_schema(mp_spool_db *db, char *why, size_t why_size);

/* Closes. The log stays as it is: when the last connection of a disk that fails were to copy it, what was not synced would count as written. */
void mp_spool_db_close(mp_spool_db *db);

/* The statement, ready to be bound; NULL when it cannot be prepared (`*err` says why). Give it back by mp_spool_db_reset. */
sqlite3_stmt *mp_spool_db_get(mp_spool_db *db, enum mp_spool_statement which, int *err);
void mp_spool_db_reset(sqlite3_stmt *stmt);

/* Steps. 1: a row; 0: done; else an error, by mp_spool_db_fail. */
int mp_spool_db_step(mp_spool_db *db, sqlite3_stmt *stmt);

/* Runs a kept statement without parameters or rows. */
int mp_spool_db_run(mp_spool_db *db, enum mp_spool_statement which);

/* Runs any SQL. */
int mp_spool_db_exec(mp_spool_db *db, const char *sql);

/* The first column of the first row of any SQL as a number; `*found` (may be NULL) false without a row. */
int mp_spool_db_number(mp_spool_db *db, const char *sql, int64_t *out, bool *found);

/* Ends the transaction that is open, if one is. */
void mp_spool_db_rollback(mp_spool_db *db);

/* Translates SQLite's code, and notes when the connection must not be used on. */
int mp_spool_db_fail(mp_spool_db *db, int code);

/* An empty view with a pointer is an empty text; one without is NULL. Octets are borrowed until the statement is reset. */
void mp_spool_bind_text(sqlite3_stmt *stmt, int at, mp_str text);
void mp_spool_bind_opt(sqlite3_stmt *stmt, int at, mp_str text); /* empty: NULL */
void mp_spool_bind_time(sqlite3_stmt *stmt, int at, int64_t ms); /* 0: NULL */
mp_str mp_spool_column(sqlite3_stmt *stmt, int at);              /* borrowed until the next step */

#endif
