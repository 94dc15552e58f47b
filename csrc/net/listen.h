/* net/listen.h -- listening sockets. A binding belongs to the process: made once (before privileges are dropped), kept across
 * reloads; a listener is one loop's use of it. */
#ifndef MP_NET_LISTEN_H
#define MP_NET_LISTEN_H

#include "net/stream.h"

typedef struct mp_endpoint {
  bool is_unix;
  mp_ip ip;
  uint16_t port;  /* 0: the system picks */
  char path[108]; /* unix */
  unsigned mode;  /* unix: permission bits of the socket file; 0 = 0660 */
} mp_endpoint;

typedef struct mp_binding {
  mp_endpoint at; /* with the real port after binding */
  int *fds;       /* TCP: one SO_REUSEPORT socket per worker; unix: one, shared */
  unsigned count;
  uint64_t device, inode; /* unix: of the socket file that is ours */
} mp_binding;

/* Binds and listens. The first TCP socket is bound without SO_REUSEPORT, so that a port somebody else holds is noticed. v6 sockets are
 * v6 only. A unix socket file that nobody listens on is replaced, any other file is not. Returns 0, or MP_E_INUSE, MP_E_DENIED,
 * MP_E_INVALID (the path), MP_E_EXISTS (a file that is no socket), MP_E_NOTFOUND, MP_E_NOMEM, MP_E_SYSTEM with one line in `why`
 * ("0.0.0.0:25: permission denied (ports below 1024 need root or CAP_NET_BIND_SERVICE)"); nothing is left open then. */
int mp_binding_open(mp_binding *binding, const mp_endpoint *at, unsigned workers, int backlog, char *why,
                    size_t room);
/* A socket that somebody else has bound and that listens; one for all workers, and its file stays whose it was. *any_family: it is [::] and takes IPv4
 * too. Owns `fd` on success. Returns 0, MP_E_NOMEM, or MP_E_INVALID with the end of a sentence about the descriptor in `why` ("does not listen
 * (Accept=no)"). */
int mp_binding_adopt(mp_binding *binding, int fd, bool *any_family, char *why, size_t room);
/* Removes a unix socket's file, unless another has taken its place. */
void mp_binding_close(mp_binding *binding);

/* "0.0.0.0:25", "[::1]:25", "unix:/run/mp.sock", with a NUL; returns its length. */
enum { MP_ENDPOINT_TEXT = 128 };
size_t mp_endpoint_format(const mp_endpoint *at, char text[MP_ENDPOINT_TEXT]);

typedef struct mp_listener mp_listener;

/* Accepts on binding->fds[worker % count] (a duplicate of it). For each connection `accepted` is called with a stream that is not yet
 * reading; the callee takes it. Running out of descriptors or memory pauses accepting for 100 ms and is told with stream NULL, once for
 * each pause; who waits stays in the backlog. Returns 0, MP_E_NOMEM or MP_E_SYSTEM. */
int mp_listener_open(mp_listener **listener, mp_loop *loop, const mp_binding *binding, unsigned worker,
                     void (*accepted)(void *ctx, mp_stream *stream), void *ctx);
void mp_listener_close(mp_listener *listener); /* no call of `accepted` afterwards */

/* Gives up root for good: groups, gid, uid by name or number, of the whole process, and makes sure that there is no way back. `group`
 * NULL is the user's own. Returns 0 (also when it runs as that user already), MP_E_NOTFOUND, MP_E_DENIED (not root) or MP_E_INVALID (the
 * user is root) with `why`. After MP_E_SYSTEM the process may be half way and has to end. */
int mp_drop_privileges(const char *user, const char *group, char *why, size_t room);

#endif
