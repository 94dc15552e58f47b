/* Sockets of a supervisor, and what it is told. */
#include "support/check.h"

#include "base/error.h"
#include "net/listen.h"
#include "net/notify.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int listening(const char *ip, bool any_family)
{
  struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
  struct sockaddr_in v4 = { .sin_family = AF_INET };
  mp_ip parsed;
  int only = !any_family;
  CHECK(mp_ip_parse(&parsed, mp_str_c(ip)));
  bool is4 = mp_ip_is4(&parsed);
  memcpy(&v4.sin_addr, parsed.octets + 12, 4);
  memcpy(&v6.sin6_addr, parsed.octets, 16);
  int fd = socket(is4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
  if (!is4)
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
  const struct sockaddr *to = is4 ? (const struct sockaddr *)&v4 : (const struct sockaddr *)&v6;
  CHECK(fd >= 0 && bind(fd, to, is4 ? sizeof v4 : sizeof v6) == 0 && listen(fd, 1) == 0);
  return fd;
}

static void is_adopted(const char *ip, bool any_family)
{
  mp_binding binding;
  char why[128], text[MP_ENDPOINT_TEXT], want[MP_ENDPOINT_TEXT];
  bool any;
  int fd = listening(ip, any_family);
  REQUIRE(mp_binding_adopt(&binding, fd, &any, why, sizeof why) == 0);
  CHECK(any == any_family && binding.count == 1 && binding.fds[0] == fd && binding.at.port != 0);
  CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC);
  mp_endpoint_format(&binding.at, text);
  snprintf(want, sizeof want, strchr(ip, ':') ? "[%s]:%u" : "%s:%u", ip, binding.at.port);
  CHECK_EQ_STR(mp_str_c(text), mp_str_c(want));
  mp_binding_close(&binding);
  CHECK(fcntl(fd, F_GETFD) < 0);
}

TEST(tcp_sockets_are_taken_as_they_are)
{
  is_adopted("127.0.0.1", false);
  is_adopted("::1", false);
  is_adopted("::", false);
  is_adopted("::", true);
}

TEST(the_file_of_a_unix_socket_stays)
{
  struct sockaddr_un un = { .sun_family = AF_UNIX };
  char folder[] = "/tmp/moonpost-adopt-XXXXXX", why[128];
  mp_binding binding;
  bool any;
  REQUIRE(mkdtemp(folder));
  snprintf(un.sun_path, sizeof un.sun_path, "%s/socket", folder);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  REQUIRE(bind(fd, (const struct sockaddr *)&un, sizeof un) == 0 && listen(fd, 1) == 0);
  REQUIRE(mp_binding_adopt(&binding, fd, &any, why, sizeof why) == 0);
  CHECK(binding.at.is_unix && !any);
  CHECK_EQ_STR(mp_str_c(binding.at.path), mp_str_c(un.sun_path));
  mp_binding_close(&binding);
  CHECK_EQ_INT(unlink(un.sun_path), 0);
  rmdir(folder);
}

TEST(what_is_none_to_listen_on_is_refused_and_stays_the_callers)
{
  mp_binding binding;
  char why[128];
  bool any;
  int file = open("/dev/null", O_RDONLY), udp = socket(AF_INET, SOCK_DGRAM, 0),
      idle = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQ_INT(mp_binding_adopt(&binding, file, &any, why, sizeof why), MP_E_INVALID);
  CHECK_CSTR(why, "is no socket");
  CHECK_EQ_INT(mp_binding_adopt(&binding, udp, &any, why, sizeof why), MP_E_INVALID);
  CHECK_CSTR(why, "is no stream socket (ListenStream=)");
  CHECK_EQ_INT(mp_binding_adopt(&binding, idle, &any, why, sizeof why), MP_E_INVALID);
  CHECK_CSTR(why, "does not listen (Accept=no)");
  close(file);
  CHECK_EQ_INT(mp_binding_adopt(&binding, file, &any, why, sizeof why), MP_E_INVALID);
  CHECK_CSTR(why, "is not open");
  CHECK(close(udp) == 0 && close(idle) == 0);
  int fd = listening("127.0.0.1", false);
  mp_mem_fail_after(0);
  CHECK_EQ_INT(mp_binding_adopt(&binding, fd, &any, why, sizeof why), MP_E_NOMEM);
  mp_mem_fail_after(-1);
  CHECK_EQ_INT(close(fd), 0);
}

static int ear(struct sockaddr_un *at, socklen_t len)
{
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  CHECK(fd >= 0 && bind(fd, (const struct sockaddr *)at, len) == 0);
  return fd;
}

TEST(a_notification_is_a_datagram_to_a_path_or_an_abstract_name)
{
  struct sockaddr_un path = { .sun_family = AF_UNIX }, name = { .sun_family = AF_UNIX };
  char folder[] = "/tmp/moonpost-notify-XXXXXX", heard[64], abstract[64];
  REQUIRE(mkdtemp(folder));
  snprintf(path.sun_path, sizeof path.sun_path, "%s/socket", folder);
  int len = snprintf(abstract, sizeof abstract, "@moonpost-notify-%ld", (long)getpid());
  memcpy(name.sun_path + 1, abstract + 1, (size_t)len - 1);
  int one = ear(&path, sizeof path);
  int other = ear(&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)len));
  CHECK_EQ_INT(mp_notify(mp_str_c(path.sun_path), mp_str_c("READY=1\nSTATUS=x")), 0);
  CHECK_EQ_INT(mp_notify(mp_str_c(abstract), mp_str_c("WATCHDOG=1")), 0);
  ssize_t got = recv(one, heard, sizeof heard, 0);
  CHECK_STR(mp_str_of(heard, got < 0 ? 0 : (size_t)got), "READY=1\nSTATUS=x");
  got = recv(other, heard, sizeof heard, 0);
  CHECK_STR(mp_str_of(heard, got < 0 ? 0 : (size_t)got), "WATCHDOG=1");
  close(one);
  close(other);
  unlink(path.sun_path);
  CHECK_EQ_INT(mp_notify(mp_str_c(path.sun_path), mp_str_c("x")), MP_E_NOTFOUND);
  rmdir(folder);
}

TEST(addresses_of_another_kind_are_refused)
{
  char deep[200];
  memset(deep, 'a', sizeof deep);
  deep[0] = '/';
  CHECK_EQ_INT(mp_notify(mp_str_of(deep, sizeof deep), mp_str_c("x")), MP_E_INVALID);
  CHECK_EQ_INT(mp_notify(mp_str_c(""), mp_str_c("x")), MP_E_INVALID);
  CHECK_EQ_INT(mp_notify(mp_str_c("@"), mp_str_c("x")), MP_E_INVALID);
  CHECK_EQ_INT(mp_notify(mp_str_c("vsock:2:1"), mp_str_c("x")), MP_E_INVALID);
  CHECK_EQ_INT(mp_notify(mp_str_c("relative"), mp_str_c("x")), MP_E_INVALID);
}

CHECK_MAIN
