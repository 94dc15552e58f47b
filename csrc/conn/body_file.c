#include "conn/body_file.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <unistd.h>

enum { SCRATCH = 65536, RESERVE = 1 << 20 };

mp_body_file mp_body_file_take(mp_body_store *store)
{
  return store->idle_count ? store->idle[--store->idle_count] : (mp_body_file){ .fd = -1 };
}

bool mp_body_file_keep(mp_body_store *store, mp_body_file *file)
{
  if (file->fd < 0)
    return true;
  if (store->idle_count == MP_BODY_FILES_IDLE || file->size > MP_BODY_FILE_KEEP)
    return false;
  store->idle[store->idle_count++] = *file;
  return true;
}

void mp_body_file_close(mp_body_file *file)
{
  if (file->fd >= 0)
    close(file->fd);
  file->fd = -1;
}

void mp_body_file_drop_idle(mp_body_store *store)
{
  while (store->idle_count)
    mp_body_file_close(&store->idle[--store->idle_count]);
}

/* A file without a name. Where the file system knows none, a name for a moment. */
static int open_unnamed(const char *folder)
{
  int fd = open(folder, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT))
    return fd;
  char path[4096];
  size_t len = strlen(folder);
  static const char name[] = "/moonpost-XXXXXX";
  if (len + sizeof name > sizeof path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(path, folder, len);
  memcpy(path + len, name, sizeof name);
  fd = mkostemp(path, O_CLOEXEC);
  if (fd >= 0)
    unlink(path);
  return fd;
}

/* Asks for room ahead of the writes, which are half as fast again when the file system does not have to look for it page by page. Where
 * that cannot be had the writes do without, and when there is none they say so. */
static void reserve(mp_body_file *file, uint64_t end)
{
  while (file->room < end) {
    if (fallocate(file->fd, FALLOC_FL_KEEP_SIZE, (off_t)file->room, RESERVE) < 0) {
      file->room = UINT64_MAX;
      return;
    }
    file->room += RESERVE;
  }
}

int mp_body_file_write(mp_body_file *file, const char *folder, struct iovec *iov, size_t count, uint64_t at)
{
  if (file->fd < 0)
    file->fd = open_unnamed(folder);
  if (file->fd < 0)
    return mp_error_errno(errno);
  struct iovec *end = iov + count;
  uint64_t until = at;
  for (size_t i = 0; i < count; i++)
    until += iov[i].iov_len;
  reserve(file, until);
  while (iov < end) {
    ssize_t n = pwritev(file->fd, iov, (int)(end - iov), (off_t)at);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? mp_error_errno(errno) : MP_E_NOSPACE;
    at += (uint64_t)n;
    size_t rest = (size_t)n;
    while (iov < end && rest >= iov->iov_len)
      rest -= iov++->iov_len;
    if (iov < end) {
      iov->iov_base = (char *)iov->iov_base + rest;
      iov->iov_len -= rest;
    }
  }
  if (at > file->size)
    file->size = at;
  return 0;
}

mp_str mp_body_file_read(const mp_body_file *file, uint64_t at, char *scratch, size_t room, int *rc)
{
  ssize_t n;
  do
    n = pread(file->fd, scratch, room, (off_t)at);
  while (n < 0 && errno == EINTR);
  if (n > 0)
    return mp_str_of(scratch, (size_t)n);
  *rc = n < 0 ? mp_error_errno(errno) : MP_E_SYSTEM; /* shorter than we wrote it: somebody's disk lies */
  return MP_STR_NULL;
}

/* By hand, for descriptors that the kernel's own copies refuse. */
static int copy_plain(const mp_body_file *file, uint64_t size, uint64_t off, int fd)
{
  char *scratch = mp_mem_alloc(SCRATCH);
  if (!scratch) {
    errno = ENOMEM;
    return MP_E_NOMEM;
  }
  int rc = 0;
  while (rc == 0 && off < size) {
    mp_str part = mp_body_file_read(file, off, scratch,
                                    size - off < SCRATCH ? (size_t)(size - off) : (size_t)SCRATCH, &rc);
    off += part.len;
    while (rc == 0 && part.len) {
      ssize_t put = write(fd, part.ptr, part.len);
      if (put >= 0)
        part = mp_str_sub(part, (size_t)put, part.len);
      else if (errno != EINTR)
        rc = mp_error_errno(errno);
    }
  }
  int kept = errno;
  mp_mem_free(scratch);
  errno = kept;
  return rc;
}

/* A kernel's copy that cannot be had here says so with one of these. */
static bool is_refusal(int err)
{
  return err == EXDEV || err == EINVAL || err == ENOSYS || err == EOPNOTSUPP || err == EBADF || err == EPERM;
}

int mp_body_file_copy(const mp_body_file *file, uint64_t size, uint64_t off, int fd)
{
  off_t at = (off_t)off;
  bool ranges = true;
  while ((uint64_t)at < size) {
    size_t left = (size_t)(size - (uint64_t)at);
    left = left < 1u << 30 ? left : 1u << 30;
    ssize_t n = ranges ? copy_file_range(file->fd, &at, fd, NULL, left, 0) : sendfile(fd, file->fd, &at, left);
    if (n > 0 || (n < 0 && errno == EINTR))
      continue;
    if (n < 0 && !is_refusal(errno))
      return mp_error_errno(errno);
    if (!ranges)
      return copy_plain(file, size, (uint64_t)at, fd);
    ranges = false;
  }
  return 0;
}
