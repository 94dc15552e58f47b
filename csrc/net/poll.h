/* net/poll.h -- a descriptor of another library, watched on the loop. */
#ifndef MP_NET_POLL_H
#define MP_NET_POLL_H

#include "net/loop.h"

enum { MP_POLL_READ = 1, MP_POLL_WRITE = 2 };

typedef struct mp_poll mp_poll;

/* Watches nothing at first. The descriptor stays its owner's, and open until mp_poll_close. 0, MP_E_NOMEM, MP_E_SYSTEM, or MP_E_MISUSE: a virtual
 * loop watches nothing. */
int mp_poll_open(mp_poll **poll, mp_loop *loop, int fd, void (*ready)(void *ctx, int events), void *ctx);

/* `events` of MP_POLL_*; 0 none. `keep`: the loop has something to wait for while this is watched. */
void mp_poll_set(mp_poll *poll, int events, bool keep);

/* No `ready` any more. Before the loop is disposed of. NULL does nothing. */
void mp_poll_close(mp_poll *poll);

#endif
