/* spool/gather.h -- a SQLite VFS in front of another, that gathers what is appended to the write-ahead log, and writes it at once when the log is
 * synced. SQLite writes each page by two calls; a commit of five messages has twenty of them, and they take longer than the memory they fill. */
#ifndef MP_SPOOL_GATHER_H
#define MP_SPOOL_GATHER_H

#include <sqlite3.h>

typedef struct mp_gather {
  sqlite3_vfs vfs;
  sqlite3_vfs *inner;
  char name[48];
} mp_gather;

/* Registers it, under a name of its own, in front of the VFS that `inner` names (NULL: SQLite's default). It stays where it is until mp_gather_close.
 * 0, MP_E_NOTFOUND where there is no such VFS, or MP_E_NOMEM. */
int mp_gather_open(mp_gather *gather, const char *inner);

/* When no connection uses it any more; one that was never opened (zeroes) is fine. */
void mp_gather_close(mp_gather *gather);

/* For sqlite3_open_v2. */
const char *mp_gather_name(const mp_gather *gather);

#endif
