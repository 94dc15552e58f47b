/* Listening sockets that somebody else has made. */
#include "net/listen.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef union address {
  struct sockaddr any;
  struct sockaddr_in in;
  struct sockaddr_in6 in6;
  struct sockaddr_un un;
} address;

static bool says(int fd, int level, int option, int *value)
{
  socklen_t len = sizeof *value;
  return getsockopt(fd, level, option, value, &len) == 0;
}

/* NULL, or what is wrong with it. */
static const char *check(int fd)
{
  int value;
  if (!says(fd, SOL_SOCKET, SO_TYPE, &value))
    return errno == EBADF ? "is not open" : "is no socket";
  if (value != SOCK_STREAM)
    return "is no stream socket (ListenStream=)";
  if (!says(fd, SOL_SOCKET, SO_ACCEPTCONN, &value) || !value)
    return "does not listen (Accept=no)";
  return NULL;
}

static const char *learn(int fd, mp_endpoint *at, bool *any_family)
{
  address is;
  socklen_t len = sizeof is;
  int only = 1;
  memset(&is, 0, sizeof is);
  if (getsockname(fd, &is.any, &len) != 0)
    return "has no address";
  switch (is.any.sa_family) {
  case AF_INET:
    memset(at->ip.octets, 0, 10);
    memset(at->ip.octets + 10, 0xff, 2);
    memcpy(at->ip.octets + 12, &is.in.sin_addr, 4);
    at->port = ntohs(is.in.sin_port);
    return NULL;
  case AF_INET6:
    memcpy(at->ip.octets, &is.in6.sin6_addr, 16);
    at->port = ntohs(is.in6.sin6_port);
    *any_family =
        IN6_IS_ADDR_UNSPECIFIED(&is.in6.sin6_addr) && says(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only) && !only;
    return NULL;
  case AF_UNIX:
    if (len <= offsetof(struct sockaddr_un, sun_path) || is.un.sun_path[0] == '\0')
      return "is a unix socket without a path";
    at->is_unix = true;
    memcpy(at->path, is.un.sun_path,
           sizeof at->path < sizeof is.un.sun_path ? sizeof at->path : sizeof is.un.sun_path);
    at->path[sizeof at->path - 1] = '\0';
    return NULL;
  default:
    return "is of another family than IPv4, IPv6 and unix";
  }
}

int mp_binding_adopt(mp_binding *binding, int fd, bool *any_family, char *why, size_t room)
{
  *binding = (mp_binding){ 0 };
  *any_family = false;
  const char *wrong = check(fd);
  if (!wrong)
    wrong = learn(fd, &binding->at, any_family);
  int flags = wrong ? -1 : fcntl(fd, F_GETFL);
  if (!wrong && (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0))
    wrong = "cannot be set up";
  if (wrong) {
    snprintf(why, room, "%s", wrong);
    return MP_E_INVALID;
  }
  /* TCP_NODELAY passes to what is accepted: an SMTP reply waits for nothing. */
  int on = 1;
  if (!binding->at.is_unix)
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  binding->fds = mp_mem_alloc(sizeof *binding->fds);
  if (!binding->fds) {
    snprintf(why, room, "%s", mp_error_text(MP_E_NOMEM));
    return MP_E_NOMEM;
  }
  binding->fds[binding->count++] = fd;
  return 0;
}
