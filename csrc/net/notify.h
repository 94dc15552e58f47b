/* net/notify.h -- what a service tells its supervisor: a datagram to a unix socket, as sd_notify(3) describes. */
#ifndef MP_NET_NOTIFY_H
#define MP_NET_NOTIFY_H

#include "base/str.h"

/* Sends `text` ("READY=1\nSTATUS=...") to `address`, a path or "@" and an abstract name. Waits for at most a second when the receiver is behind. 0,
 * MP_E_INVALID (the address), MP_E_NOTFOUND, MP_E_DENIED or MP_E_SYSTEM. */
int mp_notify(mp_str address, mp_str text);

#endif
