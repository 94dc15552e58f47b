/* spool/walvfs.h -- a SQLite VFS in front of another, that gathers what is appended to the write-ahead log, and writes it at once when the log is
 * synced. SQLite writes each page by two calls; a commit of five messages has twenty of them, and they take longer than the memory they fill. */
#ifndef MP_SPOOL_WALVFS_H
#define MP_SPOOL_WALVFS_H

#include <sqlite3.h>

typedef struct mp_walvfs {
  sqlite3_vfs vfs;
  sqlite3_vfs *inner;
  char name[48];
} mp_walvfs;

/* Registers it, under a name of its own, in front of the VFS that `inner` names (NULL: SQLite's default). It stays where it is until mp_walvfs_close.
 * 0, MP_E_NOTFOUND where there is no such VFS, or MP_E_NOMEM. */
int mp_walvfs_open(mp_walvfs *vfs, const char *inner);

/* When no connection uses it any more; one that was never opened (zeroes) is fine. */
void mp_walvfs_close(mp_walvfs *vfs);

/* For sqlite3_open_v2. */
const char *mp_walvfs_name(const mp_walvfs *vfs);

#endif
