/* floor PORT: what the kernel and nothing else takes of an SMTP session. One epoll loop that reads, looks at one octet, and answers. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PEERS = 4096, EVENTS = 1024 };

static char buffer[65536];
static char in_body[PEERS];

static void say(int fd, const char *line)
{
  send(fd, line, strlen(line), MSG_NOSIGNAL);
}

static void take(int fd)
{
  ssize_t n = read(fd, buffer, sizeof buffer);
  if (n <= 0) {
    close(fd);
  } else if (in_body[fd]) {
    in_body[fd] = n < 5 || memcmp(buffer + n - 5, "\r\n.\r\n", 5) != 0;
    if (!in_body[fd])
      say(fd, "250 2.0.0 Accepted as 0123456789ABCDEF\r\n");
  } else if (buffer[0] == 'D') {
    in_body[fd] = 1;
    say(fd, "354 End data with <CRLF>.<CRLF>\r\n");
  } else {
    say(fd, "250 2.1.0 Sender OK\r\n");
  }
}

int main(int argc, char **argv)
{
  int listener = socket(AF_INET, SOCK_STREAM, 0), loop = epoll_create1(0), on = 1;
  struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
  at.sin_port = htons((unsigned short)atoi(argc > 1 ? argv[1] : "0"));
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 1000) != 0)
    return 1;
  struct epoll_event event = { .events = EPOLLIN, .data.fd = listener }, events[EVENTS];
  epoll_ctl(loop, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int n = epoll_wait(loop, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
      if (events[i].data.fd != listener) {
        take(events[i].data.fd);
        continue;
      }
      int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
      if (fd < 0 || fd >= PEERS)
        return 1;
      in_body[fd] = 0;
      event.data.fd = fd;
      epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
      say(fd, "220 floor\r\n");
    }
  }
}
