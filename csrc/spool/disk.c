#include "spool/disk.h"

#include "base/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static int last_error(void)
{
  int err = mp_error_errno(errno);
  return err == MP_E_SYSTEM || err == MP_E_DENIED ? MP_E_IO : err;
}

static int open_at(const char *path, int flags)
{
  int fd;
  do {
    fd = open(path, flags | O_CLOEXEC, 0600);
  } while (fd < 0 && errno == EINTR);
  return fd < 0 ? last_error() : fd;
}

static int disk_folder(void *ctx, const char *path)
{
  (void)ctx;
  return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : last_error();
}

/* Who holds it stands in the file itself, for people and for the error of who comes second. */
static void read_holder(int fd, char *holder, size_t size)
{
  ssize_t n = pread(fd, holder, size - 1, 0);
  holder[n > 0 ? n : 0] = '\0';
  holder[strcspn(holder, "\n")] = '\0';
}

static int disk_lock(void *ctx, const char *path, char *holder, size_t size)
{
  (void)ctx;
  /* Its text is replaced: in a folder that somebody else made it must not lead to another file. */
  int fd = open_at(path, O_RDWR | O_CREAT | O_NOFOLLOW);
  if (fd < 0)
    return fd;
  /* flock, not fcntl: it also holds against a second opening by this process, and no close of another descriptor ends it. */
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    int err = errno == EWOULDBLOCK ? MP_E_INUSE : last_error();
    read_holder(fd, holder, size);
    close(fd);
    return err;
  }
  char host[256] = "", line[512], start[64];
  struct tm tm;
  time_t now = time(NULL);
  gethostname(host, sizeof host - 1);
  strftime(start, sizeof start, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &tm));
  int len = snprintf(line, sizeof line, "process %ld on %s, since %s\n", (long)getpid(), host, start);
  /* The text is for people: a disk that is full must not keep the spool from being emptied. */
  if (ftruncate(fd, 0) == 0 && pwrite(fd, line, (size_t)len, 0) < 0)
    errno = 0;
  return fd;
}

static void disk_close(void *ctx, int fd)
{
  (void)ctx;
  close(fd);
}

static int disk_unnamed(void *ctx, const char *folder)
{
  (void)ctx;
  return open_at(folder, O_RDWR | O_TMPFILE);
}

static int disk_name(void *ctx, int fd, const char *path)
{
  (void)ctx;
  char self[64];
  snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
  return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0 ? 0 : last_error();
}

static int disk_open(void *ctx, const char *path)
{
  (void)ctx;
  return open_at(path, O_RDONLY);
}

static int disk_write(void *ctx, int fd, mp_str octets)
{
  (void)ctx;
  while (octets.len > 0) {
    ssize_t n = write(fd, octets.ptr, octets.len);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return last_error();
    octets = mp_str_sub(octets, (size_t)n, octets.len);
  }
  return 0;
}

static mp_ssize disk_read(void *ctx, int fd, char *into, size_t size, uint64_t offset)
{
  (void)ctx;
  size_t got = 0;
  while (got < size) {
    ssize_t n = pread(fd, into + got, size - got, (off_t)(offset + got));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return last_error();
    if (n == 0)
      break;
    got += (size_t)n;
  }
  return (mp_ssize)got;
}

static mp_ssize disk_length(void *ctx, int fd)
{
  (void)ctx;
  struct stat st;
  return fstat(fd, &st) == 0 ? (mp_ssize)st.st_size : last_error();
}

static int disk_sync(void *ctx, int fd)
{
  (void)ctx;
  return fsync(fd) == 0 ? 0 : last_error();
}

static int disk_sync_folder(void *ctx, const char *path)
{
  int fd = open_at(path, O_RDONLY | O_DIRECTORY);
  if (fd < 0)
    return fd;
  int rc = disk_sync(ctx, fd);
  close(fd);
  return rc;
}

static int disk_rename(void *ctx, const char *from, const char *to)
{
  (void)ctx;
  return rename(from, to) == 0 ? 0 : last_error();
}

static int disk_remove(void *ctx, const char *path)
{
  (void)ctx;
  return unlink(path) == 0 ? 0 : last_error();
}

static int disk_cut(void *ctx, const char *path, uint64_t length)
{
  (void)ctx;
  struct stat st;
  if (stat(path, &st) != 0)
    return errno == ENOENT ? 0 : last_error();
  return (uint64_t)st.st_size <= length || truncate(path, (off_t)length) == 0 ? 0 : last_error();
}

static int disk_list(void *ctx, const char *path, int (*each)(void *arg, const char *name), void *arg)
{
  (void)ctx;
  DIR *dir = opendir(path);
  if (!dir)
    return last_error();
  int rc = 0;
  for (struct dirent *entry; rc == 0 && (entry = readdir(dir));)
    if (entry->d_name[0] != '.')
      rc = each(arg, entry->d_name);
  closedir(dir);
  return rc;
}

static int disk_space(void *ctx, const char *path, uint64_t *available, uint64_t *total)
{
  (void)ctx;
  struct statvfs st;
  if (statvfs(path, &st) != 0)
    return last_error();
  *available = (uint64_t)st.f_bavail * st.f_frsize;
  *total = (uint64_t)st.f_blocks * st.f_frsize;
  return 0;
}

const mp_spool_disk mp_spool_disk_system = {
  .folder = disk_folder,
  .lock = disk_lock,
  .unlock = disk_close,
  .unnamed = disk_unnamed,
  .name = disk_name,
  .open = disk_open,
  .write = disk_write,
  .read = disk_read,
  .length = disk_length,
  .sync = disk_sync,
  .sync_folder = disk_sync_folder,
  .close = disk_close,
  .rename = disk_rename,
  .remove = disk_remove,
  .cut = disk_cut,
  .list = disk_list,
  .space = disk_space,
};
