/* conn/gate.h -- how many connections there are, in all and from each address. One per process, used by every worker; only connects and
 * disconnects take its lock, never a message. IPv6 peers count by /64, for a whole one is what a customer gets. */
#ifndef MP_CONN_GATE_H
#define MP_CONN_GATE_H

#include "base/ip.h"

typedef struct mp_gate mp_gate;

int mp_gate_new(mp_gate **gate); /* one reference. 0 or MP_E_NOMEM */
mp_gate *mp_gate_ref(mp_gate *gate);
void mp_gate_unref(mp_gate *gate);

typedef enum mp_gate_answer { MP_GATE_OPEN, MP_GATE_FULL, MP_GATE_ADDRESS, MP_GATE_NOMEM } mp_gate_answer;

/* Counts a connection in, unless there are `most` already, or `each` from its address (0 = no limit). */
mp_gate_answer mp_gate_enter(mp_gate *gate, const mp_ip *ip, unsigned most, unsigned each);
void mp_gate_leave(mp_gate *gate, const mp_ip *ip);
unsigned mp_gate_count(mp_gate *gate);

#endif
