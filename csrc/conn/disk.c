#include "conn/disk.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int sync_folder(const char *path)
{
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  int rc = fsync(fd), kept = errno;
  close(fd);
  errno = kept;
  return rc;
}

/* Makes the folder that path[0..len) names. `path` is whole again afterwards. */
static int make_one(char *path, size_t len, unsigned mode)
{
  char cut = path[len];
  path[len] = '\0';
  int rc = mkdir(path, mode), sys = errno;
  /* Some file systems refuse before they look whether it is there. */
  bool there = rc < 0 && (sys == EEXIST || access(path, F_OK) == 0);
  path[len] = cut;
  if (rc < 0) {
    errno = sys;
    return there ? 0 : -1;
  }
  size_t parent = len;
  while (parent > 0 && path[parent - 1] != '/')
    parent--;
  cut = path[parent];
  path[parent] = '\0';
  rc = sync_folder(parent ? path : ".");
  path[parent] = cut;
  return rc;
}

int mp_disk_folder(const char *path, unsigned mode)
{
  size_t len = strlen(path);
  char *copy = mp_mem_dup(path, len);
  if (!copy) {
    errno = ENOMEM;
    return -1;
  }
  int rc = 0;
  for (size_t i = 1; i <= len && rc == 0; i++) {
    if (i == len || copy[i] == '/')
      rc = make_one(copy, i, mode);
  }
  int kept = errno;
  mp_mem_free(copy);
  errno = kept;
  return rc;
}

int mp_disk_open_folder(const char *path, unsigned mode)
{
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0 || errno != ENOENT || mode == 0)
    return fd;
  return mp_disk_folder(path, mode) < 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int mp_disk_write(int fd, mp_str octets)
{
  while (octets.len) {
    ssize_t n = write(fd, octets.ptr, octets.len);
    if (n < 0 && errno != EINTR)
      return -1;
    octets = mp_str_sub(octets, n > 0 ? (size_t)n : 0, octets.len);
  }
  return 0;
}

unsigned mp_disk_folder_mode(unsigned mode)
{
  return 0700 | mode | (mode & 0444) >> 2;
}
