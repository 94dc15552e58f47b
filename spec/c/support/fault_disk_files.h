/* support/fault_disk_files.h -- the files of support/fault_disk.h: what is written, what was synced, what fails. For that header alone. */
#ifndef MP_SPEC_FAULT_DISK_FILES_H
#define MP_SPEC_FAULT_DISK_FILES_H

#include "support/check.h"

#include "base/error.h"
#include "spool/disk.h"

#include <sqlite3.h>

enum { FAULT_FILES = 4096, FAULT_HANDLES = 64, FAULT_REGIONS = 16, FAULT_BLOCK = 512, FAULT_TRACE = 8192 };

typedef struct fault_file {
  char path[160];   /* "": no name */
  char kept[160];   /* the name it has after a kill; "": none */
  char *now, *safe; /* octets as written, and as synced */
  size_t now_len, safe_len, now_cap, safe_cap;
  char *dirty; /* blocks that the next sync has to write */
  size_t dirty_len, dirty_cap;
  int uses;                           /* handles */
  void *regions[FAULT_REGIONS];       /* of the shared memory that SQLite keeps beside a database */
  int shared[SQLITE_SHM_NLOCK], maps; /* -1: exclusive */
  bool used;
} fault_file;

typedef struct fault_disk {
  mp_spool_disk calls;
  sqlite3_vfs vfs;
  fault_file files[FAULT_FILES];
  fault_file *handles[FAULT_HANDLES];
  uint64_t seed;
  uint64_t room;      /* octets that are free */
  uint64_t hidden;    /* of these are in truth not */
  long kill_after;    /* calls that change something until the kill; -1: none */
  long syncs_to_fail; /* syncs until one fails; -1: none */
  long slept_us;      /* nobody really sleeps */
  bool read_only, io_error;
  bool unreadable;         /* the spool's own calls open nothing: there are no descriptors left, say */
  bool dead;               /* killed: every call fails until fault_disk_revive */
  bool chance;             /* at the kill, some of what was not synced survives */
  char trace[FAULT_TRACE]; /* "w" write, "s" sync, "d" folder sync, "n" name, "r" remove; each with the end of the path, and a line end */
  char name[32];
} fault_disk;

typedef struct fault_vfs_file {
  sqlite3_file base;
  fault_disk *disk;
  fault_file *file;
  bool delete_on_close;
} fault_vfs_file;

static uint64_t fault_random(fault_disk *disk)
{
  disk->seed ^= disk->seed << 13;
  disk->seed ^= disk->seed >> 7;
  disk->seed ^= disk->seed << 17;
  return disk->seed;
}

static void fault_note(fault_disk *disk, char what, const char *path)
{
  size_t used = strlen(disk->trace);
  const char *name = strrchr(path, '/');
  snprintf(disk->trace + used, sizeof disk->trace - used, "%c %s\n", what, name ? name + 1 : path);
}

static fault_file *fault_find(fault_disk *disk, const char *path)
{
  for (size_t i = 0; i < FAULT_FILES; i++)
    if (disk->files[i].used && strcmp(disk->files[i].path, path) == 0)
      return &disk->files[i];
  return NULL;
}

static fault_file *fault_make(fault_disk *disk, const char *path)
{
  for (size_t i = 0; i < FAULT_FILES; i++)
    if (!disk->files[i].used) {
      fault_file *f = &disk->files[i];
      *f = (fault_file){ .used = true };
      snprintf(f->path, sizeof f->path, "%s", path);
      return f;
    }
  FAIL("too many files");
  return NULL;
}

static void fault_free(fault_file *f)
{
  free(f->now);
  free(f->safe);
  free(f->dirty);
  for (size_t i = 0; i < FAULT_REGIONS; i++)
    free(f->regions[i]);
  *f = (fault_file){ .used = false };
}

/* The file's entry reaches the disk. What had that name there is not found by it any more. */
static void fault_keep(fault_disk *disk, fault_file *f)
{
  for (size_t i = 0; *f->path && i < FAULT_FILES; i++)
    if (disk->files[i].used && &disk->files[i] != f && strcmp(disk->files[i].kept, f->path) == 0)
      disk->files[i].kept[0] = '\0';
  memcpy(f->kept, f->path, sizeof f->kept);
}

/* A file without a name, here and after a kill, and without a handle is gone. */
static void fault_collect(fault_file *f)
{
  if (f->uses == 0 && !*f->path && !*f->kept)
    fault_free(f);
}

/* Counts a change; false: the disk is dead, and nothing happens any more. */
static bool fault_alive(fault_disk *disk)
{
  if (disk->kill_after == 0)
    disk->dead = true;
  else if (disk->kill_after > 0)
    disk->kill_after--;
  return !disk->dead;
}

static bool fault_resize(char **octets, size_t *len, size_t *cap, size_t want)
{
  if (want > *cap) {
    *cap = want * 2;
    *octets = realloc(*octets, *cap);
  }
  if (want > *len)
    memset(*octets + *len, 0, want - *len);
  *len = want;
  return true;
}

static int fault_write_at(fault_disk *disk, fault_file *f, const void *octets, size_t len, uint64_t offset)
{
  if (!fault_alive(disk) || disk->io_error || disk->read_only)
    return MP_E_IO;
  size_t end = (size_t)offset + len;
  size_t more = end > f->now_len ? end - f->now_len : 0;
  if (more > 0 && more + disk->hidden > disk->room)
    return MP_E_NOSPACE;
  disk->room -= more;
  size_t from = (size_t)offset < f->now_len ? (size_t)offset : f->now_len;
  if (more)
    fault_resize(&f->now, &f->now_len, &f->now_cap, end);
  if (end / FAULT_BLOCK + 1 > f->dirty_len)
    fault_resize(&f->dirty, &f->dirty_len, &f->dirty_cap, end / FAULT_BLOCK + 1);
  for (size_t block = from / FAULT_BLOCK; block <= end / FAULT_BLOCK; block++)
    f->dirty[block] = 1;
  memcpy(f->now + offset, octets, len);
  fault_note(disk, 'w', f->path);
  return 0;
}

static void fault_save(fault_file *f)
{
  fault_resize(&f->safe, &f->safe_len, &f->safe_cap, f->now_len);
  for (size_t at = 0; at < f->now_len; at += FAULT_BLOCK) {
    size_t n = f->now_len - at < FAULT_BLOCK ? f->now_len - at : FAULT_BLOCK;
    if (f->dirty[at / FAULT_BLOCK])
      memcpy(f->safe + at, f->now + at, n);
  }
  if (f->dirty_len)
    memset(f->dirty, 0, f->dirty_len);
}

/* A sync that fails says so once: what it was to write counts as written from then on, and is not (as Linux does it). */
static bool fault_fails(fault_disk *disk, fault_file *f)
{
  if (disk->syncs_to_fail < 0 || disk->syncs_to_fail-- > 0)
    return false;
  if (f && f->dirty_len)
    memset(f->dirty, 0, f->dirty_len);
  return true;
}

static int fault_sync_file(fault_disk *disk, fault_file *f)
{
  if (!fault_alive(disk) || disk->io_error || fault_fails(disk, f))
    return MP_E_IO;
  fault_note(disk, 's', f->path);
  fault_save(f);
  return 0;
}

static int fault_unlink(fault_disk *disk, const char *path)
{
  if (!fault_alive(disk) || disk->read_only)
    return MP_E_IO;
  fault_file *f = fault_find(disk, path);
  if (!f)
    return MP_E_NOTFOUND;
  fault_note(disk, 'r', path);
  disk->room += f->now_len;
  f->path[0] = '\0';
  fault_collect(f);
  return 0;
}

#endif
