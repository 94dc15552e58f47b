/* support/fault_disk.h -- a disk in memory, for the spool: its files, and the SQLite VFS over the same ones. It remembers what was synced. At the kill
 * every write and folder entry that was not is lost, or (by chance) some of them are not; it can be full, and fail.
 *
 *   fault_disk disk;
 *   fault_disk_init(&disk, seed);
 *   opts.disk = &disk.calls, opts.vfs = disk.vfs.zName;
 *
 * One thread. Paths are whatever the spool makes of its folder's name; folders need no syncing of their own, entries do. */
#ifndef MP_SPEC_FAULT_DISK_H
#define MP_SPEC_FAULT_DISK_H

#include "support/fault_vfs.h"

/* ---- the spool's calls --------------------------------------------------------------------------------------------- */

static int fault_handle(fault_disk *disk, fault_file *f)
{
  for (int i = 0; f && i < FAULT_HANDLES; i++)
    if (!disk->handles[i]) {
      disk->handles[i] = f;
      f->uses++;
      return i;
    }
  return MP_E_IO;
}

static int fault_folder(void *ctx, const char *path)
{
  (void)path;
  return ((fault_disk *)ctx)->dead ? MP_E_IO : 0;
}

static int fault_lock(void *ctx, const char *path, char *holder, size_t size)
{
  (void)path;
  (void)holder;
  (void)size;
  return ((fault_disk *)ctx)->dead ? MP_E_IO : 0;
}

static void fault_unlock(void *ctx, int lock)
{
  (void)ctx;
  (void)lock;
}

static int fault_unnamed(void *ctx, const char *folder)
{
  fault_disk *disk = ctx;
  (void)folder;
  return fault_alive(disk) && !disk->read_only ? fault_handle(disk, fault_make(disk, "")) : MP_E_IO;
}

static int fault_name(void *ctx, int fd, const char *path)
{
  fault_disk *disk = ctx;
  if (!fault_alive(disk) || disk->read_only)
    return MP_E_IO;
  if (fault_find(disk, path))
    return MP_E_EXISTS;
  snprintf(disk->handles[fd]->path, sizeof disk->handles[fd]->path, "%s", path);
  fault_note(disk, 'n', path);
  return 0;
}

static int fault_open(void *ctx, const char *path)
{
  fault_disk *disk = ctx;
  if (disk->dead)
    return MP_E_IO;
  if (strlen(path) > 3 && strcmp(path + strlen(path) - 3, "/ff") == 0)
    return MP_E_NOTFOUND; /* folders are everywhere */
  if (disk->unreadable)
    return MP_E_IO;
  fault_file *f = fault_find(disk, path);
  return f ? fault_handle(disk, f) : MP_E_NOTFOUND;
}

static int fault_write(void *ctx, int fd, mp_str octets)
{
  fault_disk *disk = ctx;
  return fault_write_at(disk, disk->handles[fd], octets.ptr, octets.len, disk->handles[fd]->now_len);
}

static mp_ssize fault_read(void *ctx, int fd, char *into, size_t size, uint64_t offset)
{
  fault_disk *disk = ctx;
  fault_file *f = disk->handles[fd];
  if (disk->dead || disk->io_error)
    return MP_E_IO;
  size_t n = offset >= f->now_len ? 0 : f->now_len - (size_t)offset;
  n = n < size ? n : size;
  if (n)
    memcpy(into, f->now + offset, n);
  return (mp_ssize)n;
}

static mp_ssize fault_length(void *ctx, int fd)
{
  return (mp_ssize)((fault_disk *)ctx)->handles[fd]->now_len;
}

static int fault_sync(void *ctx, int fd)
{
  fault_disk *disk = ctx;
  return fault_sync_file(disk, disk->handles[fd]);
}

/* Entries of files in this folder, or below: one level does. */
static int fault_sync_folder(void *ctx, const char *path)
{
  fault_disk *disk = ctx;
  size_t len = strlen(path);
  if (!fault_alive(disk) || disk->io_error || fault_fails(disk, NULL))
    return MP_E_IO;
  fault_note(disk, 'd', path);
  for (size_t i = 0; i < FAULT_FILES; i++) {
    fault_file *f = &disk->files[i];
    if (!f->used)
      continue;
    bool here = strncmp(f->path, path, len) == 0 && f->path[len] == '/' && !strchr(f->path + len + 1, '/');
    bool was = strncmp(f->kept, path, len) == 0 && f->kept[len] == '/' && !strchr(f->kept + len + 1, '/');
    if (here || was) {
      fault_keep(disk, f);
      fault_collect(f);
    }
  }
  return 0;
}

static void fault_close(void *ctx, int fd)
{
  fault_disk *disk = ctx;
  fault_file *f = disk->handles[fd];
  disk->handles[fd] = NULL;
  f->uses--;
  fault_collect(f);
}

static int fault_rename(void *ctx, const char *from, const char *to)
{
  (void)ctx;
  (void)from;
  (void)to;
  return MP_E_IO; /* nobody does */
}

static int fault_remove(void *ctx, const char *path)
{
  return fault_unlink(ctx, path);
}

static int fault_cut(void *ctx, const char *path, uint64_t length)
{
  fault_disk *disk = ctx;
  fault_file *f = fault_find(disk, path);
  if (!fault_alive(disk) || disk->io_error || disk->read_only)
    return MP_E_IO;
  if (f && f->now_len > length)
    f->now_len = (size_t)length;
  return 0;
}

static int fault_list(void *ctx, const char *path, int (*each)(void *arg, const char *name), void *arg)
{
  fault_disk *disk = ctx;
  size_t len = strlen(path);
  int rc = disk->dead ? MP_E_IO : 0;
  for (size_t i = 0; rc == 0 && i < FAULT_FILES; i++) {
    fault_file *f = &disk->files[i];
    if (f->used && strncmp(f->path, path, len) == 0 && f->path[len] == '/')
      rc = each(arg, f->path + len + 1);
  }
  return rc;
}

static int fault_space(void *ctx, const char *path, uint64_t *available, uint64_t *total)
{
  (void)path;
  *available = ((fault_disk *)ctx)->room;
  *total = (uint64_t)1 << 30;
  return 0;
}

/* ---- for tests ----------------------------------------------------------------------------------------------------- */

__attribute__((unused)) static void fault_disk_init(fault_disk *disk, uint64_t seed)
{
  static int serial;
  memset(disk, 0, sizeof *disk);
  disk->seed = seed * 0x9e3779b97f4a7c15u + 1;
  disk->room = (uint64_t)1 << 30;
  disk->kill_after = disk->syncs_to_fail = -1;
  snprintf(disk->name, sizeof disk->name, "fault-%d", ++serial);
  disk->calls = (mp_spool_disk){ .ctx = disk,
                                 .folder = fault_folder,
                                 .lock = fault_lock,
                                 .unlock = fault_unlock,
                                 .unnamed = fault_unnamed,
                                 .name = fault_name,
                                 .open = fault_open,
                                 .write = fault_write,
                                 .read = fault_read,
                                 .length = fault_length,
                                 .sync = fault_sync,
                                 .sync_folder = fault_sync_folder,
                                 .close = fault_close,
                                 .rename = fault_rename,
                                 .remove = fault_remove,
                                 .cut = fault_cut,
                                 .list = fault_list,
                                 .space = fault_space };
  disk->vfs = (sqlite3_vfs){ .iVersion = 2,
                             .szOsFile = sizeof(fault_vfs_file),
                             .mxPathname = 150,
                             .zName = disk->name,
                             .pAppData = disk,
                             .xOpen = vfs_open,
                             .xDelete = vfs_delete,
                             .xAccess = vfs_access,
                             .xFullPathname = vfs_full,
                             .xRandomness = vfs_randomness,
                             .xSleep = vfs_sleep,
                             .xGetLastError = vfs_last_error,
                             .xCurrentTimeInt64 = vfs_time };
  sqlite3_vfs_register(&disk->vfs, 0);
}

/* What the machine finds when it is switched on again. Nobody may have a file open. */
__attribute__((unused)) static void fault_disk_revive(fault_disk *disk)
{
  for (size_t i = 0; i < FAULT_FILES; i++) {
    fault_file *f = &disk->files[i];
    if (!f->used)
      continue;
    f->uses = 0;
    fault_unmap(f);
    /* an entry that was not synced is lost, one that was removed is back, unless another has its name */
    if (!disk->chance || fault_random(disk) % 2 || (*f->path && fault_find(disk, f->path) != f))
      memcpy(f->path, f->kept, sizeof f->path);
    fault_keep(disk, f);
    if (disk->chance)
      /* blocks reach the disk in any order */
      for (size_t at = 0; at < f->now_len; at += FAULT_BLOCK) {
        size_t n = f->now_len - at < FAULT_BLOCK ? f->now_len - at : FAULT_BLOCK;
        if (fault_random(disk) % 2)
          continue;
        if (at + n > f->safe_len)
          fault_resize(&f->safe, &f->safe_len, &f->safe_cap, at + n);
        memcpy(f->safe + at, f->now + at, n);
      }
    fault_resize(&f->now, &f->now_len, &f->now_cap, f->safe_len);
    if (f->safe_len)
      memcpy(f->now, f->safe, f->safe_len);
    if (f->dirty_len)
      memset(f->dirty, 0, f->dirty_len);
    fault_collect(f);
  }
  memset(disk->handles, 0, sizeof disk->handles);
  disk->dead = disk->io_error = disk->read_only = disk->unreadable = false;
  disk->kill_after = disk->syncs_to_fail = -1;
  disk->room = (uint64_t)1 << 30;
  disk->hidden = 0;
}

__attribute__((unused)) static void fault_disk_dispose(fault_disk *disk)
{
  sqlite3_vfs_unregister(&disk->vfs);
  for (size_t i = 0; i < FAULT_FILES; i++)
    if (disk->files[i].used)
      fault_free(&disk->files[i]);
}

#endif
