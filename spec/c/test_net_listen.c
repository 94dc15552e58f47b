/* Listening sockets: who gets the port, who gets the connection, and what happens when there is nothing left to accept with. */
#include "support/check.h"

#include "base/error.h"
#include "net/listen.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 64, BACKLOG = 128, SLOW_MS = 5000 };

typedef struct taker {
  mp_loop *loop;
  mp_listener *listener;
  mp_stream *streams[MOST];
  int count, told, closed;
  bool close_listener;
} taker;

static void on_read(void *ctx, const char *in, mp_ssize len)
{
  (void)ctx, (void)in, (void)len;
}

static void on_closed(void *ctx)
{
  ((taker *)ctx)->closed++;
}

static const mp_stream_calls calls = { .read = on_read, .closed = on_closed };

static void on_accepted(void *ctx, mp_stream *stream)
{
  taker *t = ctx;
  if (!stream) {
    t->told++;
    return;
  }
  mp_stream_attach(stream, &calls, t);
  t->streams[t->count++ % MOST] = stream;
  if (t->close_listener)
    mp_listener_close(t->listener);
}

static bool take(taker *t, mp_loop *loop, const mp_binding *binding, unsigned worker)
{
  t->loop = loop;
  return CHECK_EQ_INT(mp_listener_open(&t->listener, loop, binding, worker, on_accepted, t), 0);
}

typedef struct guard {
  mp_timer timer;
  bool late;
} guard;

static void on_guard(mp_timer *timer, int64_t now_ms)
{
  (void)now_ms;
  MP_CONTAINER(timer, guard, timer)->late = true;
}

#define UNTIL(LOOP, COND)                                                   \
  do {                                                                      \
    guard g_ = { 0 };                                                       \
    mp_timer_init(&g_.timer, on_guard);                                     \
    mp_timers_set(&(LOOP)->timers, &g_.timer, mp_loop_now(LOOP) + SLOW_MS); \
    while (!(COND) && !g_.late)                                             \
      mp_loop_turn((LOOP), true);                                           \
    mp_timers_clear(&(LOOP)->timers, &g_.timer);                            \
    CHECK(COND);                                                            \
  } while (0)

static mp_endpoint tcp(const char *ip, uint16_t port)
{
  mp_endpoint at = { .port = port };
  CHECK(mp_ip_parse(&at.ip, mp_str_c(ip)));
  return at;
}

static int dial(const mp_endpoint *at)
{
  struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(at->port) };
  struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(at->port), .sin6_addr = in6addr_loopback };
  struct sockaddr_un un = { .sun_family = AF_UNIX };
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  snprintf(un.sun_path, sizeof un.sun_path, "%s", at->path);
  bool is4 = mp_ip_is4(&at->ip);
  int fd = socket(at->is_unix ? AF_UNIX : is4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr *to = at->is_unix ? (struct sockaddr *)&un
                        : is4       ? (struct sockaddr *)&in
                                    : (struct sockaddr *)&in6;
  socklen_t len = at->is_unix ? sizeof un : is4 ? sizeof in : sizeof in6;
  if (connect(fd, to, len) == 0)
    return fd;
  close(fd);
  return -1;
}

static char why[256];
static char folder[64];

static mp_endpoint in_folder(const char *name)
{
  mp_endpoint at = { .is_unix = true };
  if (folder[0] == '\0') { /* every test has its own, and removes it */
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.40s/mp-net-XXXXXX", tmp ? tmp : "/tmp");
    CHECK(mkdtemp(folder) != NULL);
  }
  snprintf(at.path, sizeof at.path, "%s/%s", folder, name);
  return at;
}

static void leave_folder(void)
{
  CHECK_EQ_INT(rmdir(folder), 0);
  folder[0] = '\0';
}

TEST(a_connection_is_accepted_with_no_delay_and_both_addresses)
{
  static const char *const hosts[] = { "127.0.0.1", "::1" };
  for (int i = 0; i < 2; i++) {
    mp_loop loop;
    mp_binding b;
    taker t = { 0 };
    mp_endpoint at = tcp(hosts[i], 0);
    REQUIRE(mp_loop_init(&loop) == 0);
    REQUIRE(mp_binding_open(&b, &at, 1, BACKLOG, why, sizeof why) == 0);
    CHECK(b.at.port != 0);
    REQUIRE(take(&t, &loop, &b, 0));
    int fd = dial(&b.at);
    UNTIL(&loop, t.count == 1);
    mp_stream_peer peer;
    char text[MP_IP_TEXT];
    mp_stream_peer_get(t.streams[0], &peer);
    mp_ip_format(&peer.ip, text);
    CHECK_EQ_STR(mp_str_c(text), mp_str_c(hosts[i]));
    CHECK_EQ_INT(peer.local_port, b.at.port);
    CHECK_EQ_INT(mp_ip_is4(&peer.ip), i == 0);
    CHECK_EQ_INT(mp_stream_write(t.streams[0], "220\r\n", 5, 100), 0);
    char back[8];
    CHECK_EQ_INT(recv(fd, back, sizeof back, 0), 5);
    mp_listener_close(t.listener);
    mp_stream_close(t.streams[0]);
    while (mp_loop_turn(&loop, true)) {
    }
    CHECK_EQ_INT(t.closed, 1);
    mp_loop_dispose(&loop);
    mp_binding_close(&b);
    CHECK_EQ_INT(dial(&at), -1);
    close(fd);
  }
}

TEST(what_is_accepted_inherits_no_delay)
{
  mp_binding b;
  mp_endpoint at = tcp("127.0.0.1", 0);
  REQUIRE(mp_binding_open(&b, &at, 1, BACKLOG, why, sizeof why) == 0);
  int peer = dial(&b.at), fd = accept(b.fds[0], NULL, NULL), on = 0;
  socklen_t len = sizeof on;
  CHECK(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len) == 0 && on);
  close(fd);
  close(peer);
  mp_binding_close(&b);
}

TEST(workers_share_a_port_each_with_a_socket_of_its_own)
{
  enum { WORKERS = 3, PEERS = 60 };
  mp_loop loop;
  mp_binding b;
  taker t[WORKERS] = { { 0 } };
  int fds[PEERS];
  mp_endpoint at = tcp("127.0.0.1", 0);
  REQUIRE(mp_loop_init(&loop) == 0);
  REQUIRE(mp_binding_open(&b, &at, WORKERS, BACKLOG, why, sizeof why) == 0);
  CHECK_EQ_INT(b.count, WORKERS);
  for (unsigned i = 0; i < WORKERS; i++)
    REQUIRE(take(&t[i], &loop, &b, i));
  for (int i = 0; i < PEERS; i++)
    CHECK((fds[i] = dial(&b.at)) >= 0);
  UNTIL(&loop, t[0].count + t[1].count + t[2].count == PEERS);
  for (int i = 0; i < WORKERS; i++)
    CHECK(t[i].count > 0);
  mp_loop_dispose(&loop); /* closes listeners and streams */
  CHECK_EQ_INT(t[0].closed + t[1].closed + t[2].closed, PEERS);
  mp_binding_close(&b);
  for (int i = 0; i < PEERS; i++)
    close(fds[i]);
}

/* With SO_REUSEPORT alone the second server would start, and get half of the mail. */
TEST(a_port_that_somebody_holds_is_noticed_even_when_he_shares_it)
{
  for (unsigned workers = 1; workers <= 2; workers++) {
    mp_binding first, second;
    mp_endpoint at = tcp("127.0.0.1", 0);
    REQUIRE(mp_binding_open(&first, &at, 2, BACKLOG, why, sizeof why) == 0);
    at.port = first.at.port;
    CHECK_EQ_INT(mp_binding_open(&second, &at, workers, BACKLOG, why, sizeof why), MP_E_INUSE);
    char want[64];
    snprintf(want, sizeof want, "127.0.0.1:%u: address already in use", at.port);
    CHECK_EQ_STR(mp_str_c(why), mp_str_c(want));
    CHECK(!second.fds && second.count == 0);
    mp_binding_close(&first);
    CHECK_EQ_INT(mp_binding_open(&second, &at, workers, BACKLOG, why, sizeof why), 0);
    mp_binding_close(&second);
  }
}

TEST(a_port_is_free_again_at_once_though_connections_linger)
{
  mp_binding b;
  mp_endpoint at = tcp("127.0.0.1", 0);
  REQUIRE(mp_binding_open(&b, &at, 2, BACKLOG, why, sizeof why) == 0);
  at.port = b.at.port;
  int peer = dial(&b.at), fd;
  struct pollfd wait[2] = { { .fd = b.fds[0], .events = POLLIN }, { .fd = b.fds[1], .events = POLLIN } };
  CHECK_EQ_INT(poll(wait, 2, SLOW_MS), 1);
  fd = accept(wait[0].revents ? b.fds[0] : b.fds[1], NULL, NULL);
  REQUIRE(fd >= 0);
  close(fd); /* we close first: TIME_WAIT is ours */
  close(peer);
  mp_binding_close(&b);
  CHECK_EQ_INT(mp_binding_open(&b, &at, 2, BACKLOG, why, sizeof why), 0);
  mp_binding_close(&b);
}

TEST(an_address_of_another_host_and_a_reserved_port_are_explained)
{
  mp_binding b;
  mp_endpoint at = tcp("192.0.2.1", 0);
  CHECK_EQ_INT(mp_binding_open(&b, &at, 1, BACKLOG, why, sizeof why), MP_E_SYSTEM);
  CHECK_CSTR(why, "192.0.2.1:0: no interface of this host has that address");
  char text[MP_ENDPOINT_TEXT];
  at = tcp("::1", 25);
  CHECK_EQ_INT(mp_endpoint_format(&at, text), 8);
  CHECK_CSTR(text, "[::1]:25");
}

TEST(version_6_means_6_only)
{
  mp_binding six, four;
  mp_endpoint at6 = tcp("::", 0), at4 = tcp("127.9.8.7", 0); /* where nobody else has a port */
  REQUIRE(mp_binding_open(&six, &at6, 1, BACKLOG, why, sizeof why) == 0);
  at4.port = six.at.port;
  CHECK_EQ_INT(dial(&at4), -1);
  CHECK_EQ_INT(mp_binding_open(&four, &at4, 1, BACKLOG, why, sizeof why), 0);
  mp_binding_close(&four);
  mp_binding_close(&six);
}

TEST(a_listener_may_be_closed_inside_accepted)
{
  mp_loop loop;
  mp_binding b;
  taker t = { .close_listener = true };
  mp_endpoint at = tcp("127.0.0.1", 0);
  REQUIRE(mp_loop_init(&loop) == 0);
  REQUIRE(mp_binding_open(&b, &at, 1, BACKLOG, why, sizeof why) == 0);
  int a = dial(&b.at), c = dial(&b.at);
  REQUIRE(take(&t, &loop, &b, 0));
  UNTIL(&loop, t.count == 1);
  mp_loop_turn(&loop, false);
  CHECK_EQ_INT(t.count, 1);
  t.close_listener = false;
  REQUIRE(take(&t, &loop, &b, 0)); /* the binding is the process's: the next listener finds who waits */
  UNTIL(&loop, t.count == 2);
  mp_loop_dispose(&loop);
  mp_binding_close(&b);
  close(a);
  close(c);
}

TEST(without_descriptors_accepting_pauses_is_told_once_and_goes_on)
{
  mp_loop loop;
  mp_binding b;
  taker t = { 0 };
  mp_endpoint at = tcp("127.0.0.1", 0);
  struct rlimit old, low;
  REQUIRE(mp_loop_init(&loop) == 0);
  REQUIRE(mp_binding_open(&b, &at, 1, BACKLOG, why, sizeof why) == 0);
  REQUIRE(take(&t, &loop, &b, 0));
  mp_loop_turn(&loop, false);
  int peers[2] = { dial(&b.at), dial(&b.at) };
  getrlimit(RLIMIT_NOFILE, &old);
  low = old;
  int next = dup(0); /* the lowest that is free */
  close(next);
  low.rlim_cur = (rlim_t)next;
  setrlimit(RLIMIT_NOFILE, &low);
  int64_t start = mp_loop_now(&loop);
  UNTIL(&loop, t.told == 1);
  for (int i = 0; i < 5; i++)
    mp_loop_turn(&loop, false);
  if (mp_loop_now(&loop) < start + 90)
    CHECK_EQ_INT(t.told, 1); /* no spinning while the backlog is readable all the time */
  CHECK_EQ_INT(t.count, 0);
  UNTIL(&loop, t.told == 2);
  CHECK(mp_loop_now(&loop) >= start + 100);
  setrlimit(RLIMIT_NOFILE, &old);
  UNTIL(&loop, t.count == 2); /* nobody was hung up on */
  mp_loop_dispose(&loop);
  mp_binding_close(&b);
  close(peers[0]);
  close(peers[1]);
}

TEST(without_memory_accepting_pauses_and_nothing_leaks)
{
  FOR_EACH_ALLOC_FAILURE {
    mp_loop loop;
    mp_binding b;
    taker t = { 0 };
    mp_endpoint at = tcp("127.0.0.1", 0);
    if (mp_loop_init(&loop) < 0)
      continue;
    int rc = mp_binding_open(&b, &at, 1, BACKLOG, why, sizeof why);
    if (rc == 0) {
      int peer = dial(&b.at);
      rc = mp_listener_open(&t.listener, &loop, &b, 0, on_accepted, &t);
      while (rc == 0 && t.count + t.told == 0)
        mp_loop_turn(&loop, true);
      CHECK_EQ_INT(t.count, !CHECK_ALLOC_FAILED());
      close(peer);
      mp_loop_dispose(&loop);
      mp_binding_close(&b);
    } else {
      mp_loop_dispose(&loop);
    }
    CHECK(rc == 0 || (rc == MP_E_NOMEM && CHECK_ALLOC_FAILED()));
  }
}

TEST(a_unix_socket_has_its_mode_its_peer_and_goes_with_its_binding)
{
  mp_loop loop;
  mp_binding b;
  taker t[2] = { { 0 } };
  struct stat st;
  mp_endpoint at = in_folder("sock");
  at.mode = 0640;
  REQUIRE(mp_loop_init(&loop) == 0);
  REQUIRE(mp_binding_open(&b, &at, 4, BACKLOG, why, sizeof why) == 0);
  CHECK_EQ_INT(b.count, 1); /* shared by the workers */
  CHECK(stat(at.path, &st) == 0 && (st.st_mode & 0777) == 0640);
  REQUIRE(take(&t[0], &loop, &b, 0) && take(&t[1], &loop, &b, 1));
  int fd = dial(&at);
  UNTIL(&loop, t[0].count + t[1].count == 1);
  mp_stream_peer peer;
  mp_stream_peer_get(t[0].count ? t[0].streams[0] : t[1].streams[0], &peer);
  CHECK(peer.is_unix);
  CHECK_EQ_INT(peer.uid, getuid());
  mp_loop_dispose(&loop);
  mp_binding_close(&b);
  CHECK(lstat(at.path, &st) != 0 && errno == ENOENT);
  close(fd);
  leave_folder();
}

TEST(a_stale_socket_file_is_replaced_a_live_one_and_other_files_are_not)
{
  mp_binding b, other;
  mp_endpoint at = in_folder("stale");
  struct stat st;
  REQUIRE(mp_binding_open(&b, &at, 1, BACKLOG, why, sizeof why) == 0);
  CHECK_EQ_INT(mp_binding_open(&other, &at, 1, BACKLOG, why, sizeof why), MP_E_INUSE);
  CHECK(lstat(at.path, &st) == 0); /* the loser removes nothing */
  close(b.fds[0]);                 /* as a crash leaves it */
  b.count = 0;
  b.inode = 0;
  mp_binding_close(&b);
  CHECK_EQ_INT(mp_binding_open(&b, &at, 1, BACKLOG, why, sizeof why), 0);
  unlink(at.path);
  REQUIRE(mp_binding_open(&other, &at, 1, BACKLOG, why, sizeof why) == 0);
  mp_binding_close(&b);
  CHECK(lstat(at.path, &st) == 0); /* another's by now */
  mp_binding_close(&other);
  FILE *plain = fopen(at.path, "w");
  REQUIRE(plain);
  fclose(plain);
  CHECK_EQ_INT(mp_binding_open(&b, &at, 1, BACKLOG, why, sizeof why), MP_E_EXISTS);
  CHECK(strstr(why, "is not a socket") != NULL);
  CHECK(lstat(at.path, &st) == 0);
  unlink(at.path);
  leave_folder();
}

TEST(a_path_that_cannot_be_is_explained)
{
  mp_binding b;
  mp_endpoint at = { .is_unix = true };
  CHECK_EQ_INT(mp_binding_open(&b, &at, 1, BACKLOG, why, sizeof why), MP_E_INVALID);
  memset(at.path, 'x', sizeof at.path);
  CHECK_EQ_INT(mp_binding_open(&b, &at, 1, BACKLOG, why, sizeof why), MP_E_INVALID);
  CHECK(strstr(why, "1 to 107 octets") != NULL);
  at = in_folder("missing/sock");
  CHECK_EQ_INT(mp_binding_open(&b, &at, 1, BACKLOG, why, sizeof why), MP_E_NOTFOUND);
  leave_folder();
}

TEST(no_descriptor_is_left_open)
{
  int before = dup(0);
  close(before);
  mp_loop loop;
  mp_binding b, other;
  taker t = { 0 };
  mp_endpoint at = tcp("127.0.0.1", 0);
  REQUIRE(mp_loop_init(&loop) == 0);
  REQUIRE(mp_binding_open(&b, &at, 2, BACKLOG, why, sizeof why) == 0);
  CHECK_EQ_INT(mp_binding_open(&other, &b.at, 2, BACKLOG, why, sizeof why), MP_E_INUSE);
  REQUIRE(take(&t, &loop, &b, 1));
  mp_loop_dispose(&loop);
  mp_binding_close(&b);
  int after = dup(0);
  close(after);
  CHECK_EQ_INT(after, before);
}

/* ---- privileges -------------------------------------------------------------------------------------------------- */

/* In a child, because there is no way back. Its status: 0 when `user` was become for good. */
static int drop_in_child(const char *user, const char *group, uid_t uid, gid_t gid)
{
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    int rc = mp_drop_privileges(user, group, why, sizeof why);
    if (rc < 0)
      _exit(-rc - 100 > 255 ? 255 : -rc % 100);
    bool root = setuid(0) == 0 || setgid(0) == 0;
    _exit(root || getuid() != uid || geteuid() != uid || getgid() != gid ? 99 : 0);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(root_is_given_up_for_good_or_refused_with_a_reason)
{
  CHECK_EQ_INT(mp_drop_privileges("no-such-user-here", NULL, why, sizeof why), MP_E_NOTFOUND);
  CHECK_CSTR(why, "user no-such-user-here: there is no such user");
  CHECK_EQ_INT(mp_drop_privileges("65534", "no-such-group-here", why, sizeof why), MP_E_NOTFOUND);
  CHECK_EQ_INT(mp_drop_privileges("54321", NULL, why, sizeof why), MP_E_NOTFOUND);
  CHECK(strstr(why, "say which one") != NULL);
  CHECK_EQ_INT(mp_drop_privileges("root", NULL, why, sizeof why), MP_E_INVALID);
  if (getuid() == 0) {
    CHECK_EQ_INT(drop_in_child("nobody", NULL, 65534, 65534), 0);
    CHECK_EQ_INT(drop_in_child("54321", "54322", 54321, 54322), 0);
    CHECK_EQ_INT(drop_in_child("nobody", "54322", 65534, 54322), 0);
  } else {
    char self[16];
    snprintf(self, sizeof self, "%u", (unsigned)getuid());
    CHECK_EQ_INT(mp_drop_privileges("54321", "54322", why, sizeof why), MP_E_DENIED);
    CHECK_EQ_INT(drop_in_child(self, NULL, getuid(), getgid()), 0);
  }
}

CHECK_MAIN
