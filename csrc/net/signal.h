/* net/signal.h -- a process signal as a call on a loop's thread. */
#ifndef MP_NET_SIGNAL_H
#define MP_NET_SIGNAL_H

#include "net/loop.h"

typedef struct mp_signal mp_signal;

/* Calls `fired` on the loop's thread each time the process is sent `number`. Does not keep the loop alive. 0, MP_E_NOMEM, MP_E_SYSTEM,
 * MP_E_MISUSE on a virtual loop. */
int mp_signal_open(mp_signal **signal, mp_loop *loop, int number, void (*fired)(void *ctx), void *ctx);
/* NULL does nothing. One that is open when the loop is disposed of is closed then, and its memory is gone. */
void mp_signal_close(mp_signal *signal);

#endif
