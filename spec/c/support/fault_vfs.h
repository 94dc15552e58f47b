/* support/fault_vfs.h -- the SQLite VFS of support/fault_disk.h, over the same files. For that header alone. */
#ifndef MP_SPEC_FAULT_VFS_H
#define MP_SPEC_FAULT_VFS_H

#include "support/fault_disk_files.h"

static int fault_code(int err, int code)
{
  return err == 0 ? SQLITE_OK : err == MP_E_NOSPACE ? SQLITE_FULL : code;
}

static int vfs_close(sqlite3_file *base)
{
  fault_vfs_file *v = (fault_vfs_file *)(void *)base;
  v->file->uses--;
  if (v->delete_on_close)
    v->file->path[0] = '\0';
  fault_collect(v->file);
  return SQLITE_OK;
}

static int vfs_read(sqlite3_file *base, void *into, int size, sqlite3_int64 offset)
{
  fault_vfs_file *v = (fault_vfs_file *)(void *)base;
  fault_file *f = v->file;
  if (v->disk->dead || v->disk->io_error)
    return SQLITE_IOERR_READ;
  size_t have = (uint64_t)offset >= f->now_len ? 0 : f->now_len - (size_t)offset;
  size_t n = have < (size_t)size ? have : (size_t)size;
  if (n)
    memcpy(into, f->now + offset, n);
  memset((char *)into + n, 0, (size_t)size - n);
  return n == (size_t)size ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int vfs_write(sqlite3_file *base, const void *octets, int size, sqlite3_int64 offset)
{
  fault_vfs_file *v = (fault_vfs_file *)(void *)base;
  return fault_code(fault_write_at(v->disk, v->file, octets, (size_t)size, (uint64_t)offset), SQLITE_IOERR_WRITE);
}

static int vfs_truncate(sqlite3_file *base, sqlite3_int64 size)
{
  fault_vfs_file *v = (fault_vfs_file *)(void *)base;
  if (!fault_alive(v->disk) || v->disk->io_error || v->disk->read_only)
    return SQLITE_IOERR_TRUNCATE;
  if (v->file->now_len > (size_t)size) {
    v->disk->room += v->file->now_len - (size_t)size;
    v->file->now_len = (size_t)size;
  }
  return SQLITE_OK;
}

static int vfs_sync(sqlite3_file *base, int flags)
{
  fault_vfs_file *v = (fault_vfs_file *)(void *)base;
  (void)flags;
  int err = fault_sync_file(v->disk, v->file);
  /* SQLite's own VFS syncs the folder with the first sync of a file that it made. */
  if (err == 0)
    fault_keep(v->disk, v->file);
  return fault_code(err, SQLITE_IOERR_FSYNC);
}

static int vfs_size(sqlite3_file *base, sqlite3_int64 *size)
{
  *size = (sqlite3_int64)((fault_vfs_file *)(void *)base)->file->now_len;
  return SQLITE_OK;
}

/* The spool's lock keeps others away; its own two connections share nothing but what the log's locks below tell them. */
static int vfs_lock(sqlite3_file *base, int how)
{
  (void)base;
  (void)how;
  return SQLITE_OK;
}

static int vfs_locked(sqlite3_file *base, int *out)
{
  (void)base;
  *out = 0;
  return SQLITE_OK;
}

static int vfs_control(sqlite3_file *base, int op, void *arg)
{
  (void)base;
  (void)op;
  (void)arg;
  return SQLITE_NOTFOUND;
}

static int vfs_sector(sqlite3_file *base)
{
  (void)base;
  return FAULT_BLOCK;
}

static int vfs_traits(sqlite3_file *base)
{
  (void)base;
  return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int shm_map(sqlite3_file *base, int region, int size, int extend, void volatile **out)
{
  fault_file *f = ((fault_vfs_file *)(void *)base)->file;
  *out = NULL;
  if (region >= FAULT_REGIONS)
    return SQLITE_IOERR_SHMMAP;
  if (!f->regions[region] && extend)
    f->regions[region] = calloc(1, (size_t)size);
  *out = f->regions[region];
  return SQLITE_OK;
}

static int shm_lock(sqlite3_file *base, int offset, int n, int flags)
{
  fault_file *f = ((fault_vfs_file *)(void *)base)->file;
  for (int i = offset; i < offset + n; i++) {
    if ((flags & SQLITE_SHM_LOCK) && (flags & SQLITE_SHM_EXCLUSIVE) && f->shared[i] != 0)
      return SQLITE_BUSY;
    if ((flags & SQLITE_SHM_LOCK) && (flags & SQLITE_SHM_SHARED) && f->shared[i] < 0)
      return SQLITE_BUSY;
  }
  for (int i = offset; i < offset + n; i++)
    if (flags & SQLITE_SHM_LOCK)
      f->shared[i] = flags & SQLITE_SHM_EXCLUSIVE ? -1 : f->shared[i] + 1;
    else
      f->shared[i] = flags & SQLITE_SHM_EXCLUSIVE ? 0 : f->shared[i] > 0 ? f->shared[i] - 1 : 0;
  return SQLITE_OK;
}

static void shm_barrier(sqlite3_file *base)
{
  (void)base;
}

static void fault_unmap(fault_file *f)
{
  for (size_t i = 0; i < FAULT_REGIONS; i++) {
    free(f->regions[i]);
    f->regions[i] = NULL;
  }
  memset(f->shared, 0, sizeof f->shared);
}

/* As the system's: the memory is new for who opens first. */
static int shm_unmap(sqlite3_file *base, int remove)
{
  fault_file *f = ((fault_vfs_file *)(void *)base)->file;
  (void)remove;
  if (f->uses == 1)
    fault_unmap(f);
  return SQLITE_OK;
}

static const sqlite3_io_methods fault_methods = {
  .iVersion = 2,
  .xClose = vfs_close,
  .xRead = vfs_read,
  .xWrite = vfs_write,
  .xTruncate = vfs_truncate,
  .xSync = vfs_sync,
  .xFileSize = vfs_size,
  .xLock = vfs_lock,
  .xUnlock = vfs_lock,
  .xCheckReservedLock = vfs_locked,
  .xFileControl = vfs_control,
  .xSectorSize = vfs_sector,
  .xDeviceCharacteristics = vfs_traits,
  .xShmMap = shm_map,
  .xShmLock = shm_lock,
  .xShmBarrier = shm_barrier,
  .xShmUnmap = shm_unmap,
};

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *out)
{
  fault_disk *disk = vfs->pAppData;
  fault_vfs_file *v = (fault_vfs_file *)(void *)base;
  *v = (fault_vfs_file){ .disk = disk };
  if (disk->dead)
    return SQLITE_CANTOPEN;
  v->file = path ? fault_find(disk, path) : NULL;
  if (!v->file && !(flags & SQLITE_OPEN_CREATE))
    return SQLITE_CANTOPEN;
  if (!v->file && (!fault_alive(disk) || disk->read_only))
    return SQLITE_CANTOPEN;
  if (!v->file)
    v->file = fault_make(disk, path ? path : "");
  if (!v->file)
    return SQLITE_CANTOPEN;
  v->delete_on_close = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
  v->file->uses++;
  v->base.pMethods = &fault_methods;
  if (out)
    *out = flags;
  return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync)
{
  (void)sync;
  int err = fault_unlink(vfs->pAppData, path);
  return err == MP_E_NOTFOUND ? SQLITE_IOERR_DELETE_NOENT : fault_code(err, SQLITE_IOERR_DELETE);
}

static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *out)
{
  fault_file *f = fault_find(vfs->pAppData, path);
  *out = f && (flags != SQLITE_ACCESS_EXISTS || f->now_len > 0);
  return SQLITE_OK;
}

static int vfs_full(sqlite3_vfs *vfs, const char *path, int size, char *out)
{
  (void)vfs;
  snprintf(out, (size_t)size, "%s", path);
  return SQLITE_OK;
}

static int vfs_randomness(sqlite3_vfs *vfs, int size, char *out)
{
  for (int i = 0; i < size; i++)
    out[i] = (char)(fault_random(vfs->pAppData) >> 32);
  return size;
}

static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
  ((fault_disk *)vfs->pAppData)->slept_us += us;
  return us;
}

static int vfs_time(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
  (void)vfs;
  *out = 210866760000000;
  return SQLITE_OK;
}

static int vfs_last_error(sqlite3_vfs *vfs, int size, char *out)
{
  (void)vfs;
  (void)size;
  (void)out;
  return 0;
}

#endif
