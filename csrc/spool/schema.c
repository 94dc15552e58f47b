#include "spool/db.h"

#include <stdio.h>

/* What each version added to the one before; a file's version is its user_version. Steps that were released never change. Times are unix milliseconds,
 * states are words: people read this with `sqlite3`. */
static const char *const steps[] = {
  /* 1 */
  "CREATE TABLE message("
  " seq INTEGER PRIMARY KEY,"
  " id TEXT NOT NULL UNIQUE,"
  " sender TEXT NOT NULL,"
  " tenant TEXT,"
  " user TEXT,"
  " params TEXT,"
  " meta TEXT,"
  " report INTEGER NOT NULL,"
  " priority INTEGER NOT NULL,"
  " received INTEGER NOT NULL,"
  " size INTEGER NOT NULL,"
  " file INTEGER NOT NULL,"
  " body_offset INTEGER NOT NULL," /* always 0 */
  " head_length INTEGER NOT NULL,"
  " body_length INTEGER NOT NULL);"
  /* Apart, so that whoever looks through the messages does not page through their octets. */
  "CREATE TABLE content(seq INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB);"
  "CREATE TABLE recipient("
  " message INTEGER NOT NULL,"
  " n INTEGER NOT NULL,"
  " address TEXT NOT NULL,"
  " domain TEXT NOT NULL,"
  " state TEXT NOT NULL,"
  " due INTEGER NOT NULL,"
  " expiry INTEGER,"
  " alarm INTEGER,"
  " attempts INTEGER NOT NULL,"
  " warned INTEGER NOT NULL,"
  " last_attempt INTEGER,"
  " reply TEXT,"
  " host TEXT,"
  " site TEXT,"
  " original TEXT NOT NULL,"
  " params TEXT,"
  " lane INTEGER NOT NULL,"
  " priority INTEGER NOT NULL,"
  " PRIMARY KEY(message, n)) WITHOUT ROWID;"
  /* With `state`, though all that are in it wait: a query that says so then need not look at the rows. */
  "CREATE INDEX recipient_due ON recipient(domain, lane, priority DESC, due, message, n, state) WHERE state = 'waiting';"
  "CREATE INDEX recipient_alarm ON recipient(alarm) WHERE alarm IS NOT NULL;"
  "CREATE INDEX message_file ON message(seq) WHERE file = 1;",
  /* 2: what was set aside, and a view for people */
  "CREATE TABLE damaged("
  " noticed INTEGER NOT NULL,"
  " reason TEXT NOT NULL,"
  " id TEXT,"
  " sender TEXT,"
  " recipients TEXT,"
  " received INTEGER,"
  " file INTEGER,"
  " meta TEXT,"
  " head BLOB,"
  " body BLOB);"
  "CREATE VIEW queue AS SELECT m.id, r.n, m.sender, r.address, r.domain, r.state, m.size, r.attempts,"
  " datetime(m.received / 1000, 'unixepoch', 'localtime') AS received,"
  " datetime(r.due / 1000, 'unixepoch', 'localtime') AS due,"
  " datetime(r.expiry / 1000, 'unixepoch', 'localtime') AS expiry,"
  " datetime(r.last_attempt / 1000, 'unixepoch', 'localtime') AS last_attempt,"
  " r.host, r.reply FROM recipient r JOIN message m ON m.seq = r.message;",
};

enum { VERSION = sizeof steps / sizeof *steps };

static int step_to(mp_spool_db *db, int64_t version)
{
  char mark[64];
  snprintf(mark, sizeof mark, "PRAGMA user_version = %d; COMMIT", (int)version);
  int err = mp_spool_db_run(db, MP_SPOOL_SQL_BEGIN);
  if (err == 0)
    err = mp_spool_db_exec(db, steps[version - 1]);
  if (err == 0)
    err = mp_spool_db_exec(db, mark);
  return err;
}

int mp_spool_db_schema(mp_spool_db *db, char *why, size_t why_size)
{
  int64_t version = 0;
  int err = mp_spool_db_number(db, "PRAGMA user_version", &version, NULL);
  if (err == 0 && (version > VERSION || version < 0)) {
    snprintf(why, why_size, "was made by a later version (its format is %lld, this one knows up to %d)",
             (long long)version, VERSION);
    return MP_E_INVALID;
  }
  while (err == 0 && version < VERSION)
    err = step_to(db, ++version);
  if (err != 0) {
    snprintf(why, why_size, "%s", sqlite3_errmsg(db->sql));
    mp_spool_db_rollback(db);
  }
  return err;
}
