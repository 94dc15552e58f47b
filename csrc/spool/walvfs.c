#include "spool/walvfs.h"

#include "base/error.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* SQLite's own VFS takes less than 128 KB at a time. */
enum { ROOM = 126976 };

/* The log, and what of it has not been written yet. The inner file is behind it in the same block. */
typedef struct log_file {
  sqlite3_file base;
  sqlite3_file *inner;
  char *octets; /* NULL until something is written, and where there is no memory */
  sqlite3_int64 at;
  int len;
} log_file;

static log_file *of(sqlite3_file *base)
{
  return (log_file *)(void *)base;
}

/* What cannot be written is gone: SQLite hears so from the call that wanted it written, and gives the transaction up. */
static int flush(log_file *log)
{
  int len = log->len;
  log->len = 0;
  return len ? log->inner->pMethods->xWrite(log->inner, log->octets, len, log->at) : SQLITE_OK;
}

static int log_close(sqlite3_file *base)
{
  log_file *log = of(base);
  int rc = flush(log), closed = log->inner->pMethods ? log->inner->pMethods->xClose(log->inner) : SQLITE_OK;
  mp_mem_free(log->octets);
  log->octets = NULL;
  return rc ? rc : closed;
}

static int log_read(sqlite3_file *base, void *into, int size, sqlite3_int64 offset)
{
  log_file *log = of(base);
  int rc = SQLITE_OK;
  if (log->len && offset < log->at + log->len && offset + size > log->at)
    rc = flush(log);
  return rc ? rc : log->inner->pMethods->xRead(log->inner, into, size, offset);
}

static int log_write(sqlite3_file *base, const void *octets, int size, sqlite3_int64 offset)
{
  log_file *log = of(base);
  if (!log->octets)
    log->octets = mp_mem_alloc(ROOM);
  /* Over what is gathered, or right behind it. */
  bool joins = log->len && offset >= log->at && offset <= log->at + log->len && offset - log->at + size <= ROOM;
  if (!joins) {
    int rc = flush(log);
    if (rc)
      return rc;
    if (!log->octets || size > ROOM)
      return log->inner->pMethods->xWrite(log->inner, octets, size, offset);
    log->at = offset;
  }
  int from = (int)(offset - log->at);
  memcpy(log->octets + from, octets, (size_t)size);
  if (from + size > log->len)
    log->len = from + size;
  return SQLITE_OK;
}

static int log_truncate(sqlite3_file *base, sqlite3_int64 size)
{
  int rc = flush(of(base));
  return rc ? rc : of(base)->inner->pMethods->xTruncate(of(base)->inner, size);
}

static int log_sync(sqlite3_file *base, int flags)
{
  int rc = flush(of(base));
  return rc ? rc : of(base)->inner->pMethods->xSync(of(base)->inner, flags);
}

static int log_size(sqlite3_file *base, sqlite3_int64 *size)
{
  int rc = flush(of(base));
  return rc ? rc : of(base)->inner->pMethods->xFileSize(of(base)->inner, size);
}

static int log_lock(sqlite3_file *base, int how)
{
  return of(base)->inner->pMethods->xLock(of(base)->inner, how);
}

static int log_unlock(sqlite3_file *base, int how)
{
  return of(base)->inner->pMethods->xUnlock(of(base)->inner, how);
}

static int log_reserved(sqlite3_file *base, int *out)
{
  return of(base)->inner->pMethods->xCheckReservedLock(of(base)->inner, out);
}

static int log_control(sqlite3_file *base, int op, void *arg)
{
  return of(base)->inner->pMethods->xFileControl(of(base)->inner, op, arg);
}

static int log_sector(sqlite3_file *base)
{
  return of(base)->inner->pMethods->xSectorSize(of(base)->inner);
}

static int log_traits(sqlite3_file *base)
{
  return of(base)->inner->pMethods->xDeviceCharacteristics(of(base)->inner);
}

/* A log is neither shared memory nor mapped: version 1 has all it needs. */
static const sqlite3_io_methods methods = {
  .iVersion = 1,
  .xClose = log_close,
  .xRead = log_read,
  .xWrite = log_write,
  .xTruncate = log_truncate,
  .xSync = log_sync,
  .xFileSize = log_size,
  .xLock = log_lock,
  .xUnlock = log_unlock,
  .xCheckReservedLock = log_reserved,
  .xFileControl = log_control,
  .xSectorSize = log_sector,
  .xDeviceCharacteristics = log_traits,
};

static int open_file(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *out)
{
  sqlite3_vfs *inner = ((mp_walvfs *)(void *)vfs)->inner;
  if (!(flags & SQLITE_OPEN_WAL))
    return inner->xOpen(inner, path, base, flags, out);
  log_file *log = of(base);
  *log = (log_file){ .inner = (sqlite3_file *)(void *)(log + 1) };
  int rc = inner->xOpen(inner, path, log->inner, flags, out);
  if (rc == SQLITE_OK || log->inner->pMethods)
    base->pMethods = &methods; /* SQLite closes what has methods, even where it could not be opened */
  return rc;
}

int mp_walvfs_open(mp_walvfs *vfs, const char *inner)
{
  vfs->inner = sqlite3_vfs_find(inner);
  if (!vfs->inner)
    return MP_E_NOTFOUND;
  /* The rest is the inner one's: it knows itself by pAppData, which goes along. */
  vfs->vfs = *vfs->inner;
  vfs->vfs.pNext = NULL;
  snprintf(vfs->name, sizeof vfs->name, "moonpost-%jx", (uintmax_t)(uintptr_t)vfs);
  vfs->vfs.zName = vfs->name;
  vfs->vfs.szOsFile = (int)sizeof(log_file) + vfs->inner->szOsFile;
  vfs->vfs.xOpen = open_file;
  return sqlite3_vfs_register(&vfs->vfs, 0) == SQLITE_OK ? 0 : MP_E_NOMEM;
}

void mp_walvfs_close(mp_walvfs *vfs)
{
  if (vfs->vfs.zName)
    sqlite3_vfs_unregister(&vfs->vfs);
  vfs->vfs.zName = NULL;
}

const char *mp_walvfs_name(const mp_walvfs *vfs)
{
  return vfs->name;
}
