/* Sockets that belong to the process. */
#include "net/listen.h"

#include "base/error.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { UNIX_MODE = 0660, RESERVED_PORTS = 1024 };

typedef union address {
  struct sockaddr any;
  struct sockaddr_in in;
  struct sockaddr_in6 in6;
  struct sockaddr_un un;
} address;

typedef struct complaint {
  const mp_endpoint *at;
  char *why;
  size_t room;
} complaint;

size_t mp_endpoint_format(const mp_endpoint *at, char text[MP_ENDPOINT_TEXT])
{
  if (at->is_unix)
    snprintf(text, MP_ENDPOINT_TEXT, "unix:%.*s", (int)sizeof at->path, at->path);
  else {
    char ip[MP_IP_TEXT];
    mp_ip_format(&at->ip, ip);
    snprintf(text, MP_ENDPOINT_TEXT, mp_ip_is4(&at->ip) ? "%s:%u" : "[%s]:%u", ip, at->port);
  }
  return strlen(text);
}

__attribute__((format(printf, 3, 4))) static int complain(const complaint *to, int err, const char *fmt, ...)
{
  char text[MP_ENDPOINT_TEXT], reason[160];
  va_list args;
  va_start(args, fmt);
  vsnprintf(reason, sizeof reason, fmt, args);
  va_end(args);
  mp_endpoint_format(to->at, text);
  snprintf(to->why, to->room, "%s: %s", text, reason);
  return err;
}

static int complain_errno(const complaint *to, int sys)
{
  bool reserved = !to->at->is_unix && to->at->port > 0 && to->at->port < RESERVED_PORTS;
  int err = mp_error_errno(sys);
  switch (sys) {
  case EACCES:
  case EPERM:
    return complain(to, err, "permission denied%s",
                    reserved ? " (ports below 1024 need root or CAP_NET_BIND_SERVICE)" : "");
  case EADDRINUSE:
    return complain(to, err, "address already in use");
  case EADDRNOTAVAIL:
    return complain(to, err, "no interface of this host has that address");
  default: {
    char text[96];
    return complain(to, err, "%s", strerror_r(sys, text, sizeof text));
  }
  }
}

/* ---- TCP --------------------------------------------------------------------------------------------------------- */

static socklen_t fill(address *to, const mp_endpoint *at)
{
  memset(to, 0, sizeof *to);
  if (mp_ip_is4(&at->ip)) {
    to->in.sin_family = AF_INET;
    to->in.sin_port = htons(at->port);
    memcpy(&to->in.sin_addr, at->ip.octets + 12, 4);
    return sizeof to->in;
  }
  to->in6.sin6_family = AF_INET6;
  to->in6.sin6_port = htons(at->port);
  memcpy(&to->in6.sin6_addr, at->ip.octets, 16);
  return sizeof to->in6;
}

static bool set(int fd, int level, int option)
{
  int on = 1;
  return setsockopt(fd, level, option, &on, sizeof on) == 0;
}

/* A bound socket, or -1 with errno. TCP_NODELAY passes to what is accepted: an SMTP reply waits for nothing. */
static int bind_tcp(const mp_endpoint *at, bool sharing)
{
  address to;
  socklen_t len = fill(&to, at);
  int fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return -1;
  bool ok = set(fd, SOL_SOCKET, SO_REUSEADDR) && set(fd, IPPROTO_TCP, TCP_NODELAY) &&
            (to.any.sa_family != AF_INET6 || set(fd, IPPROTO_IPV6, IPV6_V6ONLY)) &&
            (!sharing || set(fd, SOL_SOCKET, SO_REUSEPORT)) && bind(fd, &to.any, len) == 0;
  if (ok)
    return fd;
  int sys = errno;
  close(fd);
  errno = sys;
  return -1;
}

static bool learn_port(int fd, mp_endpoint *at)
{
  address is;
  socklen_t len = sizeof is;
  if (getsockname(fd, &is.any, &len) != 0)
    return false;
  at->port = ntohs(is.any.sa_family == AF_INET ? is.in.sin_port : is.in6.sin6_port);
  return true;
}

/* The first socket is bound alone: with SO_REUSEPORT the port of another server of the same user would be shared in
 * silence, each getting a part of the mail. Once it holds the port it opens it to the others. (Linux looks at the option
 * of the sockets that are there when another binds, not at what it was when they did.) */
static int open_tcp(mp_binding *binding, unsigned workers, int backlog, const complaint *to)
{
  for (unsigned i = 0; i < workers; i++) {
    int fd = bind_tcp(&binding->at, i > 0);
    if (fd < 0)
      return complain_errno(to, errno);
    binding->fds[binding->count++] = fd;
    if (i == 0 && (!learn_port(fd, &binding->at) || (workers > 1 && !set(fd, SOL_SOCKET, SO_REUSEPORT))))
      return complain_errno(to, errno);
  }
  /* All are bound before one listens, so that nobody connects to a half of them. */
  for (unsigned i = 0; i < workers; i++)
    if (listen(binding->fds[i], backlog) != 0)
      return complain_errno(to, errno);
  return 0;
}

/* ---- unix -------------------------------------------------------------------------------------------------------- */

/* Removes the file in our way when it is a socket that nobody listens on. 0 or an error. */
static int remove_stale(const address *un, const complaint *to)
{
  struct stat st;
  if (lstat(un->un.sun_path, &st) != 0)
    return errno == ENOENT ? 0 : complain_errno(to, errno);
  if (!S_ISSOCK(st.st_mode))
    return complain(to, MP_E_EXISTS, "the file exists and is not a socket");
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return complain_errno(to, errno);
  int sys = connect(fd, &un->any, sizeof un->un) == 0 ? 0 : errno;
  close(fd);
  if (sys == ENOENT)
    return 0;
  if (sys == EACCES)
    return complain(to, MP_E_DENIED, "a socket is there and may not be asked whether it is in use");
  if (sys != ECONNREFUSED) /* connected, or EAGAIN: a full backlog is somebody's too */
    return complain_errno(to, EADDRINUSE);
  if (unlink(un->un.sun_path) != 0 && errno != ENOENT)
    return complain_errno(to, errno);
  return 0;
}

static int open_unix(mp_binding *binding, int backlog, const complaint *to)
{
  const mp_endpoint *at = &binding->at;
  mode_t mode = at->mode ? at->mode & 0777 : UNIX_MODE;
  address un = { .un = { .sun_family = AF_UNIX } };
  size_t len = strnlen(at->path, sizeof at->path);
  if (len == 0 || len >= sizeof un.un.sun_path)
    return complain(to, MP_E_INVALID, "the path of a unix socket has 1 to %zu octets", sizeof un.un.sun_path - 1);
  memcpy(un.un.sun_path, at->path, len);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return complain_errno(to, errno);
  binding->fds[binding->count++] = fd;
  /* The mode of the socket is that of the file to be (less the umask), so that it is at no moment wider than wanted. */
  fchmod(fd, mode);
  int rc = bind(fd, &un.any, sizeof un.un) == 0 ? 0 : errno;
  if (rc == EADDRINUSE) {
    rc = remove_stale(&un, to);
    if (rc < 0)
      return rc;
    rc = bind(fd, &un.any, sizeof un.un) == 0 ? 0 : errno;
  }
  struct stat st;
  if (rc == 0 && lstat(un.un.sun_path, &st) == 0) {
    binding->device = st.st_dev;
    binding->inode = st.st_ino;
  }
  if (rc == 0 && (chmod(un.un.sun_path, mode) != 0 || listen(fd, backlog) != 0))
    rc = errno;
  return rc == 0 ? 0 : complain_errno(to, rc);
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

int mp_binding_open(mp_binding *binding, const mp_endpoint *at, unsigned workers, int backlog, char *why,
                    size_t room)
{
  complaint to = { .at = at, .why = why, .room = room };
  *binding = (mp_binding){ .at = *at };
  if (workers == 0 || at->is_unix)
    workers = 1;
  binding->fds = mp_mem_alloc(workers * sizeof *binding->fds);
  if (!binding->fds)
    return complain(&to, MP_E_NOMEM, "%s", mp_error_text(MP_E_NOMEM));
  int rc = at->is_unix ? open_unix(binding, backlog, &to) : open_tcp(binding, workers, backlog, &to);
  if (rc < 0)
    mp_binding_close(binding);
  return rc;
}

void mp_binding_close(mp_binding *binding)
{
  struct stat st;
  /* The file goes first: once the descriptor is closed another process may replace it as stale. */
  if (binding->inode && lstat(binding->at.path, &st) == 0 && st.st_ino == binding->inode &&
      st.st_dev == binding->device)
    unlink(binding->at.path);
  for (unsigned i = 0; i < binding->count; i++)
    close(binding->fds[i]);
  mp_mem_free(binding->fds);
  *binding = (mp_binding){ 0 };
}
