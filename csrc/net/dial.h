/* net/dial.h -- an outgoing connection: one of several addresses, tried in their order, each with a head start (RFC 8305). */
#ifndef MP_NET_DIAL_H
#define MP_NET_DIAL_H

#include "net/listen.h" /* mp_endpoint */

typedef struct mp_dial_opts {
  const mp_endpoint *to; /* in order of preference, families interleaved by the caller (RFC 8305 4); copied */
  size_t count;          /* 1 to MP_DIAL_MOST */
  bool bind4, bind6;     /* connect from these addresses; a family without one is the system's to choose */
  mp_ip source4, source6;
  int64_t stagger_ms; /* the next address is begun when the one before has failed, or after this; default 250 when 0 */
  int64_t each_ms; /* for one address; default 30 s when 0 */
} mp_dial_opts;

enum { MP_DIAL_MOST = 32, MP_DIAL_WHY = 400 };

/* The outcome, once, on a later turn of the loop. A stream is the callee's, not yet reading, and `which` its place in `to`. Without one: `rc` is
 * MP_E_TIMEOUT when an address did not answer in time, else what the last one failed with (MP_E_SYSTEM, MP_E_NOTFOUND and MP_E_DENIED of a
 * unix socket, MP_E_NOMEM; MP_E_CANCELLED when the loop is disposed), and `why` a line with a reason for each address, borrowed. */
typedef void (*mp_dialled)(void *ctx, mp_stream *stream, size_t which, int rc, const char *why);

typedef struct mp_dial mp_dial;

/* 0, MP_E_NOMEM, MP_E_INVALID (count), or MP_E_MISUSE on a virtual loop. *dial is valid until `done` or mp_dial_cancel. */
int mp_dial_start(mp_dial **dial, mp_loop *loop, const mp_dial_opts *opts, mp_dialled done, void *ctx);
void mp_dial_cancel(mp_dial *dial); /* no call of `done`; NULL does nothing */

#endif
