/* The write-ahead log behind spool/walvfs.h: what is committed is in the file, whoever looks; few calls write it. */
#include "support/check.h"

#include "base/error.h"
#include "spool/walvfs.h"

#include <stdlib.h>
#include <unistd.h>

/* A VFS in front of SQLite's own that counts the writes of logs. */
static unsigned writes;
static sqlite3_io_methods counting;
static const sqlite3_io_methods *counted;

static int count_write(sqlite3_file *file, const void *octets, int size, sqlite3_int64 offset)
{
  writes++;
  return counted->xWrite(file, octets, size, offset);
}

static int count_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *out)
{
  sqlite3_vfs *own = sqlite3_vfs_find(NULL);
  (void)vfs;
  int rc = own->xOpen(own, path, file, flags, out);
  if (rc == SQLITE_OK && flags & SQLITE_OPEN_WAL) {
    counted = file->pMethods;
    counting = *counted;
    counting.xWrite = count_write;
    file->pMethods = &counting;
  }
  return rc;
}

typedef struct rig {
  char folder[64], path[96];
  sqlite3_vfs vfs;
  mp_walvfs walvfs;
  sqlite3 *sql;
} rig;

static bool run(sqlite3 *sql, const char *text)
{
  return sqlite3_exec(sql, text, NULL, NULL, NULL) == SQLITE_OK;
}

static bool rig_open(rig *r)
{
  *r = (rig){ .folder = "/tmp/moonpost-walvfs-XXXXXX" };
  if (!mkdtemp(r->folder))
    return false;
  snprintf(r->path, sizeof r->path, "%s/db", r->folder);
  r->vfs = *sqlite3_vfs_find(NULL);
  r->vfs.pNext = NULL;
  r->vfs.zName = "moonpost-counting";
  r->vfs.xOpen = count_open;
  return sqlite3_vfs_register(&r->vfs, 0) == SQLITE_OK && mp_walvfs_open(&r->walvfs, "moonpost-counting") == 0 &&
         sqlite3_open_v2(r->path, &r->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                         mp_walvfs_name(&r->walvfs)) == SQLITE_OK &&
         run(r->sql, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;"
                     "CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB);");
}

static void rig_close(rig *r)
{
  char command[160];
  sqlite3_close(r->sql);
  mp_walvfs_close(&r->walvfs);
  mp_walvfs_close(&r->walvfs); /* once more is fine */
  sqlite3_vfs_unregister(&r->vfs);
  snprintf(command, sizeof command, "rm -rf '%s'", r->folder);
  CHECK_EQ_INT(system(command), 0);
}

/* What somebody else sees, who knows nothing of this. */
static int64_t number(const rig *r, const char *text)
{
  sqlite3 *sql;
  sqlite3_stmt *stmt;
  int64_t n = -1;
  if (sqlite3_open_v2(r->path, &sql, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
      sqlite3_prepare_v2(sql, text, -1, &stmt, NULL) == SQLITE_OK) {
    if (sqlite3_step(stmt) == SQLITE_ROW)
      n = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
  }
  sqlite3_close(sql);
  return n;
}

TEST(a_commit_is_one_write_and_everybody_sees_it)
{
  rig r;
  REQUIRE(CHECK(rig_open(&r)));
  writes = 0;
  CHECK(run(r.sql, "BEGIN; INSERT INTO t(b) VALUES (zeroblob(20000)), (zeroblob(20000)); COMMIT"));
  CHECK_EQ_INT(writes, 1);
  CHECK_EQ_INT(number(&r, "SELECT count(*) FROM t"), 2);
  rig_close(&r);
}

TEST(what_does_not_fit_at_once_is_written_in_parts)
{
  rig r;
  REQUIRE(CHECK(rig_open(&r)));
  writes = 0;
  CHECK(run(r.sql, "INSERT INTO t(b) VALUES (randomblob(1000000))"));
  CHECK(writes > 1 && writes < 20);
  CHECK_EQ_INT(number(&r, "SELECT sum(length(b)) FROM t"), 1000000);
  rig_close(&r);
}

TEST(what_is_rolled_back_is_written_over)
{
  rig r;
  REQUIRE(CHECK(rig_open(&r)));
  CHECK(run(r.sql, "PRAGMA cache_size = 10"));
  /* More than the cache holds: pages go to the log in the midst of the transaction, and are read from there. */
  CHECK(run(r.sql, "BEGIN; INSERT INTO t(b) SELECT randomblob(3000) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1"
                   " FROM n WHERE i < 200) SELECT i FROM n); UPDATE t SET b = zeroblob(2000); ROLLBACK"));
  CHECK(run(r.sql,
            "BEGIN; INSERT INTO t(b) SELECT randomblob(3000) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1"
            " FROM n WHERE i < 100) SELECT i FROM n); UPDATE t SET b = zeroblob(2000) WHERE a % 2; COMMIT"));
  CHECK_EQ_INT(number(&r, "SELECT sum(length(b)) FROM t"), 250000);
  CHECK(run(r.sql, "PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t(b) VALUES ('x')"));
  CHECK_EQ_INT(number(&r, "SELECT count(*) FROM t"), 101);
  CHECK_EQ_INT(number(&r, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'"), 1);
  rig_close(&r);
}

TEST(without_memory_it_writes_as_it_is_told)
{
  rig r;
  REQUIRE(CHECK(rig_open(&r)));
  sqlite3_close(r.sql); /* a log that is opened anew has no room yet */
  REQUIRE(CHECK_EQ_INT(sqlite3_open_v2(r.path, &r.sql, SQLITE_OPEN_READWRITE, mp_walvfs_name(&r.walvfs)),
                       SQLITE_OK));
  CHECK(run(r.sql, "PRAGMA synchronous = FULL; SELECT * FROM t"));
  mp_mem_fail_after(0);
  writes = 0;
  CHECK(run(r.sql, "INSERT INTO t(b) VALUES (zeroblob(20000))"));
  CHECK(writes > 5);
  mp_mem_fail_after(-1);
  CHECK_EQ_INT(number(&r, "SELECT sum(length(b)) FROM t"), 20000);
  rig_close(&r);
}

TEST(a_vfs_that_is_not_there_is_said_to_be)
{
  mp_walvfs walvfs = { 0 };
  CHECK_EQ_INT(mp_walvfs_open(&walvfs, "no such"), MP_E_NOTFOUND);
  mp_walvfs_close(&walvfs);
}
CHECK_MAIN
