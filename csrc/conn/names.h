/* conn/names.h -- a resolver on a worker's loop: dns/resolver.h with its descriptor polled, and a time limit for each who waits. Resolvers of one
 * worker that are described alike are one, so that a new generation finds the cache warm. */
#ifndef MP_CONN_NAMES_H
#define MP_CONN_NAMES_H

#include "base/timers.h"
#include "conn/worker.h"
#include "dns/resolver.h"

typedef struct mp_names mp_names;

typedef struct mp_names_asker mp_names_asker;
struct mp_names_asker { /* the caller's storage, until `done` or mp_names_give_up; zeroed before the first use */
  mp_dns_asker asker;
  mp_timer timer;
  mp_names *names;
  /* Once. 0 with an answer, or MP_E_TIMEOUT with NULL. */
  void (*done)(mp_names_asker *asker, int rc, const mp_dns_answer *answer);
};

/* A reference to the resolver with this description. `key` is the description as octets. 0, MP_E_NOMEM, MP_E_SYSTEM, MP_E_INVALID with one line
 * in `why`, or MP_E_MISUSE: a virtual worker asks nobody. */
int mp_names_open(mp_names **names, mp_worker *worker, mp_str key, const mp_dns_opts *opts, char why[MP_DNS_WHY]);
void mp_names_close(mp_names *names); /* gives it back; before that, everything asked through it is given up. NULL does nothing */

/* As mp_dns_ask, with MP_E_CANCELLED when the worker is gone. `done` comes on a later turn of the loop. */
int mp_names_ask(mp_names *names, mp_names_asker *asker, mp_dns_type type, const char *name, int64_t timeout_ms);
void mp_names_give_up(mp_names_asker *asker);
size_t mp_names_waiting(const mp_names *names);

/* The worker goes: its resolvers end, whoever still holds one. */
void mp_names_orphan(mp_worker *worker);

#endif
