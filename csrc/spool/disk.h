/* spool/disk.h -- the calls by which the spool reaches files other than the database. A table, so that a test may put a disk in its place that loses what
 * was not synced, fills up, or fails. Each returns 0 (or what it says), or a negative error: MP_E_NOSPACE, MP_E_NOTFOUND, MP_E_EXISTS, MP_E_NOMEM,
 * MP_E_IO for all the rest. Paths end with NUL. */
#ifndef MP_SPOOL_DISK_H
#define MP_SPOOL_DISK_H

#include "base/str.h"

typedef struct mp_spool_disk {
  void *ctx;
  int (*folder)(void *ctx, const char *path); /* makes it, 0700; one that is there is fine */
  /* Takes the lock that `path` stands for, until `unlock`; a holder that dies loses it. On MP_E_INUSE `holder` says who has it. */
  int (*lock)(void *ctx, const char *path, char *holder, size_t size);
  void (*unlock)(void *ctx, int lock); /* what `lock` returned */
  int (*unnamed)(void *ctx, const char *folder); /* a file to write, gone when it is closed without a name; a descriptor */
  int (*name)(void *ctx, int fd, const char *path);
  int (*open)(void *ctx, const char *path);                                      /* to read; a descriptor */
  int (*write)(void *ctx, int fd, mp_str octets);                                /* all of it, at the end */
  mp_ssize (*read)(void *ctx, int fd, char *into, size_t size, uint64_t offset); /* short only at the end of the file */
  mp_ssize (*length)(void *ctx, int fd);
  int (*sync)(void *ctx, int fd);
  int (*sync_folder)(void *ctx, const char *path);
  void (*close)(void *ctx, int fd);
  int (*rename)(void *ctx, const char *from, const char *to);
  int (*remove)(void *ctx, const char *path);
  int (*cut)(void *ctx, const char *path,
             uint64_t length); /* shortens a file; one that is shorter, or not there, is fine */
  /* Calls `each` for every name that is not hidden, until it returns other than 0, which is then returned. */
  int (*list)(void *ctx, const char *path, int (*each)(void *arg, const char *name), void *arg);
  int (*space)(void *ctx, const char *path, uint64_t *available, uint64_t *total);
} mp_spool_disk;

/* The system's. */
extern const mp_spool_disk mp_spool_disk_system;

#endif
