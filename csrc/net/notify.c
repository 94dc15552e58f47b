#include "net/notify.h"

#include "base/error.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

int mp_notify(mp_str address, mp_str text)
{
  struct sockaddr_un to = { .sun_family = AF_UNIX };
  bool is_abstract = address.len > 1 && address.ptr[0] == '@', is_path = address.len > 1 && address.ptr[0] == '/';
  if ((!is_abstract && !is_path) || address.len >= sizeof to.sun_path)
    return MP_E_INVALID;
  memcpy(to.sun_path, address.ptr, address.len);
  if (is_abstract)
    to.sun_path[0] = '\0';
  /* An abstract name ends with the address, a path with its NUL. */
  socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + address.len + (is_path ? 1 : 0));
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return mp_error_errno(errno);
  struct timeval most = { .tv_sec = 1 };
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
  ssize_t sent;
  do
    sent = sendto(fd, text.ptr, text.len, MSG_NOSIGNAL, (const struct sockaddr *)&to, len);
  while (sent < 0 && errno == EINTR);
  int rc = sent < 0 ? mp_error_errno(errno) : 0;
  close(fd);
  return rc;
}
